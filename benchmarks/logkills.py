"""What a logger that is killed under load takes with it: ours, s6-log, svlogd, multilog.

A program writes numbered lines of 100 bytes as fast as they are taken, 64 KiB or one line in each
write. We hold the pipe's read end, as s6 and runit do for a logger and our core for ours: the
logger is killed, another one is started with the same pipe, and the writer only waits meanwhile.
In the end each line is in the files or not; what is missing between two of them, one kill took.
"""

import contextlib
import itertools
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import time
from typing import NamedTuple, Protocol

from benchmarks import linux
from benchmarks.build import Pipes
from benchmarks.loggers import (
    BESIDE,
    LINE_BYTES,
    PATIENCE_S,
    PLAIN,
    Channel,
    Job,
    our_logger,
    prepare,
    wait,
)
from benchmarks.logs import remove
from benchmarks.report import Report, progress
from benchmarks.session import Place, SubjectFailedError
from supervisord_pidfd.core.spec import LogFormat

WRITES = {"64 KiB": 655, "a line": 1}  # lines in each write
FORWARD_BYTES = 2_000_000
"""How much a new logger writes before it is killed, at any moment of the next `MOMENT_S`."""

MOMENT_S = 0.02
NUMBER_BYTES = 10
ENDLESS = 1_000_000_000


class Life(Protocol):
    """Be one subject, from its first logger to its last."""

    def start(self, job: Job, pipe: int, *, again: bool) -> None:
        """Start a logger that reads the pipe; `again`: it is not the first one."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...

    def finish(self) -> None:
        """Wait for the end of the last one, which the pipe's end tells to end."""
        ...


class _Kin:
    """Be a program that reads standard input."""

    def __init__(self, name: str) -> None:
        self._argv = PLAIN[name]
        self._words: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, job: Job, pipe: int, *, again: bool) -> None:
        if not again:
            self._words = prepare(job, self._argv)
        self._process = subprocess.Popen(self._words, stdin=pipe, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        assert self._process is not None
        wait(self._process)


class _Ours:
    """Be our logger, with this process as its core."""

    def __init__(self, form: LogFormat) -> None:
        self._form = form
        self._stack = contextlib.ExitStack()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, job: Job, pipe: int, *, again: bool) -> None:
        if not again:
            os.mkdir(job.files)
        self._process, socket = self._stack.enter_context(our_logger(job.place.options.python))
        self._channel = Channel(socket, job.files)
        self._stack.callback(self._channel.close)
        self._channel.use(job.files, self._form)
        self._channel.run(pipe, again=again)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._stack.close()

    def finish(self) -> None:
        assert self._process is not None
        assert self._channel is not None
        self._channel.finish()
        wait(self._process)
        self._stack.close()


class Outcome(NamedTuple):
    """Hold what became of all that was sent."""

    sent: int  # lines
    kept: int
    gaps: list[int]  # lines missing, place by place
    disorder: int  # lines that came twice, or out of their order
    torn: int  # bytes of broken lines and of marks


def _segments(directory: str) -> list[bytes]:
    found = []
    for name in set(os.listdir(directory)) - BESIDE:
        with open(os.path.join(directory, name), "rb") as file:
            found.append(file.read())
    return found


def examine(directory: str, sent: int, tail: bytes) -> Outcome:
    """Compare what is in the files with the numbers of all lines that were sent."""
    numbers: list[int] = []
    torn = disorder = 0
    for data in _segments(directory):
        before = -1
        for line in data.split(b"\n"):
            if len(line) == LINE_BYTES - 1 and line.endswith(tail):
                number = int(line[:NUMBER_BYTES])
                disorder += number <= before
                before = number
                numbers.append(number)
            else:
                torn += len(line)
    ordered = sorted(set(numbers))
    bounds = [-1, *ordered, sent]
    gaps = [after - one - 1 for one, after in itertools.pairwise(bounds)]
    twice = len(numbers) - len(ordered)
    return Outcome(sent, len(ordered), [gap for gap in gaps if gap], disorder + twice, torn)


def _size(directory: str) -> int:
    total = 0
    for name in set(os.listdir(directory)) - BESIDE:
        with contextlib.suppress(FileNotFoundError):  # it was rotated just now
            total += os.stat(os.path.join(directory, name)).st_size
    return total


def _await_growth(directory: str, by: int) -> None:
    until = time.monotonic() + PATIENCE_S
    goal = _size(directory) + by
    while _size(directory) < goal:
        if time.monotonic() > until:
            raise SubjectFailedError("nothing is written any more")
        linux.rest(0.002)


def _once(life: Life, place: Place, pipes: Pipes, lines: int, kills: int) -> Outcome:
    directory = os.path.join(place.directory, "logkills")
    os.mkdir(directory)
    report = os.path.join(directory, "report")
    argv = (pipes.numbers, "w", str(lines), "0", str(ENDLESS), report)
    job = Job(directory, argv, place, pipes.copy, "")
    read, write = os.pipe()
    writer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=write)
    os.close(write)
    try:
        life.start(job, read, again=False)
        for _ in range(kills):
            _await_growth(job.files, FORWARD_BYTES)
            linux.rest(random.uniform(0, MOMENT_S))
            life.kill()
            life.start(job, read, again=True)
        _await_growth(job.files, FORWARD_BYTES)
        writer.send_signal(signal.SIGTERM)
        wait(writer)
        life.finish()
        return examine(job.files, int(linux.read(report)), _tail())
    finally:
        os.close(read)
        if writer.returncode is None:
            writer.kill()
            writer.wait()
        with contextlib.suppress(AssertionError, OSError):
            life.kill()
        remove(directory)


def _tail() -> bytes:
    """Return how each line ends, without its newline."""
    head = NUMBER_BYTES + 10
    return b" w        " + bytes(ord("a") + at % 23 for at in range(head, LINE_BYTES - 1))


def _make(name: str) -> Life:
    return _Kin(name) if name in PLAIN else _Ours(LogFormat.RAW)


def measure(place: Place, pipes: Pipes, kills: int, report: Report) -> None:
    """Kill each of them so many times, with either kind of writes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rows = []
    for name in ("ours, raw", *PLAIN):
        if name in PLAIN and shutil.which(PLAIN[name][0]) is None:
            report.say(f"{name}: not available here, left out")
            continue
        for writes, lines in WRITES.items():
            progress(f"logkills: {name}, {writes}")
            try:
                found = _once(_make(name), place, pipes, lines, kills)
            except SubjectFailedError as error:
                report.say(f"{name}: {error}")
                continue
            rows.append(_row(name, writes, found, kills))
            report.record("logkills", subject=name, writes=writes, kills=kills, **found._asdict())
    progress("")
    header = (
        *("", "in each write", "sent MB", "lost bytes", "kills that lost", "median a kill"),
        *("most", "twice or disordered"),
    )
    report.table(f"{kills} times SIGKILL of the logger under load", header, rows)


def _row(name: str, writes: str, found: Outcome, kills: int) -> list[str]:
    lost = (found.sent - found.kept) * LINE_BYTES
    each = sorted(gap * LINE_BYTES for gap in found.gaps)
    padded = [0] * max(0, kills - len(each)) + each
    return [
        name, writes, f"{found.sent * LINE_BYTES / 1e6:.0f}", str(lost), str(len(each)),
        f"{statistics.median(padded):.0f}", str(max(padded)), str(found.disorder),
    ]  # fmt: skip
