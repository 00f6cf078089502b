"""When a cron expression comes next, also where clocks are changed."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.checker import calendar
from supervisord_pidfd.checker.calendar import CalendarError, next_time

BERLIN = "Europe/Berlin"


def at(text, zone=BERLIN, fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def times(expression, after, count, zone=BERLIN):
    found = []
    for _ in range(count):
        after = next_time(expression, zone, after)
        moment = datetime.fromtimestamp(after, ZoneInfo(zone))
        found.append(moment.strftime("%d %H:%M %z"))
    return found


def test_the_next_time_lies_after_the_moment_asked():
    assert next_time("30 4 * * *", "UTC", at("2026-01-05 04:30", "UTC")) == at(
        "2026-01-06 04:30", "UTC"
    )
    assert next_time("30 4 * * *", "UTC", at("2026-01-05 04:29:59", "UTC")) == at(
        "2026-01-05 04:30", "UTC"
    )


def test_the_zone_decides():
    assert times("0 9 * * MON", at("2026-06-01 00:00"), 1) == ["01 09:00 +0200"]
    assert next_time("0 9 * * MON", "Asia/Tokyo", at("2026-06-01 00:00", "Asia/Tokyo")) == at(
        "2026-06-01 09:00", "Asia/Tokyo"
    )


def test_a_time_that_does_not_exist_runs_once_right_after_the_gap():
    # 29 March 2026: 02:00 is 03:00.
    assert times("30 2 * * *", at("2026-03-28 12:00"), 2) == ["29 03:00 +0200", "30 02:30 +0200"]


def test_two_times_of_one_gap_run_once():
    assert times("15,45 2 * * *", at("2026-03-28 12:00"), 2) == [
        "29 03:00 +0200",
        "30 02:15 +0200",
    ]


def test_a_time_that_exists_twice_runs_once_the_first_time():
    # 25 October 2026: 03:00 is 02:00 again.
    assert times("30 2 * * *", at("2026-10-24 12:00"), 2) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_who_asks_in_the_second_pass_is_not_sent_back():
    after = at("2026-10-25 02:10", fold=1)

    assert times("30 2 * * *", after, 1) == ["26 02:30 +0100"]


def test_a_rhythm_goes_on_in_real_time():
    hours = times("0 * * * *", at("2026-10-25 01:30"), 3)

    assert hours == ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("", None),
        ("* * * *", None),
        ("* * * * * *", None),
        ("61 * * * *", None),
        ("a b c d e", None),
        ("0 0 * * *", "Nowhere/Land"),
        ("0 0 * * *", "../etc/passwd"),
        ("0 0 * * *", ""),
    ],
)
def test_what_makes_no_sense_is_told(expression, zone):
    with pytest.raises(CalendarError):
        next_time(expression, zone, 0.0)


def test_a_day_that_never_comes_has_no_next_time_or_is_told():
    with pytest.raises(CalendarError):
        next_time("0 0 30 2 *", "UTC", 0.0)


def test_the_zone_of_the_machine_is_that_of_the_environment(monkeypatch):
    calendar.zone.cache_clear()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    try:
        assert next_time("0 9 * * *", None, at("2026-06-01 00:00", "Asia/Tokyo")) == at(
            "2026-06-01 09:00", "Asia/Tokyo"
        )
    finally:
        calendar.zone.cache_clear()


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 0 1 * *", "59 23 * * SUN"]),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.floats(1.5e9, 2.5e9),
)
def test_times_go_forward(expression, zone, after):
    first = next_time(expression, zone, after)
    second = next_time(expression, zone, first)

    assert after < first < second
