"""All services together: who may start, what follows a change, what a new configuration does.

Starts are held by the gate (dependencies), by groups, by orders that are under way and by
`start_concurrency`; stops and restarts of sets are orders. What a change of one service means for
others is noted when it happens and drawn at the end of the turn, in `settle`, so that a chain of
ten thousand services is a loop and not a recursion.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.events import (
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import ASKED_FOR, Cause, ExitStatus
from supervisord_pidfd.core.lifecycle import (
    EXIT_LIMIT,
    Held,
    Phase,
    ServiceState,
    Wanted,
    is_ready,
)
from supervisord_pidfd.core.notices import ConfigUnreadable, ServiceDumped, Told
from supervisord_pidfd.core.planner import Graph
from supervisord_pidfd.core.reload import ReloadPlan, plan_reload
from supervisord_pidfd.core.spec import ServiceSpec, SupervisorSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.orders import WITH_PROCESSES, Orders
from supervisord_pidfd.rosters import Rosters
from supervisord_pidfd.service import CompanionsOf, Service
from supervisord_pidfd.sets import Sets
from supervisord_pidfd.shutdown import Everybody, Request, Shutdown
from supervisord_pidfd.starts import Starts
from supervisord_pidfd.strays import Strays

SHUTDOWN_TIMEOUT = 80.0
SHUTDOWN_TIMEOUT_PID1 = 8.0

_ACTIVE = frozenset({Phase.WAITING, Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.BACKOFF})


class Outside(NamedTuple):
    """Hold what the supervisor tells those above it.

    `tell` takes notices; `touched` the name of a service whose record changed; `removed` of one
    that is gone; `exit_handled` the seconds from waking for an exit to having acted on it;
    `finished` that nothing is left to stop; `roll` gives chance, in [0, 1); `companions_of` says
    who stands beside a service.
    """

    tell: Callable[[Told], None]
    touched: Callable[[str], None]
    removed: Callable[[str], None]
    exit_handled: Callable[[float], None]
    finished: Callable[[], None]
    roll: Callable[[], float]
    companions_of: CompanionsOf | None = None


class Supervisor:
    """Look after all services.

    `listeners` are called with a service and its state before, after each change of its state.
    """

    def __init__(
        self, hands: Hands, outside: Outside, spec: SupervisorSpec, *, pid1: bool
    ) -> None:
        self.services: dict[str, Service] = {}
        self.internals: dict[str, Service] = {}
        self.listeners: list[Callable[[Service, ServiceState], None]] = []
        self.spec = spec
        self.pid1 = pid1
        self._hands = hands
        self._outside = outside
        self._orders = Orders(self.services, self._wake_dependents)
        self._rosters = Rosters(self.services, outside.tell, self._wake, hands.loop.clock.now)
        self.starts = Starts(hands.loop, self.services, self._orders, self._rosters)
        self.sets = Sets(self.services, self._orders, self.starts)
        self.strays = Strays(hands, self._find, outside.tell)
        self.shutdown = Shutdown(
            hands,
            Everybody(self.services, self.internals, self._orders),
            outside.tell,
            self.strays.look,
            outside.finished,
        )
        self._changes = 0
        self._crashed: dict[str, None] = {}
        self._leaving: set[str] = set()
        self._check_idle = False

    # -- what a service needs ---------------------------------------------------------------------

    def tell(self, told: Told) -> None:
        """Take a service's notice."""
        self._outside.tell(told)

    def roll(self) -> float:
        """Return chance, in [0, 1)."""
        return self._outside.roll()

    def exit_handled(self, seconds: float) -> None:
        """Take how long it took to act on an exit."""
        self._outside.exit_handled(seconds)

    def held(self, service: Service) -> Held | None:
        """Name what a start has to wait for; a helper of the daemon waits for nothing."""
        return None if service.internal else self.starts.held(service)

    def changed(self, service: Service, before: ServiceState) -> None:
        """Follow a service's state, and note what it means for others."""
        after = service.state
        name = service.name
        self._outside.touched(name)
        if after is before:  # something beside the state
            return
        self._changes += 1
        self.strays.changed(service, before)
        if not service.internal:
            self._follow(service, before, after)
        for listener in self.listeners:
            listener(service, before)
        if after.phase not in _ACTIVE and not service.internal:
            self._check_idle = True
            if name in self._leaving:
                self._forget(name)

    def end_daemon(self, service: Service, code: int) -> None:
        """Shut down because of this service, with this exit code."""
        if service.spec.main:
            self.shutdown.main_ended(code)
        self.shut_down("policy", service=service.name, code=code)

    def _follow(self, service: Service, before: ServiceState, after: ServiceState) -> None:
        """Take in what a change means for gate, orders and groups; `settle` draws it."""
        name = service.name
        self._rosters.changed(service, before)
        if after.run != before.run or (
            before.phase in WITH_PROCESSES and after.phase not in WITH_PROCESSES
        ):
            self._orders.ended(name)
        if self.graph.parts(name) and _has_crashed(before, after):
            self._crashed[name] = None
        self.starts.changed(service, before)

    def _wake(self, name: str) -> None:
        self.starts.wake(name)

    def _wake_dependents(self, name: str) -> None:
        self.starts.wake_dependents(name)

    @property
    def graph(self) -> Graph:
        """Return who waits for whom."""
        return self.starts.graph

    # -- services come and go ---------------------------------------------------------------------

    def run_scheduled(self, name: str, anew: bool) -> None:  # noqa: FBT001 - the two ways to run
        """Run a task whose time has come; `anew` ends the run that is not over yet."""
        if self.stopping or name in self._leaving:
            return
        if anew:
            self.sets.restart({name: None}, "schedule", Cause.OPERATOR)
        else:
            self.sets.start((name,), "schedule")

    def start(self, specs: Mapping[str, ServiceSpec]) -> None:
        """Take in the first configuration, and start what is to start by itself."""
        self._use_graph(specs)
        for spec in specs.values():
            self._add(spec)
        wanted = [name for name, spec in specs.items() if spec.autostart]
        self.sets.start(self.sets.names_for_start(wanted, only=False), "config")

    def planned(self) -> dict[str, ServiceSpec]:
        """Return what is to be, as far as it is under way: what a new configuration changes."""
        return {
            name: service.coming
            for name, service in self.services.items()
            if name not in self._leaving
        }

    def apply(
        self, specs: Mapping[str, ServiceSpec], spec: SupervisorSpec, *, restart: bool = True
    ) -> ReloadPlan:
        """Go over to another configuration; what did not change is not touched.

        Unless `restart`, what would be restarted gets its new spec with its next run.
        """
        self.spec = spec
        plan = plan_reload(self.planned(), specs)
        self._remove(plan.remove)
        self._use_graph(specs)
        stays = {*plan.update, *plan.refresh, *self._reverted(plan, specs)}
        for name in stays:
            self.services[name].use_live(specs[name])
        self._replace({name: specs[name] for name in plan.restart}, restart=restart)
        for name in plan.add:
            self._add_or_return(specs[name])
        wanted = [name for name in plan.add if specs[name].autostart]
        self.sets.start(self.sets.names_for_start(wanted, only=False), "config")
        return plan

    def _use_graph(self, specs: Mapping[str, ServiceSpec]) -> None:
        """Go over to other dependencies and groups."""
        self._rosters.use(self.spec.groups)
        self.starts.use(Graph(specs), self.spec.start_concurrency)

    def _reverted(self, plan: ReloadPlan, specs: Mapping[str, ServiceSpec]) -> list[str]:
        """Name those that wait for a restart that the file does not ask for any more."""
        changed = {*plan.add, *plan.restart}
        return [
            name
            for name in specs
            if name not in changed and self.services[name].pending is not None
        ]

    def _add(self, spec: ServiceSpec) -> None:
        service = self.services[spec.name] = Service(spec, self._hands, self)
        if self._outside.companions_of is not None:
            service.attend(self._outside.companions_of)
        self._outside.touched(spec.name)
        if spec.fault is not None:
            fault = spec.fault
            self._outside.tell(Told(ConfigUnreadable(spec.name, fault.subject, fault.error), None))

    def _add_or_return(self, spec: ServiceSpec) -> None:
        """Add a service, or take back one that is just leaving."""
        if spec.name in self._leaving:
            self._leaving.discard(spec.name)
            self._orders.drop(spec.name)
            self.services[spec.name].use_after_run(spec)
        else:
            self._add(spec)

    def _remove(self, names: Iterable[str]) -> None:
        """Stop these in reverse order, by the dependencies that they had, and forget them."""
        gone = tuple(names)
        self._leaving.update(gone)
        self._orders.begin(
            self.graph,
            {name: StopRequested("config", Cause.CONFIG) for name in reversed(gone)},
        )
        for name in gone:
            if name in self._leaving and self.services[name].state.phase not in _ACTIVE:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self._leaving.discard(name)
        self._orders.drop(name)
        service = self.services.pop(name)
        service.close()
        if self._hands.taps is not None:
            self._hands.taps.forget(name)
        self._outside.removed(name)

    def _replace(self, specs: Mapping[str, ServiceSpec], *, restart: bool) -> None:
        """Restart these with their new specs, and what is up and goes down with them."""
        for name, spec in specs.items():
            self.services[name].use_after_run(spec)
        wanted = [name for name in specs if restart and self.sets.is_wanted(name)]
        self.sets.restart(self.sets.names_for_restart(wanted, only=False), "config", Cause.CONFIG)

    def _find(self, name: str) -> Service | None:
        return self.services.get(name) or self.internals.get(name)

    def orphan_reaped(self, pid: int, status: ExitStatus) -> None:
        """Take note that an orphan is gone."""
        self.strays.reaped(pid, status)
        if self.stopping:
            self.shutdown.look_again()

    # -- shutting down ----------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon shuts down."""
        return self.shutdown.begun

    @property
    def shutdown_timeout(self) -> float:
        """Return the budget of a shutdown in seconds."""
        if self.spec.shutdown_timeout is not None:
            return self.spec.shutdown_timeout
        return SHUTDOWN_TIMEOUT_PID1 if self.pid1 else SHUTDOWN_TIMEOUT

    def shut_down(
        self,
        by: str,
        *,
        signum: int | None = None,
        service: str | None = None,
        code: int | None = 0,
    ) -> None:
        """Stop everything; the first request decides by whom and with which exit code.

        Without a code it will be that of the `main` service, however it ends.
        """
        self.strays.ending = True
        request = Request(by, signum, service, code)
        self.shutdown.begin(self.graph, self.shutdown_timeout, request)

    def pass_on(self, signum: int) -> None:
        """Hand a signal to CMD's process group, as a single-service init does."""
        for service in self.services.values():
            service.pass_on(signum)

    # -- end of a turn ----------------------------------------------------------------------------

    def settle(self) -> None:
        """Draw the conclusions that need the whole picture; called at the end of every turn."""
        seen = -1
        while seen != self._changes:
            seen = self._changes
            self._draw()
            if not self.starts.open():
                break
        if self.stopping:
            self.shutdown.settle()
        elif self._check_idle:
            self._check_idle = False
            self._exit_if_idle()

    def _draw(self) -> None:
        """Do what follows from the changes so far: these are changes, too."""
        if not self.stopping:
            self._rosters.advance()
            while self._crashed:
                self.sets.repeat_crash(self._crashed.popitem()[0])
        self._orders.advance()

    def _exit_if_idle(self) -> None:
        wants = self.spec.exit_when_idle
        if not (self.pid1 if wants is None else wants):
            return
        phases = [
            service.state.phase
            for name, service in self.services.items()
            if not self.starts.gate.is_stuck(name)  # that one will not start by itself any more
        ]
        if any(service.spec.schedule for service in self.services.values()):
            return  # there is always a next time
        ended = [phase for phase in phases if phase in {Phase.EXITED, Phase.FAILED}]
        if ended and not any(phase in _ACTIVE for phase in phases):
            self.shut_down("policy", code=EXIT_LIMIT if Phase.FAILED in ended else 0)

    # -- looking ----------------------------------------------------------------------------------

    def unready(self) -> Iterator[Service]:
        """Name who is not ready of those that matter: the critical, or all that should be up."""
        services = self.services.values()
        critical = [service for service in services if service.spec.critical]
        wanted = [service for service in services if service.state.wanted is Wanted.UP]
        for service in critical or wanted:
            if not is_ready(service.spec, service.state):
                yield service

    def counts(self) -> dict[str, int]:
        """Count the services in each phase."""
        counts = dict.fromkeys(Phase, 0)
        for service in self.services.values():
            counts[service.state.phase] += 1
        return {phase.value: count for phase, count in counts.items()}

    def dump(self) -> None:
        """Tell the state of every service, one event each."""
        for service in self.services.values():
            state = service.state
            notice = ServiceDumped(
                state.phase.value,
                state.wanted.value,
                is_ready(service.spec, state),
                state.restarts,
            )
            self._outside.tell(
                Told(notice, service.name, service.spec.group or None, state.run, state.pid)
            )


def _has_crashed(before: ServiceState, after: ServiceState) -> bool:
    """Tell whether a run has ended by itself, for good or with another one to follow."""
    end = after.last_exit
    return end is not None and end is not before.last_exit and end.cause not in ASKED_FOR
