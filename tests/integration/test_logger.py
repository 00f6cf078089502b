"""The logger as a process: its pipe, its output, and what happens when the output breaks."""

import contextlib
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys

import pytest

DEADLINE_S = 20.0


def event(seq, **fields):
    head = {"ts": "2026-11-23T14:02:11.002Z", "level": "info", "event": "daemon.ready"}
    return json.dumps(head | {"seq": seq, "took_s": 0.5} | fields).encode() + b"\n"


class Logger:
    """Hold the process, the write end of its log pipe, and the read end of its output."""

    def __init__(self, form, stdout=None, preexec=None, opening=b"1\n", env=None):
        read, self.pipe = os.pipe()
        # -B: under a limit on file sizes it would leave behind modules that nobody can load.
        command = [sys.executable, "-I", "-B", "-m", "supervisord_pidfd.logger"]
        try:
            self.process = subprocess.Popen(
                [*command, "--fd", str(read), "--format", form],
                pass_fds=[read],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                preexec_fn=preexec,  # noqa: PLW1509 - no threads here
                env=env,
            )
        finally:
            os.close(read)
        os.write(self.pipe, opening)

    def send(self, data):
        os.write(self.pipe, data)

    def finish(self):
        """End its input; return the exit code, its output and its errors."""
        self.hang_up()
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out or b"", err

    def hang_up(self):
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def end(self):
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError):
            self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def start():
    started = []

    def make(*args, **kwargs):
        started.append(Logger(*args, **kwargs))
        return started[-1]

    yield make
    for logger in started:
        logger.end()


def read_line(fd):
    """Read one line from a descriptor, with a deadline."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([fd], [], [], DEADLINE_S)[0], "no line came"
        byte = os.read(fd, 1)
        assert byte, "end of file"
        line += byte
    return line


def test_every_event_becomes_one_json_line(start, tmp_path):
    with (tmp_path / "log").open("wb") as out:
        logger = start("auto", stdout=out)
    for seq in range(2000):
        logger.send(event(seq))

    code, _, err = logger.finish()

    lines = (tmp_path / "log").read_bytes().splitlines()
    assert (code, err) == (0, b"")
    assert [json.loads(line)["seq"] for line in lines] == list(range(2000))


def test_an_event_is_shown_at_once(start):
    logger = start("json")
    logger.send(event(1))

    assert json.loads(read_line(logger.process.stdout.fileno()))["seq"] == 1


def test_text_goes_to_a_terminal_with_colour_unless_it_is_unwanted(start):
    for unwanted in (False, True):
        ours, theirs = pty.openpty()
        env = {**os.environ, "NO_COLOR": "1"} if unwanted else dict(os.environ, NO_COLOR="")
        logger = start("auto", stdout=theirs, env=env)
        os.close(theirs)
        logger.send(event(1, level="warning"))
        line = read_line(ours)
        assert logger.finish()[0] == 0
        os.close(ours)

        assert b"-- " in line
        assert (b"\x1b[33m" in line) is not unwanted


def test_another_version_of_the_channel_is_refused(start):
    logger = start("json", opening=b"2\n")

    code, out, err = logger.finish()

    assert (code, out) == (1, b"")
    assert err == b"the installed version differs from the running one: pidfdctl reexec\n"


def test_an_end_before_the_opening_is_no_error(start):
    assert start("json", opening=b"").finish() == (0, b"", b"")


def test_a_record_cut_off_by_the_end_is_shown(start):
    logger = start("json")
    logger.send(b'{"event":"daem')

    _, out, _ = logger.finish()

    assert json.loads(out)["text"] == '{"event":"daem'


def test_signals_do_not_end_it(start):
    logger = start("json")
    logger.send(event(1))
    read_line(logger.process.stdout.fileno())
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        logger.process.send_signal(signum)
    logger.send(event(2))

    code, out, _ = logger.finish()

    assert code == 0
    assert json.loads(out)["seq"] == 2


def test_a_reader_that_leaves_does_not_stop_the_reading(start):
    logger = start("json")
    logger.send(event(1))
    read_line(logger.process.stdout.fileno())
    logger.process.stdout.close()
    for seq in range(5000):  # far more than any pipe holds
        logger.send(event(seq))
    logger.hang_up()

    assert logger.process.wait(DEADLINE_S) == 0


def test_a_closed_standard_output_at_start_does_not_stop_the_reading(start):
    logger = start("auto", stdout=subprocess.DEVNULL, preexec=lambda: os.close(1))
    for seq in range(5000):
        logger.send(event(seq))

    assert logger.finish()[0] == 0


MORE_THAN_IT_HOLDS = 3000
"""Events that fill the pipe and one read three times: the first of them were surely handled."""


def shown_and_lost(lines):
    """Split the output: numbers of the events shown, and what the marks count as lost."""
    events = [json.loads(line) for line in lines]
    marks = [event for event in events if event["event"] == "log.dropped"]
    assert all(mark["reason"] == "write_error" for mark in marks)
    return (
        [event["seq"] for event in events if event["event"] == "daemon.ready"],
        sum(mark["lines"] for mark in marks),
    )


def test_lines_lost_to_a_full_disk_are_told_when_there_is_room_again(start, tmp_path):
    path = tmp_path / "log"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    with path.open("wb") as out:
        logger = start("json", stdout=out, preexec=limit)
    for seq in range(MORE_THAN_IT_HOLDS):
        logger.send(event(seq))
    resource.prlimit(logger.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    logger.send(event(MORE_THAN_IT_HOLDS))

    assert logger.finish()[0] == 0
    lines = path.read_bytes().splitlines()
    torn = [line for line in lines if not line.endswith(b"}")]
    shown, lost = shown_and_lost([line for line in lines if line.endswith(b"}")])
    assert len(torn) <= 1
    assert lost > 500
    assert shown[-1] == MORE_THAN_IT_HOLDS
    assert len(shown) + lost >= MORE_THAN_IT_HOLDS + 1


def test_lines_lost_without_a_reader_are_told_to_the_next_one(start, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    logger = start("json", stdout=writer)
    os.close(writer)
    logger.send(event(0))
    os.set_blocking(reader, True)
    read_line(reader)
    os.close(reader)

    for seq in range(1, MORE_THAN_IT_HOLDS):
        logger.send(event(seq))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    logger.send(event(MORE_THAN_IT_HOLDS))
    logger.hang_up()
    with os.fdopen(reader, "rb") as output:
        shown, lost = shown_and_lost(output.read().splitlines())

    assert logger.process.wait(DEADLINE_S) == 0
    assert lost > 500
    assert shown[-1] == MORE_THAN_IT_HOLDS
    assert len(shown) + lost == MORE_THAN_IT_HOLDS


def fill(pipe):
    """Write events until the pipe and whoever reads it take no more for half a second."""
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    os.set_blocking(pipe, False)
    while poll.poll(500):
        with contextlib.suppress(BlockingIOError):
            os.write(pipe, event(1))


@pytest.mark.slow
def test_a_reader_that_stopped_holds_it_at_most_a_moment_after_the_core(start):
    read, write = os.pipe()
    try:
        logger = start("json", stdout=write)
        fill(logger.pipe)
        logger.hang_up()

        assert logger.process.wait(DEADLINE_S) == 0
    finally:
        os.close(read)
        os.close(write)
