"""The service state machine: phase and event → rule, and nothing but arithmetic inside.

The words are in `state.py`; the rules stand by subject in `starting.py`, `stopping.py`,
`ending.py`, `hooks.py`, `watching.py` and `reloading.py`; here are commands, and what a service
without a process does.

The table is total on purpose: a pair that may happen and means nothing says `nothing`; a pair that
is not in the table is a bug of the shell and raises `ImpossibleEventError`.
"""

import math
from typing import Any

from supervisord_pidfd.core.ending import (
    EXIT_LIMIT,
    after,
    daemon_code,
    daemon_ends,
    exited,
    give_up,
    scope_emptied,
    spawn_failed,
)
from supervisord_pidfd.core.events import (
    AttemptsForgiven,
    BecameReady,
    CheckChanged,
    DeadlinePassed,
    Event,
    Executed,
    FailRequested,
    GateOpened,
    HookEnded,
    KillRequested,
    MainPidChanged,
    MainReplaced,
    ProcessExited,
    ReadinessLost,
    ReloadBegan,
    ReloadRequested,
    ResetRequested,
    RestartRequested,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimeoutExtended,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.hooks import hook_ended_while_starting, hook_ended_while_stopping
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceReady,
    ServiceReset,
    ServiceRestartScheduled,
    ServiceStarting,
    ServiceStopped,
    ServiceStopping,
    ServiceUnkillable,
    ServiceWaiting,
)
from supervisord_pidfd.core.reloading import (
    ready_again,
    reload_began,
    reload_command_ended,
    reload_requested,
    reload_too_slow,
)
from supervisord_pidfd.core.spec import Hook, ServiceSpec, ServiceType
from supervisord_pidfd.core.starting import (
    became_ready,
    executed,
    readiness_lost,
    run_deadline,
    spawned,
    start,
    start_if_open,
    start_while_waiting,
    starting_deadline,
)
from supervisord_pidfd.core.state import (
    At,
    End,
    Held,
    Phase,
    Rule,
    ServiceState,
    Step,
    Wanted,
    nothing,
)
from supervisord_pidfd.core.stopping import SIGKILL, begin_stop, kill, next_step
from supervisord_pidfd.core.watching import (
    check_changed,
    patience,
    watchdog_changed,
    watchdog_changed_early,
    watchdog_missed,
    watchdog_pinged,
    watchdog_triggered,
)
from supervisord_pidfd.errors import ImpossibleEventError

__all__ = [
    "EXIT_LIMIT", "PHASE_NOTICES", "TABLE", "End", "Held", "Phase", "ServiceState", "Step",
    "Wanted", "daemon_code", "health_of", "is_ready", "phase_told", "step",
]  # fmt: skip


def step(  # noqa: PLR0913, PLR0917 - these six are all that a rule may know
    spec: ServiceSpec,
    state: ServiceState,
    event: Event,
    now: float,
    roll: float,
    held: Held | None = None,
) -> Step:
    """Apply one event.

    Args:
        spec: The service.
        state: Where it is.
        event: What happened.
        now: CLOCK_MONOTONIC seconds.
        roll: Chance, in [0, 1), for the jitter of a backoff.
        held: What a start would have to wait for; None if it may go ahead.

    Raises:
        ImpossibleEventError: The event cannot happen in this phase; the shell has a bug.
    """
    rule = TABLE[state.phase].get(type(event))
    if rule is None:
        raise ImpossibleEventError(f"'{spec.name}': {type(event).__name__} in {state.phase}")
    return rule(At(spec, state, now, roll, held), event)


def phase_told(notices: tuple[Any, ...]) -> Any:
    """Return the one notice of a step that tells its change of phase: the last that can."""
    return next(notice for notice in reversed(notices) if type(notice) in PHASE_NOTICES)


def is_ready(spec: ServiceSpec, state: ServiceState) -> bool:
    """Tell whether the service is ready, as `status` and the metrics mean it."""
    if state.phase is Phase.RUNNING:
        return not state.reloading and not (state.failing and _fails(spec, state))
    return state.phase is Phase.EXITED and spec.type is ServiceType.ONESHOT


def health_of(spec: ServiceSpec, state: ServiceState) -> str:
    """Tell the health: `none` without checks, `unknown` until each has its verdict."""
    if not spec.checks:
        return "none"
    if _fails(spec, state):
        return "unhealthy"
    all_checked = all(check.name in state.checked for check in spec.checks)
    return "healthy" if all_checked else "unknown"


def _fails(spec: ServiceSpec, state: ServiceState) -> bool:
    """Tell whether a check fails that the service still has."""
    return any(check.name in state.failing for check in spec.checks)


# -- while it runs --------------------------------------------------------------------------------


def _running_deadline(at: At, event: DeadlinePassed) -> Step:
    state = at.state
    if state.watchdog_by <= at.now:
        return watchdog_missed(at, patience(at.spec, state))
    if state.reload_by <= at.now:
        return reload_too_slow(at)
    return run_deadline(at, event)


def _name_heir(at: At, event: MainPidChanged) -> Step:
    """Remember who goes on when the main process ends; until then that is the main one."""
    state = at.state
    if not state.has_process:  # a word of the last run
        return Step(state)
    return Step(state._replace(heir=event.pid if event.pid != state.pid else None))


def _replace_main(at: At, event: MainReplaced) -> Step:
    return Step(at.state._replace(pid=event.pid, heir=None))


def _extend_start(at: At, event: TimeoutExtended) -> Step:
    """Give a start so much time from now on; what it has already is not taken away."""
    state, until = at.state, at.now + event.seconds
    return Step(
        state._replace(
            start_by=max(state.start_by, until), max_run_by=max(state.max_run_by, until)
        )
    )


def _extend_run(at: At, event: TimeoutExtended) -> Step:
    state, until = at.state, at.now + event.seconds
    reload_by = max(state.reload_by, until) if state.reloading else math.inf
    return Step(state._replace(max_run_by=max(state.max_run_by, until), reload_by=reload_by))


def _extend_stop(at: At, event: TimeoutExtended) -> Step:
    """Put the next signal off, but not where SIGKILL was sent, and no budget."""
    state = at.state
    if state.forced:
        return Step(state)
    return Step(state._replace(step_by=max(state.step_by, at.now + event.seconds)))


# -- commands to what has a process, or is about to -----------------------------------------------


def _stop(at: At, event: StopRequested) -> Step:
    return begin_stop(at.changed(wanted=Wanted.DOWN), event.by, event.cause, event.kill_by)


def _restart(at: At, event: RestartRequested) -> Step:
    return begin_stop(at, event.by, event.cause)


def _fail(at: At, event: FailRequested) -> Step:
    """Stop, and be failed for this reason when nothing is left."""
    return begin_stop(at.changed(fail_reason=event.reason), "policy", Cause.DEPENDENCY)


def _kill_at_once(at: At, _event: KillRequested) -> Step:
    """Stop with SIGKILL as the first signal: the shutdown was hastened."""
    hook = Hook.PRE_START if at.state.hook is Hook.PRE_START else None
    wanted_down = at.changed(wanted=Wanted.DOWN)
    state = wanted_down.stopping("shutdown", stop_cause=Cause.OPERATOR, cut=True, hook=hook)
    killed = kill(at._replace(state=state))
    stopping = ServiceStopping("shutdown", SIGKILL, 0.0)
    return killed._replace(notices=(stopping, *killed.notices))


def _forgive(at: At, _event: AttemptsForgiven) -> Step:
    """Let the next automatic start be the first of a row; the start limit counts on."""
    return Step(at.state._replace(attempt=0))


# -- while stopping -------------------------------------------------------------------------------


def _stopping_deadline(at: At, _event: DeadlinePassed) -> Step:
    state = at.state
    if state.unkillable_by <= at.now:
        told = state._replace(unkillable=True, unkillable_by=math.inf)
        return Step(told, notices=(ServiceUnkillable(at.now - state.stop_asked_at),))
    if state.kill_by <= at.now:
        return _cut_short(at)
    return Step(state) if state.step_by > at.now else next_step(at)


def _cut_short(at: At) -> Step:
    """Leave out the rest of the steps, and every hook."""
    state = at.state
    cut = at.changed(cut=True, kill_by=math.inf)
    if state.emptied and state.ended is not None:
        return after(cut, state.ended)
    return Step(cut.state) if state.forced else kill(cut)


def _kill_while_stopping(at: At, _event: KillRequested) -> Step:
    """Leave out the rest, and whatever was to follow."""
    down = at.changed(wanted=Wanted.DOWN, start_queued=False, cut=True)
    if down.state.emptied and down.state.ended is not None:
        return after(down, down.state.ended)
    return kill(down)


def _stop_while_stopping(at: At, event: StopRequested) -> Step:
    """Take the service down for good, and not later than this command allows."""
    state = at.state
    return Step(
        state._replace(
            wanted=Wanted.DOWN,
            start_queued=False,
            stop_cause=event.cause,
            stop_by=event.by,
            kill_by=min(state.kill_by, event.kill_by),
        )
    )


def _start_while_stopping(at: At, _event: StartRequested | RestartRequested) -> Step:
    """Queue the start: it follows when the old run is gone."""
    return Step(at.state._replace(wanted=Wanted.UP, start_queued=True))


def _fail_while_stopping(at: At, event: FailRequested) -> Step:
    """Fail instead of starting again; one that is to be down is left at that."""
    if at.state.wanted is Wanted.DOWN:
        return Step(at.state)
    return Step(at.state._replace(fail_reason=event.reason, start_queued=False))


# -- while there is no process --------------------------------------------------------------------


def _start_again(at: At, _event: DeadlinePassed) -> Step:
    if at.state.next_start_at > at.now:
        return Step(at.state)
    return start_if_open(at)


def _stopped_at_once(at: At, event: StopRequested) -> Step:
    """Stop where there is no process; the end it already had was its last."""
    last = at.state.last_exit
    state = at.settle(Phase.STOPPED, wanted=Wanted.DOWN, stop_by=event.by)
    ends = () if last is None else daemon_ends(at.spec.main, last)
    return Step(state, ends, (ServiceStopped(event.by, 0.0),))


def _never_start(at: At, _event: KillRequested) -> Step:
    return _stopped_at_once(at, StopRequested("shutdown"))


def _start_failed_one(at: At, event: StartRequested | RestartRequested) -> Step:
    """Start after giving up: what `reset` does comes first."""
    started = start(at.changed(starts=()))
    return started._replace(notices=(ServiceReset(event.by), *started.notices))


def _want_down(at: At, event: StopRequested) -> Step:
    """Note that nobody wants it up any more; what ended badly stays visible as failed."""
    return Step(at.state._replace(wanted=Wanted.DOWN, stop_by=event.by))


def _fail_at_once(at: At, event: FailRequested) -> Step:
    """Fail where there is no process."""
    return give_up(at, at.state.last_exit or End(Cause.DEPENDENCY), event.reason)


def _forget(at: At, event: ResetRequested) -> Step:
    return Step(at.state._replace(attempt=0, starts=()), notices=(ServiceReset(event.by),))


def _reset_failed(at: At, event: ResetRequested) -> Step:
    state = at.settle(Phase.STOPPED, wanted=Wanted.DOWN, attempt=0, starts=(), stop_by=event.by)
    return Step(state, notices=(ServiceReset(event.by), ServiceStopped(event.by, 0.0)))


PHASE_NOTICES = frozenset(
    {
        ServiceWaiting, ServiceStarting, ServiceReady, ServiceStopping,
        ServiceRestartScheduled, ServiceStopped, ServiceGaveUp, ServiceExited,
    }
)  # fmt: skip
"""A step that changes the phase has one of these; its last one tells the change. An exit comes
before what follows from it, so it tells the change only where the service stays `exited`."""

_TOLD_BESIDE: dict[type, Rule] = dict.fromkeys(
    (
        BecameReady, ReadinessLost, ReloadBegan, TimeoutExtended, WatchdogPinged,
        WatchdogTriggered, WatchdogChanged, AttemptsForgiven, CheckChanged, MainPidChanged,
        HookEnded, ReloadRequested, FailRequested,
    ),
    nothing,
)  # fmt: skip
"""What is told by others than the process itself may come late: after the end, or the order."""

_RESTING: dict[type, Rule] = _TOLD_BESIDE | {
    StartRequested: start,
    StopRequested: nothing,
    RestartRequested: start,
    ResetRequested: _forget,
    KillRequested: nothing,
    GateOpened: nothing,
    ScopeEmptied: nothing,
    DeadlinePassed: nothing,
}
"""What a service without a process and without a date does."""

TABLE: dict[Phase, dict[type, Rule]] = {
    Phase.STOPPED: _RESTING,
    Phase.WAITING: _RESTING
    | {
        StartRequested: start_while_waiting,
        StopRequested: _stopped_at_once,
        RestartRequested: start_while_waiting,
        KillRequested: _never_start,
        FailRequested: _fail_at_once,
        GateOpened: start_if_open,
    },
    Phase.STARTING: _TOLD_BESIDE
    | {
        BecameReady: became_ready,
        ReadinessLost: readiness_lost,
        TimeoutExtended: _extend_start,
        MainPidChanged: _name_heir,
        MainReplaced: _replace_main,
        WatchdogChanged: watchdog_changed_early,
        WatchdogTriggered: watchdog_triggered,
        HookEnded: hook_ended_while_starting,
        FailRequested: _fail,
        AttemptsForgiven: _forgive,
        StartRequested: nothing,
        StopRequested: _stop,
        RestartRequested: _restart,
        ResetRequested: _forget,
        KillRequested: _kill_at_once,
        GateOpened: nothing,
        Spawned: spawned,
        Executed: executed,
        SpawnFailed: spawn_failed,
        ProcessExited: exited,
        ScopeEmptied: nothing,
        DeadlinePassed: starting_deadline,
    },
    Phase.RUNNING: _TOLD_BESIDE
    | {
        CheckChanged: check_changed,
        WatchdogPinged: watchdog_pinged,
        WatchdogChanged: watchdog_changed,
        WatchdogTriggered: watchdog_triggered,
        ReloadRequested: reload_requested,
        ReloadBegan: reload_began,
        BecameReady: ready_again,
        HookEnded: reload_command_ended,
        TimeoutExtended: _extend_run,
        MainPidChanged: _name_heir,
        MainReplaced: _replace_main,
        FailRequested: _fail,
        AttemptsForgiven: _forgive,
        StartRequested: nothing,
        StopRequested: _stop,
        RestartRequested: _restart,
        ResetRequested: _forget,
        KillRequested: _kill_at_once,
        GateOpened: nothing,
        ProcessExited: exited,
        ScopeEmptied: nothing,
        DeadlinePassed: _running_deadline,
    },
    Phase.STOPPING: _TOLD_BESIDE
    | {
        HookEnded: hook_ended_while_stopping,
        TimeoutExtended: _extend_stop,
        FailRequested: _fail_while_stopping,
        AttemptsForgiven: _forgive,
        StartRequested: _start_while_stopping,
        StopRequested: _stop_while_stopping,
        RestartRequested: _start_while_stopping,
        ResetRequested: _forget,
        KillRequested: _kill_while_stopping,
        GateOpened: nothing,
        Executed: nothing,
        SpawnFailed: spawn_failed,
        ProcessExited: exited,
        ScopeEmptied: scope_emptied,
        DeadlinePassed: _stopping_deadline,
    },
    Phase.BACKOFF: _RESTING
    | {
        FailRequested: _fail_at_once,
        StopRequested: _stopped_at_once,
        KillRequested: _never_start,
        DeadlinePassed: _start_again,
    },
    Phase.EXITED: _RESTING,
    Phase.FAILED: _RESTING
    | {
        StartRequested: _start_failed_one,
        StopRequested: _want_down,
        RestartRequested: _start_failed_one,
        ResetRequested: _reset_failed,
    },
}
