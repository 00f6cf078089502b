"""The service state machine: phase and event → rule, and nothing but arithmetic inside.

Vocabulary. `phase` says what is, `wanted` says what should be; a restart is "stopping and wanted
up". A *run* begins with `Spawn` and ends with the event that ends it: `SpawnFailed`, or
`ProcessExited` and, where others of its scope live on, `ScopeEmptied`. A run is *ready* when its
program was executed and `ready.delay` has passed; a oneshot is ready by ending cleanly.

Deadlines. A state holds moments (CLOCK_MONOTONIC seconds, `inf` = none); the shell arms the
earliest of them and posts `DeadlinePassed` when it comes. A rule that enters a phase writes down
the moments of that phase and thereby drops all others, so no timer can outlive its meaning:

- `start_by` (STARTING): ready by then, or stopped with cause `timeout`.
- `ready_at_due` (STARTING): `ready.delay` is over; the run is ready.
- `max_run_by` (STARTING, RUNNING): longest run; stopped with cause `timeout`.
- `step_by` (STOPPING): the next stop signal, and in the end SIGKILL, which is repeated.
- `kill_by` (STOPPING): SIGKILL whatever the steps say; the daemon's own shutdown budget.
- `unkillable_by` (STOPPING): SIGKILL had no effect until then: say so, once.
- `next_start_at` (BACKOFF): start again.

A stop is a row of steps, each a signal and a wait, then SIGKILL. The same row cleans up what a
main process left behind when it ended by itself; meanwhile the service is STOPPING, wanted up, and
the end it already had is kept in `ended`.

The table is total on purpose: a pair that may happen and means nothing says `_ignore`; a pair that
is not in the table is a bug of the shell and raises `ImpossibleEventError`.
"""

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.actions import Action, EndDaemon, Signal, Spawn
from supervisord_pidfd.core.backoff import delay_before
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
from supervisord_pidfd.core.exitstatus import (
    ASKED_FOR,
    Cause,
    Exited,
    ExitStatus,
    Signaled,
    Unknown,
    Usage,
    cause_of,
)
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceKillEscalated,
    ServiceLeftoversKilled,
    ServiceReady,
    ServiceReset,
    ServiceRestartScheduled,
    ServiceRuntimeExceeded,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStartTimedOut,
    ServiceStatusUnknown,
    ServiceStopped,
    ServiceStopping,
    ServiceUnkillable,
    ServiceWaiting,
)
from supervisord_pidfd.core.restart import (
    in_window,
    slow_retry_delay,
    wants_restart,
    within_limit,
)
from supervisord_pidfd.core.spec import LimitAction, ReadyKind, Scope, ServiceSpec, ServiceType
from supervisord_pidfd.errors import ImpossibleEventError

SIGKILL = 9
REKILL_EVERY = 1.0
UNKILLABLE_AFTER = 5.0
HOST_FAULT_DELAY = 0.1
"""Least wait after a start that failed for want of memory, processes or descriptors."""

HOST_FAULTS = frozenset({"EAGAIN", "ENOMEM", "EMFILE", "ENFILE"})
"""Spawn errors of the host: always tried again, never counted against the service."""

_READY_BY_ITSELF = frozenset({ReadyKind.EXECUTED, ReadyKind.DELAY})
"""Ways to be ready that nobody has to tell."""

EXIT_LIMIT = 10
EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE, EXIT_SPAWN_ERROR = 127, 126, 125


class Phase(enum.StrEnum):
    """Name the eight phases."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    EXITED = "exited"
    FAILED = "failed"


class Held(NamedTuple):
    """Say what a start has to wait for: a service or a limit, and the condition if it has one."""

    on: str
    condition: str | None = None


class Wanted(enum.StrEnum):
    """Say what should be."""

    UP = "up"
    DOWN = "down"


class End(NamedTuple):
    """Hold how a run ended; `status` is None where nothing was executed."""

    cause: Cause
    status: ExitStatus | None = None
    forced: bool = False
    stage: str | None = None
    subject: str | None = None
    error: str | None = None


class _Members(NamedTuple):
    """Declare what a `ServiceState` holds."""

    phase: Phase = Phase.STOPPED
    wanted: Wanted = Wanted.DOWN
    since: float = 0.0
    pid: int | None = None
    run: int = 0
    attempt: int = 0
    restarts: int = 0
    starts: tuple[float, ...] = ()
    started_at: float | None = None
    ready_at: float | None = None
    last_exit: End | None = None
    # the run
    executed: bool = False
    way: str | None = None
    reloading: bool = False
    checked: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    # stopping
    stop_cause: Cause | None = None
    stop_by: str = ""
    stop_asked_at: float = 0.0
    start_queued: bool = False
    step: int = 0
    forced: bool = False
    unkillable: bool = False
    ended: End | None = None
    # moments of the phase
    start_by: float = math.inf
    ready_at_due: float = math.inf
    max_run_by: float = math.inf
    step_by: float = math.inf
    kill_by: float = math.inf
    unkillable_by: float = math.inf
    next_start_at: float = math.inf


class ServiceState(_Members):
    """Hold everything the machine knows of one service; moments are CLOCK_MONOTONIC seconds."""

    __slots__ = ()

    def _replace(self, **changes: Any) -> "ServiceState":
        """Return a copy with these members; a third of the cost of what NamedTuple makes.

        A restart takes nine of these, and a storm of exits a thousand times as many.
        """
        members = list(self)
        for name, value in changes.items():
            members[_INDEX[name]] = value
        return _new(ServiceState, members)

    @property
    def deadline(self) -> float:
        """Return the earliest moment this state holds, `inf` if none."""
        moments: Any = self[_MOMENTS]  # floats all of them, which a slice cannot say
        return float(min(moments))

    @property
    def has_process(self) -> bool:
        """Tell whether a main process exists."""
        return self.pid is not None


_INDEX = {name: index for index, name in enumerate(_Members._fields)}
_MOMENTS = slice(_INDEX["start_by"], len(_INDEX))
_NO_MOMENTS = [math.inf] * (len(_INDEX) - _MOMENTS.start)
_new = tuple.__new__

NO_RUN: dict[str, Any] = {
    "executed": False,
    "way": None,
    "reloading": False,
    "checked": (),
    "failing": (),
}

NO_STOP = {
    "stop_cause": None,
    "start_queued": False,
    "step": 0,
    "forced": False,
    "unkillable": False,
    "ended": None,
}


class At(NamedTuple):
    """Hold where a step starts from. `held` names what a start has to wait for, if anything."""

    spec: ServiceSpec
    state: ServiceState
    now: float
    roll: float
    held: "Held | None"

    def become(self, phase: Phase, **changes: Any) -> ServiceState:
        """Enter a phase: its moments are those named in `changes`, all others end."""
        members = list(self.state)
        members[_MOMENTS] = _NO_MOMENTS
        changes["phase"], changes["since"] = phase, self.now
        for name, value in changes.items():
            members[_INDEX[name]] = value
        return _new(ServiceState, members)

    @property
    def lasted(self) -> float:
        """Return for how long the run has had a process."""
        started_at = self.state.started_at
        return 0.0 if started_at is None else self.now - started_at

    def stopping(self, by: str, **changes: Any) -> ServiceState:
        """Enter STOPPING at its first step."""
        begun = {"stop_by": by, "stop_asked_at": self.now, "step": 0}
        return self.become(Phase.STOPPING, **(begun | changes))

    def settle(self, phase: Phase, **changes: Any) -> ServiceState:
        """Enter a phase that has no process, and forget the stop that led there."""
        return self.become(phase, **(NO_RUN | NO_STOP | changes))


class Step(NamedTuple):
    """Hold the outcome: the new state, what the shell must do, what observers are told."""

    state: ServiceState
    actions: tuple[Action, ...] = ()
    notices: tuple[Any, ...] = ()


Rule = Callable[[At, Any], Step]


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


def daemon_code(end: End) -> int:
    """Return the daemon's exit code when this end of a main or critical service ends it."""
    match end.status:
        case Exited(code):
            return code
        case Signaled(signum, _):
            return 128 + signum
        case _ if end.stage != "exec":  # no directory, no user, …: not the program's absence
            return EXIT_SPAWN_ERROR
        case _ if end.error == "ENOENT":
            return EXIT_NOT_FOUND
        case _ if end.error in {"EACCES", "ENOEXEC", "EISDIR"}:
            return EXIT_NOT_EXECUTABLE
        case _:
            return EXIT_SPAWN_ERROR


# -- starting -------------------------------------------------------------------------------------


def _start(at: At, _event: object = None) -> Step:
    """Start by command: a new row of attempts, and not spent from the start limit."""
    return _start_if_open(at._replace(state=at.state._replace(wanted=Wanted.UP, attempt=0)))


def _start_if_open(at: At, _event: object = None) -> Step:
    """Start, unless the start is held; an automatic restart is spent from the limit here."""
    if at.held:
        return _wait(at, at.held)
    state = at.state
    if state.attempt and not _is_host_fault(state.last_exit):
        starts = in_window((*state.starts, at.now), at.spec.start_limit, at.now)
        return _spawn(at._replace(state=state._replace(starts=starts)))
    return _spawn(at)


def _wait(at: At, held: Held) -> Step:
    if at.state.phase is Phase.WAITING:
        return Step(at.state)
    return Step(
        at.settle(Phase.WAITING, pid=None), notices=(ServiceWaiting(held.on, held.condition),)
    )


def _start_while_waiting(at: At, _event: StartRequested | RestartRequested) -> Step:
    """Make the start that is held one by command."""
    return Step(at.state._replace(attempt=0))


def _spawn(at: At) -> Step:
    state = at.settle(
        Phase.STARTING,
        pid=None,
        run=at.state.run + 1,
        restarts=at.state.restarts + (at.state.run > 0),
        started_at=None,
        ready_at=None,
        start_by=at.now + at.spec.start_timeout,
        max_run_by=at.now + at.spec.runtime_max,
    )
    return Step(state, (Spawn(),), (ServiceStarting(state.attempt),))


def _spawned(at: At, event: Spawned) -> Step:
    state = at.state._replace(pid=event.pid, started_at=at.now)
    return Step(state, notices=(ServiceSpawned(event.took_s),))


def _executed(at: At, _event: Executed) -> Step:
    state = at.state._replace(executed=True)
    if state.way is not None:  # it was quicker to say so than we were to learn of its start
        return _ready(at._replace(state=state), state.way)
    if at.spec.type is ServiceType.SIMPLE and at.spec.ready.kind in _READY_BY_ITSELF:
        if at.spec.ready.delay <= 0:
            return _ready(at._replace(state=state), "executed")
        state = state._replace(ready_at_due=at.now + at.spec.ready.delay)
    return Step(state)


def _became_ready(at: At, event: BecameReady) -> Step:
    if at.state.executed:
        return _ready(at, event.way)
    return Step(at.state._replace(way=event.way) if at.state.has_process else at.state)


def _ready(at: At, way: str) -> Step:
    state = at.become(Phase.RUNNING, ready_at=at.now, max_run_by=at.state.max_run_by)
    return Step(state, notices=(ServiceReady(way, at.lasted),))


def _starting_deadline(at: At, _event: DeadlinePassed) -> Step:
    state = at.state
    if state.ready_at_due <= at.now:
        return _ready(at, "delay")
    if state.start_by <= at.now:
        timed_out = ServiceStartTimedOut(at.spec.start_timeout)
        return _stop_for_timeout(at, timed_out)
    return _running_deadline(at, _event)


def _check_changed(at: At, event: CheckChanged) -> Step:
    """Note a verdict; what follows it, the spec of the check says."""
    state = at.state
    failing = tuple(name for name in state.failing if name != event.check)
    checked = tuple(name for name in state.checked if name != event.check)
    if event.healthy is not None:
        checked = (*checked, event.check)
    if event.healthy is False:
        failing = (*failing, event.check)
    return Step(state._replace(failing=failing, checked=checked))


def _running_deadline(at: At, _event: DeadlinePassed) -> Step:
    if at.state.max_run_by <= at.now:
        return _stop_for_timeout(at, ServiceRuntimeExceeded(at.spec.runtime_max))
    return Step(at.state)


# -- stopping -------------------------------------------------------------------------------------


def _stop_for_timeout(at: At, notice: ServiceStartTimedOut | ServiceRuntimeExceeded) -> Step:
    begun = _begin_stop(at, "timeout", Cause.TIMEOUT)
    return begun._replace(notices=(notice, *begun.notices))


def _stop(at: At, event: StopRequested) -> Step:
    wanted_down = at._replace(state=at.state._replace(wanted=Wanted.DOWN))
    return _begin_stop(wanted_down, event.by, event.cause, event.kill_by)


def _restart(at: At, event: RestartRequested) -> Step:
    return _begin_stop(at, event.by, event.cause)


def _begin_stop(at: At, by: str, cause: Cause, kill_by: float = math.inf) -> Step:
    """Send the first stop signal to a run that has a process."""
    stop = at.spec.stop
    first = stop.steps[0]
    begun = at._replace(state=at.stopping(by, stop_cause=cause))
    if first.signum == SIGKILL:  # as configured: nothing escalates
        return _kill(begun)._replace(notices=(ServiceStopping(by, SIGKILL, 0.0),))
    timeout = max(0.0, min(stop.timeout, kill_by - at.now))
    return Step(
        begun.state._replace(step_by=at.now + first.timeout, kill_by=kill_by),
        (_signal(at.spec, first.signum),),
        (ServiceStopping(by, first.signum, timeout),),
    )


def _signal(spec: ServiceSpec, signum: int) -> Signal:
    if signum == SIGKILL:
        return Signal(SIGKILL, spec.stop.scope is not Scope.PROCESS, then_continue=False)
    return Signal(signum, spec.stop.scope is Scope.GROUP, then_continue=True)


def _clean_up(at: At, ended: End) -> Step:
    """Begin to end what the main process left behind; it ended by itself."""
    stop = at.spec.stop
    first = stop.steps[0]
    told = ServiceLeftoversKilled(stop.scope.value)
    begun = at._replace(state=at.stopping("policy", ended=ended, pid=None))
    if stop.scope is Scope.MIXED or first.signum == SIGKILL:
        return _kill(begun)._replace(notices=(ServiceStopping("policy", SIGKILL, 0.0), told))
    return Step(
        begun.state._replace(step_by=at.now + first.timeout),
        (_signal(at.spec, first.signum),),
        (ServiceStopping("policy", first.signum, stop.timeout), told),
    )


def _stopping_deadline(at: At, _event: DeadlinePassed) -> Step:
    state, steps = at.state, at.spec.stop.steps
    if state.unkillable_by <= at.now:
        told = state._replace(unkillable=True, unkillable_by=math.inf)
        return Step(told, notices=(ServiceUnkillable(at.now - state.stop_asked_at),))
    if state.kill_by <= at.now:
        return _kill(at)
    if state.step_by > at.now:
        return Step(state)
    following = state.step + 1
    if state.forced or following >= len(steps) or steps[following].signum == SIGKILL:
        return _kill(at)
    signum, timeout = steps[following]
    return Step(
        state._replace(step=following, step_by=at.now + timeout), (_signal(at.spec, signum),)
    )


def _kill(at: At) -> Step:
    """Send SIGKILL; again and again until all are gone, told only the first time."""
    state = at.state._replace(forced=True, step_by=at.now + REKILL_EVERY, kill_by=math.inf)
    action = _signal(at.spec, SIGKILL)
    if at.state.forced:
        return Step(state, (action,))
    escalated = ServiceKillEscalated(at.spec.stop.scope.value, at.now - state.stop_asked_at)
    return Step(state._replace(unkillable_by=at.now + UNKILLABLE_AFTER), (action,), (escalated,))


def _kill_at_once(at: At, _event: KillRequested) -> Step:
    """Stop with SIGKILL as the first signal: the shutdown was hastened."""
    wanted_down = at._replace(state=at.state._replace(wanted=Wanted.DOWN))
    state = wanted_down.stopping("shutdown", stop_cause=Cause.OPERATOR)
    killed = _kill(at._replace(state=state))
    stopping = ServiceStopping("shutdown", SIGKILL, 0.0)
    return killed._replace(notices=(stopping, *killed.notices))


def _kill_while_stopping(at: At, _event: KillRequested) -> Step:
    """Leave out the rest of the steps, and whatever was to follow."""
    state = at.state._replace(wanted=Wanted.DOWN, start_queued=False)
    return _kill(at._replace(state=state))


def _stop_while_stopping(at: At, event: StopRequested) -> Step:
    """Take the service down for good, and not later than this command allows."""
    state = at.state
    return Step(
        state._replace(
            wanted=Wanted.DOWN,
            start_queued=False,
            stop_cause=event.cause,
            stop_by=event.by,
            kill_by=min(state.kill_by, event.kill_by) if not state.forced else math.inf,
        )
    )


def _start_while_stopping(at: At, _event: StartRequested | RestartRequested) -> Step:
    """Queue the start: it follows when the old run is gone."""
    return Step(at.state._replace(wanted=Wanted.UP, start_queued=True))


# -- the end of a run -----------------------------------------------------------------------------


def _exited(at: At, event: ProcessExited) -> Step:
    """Take in the end of the main process, and go on with what its scope and policy say."""
    state = at.state
    cause = state.stop_cause or cause_of(event.status, at.spec.success)
    ended = End(cause, event.status, forced=state.forced)
    told = _exit_notices(at, ended, event.usage)
    gone = at._replace(state=state._replace(pid=None, last_exit=ended))
    if event.scope_empty or at.spec.stop.keep_leftovers or at.spec.stop.scope is Scope.PROCESS:
        following = _after(gone, ended)
    elif state.phase is Phase.STOPPING:
        following = _clean_up_rest(gone, ended)
    else:
        following = _clean_up(gone, ended)
    return following._replace(notices=told + following.notices)


def _clean_up_rest(at: At, ended: End) -> Step:
    """Go on with the stop in course, now for what the main process left behind."""
    waiting = at._replace(state=at.state._replace(ended=ended))
    if at.spec.stop.scope is Scope.MIXED and not at.state.forced:
        return _kill(waiting)._replace(notices=(ServiceLeftoversKilled(Scope.MIXED.value),))
    return Step(waiting.state)


def _exit_notices(at: At, ended: End, usage: Usage) -> tuple[Any, ...]:
    status = ended.status
    exited = ServiceExited(
        cause=ended.cause.value,
        exit_code=status.code if isinstance(status, Exited) else None,
        signal=status.signum if isinstance(status, Signaled) else None,
        core=isinstance(status, Signaled) and status.core,
        forced=ended.forced,
        wanted=at.state.wanted.value,
        lasted_s=at.lasted,
        max_rss_bytes=usage.max_rss_bytes,
        user_cpu_s=usage.user_cpu_s,
        system_cpu_s=usage.system_cpu_s,
    )
    if isinstance(status, Unknown):
        return (ServiceStatusUnknown(status.reason), exited)
    return (exited,)


def _spawn_failed(at: At, event: SpawnFailed) -> Step:
    cause = at.state.stop_cause or Cause.SPAWN_ERROR
    ended = End(cause, None, at.state.forced, event.stage, event.subject, event.error)
    told = ServiceSpawnFailed(event.stage, event.subject, event.error)
    following = _after(at._replace(state=at.state._replace(pid=None, last_exit=ended)), ended)
    return following._replace(notices=(told, *following.notices))


def _scope_emptied(at: At, _event: ScopeEmptied) -> Step:
    if at.state.ended is None:  # the main process lives: the answer to an older question
        return Step(at.state)
    return _after(at, at.state.ended)


def _after(at: At, ended: End) -> Step:
    """Decide what follows a run whose last process is gone."""
    if at.state.wanted is Wanted.DOWN:
        return _down(at, ended)
    if at.state.start_queued or ended.cause in ASKED_FOR:
        return _start(at)
    if _is_host_fault(ended):
        return _back_off(at, ended, least=HOST_FAULT_DELAY)
    verdict = wants_restart(at.spec, ended.cause, ended.status)
    if verdict.restart:
        return _restart_by_policy(at, ended)
    if ended.cause is Cause.SUCCESS:
        return _stay_exited(at, ended)
    return _give_up(at, ended, "prevented" if verdict.prevented else "policy")


def _is_host_fault(ended: End | None) -> bool:
    return ended is not None and ended.cause is Cause.SPAWN_ERROR and ended.error in HOST_FAULTS


def _down(at: At, ended: End) -> Step:
    stopped = ServiceStopped(at.state.stop_by, at.now - at.state.stop_asked_at)
    state = at.settle(Phase.STOPPED)
    return Step(state, _daemon_ends(at.spec.main, ended), (stopped,))


def _stay_exited(at: At, ended: End) -> Step:
    was_stopping = at.state.phase is Phase.STOPPING
    state = at.settle(Phase.EXITED, wanted=Wanted.DOWN)
    # service.exited was told when the main process ended; a clean-up needs a notice of its own.
    notices = (ServiceStopped("policy", at.now - at.state.stop_asked_at),) if was_stopping else ()
    return Step(state, _daemon_ends(at.spec.main, ended), notices)


def _give_up(at: At, ended: End, reason: str) -> Step:
    attempts = _attempts_so_far(at)
    state = at.settle(Phase.FAILED, attempt=attempts)
    notice = ServiceGaveUp(ended.cause.value, reason, attempts)
    ends = _daemon_ends(at.spec.main or at.spec.critical, ended)
    if not ends and reason == "limit" and at.spec.start_limit.action is LimitAction.SHUTDOWN:
        ends = (EndDaemon(EXIT_LIMIT),)
    return Step(state, ends, (notice,))


def _daemon_ends(decisive: bool, ended: End) -> tuple[Action, ...]:  # noqa: FBT001 - one fact
    return (EndDaemon(daemon_code(ended)),) if decisive else ()


def _restart_by_policy(at: At, ended: End) -> Step:
    limit = at.spec.start_limit
    if within_limit(at.state.starts, limit, at.now):
        return _back_off(at, ended)
    slow = slow_retry_delay(limit)
    if slow is None:
        return _give_up(at, ended, "limit")
    return _back_off(at, ended, least=slow)


def _back_off(at: At, ended: End, least: float = 0.0) -> Step:
    """Schedule the next automatic start."""
    attempt = _attempts_so_far(at) + 1
    delay = max(delay_before(attempt, at.spec.backoff, at.roll), least)
    state = at.settle(Phase.BACKOFF, attempt=attempt, next_start_at=at.now + delay)
    limit = at.spec.start_limit.burst or None
    notice = ServiceRestartScheduled(ended.cause.value, attempt, limit, delay)
    return Step(state, notices=(notice,))


def _attempts_so_far(at: At) -> int:
    """Return the attempts of this row, none if the run just ended was ready for long enough."""
    state = at.state
    if state.ready_at is None:
        return state.attempt
    ready_until = state.stop_asked_at if state.phase is Phase.STOPPING else at.now
    return 0 if ready_until - state.ready_at >= at.spec.backoff.reset_after else state.attempt


# -- while there is no process --------------------------------------------------------------------


def _start_again(at: At, _event: DeadlinePassed) -> Step:
    if at.state.next_start_at > at.now:
        return Step(at.state)
    return _start_if_open(at)


def _stopped_at_once(at: At, event: StopRequested) -> Step:
    """Stop where there is no process; the end it already had was its last."""
    last = at.state.last_exit
    state = at.settle(Phase.STOPPED, wanted=Wanted.DOWN, stop_by=event.by)
    ends = () if last is None else _daemon_ends(at.spec.main, last)
    return Step(state, ends, (ServiceStopped(event.by, 0.0),))


def _never_start(at: At, _event: KillRequested) -> Step:
    return _stopped_at_once(at, StopRequested("shutdown"))


def _start_failed_one(at: At, event: StartRequested | RestartRequested) -> Step:
    """Start after giving up: what `reset` does comes first."""
    started = _start(at._replace(state=at.state._replace(starts=())))
    return started._replace(notices=(ServiceReset(event.by), *started.notices))


def _want_down(at: At, event: StopRequested) -> Step:
    """Note that nobody wants it up any more; what ended badly stays visible as failed."""
    return Step(at.state._replace(wanted=Wanted.DOWN, stop_by=event.by))


def _forget(at: At, event: ResetRequested) -> Step:
    return Step(at.state._replace(attempt=0, starts=()), notices=(ServiceReset(event.by),))


def _reset_failed(at: At, event: ResetRequested) -> Step:
    state = at.settle(Phase.STOPPED, wanted=Wanted.DOWN, attempt=0, starts=(), stop_by=event.by)
    return Step(state, notices=(ServiceReset(event.by), ServiceStopped(event.by, 0.0)))


def _ignore(at: At, _event: object) -> Step:
    return Step(at.state)


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
    _ignore,
)  # fmt: skip
"""What is told by others than the process itself may come late: after the end, or the order."""

_RESTING: dict[type, Rule] = _TOLD_BESIDE | {
    StartRequested: _start,
    StopRequested: _ignore,
    RestartRequested: _start,
    ResetRequested: _forget,
    KillRequested: _ignore,
    GateOpened: _ignore,
    ScopeEmptied: _ignore,
    DeadlinePassed: _ignore,
}
"""What a service without a process and without a date does."""

TABLE: dict[Phase, dict[type, Rule]] = {
    Phase.STOPPED: _RESTING,
    Phase.WAITING: _RESTING
    | {
        StartRequested: _start_while_waiting,
        StopRequested: _stopped_at_once,
        RestartRequested: _start_while_waiting,
        KillRequested: _never_start,
        GateOpened: _start_if_open,
    },
    Phase.STARTING: _TOLD_BESIDE
    | {
        BecameReady: _became_ready,
        StartRequested: _ignore,
        StopRequested: _stop,
        RestartRequested: _restart,
        ResetRequested: _forget,
        KillRequested: _kill_at_once,
        GateOpened: _ignore,
        Spawned: _spawned,
        Executed: _executed,
        SpawnFailed: _spawn_failed,
        ProcessExited: _exited,
        ScopeEmptied: _ignore,
        DeadlinePassed: _starting_deadline,
    },
    Phase.RUNNING: _TOLD_BESIDE
    | {
        CheckChanged: _check_changed,
        StartRequested: _ignore,
        StopRequested: _stop,
        RestartRequested: _restart,
        ResetRequested: _forget,
        KillRequested: _kill_at_once,
        GateOpened: _ignore,
        ProcessExited: _exited,
        ScopeEmptied: _ignore,
        DeadlinePassed: _running_deadline,
    },
    Phase.STOPPING: _TOLD_BESIDE
    | {
        StartRequested: _start_while_stopping,
        StopRequested: _stop_while_stopping,
        RestartRequested: _start_while_stopping,
        ResetRequested: _forget,
        KillRequested: _kill_while_stopping,
        GateOpened: _ignore,
        Executed: _ignore,
        SpawnFailed: _spawn_failed,
        ProcessExited: _exited,
        ScopeEmptied: _scope_emptied,
        DeadlinePassed: _stopping_deadline,
    },
    Phase.BACKOFF: _RESTING
    | {
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
