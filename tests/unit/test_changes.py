"""Commands in flight: when they are over, what they say, and who ends whose wait."""

import pytest

from supervisord_pidfd.changes import KEPT, OUTCOMES_KEPT
from supervisord_pidfd.core.events import (
    DeadlinePassed,
    ProcessExited,
    SpawnFailed,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Exited, Usage
from supervisord_pidfd.core.goals import Asked, Goal
from supervisord_pidfd.core.spec import ReadyKind, ReadySpec, RestartPolicy, ServiceType
from tests.support.fleet import Fleet

BAD = ProcessExited(Exited(1), Usage())
GONE = ProcessExited(Exited(0), Usage())


@pytest.fixture
def fleet():
    made = []

    def make(*names, **members):
        made.append(Fleet(*names, **members))
        return made[-1]

    yield make
    for one in made:
        one.loop.close()
        assert not one.errors


def said(change):
    return [(outcome.service, outcome.ok, outcome.message) for outcome in change.outcomes]


# -- start ----------------------------------------------------------------------------------------


def test_a_start_is_over_when_the_service_is_ready(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 0.4))
    change = it.start("web")
    it.up()
    assert not change.is_over
    it.clock.advance(0.4)
    it.post("web", DeadlinePassed())

    assert said(change) == [("web", True, "running (ready in 0.4s)")]


def test_a_start_of_what_is_ready_is_over_at_once(fleet):
    it = fleet()
    it.start("web")
    it.up().clock.advance(60)

    assert said(it.start("web")) == [("web", True, "running (already)")]


def test_an_end_of_the_process_ends_the_wait_and_says_what_follows(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    change = it.start("web")
    it.up().clock.advance(0.2)
    it.post("web", BAD)

    message = "cannot start: code 1 after 0.2s; next try at once (pidfdctl explain web)"
    assert said(change) == [("web", False, message)]


def test_a_program_that_is_not_there_ends_the_wait(fleet):
    it = fleet(restart=RestartPolicy.NO)
    change = it.start("web")
    it.post("web", SpawnFailed("exec", "/srv/web", "ENOENT"))

    message = "cannot start: exec /srv/web: ENOENT; it stays failed (pidfdctl explain web)"
    assert said(change) == [("web", False, message)]


def test_a_simple_service_has_to_stay_up_as_long_as_asked(fleet):
    it = fleet()
    change = it.start("web", settle=1.0)
    it.up().advance(0.9)
    assert not change.is_over
    it.advance(0.1)

    assert said(change) == [("web", True, "running (ready in 0.0s)")]


def test_an_end_while_settling_is_a_failure_though_it_runs_again_at_once(fleet):
    it = fleet()
    change = it.start("web", settle=1.0)
    machine = it.up().machines["web"]
    it.clock.advance(0.5)
    before, machine.now = machine.state, it.clock.now()
    machine.post(BAD, DeadlinePassed()).executed()  # in one go, as the shell takes it
    it.changes.changed(machine, before)

    message = "cannot start: code 1; tried again (pidfdctl explain web)"
    assert said(change) == [("web", False, message)]


def test_a_oneshot_is_there_when_it_ended_cleanly(fleet):
    it = fleet(type=ServiceType.ONESHOT)
    change = it.start("web")
    it.up().clock.advance(2)
    it.post("web", GONE)

    assert said(change) == [("web", True, "exited (code 0 after 2.0s)")]


def test_a_start_while_stopping_waits_for_the_next_run(fleet):
    it = fleet()
    it.start("web")
    it.up().stop("web")
    change = it.start("web")
    assert not change.is_over
    it.post("web", GONE).up()

    assert said(change)[0][:2] == ("web", True)
    assert it.machines["web"].state.run == 2


def test_a_service_that_ends_cleanly_before_it_was_ready_did_not_get_there(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    change = it.start("web")
    it.up().post("web", GONE)

    message = "cannot start: code 0 after 0.0s; it stays down (pidfdctl explain web)"
    assert said(change) == [("web", False, message)]


# -- stop -----------------------------------------------------------------------------------------


def test_a_stop_is_over_when_no_process_is_left(fleet):
    it = fleet()
    it.start("web")
    change = it.up().stop("web")
    assert not change.is_over
    it.clock.advance(1.2)
    it.post("web", GONE)

    assert said(change) == [("web", True, "stopped (after 1.2s)")]


def test_a_stop_of_what_is_down_is_done(fleet):
    assert said(fleet().stop("web")) == [("web", True, "stopped (already)")]


def test_a_stop_in_backoff_is_at_once(fleet):
    it = fleet()
    it.start("web")
    it.up().post("web", BAD)

    assert it.stop("web").is_over


def test_a_stop_supersedes_a_start(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    older = it.start("web")
    newer = it.up().stop("web")
    it.post("web", GONE)

    assert said(older) == [("web", False, f"superseded by change {newer.ident}")]
    assert said(newer)[0][1]


def test_two_who_start_the_same_service_both_wait_for_it(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    first = it.start("web")
    second = it.up().start("web")
    it.clock.advance(5)
    it.post("web", DeadlinePassed())

    assert first.outcomes[0].ok
    assert second.outcomes[0].ok


# -- rolling --------------------------------------------------------------------------------------


def test_a_rolling_restart_takes_the_next_one_when_the_last_is_ready(fleet):
    it = fleet("a", "b")
    it.start("a", "b")
    it.up("a").up("b")
    change = it.changes.roll(["a", "b"], it.restart)
    assert it.machines["b"].state.phase.value == "running"
    it.post("a", GONE).up("a")
    assert it.machines["b"].state.phase.value == "stopping"
    it.post("b", GONE).up("b")

    assert [outcome.ok for outcome in change.outcomes] == [True, True]
    assert change.is_over


def test_a_rolling_restart_ends_at_the_first_failure(fleet):
    it = fleet("a", "b", "c", ready=ReadySpec(ReadyKind.DELAY, 1.0))
    it.start("a", "b", "c")
    for name in "abc":
        it.up(name)
    it.clock.advance(1)
    for name in "abc":
        it.post(name, DeadlinePassed())
    change = it.changes.roll(["a", "b", "c"], it.restart)
    it.wait(change)
    it.post("a", GONE).up("a").post("a", BAD)

    assert [one[:2] for one in said(change)] == [("a", False), ("b", False), ("c", False)]
    assert said(change)[1][2] == "not restarted: a failed"
    assert it.machines["b"].state.run == 1
    assert it.said[-1] == "over"


# -- waiting --------------------------------------------------------------------------------------


def test_whoever_waits_hears_each_outcome_and_the_end(fleet):
    it = fleet("a", "b")
    change = it.start("a", "b")
    it.wait(change)
    it.up("a").up("b")

    assert [one if one == "over" else one[:2] for one in it.said] == [
        ("a", True),
        ("b", True),
        "over",
    ]


def test_whoever_comes_late_hears_what_is_known(fleet):
    it = fleet("a", "b")
    change = it.start("a", "b")
    it.up("a")
    it.wait(change)
    assert len(it.said) == 1
    it.up("b")

    assert it.said[-1] == "over"
    assert it.changes.find(change.ident) is change


def test_a_wait_that_takes_too_long_ends_and_the_change_goes_on(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 60.0))
    change = it.start("web")
    it.up()
    it.wait(change, timeout=5.0)
    it.advance(5)
    unfinished = it.changes.unfinished(change)

    assert it.said == ["timed out"]
    assert [(one.service, one.ok, one.message) for one in unfinished] == [
        ("web", False, "starting")
    ]
    it.clock.advance(55)
    it.post("web", DeadlinePassed())
    assert said(change)[0][1]
    assert it.said == ["timed out"]


def test_a_client_that_leaves_does_not_end_its_change(fleet):
    it = fleet()
    change = it.start("web")
    it.changes.leave(change, it.wait(change))
    it.up()

    assert it.said == []
    assert said(change)[0][1]


def test_a_plain_wait_supersedes_nothing_and_ends_with_a_failure(fleet):
    it = fleet(restart=RestartPolicy.NO, ready=ReadySpec(ReadyKind.DELAY, 5.0))
    started = it.start("web")
    waited = it.changes.wait_for({"web": Asked(Goal.READY, it.clock.now())})
    assert not started.is_over
    it.up().post("web", BAD)

    assert said(waited) == [("web", False, "failed")]


@pytest.mark.parametrize("goal", [Goal.READY, Goal.RUNNING])
def test_a_plain_wait_is_over_when_the_service_is_there(fleet, goal):
    it = fleet()
    change = it.changes.wait_for({"web": Asked(goal, it.clock.now())})
    it.start("web")
    it.up()

    assert said(change) == [("web", True, "running")]


def test_a_service_that_goes_ends_its_waits(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    change = it.start("web")
    it.changes.removed("web")

    assert said(change) == [("web", False, "removed")]


def test_the_shutdown_ends_the_wait_for_starts_and_not_for_stops(fleet):
    it = fleet("a", "b", ready=ReadySpec(ReadyKind.DELAY, 5.0))
    it.start("b")
    it.up("b")
    starts, stops = it.start("a"), it.stop("b")
    it.changes.supersede_all("shutdown")

    assert said(starts) == [("a", False, "superseded by shutdown")]
    assert not stops.is_over


def test_a_stop_by_somebody_else_ends_the_wait_of_a_start(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    change = it.start("web")
    it.up().post("web", StopRequested("dependency:db"), GONE)

    assert said(change) == [("web", False, "stopped by dependency:db")]


def test_only_so_many_changes_are_kept_and_none_that_is_under_way(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 5.0))
    waited = it.changes.wait_for({"web": Asked(Goal.READY, it.clock.now())})
    for _ in range(KEPT + 10):
        last = it.stop("web")

    assert it.changes.find(waited.ident) is waited
    assert it.changes.find(last.ident) is last
    assert it.changes.find(2) is None


def test_what_is_removed_is_down(fleet):
    it = fleet()
    it.start("web")
    it.up()
    change = it.stop("web")
    it.machines.pop("web")
    it.changes.removed("web")

    assert said(change) == [("web", True, "removed")]


def test_what_is_noted_is_told_to_those_who_wait_later(fleet):
    it = fleet()
    change = it.changes.begin("apply", {})
    it.changes.note(change, "web", "updated", ok=True)
    it.wait(change)

    assert it.said == [("web", True, "updated"), "over"]


def test_large_changes_are_forgotten_sooner(fleet):
    names = [f"s{number}" for number in range(OUTCOMES_KEPT // 3)]
    it = fleet(*names)
    changes = [it.stop(*names) for _ in range(5)]

    found = [it.changes.find(change.ident) is not None for change in changes]
    assert found == [False, True, True, True, True]


def test_starts_that_are_never_over_are_forgotten_as_well(fleet):
    it = fleet(ready=ReadySpec(ReadyKind.DELAY, 100.0))
    first = it.start("web")
    for _ in range(KEPT):
        last = it.start("web")

    assert it.changes.find(first.ident) is None
    it.up().clock.advance(100)
    it.post("web", DeadlinePassed())
    assert last.is_over
    assert first.outcomes == []


def test_a_restart_that_rolls_is_not_forgotten(fleet):
    it = fleet("a", "b")
    for name in ("a", "b"):
        it.start(name)
        it.up(name)
    rolling = it.changes.roll(["a", "b"], it.restart)
    for _ in range(KEPT + 1):
        it.changes.begin("stop", {})
    it.post("a", GONE)
    it.up("a")

    assert it.changes.find(rolling.ident) is rolling
    assert set(rolling.open) == {"b"}
