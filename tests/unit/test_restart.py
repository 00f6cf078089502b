"""Whether to start again: policies, lists, and the start limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.events import ProcessExited, RestartRequested, SpawnFailed
from supervisord_pidfd.core.exitstatus import Cause, Ends, Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.restart import (
    RESTARTED,
    Verdict,
    in_window,
    slow_retry_delay,
    wants_restart,
    within_limit,
)
from supervisord_pidfd.core.spec import LimitAction, RestartPolicy, StartLimitSpec
from tests.support.machine import Machine, web

MATRIX = """
cause        no   on-success  on-watchdog  on-abnormal  on-failure  always  unless-stopped
success      -    yes         -            -            -           yes     yes
exit_code    -    -           -            -            yes         yes     yes
spawn_error  -    -           -            -            yes         yes     yes
hook         -    -           -            -            yes         yes     yes
unknown      -    -           -            -            yes         yes     yes
signal       -    -           -            yes          yes         yes     yes
core_dump    -    -           -            yes          yes         yes     yes
oom          -    -           -            yes          yes         yes     yes
timeout      -    -           -            yes          yes         yes     yes
watchdog     -    -           yes          yes          yes         yes     yes
health       -    -           yes          yes          yes         yes     yes
operator     -    -           -            -            -           -       -
config       -    -           -            -            -           -       -
dependency   -    -           -            -            -           -       -
"""
HEAD, *ROWS = (line.split() for line in MATRIX.strip().splitlines())
CASES = [
    pytest.param(Cause(cause), RestartPolicy(policy), word == "yes", id=f"{cause}-{policy}")
    for cause, *words in ROWS
    for policy, word in zip(HEAD[1:], words, strict=True)
]
ASKED = {Cause.OPERATOR, Cause.CONFIG, Cause.DEPENDENCY}


def test_the_matrix_has_every_policy_and_every_cause():
    assert sorted(HEAD[1:]) == sorted(RestartPolicy)
    assert sorted(row[0] for row in ROWS) == sorted(Cause)
    assert len(CASES) == 7 * 14
    assert set(RESTARTED) == set(RestartPolicy)


@pytest.mark.parametrize(("cause", "policy", "restarted"), CASES)
def test_the_policy_decides_by_cause(cause, policy, restarted):
    verdict = wants_restart(web(restart=policy), cause, None)

    assert verdict == Verdict(restarted, prevented=False)


@pytest.mark.parametrize(("cause", "policy", "restarted"), CASES)
def test_the_machine_does_what_the_policy_says(cause, policy, restarted):
    machine = Machine(web(restart=policy))
    match cause:
        case Cause.SUCCESS:
            machine.up().post(ProcessExited(Exited(0), Usage()))
        case Cause.SPAWN_ERROR:
            machine.up()
            machine.post(RestartRequested("operator:0"), ProcessExited(Exited(0), Usage()))
            machine.post(SpawnFailed("exec", "/srv/web", "ENOENT"))
        case _:  # as whoever asks for the stop names it: a check, the watchdog, an operator
            machine.up()
            machine.post(RestartRequested("test", cause), ProcessExited(Exited(0), Usage()))

    stays = Phase.EXITED if cause is Cause.SUCCESS else Phase.FAILED
    follows = Phase.STARTING if cause in ASKED else Phase.BACKOFF if restarted else stays
    assert machine.phase is follows


# -- the two lists --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prevent", "force", "status", "verdict"),
    [
        (Ends((3,)), Ends(), Exited(3), Verdict(restart=False, prevented=True)),
        (Ends((3,)), Ends((3,)), Exited(3), Verdict(restart=False, prevented=True)),
        (Ends((), (9,)), Ends(), Signaled(9), Verdict(restart=False, prevented=True)),
        (Ends((9,)), Ends(), Signaled(9), Verdict(restart=True)),
        (Ends(), Ends((3,)), Exited(3), Verdict(restart=True)),
        (Ends((3,)), Ends(), Exited(4), Verdict(restart=True)),
        (Ends((0,), (1,)), Ends(), Unknown(), Verdict(restart=True)),
        (Ends((0,), (1,)), Ends(), None, Verdict(restart=True)),
    ],
)
def test_prevent_wins_over_force_and_both_over_always(prevent, force, status, verdict):
    spec = web(restart=RestartPolicy.ALWAYS, restart_prevent=prevent, restart_force=force)

    assert wants_restart(spec, Cause.EXIT_CODE, status) == verdict


@pytest.mark.parametrize(
    ("force", "status", "restarted"),
    [
        (Ends((0,)), Exited(0), True),
        (Ends((), (15,)), Signaled(15), True),
        (Ends((0,)), Exited(1), False),
        (Ends((0,)), None, False),
    ],
)
def test_force_wins_over_no(force, status, restarted):
    spec = web(restart=RestartPolicy.NO, restart_force=force)

    assert wants_restart(spec, Cause.SUCCESS, status).restart is restarted


# -- the start limit ------------------------------------------------------------------------------

THREE = StartLimitSpec(burst=3, interval=60)


@pytest.mark.parametrize(
    ("starts", "now", "allowed"),
    [
        ((), 100, True),
        ((90, 95), 100, True),
        ((80, 90, 95), 100, False),
        ((40, 90, 95), 100, True),
        ((40.1, 90, 95), 100, False),
        ((1, 2, 3), 100, True),
    ],
)
def test_the_window_slides(starts, now, allowed):
    assert within_limit(starts, THREE, now) is allowed


def test_a_burst_of_none_is_no_limit():
    unlimited = StartLimitSpec(burst=0)

    assert within_limit((1,) * 1000, unlimited, 1)
    assert in_window((1, 2, 3), unlimited, 3) == ()


def test_only_the_newest_are_kept():
    assert in_window((50, 60, 70, 80, 90), THREE, 100) == (70, 80, 90)


@pytest.mark.parametrize("action", [LimitAction.FAIL, LimitAction.SHUTDOWN])
def test_beyond_the_limit_it_ends(action):
    assert slow_retry_delay(THREE._replace(action=action)) is None


def test_beyond_the_limit_slow_retry_goes_on_at_the_pace_of_the_limit():
    assert slow_retry_delay(THREE._replace(action=LimitAction.SLOW_RETRY)) == 20


@given(
    st.lists(st.floats(0, 1000), max_size=12).map(sorted),
    st.integers(1, 6),
    st.floats(0.1, 500),
)
def test_the_window_never_holds_more_than_the_burst_nor_what_is_older(starts, burst, interval):
    kept = in_window(tuple(starts), StartLimitSpec(burst, interval), 1000)

    assert len(kept) <= burst
    assert all(1000 - start < interval for start in kept)
