"""What follows from checks that fail, and from a watchdog that is not heard.

A watchdog has a moment, `watchdog_by`: from ready on, each WATCHDOG=1 puts it off. Where it is
missed, or the service asks for it, the run is ended with SIGABRT first, so that a core may tell
why. Neither hook nor command of a stop is asked then: what hangs would not obey.
"""

import math

from supervisord_pidfd.core.actions import EndDaemon
from supervisord_pidfd.core.events import (
    CheckChanged,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.notices import (
    CheckRecovered,
    CheckUnhealthy,
    ServiceStopping,
    ServiceWatchdogMissed,
)
from supervisord_pidfd.core.spec import CheckAction, CheckKind, CheckSpec, ServiceSpec
from supervisord_pidfd.core.state import At, ServiceState, Step, Wanted
from supervisord_pidfd.core.stopping import begin_stop, signal_of

SIGABRT = 6
ABORT_PATIENCE = 10.0
"""How long a process may take over its core at most, before the usual steps follow."""

EXIT_UNHEALTHY = 10


def check_changed(at: At, event: CheckChanged) -> Step:
    """Note a verdict, and do what the check says."""
    noted = at._replace(state=_noted(at.state, event.check, event.healthy))
    if event.healthy is not False:
        return Step(noted.state)
    by = f"health:{event.check}"
    match event.action:
        case CheckAction.RESTART:
            return begin_stop(noted, by, Cause.HEALTH)
        case CheckAction.STOP:
            return begin_stop(noted.changed(wanted=Wanted.DOWN), by, Cause.HEALTH)
        case CheckAction.SHUTDOWN:
            return Step(noted.state, (EndDaemon(EXIT_UNHEALTHY),))
        case _:
            return Step(noted.state)


def _noted(state: ServiceState, check: str, healthy: bool | None) -> ServiceState:  # noqa: FBT001
    """Keep a verdict; None is that nothing is known any more."""
    failing = tuple(name for name in state.failing if name != check)
    checked = tuple(name for name in state.checked if name != check)
    if healthy is not None:
        checked = (*checked, check)
    if healthy is False:
        failing = (*failing, check)
    return state._replace(failing=failing, checked=checked)


# -- the watchdog ---------------------------------------------------------------------------------


def _watchdog_of(spec: ServiceSpec) -> CheckSpec | None:
    return next((check for check in spec.checks if check.kind is CheckKind.WATCHDOG), None)


def patience(spec: ServiceSpec, state: ServiceState) -> float:
    """Return how long the service may be silent; what it has promised itself comes first."""
    check = _watchdog_of(spec)
    period = state.watchdog
    if period is None:
        period = math.inf if check is None else check.period
    return period * (1 if check is None else check.failures)


def first_word_by(spec: ServiceSpec, state: ServiceState, now: float) -> float:
    """Return when a service that is ready now has to be heard first."""
    if not spec.checks and state.watchdog is None:
        return math.inf
    check = _watchdog_of(spec)
    return now + patience(spec, state) + (0.0 if check is None else check.initial_delay)


def watchdog_pinged(at: At, _event: WatchdogPinged) -> Step:
    """Put the moment off; a check that had failed for want of this passes again."""
    check, state = _watchdog_of(at.spec), at.state
    pinged = state._replace(watchdog_by=at.now + patience(at.spec, state))
    if check is None or check.name not in state.failing:
        return Step(pinged)
    return Step(_noted(pinged, check.name, True), notices=(CheckRecovered(check.name),))


def watchdog_changed_early(at: At, event: WatchdogChanged) -> Step:
    """Remember what the service promises for the time when it is ready."""
    return Step(at.state._replace(watchdog=event.seconds if event.seconds > 0 else math.inf))


def watchdog_changed(at: At, event: WatchdogChanged) -> Step:
    """Hold the service to what it promises now."""
    changed = watchdog_changed_early(at, event).state
    return Step(changed._replace(watchdog_by=at.now + patience(at.spec, changed)))


def watchdog_triggered(at: At, _event: WatchdogTriggered) -> Step:
    """Take the service for dead, as it asks; before there is a process it is the last run's."""
    return watchdog_missed(at, 0.0) if at.state.has_process else Step(at.state)


def watchdog_missed(at: At, silent_for: float) -> Step:
    """Do what the check says; without one, end the run and leave the rest to policy."""
    check = _watchdog_of(at.spec)
    told = ServiceWatchdogMissed(silent_for)
    action = CheckAction.RESTART if check is None else check.action
    if check is None or action in {CheckAction.RESTART, CheckAction.STOP}:
        wanted = Wanted.DOWN if action is CheckAction.STOP else at.state.wanted
        return _abort(at.changed(wanted=wanted), told)
    failing = _noted(at.state, check.name, False)._replace(watchdog_by=math.inf)
    if action is CheckAction.SHUTDOWN:
        return Step(failing, (EndDaemon(EXIT_UNHEALTHY),), (told,))
    return Step(failing, (), (told, CheckUnhealthy(check.name, "no answer", action.value)))


def _abort(at: At, told: ServiceWatchdogMissed) -> Step:
    """Begin a stop with SIGABRT; the usual steps follow."""
    stop = at.spec.stop
    wait = min(stop.steps[0].timeout, ABORT_PATIENCE)
    state = at.stopping("watchdog", stop_cause=Cause.WATCHDOG, step=-1, step_by=at.now + wait)
    stopping = ServiceStopping("watchdog", SIGABRT, wait + stop.timeout)
    return Step(state, (signal_of(at.spec, SIGABRT),), (told, stopping))
