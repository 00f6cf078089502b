"""The control socket: a status of thousands, and what attackers cost those who are restarted."""

import dataclasses
import json
import os
import random
import signal
import statistics
import time
from typing import NamedTuple

from benchmarks import linux
from benchmarks.build import HERE
from benchmarks.report import Report, percentile, progress, short, spread, verdict
from benchmarks.session import ENV, Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS, Site

ROUNDS, KILLS = 12, 50
SERVICES = 10
STATUS_AIM_MS, TURN_AIM_MS, RATIO_AIM = 200.0, 5.0, 2.0
CALLS = 20


def socket_of(session: Session) -> str:
    """Say where a session's control socket is."""
    return os.path.join(session.directory, "runtime_dir", "control.sock")


# -- a status of thousands ------------------------------------------------------------------------


def status(place: Place, count: int, report: Report) -> None:
    """Measure `pidfdctl status` with many services, and the core's longest turn meanwhile."""
    pidfdctl = os.path.join(os.path.dirname(place.options.python), "pidfdctl")
    if not os.path.exists(pidfdctl):
        report.say(f"pidfdctl: left out: it is not beside {place.options.python}")
        return
    turns = os.path.join(place.directory, "turns.json")
    ours = SUBJECTS["ours"]

    def prepare(site: Site, python: str) -> list[str]:
        words = ours.prepare(site, python)
        at = words.index("-m")
        return [*words[:at], os.path.join(HERE, "watched.py"), turns, *words[at + 2 :]]

    took, moments = [], []
    with Session(dataclasses.replace(ours, prepare=prepare), place, Wish(count)) as session:
        progress(f"control: booting {count}")
        session.boot()
        session.settle(2)
        command = (pidfdctl, "-s", socket_of(session), "status", "--json")
        output = os.path.join(place.directory, "status")
        for _ in range(CALLS + 1):
            begun = time.monotonic()
            child = linux.spawn(command, ENV, output)
            linux.readable(child.pidfd, time.monotonic() + 30)
            moments.append((begun, time.monotonic()))
            took.append((moments[-1][1] - begun) * 1e3)
            if linux.reap(child) != 0:
                raise SubjectFailedError(f"pidfdctl failed: {linux.read(output)[-200:]}")
            os.unlink(output)
        session.stop()
    progress("")
    with open(turns, encoding="utf-8") as file:
        noted = json.load(file)["turns"]
    during = [turn[1:] for turn in noted if any(a <= turn[0] <= b for a, b in moments)]
    _show_status(took[1:], during, count, report)  # the first one finds no bytecode in memory


def _show_status(
    took: list[float], turns: list[tuple[float, float]], count: int, report: Report
) -> None:
    longest, spent = (max((turn[i] for turn in turns), default=0.0) * 1e3 for i in (0, 1))
    report.record("status", n=count, ms=took, longest_turn_ms=longest, most_cpu_ms=spent)
    report.table(
        f"pidfdctl status, N = {count}, {CALLS} times, from its start to its end",
        ("", "ms", "aim", "longest turn ms", "of it CPU", "aim"),
        [[
            "ours", spread(took), verdict(statistics.median(took), STATUS_AIM_MS),
            short(longest), short(spent), verdict(spent, TURN_AIM_MS),
        ]],
    )  # fmt: skip


# -- under attack ---------------------------------------------------------------------------------


class Latencies(NamedTuple):
    """From SIGKILL to the next instance's first instruction, in milliseconds."""

    quiet: list[float]
    attacked: list[float]


def attack(place: Place, report: Report) -> None:
    """Kill services in blocks, by turns in quiet and under attack; compare the 99th percentiles.

    The core and its services have one processor, the attackers and the harness the other.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        report.say("attack: left out: it takes two processors")
        return
    found = Latencies([], [])
    os.sched_setaffinity(0, processors[:1])
    try:
        with Session(SUBJECTS["ours"], place, Wish(SERVICES)) as session:
            session.boot()
            os.sched_setaffinity(0, processors[1:])
            session.settle(1)
            for turn in range(ROUNDS):
                progress(f"attack, round {turn}")
                blocks = [found.quiet, found.attacked]
                random.shuffle(blocks)
                for block in blocks:
                    _measure(session, place, block, attacked=block is found.attacked)
    finally:
        os.sched_setaffinity(0, processors)
    progress("")
    _show(found, report)


def _measure(session: Session, place: Place, into: list[float], *, attacked: bool) -> None:
    attacker = None
    if attacked:
        program = os.path.join(HERE, "attacker.py")
        argv = (place.options.python, "-I", program, socket_of(session))
        attacker = linux.spawn(argv, ENV, os.path.join(place.directory, "attacker"))
        linux.rest(0.5)
    try:
        for _ in range(KILLS):
            linux.rest(0.01)
            into.append(session.restart(random.randrange(SERVICES)) * 1e3)
        if attacker is not None and linux.readable(attacker.pidfd, 0):
            raise SubjectFailedError("the attacker ended")
    finally:
        if attacker is not None:
            linux.kill(attacker.pidfd, signal.SIGKILL)
            linux.readable(attacker.pidfd, time.monotonic() + 5)
            linux.reap(attacker)
            linux.rest(0.2)


def _show(found: Latencies, report: Report) -> None:
    rows = []
    for name, times in found._asdict().items():
        report.record("attack", which=name, n=SERVICES, ms=[round(one, 3) for one in times])
        middle, high = statistics.median(times), percentile(times, 0.99)
        rows.append([name, short(middle), short(high), short(max(times))])
    ratio = percentile(found.attacked, 0.99) / percentile(found.quiet, 0.99)
    report.table(
        f"restarts of {SERVICES} services, {ROUNDS} x {KILLS} each; the core has a processor",
        ("", "median ms", "p99 ms", "most ms"),
        rows,
    )
    report.say(f"p99 under attack ÷ quiet: {ratio:.2f} ({verdict(ratio, RATIO_AIM)})")
    report.record("attack-ratio", p99=round(ratio, 2))
