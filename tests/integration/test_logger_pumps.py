"""The logger as a process: what services write is in their files, whole, whatever happens."""

import os
import threading

import pytest

from supervisord_pidfd.core.spec import LogFormat
from tests.support.loggers import Logging, write_all


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
    assert logging.taps.counted("it").stdout_bytes == 17
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


def test_text_has_time_and_name_before_each_line(logging, path):
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


def test_what_is_in_a_pipe_outlives_the_logger(logging, path):
    """Lost is what it had read and not written: one read of each stream at most, each time."""
    kills = 20
    logging.use("it", path)
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
