"""How a run begins, from the command to the moment it is ready."""

import math

from supervisord_pidfd.core.actions import Action, RunHook, Spawn
from supervisord_pidfd.core.events import BecameReady, Executed, ReadinessLost, Spawned
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.notices import (
    ServiceReady,
    ServiceRuntimeExceeded,
    ServiceSpawned,
    ServiceStarting,
    ServiceStartTimedOut,
    ServiceWaiting,
)
from supervisord_pidfd.core.restart import in_window
from supervisord_pidfd.core.spec import Hook, ReadyKind, ServiceSpec, ServiceType
from supervisord_pidfd.core.state import At, End, Held, Phase, Step, Wanted
from supervisord_pidfd.core.stopping import begin_stop
from supervisord_pidfd.core.watching import first_word_by

HOST_FAULTS = frozenset({"EAGAIN", "ENOMEM", "EMFILE", "ENFILE"})
"""Spawn errors of the host: always tried again, never counted against the service."""

LOST_GRACE = 1.0
"""How long a start may go on whose readiness descriptor was closed without a word.

Most close it by ending; their end says more than a start that timed out.
"""

_READY_BY_ITSELF = frozenset({ReadyKind.EXECUTED, ReadyKind.DELAY})
"""Ways to be ready that nobody has to tell."""


def is_host_fault(ended: End | None) -> bool:
    """Tell whether a start failed through no fault of the service."""
    return ended is not None and ended.cause is Cause.SPAWN_ERROR and ended.error in HOST_FAULTS


def start(at: At, _event: object = None) -> Step:
    """Start by command: a new row of attempts, and not spent from the start limit."""
    return start_if_open(at.changed(wanted=Wanted.UP, attempt=0))


def start_if_open(at: At, _event: object = None) -> Step:
    """Start, unless the start is held; an automatic restart is spent from the limit here."""
    if at.held:
        return _wait(at, at.held)
    state = at.state
    if state.attempt and not is_host_fault(state.last_exit):
        starts = in_window((*state.starts, at.now), at.spec.start_limit, at.now)
        return _begin(at.changed(starts=starts))
    return _begin(at)


def _wait(at: At, held: Held) -> Step:
    if at.state.phase is Phase.WAITING:
        return Step(at.state)
    return Step(
        at.settle(Phase.WAITING, pid=None), notices=(ServiceWaiting(held.on, held.condition),)
    )


def start_while_waiting(at: At, _event: object) -> Step:
    """Make the start that is held one by command."""
    return Step(at.state._replace(attempt=0))


def _begin(at: At) -> Step:
    """Begin a run with its first hook, or with its process."""
    hook = _first_hook(at.spec)
    state = at.settle(
        Phase.STARTING,
        pid=None,
        run=at.state.run + 1,
        restarts=at.state.restarts + (at.state.run > 0),
        started_at=None,
        ready_at=None,
        hook=hook,
        start_by=at.now + at.spec.start_timeout,
        max_run_by=math.inf if hook else at.now + at.spec.runtime_max,
    )
    action: Action = RunHook(hook) if hook else Spawn()
    return Step(state, (action,), (ServiceStarting(state.attempt),))


def _first_hook(spec: ServiceSpec) -> Hook | None:
    """Return what comes before the process; where all must fail, it shall say why itself."""
    return Hook.PRE_START if spec.hooks.pre_start is not None and spec.fault is None else None


def spawn(at: At) -> Step:
    """Go on from the first hook to the process."""
    state = at.state._replace(hook=None, max_run_by=at.now + at.spec.runtime_max)
    return Step(state, (Spawn(),))


def spawned(at: At, event: Spawned) -> Step:
    """Hold the new process by its pid."""
    state = at.state._replace(pid=event.pid, started_at=at.now)
    return Step(state, notices=(ServiceSpawned(event.took_s),))


def executed(at: At, _event: Executed) -> Step:
    """Go on to what has to come between the program's start and its being ready."""
    spec, state = at.spec, at.state._replace(executed=True)
    actions: tuple[Action, ...] = ()
    way = state.way  # not None: it was quicker to say so than we were to learn of its start
    if spec.hooks.post_start is not None and spec.type is not ServiceType.ONESHOT:
        state = state._replace(hook=Hook.POST_START)
        actions = (RunHook(Hook.POST_START),)
    if way is None and spec.type is ServiceType.SIMPLE and spec.ready.kind in _READY_BY_ITSELF:
        if spec.ready.delay <= 0:
            way = "executed"
        else:
            state = state._replace(ready_at_due=at.now + spec.ready.delay)
    if way is None or actions:
        return Step(state._replace(way=way), actions)
    return _ready(at._replace(state=state), way)


def became_ready(at: At, event: BecameReady) -> Step:
    """Take the word; before there is a process it is the last run's, and too late."""
    return _learn(at, event.way) if at.state.has_process else Step(at.state)


def readiness_lost(at: At, _event: ReadinessLost) -> Step:
    """Wait no longer for what will never come, but long enough to see an end."""
    if at.state.way is not None:
        return Step(at.state)
    return Step(at.state._replace(start_by=min(at.state.start_by, at.now + LOST_GRACE)))


def _learn(at: At, way: str) -> Step:
    """Be ready, or remember the way until all else is done."""
    state = at.state
    if state.executed and state.hook is None:
        return _ready(at, way)
    return Step(state._replace(way=way, ready_at_due=math.inf))


def post_start_ended(at: At, *, ok: bool) -> Step:
    """Be ready if that was all; a hook that failed fails the start."""
    over = at.changed(hook=None)
    if not ok:
        return begin_stop(over, "policy", Cause.HOOK)
    return Step(over.state) if over.state.way is None else _ready(over, over.state.way)


def _ready(at: At, way: str) -> Step:
    state = at.become(
        Phase.RUNNING,
        ready_at=at.now,
        max_run_by=at.state.max_run_by,
        watchdog_by=first_word_by(at.spec, at.state, at.now),
    )
    return Step(state, notices=(ServiceReady(way, at.lasted),))


def starting_deadline(at: At, _event: object) -> Step:
    """Be ready after the delay, or stop what took too long."""
    state = at.state
    if state.ready_at_due <= at.now:
        return _learn(at, "delay")
    if state.start_by <= at.now:
        return _too_long(at, ServiceStartTimedOut(state.start_by - state.since))
    return run_deadline(at, _event)


def run_deadline(at: At, _event: object) -> Step:
    """Stop what ran too long."""
    if at.state.max_run_by <= at.now:
        return _too_long(at, ServiceRuntimeExceeded(at.spec.runtime_max))
    return Step(at.state)


def _too_long(at: At, notice: ServiceStartTimedOut | ServiceRuntimeExceeded) -> Step:
    begun = begin_stop(at, "timeout", Cause.TIMEOUT)
    return begun._replace(notices=(notice, *begun.notices))
