"""Many services that write steadily: is every line kept, and do restarts take longer?

Two hundred programs write 1,000 numbered lines of 100 bytes a second each, ten by ten. Meanwhile
other services are killed. By turns the lines go to files, through our logger, and to /dev/null.
What is in the files is compared with what was sent, byte for byte and service by service.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import linux
from benchmarks.build import HERE, Pipes
from benchmarks.loggers import LINE_BYTES
from benchmarks.report import Report, percentile, progress, short
from benchmarks.session import Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS, Site, Subject

PROBES = 20
LINES_A_TICK = 10
TICK_US = 10_000
LINES_A_SECOND = LINES_A_TICK * 1_000_000 // TICK_US
SETTLE_S = 1.0
GAP_S = 0.02
ROTATE = "256KiB"
PLACES = {"files": '["file"]', "/dev/null": '["null"]', "nobody writes": ""}


class Load(NamedTuple):
    """What is asked: so many services, each for so long; how often."""

    services: int
    seconds: int
    rounds: int


class Run(NamedTuple):
    """Hold what one turn has shown."""

    restarts: list[float]  # ms, SIGKILL to the next first instruction
    exits: list[float]  # ms, waking for an exit to having acted on it
    sent: int  # lines
    kept: int
    wrong: list[str]  # services whose files are not what they wrote
    core_cpu: float  # s for each second
    logger_cpu: float
    late: float  # s, how much longer than planned the slowest writer took


def _subject(to: str, pipes: Pipes, load: Load, noted: str) -> Subject:
    ours = SUBJECTS["ours"]

    def prepare(site: Site, python: str) -> list[str]:
        words = ours.prepare(site, python)
        with open(os.path.join(site.directory, "ours.toml"), "a", encoding="utf-8") as file:
            for index in range(load.services if to else 0):
                report = os.path.join(site.directory, f"sent{index}")
                lines = load.seconds * LINES_A_SECOND
                argv = [pipes.numbers, f"w{index}", LINES_A_TICK, TICK_US, lines, report]
                command = ", ".join(f'"{word}"' for word in argv)
                file.write(
                    f'[service.w{index}]\ncommand = [{command}]\nrestart = "no"\nlog.to = {to}\n'
                )
                if "file" in to:
                    file.write(f'log.rotate_size = "{ROTATE}"\nlog.rotate_keep = 1000\n')
        at = words.index("-m")
        return [*words[:at], os.path.join(HERE, "watched.py"), noted, *words[at + 2 :]]

    return dataclasses.replace(ours, prepare=prepare)


def _expected(index: int, lines: int) -> bytes:
    """Return what a writer wrote; see numbers.c."""
    head = f" {f'w{index}':<8} ".encode()
    tail = head + bytes(ord("a") + at % 23 for at in range(10 + len(head), LINE_BYTES - 1))
    return b"".join(b"%010d%s\n" % (number, tail) for number in range(lines))


def _kept(directory: str, name: str) -> bytes:
    """Return what is in a service's files, the oldest first."""
    found = [one for one in os.listdir(directory) if one.startswith(f"{name}.log")]
    ages = {one: int(one.rpartition(".")[2]) if one[-1].isdigit() else 0 for one in found}
    data = b""
    for one in sorted(found, key=lambda one: -ages[one]):
        with open(os.path.join(directory, one), "rb") as file:
            data += file.read()
    return data


def _logger_of(session: Session) -> int:
    """Wait for the logger, which starts beside the services; return its pid."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for pid in session.tree():
            if "supervisord_pidfd.logger" in linux.command(pid):
                return pid
        linux.rest(0.1)
    raise SubjectFailedError("there is no logger")


def _cpu(pids: Sequence[int]) -> list[float]:
    return [linux.usage(pid).cpu_ms / 1e3 for pid in pids]


def _turn(to: str, place: Place, pipes: Pipes, load: Load) -> Run:
    noted = os.path.join(place.directory, "noted.json")
    subject = _subject(to, pipes, load, noted)
    with Session(subject, place, Wish(PROBES, patience=120.0)) as session:
        session.boot()
        session.settle(SETTLE_S)
        begun = time.monotonic()
        pids = [session.pid, _logger_of(session)]
        before = _cpu(pids)
        restarts: list[float] = []
        while time.monotonic() < begun + load.seconds - 2 * SETTLE_S:
            restarts.append(session.restart(len(restarts) % PROBES) * 1e3)
            session.settle(GAP_S)
        ended = time.monotonic()
        core, logger = (
            (now - then) / (ended - begun) for now, then in zip(_cpu(pids), before, strict=True)
        )
        late = _await_writers(session, load, begun) if to else 0.0
        session.stop()
        with open(noted, encoding="utf-8") as file:
            exits = json.load(file)["exits"]
        during = [seconds * 1e3 for moment, seconds in exits if begun <= moment <= ended]
        return _compared(
            session.directory, to, load, Run(restarts, during, 0, 0, [], core, logger, late)
        )


def _await_writers(session: Session, load: Load, begun: float) -> float:
    """Wait until each has said how much it has sent; return how late the last one is, in s."""
    reports = [os.path.join(session.directory, f"sent{index}") for index in range(load.services)]
    until = time.monotonic() + 60
    for report in reports:
        while not linux.read(report).endswith("\n"):
            if time.monotonic() > until:
                raise SubjectFailedError(f"{report} is not written: writers are held up")
            linux.rest(0.05)
    return max(0.0, time.monotonic() - begun - load.seconds)


def _compared(directory: str, to: str, load: Load, run: Run) -> Run:
    sent = kept = 0
    wrong = []
    for index in range(load.services if to else 0):
        lines = int(linux.read(os.path.join(directory, f"sent{index}")))
        sent += lines
        if "file" in to:
            data = _kept(os.path.join(directory, "log_dir"), f"w{index}")
            kept += data.count(b"\n")
            if data != _expected(index, lines):
                wrong.append(f"w{index}")
    return run._replace(sent=sent, kept=kept, wrong=wrong)


def measure(place: Place, pipes: Pipes, load: Load, report: Report) -> None:
    """Run all kinds in turns, and show them."""
    found: dict[str, list[Run]] = {name: [] for name in PLACES}
    for turn in range(load.rounds):
        names = list(PLACES)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            progress(f"logload, round {turn + 1}: {name}")
            try:
                run = _turn(PLACES[name], place, pipes, load)
            except (SubjectFailedError, OSError) as error:
                report.say(f"{name}: {error}")
                continue
            found[name].append(run)
            report.record("logload", to=name, **load._asdict(), **run._asdict())
    progress("")
    rows = [_row(name, runs) for name, runs in found.items() if runs]
    header = (
        *("lines go to", "lines sent", "kept", "services wrong", "last s late"),
        *("exit handling ms", "p99", "restart ms", "p99", "core CPU", "logger CPU"),
    )
    title = f"{load.services} services, {LINES_A_SECOND} lines/s each for {load.seconds} s"
    report.table(f"{title}; {load.rounds} rounds", header, rows)


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    exits = [one for run in runs for one in run.exits]
    restarts = [one for run in runs for one in run.restarts]
    writes = name == "files"
    return [
        name,
        str(sum(run.sent for run in runs)),
        str(sum(run.kept for run in runs)) if writes else "-",
        str(sum(len(run.wrong) for run in runs)) if writes else "-",
        f"{max(run.late for run in runs):.1f}",
        *(f"{short(value)}" for value in (statistics.median(exits), percentile(exits, 0.99))),
        *(
            f"{short(value)}"
            for value in (statistics.median(restarts), percentile(restarts, 0.99))
        ),
        *(
            f"{100 * statistics.median(values):.0f} %"
            for values in ([run.core_cpu for run in runs], [run.logger_cpu for run in runs])
        ),
    ]
