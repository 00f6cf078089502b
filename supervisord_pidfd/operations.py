"""What clients ask of services: start, stop, restart, reset, wait.

All names of a call are looked up, and everything that can be refused is refused, before anything
is done. The answer of a call that waits comes when its change is over, from the loop.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from supervisord_pidfd.answers import SHUTTING_DOWN, Answers, given, refuse
from supervisord_pidfd.changes import Outcome
from supervisord_pidfd.commands import Call
from supervisord_pidfd.core.events import ResetRequested
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.goals import Asked, Goal, ask_restart, ask_start
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.service import Service
from supervisord_pidfd.trials import Failures, Trials, refusal

SETTLE_S = 1.0

_CONDITIONS = {
    "ready": Goal.READY,
    "running": Goal.RUNNING,
    "healthy": Goal.HEALTHY,
    "stopped": Goal.DOWN,
}


class Fleet(Protocol):
    """Be all services together."""

    @property
    def services(self) -> Mapping[str, Service]:
        """Return the services by their full names."""
        ...

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon shuts down."""
        ...


class Sets(Protocol):
    """Be what acts on sets of services, in the order that their dependencies want."""

    def names_for_start(self, names: Iterable[str], *, only: bool) -> tuple[str, ...]:
        """Return these and, unless `only`, what they require."""
        ...

    def names_for_stop(self, names: Iterable[str], *, only: bool) -> Mapping[str, str | None]:
        """Return these and, unless `only`, what goes down with them, and each with whom."""
        ...

    def names_for_restart(self, names: Iterable[str], *, only: bool) -> Mapping[str, str | None]:
        """Return these and, unless `only`, what is up and goes down with them."""
        ...

    def start(self, names: Iterable[str], by: str) -> None:
        """Ask for a start of each."""
        ...

    def stop(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Ask for a stop of each, in order."""
        ...

    def restart(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Ask for a new run of each, in order."""
        ...


class Sources(NamedTuple):
    """Hold what the methods need.

    `answers` are what all methods have in common, `trials` runs what may say no.
    """

    loop: Loop
    fleet: Fleet
    sets: Sets
    answers: Answers
    trials: Trials


class Operations:
    """Answer the methods that act on services."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._sets = sources.sets
        self._changes = sources.answers.changes
        self._sources = sources
        self._answers = sources.answers

    # -- changing ---------------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        """Start services, and what they require."""
        names = self._answers.named(call)
        if names is None or self._refused(call):
            return
        settle = given(call, "settle_s", SETTLE_S)
        every = self._sets.names_for_start(names, only=bool(call.parameters["only"]))
        asked = {
            name: ask_start(service.state, self._now, settle)
            for name, service in self._each(every)
        }
        change = self._changes.begin("start", asked)
        self._sets.start(every, call.peer.by)
        self._answers.answer(call, change)

    def stop(self, call: Call) -> None:
        """Stop services, and first what requires them."""
        names = self._answers.named(call)
        if names is None:
            return
        every = self._sets.names_for_stop(names, only=bool(call.parameters["only"]))
        change = self._changes.begin("stop", {name: Asked(Goal.DOWN, self._now) for name in every})
        self._sets.stop(every, call.peer.by, Cause.OPERATOR)
        self._answers.answer(call, change)

    def restart(self, call: Call) -> None:
        """Stop and start services, together or one after the other.

        Their `reload.check` runs first; if one fails, nobody is stopped.
        """
        names = self._answers.named(call)
        if names is None or self._refused(call):
            return
        self._sources.trials.run(
            [
                (service, service.pending or service.spec)
                for _, service in self._each(names)
                if service.state.has_process
            ],
            lambda failures: self._restart(call, names, failures),
        )

    def _restart(self, call: Call, named: Iterable[str], failures: Failures) -> None:
        if failures:
            refuse(call, "reload_check_failed", refusal(failures))
            return
        if self._refused(call):
            return
        names = tuple(name for name in named if name in self._fleet.services)
        settle, by = given(call, "settle_s", SETTLE_S), call.peer.by
        if call.parameters["rolling"]:
            change = self._changes.roll(names, lambda name: self._restart_one(name, settle, by))
        else:
            every = self._sets.names_for_restart(names, only=bool(call.parameters["only"]))
            asked = {
                name: ask_restart(service.state, self._now, settle)
                for name, service in self._each(every)
            }
            change = self._changes.begin("restart", asked)
            self._sets.restart(every, by, Cause.OPERATOR)
        self._answers.answer(call, change)

    def reset(self, call: Call) -> None:
        """Forget attempts and failures; start nothing."""
        names = self._answers.named(call)
        if names is None:
            return
        outcomes = []
        for name, service in self._each(names):
            service.post(ResetRequested(call.peer.by))
            phase = service.state.phase.value
            outcomes.append(Outcome(name, True, phase, "reset", 0.0)._asdict())
        call.reply({"outcomes": outcomes})

    def wait(self, call: Call) -> None:
        """Wait for services to be somewhere, or for a change to be over."""
        ident = call.parameters["change"]
        if ident is not None:
            change = self._changes.find(ident)
            if change is None:
                refuse(call, "no_such_change", f"there is no change {ident}")
                return
        else:
            names = self._answers.named(call)
            if names is None:
                return
            goal = _CONDITIONS[call.parameters["condition"] or "ready"]
            if goal is not Goal.DOWN and self._refused(call):
                return  # nothing will be up any more
            change = self._changes.wait_for({name: Asked(goal, self._now) for name in names})
        self._changes.look(change)
        self._answers.wait(call, change, {})

    def _restart_one(self, name: str, settle: float, by: str) -> Asked:
        asked = ask_restart(self._fleet.services[name].state, self._now, settle)
        self._sets.restart({name: None}, by, Cause.OPERATOR)  # the others are up meanwhile
        return asked

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self._sources.loop.clock.now()

    def _each(self, names: Iterable[str]) -> Iterator[tuple[str, Service]]:
        for name in names:
            yield name, self._fleet.services[name]

    def _refused(self, call: Call) -> bool:
        if self._fleet.stopping:
            refuse(call, "shutting_down", SHUTTING_DOWN)
        return self._fleet.stopping
