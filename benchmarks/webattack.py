"""An attack on the gateway: what it costs restarts, and what it makes the gateway hold."""

import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator

from benchmarks import linux
from benchmarks.build import HERE
from benchmarks.gateway import Simulation, gateway_of
from benchmarks.report import Report, percentile, progress, short, verdict
from benchmarks.session import ENV, Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS

ROUNDS, KILLS, SERVICES = 12, 50, 10
RATIO_AIM, RSS_AIM_MB = 2.0, 250
SECONDS = 20
"""How long a gateway of thousands of services is attacked."""


@contextlib.contextmanager
def _program(place: Place, name: str, *argv: str) -> Iterator[linux.Child]:
    """Run one of our programs; it must not end by itself."""
    output = os.path.join(place.directory, name)
    command = (place.options.python, "-I", os.path.join(HERE, name), *argv)
    child = linux.spawn(command, ENV, output)
    try:
        yield child
        if linux.readable(child.pidfd, 0):
            raise SubjectFailedError(f"{name} ended: {linux.read(output)[-500:]}")
    finally:
        linux.kill(child.pidfd, signal.SIGKILL)
        linux.readable(child.pidfd, time.monotonic() + 5)
        linux.reap(child)


# -- restarts -------------------------------------------------------------------------------------


def restarts(place: Place, report: Report) -> None:
    """Kill services in blocks, by turns in quiet and under attack; compare the 99th percentiles.

    The core and its services have one processor; gateway, attacker and harness the other.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        report.say("attacked gateway: left out: it takes two processors")
        return
    quiet: list[list[float]] = []
    attacked: list[list[float]] = []
    os.sched_setaffinity(0, processors[:1])
    try:
        with Session(SUBJECTS["ours"], place, Wish(SERVICES, metrics=True, web=True)) as session:
            session.boot()
            os.sched_setaffinity(0, processors[1:])
            os.sched_setaffinity(gateway_of(session), processors[1:])
            session.settle(1)
            for turn in range(ROUNDS):
                progress(f"attacked gateway, round {turn}")
                for blocks in random.sample((quiet, attacked), 2):
                    blocks.append(_block(session, place, attacked=blocks is attacked))
    finally:
        os.sched_setaffinity(0, processors)
    progress("")
    _show(quiet, attacked, report)


def _block(session: Session, place: Place, *, attacked: bool) -> list[float]:
    """Kill one service after the other for a while; return how long each was away, in ms."""
    found = []
    with contextlib.ExitStack() as stack:
        if attacked:
            stack.enter_context(_program(place, "webattacker.py", session.web_address))
            linux.rest(0.5)
        for _ in range(KILLS):
            linux.rest(0.01)
            found.append(session.restart(random.randrange(SERVICES)) * 1e3)
    linux.rest(0.2)
    return found


def _show(quiet: list[list[float]], attacked: list[list[float]], report: Report) -> None:
    rows = []
    for name, blocks in (("quiet", quiet), ("under attack", attacked)):
        times = [one for block in blocks for one in block]
        report.record("web-attack", which=name, n=SERVICES, ms=[round(one, 3) for one in times])
        middle, high = statistics.median(times), percentile(times, 0.99)
        rows.append([name, short(middle), short(high), short(max(times))])
    report.table(
        f"restarts of {SERVICES} services, {ROUNDS} x {KILLS} each, while the gateway is attacked",
        ("", "median ms", "p99 ms", "most ms"),
        rows,
    )
    ratio = _ratio(quiet, attacked)
    without_one = [
        _ratio(quiet[:at] + quiet[at + 1 :], attacked[:at] + attacked[at + 1 :])
        for at in range(ROUNDS)
    ]
    report.record("web-attack-ratio", p99=ratio, without_one=without_one)
    report.say(
        f"p99 under attack ÷ quiet: {ratio:.2f}, without one of the rounds"
        f" [{min(without_one):.2f}, {max(without_one):.2f}] ({verdict(ratio, RATIO_AIM)})"
    )


def _ratio(quiet: list[list[float]], attacked: list[list[float]]) -> float:
    high, low = (
        percentile([one for block in blocks for one in block], 0.99)
        for blocks in (attacked, quiet)
    )
    return high / low


# -- memory ---------------------------------------------------------------------------------------


def memory(place: Place, count: int, report: Report) -> None:
    """Attack a gateway of thousands of services; report the most memory that it ever had."""
    progress(f"attacked gateway: {count} simulated services")
    path = os.path.join(place.directory, "gateway.sock")
    with _program(place, "fakecore.py", path, str(count)) as core:
        deadline = time.monotonic() + 30
        while not os.path.exists(path):
            if time.monotonic() > deadline or linux.readable(core.pidfd, 0):
                raise SubjectFailedError("fakecore.py does not listen")
            linux.rest(0.05)
        with Simulation(place, count, 15.0, socket_path=path) as simulation:
            before = linux.memory(simulation.pid).rss / 1024
            with _program(place, "webattacker.py", simulation.web_address):
                simulation.answer_for(SECONDS)
            most = _high_water_mb(simulation.pid)
            answered = simulation.answered.most_common()
    progress("")
    report.record("web-attack-rss", n=count, before_mb=round(before), most_mb=round(most))
    report.say(
        f"a gateway of {count} services, attacked for {SECONDS} s: {before:.0f} MB before,"
        f" at most {most:.0f} MB ({verdict(most, RSS_AIM_MB)})"
    )
    told = ", ".join(f"{handler} {code}: {number}" for (handler, code), number in answered)
    report.say(f"answered meanwhile: {told}")


def _high_water_mb(pid: int) -> float:
    for line in linux.read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SubjectFailedError("the gateway ended")
