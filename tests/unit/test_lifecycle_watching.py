"""What checks, the watchdog and reloads do to a service that runs: given, when, then."""

import math

import pytest

from supervisord_pidfd.core.actions import EndDaemon, RunHook, Signal
from supervisord_pidfd.core.events import (
    BecameReady,
    CheckChanged,
    HookEnded,
    KillRequested,
    MainPidChanged,
    MainReplaced,
    ProcessExited,
    ReloadBegan,
    ReloadRequested,
    ScopeEmptied,
    StartRequested,
    StopRequested,
    TimeoutExtended,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.exitstatus import Exited, Signaled, Usage
from supervisord_pidfd.core.lifecycle import Phase, Wanted, health_of, is_ready
from supervisord_pidfd.core.notices import (
    CheckRecovered,
    CheckUnhealthy,
    ServiceExited,
    ServiceGaveUp,
    ServiceReloaded,
    ServiceReloadFailed,
    ServiceReloading,
    ServiceRestartScheduled,
    ServiceStopped,
    ServiceStopping,
    ServiceWatchdogMissed,
)
from supervisord_pidfd.core.spec import (
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Hook,
    HooksSpec,
    ReloadSpec,
    RestartPolicy,
    Scope,
    ServiceType,
    StopSpec,
    StopStep,
)
from tests.support.machine import PID, Machine, web

HUP, ABRT, KILL, TERM = 1, 6, 9, 15
COMMAND = CommandSpec(("/bin/command",))
STOP, RELOAD = StopRequested("operator:0"), ReloadRequested("operator:0")
NOTIFY = {"type": ServiceType.NOTIFY}
PING = WatchdogPinged()
READY = BecameReady("notify")
ABRT_TO_GROUP = Signal(ABRT, whole_scope=True, then_continue=True)
TERM_TO_GROUP = Signal(TERM, whole_scope=True, then_continue=True)
KILL_TO_ALL = Signal(KILL, whole_scope=True, then_continue=False)
HUP_TO_MAIN = Signal(HUP, whole_scope=False, then_continue=False)
BY_SIGNAL, BY_COMMAND = ReloadSpec(HUP), ReloadSpec(command=COMMAND)


def ended(code=0, *, signum=None):
    return ProcessExited(Exited(code) if signum is None else Signaled(signum), Usage())


def live(action):
    return CheckSpec("live", CheckKind.TCP, "127.0.0.1:80", action=action)


def fails(action):
    return CheckChanged("live", healthy=False, action=action)


def watched(action=CheckAction.RESTART, *, failures=1, delay=0.0, **members):
    check = CheckSpec(
        "dog", CheckKind.WATCHDOG, period=10.0, failures=failures, action=action,
        initial_delay=delay,
    )  # fmt: skip
    return web(checks=(check,), **members)


# -- checks ---------------------------------------------------------------------------------------


def test_a_failing_check_restarts_by_policy():
    machine = Machine(web(checks=(live(CheckAction.RESTART),))).up()
    machine.post(fails(CheckAction.RESTART))
    assert machine.actions == [TERM_TO_GROUP]
    assert machine.notices == [ServiceStopping("health:live", TERM, 10.0)]

    machine.post(ended(0))
    assert machine.told(ServiceExited)[0].cause == "health"
    assert machine.told(ServiceRestartScheduled)[0].cause == "health"


def test_a_failing_check_fails_the_service_where_policy_does_not_restart():
    spec = web(checks=(live(CheckAction.RESTART),), restart=RestartPolicy.NO)
    machine = Machine(spec).up().post(fails(CheckAction.RESTART), ended(0))

    assert machine.told(ServiceGaveUp) == [ServiceGaveUp("health", "policy", 0)]


def test_a_failing_check_may_stop_the_service():
    machine = Machine(web(checks=(live(CheckAction.STOP),))).up()
    machine.post(fails(CheckAction.STOP)).wait(2).post(ended(0))

    assert (machine.phase, machine.state.wanted) == (Phase.STOPPED, Wanted.DOWN)
    assert machine.told(ServiceStopped) == [ServiceStopped("health:live", 2.0)]


def test_a_failing_check_may_end_the_daemon():
    machine = Machine(web(checks=(live(CheckAction.SHUTDOWN),))).up()
    machine.post(fails(CheckAction.SHUTDOWN))

    assert machine.actions == [EndDaemon(10)]
    assert machine.phase is Phase.RUNNING
    assert not is_ready(machine.spec, machine.state)


def test_a_failing_check_may_take_readiness_alone():
    machine = Machine(web(checks=(live(CheckAction.NONE),))).up()
    machine.post(fails(CheckAction.NONE))

    assert (machine.phase, machine.actions) == (Phase.RUNNING, [])
    assert not is_ready(machine.spec, machine.state)
    assert health_of(machine.spec, machine.state) == "unhealthy"


@pytest.mark.parametrize("healthy", [True, None])
def test_nothing_follows_a_check_that_does_not_fail(healthy):
    machine = Machine(web(checks=(live(CheckAction.RESTART),))).up()
    machine.post(CheckChanged("live", healthy, CheckAction.RESTART))

    assert (machine.phase, machine.actions) == (Phase.RUNNING, [])


def test_a_hook_comes_before_the_stop_of_a_check():
    machine = Machine(web(hooks=HooksSpec(pre_stop=COMMAND))).up()
    machine.post(fails(CheckAction.RESTART))

    assert machine.actions == [RunHook(Hook.PRE_STOP)]


# -- the watchdog ---------------------------------------------------------------------------------


def test_a_service_that_is_heard_in_time_goes_on():
    machine = Machine(watched()).up()
    for _ in range(5):
        machine.wait(9.9).post(PING)

    assert machine.phase is Phase.RUNNING
    assert machine.notices == []


def test_a_service_that_is_not_heard_is_ended_with_sigabrt_first():
    machine = Machine(watched()).up().wait(10)
    assert machine.phase is Phase.STOPPING
    assert machine.actions == [ABRT_TO_GROUP]
    assert machine.notices == [
        ServiceWatchdogMissed(10.0),
        ServiceStopping("watchdog", ABRT, 20.0),
    ]

    assert machine.wait(10).actions == [TERM_TO_GROUP]
    assert machine.wait(10).actions == [KILL_TO_ALL]
    machine.post(ended(signum=KILL))
    assert machine.told(ServiceExited)[0].cause == "watchdog"
    assert machine.phase is Phase.BACKOFF


def test_a_stop_without_a_timeout_still_goes_on_from_sigabrt():
    spec = watched(stop=StopSpec((StopStep(TERM, math.inf),)))
    machine = Machine(spec).up().wait(10)

    assert machine.wait(10).actions == [TERM_TO_GROUP]


def test_where_the_stop_signal_is_sigkill_that_follows_sigabrt():
    spec = watched(stop=StopSpec((StopStep(KILL, 2.0),), Scope.PROCESS))
    machine = Machine(spec).up().wait(10)
    assert machine.actions == [Signal(ABRT, whole_scope=False, then_continue=True)]

    assert machine.wait(2).actions == [Signal(KILL, whole_scope=False, then_continue=False)]


def test_neither_hook_nor_command_is_asked_to_stop_what_hangs():
    spec = watched(hooks=HooksSpec(pre_stop=COMMAND), stop=StopSpec(command=COMMAND))
    machine = Machine(spec).up().wait(10)
    assert machine.actions == [ABRT_TO_GROUP]

    assert machine.wait(10).actions == [TERM_TO_GROUP]


def test_what_hung_and_left_others_is_cleaned_up_in_the_same_row():
    machine = Machine(watched()).up().wait(10)
    machine.post(ProcessExited(Signaled(ABRT, core=True), Usage(), scope_empty=False))

    assert machine.wait(10).actions == [TERM_TO_GROUP]
    assert machine.post(ScopeEmptied()).phase is Phase.BACKOFF


def test_a_watchdog_that_may_be_missed_twice_waits_twice_as_long():
    machine = Machine(watched(failures=2)).up().wait(19.9)
    assert machine.phase is Phase.RUNNING

    assert machine.wait(0.1).notices[0] == ServiceWatchdogMissed(20.0)


def test_the_first_word_may_take_longer():
    machine = Machine(watched(delay=30.0)).up().wait(39)
    assert machine.phase is Phase.RUNNING

    assert machine.wait(1).phase is Phase.STOPPING


def test_a_watchdog_may_stop_the_service():
    machine = Machine(watched(CheckAction.STOP)).up().wait(10)
    assert machine.actions == [ABRT_TO_GROUP]

    machine.post(ended(signum=ABRT))
    assert (machine.phase, machine.state.wanted) == (Phase.STOPPED, Wanted.DOWN)


def test_a_watchdog_may_end_the_daemon():
    machine = Machine(watched(CheckAction.SHUTDOWN)).up().wait(10)

    assert machine.actions == [EndDaemon(10)]
    assert machine.notices == [ServiceWatchdogMissed(10.0)]
    assert machine.wait(3600).actions == []


def test_a_watchdog_may_take_readiness_alone_until_it_is_heard_again():
    machine = Machine(watched(CheckAction.NONE)).up().wait(10)
    assert machine.notices == [
        ServiceWatchdogMissed(10.0),
        CheckUnhealthy("dog", "no answer", "none"),
    ]
    assert not is_ready(machine.spec, machine.state)
    assert machine.wait(3600).notices == []

    machine.post(PING)
    assert machine.notices == [CheckRecovered("dog")]
    assert is_ready(machine.spec, machine.state)
    assert machine.wait(10).told(ServiceWatchdogMissed) == [ServiceWatchdogMissed(10.0)]


def test_a_service_may_ask_to_be_taken_for_dead():
    machine = Machine(watched()).up().wait(3).post(WatchdogTriggered())
    assert machine.notices[0] == ServiceWatchdogMissed(0.0)

    assert machine.post(ended(signum=ABRT)).told(ServiceExited)[0].cause == "watchdog"


def test_a_service_without_a_watchdog_may_ask_for_that_too():
    machine = Machine(web(**NOTIFY)).up().post(WatchdogTriggered())

    assert machine.phase is Phase.STOPPING


def test_the_wish_of_the_last_run_is_not_the_next_ones():
    machine = Machine(watched()).post(StartRequested("operator:0"), WatchdogTriggered())

    assert machine.phase is Phase.STARTING


def test_a_service_may_promise_a_watchdog_itself():
    machine = Machine(web(**NOTIFY)).up().post(WatchdogChanged(4.0)).wait(60).post(READY)
    assert machine.state.deadline == machine.now + 4

    machine.wait(3).post(WatchdogChanged(20.0)).wait(19)
    assert machine.phase is Phase.RUNNING
    assert machine.wait(1).notices[0] == ServiceWatchdogMissed(20.0)


def test_a_service_may_take_its_watchdog_back():
    machine = Machine(watched()).up().post(WatchdogChanged(0.0))

    assert machine.state.deadline == math.inf
    assert machine.post(PING).state.deadline == math.inf


def test_what_a_run_promised_ends_with_it():
    machine = Machine(web()).up().post(WatchdogChanged(4.0), ended(1)).next_start()

    assert machine.state.deadline == math.inf


# -- reloads --------------------------------------------------------------------------------------


def test_a_reload_by_signal_is_done_when_it_is_sent():
    machine = Machine(web(reload=BY_SIGNAL)).up().post(RELOAD)

    assert machine.actions == [HUP_TO_MAIN]
    assert machine.notices == [ServiceReloading("operator:0"), ServiceReloaded(0.0)]
    assert is_ready(machine.spec, machine.state)


def test_a_service_that_cannot_reload_does_nothing():
    machine = Machine().up()
    before = machine.state

    assert machine.post(RELOAD).state == before
    assert (machine.actions, machine.notices) == ([], [])


def test_a_reload_by_command_is_done_when_that_is_over():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD)
    assert machine.actions == [RunHook(Hook.RELOAD)]
    assert not is_ready(machine.spec, machine.state)

    machine.wait(3).post(HookEnded(Hook.RELOAD, ok=True))
    assert machine.notices == [ServiceReloaded(3.0)]
    assert is_ready(machine.spec, machine.state)
    assert machine.state.deadline == math.inf


def test_a_reload_whose_command_fails_has_failed_and_the_process_stays():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD)
    machine.post(HookEnded(Hook.RELOAD, ok=False, error="code 1"))

    assert machine.notices == [ServiceReloadFailed("code 1")]
    assert is_ready(machine.spec, machine.state)


def test_a_reload_that_is_too_slow_has_failed_and_the_process_stays():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD).wait(30)

    assert machine.notices == [ServiceReloadFailed("timed out")]
    assert machine.state.hook is None
    assert is_ready(machine.spec, machine.state)
    assert machine.post(HookEnded(Hook.RELOAD, ok=True)).notices == []


def test_a_notify_service_says_itself_when_its_reload_is_over():
    machine = Machine(web(reload=BY_SIGNAL, **NOTIFY)).up().post(READY, RELOAD)
    assert machine.actions == [HUP_TO_MAIN]
    assert not is_ready(machine.spec, machine.state)

    machine.wait(1).post(ReloadBegan())
    assert machine.notices == []
    machine.wait(1).post(READY)
    assert machine.notices == [ServiceReloaded(2.0)]
    assert is_ready(machine.spec, machine.state)


@pytest.mark.parametrize("word_first", [True, False])
def test_a_notify_service_with_a_command_needs_both(word_first):
    machine = Machine(web(reload=BY_COMMAND, **NOTIFY)).up().post(READY, RELOAD)
    both = [READY, HookEnded(Hook.RELOAD, ok=True)]
    first, second = both if word_first else reversed(both)

    assert machine.post(first).notices == []
    assert not is_ready(machine.spec, machine.state)
    assert machine.post(second).notices == [ServiceReloaded(0.0)]
    assert is_ready(machine.spec, machine.state)


def test_a_service_that_reloads_by_itself_is_watched():
    machine = Machine(web(**NOTIFY)).up().post(READY, ReloadBegan())
    assert machine.notices[-1] == ServiceReloading("policy")
    assert not is_ready(machine.spec, machine.state)

    assert machine.wait(30).notices == [ServiceReloadFailed("timed out")]
    machine.post(ReloadBegan()).wait(4).post(READY)
    assert machine.notices == [ServiceReloaded(4.0)]


def test_word_of_readiness_outside_of_a_reload_means_nothing():
    machine = Machine(web(**NOTIFY)).up().post(READY)
    before = machine.state

    assert machine.post(READY).state == before


def test_a_request_during_a_reload_is_carried_out_afterwards():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD, ReloadRequested("operator:7"))
    assert machine.actions == [RunHook(Hook.RELOAD)]

    machine.post(HookEnded(Hook.RELOAD, ok=True))
    assert machine.actions == [RunHook(Hook.RELOAD)]
    assert machine.notices == [ServiceReloaded(0.0), ServiceReloading("operator:7")]
    machine.post(HookEnded(Hook.RELOAD, ok=True))
    assert (machine.actions, machine.notices) == ([], [ServiceReloaded(0.0)])


def test_a_request_whose_way_is_gone_meanwhile_comes_to_nothing():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD, RELOAD)
    machine.spec = machine.spec._replace(reload=ReloadSpec())
    machine.post(HookEnded(Hook.RELOAD, ok=True))

    assert (machine.actions, machine.notices) == ([], [ServiceReloaded(0.0)])
    assert is_ready(machine.spec, machine.state)


@pytest.mark.parametrize("end", [STOP, KillRequested()])
def test_a_stop_ends_a_reload(end):
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD, RELOAD, end)

    assert (machine.state.hook, machine.state.reloading) == (None, False)
    machine.post(ended(0), StartRequested("operator:0")).executed()
    assert machine.state.deadline == math.inf
    assert is_ready(machine.spec, machine.state)


def test_an_end_during_a_reload_ends_both():
    machine = Machine(web(reload=BY_COMMAND)).up().post(RELOAD, ended(1)).next_start()

    assert machine.phase is Phase.RUNNING
    assert is_ready(machine.spec, machine.state)


# -- more time ------------------------------------------------------------------------------------


def test_a_start_may_ask_for_more_time():
    machine = Machine(web(start_timeout=10, **NOTIFY)).up().wait(9)
    machine.post(TimeoutExtended(30)).wait(29)
    assert machine.phase is Phase.STARTING

    assert machine.wait(1).phase is Phase.STOPPING


def test_more_time_is_never_less():
    machine = Machine(web(start_timeout=90, **NOTIFY)).up().post(TimeoutExtended(5)).wait(89)

    assert machine.phase is Phase.STARTING


def test_a_stop_may_ask_for_more_time():
    machine = Machine().up().post(STOP).wait(9).post(TimeoutExtended(30)).wait(29)
    assert machine.actions == []

    assert machine.wait(1).actions == [KILL_TO_ALL]


def test_no_time_is_given_beyond_the_budget_or_after_sigkill():
    machine = Machine().up().post(StopRequested("shutdown", kill_by=1005.0), TimeoutExtended(60))
    assert machine.wait(5).actions == [KILL_TO_ALL]

    machine.post(TimeoutExtended(60))
    assert machine.wait(1).actions == [KILL_TO_ALL]


def test_a_run_and_a_reload_may_ask_for_more_time():
    machine = Machine(web(runtime_max=60, reload=BY_SIGNAL, **NOTIFY)).up().post(READY)
    machine.wait(59).post(RELOAD, TimeoutExtended(100)).wait(99)
    assert machine.phase is Phase.RUNNING
    assert machine.state.reloading

    machine.post(READY, TimeoutExtended(5)).wait(1)
    assert machine.phase is Phase.RUNNING
    assert machine.wait(4).phase is Phase.STOPPING


# -- another main process -------------------------------------------------------------------------


def test_the_main_process_may_name_another_one_that_goes_on():
    machine = Machine(web(**NOTIFY)).up().post(MainPidChanged(4242), READY)
    assert (machine.state.pid, machine.state.heir) == (PID, 4242)

    machine.post(MainReplaced(4242))
    assert (machine.state.pid, machine.state.heir) == (4242, None)
    assert (machine.phase, machine.notices) == (Phase.RUNNING, [])

    machine.post(ended(1))
    assert machine.told(ServiceExited)[0].cause == "exit_code"
    assert machine.phase is Phase.BACKOFF


def test_it_may_go_on_before_it_is_ready():
    machine = Machine(web(**NOTIFY)).up().post(MainPidChanged(4242), MainReplaced(4242), READY)

    assert machine.phase is Phase.RUNNING


def test_naming_itself_takes_it_back():
    machine = Machine(web(**NOTIFY)).up().post(MainPidChanged(4242), MainPidChanged(PID))

    assert machine.state.heir is None


def test_a_name_that_is_told_before_there_is_a_process_is_the_last_runs():
    machine = Machine(web(**NOTIFY)).post(StartRequested("operator:0"), MainPidChanged(4242))

    assert machine.state.heir is None


def test_a_main_process_that_ends_before_the_other_is_there_ends_the_run():
    machine = Machine(web(**NOTIFY)).up().post(READY, MainPidChanged(4242), ended(1))

    assert machine.phase is Phase.BACKOFF
    assert machine.state.heir is None
