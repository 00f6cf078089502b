"""What clients ask of services: start, stop, restart, reset, wait; explain, history, show.

All names of a call are looked up, and everything that can be refused is refused, before anything
is done. The answer of a call that waits comes when its change is over, from the loop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd.answers import SHUTTING_DOWN, Answers, given, refuse
from supervisord_pidfd.changes import Changes, Outcome
from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.commands import Call
from supervisord_pidfd.core.events import ResetRequested
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.goals import Asked, Goal, ask_restart, ask_start
from supervisord_pidfd.core.history import History, Run
from supervisord_pidfd.core.showing import toml_of
from supervisord_pidfd.explain import Subject, explain
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.records import exit_record
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
    publishes what was told so far, `trials` runs what may say no.
    """

    loop: Loop
    fleet: Fleet
    changes: Changes
    history: History
    resolve: Callable[[Iterable[str]], tuple[str, ...]]
    subject: Callable[[Service], Subject]
    record: Callable[[Service], dict[str, Any]]
    catch_up: Callable[[], object]
    trials: Trials


class Operations:
    """Answer the methods that act on services or explain them."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._changes = sources.changes
        self._sources = sources
        self._answers = Answers(sources.fleet.services, sources.changes, sources.resolve)

    # -- changing ---------------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        """Start services, and what they require."""
        names = self._answers.named(call)
        if names is None or self._refused(call):
            return
        settle = given(call, "settle_s", SETTLE_S)
        every = self._fleet.names_for_start(names, only=bool(call.parameters["only"]))
        asked = {
            name: ask_start(service.state, self._now, settle)
            for name, service in self._each(every)
        }
        change = self._changes.begin("start", asked)
        self._fleet.start_names(every, call.peer.by)
        self._answers.answer(call, change)

    def stop(self, call: Call) -> None:
        """Stop services, and first what requires them."""
        names = self._answers.named(call)
        if names is None:
            return
        every = self._fleet.names_for_stop(names, only=bool(call.parameters["only"]))
        change = self._changes.begin("stop", {name: Asked(Goal.DOWN, self._now) for name in every})
        self._fleet.stop_names(every, call.peer.by, Cause.OPERATOR)
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
            every = self._fleet.names_for_restart(names, only=bool(call.parameters["only"]))
            asked = {
                name: ask_restart(service.state, self._now, settle)
                for name, service in self._each(every)
            }
            change = self._changes.begin("restart", asked)
            self._fleet.restart_names(every, by, Cause.OPERATOR)
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
            change = self._changes.wait_for({name: Asked(goal, self._now) for name in names})
        self._changes.look(change)
        self._answers.wait(call, change, {})

    def _restart_one(self, name: str, settle: float, by: str) -> Asked:
        asked = ask_restart(self._fleet.services[name].state, self._now, settle)
        self._fleet.restart_names({name: None}, by, Cause.OPERATOR)  # the others are up meanwhile
        return asked

    # -- looking ----------------------------------------------------------------------------------

    def explain(self, call: Call) -> None:
        """Say why a service is in its phase."""
        service = self._answers.one(call)
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
        service = self._answers.one(call)
        if service is None:
            return
        self._sources.catch_up()
        runs = reversed(self._sources.history.runs(service.name))
        last = call.parameters["last"]
        wanted = [run_record(run) for run in runs]
        call.reply({"runs": wanted if last is None else wanted[:last]})

    def show(self, call: Call) -> None:
        """Give the effective configuration of a service, or of all its instances."""
        names = self._answers.named(call, [call.parameters["name"]])
        if names is None:
            return
        origin, hide = bool(call.parameters["origin"]), not call.peer.full
        tables = [
            toml_of(service.spec, origin=origin, hide_environment=hide)
            for _, service in self._each(names)
        ]
        call.reply({"toml": "\n".join(tables)})

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


def _stamp(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
