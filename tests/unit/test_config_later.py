"""Names that are taken: what is refused, what waits for its behaviour, and how tests get past."""

import pytest

from supervisord_pidfd.config import later
from supervisord_pidfd.config.reading import override
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.config.validate import Validator
from tests.support.config import load_text

LINES = (
    "service.*.requires", "service.*.type=notify", "service.*.health.*.tcp",
    "service.*.stop.command", "supervisor.socket!=none", "group.*.limit",
)  # fmt: skip


def taken(tree):
    """Return what the gate of these lines takes out, and what remains."""
    return [tuple(found) for found in later.take_out(tree, later.gate(LINES))], tree


@pytest.mark.parametrize(
    ("table", "found", "left"),
    [
        ({"requires": ["a"]}, [(("service", "web", "requires"), None)], {}),
        ({"type": "notify"}, [(("service", "web", "type"), "notify")], {}),
        ({"type": "simple"}, [], {"type": "simple"}),
        ({"type": ["notify"]}, [], {"type": ["notify"]}),
        (
            {"health": {"a": {"tcp": "x", "period": 1}, "b": {"exec": "x"}}},
            [(("service", "web", "health", "a", "tcp"), None)],
            {"health": {"b": {"exec": "x"}}},
        ),
        ({"stop": {"command": "x"}}, [(("service", "web", "stop", "command"), None)], {}),
        (
            {"stop": {"command": "x", "scope": "auto"}},
            [(("service", "web", "stop", "command"), None)],
            {"stop": {"scope": "auto"}},
        ),
        ({"environment": {"requires": "1"}}, [], {"environment": {"requires": "1"}}),
        ({"stop": {}}, [], {"stop": {}}),
    ],
)
def test_a_key_that_waits_is_taken_out_of_a_service(table, found, left):
    assert taken({"service": {"web": table}}) == (found, {"service": {"web": left}})


@pytest.mark.parametrize(
    ("value", "found"),
    [("none", []), ("/s", [(("supervisor", "socket"), "/s")]), (3, [])],
)
def test_a_key_may_have_one_value_that_does_not_wait(value, found):
    assert taken({"supervisor": {"socket": value}})[0] == found


def test_the_defaults_follow_the_services():
    found, left = taken({"defaults": {"requires": []}, "group": {"g": {"limit": 1}}})

    assert found == [(("defaults", "requires"), None), (("group", "g", "limit"), None)]
    assert left == {"defaults": {}, "group": {"g": {}}}


def test_what_waits_is_refused_in_a_file_and_read_in_a_test(tmp_path):
    for line in later.WAITING:
        name, equals, word = line.partition("=")
        path = ["web" if part == "*" else part for part in name.removesuffix("!").split(".")]
        value = f"'{'x' if name.endswith('!') else word}'" if equals else "{}"
        text = f"group.web.services = []\n{'.'.join(path)} = {value}\n"
        refused = load_text(tmp_path, text).problems
        read = load_text(tmp_path, text, all_keys=True).problems

        assert [p.line for p in refused if p.code == "later"] == [2], line
        assert [p.code for p in read if p.code in {"later", "unknown-key"}] == [], line


def test_a_value_that_waits_is_told_at_its_place():
    report = Report()
    setting = override("service.web.type=notify", "/", report)
    Validator(Tree(report, [], [setting]), report, later.gate(LINES))
    (problem,) = report.problems

    assert (problem.line, problem.column, problem.code) == (1, 18, "later")
    assert problem.message == "type: 'notify' is not available in this version"
