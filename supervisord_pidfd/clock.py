"""Where time comes from."""

import time
from typing import Any, Protocol


class Clock(Protocol):
    """Tell the time; the tests have one that can be moved."""

    def now(self) -> float:
        """Return CLOCK_MONOTONIC seconds: for every decision."""
        ...

    def wall(self) -> float:
        """Return Unix seconds: for what people read, and for nothing else."""
        ...


class SystemClock:
    """Read the kernel's clocks."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def rfc3339(wall: float) -> str:
    """Format Unix seconds as UTC RFC 3339 with milliseconds."""
    seconds, rest = divmod(int(wall * 1000), 1000)
    if seconds != _last[0]:  # what happens together is told together
        _last[:] = seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{_last[1]}.{rest:03d}Z"


_last: list[Any] = [None, ""]
