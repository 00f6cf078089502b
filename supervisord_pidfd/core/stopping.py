"""The row of a stop: `pre_stop`, then signals and waits, then SIGKILL.

The same row cleans up what a main process left behind when it ended by itself; meanwhile the
service is STOPPING, wanted up, and the end it already had is kept in `ended`. `stop.command` runs
instead of the first signal; the signal follows all the same where the command fails.
"""

import math

from supervisord_pidfd.core.actions import RunHook, Signal
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.notices import (
    ServiceKillEscalated,
    ServiceLeftoversKilled,
    ServiceStopping,
)
from supervisord_pidfd.core.spec import Hook, Scope, ServiceSpec
from supervisord_pidfd.core.state import At, End, Step

SIGKILL = 9
REKILL_EVERY = 1.0
UNKILLABLE_AFTER = 5.0

AWAITED = frozenset({Hook.PRE_STOP, Hook.STOP})
"""Hooks of a stop that are left to finish when the main process is quicker."""


def begin_stop(at: At, by: str, cause: Cause, kill_by: float = math.inf) -> Step:
    """Begin to end a run that has a process, or the hook that comes before it."""
    state, spec = at.state, at.spec
    hook = Hook.PRE_START if state.hook is Hook.PRE_START else None
    begun = at._replace(state=at.stopping(by, stop_cause=cause, kill_by=kill_by, hook=hook))
    if spec.hooks.pre_stop is not None and state.executed and kill_by > at.now:
        asked = begun.state._replace(hook=Hook.PRE_STOP)
        limit = spec.hooks.timeout + spec.stop.timeout
        told = ServiceStopping(by, spec.stop.steps[0].signum, min(limit, kill_by - at.now))
        return Step(asked, (RunHook(Hook.PRE_STOP),), (told,))
    following = first_step(begun)
    return following._replace(notices=(_told(begun, following, by), *following.notices))


def _told(begun: At, following: Step, by: str) -> ServiceStopping:
    """Say what a stop begins with, and how long it is until SIGKILL."""
    stop = begun.spec.stop
    if following.state.hook is Hook.STOP:
        signum = None
    elif stop.steps[0].signum == SIGKILL:
        return ServiceStopping(by, SIGKILL, 0.0)
    else:
        signum = stop.steps[0].signum
    left = begun.state.kill_by - begun.now
    return ServiceStopping(by, signum, max(0.0, min(stop.timeout, left)))


def first_step(at: At) -> Step:
    """Send the first signal, or run the command that stands for it."""
    first, state = at.spec.stop.steps[0], at.state
    step_by = at.now + first.timeout
    by_command = at.spec.stop.command is not None and state.kill_by > at.now
    if by_command and state.executed and state.pid is not None:
        return Step(state._replace(hook=Hook.STOP, step_by=step_by), (RunHook(Hook.STOP),))
    if first.signum == SIGKILL:  # as configured: nothing escalates
        return kill(at)._replace(notices=())
    return Step(state._replace(step_by=step_by), (signal_of(at.spec, first.signum),))


def signal_of(spec: ServiceSpec, signum: int) -> Signal:
    """Say who gets a signal of a stop."""
    if signum == SIGKILL:
        return Signal(SIGKILL, spec.stop.scope is not Scope.PROCESS, then_continue=False)
    return Signal(signum, spec.stop.scope is Scope.GROUP, then_continue=True)


def next_step(at: At) -> Step:
    """Go on with the next signal, in the end with SIGKILL; a command that still runs is over."""
    state, steps = at.state, at.spec.stop.steps
    following = state.step + 1
    if state.forced or following >= len(steps) or steps[following].signum == SIGKILL:
        return kill(at)
    signum, timeout = steps[following]
    hook = Hook.PRE_START if state.hook is Hook.PRE_START else None
    return Step(
        state._replace(step=following, step_by=at.now + timeout, hook=hook),
        (signal_of(at.spec, signum),),
    )


def kill(at: At) -> Step:
    """Send SIGKILL; again and again until all are gone, told only the first time."""
    hook = Hook.PRE_START if at.state.hook is Hook.PRE_START else None
    state = at.state._replace(forced=True, step_by=at.now + REKILL_EVERY, hook=hook)
    action = signal_of(at.spec, SIGKILL)
    if at.state.forced:
        return Step(state, (action,))
    escalated = ServiceKillEscalated(at.spec.stop.scope.value, at.now - state.stop_asked_at)
    return Step(state._replace(unkillable_by=at.now + UNKILLABLE_AFTER), (action,), (escalated,))


# -- what the main process left behind ------------------------------------------------------------


def clean_up(at: At, ended: End) -> Step:
    """Begin to end what the main process left behind; it ended by itself."""
    stop = at.spec.stop
    first = stop.steps[0]
    told = ServiceLeftoversKilled(stop.scope.value)
    begun = at._replace(state=at.stopping("policy", ended=ended, pid=None))
    if stop.scope is Scope.MIXED or first.signum == SIGKILL:
        return kill(begun)._replace(notices=(ServiceStopping("policy", SIGKILL, 0.0), told))
    return Step(
        begun.state._replace(step_by=at.now + first.timeout),
        (signal_of(at.spec, first.signum),),
        (ServiceStopping("policy", first.signum, stop.timeout), told),
    )


def clean_up_rest(at: At, ended: End, *, unsignalled: bool = False) -> Step:
    """Go on with the stop in course, now for what the main process left behind.

    `unsignalled`: it ended before the first signal. A command that stood for the signal has not
    reached the others either.
    """
    stop, state = at.spec.stop, at.state
    waiting = at.changed(ended=ended)
    if state.hook in AWAITED or state.forced:
        return Step(waiting.state)
    if stop.scope is Scope.MIXED:
        return kill(waiting)._replace(notices=(ServiceLeftoversKilled(Scope.MIXED.value),))
    if unsignalled or (stop.command is not None and state.step == 0):
        return _signal_rest(waiting)
    return Step(waiting.state)


def _signal_rest(at: At) -> Step:
    first = at.spec.stop.steps[0]
    if first.signum == SIGKILL:
        return kill(at)
    step_by = min(at.state.step_by, at.now + first.timeout)
    return Step(at.state._replace(step_by=step_by), (signal_of(at.spec, first.signum),))
