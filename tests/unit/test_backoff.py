"""How long to wait before an automatic restart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.backoff import delay_before
from supervisord_pidfd.core.spec import BackoffSpec

LENGTHS = st.floats(0, 3.2e8)
SPECS = st.builds(
    BackoffSpec,
    delay=LENGTHS,
    factor=st.floats(1, 1e6),
    max_delay=LENGTHS,
    jitter=st.floats(0, 1),
    reset_after=LENGTHS,
)
ROLLS = st.floats(0, 1, exclude_max=True)


def test_the_series_of_the_defaults():
    delays = [delay_before(attempt, BackoffSpec(), roll=0) for attempt in range(1, 13)]

    expected = [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    assert delays == pytest.approx(expected)


def test_jitter_lengthens_by_its_share_of_the_roll():
    delay = delay_before(4, BackoffSpec(jitter=0.5), roll=0.5)

    assert delay == pytest.approx(0.4 * 1.25)


def test_jitter_comes_on_top_of_the_cap():
    delay = delay_before(50, BackoffSpec(max_delay=30, jitter=0.1), roll=0.999)

    assert 30 < delay < 33


def test_a_delay_of_nothing_stays_nothing():
    spec = BackoffSpec(delay=0)

    assert {delay_before(attempt, spec, roll=0.9) for attempt in (1, 2, 3, 10_000)} == {0}


def test_a_factor_of_one_keeps_the_delay():
    spec = BackoffSpec(delay=3, factor=1)

    assert [delay_before(attempt, spec, roll=0) for attempt in (2, 3, 40)] == [3, 3, 3]


def test_the_cap_holds_for_the_first_delay_too():
    assert delay_before(2, BackoffSpec(delay=60, max_delay=5), roll=0) == 5


def test_a_row_too_long_for_a_float_waits_for_the_longest_time():
    assert delay_before(100_000, BackoffSpec(), roll=0) == 30


@given(SPECS, ROLLS)
def test_the_first_restart_is_immediate(spec, roll):
    assert delay_before(1, spec, roll) == 0


@given(st.integers(1, 5000), SPECS, ROLLS)
def test_a_delay_never_exceeds_the_cap_and_its_jitter(attempt, spec, roll):
    delay = delay_before(attempt, spec, roll)

    assert 0 <= delay <= spec.max_delay * (1 + spec.jitter)
    assert math.isfinite(delay)


@given(st.integers(1, 2000), SPECS, ROLLS)
def test_with_the_same_roll_a_row_never_gets_shorter(attempt, spec, roll):
    assert delay_before(attempt, spec, roll) <= delay_before(attempt + 1, spec, roll)
