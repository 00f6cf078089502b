"""The table of methods: complete, strict, and the same as the interface file."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd import commands
from supervisord_pidfd.commands import METHODS, Access, InvalidParameterError, Role, role_of

FILE = Path(commands.__file__).parent / f"{commands.INTERFACE}.varlink"
READERS = {
    "Status", "Watch", "Events", "Logs", "Explain", "History", "Dependencies", "Show", "Health",
    "Discovery", "Counters", "Wait",
}  # fmt: skip
METHOD = re.compile(r"^method (\w+)\((.*?)\) ->", re.MULTILINE)
NOTES = re.compile(r"^method (\w+)\(.*?# (.*)$", re.MULTILINE)


def by_name(name):
    return commands.BY_NAME[f"{commands.INTERFACE}.{name}"]


def written(param):
    return f"{param.name}: {'?' if param.optional else ''}{param.kind}"


def test_the_interface_file_declares_the_same_methods_and_parameters():
    declared = dict(METHOD.findall(FILE.read_text()))

    assert declared == {m.name: ", ".join(map(written, m.params)) for m in METHODS}


def test_the_interface_file_declares_the_same_errors():
    declared = re.findall(r"^error (\w+)", FILE.read_text(), re.MULTILINE)

    assert {f"{commands.INTERFACE}.{name}" for name in declared} == set(commands.ERRORS)


def test_the_interface_file_marks_what_readers_may_call():
    notes = dict(NOTES.findall(FILE.read_text()))
    marked = {name for name, note in notes.items() if re.match(r"R\b", note)}

    assert marked <= READERS
    assert {m.name for m in METHODS if m.role is Role.READ} == READERS


ACCESS = Access(990, frozenset({1000}), frozenset({50}))


@pytest.mark.parametrize(
    ("uid", "gids", "pid", "role"),
    [
        (0, {0}, 7, Role.FULL),
        (990, {990}, 7, Role.FULL),
        (1000, {1000}, 7, Role.READ),
        (1001, {1, 50}, 7, Role.READ),
        (1001, {1, 51}, 7, Role.NONE),
        (4294967295, {50}, 7, Role.NONE),
        (65534, {50}, 7, Role.NONE),
        (0, {0}, 0, Role.NONE),
        (0, {0}, -1, Role.NONE),
    ],
)
def test_roles(uid, gids, pid, role):
    assert role_of(ACCESS, uid, frozenset(gids), pid) is role


def test_nobody_may_do_nothing_even_if_the_daemon_is_nobodys():
    access = Access(65534, frozenset({65534}), frozenset())

    assert role_of(access, 65534, frozenset(), 7) is Role.NONE


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("role", list(Role))
def test_what_a_role_may_call(method, role):
    assert (role >= method.role) is (
        role is Role.FULL or (role is Role.READ and method.name in READERS)
    )


@pytest.mark.parametrize(
    ("method", "given_", "parameter"),
    [
        ("Start", {}, "names"),
        ("Start", {"names": None}, "names"),
        ("Start", {"names": "web"}, "names"),
        ("Start", {"names": ["web", 1]}, "names"),
        ("Start", {"names": ["web"], "only": 1}, "only"),
        ("Start", {"names": ["web"], "timeout_s": True}, "timeout_s"),
        ("Start", {"names": ["web"], "timeout_s": -1}, "timeout_s"),
        ("Start", {"names": ["web"], "colour": "red"}, "colour"),
        ("Watch", {"since": True}, "since"),
        ("Watch", {"since": 1.0}, "since"),
        ("Watch", {"since": -1}, "since"),
        ("Health", {"level": "alife"}, "level"),
        ("Wait", {"condition": ["ready"]}, "condition"),
        ("Shutdown", {"now": True}, "now"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(method, given_, parameter):
    with pytest.raises(InvalidParameterError) as caught:
        commands.check_parameters(by_name(method), given_)

    assert caught.value.parameter == parameter


def test_what_is_left_out_is_none():
    found = commands.check_parameters(by_name("Start"), {"names": ["web"], "timeout_s": 3})

    assert found == {
        "names": ["web"], "only": None, "wait": None, "timeout_s": 3, "settle_s": None,
    }  # fmt: skip


def test_the_run_of_logs_may_count_from_the_end():
    assert commands.check_parameters(by_name("Logs"), {"run": -1})["run"] == -1


@given(st.sampled_from(METHODS), st.dictionaries(st.text(max_size=4), st.none() | st.integers()))
def test_any_parameters_fit_or_are_refused(method, parameters):
    try:
        found = commands.check_parameters(method, parameters)
    except InvalidParameterError:
        return

    assert list(found) == [param.name for param in method.params]


def test_handlers_are_found_once_by_the_names_in_the_table():
    class Half:
        def reopen_logs(self, call):
            """Answer."""

    half = Half()

    assert commands.bind(half) == {"ReopenLogs": half.reopen_logs}


def test_who_asks_is_said_as_the_log_says_it():
    assert commands.Peer(5, 5, 7, full=False).by == "operator:5"


def test_reading_changes_nothing():
    assert not by_name("Plan").changes
    assert by_name("Stop").changes
    assert not by_name("Status").changes
