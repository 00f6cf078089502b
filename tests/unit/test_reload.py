"""What a new configuration changes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.reload import (
    HIDDEN,
    SILENT_FIELDS,
    KeyChange,
    PlanItem,
    ReloadPlan,
    changed_fields,
    digest_of,
    items_of,
    key_changes,
    plan_reload,
)
from supervisord_pidfd.core.spec import (
    LIVE_FIELDS,
    BackoffSpec,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Dependency,
    HooksSpec,
    Identity,
    LogSpec,
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
    "log": LogSpec(("file",)),
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


@pytest.mark.parametrize("member", sorted(SILENT_FIELDS))
def test_a_line_that_moved_is_taken_over_and_is_no_change(member):
    new = web()._replace(**{member: LIVE[member]})
    plan = plan_reload({"web": web()}, {"web": new})

    assert plan == ReloadPlan(refresh=("web",))
    assert plan.is_empty


@pytest.mark.parametrize("member", sorted(LIVE_FIELDS - SILENT_FIELDS))
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


# -- keys -----------------------------------------------------------------------------------------


def written(*lines, **members):
    """Describe a service together with what the file says of it."""
    return web(written=json.dumps(lines), origin="web.toml:1", **members)


def test_a_changed_key_is_named_with_its_values_and_its_place():
    old = written(["stop_timeout", '"10s"', "web.toml", 5], stop=StopSpec())
    new = written(["stop_timeout", '"30s"', "web.toml", 7], stop=StopSpec(keep_leftovers=True))

    assert key_changes(old, new) == (
        KeyChange("stop_timeout", '"10s"', '"30s"', "web.toml", 7, restarts=False),
    )


def test_a_key_that_was_taken_out_is_named_where_it_was():
    old = written(["umask", '"077"', "web.toml", 5], umask=0o077)

    assert key_changes(old, written()) == (
        KeyChange("umask", '"077"', None, "web.toml", 5, restarts=True),
    )


def test_each_key_says_for_itself_whether_it_restarts():
    old = written(["umask", '"077"', "w", 5], umask=0o077)
    new = written(["umask", '"022"', "w", 5], ["critical", "true", "w", 6], critical=True)

    assert {one.key: one.restarts for one in key_changes(old, new)} == {
        "umask": True,
        "critical": False,
    }


def test_a_key_that_the_service_does_not_feel_is_left_out():
    old = written(["instances", "4", "w", 2])
    new = written(["instances", "2", "w", 2], ["critical", "true", "w", 6], critical=True)

    assert [one.key for one in key_changes(old, new)] == ["critical"]


def test_a_type_explains_the_defaults_that_follow_from_it():
    old = written()
    new = written(["type", '"oneshot"', "w", 2], type=ServiceType.ONESHOT, start_timeout=math.inf)

    assert [one.key for one in key_changes(old, new)] == ["type"]


def test_a_changed_environment_file_is_a_change_of_its_key_and_shows_nothing():
    line = ["environment_file", '["/etc/web.env"]', "w", 3]
    old = written(line, environment=(("A", "1"),))
    new = written(line, environment=(("A", "2"),))

    assert key_changes(old, new) == (
        KeyChange("environment_file", HIDDEN, HIDDEN, "w", 3, restarts=True),
    )


def test_variables_that_are_the_same_are_not_named():
    line = ["secrets.A", '"…"', "w", 3]
    old = written(line, environment=(("A", "1"), ("B", "2")))
    new = written(line, environment=(("A", "3"), ("B", "2")))

    assert [one.key for one in key_changes(old, new)] == ["secrets.A"]


def test_a_variable_that_a_changed_line_explains_is_not_named_again():
    old = written(["environment.A", '"1"', "w", 3], environment=(("A", "1"),))
    new = written(["environment.A", '"2"', "w", 3], environment=(("A", "2"),))

    assert [one.key for one in key_changes(old, new)] == ["environment.A"]


def test_a_changed_secret_is_a_change_of_its_key_and_shows_nothing():
    line = ["secrets.TOKEN", '"…"', "w", 3]
    old = written(line, environment=(("TOKEN", "hunter1"),))
    new = written(line, environment=(("TOKEN", "hunter2"),))
    items = items_of(ReloadPlan(restart=("web",)), {"web": old}, {"web": new})

    assert [one.key for one in items[0].changes] == ["secrets.TOKEN"]
    assert "hunter" not in str(items)
    assert digest_of(items, {"web": new}) != digest_of(items, {"web": old})


def test_a_dependency_that_another_service_brought_is_named():
    new = written(dependencies=(Dependency("db", Tie.AFTER),))

    assert key_changes(written(), new) == (
        KeyChange("requires", "[]", '["after db:ready"]', "web.toml", 1, restarts=False),
    )


@pytest.mark.parametrize("member", sorted({*RESTARTS, *LIVE} - SILENT_FIELDS))
def test_no_changed_member_goes_without_a_key_that_stands_for_it(member):
    value = {**RESTARTS, **LIVE}[member]
    changes = key_changes(written(), written()._replace(**{member: value}))

    assert changes
    assert all(change.key for change in changes)
    assert any(change.restarts for change in changes) == (member in RESTARTS)


def test_what_comes_and_goes_is_named_by_its_table():
    a = web(origin="a.toml:3")._replace(name="a")
    b = web(origin="b.toml:4")._replace(name="b@1")
    plan = plan_reload({"a": a}, {"b@1": b})

    assert items_of(plan, {"a": a}, {"b@1": b}) == (
        PlanItem("remove", "a", (KeyChange("service.a", "was", None, "a.toml", 3),)),
        PlanItem("add", "b@1", (KeyChange("service.b", None, "new", "b.toml", 4),)),
    )


def test_a_digest_names_what_is_done_and_not_where_lines_stand():
    new = written(critical=True)
    items = items_of(ReloadPlan(update=("web",)), {"web": web()}, {"web": new})
    moved = new._replace(origin="web.toml:9", written="[]")

    assert digest_of(items, {"web": new}) == digest_of(items, {"web": moved})
    assert digest_of(items, {"web": new}) != digest_of((), {})
