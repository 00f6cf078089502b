"""What a service is at, in few words."""

import signal

import pytest

from supervisord_pidfd.core.detail import Look, detail
from supervisord_pidfd.core.exitstatus import Cause, Exited
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState
from supervisord_pidfd.core.spec import (
    ReadyKind,
    ReadySpec,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
)
from supervisord_pidfd.core.words import rough
from tests.support.machine import web

NOW = 1000.0
CODE = End(Cause.EXIT_CODE, Exited(1))
HTTP = ReadySpec(ReadyKind.HTTP)
STEPS = StopSpec(steps=(StopStep(signal.SIGINT, 2.0), StopStep(signal.SIGTERM, 5.0)))


def look(  # noqa: PLR0917 - what is known of a service
    phase, spec=None, needs="", status_text=None, ended_at=None, next_run=None, **members
):
    state = ServiceState(phase=phase, **{"since": NOW - 3} | members)
    return detail(
        Look(
            spec or web(),
            state,
            NOW,
            lambda signum: signal.Signals(signum).name,
            needs,
            status_text,
            ended_at,
            next_run,
        )
    )


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"since": NOW - 7200, "stop_by": "operator:0"}, "by uid 0, 2h ago"),
        ({"stop_by": "config"}, "by config, 3s ago"),
        ({}, ""),
    ],
)
def test_stopped_says_by_whom(members, said):
    assert look(Phase.STOPPED, **members) == said


def test_waiting_says_for_what():
    assert look(Phase.WAITING, needs="worker@0 (backoff)") == "needs worker@0 (backoff)"
    assert not look(Phase.WAITING)


@pytest.mark.parametrize(
    ("spec", "pid", "said"),
    [
        (web(ready=HTTP), 7, "waiting for ready.http, 3s"),
        (web(ready=HTTP), None, "about to start, 3s"),
        (web(), 7, "waiting for exec, 3s"),
        (web(type=ServiceType.ONESHOT), 7, "at work, 3s"),
        (web(type=ServiceType.NOTIFY), 7, "waiting for READY=1, 3s"),
    ],
)
def test_starting_says_what_is_awaited(spec, pid, said):
    assert look(Phase.STARTING, spec, pid=pid) == said


def test_running_says_what_the_service_says():
    assert look(Phase.RUNNING, status_text="12 clients", last_exit=CODE) == "12 clients"


@pytest.mark.parametrize(
    ("end", "ended_at", "said"),
    [
        (CODE, NOW - 720, "last exit: code 1, 12m ago"),
        (CODE, None, ""),
        (End(Cause.OPERATOR, Exited(1)), NOW - 720, ""),
        (None, NOW - 720, ""),
    ],
)
def test_running_says_how_the_last_run_ended_unless_it_was_asked_to(end, ended_at, said):
    assert look(Phase.RUNNING, last_exit=end, ended_at=ended_at) == said


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"step": 0, "step_by": NOW + 1.5}, "SIGINT sent 3s ago, SIGKILL in 7s"),
        ({"step": 1, "step_by": NOW + 0.25}, "SIGTERM sent 3s ago, SIGKILL in 0.3s"),
        (
            {"step": 1, "step_by": NOW + 5, "kill_by": NOW + 1.9},
            "SIGTERM sent 3s ago, SIGKILL in 2s",
        ),
        ({"step": 1, "step_by": NOW - 1}, "SIGTERM sent 3s ago, SIGKILL in 0s"),
        ({"step": 2}, "SIGTERM sent 3s ago"),
        ({"forced": True}, "SIGKILL sent, 3s after the stop"),
        ({"forced": True, "unkillable": True}, "unkillable"),
    ],
)
def test_stopping_says_what_was_sent_and_when_it_is_killed(members, said):
    assert look(Phase.STOPPING, web(stop=STEPS), stop_asked_at=NOW - 3, **members) == said


def test_backoff_says_which_try_comes_when():
    state = {"last_exit": CODE, "attempt": 8, "next_start_at": NOW + 3.2}
    assert look(Phase.BACKOFF, **state) == "code 1; try 8 of 10 in 4s"
    unlimited = web(start_limit=StartLimitSpec(burst=0))
    assert look(Phase.BACKOFF, unlimited, **state) == "code 1; try 8 in 4s"


def test_exited_says_when():
    clean = End(Cause.SUCCESS, Exited(0))
    assert look(Phase.EXITED, since=NOW - 300_000, last_exit=clean) == "code 0, 3d ago"


@pytest.mark.parametrize(
    ("end", "attempt", "said"),
    [
        (CODE, 10, "code 1; gave up after 10 tries"),
        (CODE, 1, "code 1; gave up after 1 try"),
        (CODE, 0, "code 1; not restarted"),
        (None, 0, "; not restarted"),
    ],
)
def test_failed_says_after_how_many_tries(end, attempt, said):
    assert look(Phase.FAILED, last_exit=end, attempt=attempt) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (200_000, "2d")],
)
def test_a_rough_length_has_one_unit(seconds, said):
    assert rough(seconds) == said


def test_a_scheduled_one_at_rest_says_when_it_runs_next():
    assert look(Phase.EXITED, next_run=61.0, last_exit=CODE) == "code 1, 3s ago; next run in 1m"
    assert look(Phase.STOPPED, next_run=0.5) == "next run in 0.5s"
    assert look(Phase.RUNNING, next_run=61.0) == ""


def test_starting_says_why_it_is_not_ready_yet():
    state = ServiceState(phase=Phase.STARTING, pid=7, since=NOW - 3)
    known = Look(web(ready=HTTP), state, NOW, str, probe_error="HTTP 503")

    assert detail(known) == "waiting for ready.http, 3s: HTTP 503"
