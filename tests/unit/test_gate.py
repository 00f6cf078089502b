"""Who may start, who may stop, and what a group makes of a restart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core import group
from supervisord_pidfd.core.gate import Gate, view_of
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted
from supervisord_pidfd.core.planner import ABSENT, Graph, View
from supervisord_pidfd.core.sequence import StopSequence
from supervisord_pidfd.core.spec import (
    CheckKind,
    CheckSpec,
    GroupSpec,
    GroupStrategy,
    ServiceType,
)
from tests.support.machine import web
from tests.unit.test_planner import NAMES, acyclic, after, paths, requires, service, wants

READY = View(started=True, ready=True, gone=False)
COMING = View(gone=False)
WAITING = View(gone=False, waiting=True)
FAILED = View(exited=True)


# -- views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "wanted", "pid", "true"),
    [
        (Phase.STOPPED, Wanted.DOWN, None, {"gone"}),
        (Phase.WAITING, Wanted.UP, None, {"waiting"}),
        (Phase.STARTING, Wanted.UP, None, set()),
        (Phase.STARTING, Wanted.UP, 7, {"started"}),
        (Phase.RUNNING, Wanted.UP, 7, {"started", "ready", "healthy"}),
        (Phase.STOPPING, Wanted.UP, 7, set()),
        (Phase.STOPPING, Wanted.DOWN, 7, {"gone"}),
        (Phase.BACKOFF, Wanted.UP, None, set()),
        (Phase.EXITED, Wanted.DOWN, None, {"started", "exited", "exited_ok", "gone"}),
        (Phase.FAILED, Wanted.UP, None, {"exited", "gone"}),
    ],
)
def test_each_phase_meets_its_conditions(phase, wanted, pid, true):
    seen = view_of(web(), ServiceState(phase=phase, wanted=wanted, pid=pid))

    assert {name for name in View._fields if getattr(seen, name)} == true


def test_a_oneshot_is_ready_once_it_has_ended():
    assert view_of(web(type=ServiceType.ONESHOT), ServiceState(phase=Phase.EXITED)).ready


def test_a_check_without_a_verdict_is_not_healthy():
    spec = web(checks=(CheckSpec("live", CheckKind.TCP),))
    seen = view_of(spec, ServiceState(phase=Phase.RUNNING, wanted=Wanted.UP, pid=7))

    assert (seen.ready, seen.healthy) == (True, False)


# -- the gate -------------------------------------------------------------------------------------


def world(*specs, **views):
    gate = Gate(Graph({spec.name: spec for spec in specs}), lambda name: views.get(name, ABSENT))
    return gate, views


def test_the_first_unmet_dependency_is_named():
    gate, views = world(
        service("web", requires("db"), wants("cache")), db=READY, cache=COMING, web=WAITING
    )

    assert gate.blocker("web") == wants("cache")
    views["cache"] = FAILED
    assert gate.follow("cache") == ("web",)
    assert gate.blocker("web") is None


def test_only_those_who_wait_are_woken():
    gate, _ = world(
        service("a", requires("db")), service("b", requires("db")), db=READY, a=WAITING, b=READY
    )

    assert gate.follow("db") == ("a",)


def test_whoever_wants_one_that_waits_for_a_failed_one_goes_on_and_the_rest_recovers():
    gate, views = world(
        service("api", requires("db")),
        service("web", wants("api")),
        service("log", after("api")),
        service("top", requires("api")),
        db=COMING, api=WAITING, web=WAITING, log=WAITING, top=WAITING,
    )  # fmt: skip
    assert gate.blocker("web") == wants("api")

    views["db"] = FAILED
    assert set(gate.follow("db")) == {"api", "web", "log", "top"}
    assert gate.is_stuck("api")
    assert gate.is_stuck("top")
    assert gate.blocker("web") is gate.blocker("log") is None
    assert gate.blocker("top") == requires("api")

    views["db"] = READY
    assert set(gate.follow("db")) == {"api", "web", "log", "top"}
    assert not gate.is_stuck("top")
    assert gate.blocker("api") is None
    assert gate.blocker("web") == wants("api")


@given(acyclic(), st.data())
def test_with_everything_recovering_everybody_ends_up_running_and_never_too_early(specs, data):
    views = dict.fromkeys(specs, WAITING)
    gate = Gate(Graph(specs), lambda name: views.get(name, ABSENT))
    for name in specs:
        gate.follow(name)
    woken = set(specs)

    def put(name, view):
        views[name] = view
        woken.update(gate.follow(name))

    for _ in range(20):  # starts, failures and recoveries in whatever order
        name = data.draw(st.sampled_from(sorted(specs)))
        if views[name] is WAITING and gate.blocker(name) is None:
            assert all(
                views[edge.target].ready
                for edge in specs[name].dependencies
                if edge.tie == "requires"
            )
            put(name, data.draw(st.sampled_from([READY, FAILED])))
        elif views[name] is FAILED:
            put(name, WAITING)
    for name in specs:
        if views[name] is FAILED:
            put(name, WAITING)
            woken.add(name)
    while woken:  # nobody is looked at again who was not woken
        name = woken.pop()
        if views[name] is WAITING and gate.blocker(name) is None:
            put(name, READY)

    assert set(views.values()) == {READY}


# -- stops ----------------------------------------------------------------------------------------


@given(acyclic(), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.data())
def test_nobody_is_asked_to_stop_before_those_that_depend_on_it_are_gone(
    specs, names, alive, data
):
    sequence = StopSequence(Graph(specs), names, alive.__contains__)
    direct = {(s.name, e.target) for s in specs.values() for e in s.dependencies}
    assert direct <= paths(specs)
    asked = []
    stopping = set()
    for _ in range(100):
        for name in sequence.take():
            assert name not in asked
            if name in alive:
                assert not any((other, name) in direct and other in alive for other in names), (
                    f"{name} is asked before its dependents are gone"
                )
                stopping.add(name)
            asked.append(name)
        if not stopping:
            break
        ended = data.draw(st.sampled_from(sorted(stopping)))
        stopping.discard(ended)
        alive.discard(ended)
        sequence.ended(ended)

    assert set(asked) == names
    assert sequence.pending == ()


def chain():
    specs = {"a": service("a"), "b": service("b", requires("a")), "c": service("c", requires("b"))}
    return StopSequence(Graph(specs), specs, lambda _name: True)


def test_a_newer_command_takes_its_service_out_and_nobody_waits_for_it():
    sequence = chain()
    assert sequence.take() == ("c",)
    sequence.drop("b")

    assert sequence.take() == ("a",)
    assert sequence.pending == ()


def test_one_that_ended_by_itself_need_not_be_waited_for_nor_wait():
    sequence = chain()
    sequence.ended("b")

    assert set(sequence.take()) == {"a", "b", "c"}


def test_a_target_waits_for_the_last_of_those_that_depend_on_it():
    specs = {
        "db": service("db"),
        "web": service("web", requires("db")),
        "job": service("job", requires("db")),
        "cron": service("cron", requires("db")),
    }
    sequence = StopSequence(Graph(specs), specs, lambda _name: True)
    assert set(sequence.take()) == {"web", "job", "cron"}
    sequence.ended("web")
    sequence.drop("job")
    assert sequence.take() == ()
    sequence.ended("cron")

    assert sequence.take() == ("db",)


def test_dropping_one_of_several_leaves_the_target_to_the_others():
    specs = {
        "db": service("db"),
        "web": service("web", requires("db"), requires("gone")),
        "job": service("job", requires("db")),
    }
    sequence = StopSequence(Graph(specs), specs, lambda _name: True)
    sequence.take()
    sequence.drop("web")

    assert sequence.pending == ("db",)


def test_a_budget_may_force_a_stop():
    sequence = chain()
    assert sequence.take() == ("c",)
    sequence.force(["a", "c"])

    assert sequence.take() == ("a",)
    assert sequence.pending == ("b",)


# -- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "others"),
    [
        (GroupStrategy.ONE_FOR_ONE, ()),
        (GroupStrategy.REST_FOR_ONE, ("c",)),
        (GroupStrategy.ALL_FOR_ONE, ("a", "c")),
    ],
)
def test_a_strategy_says_who_is_restarted_with_a_member(strategy, others):
    spec = GroupSpec("g", ("a", "b", "c"), strategy)

    assert group.restarted_with(spec, "b") == others
    assert group.at_stake(spec, (), 0.0) is bool(others)


def test_a_group_gives_up_beyond_its_limit_and_not_before():
    spec = GroupSpec("g", ("a",), burst=2, interval=10.0)
    restarts = ()
    for moment, exceeded in [(0.0, False), (1.0, False), (10.5, False), (10.9, True)]:
        assert group.at_stake(spec, restarts, moment) is exceeded
        restarts, over = group.count(spec, restarts, moment)
        assert over is exceeded


def test_a_group_without_a_limit_counts_nothing():
    assert group.count(GroupSpec("g", ("a",)), (1.0,), 2.0) == ((), False)
