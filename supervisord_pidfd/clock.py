"""Where time and chance come from."""

import os
import time
from typing import Protocol


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


def roll() -> float:
    """Return a random number in [0, 1), for jitter: the kernel's, where it has one at once.

    Python's own generator is as good, but half a megabyte of code comes with it.
    """
    try:
        number = int.from_bytes(os.getrandom(7, os.GRND_NONBLOCK))
    except OSError:  # early in a boot there is none yet; a filter may forbid it
        number = time.monotonic_ns() * 0x9E3779B97F4A7C15  # spreads neighbours, see Knuth 6.4
    return (number >> 3 & _FRACTION) / (_FRACTION + 1)


_FRACTION = (1 << 53) - 1
"""As many bits as a float has."""


def rfc3339(wall: float) -> str:
    """Format Unix seconds as UTC RFC 3339 with milliseconds."""
    seconds, rest = divmod(int(wall * 1000), 1000)
    said = _said.get(seconds)
    if said is None:  # what happened together is told together, again and again
        if len(_said) >= SECONDS_KEPT:
            _said.clear()
        said = _said[seconds] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{said}.{rest:03d}Z"


SECONDS_KEPT = 64
_said: dict[int, str] = {}
