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


class Site:
    """Own a pump with one book that writes to a disk, and the pipe of its service."""

    def __init__(self, **members):
        self.disk, self.said = Disk(), []
        self.counters = Counters.create()
        self.counters.reserve(0)
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
