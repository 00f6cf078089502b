"""One service: the machine with its hands attached.

Events come in through `post`, which queues and drains, so that a rule never runs inside another
rule. Each step's state is stored first, then its actions are carried out; what an action brings
about is an event again. Only when the queue is empty are the notices handed on and the deadline is
armed. Where an end is answered by an immediate start, the new process is started first, by the
standing order worked out while the old one ran, and the machine is asked afterwards; should it not
demand a spawn after all, what was started ahead is killed.
"""

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from supervisord_pidfd import procs
from supervisord_pidfd.core import lifecycle
from supervisord_pidfd.core.actions import Action, EndDaemon, RunHook, Signal, Spawn
from supervisord_pidfd.core.anticipation import StandingOrder, covers, standing_order
from supervisord_pidfd.core.events import (
    DeadlinePassed,
    Event,
    Executed,
    HookEnded,
    MainReplaced,
    ProcessExited,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
)
from supervisord_pidfd.core.exitstatus import ExitStatus, Signaled, Usage
from supervisord_pidfd.core.lifecycle import Held, Phase, ServiceState, Step
from supervisord_pidfd.core.notices import (
    HookFailed,
    ServiceExited,
    ServiceSignaled,
    ServiceSpawnFailed,
    ServiceStatusChanged,
    ServiceStatusUnknown,
    Told,
)
from supervisord_pidfd.core.spec import Hook, Output, Scope, ServiceSpec
from supervisord_pidfd.errands import Result, exit_words
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.hooks import Hooks, words
from supervisord_pidfd.loop import Priority
from supervisord_pidfd.process import (
    Launched,
    Provision,
    Recipe,
    SpawnError,
    Stage,
    errno_name,
    read_report,
)
from supervisord_pidfd.reaper import Child
from supervisord_pidfd.signals import name_of
from supervisord_pidfd.sysabi import peak_rss_bytes
from supervisord_pidfd.taps import Outlet

if TYPE_CHECKING:
    from supervisord_pidfd.core.health import CheckRecord

LONE_EXITS = 2
"""How many descriptors are ready when a single process has ended: its pidfd and SIGCHLD's.

After such an end the new process gets the processor first: its exec wakes us up, often on the same
processor, and all that is left to do here is to note what happened. In a storm we do not yield.
"""

HEIR_PATIENCE = 5.0
"""How long to wait at most for word of whose the process is that is to be the main one."""

RECHECK_EVERY = 0.5
"""How often a scope that should become empty is asked, beside being told of every orphan's end."""

_ENDS_RUN = (ProcessExited, ScopeEmptied, HookEnded)
_ABOUT_ENDED_RUN = frozenset({ServiceExited, ServiceSpawnFailed, ServiceStatusUnknown})
_AT_REST = frozenset({Phase.STOPPED, Phase.WAITING, Phase.BACKOFF, Phase.EXITED, Phase.FAILED})
"""Phases without a process: nothing of the last run is held any more."""


class Supervision(Protocol):
    """Say what a service needs from those who look after all of them."""

    def tell(self, told: Told) -> None:
        """Take a notice for the end of the turn."""
        ...

    def held(self, service: "Service") -> Held | None:
        """Name what a start of this service has to wait for; None if it may go ahead."""
        ...

    def changed(self, service: "Service", before: ServiceState) -> None:
        """Take note of a new state."""
        ...

    def exit_handled(self, seconds: float) -> None:
        """Take how long it took from waking for an exit to having acted on it."""
        ...

    def end_daemon(self, service: "Service", code: int) -> None:
        """Shut down because of this service."""
        ...

    def roll(self) -> float:
        """Return chance, in [0, 1)."""
        ...


class Companion(Protocol):
    """Stand beside a service's process: a socket it reports to, a probe, a channel."""

    def prepare(self, run: int) -> Provision:
        """Say what the run that is about to be spawned is given.

        Where the last run was given nothing by anybody, this is asked before the end of that run
        is told.

        Raises:
            SpawnError: The start fails here.
        """
        ...

    def handed_over(self) -> None:
        """Take note that the process exists and holds its ends, or that the spawn failed."""
        ...

    def catch_up(self) -> None:
        """Take in all that the service has said so far: its end is about to be told."""
        ...

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Take note of a step, whose actions are done."""
        ...

    def use(self, spec: ServiceSpec) -> None:
        """Go over to a spec that differs in what may change live."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


CompanionsOf = Callable[["Service"], tuple[Companion, ...]]


class _Heir(NamedTuple):
    """Hold the process that is to be the main one; `proven` to be of the service when named."""

    process: procs.Process
    proven: bool


class _Ahead(NamedTuple):
    """Hold what came of starting a program, until the machine asks for it.

    `outlet` is the key of what it writes to, if that is captured.
    """

    outcome: Launched | SpawnError
    took_s: float
    outlet: int | None


class Service:
    """Carry out what the machine decides for one service. Owns its child and its error pipe."""

    def __init__(
        self,
        spec: ServiceSpec,
        hands: Hands,
        supervision: Supervision,
        companions: tuple[Companion, ...] = (),
    ) -> None:
        self.spec = spec
        self.state = ServiceState(since=hands.loop.clock.now())
        self.since_wall = hands.loop.clock.wall()
        self.started_wall: float | None = None
        self.last_usage = Usage()
        self.pending: ServiceSpec | None = None
        self.status_text: str | None = None
        self.probe_error = ""
        self.due_wall: float | None = None
        self._companions = companions
        self._companions_of: CompanionsOf | None = None
        self.checks: dict[str, CheckRecord] = {}
        self._hands = hands
        self._supervision = supervision
        self._queue: list[Event] = []  # of one or two: a deque would weigh ten times as much
        self._untold: list[tuple[ServiceState, Step]] = []
        self._draining = False
        self._deadline = hands.loop.deadline(self._deadline_passed)
        self._recheck = hands.loop.deadline(self.recheck_scope)
        self._recipe: Recipe | None = None
        self._order: StandingOrder | None = None
        self._ahead: _Ahead | None = None
        self._child: Child | None = None
        self._report: int | None = None
        self._outlet: int | None = None
        self._executed = False
        self._failure: SpawnError | None = None
        self._hooks: Hooks | None = None
        self._heir: _Heir | None = None
        self._late: tuple[ExitStatus, Usage] | None = None
        self._late_until = 0.0
        self._gives = bool(companions)
        self._use_log()

    @property
    def name(self) -> str:
        """Return the service's name."""
        return self.spec.name

    @property
    def internal(self) -> bool:
        """Tell whether this is a helper of the daemon."""
        return self.spec.name.startswith(":")

    @property
    def main_pid(self) -> int | None:
        """Return the pid of the main process, if there is one."""
        return self.state.pid

    def is_main(self, pid: int) -> bool:
        """Tell whether a process is the main one, or the one that it has named to be."""
        return pid in {self.state.pid, self.state.heir}

    @property
    def has_hook(self) -> bool:
        """Tell whether a hook is under way, be it one that nobody waits for."""
        return self._hooks is not None and self._hooks.under_way

    def end_hooks(self) -> None:
        """End the hooks that are under way; what waits for them has been told of it."""
        if self._hooks is not None:
            self._hooks.close()

    def may_own(self, pid: int) -> bool:
        """Tell whether a process is, or may turn out to be, the service's."""
        if self.owns(pid):
            return True
        process = procs.look(pid)
        return process is not None and self._may_be_ours(process)

    def owns(self, pid: int) -> bool:
        """Tell whether a living process is the service's: its main one, of its group, or below."""
        child = self._child
        if child is None:
            return False
        if pid == child.pid and not child.reaped:
            return True
        mine = {child.pid, *self._hands.orphans.of(self.name)}
        return procs.is_below(pid, mine, group=child.pid if child.leads_group else None)

    def tell(self, notice: Any) -> None:
        """Hand on a notice about the service as it is."""
        state = self.state
        told = Told(notice, self.spec.name, self.spec.group or None, state.run or None, state.pid)
        self._supervision.tell(told)

    def set_status(self, text: str) -> None:
        """Take what the service says of itself (STATUS=)."""
        self.status_text = text
        self.tell(ServiceStatusChanged(text))
        self._supervision.changed(self, self.state)

    def touched(self) -> None:
        """Take note that something that observers see has changed, beside the state."""
        self._supervision.changed(self, self.state)

    @property
    def companions(self) -> tuple[Companion, ...]:
        """Return who stands beside the process."""
        return self._companions

    def attend(self, companions_of: "CompanionsOf") -> None:
        """Have companions, chosen now and again whenever the spec has changed."""
        self._companions_of = companions_of
        self._companions = companions_of(self)
        self._gives = bool(self._companions)

    # -- events -----------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Take in an event, and all that follow from it."""
        self._queue.append(event)
        if self._draining:
            return
        self._draining = True
        before = self.state
        try:
            self._drain()
        finally:
            self._draining = False
            if self._ahead is not None:
                self._discard(self._ahead)
            self._deadline.arm(self.state.deadline)
            if self._untold:
                self._tell_steps()
            if self.state is not before:
                self._supervision.changed(self, before)
            self._order = standing_order(self.spec, self.state, self._hands.loop.clock.now())
            if self._child is not None:
                self._child.ahead = None if self._order is None else self._start_ahead

    def _drain(self) -> None:
        now = self._hands.loop.clock.now
        while self._queue:
            event = self._queue.pop(0)
            self._take(event, now())
            # An immediate restart need not wait for the timers of this turn.
            if (
                isinstance(event, _ENDS_RUN)
                and not self._queue
                and self.state.phase is Phase.BACKOFF
                and self.state.next_start_at <= now()
            ):
                self._queue.append(DeadlinePassed())

    def _take(self, event: Event, now: float) -> None:
        if self.pending is not None and self._is_over(event):
            self._use_pending()
        before = self.state
        step = lifecycle.step(
            self.spec, before, event, now, self._supervision.roll(), self._supervision.held(self)
        )
        self.state = step.state
        if before.hook is not None and step.state.hook is not before.hook and self._hooks:
            self._hooks.cancel()  # nobody waits for it any more
        if step.state.heir is not before.heir:
            self._hold_heir(step.state.heir)
        for action in step.actions:
            self._act(action)
        if step.state.phase is not before.phase and step.state.phase in _AT_REST:
            self._let_go()
        if step.notices:
            self._untold.append((before, step))
        if step.state is not before:
            for companion in self._companions:
                companion.follow(before, step.state)

    def _deadline_passed(self) -> None:
        self.post(DeadlinePassed())

    def _tell_steps(self) -> None:
        untold, self._untold = self._untold, []
        for before, step in untold:
            self._tell(before, step)

    def _tell(self, before: ServiceState, step: Step) -> None:
        """Hand a step's notices on, naming the run and process that they are about."""
        after = step.state
        teller = None
        if before.phase is not after.phase:
            self.since_wall = self._hands.loop.clock.wall()
            teller = lifecycle.phase_told(step.notices)
        for notice in step.notices:
            about = before if type(notice) in _ABOUT_ENDED_RUN else after
            tells = notice is teller
            self._supervision.tell(
                Told(
                    notice,
                    self.spec.name,
                    self.spec.group or None,
                    about.run or None,
                    about.pid,
                    before.phase.value if tells else None,
                    after.phase.value if tells else None,
                )
            )

    # -- another spec -----------------------------------------------------------------------------

    def use(self, spec: ServiceSpec) -> None:
        """Change the spec in place: only members that need no restart differ."""
        self.spec = spec
        self._recipe = None
        self._use_log()
        for companion in self._companions:
            companion.use(spec)
        if self._companions_of is not None:
            self._companions = self._companions_of(self)
        self._gives = bool(self._companions)

    @property
    def coming(self) -> ServiceSpec:
        """Return the spec of the next run if that is being made room for, else the present one."""
        makes_room = self.pending is not None and self.state.phase is Phase.STOPPING
        return self.pending if makes_room and self.pending is not None else self.spec

    def use_live(self, spec: ServiceSpec) -> None:
        """Change what differs from `coming` in place; another spec waits no longer."""
        if self.coming is not self.spec:
            self.pending = spec
        else:
            self.pending = None
            self.use(spec)

    def use_after_run(self, spec: ServiceSpec) -> None:
        """Change the spec when no process of the old one is left."""
        self.pending = spec
        if self._child is None and not self.state.has_process:
            self._use_pending()

    def _is_over(self, event: Event) -> bool:
        match event:
            case HookEnded(hook):
                return hook is Hook.POST_STOP
            case ProcessExited(_, _, scope_empty) if self.spec.hooks.post_stop is None:
                return scope_empty
            case ScopeEmptied() | SpawnFailed():
                return self.spec.hooks.post_stop is None
            case _:
                return False

    def _use_pending(self) -> None:
        if self.pending is not None:
            self.use(self.pending)
            self.pending = None

    # -- actions ----------------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn()
            case Signal():
                self._signal(action)
            case RunHook(hook, next_delay):
                if self._hooks is None:
                    self._hooks = Hooks(self._hands, self._hook_ended)
                self._hooks.run(hook, self.spec, self.state, next_delay)
            case EndDaemon(code):
                self._supervision.end_daemon(self, code)

    def _spawn(self) -> None:
        self._let_go()
        self._failure, self._executed = None, False
        self.status_text, self.probe_error = None, ""
        ahead, self._ahead = self._ahead or self._launch(self.state.run), None
        self._outlet = ahead.outlet
        if isinstance(ahead.outcome, SpawnError):
            failed = ahead.outcome
            self._first(SpawnFailed(failed.stage, failed.subject, failed.error))
            return
        launched = ahead.outcome
        executed = launched.report is None
        self._child = self._hands.reaper.watch(
            launched.pid, self._ended, leads_group=executed, floor_rss=peak_rss_bytes()
        )
        self._child.leftover_signal = self._leftover_signal()
        self.started_wall = self._hands.loop.clock.wall()
        spawned = Spawned(launched.pid, ahead.took_s)
        if launched.report is None:
            self._executed = True
            self._first(spawned, Executed())
        else:
            self._watch_report(launched.report)
            self._first(spawned)

    def _launch(self, run: int) -> _Ahead:
        clock = self._hands.loop.clock
        begun = clock.now()
        outlet = None
        try:
            recipe = self._prepared(run)
            outlet = self._open_outlet(run)
            outcome: Launched | SpawnError = recipe.spawn(run, outlet.given() if outlet else ())
            self._note_pid(outlet, outcome)
        except SpawnError as error:
            outcome = error
        finally:
            if outlet is not None:
                outlet.let_go()
            for companion in self._companions:
                companion.handed_over()
        return _Ahead(outcome, clock.now() - begun, None if outlet is None else outlet.key)

    def _open_outlet(self, run: int) -> Outlet | None:
        taps = self._hands.taps
        if taps is None or self.spec.output is not Output.CAPTURED:
            return None
        try:
            return taps.open(self.name, run)
        except OSError as error:
            raise SpawnError(Stage.STDIO, "log pipe", errno_name(error)) from None

    def _note_pid(self, outlet: Outlet | None, outcome: "Launched | SpawnError") -> None:
        if outlet is not None and isinstance(outcome, Launched) and self._hands.taps is not None:
            self._hands.taps.started(outlet.key, outcome.pid)

    def _close_outlet(self, key: int | None) -> None:
        """Take note that nothing of a run, or of what was started ahead, is left."""
        if key is not None and self._hands.taps is not None:
            self._hands.taps.over(key)

    def _use_log(self) -> None:
        if self._hands.taps is not None and self.spec.output is Output.CAPTURED:
            self._hands.taps.use(self.name, self.spec.log, self.spec.group)

    def _start_ahead(self, status: ExitStatus) -> None:
        """Start the next run before the machine is asked, if the standing order says so."""
        order = self._order
        if (
            order is not None
            and covers(order, status, self._hands.loop.clock.now())
            and self.pending is None
            and not self._gives
            and not self._hands.orphans.may_belong_to(self.spec.name)
            and self._supervision.held(self) is None
        ):
            self._ahead = self._launch(order.run + 1)
            if self._hands.loop.exits <= LONE_EXITS:
                os.sched_yield()

    def _discard(self, ahead: _Ahead) -> None:
        """End what was started ahead and is not wanted: the order was wrong, which is a bug."""
        self._ahead = None
        self._close_outlet(ahead.outlet)
        if isinstance(ahead.outcome, Launched):
            reaper = self._hands.reaper
            stray = reaper.watch(
                ahead.outcome.pid,
                lambda child, _status, _usage: reaper.release(child),
                leads_group=False,
            )
            reaper.signal(stray, signal.SIGKILL, whole_group=False)
            if ahead.outcome.report is not None:
                self._hands.loop.close_later(ahead.outcome.report)

    def _prepared(self, run: int) -> Recipe:
        provisions = [companion.prepare(run) for companion in self._companions]
        self._gives = any(map(any, provisions))
        if self._gives:
            everything = Provision(
                tuple(pair for provision in provisions for pair in provision.environment),
                tuple(pair for provision in provisions for pair in provision.descriptors),
            )
            return Recipe(self.spec, self._hands.host, everything)
        if self._recipe is None:
            self._recipe = Recipe(self.spec, self._hands.host)
        return self._recipe

    def _first(self, *events: Event) -> None:
        """Queue what an action brought about before anything that was queued earlier."""
        self._queue[:0] = events

    def _leftover_signal(self) -> int:
        stop = self.spec.stop
        if stop.scope is Scope.PROCESS or stop.keep_leftovers:
            return 0
        return signal.SIGKILL if stop.scope is Scope.MIXED else stop.steps[0].signum

    def _signal(self, action: Signal) -> None:
        signums = [action.signum, signal.SIGCONT] if action.then_continue else [action.signum]
        child = self._child
        if self.state.hook is Hook.PRE_START and self._hooks is not None:
            for signum in signums:
                self._hooks.signal(signum)
            return
        for signum in signums:
            if child is not None:
                self._hands.reaper.signal(child, signum, whole_group=action.whole_scope)
            if action.whole_scope:
                self._signal_orphans(signum)
        if child is not None and child.leftover_signal and action.signum == signal.SIGKILL:
            child.leftover_signal = signal.SIGKILL

    def _signal_orphans(self, signum: int) -> None:
        for pid in self._hands.orphans.of(self.name):
            self._hands.orphans.signal(pid, signum)

    def _hook_ended(self, hook: Hook, result: Result) -> None:
        """Tell of a hook that failed, but not of one that a stop has ended; go on from it."""
        stopped = hook is Hook.PRE_START and self.state.phase is Phase.STOPPING
        if not result.ok and not stopped:
            code, signum = exit_words(result.status)
            self.tell(
                HookFailed(hook.value, code, signum, result.timed_out, result.took_s, result.error)
            )
        if hook is not Hook.ON_FAILURE:
            self.post(HookEnded(hook, result.ok, "" if result.ok else words(result)))

    # -- the child --------------------------------------------------------------------------------

    def _watch_report(self, report: int) -> None:
        self._report = report
        try:
            # 0: for its end alone; until then the pipe has nothing that could be acted on.
            self._hands.loop.add(
                report, Priority.READINESS, lambda _events: self._read_report(), 0
            )
        except OSError:  # no room in epoll: the report is read when the child ends, at the latest
            self._executed = True

    def _read_report(self) -> None:
        """Learn from the error pipe whether the program was executed."""
        if self._report is None:
            return
        said = read_report(self._report)
        if said is None:
            return
        self._close_report()
        if isinstance(said, SpawnError):
            self._failure = said  # told when the child is reaped: its run ends then
        elif said:
            self._executed = True
            if self._child is not None:
                self._child.leads_group = True
            self.post(Executed())

    def _close_report(self) -> None:
        if self._report is not None:
            self._hands.loop.remove(self._report)
            self._hands.loop.close_later(self._report)
            self._report = None

    def _ended(self, _child: Child, status: ExitStatus, usage: Usage) -> None:
        """Take in the end of the main process."""
        self.last_usage = usage
        self._read_report()
        for companion in self._companions:
            companion.catch_up()
        self._close_report()
        if self._failure is not None:
            failure = self._failure
            self.post(SpawnFailed(failure.stage, failure.subject, failure.error))
        elif not self._executed:
            how = name_of(status.signum) if isinstance(status, Signaled) else "ended"
            self.post(SpawnFailed("exec", self.spec.argv[0], f"{how} before exec"))
        else:
            self._late_until = self._hands.loop.clock.now() + HEIR_PATIENCE
            self._main_ended(status, usage)
        loop = self._hands.loop
        self._supervision.exit_handled(loop.clock.now() - loop.woke_at)

    # -- another main process ---------------------------------------------------------------------

    def _hold_heir(self, pid: int | None) -> None:
        """Know the process that is to be the main one, so that no other one with its pid is."""
        known = None if pid is None else procs.look(pid)
        self._heir = None if known is None else _Heir(known, self.owns(known.pid))
        if self._child is not None:  # the end of the main process is nothing to clean up after
            self._child.leftover_signal = 0 if self._heir else self._leftover_signal()

    def _is_heir_ours(self, known: "_Heir") -> bool | None:
        """Tell whether it can go on; None while it is being found out whose it is."""
        now = procs.look(known.process.pid)
        if self.state.phase not in {Phase.STARTING, Phase.RUNNING} or now is None:
            return False
        if now.started != known.process.started or now.ppid != os.getpid():
            return False
        orphans = self._hands.orphans
        if known.proven or now.pid in orphans.of(self.name):
            return True
        return None if self._may_be_ours(now) else False

    def _may_be_ours(self, process: procs.Process) -> bool:
        """Tell of a child of ours that nobody watches, and that is not known to be another's."""
        orphans, pid = self._hands.orphans, process.pid
        if process.ppid != os.getpid() or self._hands.reaper.knows(pid):
            return False
        return pid in orphans.unidentified or pid not in orphans.all

    def _main_ended(self, status: ExitStatus, usage: Usage) -> None:
        """Go over to the process that the main one has named, or take its end for the run's."""
        known, self._late = self._heir, None
        ours = known is not None and self._is_heir_ours(known)
        now = self._hands.loop.clock.now()
        if ours is None and now < self._late_until:
            self._late = status, usage
            self._recheck.arm(now + RECHECK_EVERY)
        elif ours and known is not None:
            self._go_over_to(known.process.pid)
        else:
            self._tell_end(status, usage)

    def _go_over_to(self, pid: int) -> None:
        reaper, process = self._hands.reaper, procs.look(pid)
        if self._child is not None:
            reaper.release(self._child)
        self._hands.orphans.forget(pid)
        leads_group = process is not None and process.pgrp == pid
        self._child = reaper.watch(pid, self._ended, leads_group=leads_group)
        self._child.leftover_signal = self._leftover_signal()
        self.post(MainReplaced(pid))

    def _tell_end(self, status: ExitStatus, usage: Usage) -> None:
        scope_empty = self._scope_is_empty()
        if scope_empty and self._ahead is None:
            self._start_ahead(status)
        self.post(ProcessExited(status, usage, scope_empty))
        if self.state.ended is not None:
            self._recheck.arm(self._hands.loop.clock.now() + RECHECK_EVERY)

    def _scope_is_empty(self) -> bool:
        if self.spec.stop.scope is Scope.PROCESS or self._child is None:
            return True
        if self._hands.orphans.may_belong_to(self.name):
            return False
        return self._hands.reaper.group_is_empty(self._child)

    def recheck_scope(self) -> None:
        """Ask whether what the main process left behind has gone, or who goes on in its place."""
        if self._late is not None:
            self._main_ended(*self._late)
            return
        if self.state.phase is not Phase.STOPPING or self.state.ended is None:
            return
        if self._scope_is_empty():
            self.post(ScopeEmptied())
        else:
            self._recheck.arm(self._hands.loop.clock.now() + RECHECK_EVERY)

    def orphan_identified(self, pid: int) -> None:
        """Deal with a process of ours that left its group: it shares the fate of the scope."""
        if self._late is not None:
            self._main_ended(*self._late)
        state = self.state
        if state.phase is Phase.STOPPING:
            steps = self.spec.stop.steps
            signum = signal.SIGKILL if state.forced else steps[max(0, state.step)].signum
            self._hands.orphans.signal(pid, signum)
            self._hands.orphans.signal(pid, signal.SIGCONT)

    def _let_go(self) -> None:
        self._recheck.disarm()
        self._late = None
        self._close_report()
        self._close_outlet(self._outlet)
        self._outlet = None
        if self._child is not None:
            self._hands.reaper.release(self._child)
            self._child = None

    def pass_on(self, signum: int) -> None:
        """Hand a signal to the process group; not a stop, policy decides what follows."""
        if self._child is not None:
            self._hands.reaper.signal(self._child, signum, whole_group=True)

    def send(self, signum: int, by: str, *, whole_group: bool) -> bool:
        """Send a signal as somebody asked; not a stop. Return whether there is a process."""
        child = self._child
        if child is None or child.reaped:
            return False
        self._hands.reaper.signal(child, signum, whole_group=whole_group)
        self.tell(ServiceSignaled(signum, by))
        return True

    def close(self) -> None:
        """Let go of everything the service holds in this process; nothing is signalled."""
        self._deadline.disarm()
        self._let_go()
        if self._hooks is not None:
            self._hooks.close()
        for companion in self._companions:
            companion.close()
