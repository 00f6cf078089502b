"""Which names old files get, which are too many, and when it is time."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.spec import LogSpec
from supervisord_pidfd.logger.rotation import Old, Rotation, moves, olds, period_of, surplus


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setitem(os.environ, "TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def plain(*numbers):
    return [Old(number, "") for number in numbers]


def test_old_files_are_found_among_others():
    names = [
        "web.log", "web.log.2", "web.log.10.gz", "web.log.1", "web.log.01", "web.log.0",
        "web.log.1.bz2", "xweb.log.1", "web.log.1x", ".web.log.gz.tmp", "web.log.\u0663",
        "web.log.1234567890", "webxlog.4",
    ]  # fmt: skip

    assert olds(names, "web.log") == [Old(1, ""), Old(2, ""), Old(10, ".gz")]


@pytest.mark.parametrize(
    ("there", "moved"),
    [
        (plain(), []),
        (plain(2, 3), []),
        (plain(1), plain(1)),
        (plain(1, 2, 3), plain(3, 2, 1)),
        (plain(1, 2, 4, 5), plain(2, 1)),
    ],
)
def test_old_files_move_up_as_far_as_the_first_gap(there, moved):
    assert moves(there) == moved


@given(st.sets(st.integers(1, 12)))
def test_nothing_moves_to_a_name_that_is_taken(numbers):
    taken = set(numbers)
    for old in moves(plain(*sorted(numbers))):
        taken.remove(old.number)
        assert old.moved().number not in taken
        taken.add(old.moved().number)

    assert len(taken) == len(numbers)
    assert 1 not in taken


def test_too_many_by_number_go():
    found = [(old, 10) for old in plain(1, 2, 3, 5)]

    assert surplus(found, Rotation(keep=2), 10) == plain(5, 3)
    assert surplus(found, Rotation(keep=0), 10) == plain(5, 3, 2, 1)


def test_too_many_bytes_go_the_oldest_first():
    found = [(old, 10) for old in plain(1, 2, 3, 4)]

    assert surplus(found, Rotation(total=30), 10) == plain(4, 3)
    assert surplus(found, Rotation(total=0), 10) == []


def test_a_period_of_seconds_is_counted_from_the_beginning_of_time():
    every = Rotation(every=3600.0)

    assert period_of(every, 7199.9) < period_of(every, 7200.0)
    assert period_of(every, 7200.0) == period_of(every, 10799.0)


@pytest.mark.usefixtures("berlin")
def test_days_and_hours_are_those_of_the_place():
    midnight = 1795906800.0  # 2026-11-29
    daily, hourly = Rotation(at="daily"), Rotation(at="hourly")

    assert time.localtime(midnight).tm_hour == 0
    assert period_of(daily, midnight - 0.1) < period_of(daily, midnight)
    assert period_of(daily, midnight) == period_of(daily, midnight + 86399)
    assert period_of(hourly, midnight) < period_of(hourly, midnight + 3600)
    assert period_of(hourly, midnight) == period_of(hourly, midnight + 3599)


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_comes_twice_is_one():
    first = 1792886400.0  # 2026-10-25T02:00 summer time; the next hour is called 02 again
    assert time.localtime(first).tm_hour == time.localtime(first + 3600).tm_hour == 2

    assert period_of(Rotation(at="hourly"), first) == period_of(
        Rotation(at="hourly"), first + 3600
    )


def test_without_times_there_is_one_period():
    assert period_of(Rotation(), 0.0) == period_of(Rotation(), 1e9)


def test_the_limits_are_those_of_the_service():
    spec = LogSpec(rotate_size=1, rotate_keep=2, rotate_total=3, rotate_every=4.0, compress=True)

    assert Rotation.of(spec) == Rotation(1, 2, 3, 4.0, "", compress=True)
