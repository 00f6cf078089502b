"""Fixtures of the integration tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.world import World


@pytest.fixture
def make_world(reaper_mode: str) -> Iterator[Callable[..., World]]:
    """Make a world in the mode of this run; the test may choose the rest of what is possible."""
    made: list[World] = []

    def make(**kwargs: Any) -> World:
        made.append(World(reaper_mode, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Give a loop with a reaper, and children to be spawned: see tests/support/world.py."""
    return make_world()
