"""What clients tell services that run: a signal, or to read their own configuration again.

The old process stays in either case. All `reload.check` of a call are run first; one that fails
refuses the whole call, and nobody has been told anything then.
"""

from collections.abc import Mapping
from typing import Protocol

from supervisord_pidfd.answers import SHUTTING_DOWN, Answers, refuse
from supervisord_pidfd.changes import Outcome
from supervisord_pidfd.commands import INVALID_PARAMETER, Call
from supervisord_pidfd.core.events import ReloadRequested
from supervisord_pidfd.core.goals import Asked, Goal
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of
from supervisord_pidfd.signames import number_of
from supervisord_pidfd.trials import Failures, Trials, refusal


class Fleet(Protocol):
    """Be all services."""

    @property
    def services(self) -> Mapping[str, Service]:
        """Return the services by their full names."""
        ...

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon shuts down."""
        ...


class Reloads:
    """Answer Reload and Signal."""

    def __init__(self, loop: Loop, fleet: Fleet, answers: Answers, trials: Trials) -> None:
        self._loop = loop
        self._fleet = fleet
        self._answers = answers
        self._trials = trials

    def signal(self, call: Call) -> None:
        """Send a signal to the main process of services, or to its whole group."""
        names = self._answers.named(call)
        if names is None:
            return
        signum = number_of(call.parameters["signal"])
        if signum is None:
            call.error(INVALID_PARAMETER, {"parameter": "signal"})
            return
        whole_group = bool(call.parameters["group"])
        outcomes = []
        for name in names:
            service = self._fleet.services[name]
            sent = service.send(signum, call.peer.by, whole_group=whole_group)
            phase = service.state.phase.value
            said = f"{name_of(signum)} sent" if sent else f"{phase}: there is no process"
            outcomes.append(Outcome(name, sent, phase, said, 0.0)._asdict())
        call.reply({"outcomes": outcomes})

    def reload(self, call: Call) -> None:
        """Have services read their own configuration again."""
        names = self._answers.named(call)
        if names is None or self._refused(call, names):
            return
        up = [
            (one, one.spec) for one in map(self._fleet.services.get, names) if one and _is_up(one)
        ]
        self._trials.run(up, lambda failures: self._tried(call, names, failures))

    def _refused(self, call: Call, names: tuple[str, ...]) -> bool:
        """Refuse what cannot be: nothing reloads at the end, and not every service knows how."""
        if self._fleet.stopping:
            refuse(call, "shutting_down", SHUTTING_DOWN)
            return True
        for name in names:
            if not _can_reload(self._fleet.services[name]):
                message = f"{name} has no reload.signal or reload.command (restart it instead)"
                refuse(call, "no_reload_action", message)
                return True
        return False

    def _tried(self, call: Call, names: tuple[str, ...], failures: Failures) -> None:
        if failures:
            refuse(call, "reload_check_failed", refusal(failures))
            return
        if self._fleet.stopping:
            refuse(call, "shutting_down", SHUTTING_DOWN)
            return
        changes, now = self._answers.changes, self._loop.clock.now()
        services = [self._fleet.services[name] for name in names if name in self._fleet.services]
        change = changes.begin(
            "reload",
            {service.name: _ask_reload(service, now) for service in services if _is_up(service)},
        )
        for service in services:
            if _is_up(service):
                service.post(ReloadRequested(call.peer.by))
            else:
                changes.note(change, service.name, f"{service.state.phase.value}: not running")
        self._answers.answer(call, change)


def _ask_reload(service: Service, now: float) -> Asked:
    """Ask for a reload that begins now, or after the one that is under way."""
    reloads = 2 if service.state.reloading else 1
    return Asked(Goal.RELOADED, now, service.state.run, reloads=reloads)


def _is_up(service: Service) -> bool:
    return service.state.phase is Phase.RUNNING


def _can_reload(service: Service) -> bool:
    reload = service.spec.reload
    return reload.signum is not None or reload.command is not None
