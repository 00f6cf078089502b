"""When a goal that somebody asked for is reached, out of reach, or still open."""

from supervisord_pidfd.core.goals import Asked, Goal, judge
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted
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
