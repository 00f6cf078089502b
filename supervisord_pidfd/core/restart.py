"""Whether to start again: the seven policies, the two lists, and the start limit."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from supervisord_pidfd.core.exitstatus import Cause, ExitStatus
from supervisord_pidfd.core.spec import LimitAction, RestartPolicy, ServiceSpec, StartLimitSpec

_WATCHED = frozenset({Cause.WATCHDOG, Cause.HEALTH})
_ABNORMAL = _WATCHED | {Cause.SIGNAL, Cause.CORE_DUMP, Cause.OOM, Cause.TIMEOUT}
_FAILURES = _ABNORMAL | {Cause.EXIT_CODE, Cause.SPAWN_ERROR, Cause.HOOK, Cause.UNKNOWN}

RESTARTED: dict[RestartPolicy, AbstractSet[Cause]] = {
    RestartPolicy.NO: frozenset(),
    RestartPolicy.ON_SUCCESS: frozenset({Cause.SUCCESS}),
    RestartPolicy.ON_WATCHDOG: _WATCHED,
    RestartPolicy.ON_ABNORMAL: _ABNORMAL,
    RestartPolicy.ON_FAILURE: _FAILURES,
    RestartPolicy.ALWAYS: _FAILURES | {Cause.SUCCESS},
    RestartPolicy.UNLESS_STOPPED: _FAILURES | {Cause.SUCCESS},
}
"""Policy → the causes that it starts again after. Ends somebody asked for are not its business."""


class Verdict(NamedTuple):
    """Say whether to start again, and if a list rather than the policy decided."""

    restart: bool
    prevented: bool = False


def wants_restart(spec: ServiceSpec, cause: Cause, status: ExitStatus | None) -> Verdict:
    """Decide by the lists, then by policy; `status` is None where nothing was executed.

    `restart_prevent` wins over `restart_force`, and both over the policy.
    """
    if status is not None and spec.restart_prevent.includes(status):
        return Verdict(restart=False, prevented=True)
    if status is not None and spec.restart_force.includes(status):
        return Verdict(restart=True)
    return Verdict(restart=cause in RESTARTED[spec.restart])


def in_window(starts: tuple[float, ...], limit: StartLimitSpec, now: float) -> tuple[float, ...]:
    """Keep the automatic restarts that still count, newest last, at most `burst` of them."""
    if not limit.burst:
        return ()
    return tuple(start for start in starts if now - start < limit.interval)[-limit.burst :]


def within_limit(starts: tuple[float, ...], limit: StartLimitSpec, now: float) -> bool:
    """Tell whether one more automatic restart is allowed at `now`; burst 0 always allows it."""
    return not limit.burst or len(in_window(starts, limit, now)) < limit.burst


def slow_retry_delay(limit: StartLimitSpec) -> float | None:
    """Return the pace beyond the limit, one try per interval ÷ burst; None: there it ends."""
    if limit.action is not LimitAction.SLOW_RETRY:
        return None
    return limit.interval / limit.burst
