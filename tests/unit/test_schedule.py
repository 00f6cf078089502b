"""When a task runs by its schedule, and what becomes of a run that finds the last one at work."""

import pytest

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.schedule import (
    BACK_MOST,
    OVER,
    Due,
    ask_after,
    comes_due,
    delayed,
    next_every,
)
from supervisord_pidfd.core.spec import Overlap, ScheduleSpec

AT_WORK = (Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.BACKOFF)


@pytest.mark.parametrize("overlap", list(Overlap))
@pytest.mark.parametrize("phase", sorted(OVER))
def test_what_is_over_is_started(overlap, phase):
    assert comes_due(overlap, phase) is Due.START


@pytest.mark.parametrize("phase", AT_WORK)
@pytest.mark.parametrize(
    ("overlap", "due"),
    [
        (Overlap.SKIP, Due.SKIP),
        (Overlap.QUEUE, Due.QUEUE),
        (Overlap.RESTART, Due.RESTART),
    ],
)
def test_what_is_at_work_is_treated_as_asked(overlap, due, phase):
    assert comes_due(overlap, phase) is due


@pytest.mark.parametrize("overlap", list(Overlap))
def test_what_waits_to_run_is_left_alone(overlap):
    assert comes_due(overlap, Phase.WAITING) is Due.SKIP


@pytest.mark.parametrize(
    ("due", "now", "following"),
    [(100.0, 100.0, 160.0), (100.0, 130.0, 160.0), (100.0, 160.0, 220.0), (100.0, 500.0, 560.0)],
)
def test_what_was_missed_is_not_made_up(due, now, following):
    assert next_every(ScheduleSpec(every=60.0), due, now) == following


def test_a_run_is_put_off_by_chance_up_to_the_jitter():
    spec = ScheduleSpec(every=60.0, jitter=10.0)

    assert [delayed(spec, 100.0, roll) for roll in (0.0, 0.5)] == [100.0, 105.0]


@pytest.mark.parametrize(
    ("last", "wall", "after"),
    [
        (100.0, 100.5, 100.5),  # as time goes by
        (100.0, 9999.0, 9999.0),  # forward: what lay between is gone
        (100.0, 99.0, 100.0),  # a little back: not once more
        (20_000.0, 20_000.0 - BACK_MOST - 1, 20_000.0 - BACK_MOST - 1),  # another day
    ],
)
def test_a_clock_that_is_set_repeats_nothing_and_makes_nothing_up(last, wall, after):
    assert ask_after(last, wall) == after
