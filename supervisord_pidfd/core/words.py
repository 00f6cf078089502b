"""How lengths, ends and askers are written in explanations and outcomes."""

import itertools
import math
from collections.abc import Callable

from supervisord_pidfd.core.exitstatus import Cause, Exited, Signaled
from supervisord_pidfd.core.lifecycle import End

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SAID_BY_STATUS = frozenset(
    {Cause.SUCCESS, Cause.EXIT_CODE, Cause.SIGNAL, Cause.CORE_DUMP, Cause.UNKNOWN}
)


def age(seconds: float) -> str:
    """Write a length in at most two units: `3s`, `10m`, `12m 12s`, `3d 04h`."""
    left = max(0, int(seconds))
    for (size, unit), (smaller, below) in itertools.pairwise(_UNITS):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size}{unit}" + (f" {rest:02d}{below}" if rest else "")
    return f"{left}s"


def rough(seconds: float) -> str:
    """Write a length in its largest unit alone: `3s`, `12m`, `3d`."""
    left = max(0, int(seconds))
    for size, unit in _UNITS:
        if left >= size:
            return f"{left // size}{unit}"
    return "0s"


def length(seconds: float) -> str:
    """Write a length with a tenth of a second where that matters: `0.2s`, `12m 12s`."""
    if math.isinf(seconds):
        return "for ever"
    return f"{seconds:.1f}s" if seconds < 9.95 else age(seconds)


def by_whom(by: str) -> str:
    """Write who asked: `uid 0` for `operator:0`; the other words stand for themselves."""
    kind, _, who = by.partition(":")
    return f"uid {who}" if kind == "operator" and who else by


def ended(end: End, signal_name: Callable[[int], str]) -> str:
    """Write how a run ended, with its cause where that is more than the status says."""
    if end.stage is not None:
        return f"cannot start: {end.stage} {end.subject}: {end.error}"
    match end.status:
        case Exited(code):
            said = f"code {code}"
        case Signaled(signum, core):
            said = f"signal {signal_name(signum)}" + (", core dumped" if core else "")
        case _:
            said = "status unknown"
    return said if end.cause in _SAID_BY_STATUS else f"{said} ({end.cause.value})"
