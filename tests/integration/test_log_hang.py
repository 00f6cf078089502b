"""A disk that hangs in a write holds up one pump; its pipes are read for it, when it is time."""

import os
import threading
import time

import pytest

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.spec import LogFormat, LogSpec, Overflow
from supervisord_pidfd.logger.book import Book, Outward, Stream
from supervisord_pidfd.logger.pump import Pump
from supervisord_pidfd.logger.ring import Ring
from supervisord_pidfd.logwire import Counters

DEADLINE_S = 20


class Disk:
    """Be a file on a disk that can be frozen: a write hangs until it is thawed."""

    device = 1
    form = LogFormat.RAW

    def __init__(self):
        self.written = b""
        self.hangs = threading.Event()
        self._thawed = threading.Event()
        self._thawed.set()

    def freeze(self):
        self._thawed.clear()

    def thaw(self):
        self._thawed.set()

    def write(self, data):
        if not self._thawed.is_set():
            self.hangs.set()
        assert self._thawed.wait(DEADLINE_S)
        self.written += data
        return len(data)

    def waits_on(self):
        return None

    def reopen(self):
        """Nothing is open."""

    def close(self):
        """Nothing is open."""


class Screen(Disk):
    """Be a sink that never hangs."""

    device = None


class Site:
    """Own a pump with one book that writes to a disk, and the pipe of its service."""

    def __init__(self, **members):
        self.disk, self.said = Disk(), []
        self.counters = Counters.create()
        self.counters.reserve(1)
        self.pump = Pump("log", SystemClock(), lambda: None)
        outward = Outward(self.said.append, SystemClock(), self.pump.desk)
        self.book = Book("it", 0, self.counters, Ring(1 << 16), outward)
        spec = LogSpec(("file",), **members)
        self.book.use(spec, {"stdout": [("/log", self.disk)]})
        read_end, self.end = os.pipe()
        assert self.pump.start()
        stream = Stream(1, read_end, "stdout", 1)
        self.pump.submit(lambda: self.pump.attach(self.book))
        self.pump.submit(lambda: self.pump.add(self.book, stream, again=False))

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline
            self.disk.hangs.wait(0.01)

    def hang(self, data):
        self.disk.freeze()
        os.write(self.end, data)
        assert self.disk.hangs.wait(DEADLINE_S)

    def close(self):
        self.disk.thaw()
        os.close(self.end)
        self.until(lambda: {"ended": [1]} in self.said)
        self.pump.stop()
        assert self.pump.join(DEADLINE_S)
        self.pump.close()
        self.counters.close()
        os.close(self.counters.fileno())


@pytest.fixture
def site():
    made = []

    def make(**members):
        made.append(Site(**members))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_service_waits_while_it_has_to(site):
    it = site(block_for=3600.0)
    it.hang(b"one\n")
    os.write(it.end, b"two\n")
    it.pump.relieve()

    assert it.pump.hangs_since() <= time.monotonic()
    assert it.counters.read(0).stdout_bytes == 4  # the second line is in the pipe still
    it.disk.thaw()
    it.until(lambda: it.disk.written == b"one\ntwo\n")
    assert it.pump.hangs_since() == float("inf")


def test_then_its_pipe_is_read_and_the_newest_is_written_later(site):
    it = site(block_for=0.0, ring=8)
    it.hang(b"one\n")
    for line in (b"two\n", b"three\n", b"four\n"):
        os.write(it.end, line)
        it.pump.relieve()
    counted = it.counters.read(0)
    assert counted.stdout_bytes == 4 + 4 + 6 + 5
    assert (counted.overflow_lines, counted.overflow_bytes) == (2, 10)
    it.disk.thaw()
    it.until(lambda: it.disk.written.endswith(b"four\n"))
    first, mark, last = it.disk.written.splitlines()

    assert (first, last) == (b"one", b"four")
    assert mark.startswith(b"-- 2 lines (10 bytes) dropped: overflow, ")
    it.until(lambda: any(said.get("tell") == "log.dropped" for said in it.said))


def test_who_drops_what_comes_keeps_what_hangs(site):
    it = site(overflow=Overflow.DROP_NEWEST)
    it.hang(b"one\n")
    os.write(it.end, b"two\n")
    it.pump.relieve()
    it.disk.thaw()
    it.until(lambda: it.disk.written.count(b"\n") == 2)

    assert it.disk.written.startswith(b"one\n-- 1 lines (4 bytes) dropped: overflow, ")


def test_nobody_is_relieved_who_does_not_hang(site):
    it = site(block_for=0.0)
    os.write(it.end, b"one\n")
    it.until(lambda: it.disk.written == b"one\n")
    it.pump.relieve()

    assert it.counters.read(0).overflow_lines == 0


def beside(it, **members):
    """Give the pump another book, which writes to the same disk; return its pipe."""
    outward = Outward(it.said.append, SystemClock(), it.pump.desk)
    book = Book("other", 1, it.counters, Ring(1 << 16), outward)
    book.use(LogSpec(("file",), **members), {"stdout": [("/other", it.disk)]})
    read_end, end = os.pipe()
    it.pump.submit(lambda: it.pump.attach(book))
    stream = Stream(2, read_end, "stdout", 1)
    it.pump.submit(lambda: it.pump.add(book, stream, again=False))
    return end


def test_another_service_of_that_disk_is_read_and_not_written(site):
    it = site(block_for=3600.0)
    end = beside(it, overflow=Overflow.DROP)
    it.hang(b"one\n")
    os.write(end, b"two\n")
    it.pump.relieve()  # by this thread, which would hang if it went to the disk
    assert it.counters.read(1).stdout_bytes == 4
    assert it.disk.written == b""
    it.disk.thaw()
    it.until(lambda: it.disk.written == b"one\ntwo\n")  # without another byte from it
    it.until(lambda: not it.pump.is_behind())
    os.close(end)
    it.until(lambda: {"ended": [2]} in it.said)


def test_another_service_of_that_disk_waits_if_it_is_to(site):
    it = site(block_for=3600.0)
    end = beside(it, block_for=3600.0)
    it.hang(b"one\n")
    os.write(end, b"two\n")
    it.pump.relieve()
    assert it.counters.read(1).stdout_bytes == 0
    it.disk.thaw()
    it.until(lambda: it.disk.written == b"one\ntwo\n")
    os.close(end)
    it.until(lambda: {"ended": [2]} in it.said)

    assert it.counters.read(0).blocked_us == 0  # nothing of it was left in the pipe
    it.until(lambda: it.counters.read(1).blocked_us > 0)


def test_a_sink_that_does_not_hang_gets_all_in_its_order(site):
    it = site(overflow=Overflow.DROP_NEWEST)
    screen = Screen()
    sinks = {"stdout": [("/log", it.disk), ("screen", screen)]}
    it.pump.submit(lambda: it.book.use(it.book.spec, sinks))
    it.hang(b"one\n")
    for line in (b"two\n", b"three\n"):
        os.write(it.end, line)
        it.pump.relieve()

    assert screen.written == b"one\ntwo\nthree\n"


def test_long_lines_keep_their_order_over_a_hang(site):
    it = site(block_for=0.0, format=LogFormat.TEXT, max_line=4)
    it.book.spec = it.book.spec._replace(max_line=4)
    it.disk.form = LogFormat.TEXT
    it.pump.submit(lambda: it.book.use(it.book.spec, {"stdout": [("/log", it.disk)]}))
    it.hang(b"aaaabbbbcccc\n")
    os.write(it.end, b"ddddeeee\n")
    it.pump.relieve()
    it.disk.thaw()
    it.until(lambda: it.disk.written.count(b"\n") == 5)

    said = [line.rpartition(b"| ")[2] for line in it.disk.written.splitlines()]
    assert said == [b"aaaa\\", b"bbbb\\", b"cccc", b"dddd\\", b"eeee"]


def test_a_disk_that_hangs_is_told_once_and_so_is_its_end(site, monkeypatch):
    monkeypatch.setattr("supervisord_pidfd.logger.pump.TOLD_AFTER_S", 0.0)
    it = site(block_for=3600.0)
    it.hang(b"one\n")
    it.pump.relieve()
    it.pump.relieve()
    it.disk.thaw()
    it.until(lambda: any(said.get("tell") == "log.resumed" for said in it.said))
    told = [said for said in it.said if "tell" in said]

    assert [said["tell"] for said in told] == ["log.write_failed", "log.resumed"]
    assert (told[0]["path"], told[0]["error"]) == ("/log", "ETIMEDOUT")
    assert told[1]["blocked_s"] > 0


def test_who_has_turned_since_is_watched_on(site):
    it = site()
    os.write(it.end, b"one\n")
    it.until(lambda: it.disk.written == b"one\n")
    it.until(lambda: not it.pump.is_behind())
    it.pump.rest(it.pump.turns - 1)
    assert it.pump.is_watched
    it.hang(b"two\n")
    it.pump.rest(it.pump.turns)
    assert it.pump.is_watched  # it hangs
    it.disk.thaw()
    it.until(lambda: not it.pump.is_behind())
    it.pump.rest(it.pump.turns)

    assert not it.pump.is_watched
