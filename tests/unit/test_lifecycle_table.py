"""What the service machine does: one case for each behaviour, given, when, then."""

import math

import pytest

from supervisord_pidfd.core import events
from supervisord_pidfd.core.actions import EndDaemon, Signal, Spawn
from supervisord_pidfd.core.events import (
    DeadlinePassed,
    Executed,
    GateOpened,
    KillRequested,
    ProcessExited,
    ResetRequested,
    RestartRequested,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause, Ends, Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.lifecycle import (
    TABLE,
    End,
    Held,
    Phase,
    ServiceState,
    Wanted,
    daemon_code,
    health_of,
    is_ready,
    phase_told,
    step,
)
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceKillEscalated,
    ServiceLeftoversKilled,
    ServiceReady,
    ServiceReset,
    ServiceRestartScheduled,
    ServiceRuntimeExceeded,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStartTimedOut,
    ServiceStatusUnknown,
    ServiceStopped,
    ServiceStopping,
    ServiceUnkillable,
    ServiceWaiting,
)
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    CheckAction,
    CheckKind,
    CheckSpec,
    Hook,
    LimitAction,
    ReadyKind,
    ReadySpec,
    RestartPolicy,
    Scope,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
)
from supervisord_pidfd.errors import ImpossibleEventError
from tests.support.machine import MANY, PID, Machine, web

SLOW = ReadySpec(ReadyKind.DELAY, 5)

INT, KILL, SEGV, TERM = 2, 9, 11, 15
ALWAYS, NO = RestartPolicy.ALWAYS, RestartPolicy.NO
ONESHOT = {
    "type": ServiceType.ONESHOT,
    "restart": NO,
    "success": Ends((0,)),
    "start_timeout": math.inf,
}
TERM_TO_GROUP = Signal(TERM, whole_scope=True, then_continue=True)
TERM_TO_MAIN = Signal(TERM, whole_scope=False, then_continue=True)
TERM_FOR_10_S = (StopStep(TERM, 10.0),)
KILL_TO_ALL = Signal(KILL, whole_scope=True, then_continue=False)
KILL_TO_MAIN = Signal(KILL, whole_scope=False, then_continue=False)
START, STOP = StartRequested("operator:0"), StopRequested("operator:0")
RESTART, RESET, HASTEN = (
    RestartRequested("operator:0"),
    ResetRequested("operator:0"),
    KillRequested(),
)


def ended(code=0, usage=None, *, signum=None, scope_empty=True):
    status = Exited(code) if signum is None else Signaled(signum)
    return ProcessExited(status, usage or Usage(), scope_empty)


def could_not(error="ENOENT", stage="exec"):
    return SpawnFailed(stage, "/srv/web", error)


def stop_spec(scope=Scope.GROUP, *, keep=False, steps=TERM_FOR_10_S):
    return StopSpec(tuple(steps), scope, keep)


def crash(machine, code=1):
    """End the run, and give the next one its process when the backoff is over."""
    machine.post(ended(code))
    if machine.phase is Phase.BACKOFF:
        machine.next_start()
    return machine


def crash_until_failed(machine):
    """Crash at every start; return the delay before each."""
    delays = []
    for _ in range(MANY):
        if machine.post(ended(1)).phase is not Phase.BACKOFF:
            return delays
        delays += [notice.delay_s for notice in machine.told(ServiceRestartScheduled)]
        machine.next_start()
    raise AssertionError("it never fails")


# -- starting -------------------------------------------------------------------------------------


def test_a_start_spawns():
    machine = Machine().post(START)

    assert machine.phase is Phase.STARTING
    assert machine.state.wanted is Wanted.UP
    assert machine.actions == [Spawn()]
    assert machine.notices == [ServiceStarting(0)]


def test_a_spawned_process_is_held_by_its_pid():
    machine = Machine().post(START, Spawned(PID, 0.25))

    assert (machine.phase, machine.state.pid) == (Phase.STARTING, PID)
    assert machine.told(ServiceSpawned) == [ServiceSpawned(0.25)]


def test_an_executed_program_is_ready():
    machine = Machine().post(START, Spawned(PID, 0.001))
    machine.wait(2).post(Executed())

    assert machine.phase is Phase.RUNNING
    assert machine.notices == [ServiceReady("executed", 2.0)]
    assert machine.state.deadline == math.inf


def test_with_a_delay_it_is_ready_when_it_has_stayed_up_so_long():
    machine = Machine(web(ready=SLOW)).up().wait(4.9)
    assert machine.phase is Phase.STARTING

    machine.wait(0.1)

    assert machine.phase is Phase.RUNNING
    assert machine.notices == [ServiceReady("delay", 5.0)]


def test_the_time_of_a_service_that_began_at_zero_is_told_like_any_other():
    machine = Machine()
    machine.now = 0.0
    machine.post(START, Spawned(PID, 0.001)).wait(3).post(Executed())

    assert machine.told(ServiceReady) == [ServiceReady("executed", 3.0)]


def test_a_oneshot_is_starting_all_its_run():
    machine = Machine(web(**ONESHOT)).up().wait(3600)

    assert machine.phase is Phase.STARTING
    assert machine.state.deadline == math.inf


def test_a_oneshot_that_ends_cleanly_is_ready():
    machine = Machine(web(**ONESHOT)).up().post(ended(0))

    assert machine.phase is Phase.EXITED
    assert is_ready(machine.spec, machine.state)


def test_a_daemon_that_ends_cleanly_is_not_ready():
    machine = Machine().up()
    assert is_ready(machine.spec, machine.state)

    machine.post(ended(0))

    assert machine.phase is Phase.EXITED
    assert not is_ready(machine.spec, machine.state)


def test_starting_what_runs_is_done():
    machine = Machine().up()
    before = machine.state

    machine.post(START)

    assert (machine.state, machine.actions, machine.notices) == (before, [], [])


def test_a_start_that_takes_too_long_is_stopped():
    machine = Machine(web(start_timeout=90)).post(START, Spawned(PID, 0.001)).wait(90)

    assert machine.phase is Phase.STOPPING
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.notices == [ServiceStartTimedOut(90), ServiceStopping("timeout", TERM, 10.0)]


def test_a_program_that_was_executed_has_to_be_ready_in_time_too():
    machine = Machine(web(start_timeout=5, ready=ReadySpec(ReadyKind.DELAY, 10))).up().wait(5)

    assert machine.phase is Phase.STOPPING
    assert machine.notices[0] == ServiceStartTimedOut(5)


def test_a_start_that_took_too_long_is_tried_again_by_policy():
    machine = Machine(web(start_timeout=90)).post(START, Spawned(PID, 0.001)).wait(90)
    machine.post(ended(0))

    assert machine.phase is Phase.BACKOFF
    assert machine.told(ServiceExited)[0].cause == "timeout"


def test_a_run_that_takes_too_long_is_stopped():
    machine = Machine(web(runtime_max=3600)).up().wait(3600)

    assert machine.phase is Phase.STOPPING
    assert machine.notices[0] == ServiceRuntimeExceeded(3600)
    assert machine.post(ended(signum=TERM)).told(ServiceExited)[0].cause == "timeout"


def test_the_longest_run_of_a_oneshot_begins_at_its_spawn():
    machine = Machine(web(**ONESHOT | {"runtime_max": 60})).up().wait(60)

    assert machine.phase is Phase.STOPPING
    assert machine.notices[0] == ServiceRuntimeExceeded(60)


@pytest.mark.parametrize("spec", [web(), web(runtime_max=60), web(ready=SLOW)])
def test_a_deadline_that_is_early_means_nothing(spec):
    machine = Machine(spec).up()
    before = machine.state

    assert machine.post(DeadlinePassed()).state == before


@pytest.mark.parametrize("waited", [0, 5, 9.9, 10.5])
def test_a_deadline_that_is_early_hastens_no_stop(waited):
    machine = Machine().up().post(STOP).wait(waited)

    assert machine.post(DeadlinePassed()).actions == []


# -- ends -----------------------------------------------------------------------------------------


def test_an_end_is_told_with_all_that_is_known():
    machine = Machine(web(restart=NO)).up().wait(7)
    machine.post(ProcessExited(Signaled(SEGV, core=True), Usage(1.5, 0.5, 4096)))

    assert machine.told(ServiceExited) == [
        ServiceExited(
            cause="core_dump", exit_code=None, signal=SEGV, core=True, forced=False, wanted="up",
            lasted_s=7.0, max_rss_bytes=4096, user_cpu_s=1.5, system_cpu_s=0.5,
        )
    ]  # fmt: skip
    assert machine.state.last_exit == End(Cause.CORE_DUMP, Signaled(SEGV, core=True))


def test_an_unknown_status_is_told_as_such_and_is_a_failure():
    machine = Machine().up().post(ProcessExited(Unknown("taken by somebody"), Usage()))

    assert machine.phase is Phase.BACKOFF
    assert machine.notices[0] == ServiceStatusUnknown("taken by somebody")
    assert machine.notices[1].cause == "unknown"
    assert machine.notices[1].exit_code is None


def test_a_clean_end_that_is_not_restarted_is_exited_and_wanted_down():
    machine = Machine().up().post(ended(0))

    assert machine.phase is Phase.EXITED
    assert machine.state.wanted is Wanted.DOWN
    assert type(phase_told(tuple(machine.notices))) is ServiceExited


def test_a_bad_end_that_is_not_restarted_is_failed_and_still_wanted_up():
    machine = Machine(web(restart=NO)).up().post(ended(3))

    assert machine.phase is Phase.FAILED
    assert machine.state.wanted is Wanted.UP
    assert machine.told(ServiceGaveUp) == [ServiceGaveUp("exit_code", "policy", 0)]


def test_what_is_on_the_list_of_prevention_is_failed_whatever_the_policy():
    machine = Machine(web(restart=ALWAYS, restart_prevent=Ends((3,)))).up().post(ended(3))

    assert machine.phase is Phase.FAILED
    assert machine.told(ServiceGaveUp)[0].reason == "prevented"


def test_a_clean_end_on_the_list_of_prevention_is_exited():
    machine = Machine(web(restart=ALWAYS, restart_prevent=Ends((0,)))).up().post(ended(0))

    assert machine.phase is Phase.EXITED


def test_what_is_on_the_list_of_force_is_restarted_whatever_the_policy():
    machine = Machine(web(restart=NO, restart_force=Ends((0,)))).up().post(ended(0))

    assert machine.phase is Phase.BACKOFF


def test_a_listed_code_and_a_listed_signal_are_clean():
    spec = web(success=Ends((0, 3), (TERM,)))

    assert Machine(spec).up().post(ended(3)).phase is Phase.EXITED
    assert Machine(spec).up().post(ended(signum=TERM)).phase is Phase.EXITED
    assert Machine(spec).up().post(ended(signum=INT)).phase is Phase.BACKOFF


def test_an_end_before_it_was_ready_is_judged_like_any_other():
    assert Machine(web(ready=SLOW)).up().post(ended(1)).phase is Phase.BACKOFF


def test_a_start_that_failed_names_its_stage_and_is_tried_again():
    machine = Machine().post(START, could_not("ENOENT", "directory"))

    assert machine.phase is Phase.BACKOFF
    assert machine.notices[1] == ServiceSpawnFailed("directory", "/srv/web", "ENOENT")
    assert machine.state.last_exit == End(
        Cause.SPAWN_ERROR, None, stage="directory", subject="/srv/web", error="ENOENT"
    )


def test_a_start_that_failed_after_the_fork_leaves_no_pid():
    machine = Machine().post(START, Spawned(PID, 0.001), could_not())

    assert machine.state.pid is None
    assert machine.phase is Phase.BACKOFF


# -- backoff --------------------------------------------------------------------------------------


def test_the_first_restart_is_immediate_and_has_its_event():
    machine = Machine().up().post(ended(1))

    assert machine.phase is Phase.BACKOFF
    assert machine.told(ServiceRestartScheduled) == [
        ServiceRestartScheduled("exit_code", attempt=1, limit=10, delay_s=0.0)
    ]
    assert machine.wait(0).actions == [Spawn()]


def test_the_series_of_the_defaults_and_its_end():
    machine = Machine().up()
    began = machine.now

    delays = crash_until_failed(machine)

    assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])
    assert machine.phase is Phase.FAILED
    assert machine.now - began == pytest.approx(51.1)
    assert machine.notices[-1] == ServiceGaveUp("exit_code", "limit", attempts=10)


def test_jitter_comes_from_the_roll():
    machine = Machine(roll=0.5).up()
    crash(crash(machine))

    assert machine.post(ended(1)).told(ServiceRestartScheduled)[0].delay_s == pytest.approx(0.21)


def test_a_run_that_was_ready_for_long_enough_begins_a_new_row():
    machine = crash(crash(crash(Machine().up())))
    machine.wait(60).post(ended(1))

    assert machine.told(ServiceRestartScheduled)[0].attempt == 1


def test_a_run_that_was_ready_for_less_goes_on_with_the_row():
    machine = crash(crash(crash(Machine().up())))
    machine.wait(59.9).post(ended(1))

    assert machine.told(ServiceRestartScheduled)[0].attempt == 4


def test_the_time_before_it_was_ready_does_not_count_for_a_new_row():
    machine = Machine(web(ready=ReadySpec(ReadyKind.DELAY, 30))).up().wait(30)
    crash(machine).wait(30).wait(59)

    assert machine.post(ended(1)).told(ServiceRestartScheduled)[0].attempt == 2


def test_the_time_of_a_stop_does_not_count_for_a_new_row():
    machine = crash(Machine(web(stop=stop_spec(steps=[StopStep(TERM, 100)]))).up())
    machine.wait(59).post(ended(1, scope_empty=False))
    machine.wait(50).post(ScopeEmptied())

    assert machine.told(ServiceRestartScheduled)[0].attempt == 2


def test_a_run_that_never_was_ready_goes_on_with_the_row():
    machine = Machine(web(ready=ReadySpec(ReadyKind.DELAY, 80))).up().post(ended(1)).next_start()
    machine.wait(70).post(ended(1))

    assert machine.told(ServiceRestartScheduled)[0].attempt == 2


@pytest.mark.parametrize("command", [START, RESTART])
def test_a_command_in_backoff_starts_at_once_with_a_new_row(command):
    machine = crash(crash(Machine().up())).post(ended(1))
    assert machine.phase is Phase.BACKOFF

    machine.post(command)

    assert machine.actions == [Spawn()]
    assert machine.executed().post(ended(1)).told(ServiceRestartScheduled)[0].attempt == 1


def test_a_stop_in_backoff_is_at_once():
    machine = crash(crash(Machine().up())).post(ended(1), STOP)

    assert machine.phase is Phase.STOPPED
    assert machine.notices[-1] == ServiceStopped("operator:0", 0.0)
    assert machine.state.deadline == math.inf
    assert machine.wait(3600).actions == []


def test_a_backoff_that_is_asked_too_early_waits_on():
    machine = crash(Machine().up()).post(ended(1))

    assert machine.post(DeadlinePassed()).phase is Phase.BACKOFF


def test_restarts_count_every_start_after_an_end():
    machine = crash(crash(Machine().up()))
    machine.post(STOP, ended(0), START)

    assert machine.state.restarts == 3
    assert machine.state.run == 4


# -- the start limit ------------------------------------------------------------------------------

TWO = StartLimitSpec(burst=2, interval=60)
AT_ONCE = BackoffSpec(delay=0)


def test_beyond_the_limit_it_fails():
    machine = Machine(web(start_limit=TWO)).up()

    assert len(crash_until_failed(machine)) == 2
    assert machine.phase is Phase.FAILED
    assert len(machine.state.starts) == 2


def test_what_left_the_window_does_not_count():
    machine = crash(crash(Machine(web(start_limit=TWO, backoff=AT_ONCE)).up()))

    machine.wait(60).post(ended(1))

    assert machine.phase is Phase.BACKOFF


def test_a_burst_of_none_is_no_limit():
    machine = Machine(web(start_limit=StartLimitSpec(burst=0), backoff=AT_ONCE)).up()
    for _ in range(100):
        crash(machine)

    assert machine.phase is Phase.RUNNING
    assert machine.state.starts == ()
    assert machine.post(ended(1)).told(ServiceRestartScheduled)[0].limit is None


def test_starts_by_command_never_count():
    machine = Machine(web(start_limit=TWO)).up()
    for _ in range(10):
        machine.post(RESTART, ended(0)).executed()
        machine.post(STOP, ended(0), START).executed()
        machine.post(ended(0), START).executed()

    assert machine.state.starts == ()


@pytest.mark.parametrize("command", [START, STOP, RESTART])
def test_a_restart_that_a_command_forestalled_does_not_count(command):
    machine = crash(Machine(web(start_limit=TWO)).up())
    machine.post(ended(1), command)

    assert len(machine.state.starts) == 1


def test_with_slow_retry_it_goes_on_at_the_pace_of_the_limit():
    limit = TWO._replace(action=LimitAction.SLOW_RETRY)
    machine = Machine(web(start_limit=limit)).up()
    delays = []
    for _ in range(6):
        delays.append(machine.post(ended(1)).told(ServiceRestartScheduled)[0].delay_s)
        machine.next_start()

    assert delays == pytest.approx([0, 0.1, 30, 30, 30, 30])
    assert machine.phase is Phase.RUNNING


def test_slow_retry_never_shortens_a_backoff():
    limit = TWO._replace(action=LimitAction.SLOW_RETRY, interval=2)
    machine = Machine(web(start_limit=limit, backoff=BackoffSpec(delay=1.5, max_delay=100))).up()
    for _ in range(9):
        crash(machine)

    assert machine.post(ended(1)).told(ServiceRestartScheduled)[0].delay_s == 100


def test_with_shutdown_it_fails_and_the_daemon_ends_with_10():
    limit = TWO._replace(action=LimitAction.SHUTDOWN)
    machine = Machine(web(start_limit=limit)).up()
    crash_until_failed(machine)

    assert machine.phase is Phase.FAILED
    assert machine.actions == [EndDaemon(10)]


def test_with_shutdown_a_critical_service_gives_its_own_code():
    limit = TWO._replace(action=LimitAction.SHUTDOWN)
    machine = Machine(web(start_limit=limit, critical=True)).up()
    crash_until_failed(machine)

    assert machine.actions == [EndDaemon(1)]


def test_shutdown_is_for_the_limit_alone():
    limit = TWO._replace(action=LimitAction.SHUTDOWN)
    machine = Machine(web(start_limit=limit, restart=NO)).up().post(ended(1))

    assert (machine.phase, machine.actions) == (Phase.FAILED, [])


def test_the_attempts_it_gave_up_after_are_those_of_the_row():
    spec = web(restart=RestartPolicy.ON_ABNORMAL)
    machine = Machine(spec).up()
    machine.post(ended(signum=KILL)).next_start()
    machine.wait(60).post(ended(1))

    assert machine.told(ServiceGaveUp) == [ServiceGaveUp("exit_code", "policy", 0)]


# -- faults of the host ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"])
@pytest.mark.parametrize("policy", RestartPolicy)
def test_a_fault_of_the_host_is_always_tried_again_and_never_counted(error, policy):
    machine = Machine(web(start_limit=TWO, restart=policy)).post(START)
    for _ in range(20):
        machine.post(could_not(error, "fork"))
        assert machine.phase is Phase.BACKOFF
        machine.wait(machine.state.next_start_at - machine.now)

    assert machine.state.starts == ()


def test_a_fault_of_the_host_is_never_tried_again_without_a_pause():
    machine = Machine(web(backoff=AT_ONCE)).post(START, could_not("ENOMEM", "fork"))

    assert machine.told(ServiceRestartScheduled)[0].delay_s == 0.1


def test_a_fault_of_the_host_backs_off():
    machine = Machine().post(START)
    for _ in range(5):
        machine.post(could_not("EMFILE", "stdio"))
        machine.wait(machine.state.next_start_at - machine.now)
    machine.post(could_not("EMFILE", "stdio"))

    assert machine.told(ServiceRestartScheduled)[0].delay_s == pytest.approx(1.6)


def test_a_fault_of_the_host_at_the_limit_is_tried_again():
    machine = crash(crash(Machine(web(start_limit=TWO)).up()))
    machine.post(RESTART, ended(0), could_not("EAGAIN", "fork"))

    assert machine.phase is Phase.BACKOFF


def test_any_other_fault_of_a_start_is_counted():
    machine = Machine(web(start_limit=TWO)).post(START)
    for _ in range(2):
        machine.post(could_not("ENOENT")).wait(1)
    machine.post(could_not("ENOENT"))

    assert machine.phase is Phase.FAILED


# -- stopping -------------------------------------------------------------------------------------


def test_a_stop_signals_the_scope_and_says_how_long_it_waits():
    machine = Machine().up().post(STOP)

    assert machine.phase is Phase.STOPPING
    assert machine.state.wanted is Wanted.DOWN
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.notices == [ServiceStopping("operator:0", TERM, 10.0)]


@pytest.mark.parametrize(
    ("scope", "first", "last"),
    [
        (Scope.GROUP, TERM_TO_GROUP, KILL_TO_ALL),
        (Scope.MIXED, TERM_TO_MAIN, KILL_TO_ALL),
        (Scope.PROCESS, TERM_TO_MAIN, KILL_TO_MAIN),
    ],
)
def test_the_scope_says_who_gets_which_signal(scope, first, last):
    machine = Machine(web(stop=stop_spec(scope))).up()

    assert machine.post(STOP).actions == [first]
    assert machine.wait(10).actions == [last]


def test_an_end_after_a_stop_is_never_a_failure():
    machine = Machine(web(restart=ALWAYS)).up().post(STOP)
    machine.wait(2).post(ended(1))

    assert machine.phase is Phase.STOPPED
    assert machine.told(ServiceExited)[0].cause == "operator"
    assert machine.told(ServiceExited)[0].wanted == "down"
    assert machine.notices[-1] == ServiceStopped("operator:0", 2.0)
    assert machine.wait(3600).actions == []


def test_a_stop_before_the_program_was_executed_ends_the_start():
    machine = Machine().post(START, Spawned(PID, 0.001), STOP)
    assert machine.phase is Phase.STOPPING

    machine.post(could_not("SIGTERM before exec"))

    assert machine.phase is Phase.STOPPED
    assert machine.state.last_exit.cause is Cause.OPERATOR


def test_a_program_executed_during_its_stop_is_stopped_all_the_same():
    machine = Machine().post(START, Spawned(PID, 0.001), STOP, Executed())
    assert machine.phase is Phase.STOPPING

    assert machine.post(ended(signum=TERM)).phase is Phase.STOPPED


def test_sigkill_follows_when_the_time_is_over_and_makes_the_end_forced():
    machine = Machine().up().post(STOP).wait(10)

    assert machine.actions == [KILL_TO_ALL]
    assert machine.notices == [ServiceKillEscalated("group", 10.0)]
    assert machine.post(ended(signum=KILL)).told(ServiceExited)[0].forced
    assert machine.state.last_exit.forced


def test_a_stop_that_was_obeyed_is_not_forced():
    assert not Machine().up().post(STOP, ended(0)).told(ServiceExited)[0].forced


def test_sigkill_is_repeated_until_all_are_gone_and_told_once():
    machine = Machine().up().post(STOP).wait(10).wait(3)

    assert machine.actions == [KILL_TO_ALL] * 3
    assert machine.notices == []


def test_a_process_that_sigkill_cannot_end_is_told_once_and_not_started_again():
    machine = Machine().up().post(RESTART).wait(600)

    assert machine.phase is Phase.STOPPING
    assert machine.state.unkillable
    assert machine.told(ServiceUnkillable) == [ServiceUnkillable(15.0)]
    assert Spawn() not in machine.actions
    assert machine.state.deadline <= machine.now + 1


def test_an_unkillable_process_that_ends_after_all_is_forgotten_as_such():
    machine = Machine().up().post(RESTART).wait(600).post(ended(signum=KILL))

    assert machine.phase is Phase.STARTING
    assert not machine.state.unkillable


def test_the_steps_of_a_sequence_follow_each_other():
    steps = [StopStep(TERM, 5), StopStep(INT, 3)]
    machine = Machine(web(stop=stop_spec(steps=steps))).up().post(STOP)
    assert machine.notices == [ServiceStopping("operator:0", TERM, 8)]

    assert machine.wait(4.9).actions == []
    assert machine.wait(0.1).actions == [Signal(INT, whole_scope=True, then_continue=True)]
    assert machine.wait(2.9).actions == []
    assert machine.wait(0.1).actions == [KILL_TO_ALL]


def test_sigkill_as_the_stop_signal_escalates_nothing_but_forces_the_end():
    machine = Machine(web(stop=stop_spec(steps=[StopStep(KILL, 10)]))).up().post(STOP)
    assert machine.actions == [KILL_TO_ALL]
    assert machine.notices == [ServiceStopping("operator:0", KILL, 0.0)]

    assert machine.wait(1).actions == [KILL_TO_ALL]
    assert machine.post(ended(signum=KILL)).told(ServiceExited)[0].forced


def test_sigkill_as_a_later_step_is_the_escalation():
    steps = [StopStep(TERM, 5), StopStep(KILL, 5)]
    machine = Machine(web(stop=stop_spec(steps=steps))).up().post(STOP).wait(5)

    assert machine.actions == [KILL_TO_ALL]
    assert machine.notices == [ServiceKillEscalated("group", 5.0)]


def test_a_stop_without_a_timeout_waits_for_ever():
    machine = Machine(web(stop=stop_spec(steps=[StopStep(TERM, math.inf)]))).up().post(STOP)

    assert machine.state.deadline == math.inf
    assert machine.wait(86_400).phase is Phase.STOPPING


def test_the_budget_of_a_shutdown_cuts_a_stop_short():
    machine = Machine().up()
    machine.post(StopRequested("shutdown", kill_by=machine.now + 6))
    assert machine.notices == [ServiceStopping("shutdown", TERM, 6.0)]

    assert machine.wait(6).actions == [KILL_TO_ALL]


def test_a_budget_longer_than_the_stop_changes_nothing():
    machine = Machine().up()
    machine.post(StopRequested("shutdown", kill_by=machine.now + 60))

    assert machine.notices == [ServiceStopping("shutdown", TERM, 10.0)]
    assert machine.wait(10).actions == [KILL_TO_ALL]


def test_a_budget_that_is_spent_still_gives_the_signal_first():
    machine = Machine().up()
    machine.post(StopRequested("shutdown", kill_by=machine.now - 1))
    assert machine.notices == [ServiceStopping("shutdown", TERM, 0.0)]

    assert machine.wait(0).actions == [KILL_TO_ALL]


@pytest.mark.parametrize(("first", "second"), [(60, 3), (3, 60)])
def test_of_two_budgets_the_shorter_one_counts(first, second):
    machine = Machine().up()
    machine.post(StopRequested("shutdown", kill_by=machine.now + first))
    machine.post(StopRequested("shutdown", kill_by=machine.now + second))

    assert machine.wait(3).actions == [KILL_TO_ALL]


def test_a_budget_means_nothing_where_sigkill_was_sent_already():
    machine = Machine().up().post(STOP).wait(10)
    machine.post(StopRequested("shutdown", kill_by=machine.now))

    assert machine.wait(0).actions == []
    assert machine.wait(1).actions == [KILL_TO_ALL]


def test_stopping_what_is_down_is_done():
    for machine in (Machine(), Machine().up().post(ended(0))):
        before = machine.state

        assert machine.post(STOP).state == before
        assert machine.notices == []


# -- while stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [START, RESTART])
def test_a_start_while_stopping_is_queued(command):
    machine = Machine().up().post(STOP, command)
    assert (machine.phase, machine.actions) == (Phase.STOPPING, [TERM_TO_GROUP])

    machine.post(ended(0))

    assert machine.phase is Phase.STARTING
    assert machine.actions == [Spawn()]


def test_a_stop_takes_a_queued_start_back():
    machine = Machine().up().post(STOP, START, StopRequested("operator:7"), ended(0))

    assert machine.phase is Phase.STOPPED
    assert machine.notices[-1].by == "operator:7"


def test_a_queued_start_outlives_neither_its_stop_nor_its_start():
    machine = Machine(web(restart=NO)).up().post(STOP, START, ended(0)).executed()

    assert machine.post(ended(1)).phase is Phase.FAILED


def test_a_start_while_a_timeout_is_carried_out_is_not_the_policys_business():
    machine = Machine(web(runtime_max=60, restart=NO)).up().wait(60).post(START, ended(0))

    assert machine.phase is Phase.STARTING


def test_a_stop_while_a_timeout_is_carried_out_makes_it_asked_for():
    machine = Machine(web(runtime_max=60)).up().wait(60).post(STOP, ended(1))

    assert machine.phase is Phase.STOPPED
    assert machine.told(ServiceExited)[0].cause == "operator"


# -- restart --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.OPERATOR, Cause.CONFIG, Cause.DEPENDENCY])
def test_a_restart_stops_and_starts_whatever_the_policy(cause):
    machine = Machine(web(restart=NO)).up().post(RestartRequested("test", cause))
    assert (machine.phase, machine.state.wanted) == (Phase.STOPPING, Wanted.UP)
    assert machine.actions == [TERM_TO_GROUP]

    machine.post(ended(1))

    assert machine.phase is Phase.STARTING
    assert machine.told(ServiceExited)[0].cause == cause


def test_a_restart_of_what_is_starting_stops_it_first():
    machine = Machine().post(START, Spawned(PID, 0.001), RESTART)
    assert machine.phase is Phase.STOPPING

    assert machine.post(could_not("SIGTERM before exec")).phase is Phase.STARTING


@pytest.mark.parametrize("end", [None, 0])
def test_a_restart_of_what_is_down_starts_it(end):
    machine = Machine() if end is None else Machine().up().post(ended(end))

    assert machine.post(RESTART).phase is Phase.STARTING
    assert machine.state.wanted is Wanted.UP


def test_a_restart_begins_a_new_row():
    machine = crash(crash(Machine().up())).post(RESTART, ended(0))

    assert machine.told(ServiceStarting) == [ServiceStarting(0)]
    assert machine.executed().post(ended(1)).told(ServiceRestartScheduled)[0].delay_s == 0


# -- leftovers ------------------------------------------------------------------------------------


def test_leftovers_are_stopped_before_policy_has_its_say():
    machine = Machine().up().post(ended(1, scope_empty=False))

    assert (machine.phase, machine.state.wanted) == (Phase.STOPPING, Wanted.UP)
    assert machine.actions == [TERM_TO_GROUP]
    assert [type(notice) for notice in machine.notices] == [
        ServiceExited, ServiceStopping, ServiceLeftoversKilled,
    ]  # fmt: skip
    assert machine.told(ServiceStopping) == [ServiceStopping("policy", TERM, 10.0)]
    assert machine.post(ScopeEmptied()).phase is Phase.BACKOFF


def test_leftovers_that_do_not_go_are_killed():
    machine = Machine().up().post(ended(1, scope_empty=False)).wait(10)

    assert machine.actions == [KILL_TO_ALL]
    assert machine.told(ServiceKillEscalated) == [ServiceKillEscalated("group", 10.0)]


def test_leftovers_of_a_clean_end_hold_back_exited():
    machine = Machine().up().post(ended(0, scope_empty=False)).wait(2).post(ScopeEmptied())

    assert machine.phase is Phase.EXITED
    assert machine.notices == [ServiceStopped("policy", 2.0)]
    assert machine.state.ended is None


def test_an_end_with_leftovers_is_told_once():
    machine = Machine().up().post(ended(1, scope_empty=False), ScopeEmptied())

    assert len(machine.told(ServiceExited)) == 1


def test_leftovers_of_a_failure_hold_back_failed():
    machine = Machine(web(restart=NO)).up().post(ended(1, scope_empty=False), ScopeEmptied())

    assert machine.phase is Phase.FAILED
    assert machine.notices[-1].cause == "exit_code"


def test_a_stop_during_the_clean_up_takes_it_down():
    machine = Machine().up().post(ended(1, scope_empty=False), STOP, ScopeEmptied())

    assert machine.phase is Phase.STOPPED


def test_a_start_during_the_clean_up_follows_at_once():
    machine = crash(Machine().up()).post(ended(1, scope_empty=False), START, ScopeEmptied())

    assert machine.phase is Phase.STARTING
    assert machine.told(ServiceStarting) == [ServiceStarting(0)]


def test_in_mixed_scope_leftovers_get_sigkill_at_once():
    machine = Machine(web(stop=stop_spec(Scope.MIXED))).up().post(ended(1, scope_empty=False))

    assert machine.actions == [KILL_TO_ALL]
    assert machine.told(ServiceStopping) == [ServiceStopping("policy", KILL, 0.0)]
    assert machine.told(ServiceKillEscalated) == []
    assert machine.wait(1).actions == [KILL_TO_ALL]


def test_in_mixed_scope_the_rest_gets_sigkill_when_the_main_process_obeyed():
    machine = Machine(web(stop=stop_spec(Scope.MIXED))).up().post(STOP)
    machine.post(ended(0, scope_empty=False))

    assert machine.actions == [KILL_TO_ALL]
    assert machine.told(ServiceLeftoversKilled) == [ServiceLeftoversKilled("mixed")]
    assert not machine.state.last_exit.forced
    assert machine.post(ScopeEmptied()).phase is Phase.STOPPED


def test_in_mixed_scope_sigkill_is_not_sent_twice_where_it_ended_the_main_process():
    machine = Machine(web(stop=stop_spec(Scope.MIXED))).up().post(STOP).wait(10)
    machine.post(ended(signum=KILL, scope_empty=False))

    assert machine.actions == []
    assert machine.wait(1).actions == [KILL_TO_ALL]


def test_sigkill_as_the_stop_signal_is_for_leftovers_too():
    spec = web(stop=stop_spec(steps=[StopStep(KILL, 10)]))
    machine = Machine(spec).up().post(ended(1, scope_empty=False))

    assert machine.actions == [KILL_TO_ALL]


def test_leftovers_after_a_stop_get_the_rest_of_its_steps():
    machine = Machine().up().post(STOP).wait(4).post(ended(0, scope_empty=False))
    assert (machine.phase, machine.state.pid, machine.actions) == (Phase.STOPPING, None, [])

    assert machine.wait(6).actions == [KILL_TO_ALL]
    assert machine.post(ScopeEmptied()).phase is Phase.STOPPED


def test_a_restart_waits_for_the_leftovers():
    machine = Machine().up().post(RESTART, ended(0, scope_empty=False))
    assert machine.phase is Phase.STOPPING

    assert machine.post(ScopeEmptied()).phase is Phase.STARTING


@pytest.mark.parametrize("stop", [stop_spec(keep=True), stop_spec(Scope.PROCESS)])
def test_leftovers_that_are_kept_or_not_in_scope_are_not_waited_for(stop):
    machine = Machine(web(stop=stop)).up().post(ended(1, scope_empty=False))
    assert (machine.phase, machine.actions) == (Phase.BACKOFF, [])

    machine.next_start().post(STOP)

    assert machine.post(ended(0, scope_empty=False)).phase is Phase.STOPPED


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.STOPPING])
def test_an_empty_scope_means_nothing_while_the_main_process_lives(phase):
    machine = Machine(web(ready=SLOW if phase is Phase.STARTING else ReadySpec())).up()
    if phase is Phase.STOPPING:
        machine.post(STOP)

    assert machine.post(ScopeEmptied()).phase is phase


# -- the hastened shutdown ------------------------------------------------------------------------


def test_a_hastened_shutdown_kills_at_once():
    machine = Machine().up().post(HASTEN)

    assert machine.phase is Phase.STOPPING
    assert machine.state.wanted is Wanted.DOWN
    assert machine.actions == [KILL_TO_ALL]
    assert machine.notices == [
        ServiceStopping("shutdown", KILL, 0.0),
        ServiceKillEscalated("group", 0.0),
    ]
    assert machine.wait(1).actions == [KILL_TO_ALL]
    assert machine.post(ended(signum=KILL)).phase is Phase.STOPPED


def test_a_hastened_stop_leaves_out_its_other_steps_and_what_was_to_follow():
    machine = Machine().up().post(STOP, START, HASTEN)
    assert machine.actions == [TERM_TO_GROUP, KILL_TO_ALL]

    assert machine.post(ended(signum=KILL)).phase is Phase.STOPPED


def test_what_waits_for_its_start_is_never_started_after_a_hastened_shutdown():
    machine = crash(Machine().up()).post(ended(1), HASTEN)

    assert (machine.phase, machine.state.wanted) == (Phase.STOPPED, Wanted.DOWN)
    assert machine.notices[-1] == ServiceStopped("shutdown", 0.0)


# -- the gate -------------------------------------------------------------------------------------


def held():
    machine = Machine()
    machine.held = Held("start_concurrency")
    return machine.post(START)


def test_a_start_that_is_held_waits_and_says_for_what():
    machine = held()

    assert (machine.phase, machine.state.wanted) == (Phase.WAITING, Wanted.UP)
    assert machine.actions == []
    assert machine.notices == [ServiceWaiting("start_concurrency", None)]


def test_an_opened_gate_starts():
    machine = held()
    machine.held = None

    assert machine.post(GateOpened()).actions == [Spawn()]


def test_a_gate_that_closed_again_holds():
    machine = held().post(GateOpened())

    assert (machine.phase, machine.notices) == (Phase.WAITING, [])


@pytest.mark.parametrize(("event", "by"), [(STOP, "operator:0"), (HASTEN, "shutdown")])
def test_a_stop_while_waiting_is_at_once(event, by):
    machine = held().post(event)

    assert (machine.phase, machine.state.wanted) == (Phase.STOPPED, Wanted.DOWN)
    assert machine.notices == [ServiceStopped(by, 0.0)]


def test_a_restart_that_is_held_after_its_stop_waits_without_a_trace_of_it():
    machine = Machine().up()
    machine.held = Held("start_concurrency")
    machine.post(RESTART, ended(0, scope_empty=False), START, ScopeEmptied())

    assert machine.phase is Phase.WAITING
    state = machine.state
    assert (state.ended, state.stop_cause, state.start_queued, state.pid) == (
        None,
        None,
        False,
        None,
    )


def test_an_automatic_restart_that_is_held_counts_when_it_starts():
    machine = Machine().up()
    machine.held = Held("start_concurrency")
    machine.post(ended(1)).wait(0)
    assert (machine.phase, machine.state.starts) == (Phase.WAITING, ())

    machine.held = None
    machine.wait(5).post(GateOpened())

    assert machine.told(ServiceStarting) == [ServiceStarting(1)]
    assert machine.state.starts == (machine.now,)


@pytest.mark.parametrize("command", [START, RESTART])
def test_a_start_by_command_makes_a_held_restart_one_by_command(command):
    machine = Machine().up()
    machine.held = Held("start_concurrency")
    machine.post(ended(1)).wait(0).post(command)
    machine.held = None
    machine.post(GateOpened())

    assert machine.told(ServiceStarting) == [ServiceStarting(0)]
    assert machine.state.starts == ()


# -- failed, and reset ----------------------------------------------------------------------------


def failed():
    machine = Machine(web(start_limit=TWO)).up()
    crash_until_failed(machine)
    return machine


def test_reset_of_what_failed_makes_it_stopped_and_starts_nothing():
    machine = failed().post(RESET)

    assert (machine.phase, machine.state.wanted) == (Phase.STOPPED, Wanted.DOWN)
    assert (machine.state.attempt, machine.state.starts) == (0, ())
    assert machine.actions == []
    assert machine.notices == [ServiceReset("operator:0"), ServiceStopped("operator:0", 0.0)]


@pytest.mark.parametrize("command", [START, RESTART])
def test_a_start_of_what_failed_resets_it_first(command):
    machine = failed().post(command)

    assert machine.actions == [Spawn()]
    assert machine.notices == [ServiceReset("operator:0"), ServiceStarting(0)]
    assert machine.state.starts == ()


def test_a_stop_of_what_failed_leaves_it_failed_but_not_wanted():
    machine = failed().post(STOP)

    assert (machine.phase, machine.state.wanted) == (Phase.FAILED, Wanted.DOWN)
    assert machine.notices == []


def test_reset_of_what_runs_clears_attempts_and_window():
    machine = crash(crash(Machine(web(start_limit=TWO)).up())).post(RESET)
    assert machine.phase is Phase.RUNNING
    assert machine.notices == [ServiceReset("operator:0")]

    assert machine.post(ended(1)).told(ServiceRestartScheduled)[0].attempt == 1


def test_reset_in_backoff_leaves_the_date():
    machine = crash(Machine().up()).post(ended(1))
    date = machine.state.next_start_at

    assert machine.post(RESET).state.next_start_at == date
    assert machine.state.attempt == 0


# -- main and critical ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (End(Cause.EXIT_CODE, Exited(3)), 3),
        (End(Cause.SUCCESS, Exited(0)), 0),
        (End(Cause.SIGNAL, Signaled(KILL)), 137),
        (End(Cause.CORE_DUMP, Signaled(SEGV, core=True)), 139),
        (End(Cause.SPAWN_ERROR, None, stage="exec", error="ENOENT"), 127),
        (End(Cause.SPAWN_ERROR, None, stage="exec", error="EACCES"), 126),
        (End(Cause.SPAWN_ERROR, None, stage="exec", error="ENOEXEC"), 126),
        (End(Cause.SPAWN_ERROR, None, stage="exec", error="EISDIR"), 126),
        (End(Cause.SPAWN_ERROR, None, stage="exec", error="E2BIG"), 125),
        (End(Cause.SPAWN_ERROR, None, stage="directory", error="ENOENT"), 125),
        (End(Cause.SPAWN_ERROR, None, stage="stdio", error="EACCES"), 125),
        (End(Cause.UNKNOWN, Unknown("stolen")), 125),
    ],
)
def test_the_daemons_code_is_that_of_the_end(end, code):
    assert daemon_code(end) == code


@pytest.mark.parametrize(("code", "phase"), [(0, Phase.EXITED), (3, Phase.FAILED)])
def test_any_final_end_of_the_main_service_ends_the_daemon(code, phase):
    machine = Machine(web(main=True, restart=NO)).up().post(ended(code))

    assert machine.phase is phase
    assert machine.actions == [EndDaemon(code)]


def test_an_operators_stop_of_the_main_service_ends_the_daemon():
    machine = Machine(web(main=True)).up().post(STOP, ended(5))

    assert machine.actions[-1] == EndDaemon(5)


def test_a_stop_in_backoff_makes_the_last_end_of_the_main_service_final():
    machine = crash(Machine(web(main=True)).up()).post(ended(5), STOP)

    assert machine.actions == [EndDaemon(5)]


def test_a_main_service_that_never_ran_ends_nothing():
    machine = held()
    machine.spec = web(main=True)

    assert machine.post(STOP).actions == []


def test_a_restart_of_the_main_service_is_no_final_end():
    machine = Machine(web(main=True)).up().post(RESTART, ended(5))

    assert machine.actions == [TERM_TO_GROUP, Spawn()]


def test_the_main_service_is_over_only_when_its_leftovers_are():
    machine = Machine(web(main=True, restart=NO)).up().post(ended(3, scope_empty=False))
    assert machine.actions == [TERM_TO_GROUP]

    assert machine.post(ScopeEmptied()).actions == [EndDaemon(3)]


def test_a_critical_service_ends_the_daemon_when_it_failed():
    machine = Machine(web(critical=True, restart=NO)).up().post(ended(signum=SEGV))

    assert machine.actions == [EndDaemon(139)]


@pytest.mark.parametrize("events_", [[ended(0)], [STOP, ended(1)]])
def test_a_critical_service_that_did_not_fail_ends_nothing(events_):
    machine = Machine(web(critical=True, restart=NO)).up().post(*events_)

    assert [action for action in machine.actions if type(action) is EndDaemon] == []


def test_a_critical_service_that_cannot_start_gives_the_code_of_its_stage():
    machine = Machine(web(critical=True, restart=NO)).post(START, could_not("ENOENT"))

    assert machine.actions == [Spawn(), EndDaemon(127)]


# -- readiness and health told from beside --------------------------------------------------------

NOTIFY = {"type": ServiceType.NOTIFY}
LIVE = CheckSpec("live", CheckKind.TCP, "127.0.0.1:80")


def verdict(*, healthy):
    return events.CheckChanged("live", healthy, CheckAction.NONE)


def test_a_notify_service_is_ready_when_it_says_so():
    machine = Machine(web(**NOTIFY)).up()
    assert machine.phase is Phase.STARTING

    machine.post(events.BecameReady("notify"))

    assert machine.phase is Phase.RUNNING
    assert machine.told(ServiceReady) == [ServiceReady("notify", 0.0)]


def test_a_probe_makes_ready_and_nothing_else_does():
    machine = Machine(web(ready=ReadySpec(ReadyKind.TCP, target="127.0.0.1:80"))).up()
    assert machine.phase is Phase.STARTING

    assert machine.post(events.BecameReady("tcp")).phase is Phase.RUNNING


def test_word_of_readiness_that_overtakes_the_news_of_the_start_is_kept():
    machine = Machine(web(**NOTIFY)).post(START, Spawned(PID, 0.0), events.BecameReady("notify"))
    assert machine.phase is Phase.STARTING

    assert machine.post(Executed()).told(ServiceReady) == [ServiceReady("notify", 0.0)]


def test_word_of_readiness_before_there_is_a_process_is_too_late_for_the_last_one():
    assert Machine().post(START, events.BecameReady("notify")).phase is Phase.STARTING


def test_a_failing_check_takes_readiness_away_and_a_good_one_gives_it_back():
    machine = Machine(web(checks=(LIVE,))).up()
    assert health_of(machine.spec, machine.state) == "unknown"
    assert is_ready(machine.spec, machine.state)

    machine.post(verdict(healthy=False))
    assert health_of(machine.spec, machine.state) == "unhealthy"
    assert not is_ready(machine.spec, machine.state)

    machine.post(verdict(healthy=True))
    assert health_of(machine.spec, machine.state) == "healthy"
    assert is_ready(machine.spec, machine.state)


def test_a_check_of_which_nothing_is_known_any_more_neither_fails_nor_passes():
    machine = Machine(web(checks=(LIVE,))).up().post(verdict(healthy=False))
    machine.post(verdict(healthy=None))

    assert health_of(machine.spec, machine.state) == "unknown"
    assert is_ready(machine.spec, machine.state)


def test_a_check_that_the_service_no_longer_has_does_not_count():
    machine = Machine(web(checks=(LIVE,))).up().post(verdict(healthy=False))

    assert is_ready(web(), machine.state)
    assert health_of(web(), machine.state) == "none"


def test_verdicts_end_with_their_run():
    machine = Machine(web(checks=(LIVE,))).up().post(verdict(healthy=False), ended(1))

    assert (machine.state.failing, machine.state.checked) == ((), ())


# -- the table itself -----------------------------------------------------------------------------

EVENTS = {
    StartRequested: START,
    StopRequested: STOP,
    RestartRequested: RESTART,
    ResetRequested: RESET,
    KillRequested: HASTEN,
    GateOpened: GateOpened(),
    Spawned: Spawned(PID, 0.001),
    Executed: Executed(),
    SpawnFailed: could_not(),
    ProcessExited: ended(1),
    ScopeEmptied: ScopeEmptied(),
    DeadlinePassed: DeadlinePassed(),
    events.ReloadRequested: events.ReloadRequested("operator:0"),
    events.FailRequested: events.FailRequested("group_limit"),
    events.HookEnded: events.HookEnded(Hook.PRE_START, ok=True),
    events.BecameReady: events.BecameReady("notify"),
    events.ReadinessLost: events.ReadinessLost(),
    events.ReloadBegan: events.ReloadBegan(),
    events.TimeoutExtended: events.TimeoutExtended(1.0),
    events.WatchdogPinged: events.WatchdogPinged(),
    events.WatchdogTriggered: events.WatchdogTriggered(),
    events.WatchdogChanged: events.WatchdogChanged(1.0),
    events.AttemptsForgiven: events.AttemptsForgiven(),
    events.CheckChanged: events.CheckChanged("live", healthy=False, action=CheckAction.NONE),
    events.MainPidChanged: events.MainPidChanged(PID + 1),
    events.MainReplaced: events.MainReplaced(PID + 1),
}
STATES = {
    Phase.STOPPED: Machine(),
    Phase.WAITING: held(),
    Phase.STARTING: Machine().post(START),
    Phase.RUNNING: Machine().up(),
    Phase.STOPPING: Machine().up().post(STOP),
    Phase.BACKOFF: crash(Machine().up()).post(ended(1)),
    Phase.EXITED: Machine().up().post(ended(0)),
    Phase.FAILED: failed(),
}
PAIRS = [
    pytest.param(phase, kind, id=f"{phase}-{kind.__name__}") for phase in Phase for kind in EVENTS
]
COMMANDS = {StartRequested, StopRequested, RestartRequested, ResetRequested, KillRequested}
HINTS = {
    GateOpened, ScopeEmptied, DeadlinePassed, events.ReloadRequested, events.FailRequested,
    events.HookEnded, events.BecameReady, events.ReadinessLost, events.ReloadBegan,
    events.TimeoutExtended, events.WatchdogPinged, events.WatchdogTriggered,
    events.WatchdogChanged, events.AttemptsForgiven, events.CheckChanged, events.MainPidChanged,
}  # fmt: skip
PROCESS = {
    Phase.STARTING: {Spawned, Executed, SpawnFailed, ProcessExited, events.MainReplaced},
    Phase.RUNNING: {ProcessExited, events.MainReplaced},
    Phase.STOPPING: {Executed, SpawnFailed, ProcessExited},
}
"""What may happen to a process, by phase; commands and hints may come at any time."""


def test_the_cases_below_have_every_event_and_every_phase():
    assert set(EVENTS) == set(events.Event.__args__)
    assert {phase: machine.phase for phase, machine in STATES.items()} == {p: p for p in Phase}


@pytest.mark.parametrize("phase", Phase)
def test_the_table_takes_commands_and_hints_always_and_a_process_where_there_is_one(phase):
    assert set(TABLE[phase]) == COMMANDS | HINTS | PROCESS.get(phase, set())


@pytest.mark.parametrize(("phase", "kind"), PAIRS)
def test_a_pair_that_is_not_in_the_table_is_a_bug_of_the_shell(phase, kind):
    machine = STATES[phase]
    arguments = (machine.spec, machine.state, EVENTS[kind], machine.now, 0.0)

    if kind in TABLE[phase]:
        step(*arguments)
    else:
        with pytest.raises(ImpossibleEventError, match=f"'web': {kind.__name__} in {phase}"):
            step(*arguments)


def test_a_new_service_is_down_and_holds_no_moment():
    state = ServiceState()

    assert (state.phase, state.wanted) == (Phase.STOPPED, Wanted.DOWN)
    assert state.deadline == math.inf
    assert not state.has_process


@pytest.mark.parametrize(
    "moment",
    [
        "start_by",
        "ready_at_due",
        "max_run_by",
        "step_by",
        "kill_by",
        "unkillable_by",
        "next_start_at",
    ],
)
def test_the_deadline_is_the_earliest_moment(moment):
    state = ServiceState(start_by=9, next_start_at=9)._replace(**{moment: 5.0})

    assert state.deadline == 5
