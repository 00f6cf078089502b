"""How fast a service may write: our logger beside a C loop, its kin and Supervisor.

One service writes lines of 100 bytes as fast as they are taken, once a line in each write, once
64 KiB. What is timed is the writer: what it wrote has been read but for the last 64 KiB. Files are
rotated at 16 MB and all kept, so that what is in them can be compared with what was written.
"""

import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks import linux
from benchmarks.report import Report, progress, short, spread
from benchmarks.session import Place, SubjectFailedError
from benchmarks.subjects import SUBJECTS
from supervisord_pidfd import logwire
from supervisord_pidfd.core.spec import LogFormat, LogSpec, dump

LINE_BYTES = 100
SEGMENT_BYTES = 16_000_000
SEGMENTS = 200
PATIENCE_S = 60.0

RAW_AIM = 0.9
WRITES = {"64 KiB": 65536, "a line": LINE_BYTES}


class Job(NamedTuple):
    """Hold what a subject is to do: where its files go, and who writes."""

    directory: str
    writer: tuple[str, ...]
    place: Place
    copy: str

    @property
    def files(self) -> str:
        """Say where the log is to be."""
        return os.path.join(self.directory, "log")


class Result(NamedTuple):
    """Hold what came of it."""

    rate: float  # MB/s
    cpu: float  # s for each GB
    lost: int  # lines


Run = Callable[[Job], float]
"""Let the writer write; return the processor time that the subject took, in seconds."""


class Contender(NamedTuple):
    """Name a subject in a table, with the program it needs."""

    name: str
    program: str
    run: Run


def _preexec() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time of a process that ends by itself."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if not linux.readable(pidfd, time.monotonic() + PATIENCE_S):
            process.kill()
            raise SubjectFailedError(f"{process.args} does not end")
    finally:
        os.close(pidfd)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _write(job: Job, stdout: int) -> None:
    writer = subprocess.Popen(job.writer, stdin=subprocess.DEVNULL, stdout=stdout)
    os.close(stdout)
    _wait(writer)
    if writer.returncode:
        raise SubjectFailedError(f"the writer failed: {writer.returncode}")


def _reader(*argv: str) -> Run:
    """Run a program that reads standard input to its end; DIR and FILE are filled in."""

    def run(job: Job) -> float:
        os.mkdir(job.files)
        filled = {"DIR": job.files, "FILE": os.path.join(job.files, "current"), "COPY": job.copy}
        config = os.path.join(job.files, "config")
        if argv[0] == "svlogd":
            with open(config, "w", encoding="ascii") as file:
                file.write(f"s{SEGMENT_BYTES}\nn{SEGMENTS}\n")
        read, write = os.pipe()
        words = [filled.get(word, word) for word in argv]
        process = subprocess.Popen(words, stdin=read, stderr=subprocess.DEVNULL)
        os.close(read)
        _write(job, write)
        return _wait(process)

    return run


# -- ours -----------------------------------------------------------------------------------------


@contextmanager
def _logger(python: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
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


def _ours(form: LogFormat) -> Run:
    def run(job: Job) -> float:
        spec = LogSpec(
            to=("file",),
            format=form,
            path=os.path.join(job.files, "current"),
            stderr_path=os.path.join(job.files, "current"),
            rotate_size=SEGMENT_BYTES,
            rotate_keep=SEGMENTS,
        )
        os.mkdir(job.files)
        counters = logwire.Counters.create()
        counters.reserve(0)
        read, write = os.pipe()
        settings = {"directory": job.files, "ring_total": 64 << 20, "own": {}}
        try:
            with _logger(job.place.options.python) as (process, channel):
                _say(channel, {"open": logwire.OPENING, "settings": settings}, counters.fileno())
                _say(channel, {"service": "w", "slot": 0, "log": dump(spec)})
                pipes = [[1, "stdout"]]
                _say(channel, {"run": 1, "service": "w", "pipes": pipes, "again": False}, read)
                os.close(read)
                _write(job, write)
                _await_end(channel)
                _say(channel, {"finish": 10.0})
                return _wait(process)
        finally:
            counters.close()
            os.close(counters.fileno())

    return run


def _say(channel: socket.socket, message: dict[str, object], *fds: int) -> None:
    socket.send_fds(channel, [logwire.pack(message)], list(fds))


def _await_end(channel: socket.socket) -> None:
    until = time.monotonic() + PATIENCE_S
    while linux.readable(channel.fileno(), until):
        received = logwire.receive(channel)
        if received is None:
            raise SubjectFailedError("our logger has died")
        if 1 in received[0].get("ended", ()):
            return
    raise SubjectFailedError("our logger does not come to the end")


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
    until = time.monotonic() + PATIENCE_S
    while not os.path.exists(job.writer[-1]) or not linux.read(job.writer[-1]).endswith("\n"):
        if time.monotonic() > until or process.poll() is not None:
            process.kill()
            process.wait()
            raise SubjectFailedError("Supervisor's program does not come to the end")
        linux.rest(0.01)
    linux.rest(0.5)  # it reads what is left in the pipe
    process.terminate()
    return _wait(process)


# -- rounds ---------------------------------------------------------------------------------------

RAW = (
    Contender("ours, raw", "", _ours(LogFormat.RAW)),
    Contender("C loop", "", _reader("COPY", "FILE")),
    Contender("s6-log", "s6-log", _reader("s6-log", f"n{SEGMENTS}", f"s{SEGMENT_BYTES}", "DIR")),
    Contender("svlogd", "svlogd", _reader("svlogd", "DIR")),
    Contender(
        "multilog", "multilog", _reader("multilog", f"s{SEGMENT_BYTES}", f"n{SEGMENTS}", "DIR")
    ),
    Contender("Supervisor", "supervisor", _supervisor),
)
TEXT = (
    Contender("ours, text", "", _ours(LogFormat.TEXT)),
    Contender("ours, json", "", _ours(LogFormat.JSON)),
    Contender(
        "s6-log T", "s6-log", _reader("s6-log", f"n{SEGMENTS}", f"s{SEGMENT_BYTES}", "T", "DIR")
    ),
    Contender("svlogd -tt", "svlogd", _reader("svlogd", "-tt", "DIR")),
    Contender(
        "multilog t",
        "multilog",
        _reader("multilog", "t", f"s{SEGMENT_BYTES}", f"n{SEGMENTS}", "DIR"),
    ),
)


def _is_here(one: Contender, place: Place) -> bool:
    if one.program == "supervisor":
        return SUBJECTS["supervisor"].find(place.options) is not None
    paths = os.environ.get("PATH", "").split(":")
    return not one.program or any(os.access(f"{path}/{one.program}", os.X_OK) for path in paths)


def _count(directory: str) -> int:
    """Count the lines in all files of a log."""
    lines = 0
    for name in os.listdir(directory):
        if name in {"config", "lock", "state"}:
            continue
        with open(os.path.join(directory, name), "rb") as file:
            while data := file.read(1 << 20):
                lines += data.count(b"\n")
    return lines


def _remove(directory: str) -> None:
    for above, _, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(os.path.join(above, name))
        os.rmdir(above)


def _once(one: Contender, place: Place, writer: str, size: int, total: int) -> Result:
    directory = os.path.join(place.directory, "logs")
    os.mkdir(directory)
    try:
        report = os.path.join(directory, "report")
        copy = os.path.join(os.path.dirname(writer), "copy")
        job = Job(directory, (writer, str(size), str(total), report), place, copy)
        used = one.run(job)
        took, sent = map(int, linux.read(report).split())
        lost = sent // LINE_BYTES - _count(job.files)
        return Result(sent / took * 1e3, used / (sent / 1e9), lost)
    finally:
        _remove(directory)


def measure(
    place: Place, programs: tuple[str, str], rounds: int, megabytes: int, report: Report
) -> None:
    """Measure all that is here, in turns of random order."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for form, contenders in (("raw", RAW), ("text", TEXT)):
        here = [one for one in contenders if _is_here(one, place)]
        for one in contenders:
            if one not in here:
                report.say(f"{one.name}: not available here, left out")
        for writes, size in WRITES.items():
            found: dict[str, list[Result]] = {one.name: [] for one in here}
            for turn in range(rounds):
                for one in random.sample(here, len(here)):
                    progress(f"{form}, {writes}, round {turn + 1}: {one.name}")
                    try:
                        result = _once(one, place, programs[0], size, megabytes * 1_000_000)
                    except SubjectFailedError as error:
                        report.say(f"{one.name}: {error}")
                        continue
                    found[one.name].append(result)
            progress("")
            _show(found, form, writes, rounds, report)


def _show(
    found: dict[str, list[Result]], form: str, writes: str, rounds: int, report: Report
) -> None:
    names = [name for name, results in found.items() if results]
    if not names:
        return
    reference = "C loop" if form == "raw" else "multilog t"
    rows = []
    for name in names:
        results = found[name]
        rates = [one.rate for one in results]
        cells = [name, spread(rates), "", short(statistics.median(one.cpu for one in results))]
        base = [one.rate for one in found.get(reference, ())]
        if base:
            cells[2] = f"{statistics.median(rates) / statistics.median(base):.2f}"
        rows.append([*cells, str(sum(one.lost for one in results))])
        report.record(
            "logs", subject=name, form=form, writes=writes, mb_s=[round(rate) for rate in rates],
            cpu_s_gb=[round(one.cpu, 2) for one in results], lost=[one.lost for one in results],
        )  # fmt: skip
    header = ("", "MB/s", f"of {reference}", "CPU s/GB", "lines lost")
    report.table(f"{form}, {writes} in each write, {rounds} rounds", header, rows)
