"""What clients ask of services: start, stop, restart, reset, wait; explain, history, show.

All names of a call are looked up, and everything that can be refused is refused, before anything
is done. The answer of a call that waits comes when its change is over, from the loop.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd.changes import Change, Changes, Outcome, Waiter
from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.commands import (
    INVALID_PARAMETER,
    NO_SUCH_SERVICE,
    REFUSED,
    WAIT_TIMED_OUT,
    Call,
)
from supervisord_pidfd.core.events import ResetRequested
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.goals import Asked, Goal, ask_restart, ask_start
from supervisord_pidfd.core.history import History, Run
from supervisord_pidfd.core.naming import NoSuchNameError, TooManyGlobsError
from supervisord_pidfd.core.showing import toml_of
from supervisord_pidfd.explain import Subject, explain
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.records import exit_record
from supervisord_pidfd.service import Service

SETTLE_S = 1.0
EVERYTHING = "all"
"""What stands for all services; none can have this name."""

_CONDITIONS = {"ready": Goal.READY, "running": Goal.RUNNING, "stopped": Goal.DOWN}


class Fleet(Protocol):
    """Be what acts on sets of services, in the order that their dependencies want."""

    @property
    def services(self) -> Mapping[str, Service]:
        """Return the services by their full names."""
        ...

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon shuts down."""
        ...

    def names_for_start(self, names: Iterable[str], *, only: bool) -> tuple[str, ...]:
        """Return these and, unless `only`, what they require."""
        ...

    def names_for_stop(self, names: Iterable[str], *, only: bool) -> Mapping[str, str | None]:
        """Return these and, unless `only`, what goes down with them, and each with whom."""
        ...

    def names_for_restart(self, names: Iterable[str], *, only: bool) -> Mapping[str, str | None]:
        """Return these and, unless `only`, what is up and goes down with them."""
        ...

    def start_names(self, names: Iterable[str], by: str) -> None:
        """Ask for a start of each."""
        ...

    def stop_names(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Ask for a stop of each, in order."""
        ...

    def restart_names(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Ask for a new run of each, in order."""
        ...


class Sources(NamedTuple):
    """Hold what the methods need.

    `resolve` turns names as typed into full names, or raises as `naming.expand` does. `subject`
    gathers what is known of a service, `record` describes it as `Status` does, `catch_up`
    publishes what was told so far.
    """

    loop: Loop
    fleet: Fleet
    changes: Changes
    history: History
    resolve: Callable[[Iterable[str]], tuple[str, ...]]
    subject: Callable[[Service], Subject]
    record: Callable[[Service], dict[str, Any]]
    catch_up: Callable[[], object]


class Operations:
    """Answer the methods that act on services or explain them."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._changes = sources.changes
        self._sources = sources

    # -- changing ---------------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        """Start services, and what they require."""
        names = self._named(call)
        if names is None or self._refused(call):
            return
        settle = _given(call, "settle_s", SETTLE_S)
        every = self._fleet.names_for_start(names, only=bool(call.parameters["only"]))
        asked = {
            name: ask_start(service.state, self._now, settle)
            for name, service in self._each(every)
        }
        change = self._changes.begin("start", asked)
        self._fleet.start_names(every, call.peer.by)
        self._answer(call, change)

    def stop(self, call: Call) -> None:
        """Stop services, and first what requires them."""
        names = self._named(call)
        if names is None:
            return
        every = self._fleet.names_for_stop(names, only=bool(call.parameters["only"]))
        change = self._changes.begin("stop", {name: Asked(Goal.DOWN, self._now) for name in every})
        self._fleet.stop_names(every, call.peer.by, Cause.OPERATOR)
        self._answer(call, change)

    def restart(self, call: Call) -> None:
        """Stop and start services, together or one after the other."""
        names = self._named(call)
        if names is None or self._refused(call):
            return
        settle, by = _given(call, "settle_s", SETTLE_S), call.peer.by
        if call.parameters["rolling"]:
            change = self._changes.roll(names, lambda name: self._restart_one(name, settle, by))
        else:
            every = self._fleet.names_for_restart(names, only=bool(call.parameters["only"]))
            asked = {
                name: ask_restart(service.state, self._now, settle)
                for name, service in self._each(every)
            }
            change = self._changes.begin("restart", asked)
            self._fleet.restart_names(every, by, Cause.OPERATOR)
        self._answer(call, change)

    def reset(self, call: Call) -> None:
        """Forget attempts and failures; start nothing."""
        names = self._named(call)
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
                _refuse(call, "no_such_change", f"there is no change {ident}")
                return
        else:
            names = self._named(call)
            goal = _CONDITIONS.get(call.parameters["condition"] or "ready")
            if names is None:
                return
            if goal is None:
                call.error(INVALID_PARAMETER, {"parameter": "condition"})
                return
            change = self._changes.wait_for({name: Asked(goal, self._now) for name in names})
        self._changes.look(change)
        self._wait(call, change, with_change=False)

    def _restart_one(self, name: str, settle: float, by: str) -> Asked:
        asked = ask_restart(self._fleet.services[name].state, self._now, settle)
        self._fleet.restart_names({name: None}, by, Cause.OPERATOR)  # the others are up meanwhile
        return asked

    # -- looking ----------------------------------------------------------------------------------

    def explain(self, call: Call) -> None:
        """Say why a service is in its phase."""
        service = self._one(call)
        if service is None:
            return
        self._sources.catch_up()
        said = explain(self._sources.subject(service))
        facts = [{**fact._asdict(), "at": _stamp(fact.at)} for fact in said.facts]
        call.reply(
            {
                "service": self._sources.record(service),
                "summary": said.summary,
                "facts": facts,
                "last_lines": [],
                "try": list(said.tries),
            }
        )

    def history(self, call: Call) -> None:
        """Give the last runs of a service, the newest first."""
        service = self._one(call)
        if service is None:
            return
        self._sources.catch_up()
        runs = reversed(self._sources.history.runs(service.name))
        last = call.parameters["last"]
        wanted = [run_record(run) for run in runs]
        call.reply({"runs": wanted if last is None else wanted[:last]})

    def show(self, call: Call) -> None:
        """Give the effective configuration of a service, or of all its instances."""
        names = self._named(call, [call.parameters["name"]])
        if names is None:
            return
        origin, hide = bool(call.parameters["origin"]), not call.peer.full
        tables = [
            toml_of(service.spec, origin=origin, hide_environment=hide)
            for _, service in self._each(names)
        ]
        call.reply({"toml": "\n".join(tables)})

    # -- names ------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self._sources.loop.clock.now()

    def _named(self, call: Call, names: list[str] | None = None) -> tuple[str, ...] | None:
        """Look all names up; answer the call if one of them stands for nothing."""
        given = names if names is not None else call.parameters["names"]
        if not given:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
            return None
        if given == [EVERYTHING]:
            return tuple(self._fleet.services)
        try:
            return self._sources.resolve(given)
        except NoSuchNameError as error:
            call.error(NO_SUCH_SERVICE, {"name": error.name, "suggestion": error.suggestion})
            return None
        except TooManyGlobsError:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
            return None

    def _one(self, call: Call) -> Service | None:
        """Look up a name that has to stand for one service alone."""
        name = call.parameters["name"]
        names = self._named(call, [name])
        if names is None:
            return None
        if len(names) > 1:  # such as `worker` with four instances
            call.error(NO_SUCH_SERVICE, {"name": name, "suggestion": names[0]})
            return None
        return self._fleet.services[names[0]]

    def _each(self, names: Iterable[str]) -> Iterator[tuple[str, Service]]:
        for name in names:
            yield name, self._fleet.services[name]

    def _refused(self, call: Call) -> bool:
        if self._fleet.stopping:
            _refuse(call, "shutting_down", "the daemon is shutting down")
        return self._fleet.stopping

    # -- answers ----------------------------------------------------------------------------------

    def _answer(self, call: Call, change: Change) -> None:
        self._changes.look(change)
        if call.parameters["wait"] is False:
            call.reply({"change": change.ident, "outcomes": []})
        else:
            self._wait(call, change, with_change=True)

    def _wait(self, call: Call, change: Change, *, with_change: bool) -> None:
        frame = {"change": change.ident} if with_change else {}

        def finished(outcome: Outcome) -> None:
            if call.more:
                call.reply({**frame, "outcomes": [outcome._asdict()]}, continues=True)

        def over(done: Change) -> None:
            call.reply({**frame, "outcomes": [one._asdict() for one in done.outcomes]})

        def timed_out(late: Change) -> None:
            outcomes = [*late.outcomes, *self._changes.unfinished(late)]
            said = {"change": late.ident, "outcomes": [one._asdict() for one in outcomes]}
            call.error(WAIT_TIMED_OUT, said)

        waiter = Waiter(finished, over, timed_out, _given(call, "timeout_s", math.inf))
        call.on_gone(lambda: self._changes.leave(change, waiter))
        self._changes.wait(change, waiter)


def run_record(run: Run) -> dict[str, Any]:
    """Describe a run as plain data."""
    return {
        "run": run.run,
        "pid": run.pid,
        "started_at": _stamp(run.started_at),
        "ready_at": _stamp(run.ready_at),
        "ended_at": _stamp(run.ended_at),
        "lasted_s": run.lasted_s,
        "exit": None if run.end is None else exit_record(run.end),
        "next": run.next,
        "delay_s": run.delay_s,
        "max_rss_bytes": run.max_rss_bytes,
        "user_cpu_s": run.user_cpu_s,
        "system_cpu_s": run.system_cpu_s,
        "last_lines": [],
    }


def _given(call: Call, name: str, default: float) -> float:
    value = call.parameters[name]
    return default if value is None else float(value)


def _stamp(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)


def _refuse(call: Call, reason: str, message: str) -> None:
    call.error(REFUSED, {"reason": reason, "message": message})
