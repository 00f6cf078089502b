"""How the checker spreads its probes over time, and reads what it is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.checker.runner import watch_from
from supervisord_pidfd.core.health import first_run, next_run, share_of


def test_checks_that_begin_together_are_spread_evenly():
    shares = sorted(share_of(number) for number in range(1000, 3000))
    tenths = [sum(1 for share in shares if int(share * 10) == tenth) for tenth in range(10)]

    assert min(tenths) >= 198
    assert max(tenths) <= 202


@given(st.integers(1, 9999), st.floats(0.05, 1000), st.floats(0, 1e4))
def test_the_next_run_is_half_to_one_and_a_half_periods_away(ident, period, after):
    now = 1000.0 + after
    wait = next_run(1000.0, ident, period, now) - now

    assert period / 2 - 1e-6 <= wait <= period * 1.5 + 1e-6


@given(st.integers(1, 9999), st.floats(0.05, 1000))
def test_the_first_run_comes_within_a_second_and_within_a_period(ident, period):
    assert 1000.0 <= first_run(1000.0, ident, period) <= 1000.0 + min(1.0, period)


def test_a_watch_has_defaults():
    watch = watch_from({"watch": 7, "kind": "tcp", "target": "a:1", "period": 1, "timeout": 2})

    assert (watch.ident, watch.once, watch.delay, watch.status) == (7, False, 0.0, ((200, 399),))


@pytest.mark.parametrize("missing", ["kind", "target", "period", "timeout"])
def test_a_watch_without_its_parts_is_none(missing):
    plain = {"watch": 7, "kind": "tcp", "target": "a:1", "period": 1, "timeout": 2}
    del plain[missing]

    with pytest.raises(KeyError):
        watch_from(plain)
