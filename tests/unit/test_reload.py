"""What a new configuration changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.reload import ReloadPlan, changed_fields, plan_reload
from supervisord_pidfd.core.spec import (
    LIVE_FIELDS,
    BackoffSpec,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Dependency,
    HooksSpec,
    Identity,
    NotifyAccess,
    Output,
    ReadyKind,
    ReadySpec,
    ReloadSpec,
    ResourceLimit,
    RestartPolicy,
    ScheduleSpec,
    Scope,
    ServiceSpec,
    ServiceType,
    StartFault,
    StartLimitSpec,
    StopSpec,
    Tie,
)
from tests.support.machine import web

RESTARTS = {
    "argv": ("/srv/web", "--port", "1"),
    "type": ServiceType.ONESHOT,
    "directory": "/srv",
    "umask": 0o077,
    "identity": Identity(33, 33),
    "environment": (("PORT", "1"),),
    "inherit": (),
    "unset": ("HOME",),
    "instance": "1",
    "stdin": "inherit",
    "output": Output.NULL,
    "limits": (ResourceLimit("nofile", 64, 64),),
    "nice": 5,
    "oom_score_adjust": 100,
    "cpu_affinity": (0,),
    "sched_policy": "batch",
    "sched_priority": 1,
    "no_new_privileges": True,
    "parent_death_signal": 15,
    "foreground": True,
    "ready": ReadySpec(ReadyKind.DELAY, 1.0),
    "fault": StartFault("environment", "/etc/web.env", "ENOENT"),
}
LIVE = {
    "description": "a web server",
    "autostart": False,
    "restart": RestartPolicy.ALWAYS,
    "start_timeout": 1.0,
    "runtime_max": 60.0,
    "checks": (CheckSpec("live", CheckKind.TCP, "127.0.0.1:80"),),
    "hooks": HooksSpec(pre_start=CommandSpec(("/bin/true",))),
    "reload": ReloadSpec(signum=1),
    "schedule": ScheduleSpec(every=60.0),
    "dependencies": (Dependency("db", Tie.REQUIRES),),
    "part_of": ("db",),
    "notify_access": NotifyAccess.ALL,
    "fdstore_max": 4,
    "metrics_port": 9100,
    "metrics_path": "/m",
    "stop": StopSpec(scope=Scope.PROCESS),
    "success": Ends((0, 3)),
    "restart_prevent": Ends((3,)),
    "restart_force": Ends((4,)),
    "backoff": BackoffSpec(delay=1),
    "start_limit": StartLimitSpec(burst=1),
    "critical": True,
    "main": True,
    "group": "front",
    "origin": "b.toml:1",
    "written": '[["command","\'/srv/web\'","b.toml",2]]',
    "program": "/usr/local/bin/web",
    "fast": True,
}


def test_the_cases_below_name_every_member_but_the_name():
    assert {*RESTARTS, *LIVE, "name"} == set(ServiceSpec._fields)
    assert set(LIVE) == LIVE_FIELDS


@pytest.mark.parametrize("member", RESTARTS)
def test_a_change_of_what_a_process_was_started_with_restarts(member):
    new = web()._replace(**{member: RESTARTS[member]})

    assert plan_reload({"web": web()}, {"web": new}) == ReloadPlan(restart=("web",))


@pytest.mark.parametrize("member", LIVE)
def test_a_change_of_what_only_we_need_to_know_is_taken_in_place(member):
    new = web()._replace(**{member: LIVE[member]})

    assert plan_reload({"web": web()}, {"web": new}) == ReloadPlan(update=("web",))


def test_a_service_that_did_not_change_is_not_touched():
    plan = plan_reload({"web": web(runtime_max=math.inf)}, {"web": web(runtime_max=math.inf)})

    assert plan.is_empty


def test_one_of_both_kinds_of_change_is_enough_for_a_restart():
    new = web(umask=0, description="new")

    assert changed_fields(web(), new) == {"umask", "description"}
    assert plan_reload({"web": web()}, {"web": new}).restart == ("web",)


def test_new_names_are_added_and_missing_ones_removed():
    plan = plan_reload({"a": web(), "b": web()}, {"b": web(), "c": web(), "d": web()})

    assert plan == ReloadPlan(add=("c", "d"), remove=("a",))
    assert not plan.is_empty


SETS = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from([web(), web(umask=0), web(main=True)])
)


@given(SETS, SETS)
def test_every_name_is_in_one_list_at_most_and_what_changed_is_in_one(old, new):
    plan = plan_reload(old, new)

    named = [name for names in plan for name in names]
    assert len(named) == len(set(named))
    assert set(named) == {name for name in {*old, *new} if old.get(name) != new.get(name)}
