"""The page about the control socket says what the code does; so does the interface file."""

import json
import re
from pathlib import Path

import pytest

from supervisord_pidfd import control, conversation, publisher, streams, wire
from supervisord_pidfd.commands import ERRORS, METHODS, Role
from supervisord_pidfd.core import naming
from supervisord_pidfd.logger import clients
from tests.support.interface import FILE, INTERFACE

PAGE = (Path(__file__).parents[2] / "docs/control.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BOUNDS = {
    "bytes of a request": wire.MESSAGE_BYTES,
    "levels of a request": wire.DEPTH,
    "connections": control.CONVERSATIONS,
    "connections of each user but root and the daemon's own": control.PER_UID,
    "seconds for a request to arrive": conversation.REQUEST_WITHIN,
    "seconds without a request": conversation.IDLE_WITHIN,
    "seconds without reading what waits": conversation.READ_WITHIN,
    "events that are kept": publisher.KEPT,
    "bytes of events that followers may be behind": streams.RING_BYTES,
    "globs in a call": naming.GLOBS,
    "clients of `Logs`": clients.CLIENTS,
}


def rows(heading):
    """Return the cells of the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_method_is_listed_with_who_may_call_it():
    listed = [(cells[0].strip("`"), cells[1]) for cells in rows("Methods")]

    assert listed == [(method.name, "R" if method.role is Role.READ else "") for method in METHODS]


def test_the_interface_file_marks_the_same_methods():
    text = FILE.read_text(encoding="utf-8")
    marked = dict(re.findall(r"^method (\w+).*?# ?(R?)", text, re.MULTILINE))

    for method in METHODS:
        if method.role is Role.READ and method.name != "Counters":  # its remark says for whom
            assert marked[method.name] == "R", method.name
        else:
            assert not marked.get(method.name), method.name


def test_every_error_is_listed():
    listed = [cells[0].strip("`") for cells in rows("Errors")]

    assert listed == [error.rpartition(".")[2] for error in ERRORS]
    assert set(listed) == set(INTERFACE.errors)


def test_the_bounds_are_those_of_the_code():
    assert {cells[0]: float(cells[1]) for cells in rows("Bounds")} == BOUNDS


@pytest.mark.parametrize(("name", "text"), [pytest.param(*one, id=one[0]) for one in EXAMPLES])
def test_an_example_has_its_declared_shape(name, text):
    value = json.loads(text)
    is_type = name in INTERFACE.types
    wrong = INTERFACE.wrong_in_type if is_type else INTERFACE.wrong_in_reply
    _, members = INTERFACE.types[name] if is_type else INTERFACE.replies[name]

    assert wrong(name, value) == []
    assert set(value) == set(members)


def test_there_is_an_example_of_each_shape():
    assert {name for name, _ in EXAMPLES} >= {"Service", "Supervisor", "Run", "Outcome", "Edge"}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"service": "a"}, "Outcome"),
        ({"from": "a", "to": "b", "kind": "needs", "condition": "", "met": True}, "Edge"),
        ({"from": "a", "to": "b", "kind": "after", "condition": "", "met": 1}, "Edge"),
        ({"from": "a", "to": "b", "kind": "after", "condition": "", "met": True, "x": 1}, "Edge"),
        ([], "Edge"),
    ],
)
def test_a_wrong_shape_is_found(value, kind):
    assert INTERFACE.wrong_in_type(kind, value)
