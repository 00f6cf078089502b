"""When a task runs by its schedule, and what happens if its last run is not over: pure rules.

`every` counts from start to start. A start by command counts too; an automatic restart does not,
it belongs to the run before. What is left out is left out: the next time is one period on.

`calendar` is read elsewhere, in Unix seconds. Here is only what follows when the clock is set:
times that the clock jumped over are not made up, and a short way back does not repeat them.
"""

import enum

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.spec import Overlap, ScheduleSpec

BACK_MOST = 3 * 3600.0
"""Seconds; a clock that is set back by more starts the calendar anew, as cron(8) has it."""

OVER = frozenset({Phase.STOPPED, Phase.EXITED, Phase.FAILED})
"""Phases in which the last run is over and nothing follows by itself."""


class Due(enum.Enum):
    """Say what to do with a run that has come due."""

    START = "start"
    SKIP = "skip"
    QUEUE = "queue"
    RESTART = "restart"


def comes_due(overlap: Overlap, phase: Phase) -> Due:
    """Decide on a run that has come due while the service is in this phase.

    One that waits for something else is about to run: there is nothing to repeat or to end.
    """
    if phase in OVER:
        return Due.START
    if phase is Phase.WAITING:
        return Due.SKIP
    return Due(overlap.value)


def next_every(spec: ScheduleSpec, due: float, now: float) -> float:
    """Return when the run after the one due at `due` comes due, later than `now`."""
    every = spec.every or 0.0
    following = due + every
    return following if following > now else now + every


def delayed(spec: ScheduleSpec, due: float, roll: float) -> float:
    """Return when to start what is due: up to `jitter` later, by chance."""
    return due + spec.jitter * roll


def ask_after(last: float, wall: float) -> float:
    """Return after which time to look for the next one, when the last was due at `last`.

    That is now; but where the clock went back a little behind a time that was kept already, that
    time does not come again.
    """
    return last if wall <= last <= wall + BACK_MOST else wall
