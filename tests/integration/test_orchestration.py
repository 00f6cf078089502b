"""Services that wait for each other: real processes, started, crashed and stopped in order."""

import itertools
import signal

import pytest

from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import EVENTS
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    Condition,
    Dependency,
    GroupSpec,
    GroupStrategy,
    ReadyKind,
    ReadySpec,
    RestartPolicy,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
    Tie,
)
from tests.support.staff import Staff, patient

TRUE, FALSE = ("/bin/true",), ("/bin/false",)
AT_ONCE = BackoffSpec(delay=0.0, jitter=0.0)
SLOWLY = BackoffSpec(delay=1000.0, max_delay=1000.0)
ONCE = {"restart": RestartPolicy.NO}
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo deaf >&3; while :; do sleep 1000; done")


def requires(target, condition=Condition.READY):
    return Dependency(target, Tie.REQUIRES, condition)


def wants(target, condition=Condition.READY):
    return Dependency(target, Tie.WANTS, condition)


def after(target, condition=Condition.READY):
    return Dependency(target, Tie.AFTER, condition)


@pytest.fixture
def staff(world):
    """Make a supervisor over these services; `staff(*specs, settings=…)`."""
    made = []

    def make(*specs, **kwargs):
        made.append(Staff(world, *specs, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kill(staff, name):
    staff.world.reaper.signal(
        staff.supervisor.services[name]._child, signal.SIGKILL, whole_group=False
    )


def before(order, first, second):
    return order.index(first) < order.index(second)


# -- starting -------------------------------------------------------------------------------------


def test_each_condition_holds_a_start_until_it_is_met(staff):
    delayed = ReadySpec(ReadyKind.DELAY, delay=0.2)
    it = staff(
        patient("late", ready=delayed),
        patient("on_started", dependencies=(requires("late", Condition.STARTED),)),
        patient("on_ready", dependencies=(requires("late"),)),
        patient("on_healthy", dependencies=(requires("late", Condition.HEALTHY),)),
        patient("task", argv=TRUE, type=ServiceType.ONESHOT, **ONCE),
        patient("on_task", dependencies=(requires("task", Condition.EXITED_OK),)),
        patient("bad", argv=FALSE, type=ServiceType.ONESHOT, **ONCE),
        patient("on_end", dependencies=(requires("bad", Condition.EXITED),)),
        patient("never", dependencies=(requires("bad", Condition.EXITED_OK),)),
    )

    it.until_phase(
        Phase.RUNNING, "late", "on_started", "on_ready", "on_healthy", "on_task", "on_end"
    )

    started = it.order_of("service.starting")
    told = [(EVENT, told.service) for EVENT, told in _named(it)]
    assert ("service.starting", "on_started") in told[: told.index(("service.ready", "late"))]
    for name in ("on_ready", "on_healthy"):
        assert told.index(("service.ready", "late")) < told.index(("service.starting", name))
    assert before(started, "task", "on_task")
    assert it.phase("never") is Phase.WAITING
    assert [edge.target for edge in it.supervisor.starts.unmet("never")] == ["bad"]


def _named(it):
    return [(EVENTS[type(told.notice)].event, told) for told in it.told]


def test_a_start_takes_along_what_it_requires_and_wants(staff):
    it = staff(
        patient("db", autostart=False),
        patient("cache", autostart=False),
        patient("other", autostart=False),
        patient("web", autostart=False, dependencies=(requires("db"), wants("cache"))),
    )

    it.start("web")
    it.until_phase(Phase.RUNNING, "web")

    assert it.phase("db") is Phase.RUNNING
    assert it.phase("cache") is Phase.RUNNING
    assert it.phase("other") is Phase.STOPPED


def test_a_start_of_it_alone_takes_nothing_along_and_waits(staff):
    it = staff(
        patient("db", autostart=False),
        patient("web", autostart=False, dependencies=(requires("db"),)),
    )

    it.start("web", only=True)

    assert it.phases() == {"db": "stopped", "web": "waiting"}
    it.start("db")
    it.until_phase(Phase.RUNNING)


def test_a_oneshot_that_has_run_is_not_run_again_by_whoever_needs_it(staff):
    it = staff(
        patient("migrate", argv=TRUE, type=ServiceType.ONESHOT, **ONCE),
        patient("web", dependencies=(requires("migrate", Condition.EXITED_OK),)),
    )
    it.until_phase(Phase.RUNNING, "web")
    it.stop("web")
    it.until_phase(Phase.STOPPED, "web")

    it.start("web")
    it.until_phase(Phase.RUNNING, "web")

    assert it.order_of("service.starting").count("migrate") == 1


def test_who_only_wants_goes_on_when_the_target_gives_up_and_who_requires_waits(staff):
    it = staff(
        patient(
            "bad",
            argv=FALSE,
            **ONCE,
            start_limit=StartLimitSpec(burst=1),
            ready=ReadySpec(ReadyKind.DELAY, delay=5),
        ),
        patient("wanting", dependencies=(wants("bad"),)),
        patient("behind", dependencies=(after("bad"),)),
        patient("requiring", dependencies=(requires("bad"),)),
        patient("above", dependencies=(wants("requiring"),)),
    )

    it.until_phase(Phase.RUNNING, "wanting", "behind", "above")

    assert it.phase("bad") is Phase.FAILED
    assert it.phase("requiring") is Phase.WAITING


def test_a_dependent_starts_by_itself_when_what_failed_recovers(staff):
    it = staff(
        patient("db", argv=FALSE, **ONCE, ready=ReadySpec(ReadyKind.DELAY, delay=5)),
        patient("web", dependencies=(requires("db"),)),
        patient("front", dependencies=(requires("web"),)),
    )
    it.until_phase(Phase.FAILED, "db")
    assert it.phases()["web"] == it.phases()["front"] == "waiting"

    healed = patient("db")
    it.apply(healed)
    it.until_phase(Phase.RUNNING)


def test_a_crash_of_what_is_required_leaves_dependents_alone(staff):
    it = staff(patient("db", backoff=AT_ONCE), patient("web", dependencies=(requires("db"),)))
    it.until_phase(Phase.RUNNING)
    pid = it.pid("web")

    kill(it, "db")
    it.until(lambda: it.order_of("service.ready").count("db") == 2)

    assert it.pid("web") == pid


def test_no_more_than_the_limit_are_starting_at_once(staff, world):
    limit = SupervisorSpec(start_concurrency=3)
    late = ReadySpec(ReadyKind.DELAY, delay=0.05)
    specs = [
        patient(f"s{n}", ready=late, dependencies=(requires(f"s{n - 5}"),) if n >= 5 else ())
        for n in range(20)
    ]
    it = staff(*specs, settings=limit)
    most = 0

    def look():
        nonlocal most
        starting = sum(phase == "starting" for phase in it.phases().values())
        most = max(most, starting)
        return all(phase == "running" for phase in it.phases().values())

    it.until(look)

    assert most == 3
    order = it.order_of("service.starting")
    assert all(before(order, f"s{n - 5}", f"s{n}") for n in range(5, 20))


def test_a_chain_of_a_thousand_starts_link_by_link(staff):
    links = [
        patient(
            f"s{n}",
            argv=TRUE,
            type=ServiceType.ONESHOT,
            dependencies=(requires(f"s{n - 1}", Condition.EXITED_OK),) if n else (),
            **ONCE,
        )
        for n in range(1000)
    ]
    it = staff(*links)

    it.until_phase(Phase.EXITED)

    assert it.order_of("service.starting") == [f"s{n}" for n in range(1000)]


# -- stopping and restarting ----------------------------------------------------------------------


def chain(*names, **members):
    return [
        patient(name, dependencies=(requires(names[n - 1]),) if n else (), **members)
        for n, name in enumerate(names)
    ]


def test_a_stop_takes_down_first_what_requires_it_each_when_the_next_is_gone(staff):
    it = staff(*chain("db", "web", "front"), patient("other"))
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    it.stop("db")
    it.until_phase(Phase.STOPPED, "db")

    told = [(name, one.service) for name, one in _named(it)[mark:]]
    assert [service for name, service in told if name == "service.stopping"] == [
        "front",
        "web",
        "db",
    ]
    for first, second in itertools.pairwise(["front", "web", "db"]):
        assert told.index(("service.stopped", first)) < told.index(("service.stopping", second))
    assert it.phase("other") is Phase.RUNNING
    last = {
        one.service: one.notice.by for name, one in _named(it)[mark:] if name == "service.stopped"
    }
    assert last == {"front": "dependency:web", "web": "dependency:db", "db": "operator:0"}


def test_a_start_after_a_stop_starts_it_alone(staff):
    it = staff(*chain("db", "web"))
    it.until_phase(Phase.RUNNING)
    it.stop("db")
    it.until_phase(Phase.STOPPED)

    it.start("db")
    it.until_phase(Phase.RUNNING, "db")

    assert it.phase("web") is Phase.STOPPED


def test_a_restart_brings_back_what_it_stopped_in_order(staff):
    it = staff(
        *chain("db", "web", "front"),
        patient("idle", autostart=False, dependencies=(requires("db"),)),
    )
    it.until_phase(Phase.RUNNING, "db", "web", "front")
    pids = {name: it.pid(name) for name in ("db", "web", "front")}
    mark = len(it.told)

    it.restart("db")
    it.until(lambda: len(it.order_of("service.ready", mark)) == 3)

    assert it.order_of("service.stopping", mark) == ["front", "web", "db"]
    assert it.order_of("service.ready", mark) == ["db", "web", "front"]
    assert all(it.pid(name) != pid for name, pid in pids.items())
    assert it.phase("idle") is Phase.STOPPED
    causes = {
        one.service: one.notice.cause
        for name, one in _named(it)[mark:]
        if name == "service.exited"
    }
    assert causes == {"db": "operator", "web": "dependency", "front": "dependency"}


def test_a_start_takes_a_service_out_of_a_stop_under_way(staff):
    it = staff(
        patient("db"),
        patient(
            "web",
            argv=STUBBORN,
            dependencies=(requires("db"),),
            stop=StopSpec(steps=(StopStep(signal.SIGTERM, 0.5),)),
        ),
    )
    it.until_phase(Phase.RUNNING)
    assert it.world.heard() == ["deaf"]
    db = it.pid("db")
    it.stop("db")
    assert it.phase("web") is Phase.STOPPING

    it.start("db")
    it.until_phase(Phase.STOPPED, "web")

    assert (it.phase("db"), it.pid("db")) == (Phase.RUNNING, db)


def test_what_is_due_to_stop_is_not_restarted_when_it_crashes(staff):
    it = staff(
        patient("db", backoff=AT_ONCE),
        patient(
            "web",
            argv=STUBBORN,
            dependencies=(requires("db"),),
            stop=StopSpec(steps=(StopStep(signal.SIGTERM, 1000.0),)),
        ),
    )
    it.until_phase(Phase.RUNNING)
    assert it.world.heard() == ["deaf"]
    it.stop("db")

    kill(it, "db")
    it.until_phase(Phase.STOPPED, "db")

    assert it.order_of("service.starting").count("db") == 1
    assert it.phase("web") is Phase.STOPPING


def test_a_start_is_held_while_what_it_needs_is_due_to_restart(staff):
    it = staff(
        patient("db"),
        patient(
            "slow",
            argv=STUBBORN,
            dependencies=(requires("db"),),
            stop=StopSpec(steps=(StopStep(signal.SIGTERM, 0.3),)),
        ),
        patient("web", autostart=False, dependencies=(requires("db"),)),
    )
    it.until_phase(Phase.RUNNING, "db", "slow")
    assert it.world.heard() == ["deaf"]
    it.restart("db")

    it.start("web", only=True)

    assert it.phase("web") is Phase.WAITING
    it.until_phase(Phase.RUNNING)
    order = it.order_of("service.ready")
    assert order[-3] == "db"


def test_a_start_that_replaces_a_restart_frees_those_it_held(staff):
    it = staff(
        patient("db"),
        patient(
            "slow",
            argv=STUBBORN,
            dependencies=(requires("db"),),
            stop=StopSpec(steps=(StopStep(signal.SIGTERM, 1000.0),)),
        ),
        patient("web", autostart=False, dependencies=(requires("db"),)),
    )
    it.until_phase(Phase.RUNNING, "db", "slow")
    assert it.world.heard() == ["deaf"]
    it.restart("db")
    it.start("web", only=True)
    assert it.phase("web") is Phase.WAITING

    it.start("db")
    it.until_phase(Phase.RUNNING, "web")


# -- part_of --------------------------------------------------------------------------------------


def test_a_part_repeats_the_crash_the_stop_and_the_restart_of_the_whole(staff):
    it = staff(
        patient("app", backoff=AT_ONCE),
        patient("side", part_of=("app",)),
        patient("of_side", part_of=("side",)),
    )
    it.until_phase(Phase.RUNNING)

    mark = len(it.told)
    kill(it, "app")
    it.until(lambda: sorted(it.order_of("service.ready", mark)) == ["app", "of_side", "side"])

    mark = len(it.told)
    it.restart("app")
    it.until(lambda: sorted(it.order_of("service.ready", mark)) == ["app", "of_side", "side"])

    it.stop("app")
    it.until_phase(Phase.STOPPED)


def test_a_part_goes_down_with_a_whole_that_gives_up_and_waits_if_it_requires_it(staff):
    it = staff(
        patient("app", **ONCE),
        patient("side", part_of=("app",)),
        patient("needing", part_of=("app",), dependencies=(requires("app"),)),
    )
    it.until_phase(Phase.RUNNING)

    kill(it, "app")
    it.until_phase(Phase.STOPPED, "side")
    it.until_phase(Phase.WAITING, "needing")

    it.start("app")
    it.until_phase(Phase.RUNNING, "app", "needing")


# -- groups ---------------------------------------------------------------------------------------


def crew(strategy, **members):
    group = GroupSpec("crew", ("a", "b", "c"), strategy, **members)
    return SupervisorSpec(groups=(group,))


@pytest.mark.parametrize(
    ("strategy", "also"),
    [
        (GroupStrategy.ONE_FOR_ONE, []),
        (GroupStrategy.REST_FOR_ONE, ["c"]),
        (GroupStrategy.ALL_FOR_ONE, ["a", "c"]),
    ],
)
def test_an_automatic_restart_takes_along_what_the_strategy_says(staff, strategy, also):
    members = [patient(name, backoff=AT_ONCE) for name in "abc"]
    it = staff(*members, settings=crew(strategy))
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    kill(it, "b")
    it.until(lambda: sorted(it.order_of("service.ready", mark)) == sorted(["b", *also]))

    assert it.order_of("service.stopping", mark) == list(reversed(also))
    assert it.order_of("service.ready", mark) == sorted(["b", *also])
    it.until_phase(Phase.RUNNING)


def test_a_restart_by_command_is_the_member_s_alone(staff):
    it = staff(*[patient(name) for name in "abc"], settings=crew(GroupStrategy.ALL_FOR_ONE))
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    it.restart("b")
    it.until(lambda: it.order_of("service.ready", mark) == ["b"])

    assert it.order_of("service.stopping", mark) == ["b"]


def test_a_member_that_is_down_stays_down_in_a_restart_of_the_group(staff):
    members = [patient(name, backoff=AT_ONCE) for name in "abc"]
    it = staff(*members, settings=crew(GroupStrategy.ALL_FOR_ONE))
    it.until_phase(Phase.RUNNING)
    it.stop("c")
    it.until_phase(Phase.STOPPED, "c")
    mark = len(it.told)

    kill(it, "b")
    it.until(lambda: it.order_of("service.ready", mark) == ["a", "b"])

    assert it.phase("c") is Phase.STOPPED


# -- shutting down --------------------------------------------------------------------------------


def test_a_shutdown_goes_from_the_dependents_down(staff):
    it = staff(*chain("a", "b", "c", "d"), patient("lone"))
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    it.supervisor.shut_down("signal", signum=signal.SIGTERM)
    it.until(lambda: it.over)

    order = it.order_of("service.stopping", mark)
    assert [name for name in order if name != "lone"] == ["d", "c", "b", "a"]
    assert it.phases() == dict.fromkeys(it.specs, "stopped")


def test_a_chain_that_does_not_listen_is_ended_within_the_budget(staff):
    slow = StopSpec(steps=(StopStep(signal.SIGTERM, 60.0),))
    it = staff(
        *chain("a", "b", "c", argv=STUBBORN, stop=slow),
        settings=SupervisorSpec(shutdown_timeout=3.0),
    )
    it.until_phase(Phase.RUNNING)
    assert it.world.heard() == ["deaf"]
    assert it.world.heard() == ["deaf"]
    assert it.world.heard() == ["deaf"]

    began = it.world.loop.clock.now()
    it.supervisor.shut_down("signal", signum=signal.SIGTERM)
    it.until(lambda: it.over)

    assert it.world.loop.clock.now() - began < 3.5
    assert it.order_of("service.kill_escalated") == ["c", "b", "a"]
    assert it.supervisor.shutdown.left_alive() == 0


def test_a_removed_service_goes_after_what_depended_on_it(staff):
    specs = [*chain("a", "b", "c"), patient("kept")]
    it = staff(*specs)
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    it.apply(without=("a", "b", "c"))
    it.until(lambda: list(it.supervisor.services) == ["kept"])

    assert it.order_of("service.stopping", mark) == ["c", "b", "a"]


def test_a_changed_service_takes_its_dependents_through_the_restart(staff):
    it = staff(*chain("db", "web"))
    it.until_phase(Phase.RUNNING)
    mark = len(it.told)

    it.apply(it.specs["db"]._replace(umask=0o027))
    it.until(lambda: it.order_of("service.ready", mark) == ["db", "web"])

    causes = [one.notice.cause for name, one in _named(it)[mark:] if name == "service.exited"]
    assert causes == [Cause.DEPENDENCY, Cause.CONFIG]
