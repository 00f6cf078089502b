"""When the core looks for cyclic garbage."""

import gc
import weakref

import pytest

from supervisord_pidfd.garbage import MADE, Garbage


class Node:
    """Be part of a cycle that reference counting cannot free."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def garbage():
    made = Garbage()
    yield made
    gc.unfreeze()
    gc.enable()


def test_the_automatic_collector_is_off(garbage):
    assert not gc.isenabled()


def test_a_cycle_is_freed_at_rest_once_enough_was_made(garbage):
    gc.collect()
    cycle = weakref.ref(Node())
    kept = [[] for _ in range(MADE)]
    assert cycle() is not None

    garbage.at_rest()

    assert len(kept) == MADE
    assert cycle() is None


def test_little_made_is_no_reason_to_look(garbage):
    gc.collect()
    cycle = weakref.ref(Node())

    garbage.at_rest()

    assert cycle() is not None
