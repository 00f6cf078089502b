"""What every clock promises, held against the fake one and the kernel's."""

import math

import pytest

from supervisord_pidfd.clock import SystemClock
from tests.fakes import FakeClock


@pytest.fixture(params=[FakeClock, SystemClock])
def clock(request):
    return request.param()


def test_now_never_goes_back(clock):
    readings = [clock.now() for _ in range(100)]

    assert readings == sorted(readings)
    assert all(isinstance(reading, float) and math.isfinite(reading) for reading in readings)


def test_wall_is_unix_seconds(clock):
    assert clock.wall() > 1_600_000_000


def test_both_advance_alike(clock):
    now, wall = clock.now(), clock.wall()
    if isinstance(clock, FakeClock):
        clock.advance(2.5)
        assert (clock.now() - now, clock.wall() - wall) == (2.5, 2.5)
        clock.advance_to(now + 4)
    else:
        while clock.now() == now:
            pass

    assert clock.now() > now
    assert clock.wall() >= wall


def test_the_fake_one_does_not_run_backwards_either():
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)
