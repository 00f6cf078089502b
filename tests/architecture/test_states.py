"""The page of the phases is drawn from the machine."""

from pathlib import Path
from typing import get_args

from supervisord_pidfd.core.events import Event
from supervisord_pidfd.core.lifecycle import TABLE, Phase
from tests.support.states import EVENTS, PHASES, explore, page

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"


def test_the_page_is_in_step_with_the_machine():
    assert DOCUMENT.read_text() == page(), "run: make docs"


def test_the_page_has_every_phase_and_every_event():
    assert list(PHASES) == list(Phase)
    assert set(EVENTS) == set(get_args(Event))


def test_every_pair_of_the_table_was_tried():
    tried = set(explore())

    assert tried == {(phase, kind) for phase, rules in TABLE.items() for kind in rules}


def test_every_phase_can_be_reached_and_left():
    moves = {
        (before, after)
        for (before, _), reached in explore().items()
        for after in reached
        if before is not after
    }

    assert {before for before, _ in moves} == {after for _, after in moves} == set(Phase)
