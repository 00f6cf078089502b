"""When a goal that somebody asked for is reached, out of reach, or still open."""

from supervisord_pidfd.core.goals import Asked, Goal, judge
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted
from supervisord_pidfd.core.spec import CheckKind, CheckSpec
from tests.support.machine import web

NEXT = Asked(Goal.STARTED, 0.0, 2)


def verdict(**members):
    found = judge(NEXT, web(), ServiceState(**members), 1.0, str)
    return found.ok, found.message


def test_a_run_that_has_not_begun_is_waited_for():
    assert verdict(phase=Phase.WAITING, wanted=Wanted.UP, run=1)[0] is None


def test_a_run_that_was_called_off_does_not_begin():
    ok, text = verdict(phase=Phase.STOPPED, wanted=Wanted.DOWN, run=1, stop_by="operator:0")

    assert not ok
    assert text.startswith("stopped by ")


def test_a_service_that_has_failed_meanwhile_does_not_begin():
    assert verdict(phase=Phase.FAILED, wanted=Wanted.UP, run=1) == (False, "failed")


def test_an_end_that_left_no_record_is_told_by_what_follows():
    said = verdict(phase=Phase.FAILED, wanted=Wanted.UP, run=2)

    assert said == (False, "cannot start: it stays failed")


# -- waits ----------------------------------------------------------------------------------------

CHECKED = web(checks=(CheckSpec("live", CheckKind.TCP, "127.0.0.1:1"),))


def reached(goal, spec=None, **members):
    return judge(Asked(goal, 0.0, 1), spec or web(), ServiceState(**members), 1.0, str)


def test_a_service_is_healthy_when_all_its_checks_say_so():
    up = {"phase": Phase.RUNNING, "run": 1}

    assert reached(Goal.HEALTHY, CHECKED, **up).ok is None
    assert reached(Goal.HEALTHY, CHECKED, **up, checked=("live",)).ok
    bad = reached(Goal.HEALTHY, CHECKED, **up, checked=("live",), failing=("live",))
    assert bad.ok is None


def test_a_service_without_checks_is_healthy_when_it_is_ready():
    assert reached(Goal.HEALTHY, phase=Phase.RUNNING).ok
    assert reached(Goal.HEALTHY, phase=Phase.STARTING).ok is None


def test_a_service_that_failed_will_not_be_healthy():
    assert reached(Goal.HEALTHY, phase=Phase.FAILED).ok is False


def test_a_reload_is_open_until_it_is_told_or_the_run_is_over():
    assert reached(Goal.RELOADED, phase=Phase.RUNNING, run=1).ok is None
    assert reached(Goal.RELOADED, phase=Phase.RUNNING, run=2).ok is False
    assert reached(Goal.RELOADED, phase=Phase.BACKOFF, run=1).ok is False


def test_a_removal_is_open_as_long_as_the_service_is_there():
    assert reached(Goal.GONE, phase=Phase.STOPPED).ok is None
