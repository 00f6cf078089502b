"""Why a service is where it is, in words."""

import json

import pytest

from supervisord_pidfd.core.exitstatus import Cause, Exited, Signaled, Unknown
from supervisord_pidfd.core.history import Run
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, Wanted
from supervisord_pidfd.core.spec import (
    Hook,
    LimitAction,
    ReadyKind,
    ReadySpec,
    RestartPolicy,
    ServiceType,
    StartLimitSpec,
)
from supervisord_pidfd.core.words import age, by_whom, ended, length
from supervisord_pidfd.explain import Applied, Fact, Need, Subject, explain
from supervisord_pidfd.signals import name_of
from tests.support.machine import web


def subject(phase, spec=None, **known):
    state = {name: known.pop(name) for name in tuple(known) if name in ServiceState._fields}
    return Subject(spec or web(), ServiceState(phase=phase, **state), 1000.0, 5000.0, **known)


def ended_run(end, follows=None, **members):
    run = Run(3, 0, 4990.0)
    run.end, run.ended_at, run.lasted_s, run.next = end, 4997.0, 0.2, follows
    for name, value in members.items():
        setattr(run, name, value)
    return run


BAD = ended_run(End(Cause.EXIT_CODE, Exited(1)))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (subject(Phase.STOPPED), "web is stopped: it was never started"),
        (subject(Phase.STOPPED, run=1), "web is stopped"),
        (subject(Phase.STOPPED, stop_by="operator:0"), "web is stopped, as asked by uid 0"),
        (
            subject(Phase.WAITING, needs=(Need("db", "ready", "requires", "backoff"),)),
            "web is waiting: needs db (backoff)",
        ),
        (
            subject(Phase.WAITING, needs=(Need("start_concurrency"),)),
            "web is waiting: needs a free place (supervisor.start_concurrency)",
        ),
        (
            subject(Phase.WAITING, needs=(Need("stop"),)),
            "web is waiting: needs the end of a stop that is under way",
        ),
        (subject(Phase.WAITING, needs=(Need("@api"),)), "web is waiting: needs @api"),
        (subject(Phase.WAITING), "web is waiting to start"),
        (
            subject(Phase.STARTING, hook=Hook.PRE_START),
            "web is starting: waiting for hooks.pre_start to end",
        ),
        (
            subject(Phase.STOPPING, stop_by="operator:0", hook=Hook.STOP, step_by=1003.0),
            (
                "web is stopping, as asked by uid 0; waiting for stop.command to end; "
                "the next signal comes in 3.0s"
            ),
        ),
        (
            subject(Phase.STARTING, web(type=ServiceType.NOTIFY), start_by=1060.0),
            "web is starting: waiting for READY=1; times out in 1m",
        ),
        (
            subject(Phase.STARTING, web(type=ServiceType.ONESHOT)),
            "web is starting: waiting for its end",
        ),
        (
            subject(Phase.STARTING, web(ready=ReadySpec(ReadyKind.HTTP))),
            "web is starting: waiting for ready.http",
        ),
        (subject(Phase.STARTING), "web is starting: waiting for its program to be executed"),
        (subject(Phase.RUNNING), "web is running and ready"),
        (
            subject(Phase.STOPPING, stop_by="operator:0", step_by=1007.0, wanted=Wanted.UP),
            (
                "web is stopping, as asked by uid 0; the next signal comes in 7.0s;"
                " then it starts again"
            ),
        ),
        (
            subject(Phase.STOPPING, stop_by="policy"),
            "web is stopping: its main process has ended, others of it live",
        ),
        (
            subject(Phase.STOPPING, unkillable=True),
            "web is stopping: SIGKILL has no effect on its process (unkillable)",
        ),
        (
            subject(Phase.BACKOFF, attempt=8, next_start_at=1004.0),
            "web is in backoff; next start in 4.0s (try 8 of 10, then failed)",
        ),
        (
            subject(
                Phase.BACKOFF,
                web(start_limit=StartLimitSpec(5, 60.0, LimitAction.SLOW_RETRY)),
                attempt=2,
                next_start_at=1000.0,
            ),
            "web is in backoff; next start in 0.0s (try 2 of 5, then slower)",
        ),
        (
            subject(
                Phase.BACKOFF,
                web(start_limit=StartLimitSpec(burst=0)),
                attempt=40,
                next_start_at=1030.0,
            ),
            "web is in backoff; next start in 30s (try 40)",
        ),
        (subject(Phase.EXITED), "web has ended cleanly and stays down"),
        (
            subject(Phase.FAILED, attempt=10, runs=(ended_run(BAD.end, "failed (limit)"),)),
            "web has failed and stays down: it gave up after 10 tries",
        ),
        (subject(Phase.FAILED), "web has failed and stays down"),
    ],
)
def test_the_first_line_says_the_phase_and_why(known, said):
    assert explain(known).summary == said


def test_every_phase_has_a_first_line():
    assert all(explain(subject(phase)).summary.startswith("web ") for phase in Phase)


def facts(known, label):
    return [fact for fact in explain(known).facts if fact.label == label]


def test_the_last_end_is_told_with_its_moment():
    assert facts(subject(Phase.BACKOFF, runs=(BAD,)), "ended") == [
        Fact("ended", "code 1 after 0.2s (run 3)", 4997.0)
    ]


def test_an_end_that_was_asked_for_names_who_asked():
    run = ended_run(End(Cause.OPERATOR, Signaled(15)), stopped_by="operator:7")

    assert facts(subject(Phase.STOPPED, runs=(run,)), "ended")[0].text == (
        "signal SIGTERM (operator) after 0.2s, stopped by uid 7 (run 3)"
    )


def test_the_key_that_decides_is_named_with_its_place():
    spec = web(
        restart=RestartPolicy.ALWAYS,
        written=json.dumps([["start_limit.burst", "5", "conf.d/w.toml", 6]]),
        start_limit=StartLimitSpec(burst=5),
    )

    assert facts(subject(Phase.BACKOFF, spec, runs=(BAD,)), "restarts") == [
        Fact(
            "restarts",
            'restart = "always" (default); start_limit.burst = 5 in 10m',
            None,
            "conf.d/w.toml",
            6,
        )
    ]


def test_what_it_waits_for_is_named_with_the_line_that_says_so():
    spec = web(written=json.dumps([["requires", '["db"]', "w.toml", 3]]))
    known = subject(Phase.WAITING, spec, needs=(Need("db", "exited_ok", "requires", "starting"),))

    assert facts(known, "needs") == [
        Fact("needs", "db to be over, without an error; it is starting", None, "w.toml", 3)
    ]
    assert explain(known).tries[0] == "pidfdctl explain db"


def test_whom_it_holds_up_what_changed_and_which_check_fails_are_told():
    known = subject(
        Phase.RUNNING,
        blocks=(("report", "requires"),),
        applied=Applied(4000.0, "operator:0", "restart", ("command",), "w.toml", 4),
        failed_checks=(("live", "connection refused"),),
        pending=True,
    )

    assert [fact[:2] for fact in explain(known).facts] == [
        ("changed", "restart by uid 0: command"),
        ("changed", "a changed configuration waits for a restart"),
        ("blocks", "report (requires web)"),
        ("health", "live fails: connection refused"),
    ]
    assert explain(known).tries == ("pidfdctl restart web",)


def test_what_was_never_started_names_autostart():
    spec = web(autostart=False, written=json.dumps([["autostart", "false", "w.toml", 2]]))

    assert facts(subject(Phase.STOPPED, spec), "autostart") == [
        Fact("autostart", "autostart = false", None, "w.toml", 2)
    ]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (End(Cause.EXIT_CODE, Exited(1)), "code 1"),
        (End(Cause.CORE_DUMP, Signaled(11, core=True)), "signal SIGSEGV, core dumped"),
        (End(Cause.OOM, Signaled(9)), "signal SIGKILL (oom)"),
        (End(Cause.UNKNOWN, Unknown("lost")), "status unknown"),
        (
            End(Cause.SPAWN_ERROR, None, False, "exec", "/srv/w", "ENOENT"),
            "cannot start: exec /srv/w: ENOENT",
        ),
    ],
)
def test_an_end_is_written_with_its_cause_where_that_is_more_than_the_status(end, said):
    assert ended(end, name_of) == said


def test_lengths_and_askers_are_written_for_people():
    assert [age(n) for n in (0, 3, 732, 600, 270000)] == ["0s", "3s", "12m 12s", "10m", "3d 03h"]
    assert [length(n) for n in (0.21, 30, float("inf"))] == ["0.2s", "30s", "for ever"]
    assert [by_whom(by) for by in ("operator:0", "dependency:db")] == ["uid 0", "dependency:db"]


def test_a_probe_that_fails_is_told_while_the_service_starts():
    spec = web(
        ready=ReadySpec(ReadyKind.FILE, target="/run/web"),
        written=json.dumps([["ready.file", '"/run/web"', "w.toml", 5]]),
    )
    known = subject(Phase.STARTING, spec, pid=7, probe_error="EACCES for uid 65532")

    assert facts(known, "health") == [
        Fact("health", "ready.file fails: EACCES for uid 65532", None, "w.toml", 5)
    ]
