"""A standing order never says more than the machine would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.actions import Spawn
from supervisord_pidfd.core.anticipation import covers, standing_order
from supervisord_pidfd.core.events import (
    DeadlinePassed,
    HookEnded,
    MainPidChanged,
    ProcessExited,
    ResetRequested,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Ends, Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, step
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    CommandSpec,
    HooksSpec,
    LimitAction,
    RestartPolicy,
    ServiceType,
    StartLimitSpec,
)
from tests.support.machine import Machine, web

KILL, SEGV, TERM = 9, 11, 15
ALWAYS = RestartPolicy.ALWAYS
AT_ONCE = BackoffSpec(delay=0)
STATUSES = (
    st.integers(0, 255).map(Exited)
    | st.builds(Signaled, st.integers(1, 64), st.booleans())
    | st.just(Unknown("stolen"))
)
ENDS = st.builds(
    Ends,
    codes=st.lists(st.sampled_from([0, 1, 3, 255]), max_size=2).map(tuple),
    signals=st.lists(st.sampled_from([KILL, SEGV, TERM, 64]), max_size=2).map(tuple),
)
HOOK = st.sampled_from([None, None, None, CommandSpec(("/bin/hook",))])
SPECS = st.builds(
    web,
    hooks=st.builds(HooksSpec, HOOK, HOOK, HOOK, HOOK, HOOK),
    restart=st.sampled_from(RestartPolicy),
    success=ENDS,
    restart_prevent=ENDS,
    restart_force=ENDS,
    backoff=st.builds(
        BackoffSpec,
        delay=st.sampled_from([0.0, 0.1]),
        max_delay=st.sampled_from([0.0, 30.0]),
        jitter=st.sampled_from([0.0, 1.0]),
        reset_after=st.sampled_from([0.0, 60.0]),
    ),
    start_limit=st.builds(
        StartLimitSpec,
        burst=st.sampled_from([0, 1, 2, 5]),
        interval=st.sampled_from([50.0, 600.0]),
        action=st.sampled_from(LimitAction),
    ),
)


def crashed(spec, runs):
    """Run so many times, each for its length, and be up again."""
    machine = up(Machine(spec))
    for length in runs:
        after_hooks(machine.wait(length).post(ProcessExited(Signaled(SEGV), Usage())))
        if machine.phase is not Phase.BACKOFF:
            up(machine)
        else:
            up(machine.wait(machine.state.next_start_at - machine.now))
    return machine


def up(machine):
    """Start by command where it is down, execute, and be ready."""
    if machine.phase is not Phase.STARTING:
        machine.post(StartRequested("config"))
    return after_hooks(after_hooks(machine).executed())


def after_hooks(machine):
    while machine.state.hook is not None:
        machine.post(HookEnded(machine.state.hook, ok=True))
    return machine


def order_of(machine):
    return standing_order(machine.spec, machine.state, machine.now)


def starts_at_once(machine, status):
    """Tell whether the machine starts again without a wait after this end."""
    after = step(
        machine.spec, machine.state, ProcessExited(status, Usage()), machine.now, 0.999
    ).state
    if after.phase is not Phase.BACKOFF or after.next_start_at > machine.now:
        return False
    return step(machine.spec, after, DeadlinePassed(), machine.now, 0.0).actions == (Spawn(),)


@given(
    SPECS,
    st.lists(st.sampled_from([0.0, 10.0, 59.0, 61.0]), max_size=4),
    st.sampled_from([0.0, 1.0, 49.0, 59.0, 60.0, 700.0]),
    STATUSES,
)
def test_what_an_order_covers_the_machine_starts_at_once(spec, runs, later, status):
    machine = crashed(spec, runs)
    order = order_of(machine)
    machine.wait(later)

    if order is not None and covers(order, status, machine.now):
        assert order.run == machine.state.run
        assert starts_at_once(machine, status)


@given(SPECS, STATUSES)
def test_the_first_end_is_covered_where_the_machine_starts_at_once(spec, status):
    machine = up(Machine(spec))
    order = order_of(machine)

    covered = order is not None and covers(order, status, machine.now)
    assert covered is (starts_at_once(machine, status) and type(status) is not Unknown)


def test_a_quick_end_within_a_row_is_not_covered_until_the_run_is_stable():
    machine = crashed(web(), [0.0, 0.0])
    order = order_of(machine)

    assert not covers(order, Exited(1), machine.now + 59)
    assert covers(order, Exited(1), machine.now + 60)


def test_without_a_delay_every_end_of_a_row_is_covered():
    machine = crashed(web(backoff=AT_ONCE), [0.0, 0.0])

    assert covers(order_of(machine), Exited(1), machine.now)


def test_a_core_dump_is_told_apart_from_its_signal():
    spec = web(restart=RestartPolicy.NO, restart_force=Ends((), (SEGV,)))
    order = order_of(Machine(spec).up())

    assert covers(order, Signaled(SEGV), 1000)
    assert covers(order, Signaled(SEGV, core=True), 1000)
    assert not covers(order, Signaled(KILL), 1000)


def test_an_unknown_end_is_never_covered():
    order = order_of(Machine(web(restart=ALWAYS)).up())

    assert not covers(order, Unknown("stolen"), 1e9)


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(Machine(), id="down"),
        pytest.param(Machine(web(type=ServiceType.ONESHOT)).up(), id="starting"),
        pytest.param(Machine().up().post(StopRequested("operator:0")), id="stopping"),
        pytest.param(Machine().up().post(MainPidChanged(4242)), id="heir"),
        pytest.param(Machine(web(restart=RestartPolicy.NO)).up(), id="policy"),
        pytest.param(crashed(web(start_limit=StartLimitSpec(burst=1)), [0.0]), id="limit"),
    ],
)
def test_where_no_end_is_followed_by_a_start_at_once_there_is_no_order(machine):
    assert order_of(machine) is None


def test_a_run_without_its_moment_of_readiness_has_no_order_within_a_row():
    state = ServiceState(Phase.RUNNING, crashed(web(), []).state.wanted, attempt=3)

    assert standing_order(web(), state, 1000) is None


def test_a_reset_opens_the_order_again():
    machine = crashed(web(), [0.0, 0.0]).post(ResetRequested("operator:0"))

    assert covers(order_of(machine), Exited(1), machine.now)
