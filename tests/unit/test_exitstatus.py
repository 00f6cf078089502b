"""How a process ended, and what that means."""

import pytest

from supervisord_pidfd.core.exitstatus import Cause, Ends, Exited, Signaled, Unknown, cause_of
from supervisord_pidfd.core.spec import ServiceSpec

DAEMON = ServiceSpec("web", ("/srv/web",)).success
ONESHOT = Ends((0,))
HUP, INT, KILL, SEGV, PIPE, TERM = 1, 2, 9, 11, 13, 15


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (Exited(0), Cause.SUCCESS),
        (Exited(1), Cause.EXIT_CODE),
        (Exited(255), Cause.EXIT_CODE),
        (Signaled(HUP), Cause.SUCCESS),
        (Signaled(INT), Cause.SUCCESS),
        (Signaled(PIPE), Cause.SUCCESS),
        (Signaled(TERM), Cause.SUCCESS),
        (Signaled(KILL), Cause.SIGNAL),
        (Signaled(SEGV, core=True), Cause.CORE_DUMP),
        (Signaled(SEGV, core=False), Cause.SIGNAL),
        (Signaled(64), Cause.SIGNAL),
        (Unknown("stolen"), Cause.UNKNOWN),
    ],
)
def test_what_an_end_means_for_a_daemon(status, cause):
    assert cause_of(status, DAEMON) is cause


def test_a_signal_is_no_clean_end_of_a_oneshot():
    assert cause_of(Signaled(TERM), ONESHOT) is Cause.SIGNAL


def test_a_listed_code_is_a_clean_end_and_zero_is_not_if_it_is_not_listed():
    assert cause_of(Exited(3), Ends((3,))) is Cause.SUCCESS
    assert cause_of(Exited(0), Ends((3,))) is Cause.EXIT_CODE


def test_a_listed_signal_is_a_clean_end_even_with_a_core():
    assert cause_of(Signaled(3, core=True), Ends((), (3,))) is Cause.SUCCESS


@pytest.mark.parametrize("code", range(256))
def test_a_code_is_never_taken_for_the_signal_of_the_same_number(code):
    ends = Ends((code,), ())

    assert ends.includes(Exited(code))
    assert not ends.includes(Signaled(code))
    assert not Ends((), (code,)).includes(Exited(code))


def test_an_unknown_end_is_on_no_list():
    everything = Ends(tuple(range(256)), tuple(range(65)))

    assert not everything.includes(Unknown())
    assert cause_of(Unknown(), everything) is Cause.UNKNOWN
