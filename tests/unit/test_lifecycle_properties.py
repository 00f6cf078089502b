"""The service machine under a perfect shell: whatever comes in whatever order, its laws hold.

The shell is what `service.py` is meant to be, over processes that are data. It answers each
`Spawn`, delivers signals, tells each end once and each moment when it comes; the laws are checked
after every step and after every rule.
"""

import math
from collections import Counter, deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisord_pidfd.core.actions import EndDaemon, RunHook, Signal, Spawn
from supervisord_pidfd.core.events import (
    AttemptsForgiven,
    BecameReady,
    CheckChanged,
    DeadlinePassed,
    Executed,
    FailRequested,
    GateOpened,
    HookEnded,
    KillRequested,
    MainPidChanged,
    MainReplaced,
    ProcessExited,
    ReadinessLost,
    ReloadBegan,
    ReloadRequested,
    ResetRequested,
    RestartRequested,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimeoutExtended,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.exitstatus import Cause, Ends, Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.lifecycle import (
    PHASE_NOTICES,
    TABLE,
    Held,
    Phase,
    ServiceState,
    Wanted,
    phase_told,
    step,
)
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceReady,
    ServiceRestartScheduled,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStopped,
    ServiceStopping,
    ServiceWaiting,
)
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Hook,
    HooksSpec,
    LimitAction,
    ReadyKind,
    ReadySpec,
    ReloadSpec,
    RestartPolicy,
    Scope,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
)
from tests.support.machine import web

HUP, INT, KILL, CONT, TERM = 1, 2, 9, 18, 15
HOST_FAULTS = {"EAGAIN", "ENOMEM", "EMFILE", "ENFILE"}
WITH_PROCESS = {Phase.STARTING, Phase.RUNNING, Phase.STOPPING}
MAY_BE_UNWANTED = {Phase.STOPPED, Phase.STOPPING, Phase.EXITED, Phase.FAILED}
WITHOUT_MOMENT = {Phase.STOPPED, Phase.WAITING, Phase.EXITED, Phase.FAILED}
TELLERS = {
    Phase.STOPPED: {ServiceStopped},
    Phase.WAITING: {ServiceWaiting},
    Phase.STARTING: {ServiceStarting},
    Phase.RUNNING: {ServiceReady},
    Phase.STOPPING: {ServiceStopping},
    Phase.BACKOFF: {ServiceRestartScheduled},
    Phase.EXITED: {ServiceExited, ServiceStopped},
    Phase.FAILED: {ServiceGaveUp},
}

COMMANDS = st.sampled_from([None, None, None, CommandSpec(("/bin/hook",))])
HOOKS = st.builds(
    HooksSpec,
    pre_start=COMMANDS,
    post_start=COMMANDS,
    pre_stop=COMMANDS,
    post_stop=COMMANDS,
    on_failure=COMMANDS,
    timeout=st.just(30.0),
)
CHECKS = st.builds(
    lambda watchdog, live, action: (
        CheckSpec("dog", CheckKind.WATCHDOG, period=8.0, failures=watchdog, action=action),
        CheckSpec("live", CheckKind.TCP, "127.0.0.1:80", action=live),
    ),
    st.integers(1, 2),
    st.sampled_from(CheckAction),
    st.sampled_from(CheckAction),
)
RELOADS = st.sampled_from(
    [
        ReloadSpec(),
        ReloadSpec(HUP, timeout=9.0),
        ReloadSpec(None, CommandSpec(("/bin/reload",)), timeout=9.0),
    ]
)
WORDS = st.sampled_from(
    [
        BecameReady("notify"), ReadinessLost(), AttemptsForgiven(), WatchdogPinged(),
        MainPidChanged(7), WatchdogTriggered(), WatchdogChanged(5.0), WatchdogChanged(0.0),
        ReloadBegan(), ReloadRequested("operator:0"), TimeoutExtended(3.0),
    ]
)  # fmt: skip
STOPS = st.builds(
    StopSpec,
    command=COMMANDS,
    steps=st.sampled_from(
        [
            (StopStep(TERM, 10.0),),
            (StopStep(TERM, 3.0), StopStep(INT, 2.0)),
            (StopStep(TERM, math.inf),),
            (StopStep(KILL, 1.0),),
            (StopStep(TERM, 0.0), StopStep(KILL, 0.0)),
        ]
    ),
    scope=st.sampled_from(Scope),
    keep_leftovers=st.booleans(),
)
BACKOFFS = st.builds(
    BackoffSpec,
    delay=st.sampled_from([0.0, 0.1, 5.0]),
    factor=st.sampled_from([1.0, 2.0]),
    max_delay=st.sampled_from([0.05, 30.0]),
    jitter=st.sampled_from([0.0, 0.1, 1.0]),
    reset_after=st.sampled_from([0.0, 20.0]),
)
LIMITS = st.builds(
    StartLimitSpec,
    burst=st.sampled_from([0, 1, 3]),
    interval=st.sampled_from([10.0, 600.0]),
    action=st.sampled_from(LimitAction),
)
SPECS = st.builds(
    web,
    type=st.sampled_from(ServiceType),
    restart=st.sampled_from(RestartPolicy),
    start_timeout=st.sampled_from([5.0, math.inf]),
    runtime_max=st.sampled_from([20.0, math.inf]),
    ready=st.sampled_from([ReadySpec(), ReadySpec(ReadyKind.DELAY, 2.0)]),
    hooks=st.just(HooksSpec()) | HOOKS,
    checks=st.just(()) | CHECKS,
    reload=RELOADS,
    stop=STOPS,
    success=st.sampled_from([Ends((0,), (1, INT, TERM, 13)), Ends((0,))]),
    restart_prevent=st.sampled_from([Ends(), Ends((3,), (KILL,))]),
    restart_force=st.sampled_from([Ends(), Ends((4, 0))]),
    backoff=BACKOFFS,
    start_limit=LIMITS,
    critical=st.booleans(),
    main=st.booleans(),
)
STATUSES = st.sampled_from([0, 1, 3, 4]).map(Exited) | st.sampled_from(
    [Signaled(TERM), Signaled(KILL), Signaled(11, core=True), Unknown("stolen")]
)
ROLLS = st.sampled_from([0.0, 0.5, 0.999])


class Process:
    """Be a process of the service: it obeys signals, or some of them."""

    def __init__(self, run, *, main, deaf=False, unkillable=False):
        self.run = run
        self.main = main
        self.deaf = deaf
        self.unkillable = unkillable
        self.executed = False
        self.pid = 100 + run

    def is_ended_by(self, signum):
        if self.unkillable:
            return False
        return signum == KILL or (not self.deaf and signum != CONT)


class Behaviour:
    """Hold how spawns go: those in `fails` with an errno name, the following as the others say."""

    def __init__(self, fails=(), executes="at once", deaf=False, children=0, unkillable=False):
        self.fails = list(fails)
        self.executes = executes
        self.deaf = deaf
        self.children = children
        self.unkillable = unkillable


BEHAVIOURS = st.builds(
    Behaviour,
    fails=st.lists(st.sampled_from(["ENOENT", "EAGAIN", "ENOMEM"]), max_size=4),
    executes=st.sampled_from(["at once", "at once", "later"]),
    deaf=st.booleans(),
    children=st.integers(0, 2),
    unkillable=st.sampled_from([False, False, False, True]),
)


class Shell:
    """Carry out what the machine demands, over processes that are data; check each step."""

    def __init__(self, spec):
        self.spec = spec
        self.state = ServiceState()
        self.now = 1000.0
        self.roll = 0.0
        self.held = None
        self.behaviour = Behaviour()
        self.processes = []
        self.hook = None
        self.queue = deque()
        self.inputs = []
        self.steps = []
        # what the laws are checked by
        self.spawned = {}
        self.told_spawned = Counter()
        self.told_end = Counter()
        self.automatic = False
        self.automatic_starts = []
        self.scheduled = None
        self.statuses = [None]
        self.ready_at = math.inf
        self.stable = False
        self.asked_to_fail = False

    # -- the shell

    def post(self, *events):
        self.queue.extend(events)
        while self.queue:
            self._take(self.queue.popleft())

    def _take(self, event):
        assert type(event) in TABLE[self.state.phase], f"{event} in {self.state.phase}"
        before = self.state
        inputs = (self.spec, before, event, self.now, self.roll, self.held)
        done = step(*inputs)
        self.inputs.append(inputs)
        self.steps.append(done)
        self.state = done.state
        if self.state.hook is not before.hook:
            self.hook = None  # as the shell ends one that nobody waits for
        self._check(before, event, done)
        for action in done.actions:
            self._act(action)

    def _act(self, action):
        match action:
            case Spawn():
                self._spawn()
            case Signal(1, whole, then_continue):
                assert (whole, then_continue) == (False, False)
                assert self.state.phase is Phase.RUNNING  # its process reads its file, and stays
            case Signal(signum, whole, then_continue):
                scope = self.spec.stop.scope
                assert then_continue is (signum != KILL)
                assert whole is (scope is Scope.GROUP or (scope is Scope.MIXED and signum == KILL))
                self.signal(signum, whole=whole)
            case RunHook(Hook.ON_FAILURE):
                assert self.state.phase is Phase.FAILED
            case RunHook(hook):
                assert self.hook is None, "two hooks of one service"
                assert hook is self.state.hook
                self.hook = hook
            case EndDaemon(code):
                failed = self.state.phase is Phase.FAILED
                unhealthy = self.state.phase is Phase.RUNNING and self.state.failing
                assert self.spec.main or (failed and self.spec.critical) or code == 10
                if code == 10:
                    assert self.spec.main or failed or unhealthy

    def _spawn(self):
        assert self.processes == [], "two processes of one service"
        run, how = self.state.run, self.behaviour
        if how.fails:
            self.queue.appendleft(SpawnFailed("exec", "/srv/web", how.fails.pop()))
            return
        main = Process(run, main=True, deaf=how.deaf, unkillable=how.unkillable)
        self.processes = [main]
        self.processes += [Process(run, main=False, deaf=how.deaf) for _ in range(how.children)]
        first = [Spawned(100 + run, 0.001)]
        if how.executes == "at once":
            main.executed = True
            first.append(Executed())
        self.queue.extendleft(reversed(first))

    @property
    def main(self):
        return next((process for process in self.processes if process.main), None)

    def end_hook(self, *, ok, error=""):
        hook, self.hook = self.hook, None
        self.queue.append(HookEnded(hook, ok, error))

    def signal(self, signum, *, whole):
        if self.hook is Hook.PRE_START:
            assert self.processes == []
            if signum != CONT:
                self.end_hook(ok=False, error="SIGTERM")
            return
        for process in tuple(self.processes):
            if (whole or process.main) and process.is_ended_by(signum):
                self.end(process, Signaled(signum))

    def end(self, process, status):
        """Let a process end; the machine is told as the reaper would tell it."""
        if process not in self.processes:  # a signal before it ended it too
            return
        self.processes.remove(process)
        if process.main and process.executed:
            empty = not self.processes or self.spec.stop.scope is Scope.PROCESS
            if empty or self.spec.stop.keep_leftovers:
                self.processes = []  # whoever is left is not ours any more
            self.statuses.append(status)
            self.queue.append(ProcessExited(status, Usage(), empty))
        elif process.main:
            self.processes = []  # it has no children before it executed anything
            self.queue.append(SpawnFailed("exec", "/srv/web", "SIGTERM before exec"))
        elif not self.processes:
            self.queue.append(ScopeEmptied())

    def advance(self, seconds):
        """Let time pass; each moment is told when it comes."""
        until = self.now + seconds
        for _ in range(1000):
            if self.state.deadline > until:
                break
            self.now = max(self.now, self.state.deadline)
            self.post(DeadlinePassed())
        else:
            raise AssertionError("the machine spins")
        self.now = until

    # -- the laws of a step

    def _check(self, before, event, done):
        after = done.state
        self._check_notices(before, after, done.notices)
        self._follow_automatic(before, event, after)
        self._follow_stability(before, after)
        for notice in done.notices:
            match notice:
                case ServiceRestartScheduled():
                    self._check_delay(notice)
                case ServiceGaveUp():
                    self._check_gave_up(notice, before)
                case ServiceSpawned():
                    self.told_spawned[after.run] += 1
                case ServiceExited() | ServiceSpawnFailed():
                    self.told_end[before.run] += 1
                    self.spawned[before.run] = "ended"
        if isinstance(event, KillRequested):
            assert after.wanted is Wanted.DOWN or after.phase is Phase.FAILED
        if Spawn() in done.actions:
            self._check_spawn(before, after, done.actions)
        if after.phase is Phase.RUNNING and before.phase is not Phase.RUNNING:
            assert after.hook is None

    def _check_notices(self, before, after, notices):
        kinds = [type(notice) for notice in notices if type(notice) in PHASE_NOTICES]
        if before.phase is after.phase:
            assert set(kinds) <= {ServiceExited}
            return
        teller = type(phase_told(notices))
        assert teller in TELLERS[after.phase]
        assert set(kinds) <= {teller, ServiceExited}
        assert kinds.count(teller) == 1

    def _check_spawn(self, before, after, actions):
        after_hook = before.hook is Hook.PRE_START
        assert after_hook or self.held is None
        assert actions.count(Spawn()) == 1
        assert (after.phase, after.wanted, after.pid) == (Phase.STARTING, Wanted.UP, None)
        assert after.run == before.run + (not after_hook)
        assert after.run not in self.spawned
        assert all(how == "ended" for how in self.spawned.values())
        self.spawned[after.run] = "begun"

    def _follow_automatic(self, before, event, after):
        """Know by ourselves which starts are automatic and counted, and hold the limit to them."""
        limit = self.spec.start_limit
        if after.phase is Phase.BACKOFF and before.phase is not Phase.BACKOFF:
            end = after.last_exit
            fault = end.cause is Cause.SPAWN_ERROR and end.error in HOST_FAULTS
            self.automatic = not fault
        if isinstance(event, ResetRequested) or (
            isinstance(event, StartRequested | RestartRequested) and before.phase is Phase.FAILED
        ):
            self.automatic_starts = []
        if isinstance(event, StartRequested | RestartRequested | StopRequested | ResetRequested):
            self.automatic = False
        if after.phase is Phase.STARTING and before.phase is not Phase.STARTING:
            if self.automatic:
                self.automatic_starts.append(self.now)
            self.automatic = False
        recent = [at for at in self.automatic_starts if self.now - at < limit.interval]
        if limit.burst and limit.action is not LimitAction.SLOW_RETRY:
            assert len(recent) <= limit.burst

    def _follow_stability(self, before, after):
        if before.phase is Phase.STARTING:
            self.ready_at, self.stable = self.now, False
        if before.phase is Phase.RUNNING and after.phase is not Phase.RUNNING:
            self.stable = self.now - self.ready_at >= self.spec.backoff.reset_after

    def _check_delay(self, notice):
        backoff, limit = self.spec.backoff, self.spec.start_limit
        slow = limit.interval / limit.burst if limit.burst else 0.0
        least = 0.1 if notice.cause == "spawn_error" else 0.0
        if limit.action is LimitAction.SLOW_RETRY:
            least = max(least, slow)
        assert 0 <= notice.delay_s <= max(backoff.max_delay * (1 + backoff.jitter), least)
        if notice.attempt > 1:
            assert not self.stable
            last, lifted = self.scheduled
            assert notice.attempt == last.attempt + 1
            if not lifted:
                assert notice.delay_s >= last.delay_s / (1 + backoff.jitter) - 1e-9
        self.scheduled = notice, notice.delay_s <= least

    def _check_gave_up(self, notice, before):
        status = self.state.last_exit and self.state.last_exit.status
        match notice.reason:
            case "group_limit":
                assert self.asked_to_fail
            case "prevented":
                assert self.spec.restart_prevent.includes(status)
            case "limit":
                limit = self.spec.start_limit
                recent = [at for at in self.automatic_starts if self.now - at < limit.interval]
                assert len(recent) == limit.burst > 0
            case "policy":
                assert notice.cause != "success"
                assert self.spec.restart not in {
                    RestartPolicy.ALWAYS,
                    RestartPolicy.UNLESS_STOPPED,
                }
            case _:
                raise AssertionError(notice.reason)
        assert before.wanted is Wanted.UP


class Lifecycle(RuleBasedStateMachine):
    @initialize(spec=SPECS, behaviour=BEHAVIOURS)
    def begin(self, spec, behaviour):
        self.shell = Shell(spec)
        self.shell.behaviour = behaviour

    @property
    def state(self):
        return self.shell.state

    # -- what happens

    @rule()
    def start(self):
        self.shell.post(StartRequested("operator:0"))

    @rule(budget=st.sampled_from([math.inf, 3.0, 0.0]))
    def stop(self, budget):
        self.shell.post(StopRequested("operator:0", kill_by=self.shell.now + budget))

    @rule(cause=st.sampled_from([Cause.OPERATOR, Cause.CONFIG, Cause.HEALTH]))
    def restart(self, cause):
        self.shell.post(RestartRequested("operator:0", cause))

    @rule()
    def reset(self):
        self.shell.post(ResetRequested("operator:0"))

    @rule()
    def hasten(self):
        self.shell.post(KillRequested())

    @precondition(lambda self: self.shell.hook is not None)
    @rule(ok=st.sampled_from([True, True, False]))
    def hook_ends(self, ok):
        self.shell.end_hook(ok=ok, error="" if ok else "code 1")
        self.shell.post()

    @rule()
    def fail(self):
        self.shell.asked_to_fail = True
        self.shell.post(FailRequested("group_limit"))

    @rule(word=WORDS)
    def say(self, word):
        self.shell.post(word)

    @precondition(lambda self: self.shell.spec.checks)
    @rule(healthy=st.sampled_from([True, False, None]))
    def check(self, healthy):
        self.shell.post(CheckChanged("live", healthy, self.shell.spec.checks[1].action))

    @rule(held=st.sampled_from([None, None, Held("start_concurrency")]))
    def gate(self, held):
        self.shell.held = held
        self.shell.post(GateOpened())

    @rule(statuses=st.lists(STATUSES, min_size=1, max_size=4))
    def crash_in_a_row(self, statuses):
        """End each run as soon as there is one."""
        for status in statuses:
            self.shell.end(self.shell.main, status)
            self.shell.post()
            self.shell.advance(0.1)

    @rule(behaviour=BEHAVIOURS, roll=ROLLS)
    def behave(self, behaviour, roll):
        self.shell.behaviour = behaviour
        self.shell.roll = roll

    @precondition(lambda self: self.shell.main is not None)
    @rule(status=STATUSES)
    def main_ends(self, status):
        self.shell.end(self.shell.main, status)
        self.shell.post()

    @precondition(lambda self: len(self.shell.processes) > 1)
    @rule()
    def child_ends(self):
        self.shell.end(self.shell.processes[-1], Exited(0))
        self.shell.post()

    @precondition(lambda self: self.shell.processes and self.shell.main is None)
    @rule()
    def leftover_ends(self):
        self.shell.end(self.shell.processes[-1], Exited(0))
        self.shell.post()

    @precondition(lambda self: self.shell.main is not None and not self.shell.main.executed)
    @rule()
    def executes(self):
        self.shell.main.executed = True
        self.shell.post(Executed())

    @precondition(lambda self: self.shell.main is not None and self.shell.main.executed)
    @precondition(lambda self: self.state.phase in {Phase.STARTING, Phase.RUNNING})
    @rule()
    def hands_over(self):
        """End in favour of a process that was named, and that is the main one from then on."""
        main = self.shell.main
        main.pid += 1000
        self.shell.post(MainPidChanged(main.pid), MainReplaced(main.pid))
        assert self.state.heir is None

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 30.0, 700.0]))
    def advance(self, seconds):
        self.shell.advance(seconds)

    @precondition(lambda self: math.isfinite(self.state.deadline))
    @rule()
    def advance_to_deadline(self):
        self.shell.advance(max(0.0, self.state.deadline - self.shell.now))

    @rule()
    def hint(self):
        """Tell what is told late or twice: moments that are not due."""
        before = self.state
        self.shell.post(DeadlinePassed())
        if before.deadline > self.shell.now:
            assert self.state == before

    # -- the laws

    @invariant()
    def a_main_process_exists_exactly_where_the_state_says_so(self):
        main = self.shell.main
        assert self.state.has_process is (main is not None)
        if main is not None:
            assert self.state.pid == main.pid
            assert self.state.phase in WITH_PROCESS
        if self.shell.processes:
            assert self.state.phase in WITH_PROCESS
        if self.state.phase in {Phase.STARTING, Phase.RUNNING}:
            assert main is not None or self.state.hook is Hook.PRE_START

    @invariant()
    def a_hook_is_under_way_exactly_where_the_state_says_so(self):
        assert self.state.hook is self.shell.hook
        if self.shell.hook is not None:
            reloads = self.state.phase is Phase.RUNNING and self.shell.hook is Hook.RELOAD
            assert reloads or self.state.phase in {Phase.STARTING, Phase.STOPPING}

    @invariant()
    def what_is_not_wanted_is_down_or_on_its_way(self):
        if self.state.wanted is Wanted.DOWN:
            assert self.state.phase in MAY_BE_UNWANTED
        if self.state.phase in {Phase.STOPPED, Phase.EXITED}:
            assert self.state.wanted is Wanted.DOWN

    @invariant()
    def a_phase_that_passes_has_its_date(self):
        state, spec = self.state, self.shell.spec
        match state.phase:
            case Phase.STARTING if state.hook is Hook.PRE_START:
                assert state.deadline == state.start_by
            case Phase.STARTING if math.isfinite(min(spec.start_timeout, spec.runtime_max)):
                assert math.isfinite(state.deadline)
            case Phase.STOPPING if state.hook is not None:
                pass  # the shell ends a hook at its timeout
            case Phase.STOPPING if math.isfinite(spec.stop.timeout) or state.forced:
                assert math.isfinite(state.deadline)
            case Phase.BACKOFF:
                assert state.deadline == state.next_start_at < math.inf
            case Phase.RUNNING:
                assert state.deadline == min(state.max_run_by, state.watchdog_by, state.reload_by)
                assert state.max_run_by >= state.started_at + spec.runtime_max
                assert math.isfinite(state.reload_by) is state.reloading
            case phase if phase in WITHOUT_MOMENT:
                assert state.deadline == math.inf

    @invariant()
    def a_stop_leaves_no_trace(self):
        state = self.state
        if state.phase is not Phase.STOPPING:
            assert (state.ended, state.stop_cause) == (None, None)
            assert not any((state.forced, state.start_queued, state.unkillable, state.emptied))
            assert (state.cut, state.fail_reason) == (False, None)

    @invariant()
    def each_run_is_told_once_and_ends_once(self):
        shell = self.shell
        assert all(count == 1 for count in shell.told_spawned.values())
        for run, how in shell.spawned.items():
            assert shell.told_end[run] == (how == "ended")
        running = {run for run, how in shell.spawned.items() if how == "begun"}
        assert running == ({self.state.run} if shell.main is not None else set())

    @invariant()
    def the_window_is_no_longer_than_the_burst(self):
        assert len(self.state.starts) <= self.shell.spec.start_limit.burst

    # -- in the end

    def teardown(self):
        if not hasattr(self, "shell"):
            return
        self._a_stop_ends_it()
        self._a_start_of_what_behaves_gets_there()
        assert [step(*inputs) for inputs in self.shell.inputs] == self.shell.steps

    def _hooks_end_well(self):
        while self.shell.hook is not None:
            self.shell.end_hook(ok=True)
            self.shell.post()

    def _a_stop_ends_it(self):
        shell = self.shell
        for process in shell.processes:
            process.unkillable = False
        # The budget alone ends it, without a word of any hook.
        shell.post(StopRequested("shutdown", kill_by=shell.now + 5))
        spawned = len(shell.spawned)
        shell.advance(5 + 1 + 1)
        if shell.processes and shell.spec.stop.scope is Scope.PROCESS:
            raise AssertionError("a process of the scope outlived its stop")

        assert shell.processes == []
        assert self.state.phase in {Phase.STOPPED, Phase.EXITED, Phase.FAILED}
        shell.advance(10_000)
        assert len(shell.spawned) == spawned

    def _a_start_of_what_behaves_gets_there(self):
        shell = self.shell
        shell.held = None
        shell.behaviour = Behaviour()
        shell.post(StartRequested("operator:0"))
        self._hooks_end_well()
        shell.advance(shell.spec.ready.delay)
        if shell.spec.type is ServiceType.NOTIFY:
            shell.post(BecameReady("notify"))

        if shell.spec.type is not ServiceType.ONESHOT:
            assert self.state.phase is Phase.RUNNING
        else:
            shell.end(shell.main, Exited(0))
            shell.post()
            self._hooks_end_well()
            restarted = shell.spec.restart in {
                RestartPolicy.ALWAYS,
                RestartPolicy.UNLESS_STOPPED,
                RestartPolicy.ON_SUCCESS,
            } or shell.spec.restart_force.includes(Exited(0))
            assert (self.state.phase is Phase.EXITED) is not restarted


@pytest.mark.slow
def test_the_laws_hold_whatever_happens():
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=200,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
