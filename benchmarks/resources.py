"""Idle, memory, scale, refusal, leaks: what a subject costs, and whether it stays so."""

import contextlib
import json
import os
import signal
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import linux
from benchmarks.report import Report, progress, short, verdict
from benchmarks.session import ENV, Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS, Subject

_KIB = 1024


def _boot_all(
    subjects: Sequence[Subject], place: Place, wish: Wish, stack: contextlib.ExitStack
) -> tuple[list[Session], dict[str, str]]:
    running, failed = [], {}
    for subject in subjects:
        session = stack.enter_context(Session(subject, place, wish))
        progress(f"booting {subject.name} with {wish.count}")
        try:
            session.boot()
        except (SubjectFailedError, OSError) as error:
            failed[subject.name] = str(error)
        else:
            running.append(session)
    return running, failed


def _tell_failures(report: Report, failed: dict[str, str]) -> None:
    for name, why in failed.items():
        report.say(f"{name}: left out: {why}")
        report.record("failed", subject=name, why=why)


def role(session: Session, pid: int) -> str:
    """Name one process of a subject."""
    words = linux.command(pid)
    for word in words:
        if word.startswith("supervisord_pidfd."):
            return word.removeprefix("supervisord_pidfd.")
    if pid == session.pid:
        return "core" if session.subject.name.startswith("ours") else "main"
    return os.path.basename(words[0]).split()[0] if words and words[0] else "gone"


# -- idle -----------------------------------------------------------------------------------------


class Quiet(NamedTuple):
    """What the processes of one role did while nothing happened."""

    role: str
    processes: int
    voluntary: int
    involuntary: int
    cpu_ms: float


def _look(session: Session) -> dict[int, linux.Usage]:
    return {pid: linux.usage(pid) for pid in session.tree()}


def _since(session: Session, before: dict[int, linux.Usage]) -> list[Quiet]:
    """Add up by role what was used; a process that came meanwhile counts from its start."""
    zero = linux.Usage(0, 0, 0.0)
    roles: dict[str, list[linux.Usage]] = {}
    for pid, now in _look(session).items():
        then = before.get(pid, zero)
        spent = linux.Usage(
            now.voluntary - then.voluntary,
            now.involuntary - then.involuntary,
            now.cpu_ms - then.cpu_ms,
        )
        roles.setdefault(role(session, pid), []).append(spent)
    found = []
    for name, spends in roles.items():
        voluntary, involuntary, cpu = (sum(column) for column in zip(*spends, strict=True))
        found.append(Quiet(name, len(spends), int(voluntary), int(involuntary), cpu))
    return found


def idle(
    subjects: Sequence[Subject], place: Place, count: int, seconds: float, report: Report
) -> None:
    """Count what each process of each subject does while nothing happens.

    All subjects idle at the same time: the numbers are counts, not lengths of time.
    """
    rows = []
    with contextlib.ExitStack() as stack:
        running, failed = _boot_all(subjects, place, Wish(count, metrics=True), stack)
        progress(f"settling, then idle for {seconds:g} s")
        linux.rest(3)
        before = {session: _look(session) for session in running}
        linux.rest(seconds)
        for session in running:
            for quiet in _since(session, before[session]):
                rows.append(_idle_row(session.subject.name, quiet, seconds))
                fields = {"subject": session.subject.name, "n": count, "seconds": seconds}
                report.record("idle", **fields, **quiet._asdict())
    progress("")
    header = ("", "processes", "voluntary switches", "involuntary", "CPU ms", "aim")
    report.table(f"idle for {seconds:g} s, N = {count}", header, rows)
    _tell_failures(report, failed)


def _idle_row(name: str, quiet: Quiet, seconds: float) -> list[str]:
    aim = {"ours": 0.0, "ours-sigchld": seconds // 5}.get(name)
    word = "" if aim is None else verdict(quiet.voluntary, aim)
    numbers = [str(number) for number in quiet[1:4]]
    return [f"{name}: {quiet.role}", *numbers, f"{quiet.cpu_ms:.1f}", word]


# -- memory ---------------------------------------------------------------------------------------


class Footprint(NamedTuple):
    """What a subject occupies, services left out, in MiB (`processes`: how many)."""

    rss: float
    private_dirty: float
    tree_pss: float
    processes: int


def footprint(session: Session) -> Footprint:
    """Read the memory of a subject: of its main process, and PSS of the whole tree."""
    tree = session.tree()
    main = linux.memory(session.pid)
    pss = sum(linux.memory(pid).pss for pid in tree)
    return Footprint(main.rss / _KIB, main.private_dirty / _KIB, pss / _KIB, len(tree))


def memory(subjects: Sequence[Subject], place: Place, count: int, report: Report) -> None:
    """Read RSS and private dirty memory of the main process, and PSS of the tree."""
    rows = []
    failed: dict[str, str] = {}
    for subject in subjects:
        with contextlib.ExitStack() as stack:
            wish = Wish(count, metrics=True)
            running, wrong = _boot_all([subject], place, wish, stack)
            failed.update(wrong)
            for session in running:
                linux.rest(2)
                rows.append(_memory_row(session, count, report))
                if len(session.tree()) <= 8:
                    rows += _member_rows(session, count, report)
    progress("")
    header = ("", "RSS MiB", "RSS MB", "private dirty MiB", "tree PSS MiB", "processes", "aim")
    report.table(f"memory, N = {count}", header, rows)
    _tell_failures(report, failed)


def _memory_row(session: Session, count: int, report: Report) -> list[str]:
    found = footprint(session)
    report.record("memory", subject=session.subject.name, n=count, **found._asdict())
    megabytes = found.rss * _KIB * _KIB / 1e6
    dirty = found.private_dirty * _KIB * _KIB / 1e6
    aim = ""
    if session.subject.name.startswith("ours"):
        aim = f"RSS {verdict(megabytes, 17)}, dirty {verdict(dirty, 10)} MB"
    cells = (found.rss, megabytes, found.private_dirty, found.tree_pss)
    return [session.subject.name, *map(short, cells), str(found.processes), aim]


def _member_rows(session: Session, count: int, report: Report) -> list[list[str]]:
    rows = []
    for pid in session.tree()[1:]:
        used = linux.memory(pid)
        name = role(session, pid)
        cells = (used.rss / _KIB, used.rss * _KIB / 1e6, used.private_dirty / _KIB)
        rows.append([f"  {name}", *map(short, cells), short(used.pss / _KIB), "", ""])
        report.record("memory", subject=session.subject.name, role=name, n=count, **used._asdict())
    return rows


# -- scale and refusal ----------------------------------------------------------------------------


class Scaled(NamedTuple):
    """How a subject carries many services."""

    first_s: float
    boot_s: float
    storm_s: float
    stop_s: float
    rss: float  # MiB
    tree_pss: float  # MiB
    descriptors: int


def _scaled(session: Session) -> Scaled:
    booted = session.boot()
    session.settle(2)
    storm = session.storm()
    session.settle(1)
    used = footprint(session)
    handles = linux.descriptors(session.pid)
    stop = session.stop()
    return Scaled(booted.first, booted.last, storm, stop, used.rss, used.tree_pss, handles)


def scale(
    subjects: Sequence[Subject], place: Place, count: int, nofile: int, report: Report
) -> None:
    """Boot, storm, memory and stop with many services under one descriptor limit."""
    found: dict[str, Scaled] = {}
    failed: dict[str, str] = {}
    for subject in subjects:
        if count > subject.most:
            failed[subject.name] = f"takes {subject.most} services at most"
            continue
        progress(f"scale: {subject.name} with {count}")
        with Session(subject, place, Wish(count, nofile, patience=240.0)) as session:
            try:
                found[subject.name] = _scaled(session)
            except (SubjectFailedError, OSError) as error:
                failed[subject.name] = str(error)
    progress("")
    rows = []
    for name, one in found.items():
        fields = {"subject": name, "n": count, "nofile": nofile}
        report.record("scale", **fields, **one._asdict())
        floor = found.get("py")
        ratios = ["-", "-"]
        if floor:
            ratios = [f"{one.boot_s / floor.boot_s:.2f}", f"{one.storm_s / floor.storm_s:.2f}"]
        sizes = [short(one.rss), short(one.tree_pss), str(one.descriptors)]
        rows.append([name, *map(short, one[:4]), *ratios, *sizes])
    header = (
        *("", "first s", "boot s", "storm s", "stop s", "boot ÷ py", "storm ÷ py"),
        *("RSS MiB", "tree PSS MiB", "descriptors"),
    )
    report.table(f"N = {count}, RLIMIT_NOFILE {nofile}", header, rows)
    _tell_failures(report, failed)


def refusal(place: Place, count: int, nofile: int, report: Report) -> None:
    """Offer ours a file that does not fit its descriptors: it should leave with 6 and a number."""
    with Session(SUBJECTS["ours"], place, Wish(count, nofile, patience=30.0)) as session:
        try:
            session.launch()
        except SubjectFailedError as error:
            report.say(f"refusal: left out: {error}")
            return
        code = session.wait_exit()
        started = len(session.inbox.take()) - 1
        text = session.text().strip()
    report.say(f"\n{count} services with RLIMIT_NOFILE {nofile}: exit {code} (aim 6), ")
    report.say(f"{started} services started (aim 0), words: {text[-400:] or '(none)'}")
    report.record("refusal", n=count, nofile=nofile, exit=code, started=started, text=text[-2000:])


# -- launch, broken down --------------------------------------------------------------------------


def _took(argv: tuple[str, ...], output: str, times: int = 7) -> float:
    """Return the median seconds from spawn to exit."""
    values = []
    for _ in range(times):
        begun = time.monotonic()
        child = linux.spawn(argv, ENV, output)
        linux.readable(child.pidfd, begun + 30)
        values.append(time.monotonic() - begun)
        linux.kill(child.pidfd, signal.SIGKILL)
        linux.readable(child.pidfd, begun + 40)
        linux.reap(child)
    return statistics.median(values)


def breakdown(place: Place, count: int, report: Report) -> None:
    """Tell where the time from launch to first service goes."""
    python = place.options.python
    with Session(SUBJECTS["ours"], place, Wish(count)) as session:
        try:
            booted = session.boot()
        except (SubjectFailedError, OSError) as error:
            report.say(f"breakdown: left out: {error}")
            return
        session.settle(1)
        zero = (time.time_ns() - time.monotonic_ns() + session.launched) / 1e9
        events = [json.loads(line) for line in session.text().splitlines() if line[:1] == "{"]
        config = os.path.join(session.directory, "ours.toml")
        output = os.path.join(session.directory, "parts")
        parts = {
            "python -I -c pass": (python, "-I", "-c", "pass"),
            "… import supervisord_pidfd.daemon": (
                *(python, "-I", "-c"),
                "import supervisord_pidfd.daemon",
            ),
            "… import pydantic, tomli": (python, "-I", "-c", "import pydantic, tomli"),
            "… -m supervisord_pidfd check FILE": (
                *(python, "-I", "-m", "supervisord_pidfd", "check", config),
            ),
        }
        rows = [[name, f"{1e3 * _took(argv, output):.1f}"] for name, argv in parts.items()]
    seen: set[str] = set()
    for event in events:
        if event.get("event") not in seen and "ts" in event:
            seen.add(event["event"])
            rows.append([f"first {event['event']}", f"{1e3 * (_epoch(event['ts']) - zero):.0f}"])
    rows.append(["first service's first instruction", f"{1e3 * booted.first:.1f}"])
    rows.append(["last service's first instruction", f"{1e3 * booted.last:.1f}"])
    note = verdict(1e3 * booted.first, 250)
    report.table(f"launch of ours, N = {count}, ms (first service: {note})", ("", "ms"), rows)
    report.record("breakdown", n=count, parts={name: float(value) for name, value in rows})


def _epoch(text: str) -> float:
    from datetime import datetime  # noqa: PLC0415  only this table needs it

    return datetime.fromisoformat(text).timestamp()


# -- leaks ----------------------------------------------------------------------------------------


class Leaks(NamedTuple):
    """What a supervisor holds while all its services run and none restarts."""

    restarts: int
    descriptors: int
    zombies: int
    processes: int  # of its tree, services left out
    rss_kib: int
    private_dirty_kib: int


class LoopPlan(NamedTuple):
    """A crash loop: how many services loop, how often, within which bound."""

    services: int = 10
    restarts: int = 10_000
    warm: int = 1_000  # restarts before the first look
    limit: float = 180.0  # s, for the restarts


class Looped(NamedTuple):
    """Before and after a long crash loop."""

    before: Leaks
    after: Leaks
    seconds: float


def _held(session: Session, restarts: int) -> Leaks:
    used = linux.memory(session.pid)
    return Leaks(
        restarts,
        linux.descriptors(session.pid),
        linux.zombies(session.pid),
        len(session.tree()),
        used.rss,
        used.private_dirty,
    )


def _freeze(session: Session, count: int) -> None:
    """Let the loops come to rest: with no harness to tell, each probe stays alive.

    At rest means: all services up, and no process of the subject has run for half a second, so
    that no backlog of events is left either.

    Raises:
        SubjectFailedError: It was not so within a minute.
    """
    session.inbox.close()
    deadline = time.monotonic() + 60
    before: tuple[int, dict[int, linux.Usage]] = (0, {})
    while time.monotonic() < deadline:
        linux.rest(0.5)
        below = linux.descendants(session.pid)
        now = sum(session.is_probe(one.pid) for one in below), _look(session)
        if now == before and now[0] == count:
            return
        before = now
    raise SubjectFailedError(f"not at rest after 60 s: {before[0]} of {count} services are up")


def _thaw(session: Session) -> None:
    """Go on looping."""
    session.inbox.open()
    below = [one for one in linux.descendants(session.pid) if session.is_probe(one.pid)]
    for pidfd in linux.hold_all(below):
        linux.kill(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _count_starts(session: Session, wanted: int, deadline: float) -> int:
    seen = 0
    while seen < wanted:
        if time.monotonic() > deadline:
            raise SubjectFailedError(f"{seen} of {wanted} restarts in time{session.tail()}")
        seen += len(session.inbox.wait(deadline))
    return seen


def crash_loop(subject: Subject, place: Place, plan: LoopPlan) -> Looped:
    """Restart crash-looping services many times; return what was held before and after.

    Both looks are taken at rest, in the same state: every service up, nothing pending.

    Raises:
        SubjectFailedError: It did not get there in `plan.limit` seconds.
    """
    deadline = time.monotonic() + plan.limit
    with Session(subject, place, Wish(plan.services, crash=True)) as session:
        session.launch()
        done = _count_starts(session, plan.warm, deadline)
        _freeze(session, plan.services)
        before = _held(session, done)
        begun = time.monotonic()
        _thaw(session)
        done += _count_starts(session, plan.restarts, deadline)
        took = time.monotonic() - begun
        _freeze(session, plan.services)
        return Looped(before, _held(session, done), took)


def leaks(subjects: Sequence[Subject], place: Place, restarts: int, report: Report) -> None:
    """Print what ten thousand restarts leave behind, with one and with ten services."""
    rows = []
    failed: dict[str, str] = {}
    for subject in subjects:
        if subject.least_life or subject.slow:
            continue  # held back: ten thousand restarts would take hours
        for services in (1, 10):
            progress(f"leaks: {subject.name}, {services} looping")
            try:
                found = crash_loop(subject, place, LoopPlan(services, restarts))
            except (SubjectFailedError, OSError) as error:
                failed[f"{subject.name} ({services} looping)"] = str(error)
                continue
            pairs = list(zip(found.before, found.after, strict=True))
            cells = [f"{before} → {after}" for before, after in pairs[1:]]
            speed = (found.after.restarts - found.before.restarts) / found.seconds
            rows.append([f"{subject.name} x{services}", str(restarts), *cells, f"{speed:.0f}"])
            report.record(
                "leaks",
                subject=subject.name,
                services=services,
                seconds=found.seconds,
                before=found.before._asdict(),
                after=found.after._asdict(),
            )
    progress("")
    header = (
        *("", "restarts", "descriptors", "zombies", "processes"),
        *("RSS KiB", "private dirty KiB", "restarts/s"),
    )
    report.table("crash loops", header, rows)
    _tell_failures(report, failed)
