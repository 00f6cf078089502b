"""What hooks do to a service: one case for each behaviour, given, when, then."""

import math

import pytest

from supervisord_pidfd.core.actions import EndDaemon, RunHook, Signal, Spawn
from supervisord_pidfd.core.events import (
    AttemptsForgiven,
    BecameReady,
    DeadlinePassed,
    Executed,
    FailRequested,
    HookEnded,
    KillRequested,
    ProcessExited,
    ReadinessLost,
    RestartRequested,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause, Ends, Exited, Signaled, Usage
from supervisord_pidfd.core.lifecycle import End, Held, Phase, Wanted
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceKillEscalated,
    ServiceLeftoversKilled,
    ServiceReady,
    ServiceRestartScheduled,
    ServiceStarting,
    ServiceStartTimedOut,
    ServiceStopped,
    ServiceStopping,
)
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    CommandSpec,
    Hook,
    HooksSpec,
    ReadyKind,
    ReadySpec,
    RestartPolicy,
    Scope,
    ServiceType,
    StartFault,
    StopSpec,
    StopStep,
)
from tests.support.machine import PID, Machine, web

INT, KILL, TERM = 2, 9, 15
COMMAND = CommandSpec(("/bin/hook",))
START, STOP = StartRequested("operator:0"), StopRequested("operator:0")
RESTART, HASTEN = RestartRequested("operator:0"), KillRequested()
FAIL = FailRequested("group_limit")
TERM_TO_GROUP = Signal(TERM, whole_scope=True, then_continue=True)
KILL_TO_ALL = Signal(KILL, whole_scope=True, then_continue=False)
ALL = {name: COMMAND for name in HooksSpec._fields if name != "timeout"}
ONESHOT = {"type": ServiceType.ONESHOT, "restart": RestartPolicy.NO, "success": Ends((0,))}
NO = RestartPolicy.NO


def ended(code=0, *, signum=None, scope_empty=True):
    status = Exited(code) if signum is None else Signaled(signum)
    return ProcessExited(status, Usage(), scope_empty)


def over(hook, *, ok=True, error=""):
    return HookEnded(hook, ok, error)


def hooked(*names, **members):
    """Describe a service with these hooks."""
    return web(hooks=HooksSpec(**dict.fromkeys(names, COMMAND)), **members)


def with_command(**members):
    stop = {"command": COMMAND, **members}
    return web(stop=StopSpec(**stop))


# -- pre_start ------------------------------------------------------------------------------------


def test_the_first_hook_comes_before_the_process():
    machine = Machine(hooked("pre_start")).post(START)

    assert machine.phase is Phase.STARTING
    assert machine.actions == [RunHook(Hook.PRE_START)]
    assert machine.notices == [ServiceStarting(0)]
    assert machine.state.run == 1

    machine.post(over(Hook.PRE_START))
    assert machine.actions == [Spawn()]
    assert machine.notices == []
    assert (machine.state.hook, machine.state.run) == (None, 1)
    assert machine.executed().phase is Phase.RUNNING


def test_a_first_hook_that_fails_ends_the_run_and_policy_decides():
    machine = Machine(hooked("pre_start")).post(START)
    machine.post(over(Hook.PRE_START, ok=False, error="code 1"))

    assert machine.phase is Phase.BACKOFF
    assert machine.told(ServiceRestartScheduled)[0].cause == "hook"
    assert machine.state.last_exit == End(Cause.HOOK, None, False, "hook", "pre_start", "code 1")


def test_a_first_hook_that_fails_without_a_policy_fails_the_service():
    machine = Machine(hooked("pre_start", critical=True, restart=NO)).post(START)
    machine.post(over(Hook.PRE_START, ok=False))

    assert machine.notices == [ServiceGaveUp("hook", "policy", 0)]
    assert machine.actions == [EndDaemon(125)]


def test_the_start_timeout_counts_from_the_first_hook():
    machine = Machine(hooked("pre_start", start_timeout=30)).post(START).wait(20)
    machine.post(over(Hook.PRE_START), Spawned(PID, 0.0)).wait(10)

    assert machine.phase is Phase.STOPPING
    assert machine.notices[0] == ServiceStartTimedOut(30)


def test_the_longest_run_counts_from_the_process():
    machine = Machine(hooked("pre_start", runtime_max=60)).post(START).wait(20)
    machine.post(over(Hook.PRE_START)).executed().wait(59)

    assert machine.phase is Phase.RUNNING
    assert machine.wait(1).phase is Phase.STOPPING


def test_a_stop_during_the_first_hook_signals_the_hook():
    machine = Machine(hooked("pre_start")).post(START, STOP)
    assert machine.phase is Phase.STOPPING
    assert machine.actions == [RunHook(Hook.PRE_START), TERM_TO_GROUP]
    assert machine.state.hook is Hook.PRE_START

    machine.post(over(Hook.PRE_START, ok=False, error="SIGTERM"))
    assert machine.phase is Phase.STOPPED
    assert machine.notices == [ServiceStopped("operator:0", 0.0)]


def test_a_first_hook_that_ignores_its_stop_is_killed():
    machine = Machine(hooked("pre_start")).post(START, STOP).wait(10)
    assert machine.actions == [KILL_TO_ALL]

    machine.post(over(Hook.PRE_START, ok=False, error="SIGKILL"))
    assert machine.phase is Phase.STOPPED


def test_a_first_hook_that_is_stopped_in_steps_is_signalled_at_each():
    steps = (StopStep(TERM, 3.0), StopStep(INT, 3.0))
    machine = Machine(hooked("pre_start", stop=StopSpec(steps))).post(START, STOP).wait(3)

    assert machine.actions == [Signal(INT, whole_scope=True, then_continue=True)]
    assert machine.state.hook is Hook.PRE_START


def test_a_first_hook_that_ended_well_while_it_was_stopped_starts_nothing():
    machine = Machine(hooked("pre_start")).post(START, STOP, over(Hook.PRE_START))

    assert machine.phase is Phase.STOPPED
    assert machine.state.last_exit.error == "stopped"


def test_a_restart_during_the_first_hook_begins_anew():
    machine = Machine(hooked("pre_start")).post(START, RESTART)
    machine.post(over(Hook.PRE_START, ok=False))

    assert machine.phase is Phase.STARTING
    assert machine.actions == [RunHook(Hook.PRE_START)]
    assert machine.state.run == 2


def test_a_first_hook_that_takes_too_long_is_stopped_like_any_start():
    machine = Machine(hooked("pre_start", start_timeout=5)).post(START).wait(5)
    machine.post(over(Hook.PRE_START, ok=False, error="SIGTERM"))

    assert machine.phase is Phase.BACKOFF
    assert machine.state.last_exit.cause is Cause.TIMEOUT


def test_a_hastened_shutdown_kills_the_first_hook():
    machine = Machine(hooked("pre_start", "post_stop")).post(START, HASTEN)
    assert machine.actions[-1] == KILL_TO_ALL
    assert machine.state.hook is Hook.PRE_START

    assert machine.post(over(Hook.PRE_START, ok=False)).phase is Phase.STOPPED


def test_where_nothing_can_be_executed_no_hook_is_tried():
    fault = StartFault("environment", "/etc/web.env", "ENOENT")
    machine = Machine(hooked("pre_start", "post_stop", fault=fault)).post(START)
    assert machine.actions == [Spawn()]

    machine.post(SpawnFailed(*fault))
    assert machine.phase is Phase.BACKOFF


# -- post_start -----------------------------------------------------------------------------------


def test_a_service_is_ready_when_its_second_hook_is_over():
    machine = Machine(hooked("post_start")).up()
    assert machine.phase is Phase.STARTING
    assert machine.actions == [RunHook(Hook.POST_START)]

    machine.wait(2).post(over(Hook.POST_START))
    assert machine.notices == [ServiceReady("executed", 2.0)]


@pytest.mark.parametrize("hook_first", [True, False])
def test_a_service_that_says_it_is_ready_waits_for_the_hook_too(hook_first):
    machine = Machine(hooked("post_start", type=ServiceType.NOTIFY)).up()
    both = [over(Hook.POST_START), BecameReady("notify")]
    first, second = both if hook_first else reversed(both)

    assert machine.post(first).phase is Phase.STARTING
    assert machine.post(second).told(ServiceReady)[0].way == "notify"


def test_a_delay_that_is_over_waits_for_the_hook():
    ready = ReadySpec(ReadyKind.DELAY, 5)
    machine = Machine(hooked("post_start", ready=ready)).up().wait(6)
    assert machine.phase is Phase.STARTING

    machine.post(over(Hook.POST_START))
    assert machine.told(ServiceReady) == [ServiceReady("delay", 6.0)]


def test_a_second_hook_that_fails_stops_the_service():
    machine = Machine(hooked("post_start")).up().post(over(Hook.POST_START, ok=False))
    assert machine.phase is Phase.STOPPING
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.notices == [ServiceStopping("policy", TERM, 10.0)]

    machine.post(ended(0))
    assert machine.phase is Phase.BACKOFF
    assert machine.told(ServiceExited)[0].cause == "hook"


def test_an_end_during_the_second_hook_does_not_wait_for_it():
    machine = Machine(hooked("post_start")).up().post(ended(1))

    assert machine.phase is Phase.BACKOFF
    assert machine.state.hook is None


def test_a_stop_during_the_second_hook_does_not_wait_for_it():
    machine = Machine(hooked("post_start")).up().post(STOP)

    assert machine.state.hook is None
    assert machine.actions == [TERM_TO_GROUP]


def test_an_answer_that_comes_late_means_nothing():
    machine = Machine(hooked("post_start")).up().post(STOP)
    before = machine.state

    assert machine.post(over(Hook.POST_START)).state == before
    machine.post(ended(0), START)
    before = machine.state
    assert machine.post(over(Hook.PRE_START)).state == before


def test_the_second_hook_of_a_oneshot_follows_its_clean_end():
    machine = Machine(hooked("post_start", **ONESHOT)).up()
    assert machine.actions == []

    machine.post(ended(0))
    assert machine.phase is Phase.STOPPING
    assert machine.actions == [RunHook(Hook.POST_START)]
    assert machine.notices[-1] == ServiceStopping("policy", None, 30.0)

    assert machine.post(over(Hook.POST_START)).phase is Phase.EXITED


def test_the_second_hook_of_a_oneshot_fails_it():
    machine = Machine(hooked("post_start", **ONESHOT)).up().post(ended(0))
    machine.post(over(Hook.POST_START, ok=False))

    assert machine.phase is Phase.FAILED
    assert machine.state.last_exit == End(Cause.HOOK, Exited(0))


def test_a_oneshot_that_failed_has_no_second_hook():
    machine = Machine(hooked("post_start", **ONESHOT)).up().post(ended(1))

    assert machine.phase is Phase.FAILED


def test_both_last_hooks_of_a_oneshot_follow_each_other():
    machine = Machine(hooked("post_start", "post_stop", **ONESHOT)).up().post(ended(0))
    machine.post(over(Hook.POST_START))
    assert machine.actions == [RunHook(Hook.POST_STOP)]

    assert machine.post(over(Hook.POST_STOP)).phase is Phase.EXITED


# -- pre_stop and stop.command --------------------------------------------------------------------


def test_a_hook_comes_before_the_first_stop_signal():
    machine = Machine(hooked("pre_stop")).up().post(STOP)
    assert machine.actions == [RunHook(Hook.PRE_STOP)]
    assert machine.notices == [ServiceStopping("operator:0", TERM, 40.0)]

    machine.wait(7).post(over(Hook.PRE_STOP, ok=False))
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.state.step_by == machine.now + 10


def test_a_program_that_was_not_executed_has_no_hook_of_its_stop():
    machine = Machine(hooked("pre_stop")).post(START, Spawned(PID, 0.0), STOP)

    assert machine.actions[-1] == TERM_TO_GROUP


def test_the_budget_of_a_shutdown_cuts_hooks_too():
    machine = Machine(hooked("pre_stop", "post_stop")).up()
    machine.post(StopRequested("shutdown", kill_by=machine.now + 4)).wait(4)
    assert machine.actions == [KILL_TO_ALL]
    assert machine.state.hook is None

    assert machine.post(ended(signum=KILL)).phase is Phase.STOPPED


def test_a_budget_that_is_spent_leaves_hooks_out_and_gives_the_signal():
    for spec in (hooked("pre_stop"), with_command()):
        machine = Machine(spec).up()
        machine.post(StopRequested("shutdown", kill_by=machine.now))

        assert machine.actions == [TERM_TO_GROUP]


def test_an_end_during_the_hook_of_its_stop_lets_the_hook_finish():
    machine = Machine(hooked("pre_stop")).up().post(STOP, ended(0))
    assert machine.phase is Phase.STOPPING
    assert machine.state.deadline == math.inf

    assert machine.post(over(Hook.PRE_STOP)).phase is Phase.STOPPED


def test_leftovers_get_the_first_signal_when_the_hook_of_the_stop_is_over():
    machine = Machine(hooked("pre_stop")).up().post(STOP, ended(0, scope_empty=False))
    assert machine.actions == [RunHook(Hook.PRE_STOP)]

    machine.post(over(Hook.PRE_STOP))
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.wait(10).actions == [KILL_TO_ALL]
    assert machine.post(ScopeEmptied()).phase is Phase.STOPPED


def test_leftovers_that_go_during_the_hook_do_not_end_it():
    machine = Machine(hooked("pre_stop")).up().post(STOP, ended(0, scope_empty=False))
    machine.post(ScopeEmptied())
    assert machine.phase is Phase.STOPPING
    before = machine.state
    assert machine.post(ScopeEmptied()).state == before

    assert machine.post(over(Hook.PRE_STOP)).phase is Phase.STOPPED


def test_in_mixed_scope_leftovers_get_sigkill_after_the_hook():
    machine = Machine(hooked("pre_stop", stop=StopSpec(scope=Scope.MIXED))).up()
    machine.post(STOP, ended(0, scope_empty=False), over(Hook.PRE_STOP))

    assert machine.actions[-1] == KILL_TO_ALL
    assert machine.told(ServiceLeftoversKilled) == [ServiceLeftoversKilled("mixed")]


def test_sigkill_as_the_stop_signal_follows_the_hook_and_is_no_escalation():
    steps = (StopStep(KILL, 1.0),)
    machine = Machine(hooked("pre_stop", stop=StopSpec(steps))).up().post(STOP)
    machine.post(over(Hook.PRE_STOP))
    assert machine.actions == [KILL_TO_ALL]
    assert machine.told(ServiceKillEscalated) == []

    machine = Machine(hooked("pre_stop", stop=StopSpec(steps))).up()
    machine.post(STOP, ended(0, scope_empty=False), over(Hook.PRE_STOP))
    assert machine.actions[-1] == KILL_TO_ALL


def test_a_command_stands_for_the_first_signal():
    machine = Machine(with_command()).up().post(STOP)
    assert machine.actions == [RunHook(Hook.STOP)]
    assert machine.notices == [ServiceStopping("operator:0", None, 10.0)]

    machine.post(over(Hook.STOP))
    assert machine.actions == []
    assert machine.post(ended(0)).phase is Phase.STOPPED


def test_a_command_follows_the_hook():
    spec = web(hooks=HooksSpec(pre_stop=COMMAND), stop=StopSpec(command=COMMAND))
    machine = Machine(spec).up().post(STOP, over(Hook.PRE_STOP))

    assert machine.actions == [RunHook(Hook.PRE_STOP), RunHook(Hook.STOP)]


def test_a_command_that_fails_is_followed_by_the_signal():
    machine = Machine(with_command()).up().post(STOP).wait(4)
    machine.post(over(Hook.STOP, ok=False))
    assert machine.actions == [TERM_TO_GROUP]

    assert machine.wait(6).actions == [KILL_TO_ALL]


def test_a_command_that_does_not_stop_it_is_followed_by_the_next_step():
    steps = (StopStep(TERM, 3.0), StopStep(INT, 3.0))
    machine = Machine(with_command(steps=steps)).up().post(STOP).wait(3)
    assert machine.actions == [Signal(INT, whole_scope=True, then_continue=True)]
    assert machine.state.hook is None

    assert machine.wait(3).actions == [KILL_TO_ALL]


def test_an_end_during_the_command_lets_it_finish():
    machine = Machine(with_command()).up().post(STOP, ended(0))
    assert machine.phase is Phase.STOPPING
    assert machine.wait(100).actions == []

    assert machine.post(over(Hook.STOP)).phase is Phase.STOPPED


@pytest.mark.parametrize("during", [True, False])
def test_leftovers_after_a_command_get_the_signal_it_stood_for(during):
    machine = Machine(with_command()).up().post(STOP)
    end = ended(0, scope_empty=False)
    machine.post(*([end, over(Hook.STOP)] if during else [over(Hook.STOP), end]))

    assert machine.actions == [TERM_TO_GROUP]
    assert machine.wait(10).actions == [KILL_TO_ALL]


def test_leftovers_of_a_command_that_was_killed_get_nothing_more_than_sigkill():
    machine = Machine(with_command()).up().post(STOP).wait(10)
    machine.post(ended(signum=KILL, scope_empty=False))

    assert machine.actions == []
    assert machine.wait(1).actions == [KILL_TO_ALL]


# -- post_stop ------------------------------------------------------------------------------------


def test_a_hook_follows_every_end_before_the_next_start():
    machine = Machine(hooked("post_stop")).up().post(ended(1))
    assert machine.phase is Phase.STOPPING
    assert machine.state.wanted is Wanted.UP
    assert machine.actions == [RunHook(Hook.POST_STOP, 0.0)]
    assert machine.notices[-1] == ServiceStopping("policy", None, 30.0)

    machine.post(over(Hook.POST_STOP, ok=False))
    assert machine.phase is Phase.BACKOFF
    assert machine.notices == [ServiceRestartScheduled("exit_code", 1, 10, 0.0)]


def test_the_last_hook_is_told_the_very_delay_that_follows():
    spec = hooked("post_stop", backoff=BackoffSpec(delay=2.0, jitter=1.0))
    machine = Machine(spec, roll=0.25).up()
    machine.post(ended(1), over(Hook.POST_STOP)).next_start()
    machine.post(ended(1))
    assert machine.actions == [RunHook(Hook.POST_STOP, 2.5)]

    machine.roll = 0.75
    machine.post(over(Hook.POST_STOP))
    assert machine.told(ServiceRestartScheduled)[0].delay_s == 2.5


@pytest.mark.parametrize(
    ("command", "delay"), [(STOP, None), (RESTART, 0.0)], ids=["stop", "restart"]
)
def test_the_last_hook_follows_a_stop_by_command(command, delay):
    machine = Machine(hooked("post_stop")).up().post(command, ended(0))
    assert machine.actions[-1] == RunHook(Hook.POST_STOP, delay)
    assert machine.state.deadline == math.inf

    machine.post(over(Hook.POST_STOP))
    assert machine.phase is (Phase.STOPPED if delay is None else Phase.STARTING)


def test_the_last_hook_follows_a_start_that_failed():
    machine = Machine(hooked("post_stop")).post(START, SpawnFailed("exec", "/srv/web", "ENOENT"))
    assert machine.actions[-1] == RunHook(Hook.POST_STOP, 0.0)

    assert machine.post(over(Hook.POST_STOP)).phase is Phase.BACKOFF


def test_the_last_hook_follows_a_first_hook_that_failed():
    machine = Machine(hooked("pre_start", "post_stop")).post(START)
    machine.post(over(Hook.PRE_START, ok=False))

    assert machine.actions == [RunHook(Hook.POST_STOP, 0.0)]
    assert machine.post(over(Hook.POST_STOP)).state.last_exit.cause is Cause.HOOK


def test_the_last_hook_waits_for_the_leftovers():
    machine = Machine(hooked("post_stop")).up().post(ended(0, scope_empty=False))
    assert machine.actions == [TERM_TO_GROUP]

    machine.post(ScopeEmptied())
    assert machine.actions == [RunHook(Hook.POST_STOP)]
    assert machine.post(over(Hook.POST_STOP)).phase is Phase.EXITED


def test_a_gate_that_is_shut_is_no_delay_for_the_last_hook():
    machine = Machine(hooked("post_stop")).up()
    machine.held = Held("start_concurrency")
    machine.post(RESTART, ended(0))

    assert machine.actions[-1] == RunHook(Hook.POST_STOP)
    assert machine.post(over(Hook.POST_STOP)).phase is Phase.WAITING


def test_a_start_during_the_last_hook_follows_it():
    machine = Machine(hooked("post_stop")).up().post(STOP, ended(0), START)
    assert machine.phase is Phase.STOPPING

    assert machine.post(over(Hook.POST_STOP)).phase is Phase.STARTING


def test_a_budget_cuts_the_last_hook_short():
    machine = Machine(hooked("post_stop")).up().post(ended(1))
    machine.post(StopRequested("shutdown", kill_by=machine.now + 3)).wait(3)

    assert machine.phase is Phase.STOPPED
    assert machine.actions == []


def test_a_budget_holds_after_sigkill_too():
    machine = Machine(hooked("post_stop")).up()
    machine.post(StopRequested("shutdown", kill_by=machine.now + 12)).wait(10)
    machine.post(ended(signum=KILL))
    assert machine.state.hook is Hook.POST_STOP

    assert machine.wait(2).phase is Phase.STOPPED


def test_a_hastened_shutdown_cuts_the_last_hook_short():
    machine = Machine(hooked("post_stop")).up().post(ended(1), HASTEN)

    assert machine.phase is Phase.STOPPED
    assert machine.actions == [RunHook(Hook.POST_STOP, 0.0)]


def test_a_hastened_shutdown_has_no_hooks():
    machine = Machine(web(hooks=HooksSpec(**ALL))).up().post(over(Hook.POST_START), HASTEN)
    assert machine.actions == [KILL_TO_ALL]

    assert machine.post(ended(signum=KILL)).phase is Phase.STOPPED


def test_the_time_of_the_last_hook_does_not_count_for_a_new_row():
    machine = Machine(hooked("post_stop")).up().post(ended(1), over(Hook.POST_STOP))
    machine.next_start().wait(59).post(ended(1)).wait(5).post(over(Hook.POST_STOP))

    assert machine.told(ServiceRestartScheduled)[0].attempt == 2


# -- on_failure -----------------------------------------------------------------------------------


def test_a_service_that_failed_runs_its_hook_and_nobody_waits_for_it():
    machine = Machine(hooked("on_failure", restart=NO, critical=True)).up().post(ended(3))

    assert machine.phase is Phase.FAILED
    assert machine.actions == [RunHook(Hook.ON_FAILURE), EndDaemon(3)]
    assert machine.state.hook is None


def test_no_hook_is_left_out_on_the_way_to_failed():
    machine = Machine(web(hooks=HooksSpec(**ALL), restart=NO)).post(START)
    machine.post(over(Hook.PRE_START)).executed().post(over(Hook.POST_START), ended(3))
    machine.post(over(Hook.POST_STOP))

    assert machine.actions == [RunHook(Hook.ON_FAILURE)]


# -- to be failed, forgiven, or never ready -------------------------------------------------------


def test_a_request_to_fail_stops_and_fails():
    machine = Machine().up().post(FAIL)
    assert machine.phase is Phase.STOPPING
    assert machine.notices == [ServiceStopping("policy", TERM, 10.0)]

    machine.post(ended(signum=TERM))
    assert (machine.phase, machine.state.wanted) == (Phase.FAILED, Wanted.UP)
    assert machine.told(ServiceGaveUp) == [ServiceGaveUp("dependency", "group_limit", 0)]


def test_a_request_to_fail_in_backoff_is_at_once():
    machine = Machine().up().post(ended(1), FAIL)

    assert machine.phase is Phase.FAILED
    assert machine.told(ServiceGaveUp)[0].cause == "exit_code"


def test_a_request_to_fail_what_waits_for_its_first_start_is_at_once():
    machine = Machine()
    machine.held = Held("start_concurrency")
    machine.post(START, FAIL)

    assert machine.told(ServiceGaveUp) == [ServiceGaveUp("dependency", "group_limit", 0)]


@pytest.mark.parametrize("machine", [Machine(), Machine().up().post(ended(0))])
def test_a_request_to_fail_what_is_down_means_nothing(machine):
    before = machine.state

    assert machine.post(FAIL).state == before


def test_a_restart_under_way_fails_when_that_is_asked():
    machine = Machine().up().post(RESTART, FAIL, ended(0))

    assert machine.phase is Phase.FAILED


def test_what_is_to_be_down_is_not_failed():
    machine = Machine().up().post(STOP, FAIL, ended(0))

    assert machine.phase is Phase.STOPPED


@pytest.mark.parametrize(("command", "phase"), [(STOP, Phase.STOPPED), (START, Phase.STARTING)])
def test_a_later_command_wins_over_a_request_to_fail(command, phase):
    machine = Machine().up().post(FAIL, command, ended(0))

    assert machine.phase is phase


def test_a_row_of_attempts_that_is_forgiven_begins_anew():
    machine = Machine().up().post(ended(1)).next_start().post(AttemptsForgiven(), ended(1))

    assert machine.told(ServiceRestartScheduled)[0].attempt == 1
    assert len(machine.state.starts) == 1


def test_a_notify_service_that_ends_before_it_is_ready_has_failed():
    machine = Machine(web(type=ServiceType.NOTIFY, restart=NO)).up().post(ended(0))
    assert machine.phase is Phase.FAILED
    assert machine.told(ServiceExited)[0].cause == "exit_code"

    machine = Machine(web(type=ServiceType.NOTIFY, restart=NO)).up().post(ended(signum=TERM))
    assert machine.told(ServiceExited)[0].cause == "signal"


def test_a_notify_service_that_ends_after_it_was_ready_is_judged_by_its_code():
    machine = Machine(web(type=ServiceType.NOTIFY)).up().post(BecameReady("notify"), ended(0))

    assert machine.phase is Phase.EXITED


def test_a_start_that_never_will_be_ready_is_given_a_second_to_end_by_itself():
    spec = web(ready=ReadySpec(ReadyKind.FD, fd=3))
    machine = Machine(spec).up().wait(5).post(ReadinessLost()).wait(1)
    assert machine.phase is Phase.STOPPING
    assert machine.notices[0] == ServiceStartTimedOut(6.0)

    machine = Machine(spec).up().post(ReadinessLost(), ended(3))
    assert machine.told(ServiceExited)[0].cause == "exit_code"


def test_a_descriptor_closed_after_the_word_loses_nothing():
    machine = Machine(web(ready=ReadySpec(ReadyKind.FD, fd=3))).post(START, Spawned(PID, 0.0))
    machine.post(BecameReady("fd"), ReadinessLost()).wait(2).post(Executed())

    assert machine.phase is Phase.RUNNING


def test_a_moment_that_is_early_hastens_no_hook():
    machine = Machine(hooked("pre_stop")).up().post(STOP)

    assert machine.post(DeadlinePassed()).actions == []
