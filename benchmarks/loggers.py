"""Loggers that read what one service writes: ours, a C loop, our kin, Supervisor.

Ours is run alone, with this process in the core's place, as its kin are.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks import linux
from benchmarks.session import Place, SubjectFailedError
from benchmarks.subjects import SUBJECTS
from supervisord_pidfd import logwire
from supervisord_pidfd.core.spec import LogFormat, LogSpec, dump

LINE_BYTES = 100
SEGMENT_BYTES = 16_000_000
SEGMENTS = 200
PATIENCE_S = 60.0
SETTLE_S = 0.05

BESIDE = frozenset({"config", "lock", "state"})
"""Files in a log's directory that hold no log."""


class Job(NamedTuple):
    """Hold what a subject is to do: where its files go, and who writes.

    `go` is a FIFO: the writer begins when it is opened.
    """

    directory: str
    writer: tuple[str, ...]
    place: Place
    copy: str
    go: str

    @property
    def files(self) -> str:
        """Say where the log is to be."""
        return os.path.join(self.directory, "log")


Run = Callable[[Job], float]
"""Let the writer write; return the processor time that the subject took for it, in seconds."""


class Contender(NamedTuple):
    """Name a subject in a table, with the program it needs."""

    name: str
    program: str
    run: Run

    def is_here(self, place: Place) -> bool:
        """Tell whether its program is installed."""
        if self.program == "supervisor":
            return SUBJECTS["supervisor"].find(place.options) is not None
        return not self.program or shutil.which(self.program) is not None


def wait(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time of a process that ends by itself, its children included."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if not linux.readable(pidfd, time.monotonic() + PATIENCE_S):
            process.kill()
            raise SubjectFailedError(f"{process.args!r} does not end")
    finally:
        os.close(pidfd)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _at_rest(pid: int) -> float:
    """Wait until a process has begun and waits; return the processor time that took."""
    until = time.monotonic() + PATIENCE_S
    before = -1.0
    while (now := linux.usage(pid).cpu_ms) != before and time.monotonic() < until:
        before = now
        linux.rest(SETTLE_S)
    return now / 1e3


@contextmanager
def _going(job: Job) -> Iterator[None]:
    """Let the writer begin."""
    fd = os.open(job.go, os.O_RDWR | os.O_NONBLOCK)  # as the only way to be a writer at once
    try:
        yield
    finally:
        os.close(fd)


def _write(job: Job, stdout: int, pid: int) -> float:
    """Let the writer write to the end; return what the process had taken before."""
    writer = subprocess.Popen(job.writer, stdin=subprocess.DEVNULL, stdout=stdout)
    os.close(stdout)
    before = _at_rest(pid)
    with _going(job):
        wait(writer)
    if writer.returncode:
        raise SubjectFailedError(f"the writer failed: {writer.returncode}")
    return before


def _words(job: Job, argv: tuple[str, ...]) -> list[str]:
    filled = {"DIR": job.files, "FILE": os.path.join(job.files, "current"), "COPY": job.copy}
    return [filled.get(word, word) for word in argv]


def prepare(job: Job, argv: tuple[str, ...]) -> list[str]:
    """Make the directory of a program that reads standard input; return its command line."""
    os.mkdir(job.files)
    if argv[0] == "svlogd":
        with open(os.path.join(job.files, "config"), "w", encoding="ascii") as file:
            file.write(f"s{SEGMENT_BYTES}\nn{SEGMENTS}\n")
    return _words(job, argv)


def _reader(*argv: str) -> Run:
    """Run a program that reads standard input to its end; DIR and FILE are filled in."""

    def run(job: Job) -> float:
        words = prepare(job, argv)
        read, write = os.pipe()
        process = subprocess.Popen(words, stdin=read, stderr=subprocess.DEVNULL)
        os.close(read)
        before = _write(job, write, process.pid)
        return wait(process) - before

    return run


# -- ours -----------------------------------------------------------------------------------------


@contextmanager
def our_logger(python: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Run our logger as the core does, with this process at the other end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, events = os.pipe()
    command = [python, "-I", "-m", "supervisord_pidfd.logger"]
    options = ["--fd", str(read), "--channel", str(theirs.fileno()), "--format", "json"]
    process = subprocess.Popen(
        [*command, *options],
        pass_fds=(read, theirs.fileno()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    theirs.close()
    os.close(read)
    try:
        os.write(events, b"1\n")
        yield process, ours
    finally:
        ours.close()
        os.close(events)
        if process.returncode is None:
            process.kill()
            process.wait()


class Channel:
    """Be the core for our logger, as far as one service "w" needs one. Owns its counters."""

    def __init__(self, channel: socket.socket, directory: str) -> None:
        self._channel = channel
        self._counters = logwire.Counters.create()
        self._counters.reserve(0)
        settings = {"directory": directory, "ring_total": 64 << 20, "own": {}}
        opening = {"open": logwire.OPENING, "settings": settings}
        self.say(opening, self._counters.fileno())

    def say(self, message: dict[str, object], *fds: int) -> None:
        """Tell the logger something."""
        socket.send_fds(self._channel, [logwire.pack(message)], list(fds))

    def use(self, files: str, form: LogFormat) -> None:
        """Let the output of the service go to files."""
        current = os.path.join(files, "current")
        spec = LogSpec(
            to=("file",), format=form, path=current, stderr_path=current,
            rotate_size=SEGMENT_BYTES, rotate_keep=SEGMENTS,
        )  # fmt: skip
        self.say({"service": "w", "slot": 0, "log": dump(spec)})

    def run(self, pipe: int, *, again: bool = False) -> None:
        """Hand over a pipe; `again`: another logger has read some of it."""
        self.say({"run": 1, "service": "w", "pipes": [[1, "stdout"]], "again": again}, pipe)

    def finish(self) -> None:
        """Wait until the pipe has come to its end, and have the logger end."""
        until = time.monotonic() + PATIENCE_S
        while linux.readable(self._channel.fileno(), until):
            received = logwire.receive(self._channel)
            if received is None:
                raise SubjectFailedError("our logger has died")
            if 1 in received[0].get("ended", ()):
                self.say({"finish": 10.0})
                return
        raise SubjectFailedError("our logger does not come to the end")

    def close(self) -> None:
        """Close the counters."""
        self._counters.close()
        os.close(self._counters.fileno())


def _ours(form: LogFormat) -> Run:
    def run(job: Job) -> float:
        os.mkdir(job.files)
        read, write = os.pipe()
        with our_logger(job.place.options.python) as (process, socket_):
            channel = Channel(socket_, job.files)
            try:
                channel.use(job.files, form)
                channel.run(read)
                os.close(read)
                before = _write(job, write, process.pid)
                channel.finish()
                return wait(process) - before
            finally:
                channel.close()

    return run


# -- Supervisor -----------------------------------------------------------------------------------


def _supervisor(job: Job) -> float:
    found = SUBJECTS["supervisor"].find(job.place.options)
    os.mkdir(job.files)
    path = os.path.join(job.directory, "supervisord.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(
            f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
            f"pidfile={job.directory}/pid\nchildlogdir={job.directory}\n"
            f"[program:w]\ncommand={' '.join(job.writer)}\nautorestart=false\nstartsecs=0\n"
            f"stdout_logfile={job.files}/current\nstdout_logfile_maxbytes={SEGMENT_BYTES}\n"
            f"stdout_logfile_backups={SEGMENTS}\n"
        )
    process = subprocess.Popen(
        [str(found), "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before = _at_rest(process.pid)
    until = time.monotonic() + PATIENCE_S
    with _going(job):
        while not linux.read(job.writer[-1]).endswith("\n"):
            if time.monotonic() > until or process.poll() is not None:
                process.kill()
                process.wait()
                raise SubjectFailedError("Supervisor's program does not come to the end")
            linux.rest(0.01)
    linux.rest(0.5)  # it reads what is left in the pipe
    process.terminate()
    its_own = int(linux.read(job.writer[-1]).split()[2]) / 1e9  # the writer was its child
    return wait(process) - before - its_own


# -- in a table -----------------------------------------------------------------------------------

_BOUNDS = (f"n{SEGMENTS}", f"s{SEGMENT_BYTES}")
PLAIN = {
    "s6-log": ("s6-log", *_BOUNDS, "DIR"),
    "svlogd": ("svlogd", "DIR"),
    "multilog": ("multilog", *_BOUNDS[::-1], "DIR"),
}
"""Our kin, without timestamps: command lines of programs that read standard input."""

STAMPED = {
    "s6-log T": ("s6-log", *_BOUNDS, "T", "DIR"),
    "svlogd -tt": ("svlogd", "-tt", "DIR"),
    "multilog t": ("multilog", "t", *_BOUNDS[::-1], "DIR"),
}


def _kin(commands: dict[str, tuple[str, ...]]) -> tuple[Contender, ...]:
    return tuple(Contender(name, argv[0], _reader(*argv)) for name, argv in commands.items())


RAW = (
    Contender("ours, raw", "", _ours(LogFormat.RAW)),
    Contender("C loop", "", _reader("COPY", "FILE")),
    *_kin(PLAIN),
    Contender("Supervisor", "supervisor", _supervisor),
)
TEXT = (
    Contender("ours, text", "", _ours(LogFormat.TEXT)),
    Contender("ours, json", "", _ours(LogFormat.JSON)),
    *_kin(STAMPED),
    Contender("Supervisor, no time", "supervisor", _supervisor),
)
