"""Thresholds over verdicts: when a row of failures makes a check fail, and successes pass again.

A check has no state of its own until it has crossed a threshold once: `unknown` is not healthy and
not unhealthy, and nothing follows from it. Two rows are counted, of failures and of successes, and
each kind of verdict ends the other's row.
"""

import math
from typing import NamedTuple

from supervisord_pidfd.core.spec import CheckSpec


class Verdict(NamedTuple):
    """Hold how one run of a check went; `error` says in a few words why not well."""

    ok: bool
    took_s: float = 0.0
    error: str = ""
    timed_out: bool = False

    @property
    def result(self) -> str:
        """Return the word that the metrics count it under."""
        if self.ok:
            return "success"
        return "timeout" if self.timed_out else "failure"


class Health(NamedTuple):
    """Hold what is known of one check: passing, failing, or (None) not decided yet."""

    ok: bool | None = None
    failures: int = 0
    successes: int = 0


UNKNOWN = Health()


def observe(spec: CheckSpec, health: Health, verdict: Verdict) -> tuple[Health, bool | None]:
    """Take in a verdict; return the new health and, where a threshold was crossed, which way.

    The second is True for "passes now", False for "fails now", None for no change.
    """
    if verdict.ok:
        successes = health.successes + 1
        crossed = health.ok is not True and successes >= spec.successes
        ok = True if crossed else health.ok
        return Health(ok, 0, successes), True if crossed else None
    failures = health.failures + 1
    crossed = health.ok is not False and failures >= spec.failures
    ok = False if crossed else health.ok
    return Health(ok, failures, 0), False if crossed else None


# -- when checks run ------------------------------------------------------------------------------

FIRST_WITHIN = 1.0
"""First runs of checks that begin together are spread over so many seconds, or a period."""

_GOLDEN = 0.6180339887498949


def share_of(ident: int) -> float:
    """Return a share in [0, 1) that lies far from those of the numbers before it."""
    return math.modf(ident * _GOLDEN)[0]


def first_run(began: float, ident: int, period: float) -> float:
    """Return when a check that may run from `began` on is run first."""
    return began + share_of(ident) * min(FIRST_WITHIN, period)


def next_run(began: float, ident: int, period: float, now: float) -> float:
    """Return when it runs next: on a grid of its own, at least half a period from `now`."""
    origin = began + share_of(ident) * period
    return origin + math.ceil((now + period / 2 - origin) / period) * period


# -- what is known of a check ---------------------------------------------------------------------


class CheckRecord:
    """Hold a check's health and what was counted of it, over all runs of its service.

    `last_wall` is Unix seconds, `error` what the last failure said, None after a success.
    """

    __slots__ = ("error", "health", "kind", "last_duration", "last_wall", "name", "runs")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.health = UNKNOWN
        self.runs: dict[str, int] = {}
        self.last_wall: float | None = None
        self.last_duration: float | None = None
        self.error: str | None = None

    def count(self, verdict: Verdict, wall: float) -> None:
        """Count one run."""
        self.runs[verdict.result] = self.runs.get(verdict.result, 0) + 1
        self.last_wall = wall
        self.last_duration = verdict.took_s
        self.error = None if verdict.ok else verdict.error

    def plain(self) -> dict[str, object]:
        """Return the record as plain data, in the members of the control interface's `Check`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "ok": self.health.ok,
            "failures": self.health.failures,
            "runs": dict(self.runs),
            "last_ts": self.last_wall,
            "last_duration_s": self.last_duration,
            "error": self.error,
        }
