"""Commands in flight: what each asked of which services, how it goes, and who waits for it.

A change lives on when its client leaves. A newer command on a service ends the older one's wait
with `superseded`, unless both ask for the same: two that start it both want it up. Nothing here
starts or stops anything but a rolling restart, which goes on when an instance is ready.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.goals import Asked, Goal, Verdict, judge
from supervisord_pidfd.core.lifecycle import ServiceState
from supervisord_pidfd.core.notices import ServiceReloaded, ServiceReloadFailed, Told
from supervisord_pidfd.core.words import length
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of

KEPT = 64
OUTCOMES_KEPT = 2000
"""How many changes that nobody waits for are known by their number, and how much they say."""


class Outcome(NamedTuple):
    """Hold how a change went for one service."""

    service: str
    ok: bool
    phase: str
    message: str
    took_s: float


class Waiter:
    """Be somebody who waits for a change.

    `finished` takes each outcome as it comes; `over` is called at the end, `timed_out` instead of
    it if the change takes longer than `timeout` seconds. Either is called once.
    """

    def __init__(
        self,
        finished: Callable[[Outcome], None],
        over: Callable[["Change"], None],
        timed_out: Callable[["Change"], None],
        timeout: float = math.inf,
    ) -> None:
        self.finished = finished
        self.over = over
        self.timed_out = timed_out
        self.timeout = timeout
        self.give_up_at = math.inf


class Change:
    """Hold one command and what became of it, service by service."""

    def __init__(self, ident: int, verb: str, begun: float) -> None:
        self.ident = ident
        self.verb = verb
        self.begun = begun
        self.open: dict[str, Asked] = {}
        self.again: dict[str, float] = {}
        self.outcomes: list[Outcome] = []
        self.waiters: list[Waiter] = []
        self.rest: deque[str] = deque()
        self.restart_next: Callable[[str], Asked] | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether every service has its outcome."""
        return not self.open and not self.rest


class Changes:
    """Follow all commands in flight."""

    def __init__(self, loop: Loop, services: Mapping[str, Service]) -> None:
        self._loop = loop
        self._services = services
        self._deadline = loop.deadline(self._look_again)
        self._look_at = math.inf
        self._last = 0
        self._of: dict[str, list[Change]] = {}
        self._changes: dict[int, Change] = {}

    def find(self, ident: int) -> Change | None:
        """Return a change by its number, if it is under way or among the last."""
        return self._changes.get(ident)

    # -- beginnings -------------------------------------------------------------------------------

    def begin(self, verb: str, asked: Mapping[str, Asked]) -> Change:
        """Note a command; called just before what it asks is posted, followed by `look`."""
        change = self._new(verb)
        self.extend(change, asked)
        return change

    def extend(self, change: Change, asked: Mapping[str, Asked]) -> None:
        """Let a command follow more services: those that went along, followed by `look`."""
        for name, what in asked.items():
            self._ask(change, name, what)

    def roll(self, names: Iterable[str], restart: Callable[[str], Asked]) -> Change:
        """Restart one after the other, each ready before the next; end at the first failure.

        `restart` posts the restart of one service and says what was asked of it.
        """
        change = self._new("restart")
        change.rest.extend(names)
        change.restart_next = restart
        self._go_on(change)
        return change

    def note(self, change: Change, name: str, message: str, *, ok: bool = False) -> None:
        """Add what became of a service of which nothing more is asked."""
        self._add(change, Outcome(name, ok, _phase(self._services.get(name)), message, 0.0))

    def wait_for(self, asked: Mapping[str, Asked]) -> Change:
        """Wait for services without asking anything of them; supersedes nothing."""
        change = self._new("wait")
        for name, what in asked.items():
            change.open[name] = what
            self._of.setdefault(name, []).append(change)
        return change

    def look(self, change: Change) -> None:
        """Judge a change now: much of it may be true already."""
        for name in tuple(change.open):
            self._judge(change, name)
        self._settle(change)

    def _new(self, verb: str) -> Change:
        self._last += 1
        self._prune()
        change = Change(self._last, verb, self._loop.clock.now())
        self._changes[change.ident] = change
        return change

    def _prune(self) -> None:
        """Forget changes that nobody waits for: those that are over first, the oldest first.

        A restart that still rolls stays.
        """
        too_many = len(self._changes) - KEPT + 1
        said = sum(len(change.outcomes) for change in self._changes.values())
        idle = [one for one in self._changes.values() if not (one.waiters or one.rest)]
        for change in sorted(idle, key=lambda one: not one.is_over):
            if too_many <= 0 and said <= OUTCOMES_KEPT:
                return
            del self._changes[change.ident]
            for name in change.open:
                self._drop(name, change)
            change.open.clear()
            too_many -= 1
            said -= len(change.outcomes)

    def _drop(self, name: str, change: Change) -> None:
        self._of[name].remove(change)
        if not self._of[name]:
            del self._of[name]

    def _ask(self, change: Change, name: str, asked: Asked) -> None:
        for older in tuple(self._of.get(name, ())):
            same = older.verb == change.verb and older.verb in {"start", "stop"}
            if older.verb != "wait" and not same and older is not change:
                self._close(older, name, Verdict(False, f"superseded by change {change.ident}"))
                self._settle(older)
        change.open[name] = asked
        self._of.setdefault(name, []).append(change)

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, change: Change, waiter: Waiter) -> None:
        """Have somebody wait; what is known already is told at once."""
        for outcome in change.outcomes:
            waiter.finished(outcome)
        if change.is_over:
            waiter.over(change)
            return
        waiter.give_up_at = self._loop.clock.now() + waiter.timeout
        change.waiters.append(waiter)
        self._arm(waiter.give_up_at)

    def leave(self, change: Change, waiter: Waiter) -> None:
        """Forget somebody who waited; the change goes on."""
        if waiter in change.waiters:
            change.waiters.remove(waiter)

    def unfinished(self, change: Change) -> list[Outcome]:
        """Return what to tell whoever cannot wait longer: where each open service is."""
        took = self._loop.clock.now() - change.begun
        open_ones = [(name, self._services.get(name)) for name in (*change.open, *change.rest)]
        return [
            Outcome(name, False, _phase(service), _phase(service), took)
            for name, service in open_ones
        ]

    # -- what happens -----------------------------------------------------------------------------

    def changed(self, service: Service, _before: ServiceState) -> None:
        """Follow a service's state: a listener of the supervisor."""
        for change in tuple(self._of.get(service.name, ())):
            self._judge(change, service.name)
            self._settle(change)

    def removed(self, name: str) -> None:
        """Take note that a service is gone."""
        for change in tuple(self._of.get(name, ())):
            down = change.open[name].goal in {Goal.GONE, Goal.DOWN}
            self._close(change, name, Verdict(down, "removed"))
            self._settle(change)

    def told(self, _wall: float, told: Told) -> None:
        """Follow the notices: how a reload went is told, and not to be seen in a state."""
        match told.notice:
            case ServiceReloaded(took_s):
                verdict = Verdict(True, f"reloaded (in {length(took_s)})")
            case ServiceReloadFailed(error):
                verdict = Verdict(False, f"cannot reload: {error}; the old process stays")
            case _:
                return
        name = told.service or ""
        for change in tuple(self._of.get(name, ())):
            asked = change.open[name]
            if asked.goal is not Goal.RELOADED:
                continue
            if asked.reloads > 1:
                change.open[name] = asked._replace(reloads=asked.reloads - 1)
                continue
            self._close(change, name, verdict)
            self._settle(change)

    def supersede_all(self, why: str) -> None:
        """End every wait for something to start: the daemon shuts down."""
        for name, changes in tuple(self._of.items()):
            for change in tuple(changes):
                if change.verb != "stop":
                    change.rest.clear()
                    self._close(change, name, Verdict(False, f"superseded by {why}"))
                    self._settle(change)

    def _judge(self, change: Change, name: str) -> None:
        asked, service = change.open.get(name), self._services.get(name)
        if asked is None or service is None:
            return
        now = self._loop.clock.now()
        verdict = judge(asked, service.spec, service.state, now, name_of)
        if verdict.ok is not None:
            self._close(change, name, verdict)
        elif math.isfinite(verdict.again):
            change.again[name] = verdict.again
            self._arm(verdict.again)
        else:
            change.again.pop(name, None)

    def _close(self, change: Change, name: str, verdict: Verdict) -> None:
        asked = change.open.pop(name)
        change.again.pop(name, None)
        self._drop(name, change)
        took = max(0.0, self._loop.clock.now() - asked.at)
        phase = _phase(self._services.get(name))
        self._add(change, Outcome(name, bool(verdict.ok), phase, verdict.message, took))

    @staticmethod
    def _add(change: Change, outcome: Outcome) -> None:
        change.outcomes.append(outcome)
        for waiter in tuple(change.waiters):
            waiter.finished(outcome)

    def _settle(self, change: Change) -> None:
        """Go on with a rolling restart; end the waits of a change that is over."""
        if change.rest and not change.open:
            self._go_on(change)
        if change.is_over:
            waiters, change.waiters = change.waiters, []
            for waiter in waiters:
                waiter.over(change)

    def _go_on(self, change: Change) -> None:
        while change.rest and not change.open and change.restart_next is not None:
            if change.outcomes and not change.outcomes[-1].ok:
                failed = change.outcomes[-1].service
                while change.rest:
                    self._leave_out(change, change.rest.popleft(), failed)
                return
            name = change.rest.popleft()
            if name in self._services:
                self._ask(change, name, change.restart_next(name))
                self._judge(change, name)

    def _leave_out(self, change: Change, name: str, failed: str) -> None:
        self.note(change, name, f"not restarted: {failed} failed")

    # -- time -------------------------------------------------------------------------------------

    def _arm(self, moment: float) -> None:
        """Look again at this moment, if not sooner."""
        if moment < self._look_at:
            self._look_at = moment
            self._deadline.arm(moment)

    def _look_again(self) -> None:
        now = self._loop.clock.now()
        for change in tuple(self._changes.values()):
            for name in [name for name, moment in change.again.items() if moment <= now]:
                self._judge(change, name)
            self._settle(change)
            for waiter in [one for one in change.waiters if one.give_up_at <= now]:
                change.waiters.remove(waiter)
                waiter.timed_out(change)
        moments = [
            moment
            for change in self._changes.values()
            for moment in (*change.again.values(), *(one.give_up_at for one in change.waiters))
        ]
        self._look_at = math.inf
        self._arm(min(moments, default=math.inf))


def _phase(service: Service | None) -> str:
    return "stopped" if service is None else service.state.phase.value
