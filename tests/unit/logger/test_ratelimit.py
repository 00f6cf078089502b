"""How many lines pass."""

from supervisord_pidfd.logger.ratelimit import RateLimit


def test_without_a_limit_everything_passes():
    assert RateLimit(0, 0.0).admit(10**9, 5.0) == 10**9


def test_the_first_lines_of_a_window_pass():
    limit = RateLimit(10, 1.0)

    assert limit.admit(8, 100.0) == 8
    assert limit.admit(8, 100.5) == 2
    assert limit.admit(8, 100.999) == 0
    assert limit.admit(8, 101.0) == 8


def test_a_window_begins_with_a_line():
    limit = RateLimit(10, 1.0)
    limit.admit(10, 100.0)

    assert limit.admit(10, 150.9) == 10
    assert limit.admit(10, 151.1) == 0
