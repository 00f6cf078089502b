"""The command: python -m benchmarks.run MODE; the modes are those of the README."""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from benchmarks import (
    client,
    control,
    gateway,
    graph,
    latency,
    linux,
    logkills,
    logload,
    logs,
    resources,
    webattack,
)
from benchmarks.build import CannotBuildError, build, build_pipes
from benchmarks.report import Report
from benchmarks.session import Place
from benchmarks.subjects import DEFAULT, SUBJECTS, Options, Subject

MODES = (
    "restart",
    "storm",
    "boot",
    "idle",
    "memory",
    "scale",
    "leaks",
    "client",
    "control",
    "graph",
    "gateway",
    "webattack",
    "logs",
    "logkills",
    "logload",
    "all",
    "quick",
)
_SHOWN = {
    "restart": ("restart",),
    "storm": ("storm",),
    "boot": ("boot-first", "boot", "stop"),
    "all": ("restart", "storm", "boot-first", "boot", "stop"),
    "quick": ("restart", "storm", "boot-first", "boot", "stop"),
}
_LIMITS = {"quick": 120, "all": 5400}  # s; a run that takes longer is broken off and cleaned up


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    add = parser.add_argument
    add("mode", choices=MODES)
    add("--n", help="numbers of services, as 1,100,1000")
    add("--rounds", type=int)
    add("--kills", type=int, help="kills per subject and round")
    add("--block", type=int, default=10, help="kills in a row before the next subject's turn")
    add("--gap", type=float, default=10, metavar="MS", help="between two kills")
    add("--storms", type=int, help="storms per subject and round")
    add("--subjects", help=f"of {','.join(SUBJECTS)}; default {','.join(DEFAULT)}")
    add("--seconds", type=float, help="how long to idle")
    add("--restarts", type=int, default=10_000, help="length of a crash loop")
    add("--nofile", type=int, default=20_000, help="RLIMIT_NOFILE of scale")
    add("--megabytes", type=int, help="how much a writer writes in logs")
    add("--python", default=sys.executable, help="interpreter of ours and of the Python floor")
    add("--ours-set", action="append", default=[], metavar="KEY=VALUE", help="--set for ours")
    add("--instances", action="store_true", help="ours: one table with instances = N")
    add("--tmp", help="where to work; default: a tmpfs")
    add("--json", nargs="?", const="-", metavar="FILE", help="results as JSON lines; - is stdout")
    add(
        "--calm",
        type=float,
        default=0,
        metavar="S",
        help="before each turn wait up to S seconds for an idle machine",
    )
    add("--limit", type=int, help="give up after so many seconds")
    return parser.parse_args(argv)


def _default_tmp() -> str:
    """Return a tmpfs from which programs may run: on a disk some peers measure the disk."""
    for path in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", tempfile.gettempdir()):
        if path and os.access(path, os.W_OK) and linux.filesystem(path) == "tmpfs":
            if os.statvfs(path).f_flag & os.ST_NOEXEC:
                continue
            return path
    return tempfile.gettempdir()


@contextlib.contextmanager
def _outputs(path: str | None) -> Iterator[Report]:
    if path is None:
        yield Report(sys.stdout, None)
    elif path == "-":
        yield Report(sys.stderr, sys.stdout)
    else:
        with open(path, "w", encoding="utf-8") as lines:
            yield Report(sys.stdout, lines)


def _choose(words: argparse.Namespace, options: Options, report: Report) -> list[Subject]:
    names = words.subjects.split(",") if words.subjects else list(DEFAULT)
    if words.mode == "quick" and not words.subjects:
        names = [name for name in names if not SUBJECTS[name].slow]
    if words.mode in {"all", "idle"} and not words.subjects:
        names.insert(1, "ours-sigchld")
    chosen = []
    for name in names:
        if name not in SUBJECTS:
            raise SystemExit(f"benchmarks.run: no subject '{name}' ({', '.join(SUBJECTS)})")
        if SUBJECTS[name].find(options) is None:
            report.say(f"{name}: not available here, left out (setup.sh installs the peers)")
            report.record("failed", subject=name, why="not available")
        else:
            chosen.append(SUBJECTS[name])
    return chosen


def _latencies(
    words: argparse.Namespace, subjects: Sequence[Subject], place: Place, report: Report
) -> None:
    mode, quick = words.mode, words.mode == "quick"
    counts = words.n or ("1,100" if quick else "100,1000" if mode == "storm" else "1,100,1000")
    kills = words.kills if words.kills is not None else 6 if quick else 30
    storms = words.storms if words.storms is not None else 1 if quick else 3
    load = latency.Load(
        rounds=words.rounds or (3 if quick else 7),
        kills=0 if mode in {"storm", "boot"} else kills,
        block=max(1, words.block),
        storms=0 if mode in {"restart", "boot"} else storms,
        ripe_kills=1 if quick else 4,
        gap=words.gap / 1e3,
        calm=words.calm,
    )
    subjects = [one for one in subjects if one.name != "ours-sigchld" or words.subjects]
    for count in (int(text) for text in counts.split(",")):
        found = latency.measure(subjects, place, count, load)
        latency.show(found, report, _SHOWN[mode])


def _measure(
    words: argparse.Namespace, subjects: Sequence[Subject], place: Place, report: Report
) -> None:
    mode = words.mode
    everything = mode == "all"
    count = int((words.n or "100").split(",")[0]) if not everything else 100
    has_ours = any(subject.name == "ours" for subject in subjects)
    if mode in _SHOWN:
        _latencies(words, subjects, place, report)
    if (mode == "boot" or everything) and has_ours:
        resources.breakdown(place, 100, report)
    if mode in {"idle", "quick"} or everything:
        seconds = words.seconds or (5 if mode == "quick" else 20)
        resources.idle(subjects, place, count if mode == "idle" else 100, seconds, report)
    if mode in {"memory", "quick"} or everything:
        quiet = [one for one in subjects if mode != "quick" or not one.slow]
        resources.memory(quiet, place, count if mode == "memory" else 100, report)
    if mode == "scale" or everything:
        many = int(words.n) if words.n and not everything else 5000
        # Supervisor needs minutes here: only when it is asked for by name.
        some = [one for one in subjects if words.subjects or not one.slow]
        resources.scale(some, place, many, words.nofile, report)
        if has_ours:
            resources.refusal(place, many, many // 5, report)
    _control(words, place, report)
    _logs(words, place, report)
    if mode == "leaks" or everything:
        resources.leaks(subjects, place, words.restarts, report)


def _logs(words: argparse.Namespace, place: Place, report: Report) -> None:
    """Measure what becomes of the output of services, and what it costs."""
    mode, everything = words.mode, words.mode == "all"
    if mode not in {"logs", "logkills", "logload"} and not everything:
        return
    pipes = build_pipes(place.directory)
    if mode == "logs" or everything:
        logs.measure(place, pipes, words.rounds or 9, words.megabytes or 256, report)
    if mode == "logkills" or everything:
        logkills.measure(place, pipes, words.kills or 20, report)
    if mode == "logload" or everything:
        count = int(words.n) if words.n and not everything else 200
        seconds = int(words.seconds or 10)
        load = logload.Load(count, seconds, words.rounds or 3)
        logload.measure(place, pipes, load, report)


def _control(words: argparse.Namespace, place: Place, report: Report) -> None:
    """Measure what commands and the graph of dependencies cost."""
    mode, everything = words.mode, words.mode == "all"
    count = int(words.n.split(",")[0]) if words.n and not everything else 0
    if mode in {"client", "quick"} or everything:
        client.status(place, count if mode == "client" and count else 200, report)
    if mode == "control" or everything:
        control.status(place, count if mode == "control" and count else 2000, report)
        control.attack(place, report)
    if mode == "graph" or everything:
        graph.doublings(report)
    simulated = count if mode in {"gateway", "webattack"} and count else 10_000
    if mode == "gateway" or everything:
        gateway.measure(place, simulated, report)
    if mode in {"gateway", "webattack"} or everything:
        webattack.memory(place, simulated, report)
        webattack.restarts(place, report)


def _sweep() -> int:
    """End whatever of the subjects has fallen to us; return how many processes it was."""
    swept = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        left = linux.descendants(os.getpid())
        if not left:
            break
        for pidfd in linux.hold_all(left):
            swept += 1
            linux.kill(pidfd, signal.SIGKILL)
            linux.readable(pidfd, time.monotonic() + 2)
            os.close(pidfd)
        linux.reap_orphans()
    linux.reap_orphans()
    return swept


def _give_up(signum: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, leave nothing behind."""
    words = _parse(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    linux.become_subreaper()
    for signum in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _give_up)
    signal.alarm(words.limit or _LIMITS.get(words.mode, 3600))
    base = words.tmp or _default_tmp()
    options = Options(words.python, tuple(words.ours_set), words.instances)
    directory = tempfile.mkdtemp(prefix="benchmarks-", dir=base)
    code = 0
    with _outputs(words.json) as report:
        load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
        kernel, kind = os.uname().release, linux.filesystem(base)
        report.say(f"linux {kernel}, {cores} cores, load {load:.1f}, files on {kind}")
        report.record("machine", kernel=kernel, cores=cores, load=load, filesystem=kind)
        begun = time.monotonic()
        try:
            place = Place(directory, build(directory), options)
            _measure(words, _choose(words, options, report), place, report)
        except (CannotBuildError, KeyboardInterrupt) as error:
            report.say(f"broken off: {error}")
            code = 1
        finally:
            signal.alarm(0)
            swept = _sweep()
            shutil.rmtree(directory, ignore_errors=True)
        report.say(f"\ntook {time.monotonic() - begun:.0f} s; {swept} processes were left behind")
        report.record("end", seconds=round(time.monotonic() - begun, 1), left_behind=swept)
    return code


if __name__ == "__main__":
    sys.exit(main())
