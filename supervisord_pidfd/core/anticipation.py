"""Decide ahead which ends of a run are answered by an immediate start.

The machine takes some tens of Python calls to get from an exit to `Spawn`; after a while of rest
each of them runs from cold caches. So while a service runs, the answer is worked out for every
status it might end with, as two bit masks and a moment from which they hold. When it ends with one
of these, the shell may start the next run first and ask the machine afterwards. Nothing is decided
twice: the orders are read off the same policy, and a property test holds them against the machine.
"""

from typing import NamedTuple, assert_never

from supervisord_pidfd.core.backoff import delay_before
from supervisord_pidfd.core.exitstatus import (
    Ends,
    Exited,
    ExitStatus,
    Signaled,
    Unknown,
    cause_of,
)
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted
from supervisord_pidfd.core.restart import wants_restart, within_limit
from supervisord_pidfd.core.spec import RestartPolicy, ServiceSpec

CODES, SIGNALS = range(256), range(1, 65)


class StandingOrder(NamedTuple):
    """Say which ends mean "start again at once": a bit for each code and signal, from a moment on.

    The run that the order is for is named, so that no order outlives its run.
    """

    run: int
    codes: int
    signals: int
    core_signals: int
    valid_from: float


class _Ends(NamedTuple):
    codes: int
    signals: int
    core_signals: int


_Key = tuple[RestartPolicy, Ends, Ends, Ends]
_KNOWN: dict[_Key, _Ends] = {}


def covers(order: StandingOrder, status: ExitStatus, now: float) -> bool:
    """Tell whether a run that has ended like this is followed by another at once."""
    if now < order.valid_from:
        return False
    match status:
        case Exited(code):
            return bool(order.codes >> code & 1)
        case Signaled(signum, core):
            return bool((order.core_signals if core else order.signals) >> signum & 1)
        case Unknown():
            return False
        case _:
            assert_never(status)


def standing_order(spec: ServiceSpec, state: ServiceState, now: float) -> StandingOrder | None:
    """Work out the order for a run that is up; None where no end starts it again at once."""
    if state.phase is not Phase.RUNNING or _something_stands_between(spec, state):
        return None
    if not within_limit(state.starts, spec.start_limit, now):
        return None
    valid_from = now
    if delay_before(state.attempt + 1, spec.backoff, 1.0) > 0:
        # Only a run that was ready for long enough is followed without a wait.
        if state.ready_at is None:
            return None
        valid_from = state.ready_at + spec.backoff.reset_after
    ends = _restarted(spec)
    if not any(ends):
        return None
    return StandingOrder(state.run, ends.codes, ends.signals, ends.core_signals, valid_from)


def _something_stands_between(spec: ServiceSpec, state: ServiceState) -> bool:
    """Tell of hooks between an end and a start, of one who goes on, of who wants it down."""
    hooked = spec.hooks.post_stop is not None or spec.hooks.pre_start is not None
    return hooked or state.heir is not None or state.wanted is not Wanted.UP


def _restarted(spec: ServiceSpec) -> _Ends:
    """Return the ends that policy and lists start again after; the same for many services."""
    key = (spec.restart, spec.success, spec.restart_prevent, spec.restart_force)
    ends = _KNOWN.get(key)
    if ends is None:
        ends = _KNOWN[key] = _Ends(
            _mask(spec, [(code, Exited(code)) for code in CODES]),
            _mask(spec, [(signum, Signaled(signum)) for signum in SIGNALS]),
            _mask(spec, [(signum, Signaled(signum, core=True)) for signum in SIGNALS]),
        )
    return ends


def _mask(spec: ServiceSpec, ends: list[tuple[int, ExitStatus]]) -> int:
    mask = 0
    for bit, status in ends:
        if wants_restart(spec, cause_of(status, spec.success), status).restart:
            mask |= 1 << bit
    return mask
