"""Our services in Supervisor's words."""

import pytest

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.gateway.dialect import (
    ENDED,
    STARTED,
    STATES,
    Code,
    FaultError,
    Named,
    belongs,
    cut,
    event_line,
    full_name,
    info,
    named,
    start_fault,
    tail,
)

START, NOW = "2026-11-23T14:00:00.500Z", 1795442461.9


def service(**changed):
    return {
        "name": "web", "group": "web", "phase": "running", "pid": 7, "run": 3, "since": START,
        "started_at": START, "last_exit": None, "detail": "as it is",
    } | changed  # fmt: skip


def test_every_phase_has_a_state():
    assert set(STATES) == set(Phase)
    assert set(Phase) - STARTED - ENDED == {"stopping"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web", Named(("web",))),
        ("web:web", Named(("web@web", "web"))),
        ("worker:3", Named(("worker@3", "3"))),
        ("worker@3", Named(("worker@3",))),
        ("backend:*", Named((), "backend")),
        ("backend:", Named((), "backend")),
    ],
)
def test_names_as_supervisor_has_them(text, found):
    assert named(text) == found


@pytest.mark.parametrize(
    "text", ["", "*", "web*", "@all", "a:b:c", "w@", "w@*", " web", 3, "a" * 65]
)
def test_neither_globs_nor_lists_of_ours_are_names(text):
    with pytest.raises(FaultError, match="BAD_NAME"):
        named(text)


@pytest.mark.parametrize(
    ("name", "group", "full"),
    [
        ("web", "web", ("web", "web")), ("web", "backend", ("backend", "web")),
        ("worker@3", "worker", ("worker", "3")), ("worker@3", "backend", ("worker", "3")),
    ],
)  # fmt: skip
def test_an_instance_is_a_process_of_its_service(name, group, full):
    one = service(name=name, group=group)

    assert full_name(one) == full
    assert belongs(one, ":".join(full))
    assert belongs(one, name)
    assert not belongs(one, f"other:{full[1]}")


def test_a_running_service_is_described():
    assert info(service(), NOW) == {
        "name": "web", "group": "web", "start": 1795442400, "stop": 0, "now": 1795442461,
        "state": 20, "statename": "RUNNING", "spawnerr": "", "exitstatus": 0, "logfile": "",
        "stdout_logfile": "", "stderr_logfile": "", "pid": 7,
        "description": "pid 7, uptime 0:01:01",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"phase": "stopped", "run": 0, "started_at": None}, {"stop": 0, "start": 0,
                                                              "description": "Not started"}),
        ({"phase": "failed", "last_exit": {"exit_code": 3}}, {"exitstatus": 3, "state": 200,
                                                              "spawnerr": "as it is"}),
        ({"phase": "backoff", "last_exit": {"exit_code": None}}, {"exitstatus": -1, "state": 30}),
        ({"phase": "waiting"}, {"statename": "STARTING", "stop": 0, "description": "as it is"}),
        ({"phase": "exited", "last_exit": {"exit_code": 0}}, {"stop": 1795442400, "state": 100}),
    ],
)  # fmt: skip
def test_a_service_that_does_not_run_is_described(changed, said):
    found = info(service(pid=None, **changed), NOW)

    assert found["pid"] == 0
    assert {name: found[name] for name in said} == said


def test_the_end_before_is_no_exit_status_of_what_runs():
    assert info(service(last_exit={"exit_code": 3}), NOW)["exitstatus"] == 0


def test_when_a_service_stopped_is_told_in_words():
    text = info(service(phase="stopped", pid=None), NOW)["description"]

    assert text[:3] == "Nov"
    assert text[-1] == "M"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"cause": "spawn_error", "error": "ENOENT"}, Code.NO_FILE),
        ({"cause": "spawn_error", "error": "EACCES"}, Code.NOT_EXECUTABLE),
        ({"cause": "spawn_error", "error": "E2BIG"}, Code.SPAWN_ERROR),
        ({"cause": "exit_code", "error": None}, Code.ABNORMAL_TERMINATION),
        (None, Code.ABNORMAL_TERMINATION),
    ],
)
def test_a_start_that_came_to_nothing_is_told_by_its_cause(end, code):
    fault = start_fault(service(last_exit=end), "why")

    assert (fault.code, fault.text) == (code, f"{code.name}: web:web: why")


@pytest.mark.parametrize(
    ("offset", "length", "data"),
    [
        (0, 0, b"0123456789"), (4, 0, b"456789"), (4, 2, b"45"), (-3, 0, b"789"),
        (-99, 0, b"0123456789"), (99, 0, b""), (8, 99, b"89"),
    ],
)  # fmt: skip
def test_a_log_is_cut_as_supervisor_reads_it(offset, length, data):
    assert cut(b"0123456789", offset, length) == data


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
def test_a_range_that_is_none_is_a_bad_argument(offset, length):
    with pytest.raises(FaultError, match="BAD_ARGUMENTS"):
        cut(b"x", offset, length)


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [
        (0, 99, (b"0123456789", 10, False)), (0, 4, (b"6789", 10, True)),
        (10, 4, (b"", 10, False)),
        (0, 0, (b"", 10, True)), (5, 99, (b"0123456789", 10, False)), (0, -1, (b"", 10, True)),
        (8, 4, (b"6789", 10, False)), (99, 4, (b"", 10, False)),
    ],
)  # fmt: skip
def test_the_end_of_a_log_is_cut_as_supervisor_cuts_it(offset, length, found):
    """Each row is what `supervisor.options.tailFile` of 4.3 answers for a file of ten bytes."""
    assert tail(b"0123456789", offset, length) == found


def test_an_event_is_a_line():
    event = {"seq": 4, "ts": START, "level": "info", "event": "a.b", "service": "web", "run": None}

    assert event_line(event) == f"{START} info a.b service=web\n"
