"""Restart, storm, boot and stop: rounds in which the subjects take turns in random order.

Quiet subjects (no restart takes a second) run side by side within a round, all idle but one, so
that their turns are milliseconds apart. Slow ones (Supervisor, plain s6) wake up by themselves
or wait a second; each has the machine to itself, in fewer rounds. Every round launches afresh.
"""

import contextlib
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import linux
from benchmarks.report import Report, percentile, progress, short, spread, verdict
from benchmarks.session import Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS, Subject

AIMS = {  # measure -> floor -> the largest ratio we allow ourselves
    "restart": {"py": 1.25, "c": 1.5},
    "storm": {"py": 1.5},
}
_SLOW_ROUNDS, _SLOW_KILLS, _SLOW_STORMS = 3, 4, 1


@dataclass(frozen=True, slots=True)
class Load:
    """How much of everything; the bounds of a run."""

    rounds: int = 7
    kills: int = 30
    block: int = 10
    storms: int = 3
    ripe_kills: int = 4  # where each kill has to wait for the service to have lived
    gap: float = 0.01  # s between two kills: the subject is at rest, as it is in life
    calm: float = 0.0  # s to wait at most, before each turn, for others to leave the machine
    patience: float = 60.0


@dataclass(slots=True)
class Findings:
    """Seconds by measure, subject and round; what failed, and why."""

    count: int
    seconds: dict[str, dict[str, dict[int, list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )
    failed: dict[str, str] = field(default_factory=dict)
    turns: int = 0
    disturbed: int = 0  # turns that began although others kept the machine busy

    def add(self, measure: str, session: Session, turn: int, value: float) -> None:
        """Keep one value."""
        self.seconds[measure][session.subject.name][turn].append(value)

    def medians(self, measure: str, name: str) -> dict[int, float]:
        """Return the median of each round."""
        rounds = self.seconds[measure][name]
        return {turn: statistics.median(values) for turn, values in rounds.items() if values}

    def ratios(self, measure: str, name: str, floor: str) -> list[float]:
        """Return, for each round that both were in, how many times slower than the floor."""
        ours, theirs = self.medians(measure, name), self.medians(measure, floor)
        return [ours[turn] / theirs[turn] for turn in ours if turn in theirs]


def _attempt(found: Findings, session: Session, act: Callable[[Session], None]) -> None:
    """Do one thing with one subject; a failure ends that subject only, for this count."""
    name = session.subject.name
    if name in found.failed:
        return
    try:
        act(session)
    except (SubjectFailedError, OSError) as error:
        found.failed[name] = str(error)
        session.close()


class _Round:
    """One round of one group of subjects that run side by side."""

    def __init__(self, found: Findings, load: Load, turn: int) -> None:
        self.found = found
        self.load = load
        self.turn = turn

    def run(self, sessions: Sequence[Session]) -> None:
        self._each(sessions, self._boot)
        for block in self._blocks():
            self._each(sessions, lambda session, block=block: self._kill(session, block))  # type: ignore[misc]
        for _ in range(self.load.storms if self.found.count > 1 else 0):
            self._each(sessions, self._storm)
        self._each(sessions, self._stop)

    def _each(self, sessions: Sequence[Session], act: Callable[[Session], None]) -> None:
        for session in random.sample(sessions, len(sessions)):
            if self.load.calm:
                self.found.turns += 1
                self.found.disturbed += not linux.calm(self.load.calm)
            _attempt(self.found, session, act)

    def _blocks(self) -> Iterator[range]:
        for begin in range(0, self.load.kills, self.load.block):
            yield range(begin, min(self.load.kills, begin + self.load.block))

    def _boot(self, session: Session) -> None:
        booted = session.boot()
        self.found.add("boot-first", session, self.turn, booted.first)
        self.found.add("boot", session, self.turn, booted.last)
        session.settle(0.3)

    def _kill(self, session: Session, block: range) -> None:
        most = _SLOW_KILLS if session.subject.slow else self.load.kills
        if session.subject.least_life and self.found.count < self.load.kills:
            most = min(most, self.load.ripe_kills)
        todo = [number for number in block if number < most]
        # A service that has rested longest is killed next, so that none is held back for long.
        for index in sorted(session.starts, key=lambda i: session.starts[i].moment)[: len(todo)]:
            self._restart(session, index)
        for _ in range(len(todo) - self.found.count):
            self._restart(session, random.randrange(self.found.count))

    def _restart(self, session: Session, index: int) -> None:
        self.found.add("restart", session, self.turn, session.restart(index))
        if session.settle(self.load.gap):
            raise SubjectFailedError("a service started that was not killed")

    def _storm(self, session: Session) -> None:
        if session.subject.slow and self.found.seconds["storm"][session.subject.name][self.turn]:
            return
        self.found.add("storm", session, self.turn, session.storm())
        session.settle(0.1)

    def _stop(self, session: Session) -> None:
        session.ripen(session.starts)
        self.found.add("stop", session, self.turn, session.stop())


def _groups(subjects: Sequence[Subject], turn: int) -> list[list[Subject]]:
    quiet = [subject for subject in subjects if not subject.slow]
    slow = [[subject] for subject in subjects if subject.slow and turn < _SLOW_ROUNDS]
    groups = [quiet, *slow] if quiet else slow
    return random.sample(groups, len(groups))


def measure(subjects: Sequence[Subject], place: Place, count: int, load: Load) -> Findings:
    """Run all rounds at one number of services."""
    found = Findings(count)
    for subject in subjects:
        if count > subject.most:
            found.failed[subject.name] = f"takes {subject.most} services at most"
    for turn in range(load.rounds):
        for group in _groups(subjects, turn):
            names = [subject.name for subject in group if subject.name not in found.failed]
            progress(f"N={count} round {turn + 1}/{load.rounds}: {' '.join(names)}")
            with contextlib.ExitStack() as stack:
                sessions = [
                    stack.enter_context(Session(one, place, Wish(count, patience=load.patience)))
                    for one in group
                    if one.name in names
                ]
                _Round(found, load, turn).run(sessions)
    progress("")
    return found


_TITLES = {
    "boot-first": ("launch to first service", 1e3, "ms"),
    "boot": ("launch to last service", 1e3, "ms"),
    "restart": ("restart: SIGKILL to the next first instruction", 1e6, "µs"),
    "storm": ("storm: all killed at once, until all are back", 1e3, "ms"),
    "stop": ("stop: request to everything gone", 1e3, "ms"),
}


def _row(found: Findings, measure_name: str, name: str) -> list[str]:
    _, scale, _ = _TITLES[measure_name]
    rounds = found.seconds[measure_name][name]
    every = [value * scale for values in rounds.values() for value in values]
    cells = [name, str(len(rounds)), str(len(every))]
    cells.append(spread([value * scale for value in found.medians(measure_name, name).values()]))
    cells.append(short(percentile(every, 0.99)))
    for floor in ("py", "c"):
        ratios = found.ratios(measure_name, name, floor)
        cell = spread(ratios)
        aim = AIMS.get(measure_name, {}).get(floor)
        if ratios and aim and name == "ours":
            cell += " " + verdict(statistics.median(ratios), aim)
        cells.append(cell)
    return cells


def show(found: Findings, report: Report, measures: Sequence[str]) -> None:
    """Print the tables and write every value."""
    for name in measures:
        if name == "boot-first" and found.count == 1:
            continue  # the first is the last
        title, scale, unit = _TITLES[name]
        names = [one for one in SUBJECTS if any(found.seconds[name][one].values())]
        header = ("", "rounds", "values", f"{unit}, medians of rounds", "p99", "÷ py", "÷ c")
        if names:
            rows = [_row(found, name, subject) for subject in names]
            report.table(f"{title}, N = {found.count}", header, rows)
        for subject in names:
            for turn, values in found.seconds[name][subject].items():
                scaled = [round(value * scale, 3) for value in values]
                fields = {"subject": subject, "n": found.count, "round": turn, "unit": unit}
                report.record(name, **fields, values=scaled)
    if found.turns:
        report.say(f"{found.disturbed} of {found.turns} turns began on a busy machine")
    for subject, why in found.failed.items():
        report.say(f"{subject}: left out at N = {found.count}: {why}")
        report.record("failed", subject=subject, n=found.count, why=why)
