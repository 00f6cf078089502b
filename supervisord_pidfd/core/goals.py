"""When what a command asked of a service is reached, or will not be: questions to its state.

A start is judged by one run: the one under way when it was asked for, or else the next. It is over
at the first of ready, an end of that run, or (elsewhere) the client's timeout.
"""

import enum
import math
from collections.abc import Callable
from typing import NamedTuple, assert_never

from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted, health_of, is_ready
from supervisord_pidfd.core.spec import ReadyKind, ServiceSpec, ServiceType
from supervisord_pidfd.core.words import by_whom, ended, length

AT_ONCE = 0.05
_DOWN = frozenset({Phase.STOPPED, Phase.EXITED, Phase.FAILED})
_UP = frozenset({Phase.STARTING, Phase.RUNNING})


class Goal(enum.Enum):
    """Name what can be waited for."""

    STARTED = "started"
    READY = "ready"
    RUNNING = "running"
    HEALTHY = "healthy"
    DOWN = "down"
    RELOADED = "reloaded"
    GONE = "gone"


class Asked(NamedTuple):
    """Hold what was asked of a service: the goal, when, and the run that decides a start.

    `settle` is how long a `simple` service without `ready.*` must also stay up, in seconds;
    `reloads` how many reloads have to be over, one of which may be under way already.
    """

    goal: Goal
    at: float
    run: int = 0
    settle: float = 0.0
    reloads: int = 1


class Verdict(NamedTuple):
    """Hold how it went; while `ok` is None it is open, and asked again at the moment `again`."""

    ok: bool | None
    message: str = ""
    again: float = math.inf


OPEN = Verdict(None)


def ask_start(state: ServiceState, at: float, settle: float = 0.0) -> Asked:
    """Ask for a start, just before it is posted: what is up decides, else the next run."""
    fresh = 0 if state.phase in _UP else 1
    return Asked(Goal.STARTED, at, state.run + fresh, settle)


def ask_restart(state: ServiceState, at: float, settle: float = 0.0) -> Asked:
    """Ask for a new run, just before it is posted."""
    return Asked(Goal.STARTED, at, state.run + 1, settle)


def judge(
    asked: Asked,
    spec: ServiceSpec,
    state: ServiceState,
    now: float,
    signal_name: Callable[[int], str],
) -> Verdict:
    """Tell whether a goal is reached, out of reach, or still open."""
    match asked.goal:
        case Goal.DOWN:
            return _down(asked, state)
        case Goal.STARTED:
            return _started(asked, spec, state, now, signal_name)
        case Goal.READY | Goal.RUNNING | Goal.HEALTHY:
            return _there(state, reached=_is_there(asked.goal, spec, state))
        case Goal.RELOADED:
            return _reloaded(asked, state)
        case Goal.GONE:  # told when it is removed
            return OPEN
        case _:
            assert_never(asked.goal)


def _there(state: ServiceState, *, reached: bool) -> Verdict:
    if reached:
        return Verdict(True, state.phase.value)
    return Verdict(False, "failed") if state.phase is Phase.FAILED else OPEN


def _is_there(goal: Goal, spec: ServiceSpec, state: ServiceState) -> bool:
    """Tell whether a service is where it is awaited; without checks it is healthy when ready."""
    if goal is Goal.RUNNING:
        return state.phase is Phase.RUNNING
    health = health_of(spec, state) if goal is Goal.HEALTHY else "none"
    return health == "healthy" or (health == "none" and is_ready(spec, state))


def _reloaded(asked: Asked, state: ServiceState) -> Verdict:
    """Judge a reload by what ends it early; that it is done is told."""
    if state.run != asked.run or state.phase is not Phase.RUNNING:
        return Verdict(False, f"{state.phase.value} before it had reloaded")
    return OPEN


def _down(asked: Asked, state: ServiceState) -> Verdict:
    if state.phase not in _DOWN:
        return OPEN
    took = state.since - asked.at
    return Verdict(True, f"stopped (after {length(took)})" if took > 0 else "stopped (already)")


def _started(
    asked: Asked,
    spec: ServiceSpec,
    state: ServiceState,
    now: float,
    signal_name: Callable[[int], str],
) -> Verdict:
    if state.run < asked.run:
        return _not_begun(state)
    if state.run > asked.run:  # it has been started again in the meantime
        return _failed(spec, state, "tried again", signal_name)
    if is_ready(spec, state) and state.phase is Phase.RUNNING:
        return _ready(asked, spec, state, now)
    if state.phase is Phase.EXITED and spec.type is ServiceType.ONESHOT:
        return Verdict(True, f"exited (code 0{_lasted(state)})")
    if state.phase is Phase.STOPPED:
        return Verdict(False, f"stopped by {by_whom(state.stop_by)}")
    following = _following(state)
    return OPEN if following is None else _failed(spec, state, following, signal_name)


def _following(state: ServiceState) -> str | None:
    """Say what follows the end of the run, None while it has not ended."""
    match state.phase:
        case Phase.BACKOFF:
            wait = state.next_start_at - state.since
            return "next try at once" if wait < AT_ONCE else f"next try in {length(wait)}"
        case Phase.FAILED:
            return "it stays failed"
        case Phase.EXITED:
            return "it stays down"
        case _:
            return None


def _not_begun(state: ServiceState) -> Verdict:
    if state.wanted is Wanted.DOWN and state.phase in _DOWN:
        return Verdict(False, f"stopped by {by_whom(state.stop_by)}")
    if state.phase is Phase.FAILED:
        return Verdict(False, "failed")
    return OPEN


def _ready(asked: Asked, spec: ServiceSpec, state: ServiceState, now: float) -> Verdict:
    ready_at = state.ready_at if state.ready_at is not None else now
    simple = spec.type is ServiceType.SIMPLE and spec.ready.kind is ReadyKind.EXECUTED
    settled = ready_at + asked.settle if simple else ready_at
    if now < settled:
        return Verdict(None, again=settled)
    took = ready_at - asked.at
    return Verdict(
        True, f"running (ready in {length(took)})" if took >= 0 else "running (already)"
    )


def _failed(
    spec: ServiceSpec, state: ServiceState, following: str, signal_name: Callable[[int], str]
) -> Verdict:
    if state.last_exit is None:
        return Verdict(False, f"cannot start: {following}")
    said = ended(state.last_exit, signal_name)
    if state.last_exit.stage is None:
        said = f"cannot start: {said}{_lasted(state)}"
    return Verdict(False, f"{said}; {following} (pidfdctl explain {spec.name})")


def _lasted(state: ServiceState) -> str:
    """Write how long the run lasted; nothing where the next one has begun."""
    if state.started_at is None or state.phase in _UP:
        return ""
    return f" after {length(state.since - state.started_at)}"
