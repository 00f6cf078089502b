"""What the graph of dependencies costs: each doubling of it, from 500 services to 4,000.

The graphs are made of one seed: every service waits for up to four earlier ones. Measured is the
processor time of all that the planner does with a configuration: the search for a cycle, the graph
itself, an order, who starts along, who stops along, and a walk of the gate through a start of all.
"""

import gc
import random
import statistics
import time

from benchmarks.report import Report, progress, short, verdict
from supervisord_pidfd.core.gate import Gate
from supervisord_pidfd.core.planner import Graph, View, find_cycle
from supervisord_pidfd.core.shares import shares
from supervisord_pidfd.core.spec import Condition, Dependency, ServiceSpec, Tie

SIZES = (500, 1000, 2000, 4000)
AIM = 2.4
ROUNDS = 25
EDGES = 4
_READY, _COMING = View(started=True, ready=True, gone=False), View(gone=False, waiting=True)


def specs_of(size: int) -> dict[str, ServiceSpec]:
    """Make a graph without cycles, the same for each run."""
    chance = random.Random(size)
    specs = {}
    for index in range(size):
        targets = {chance.randrange(index) for _ in range(min(index, EDGES))}
        edges = tuple(
            Dependency(f"s{target}", chance.choice(tuple(Tie)), Condition.READY)
            for target in sorted(targets)
        )
        specs[f"s{index}"] = ServiceSpec(f"s{index}", ("/bin/true",), dependencies=edges)
    return specs


def plan(specs: dict[str, ServiceSpec]) -> None:
    """Do all that the planner does with a configuration."""
    find_cycle({name: [edge.target for edge in one.dependencies] for name, one in specs.items()})
    graph = Graph(specs)
    graph.starts_with(specs)
    graph.stops_with(specs)
    shares(graph, dict.fromkeys(specs, 10.0), 78.0)
    views = dict.fromkeys(specs, _COMING)
    gate = Gate(graph, views.__getitem__)
    for name in graph.order(specs):
        if gate.blocker(name) is not None:
            raise AssertionError(name)
        views[name] = _READY
        gate.follow(name)


def _cost(specs: dict[str, ServiceSpec]) -> float:
    """Return milliseconds of processor time; of others on the machine it knows nothing."""
    begun = time.process_time_ns()
    plan(specs)
    return (time.process_time_ns() - begun) / 1e6


def doublings(report: Report) -> None:
    """Measure all sizes in turn, and compare each with the one before it in the same round."""
    graphs = {size: specs_of(size) for size in SIZES}
    costs: dict[int, list[float]] = {size: [] for size in SIZES}
    gc.collect()
    gc.disable()  # as in the daemon
    try:
        for turn in range(ROUNDS):
            progress(f"planner, round {turn}")
            for size, specs in graphs.items():
                costs[size].append(_cost(specs))
    finally:
        gc.enable()
    progress("")
    rows = []
    before: list[float] | None = None
    for size, times in costs.items():
        ratio = (
            statistics.median(a / b for a, b in zip(times, before, strict=True)) if before else 1.0
        )
        rows.append(
            [
                str(size),
                f"{statistics.median(times):.1f}",
                f"{min(times):.1f}",
                short(ratio) if before else "",
                verdict(ratio, AIM) if before else "",
            ]
        )
        report.record("graph", n=size, ms=times, ratio=round(ratio, 2))
        before = times
    header = ("services", "ms CPU, median", "least", "÷ half the size", "aim")
    report.table(f"the planner, {EDGES} edges each, {ROUNDS} rounds", header, rows)
