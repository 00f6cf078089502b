"""Cron expressions and time zones, as a file has them."""

import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.checker.calendar import next_time
from supervisord_pidfd.config import calendars


@pytest.fixture
def no_system_zones():
    """Take the system's time zones away, as in a small container."""
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_zone_is_known_where_the_system_has_none(no_system_zones, name):
    assert calendars.is_zone(name)


@pytest.mark.parametrize("name", ["", "Mars", "../etc/passwd", "/etc/localtime", "a\0b", "Europe"])
def test_what_is_no_zone_is_known_nowhere(name):
    assert not calendars.is_zone(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0 30 2 *", "bad day-of-month"), ("60 * * * *", "bad minute"),
        ("* * * * mon-", "bad day-of-week"), ("a b c d e", "bad minute"), ("", "bad character"),
        ("${X} * * * *", "bad character"), ("* " * 200, "bad character, or too long"),
    ],
)  # fmt: skip
def test_an_expression_is_refused_with_the_reason(text, why):
    with pytest.raises(ValueError, match=why):
        calendars.check_expression(text)


FIELDS = st.lists(
    st.sampled_from(["*", "*/5", "0", "59", "1,2", "3-7", "mon", "L", "5#2", "-1", "x", "/"]),
    min_size=5, max_size=5,
).map(" ".join)  # fmt: skip


@given(FIELDS | st.text("0123456789*,/-#LW ", max_size=20))
def test_the_checker_can_do_what_is_accepted(text):
    try:
        calendars.check_expression(text)
    except ValueError:
        return
    if len(text.split()) == 5:
        assert next_time(text, "UTC", 0.0) is not None
