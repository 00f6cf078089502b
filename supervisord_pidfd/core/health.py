"""Thresholds over verdicts: when a row of failures makes a check fail, and successes pass again.

A check has no state of its own until it has crossed a threshold once: `unknown` is not healthy and
not unhealthy, and nothing follows from it. Two rows are counted, of failures and of successes, and
each kind of verdict ends the other's row.
"""

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
