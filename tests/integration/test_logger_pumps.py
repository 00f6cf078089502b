"""The logger as a process: what services write is in their files, whole, whatever happens."""

import itertools
import json
import os
import threading
from datetime import datetime

import pytest

from supervisord_pidfd.core.spec import LogFormat
from tests.support.loggers import Logging, write_all

KILLS = int(os.environ.get("LOGGER_KILLS", "20"))
ENDLESS_MIB = int(os.environ.get("ENDLESS_MIB", "32"))
"""`make soak` wants more of both."""


@pytest.fixture
def logging():
    made = Logging()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "it.log")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_what_a_service_writes_is_in_its_file_as_it_was_written(logging, path):
    logging.start()
    logging.use("it", path)
    outlet = logging.open("it")
    write_all(outlet.ends[0], b"one\ntwo\n\x00\xff\n")
    write_all(outlet.ends[0], b"no end")
    outlet.let_go()
    logging.drained()

    assert read(path) == b"one\ntwo\n\x00\xff\nno end"
    assert logging.taps.counters.read(logging.taps.slot("it")).stdout_bytes == 17
    assert logging.finish() == 0


def test_both_streams_share_a_file_and_no_line_is_torn(logging, path):
    logging.start()
    logging.use("it", path)
    outlet = logging.open("it")
    lines = [[b"%s %06d\n" % (name, n) for n in range(20000)] for name in (b"out", b"err")]
    writers = [
        threading.Thread(target=write_all, args=(fd, b"".join(own)))
        for fd, own in zip(outlet.ends, lines, strict=True)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        logging.turns()
        writers[0].join(0.01)
        writers[1].join(0.01)
    outlet.let_go()
    logging.drained()
    found = read(path).splitlines(keepends=True)

    assert [line for line in found if line.startswith(b"out")] == lines[0]
    assert [line for line in found if line.startswith(b"err")] == lines[1]


def test_text_has_date_time_and_name_before_each_line(logging, path):
    logging.start()
    logging.use("web", path, format=LogFormat.TEXT)
    outlet = logging.open("web")
    write_all(outlet.ends[0], b"GET /\n")
    write_all(outlet.ends[1], b"oops\x1b\n")
    outlet.let_go()
    logging.drained()
    out, err = sorted(read(path).splitlines(), key=lambda line: b"oops" in line)

    assert out.endswith(b" web      | GET /")
    assert err.endswith(b" web     !| oops\\x1b")
    assert datetime.fromisoformat(out[:23].decode()).date() == datetime.now().date()  # noqa: DTZ005


class Numbering:
    """Write numbered lines into a pipe until told to stop, in a thread."""

    def __init__(self, fd):
        self.sent = 0
        self._fd = fd
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._stop.is_set():
            block = b"".join(b"%011d\n" % n for n in range(number, number + 1000))
            write_all(self._fd, block)
            number += 1000
            self.sent += len(block)

    def stop(self, logging):
        self._stop.set()
        logging.until(lambda: not self._thread.is_alive())


@pytest.mark.timeout(300)
def test_what_is_in_a_pipe_outlives_the_logger(logging, path):
    """Lost is what it had read and not written: one read of each stream at most, each time."""
    kills = KILLS
    logging.use("it", path, rotate_size=0)
    logging.start()
    outlet = logging.open("it", streams=("stdout",))
    writer = Numbering(outlet.ends[0])
    for _ in range(kills):
        size = os.path.getsize(path) if os.path.exists(path) else 0
        logging.until(lambda b=size: os.path.exists(path) and os.path.getsize(path) > b + 100_000)
        logging.kill()
        logging.start()
    writer.stop(logging)
    outlet.let_go()
    logging.drained()
    lines = read(path).split(b"\n")
    whole = [int(line) for line in lines if len(line) == 11 and line.isdigit()]

    assert whole == sorted(set(whole))  # nothing twice, nothing out of order
    assert writer.sent - 12 * len(whole) <= kills * ((64 << 10) + 12)
    assert sum(line.startswith(b"-- interrupted") for line in lines) == kills


def feed(logging, fd, data):
    """Write from a thread, while the core has its turns."""
    writer = threading.Thread(target=write_all, args=(fd, data))
    writer.start()
    logging.until(lambda: not writer.is_alive())
    writer.join()


def test_segments_together_are_what_was_written(logging, path):
    logging.start()
    logging.use("it", path, rotate_size=300_000, rotate_keep=100)
    outlet = logging.open("it", streams=("stdout",))
    data = b"".join(b"%d %s\n" % (n, b"x" * (n % 300)) for n in range(40_000))
    feed(logging, outlet.ends[0], data)
    outlet.let_go()
    logging.drained()
    count = len(os.listdir(os.path.dirname(path)))
    segments = [read(f"{path}.{n}") for n in range(count - 1, 0, -1)] + [read(path)]

    assert b"".join(segments) == data
    assert all(segment.endswith(b"\n") and len(segment) <= 300_000 for segment in segments)
    assert count == len(logging.told("log.rotated")) + 1
    assert count > 15


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (ENDLESS_MIB << 20),
        b"\n" * 1_000_000,
        bytes(range(256)) * 40_000,
        b"\x1b[2J\xff\xfe\x00" * 100_000 + b"\n",
    ],
    ids=["no newline", "empty lines", "all bytes", "escapes and no UTF-8"],
)
def test_hostile_output_is_written_as_it_is(logging, path, data):
    logging.start()
    logging.use("it", path, rotate_size=0)
    outlet = logging.open("it", streams=("stdout",))
    feed(logging, outlet.ends[0], data)
    outlet.let_go()
    logging.drained()

    assert read(path) == data


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
def test_hostile_output_is_harmless_in_structured_forms(logging, path, form):
    hostile = b"\x1b[2J\xff\x00\xe2\x80\xa8 0-- forged\r" + b"y" * 100_000 + b"\n" * 1000
    logging.start()
    logging.use("it", path, format=form, rotate_size=0, max_line=4096)
    outlet = logging.open("it", streams=("stdout",))
    feed(logging, outlet.ends[0], hostile * 20)
    outlet.let_go()
    logging.drained()
    written = read(path)
    lines = written.decode().split("\n")[:-1]

    assert not set(written) & ({*range(32), 0x7F} - {0x0A})
    assert max(map(len, lines)) < 5 * 4096
    if form is LogFormat.JSON:
        found = [json.loads(line) for line in lines]
        assert [one["seq"] for one in found] == list(range(1, len(found) + 1))
    else:
        assert all(line[23:34] == " it       |" for line in lines)


def test_what_outlives_its_service_is_read_for_as_long_as_it_writes(logging, path):
    logging.start()
    logging.use("it", path)
    first = logging.open("it", run=1, streams=("stdout",))
    logging.taps.over(first.key)
    second = logging.open("it", run=2, streams=("stdout",))
    write_all(second.ends[0], b"second\n")
    write_all(first.ends[0], b"first, still\n")
    second.let_go()
    first.let_go()
    logging.drained()

    assert sorted(read(path).splitlines()) == [b"first, still", b"second"]


def test_a_flood_does_not_keep_others_waiting(logging, path, tmp_path):
    quiet = str(tmp_path / "quiet.log")
    logging.start()
    logging.use("flood", path, rotate_size=0)
    logging.use("quiet", quiet)
    flood = logging.open("flood", streams=("stdout",))
    other = logging.open("quiet", streams=("stdout",))
    writer = Numbering(flood.ends[0])
    logging.until(lambda: os.path.exists(path))
    for number in range(1, 21):
        write_all(other.ends[0], b"here\n")
        logging.until(
            lambda n=number: os.path.exists(quiet) and os.path.getsize(quiet) == 5 * n, timeout=5
        )
    writer.stop(logging)
    flood.let_go()
    other.let_go()
    logging.drained()


def test_changed_specs_take_effect_while_the_service_runs(logging, path, tmp_path):
    other = str(tmp_path / "other" / "it.log")
    logging.start()
    logging.use("it", path)
    outlet = logging.open("it", streams=("stdout",))
    logging.use("it", other, format=LogFormat.JSON)
    numbers = itertools.count()

    def moved():
        write_all(outlet.ends[0], b"%d\n" % next(numbers))
        return os.path.exists(other)

    logging.until(moved)
    outlet.let_go()
    logging.drained()
    before = read(path).split() if os.path.exists(path) else []
    after = [json.loads(line)["msg"].encode() for line in read(other).splitlines()]

    assert before + after == [b"%d" % n for n in range(next(numbers))]


def test_a_removed_service_is_read_to_its_end(logging, path):
    logging.start()
    logging.use("it", path)
    outlet = logging.open("it", streams=("stdout",))
    logging.taps.forget("it")
    logging.turns()
    write_all(outlet.ends[0], b"the last word\n")
    outlet.let_go()
    logging.drained()
    logging.until(lambda: logging.taps.slot("it") is None)

    assert read(path) == b"the last word\n"
