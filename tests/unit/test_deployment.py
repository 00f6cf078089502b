"""What those see of a plan who may not see everything."""

import pytest

from supervisord_pidfd.commands import PERMISSION_DENIED, Peer
from supervisord_pidfd.configuring import Applied, Invalid, Planned
from supervisord_pidfd.core.reload import HIDDEN, KeyChange, PlanItem
from supervisord_pidfd.deployment import Deployment

CHANGES = (
    KeyChange("environment.PORT", '"8080"', '"8081"', "a.toml", 3),
    KeyChange("environment.NEW", None, '"hunter2"', "a.toml", 4),
    KeyChange("stop_timeout", '"1s"', '"2s"', "a.toml", 5),
)
PROBLEM = {"file": "a.toml", "line": 3, "message": "wrong", "source": 'PORT = "hunter2"'}


class Asked:
    """Keep what is asked of the configuration, and answer it at once."""

    def __init__(self, answer):
        self.wishes = []
        self._answer = answer

    def ask(self, wish):
        self.wishes.append(wish)
        wish.answered(self._answer)

    def withdraw(self, wish):
        raise AssertionError(wish)


class OneCall:
    """Keep the answer to one call."""

    def __init__(self, *, full, **parameters):
        self.parameters = {"file": None, "only": None, "no_restart": None, "expect": None}
        self.parameters |= parameters
        self.peer = Peer(7, 7, 7, full)
        self.said = None

    def on_gone(self, callback):
        pass

    def reply(self, parameters):
        self.said = parameters

    def error(self, name, parameters=None):
        self.said = (name, parameters)

    def answer(self, _call, _change, frame):
        self.said = frame


def planned(answer, **call):
    asked, one = Asked(answer), OneCall(**call)
    Deployment(asked, one).plan(one)
    return asked, one.said


@pytest.mark.parametrize("full", [True, False])
def test_values_of_variables_are_shown_to_full_access_alone(full):
    _, said = planned(Planned("7f", (PlanItem("restart", "web", CHANGES),), (PROBLEM,)), full=full)
    values = [(change["old"], change["new"]) for change in said["items"][0]["changes"]]

    hidden = [(HIDDEN, HIDDEN), (None, HIDDEN), ('"1s"', '"2s"')]
    assert values == ([(c.old, c.new) for c in CHANGES] if full else hidden)
    assert said["problems"] == [PROBLEM if full else PROBLEM | {"source": None}]


@pytest.mark.parametrize("full", [True, False])
def test_lines_of_a_file_with_errors_are_shown_to_full_access_alone(full):
    _, (_, said) = planned(Invalid((PROBLEM,)), full=full)

    assert ("hunter2" in str(said)) is full


def test_what_an_apply_warns_of_is_told_without_the_line():
    class Change:
        ident = 3

    one = OneCall(full=False)
    Deployment(Asked(Applied(Change(), "7f", (PROBLEM,))), one).apply(one)

    assert one.said["problems"] == [PROBLEM | {"source": None}]


def test_another_file_is_read_for_full_access_alone():
    asked, said = planned(Planned("7f", (), ()), full=False, file="/etc/shadow")
    assert (said, asked.wishes) == ((PERMISSION_DENIED, None), [])

    asked, _ = planned(Planned("7f", (), ()), full=True, file="/etc/other.toml")
    assert [wish.file for wish in asked.wishes] == ["/etc/other.toml"]
