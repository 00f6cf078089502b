"""Where chance comes from: the kernel, or the clock where that has none."""

import os

from supervisord_pidfd import clock

ROLLS = 1000


def test_rolls_lie_in_their_range_and_are_spread():
    rolls = [clock.roll() for _ in range(ROLLS)]

    assert all(0 <= roll < 1 for roll in rolls)
    assert len(set(rolls)) == ROLLS
    assert {int(roll * 4) for roll in rolls} == {0, 1, 2, 3}


def test_without_randomness_of_the_kernel_rolls_come_from_the_clock(monkeypatch):
    def none_yet(_size, _flags):
        raise BlockingIOError

    monkeypatch.setattr(os, "getrandom", none_yet)
    rolls = [clock.roll() for _ in range(ROLLS)]

    assert all(0 <= roll < 1 for roll in rolls)
    assert len(set(rolls)) > ROLLS / 2
    assert {int(roll * 4) for roll in rolls} == {0, 1, 2, 3}
