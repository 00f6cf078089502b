"""Measure how late ends are seen: now and then, a child that ends at a moment known beforehand.

It is started and reaped as every child is. It sets a timer that will kill it, tells when that
goes off, and becomes a small program, so that hardly anything is left to be torn down: what is
measured is the kernel's work, the wakeup, and whatever else the loop had to do first.
"""

import signal
import sys
from collections.abc import Callable

from supervisord_pidfd.core.exitstatus import Signaled
from supervisord_pidfd.core.spec import CommandSpec, ServiceSpec
from supervisord_pidfd.errands import Errand, Result
from supervisord_pidfd.hands import Hands

TIMEOUT = 10.0
STAMP_BYTES = 64
NAME = ":canary"

_PROGRAM = """\
import os, signal, time
due = time.monotonic() + 0.05
signal.setitimer(signal.ITIMER_REAL, 0.05)
os.write(1, b"%r" % due)
try:
    os.execvp("sleep", ["sleep", "60"])
except OSError:
    signal.pause()
"""
"""Without `sleep` its own end is measured too: the half millisecond that an interpreter takes."""

_COMMAND = CommandSpec(
    argv=(sys.executable, "-I", "-S", "-c", _PROGRAM), program=sys.executable, fast=True
)


class Canary:
    """Start one test child after the other while an interval is set. Owns the one under way."""

    def __init__(
        self, hands: Hands, observe: Callable[[float], None], is_over: Callable[[], bool]
    ) -> None:
        self._hands = hands
        self._observe = observe
        self._is_over = is_over
        self._interval = 0.0
        self._next = hands.loop.deadline(self._begin)
        self._errand: Errand | None = None

    def use(self, interval: float) -> None:
        """Begin, or go on, with another interval in seconds; 0 ends it."""
        if interval == self._interval:
            return
        self._interval = interval
        if interval:
            self._next.arm(self._hands.loop.clock.now() + interval)
        else:
            self.close()

    def close(self) -> None:
        """End what is under way."""
        self._interval = 0.0
        self._next.disarm()
        if self._errand is not None:
            self._errand.cancel()
            self._errand = None

    def _begin(self) -> None:
        if self._is_over():
            return
        self._next.arm(self._hands.loop.clock.now() + self._interval)
        if self._errand is None:  # one that hangs is not joined by others
            spec = ServiceSpec(name=NAME, argv=_COMMAND.argv)
            self._errand = Errand(
                self._hands, spec, _COMMAND, TIMEOUT, {}, self._ended, STAMP_BYTES
            )

    def _ended(self, result: Result) -> None:
        """Observe it, if it ended as it was to end."""
        self._errand = None
        due = _stamp(result.output)
        if due is not None and result.status == Signaled(signal.SIGALRM):
            self._observe(max(0.0, result.ended_at - due))


def _stamp(output: bytes) -> float | None:
    try:
        return float(output)
    except ValueError:
        return None
