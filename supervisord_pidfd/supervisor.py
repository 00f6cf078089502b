"""All services together: start them, keep the gate, end what escaped, shut down once.

Shutdown is a one-way latch with a budget. The gateway ends first; then every service is asked to
stop, each with SIGKILL no later than `budget - reserve`; orphans follow; when nothing is left, or
the budget is spent, the daemon is done. A second request only hastens it.
"""

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.events import (
    GateOpened,
    KillRequested,
    RestartRequested,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause, Exited, ExitStatus, Signaled
from supervisord_pidfd.core.lifecycle import (
    EXIT_LIMIT,
    Held,
    Phase,
    ServiceState,
    Wanted,
    is_ready,
)
from supervisord_pidfd.core.notices import (
    ConfigUnreadable,
    DaemonHastened,
    DaemonStopping,
    OrphanReaped,
    ServiceDumped,
    Told,
)
from supervisord_pidfd.core.reload import ReloadPlan, plan_reload
from supervisord_pidfd.core.spec import ServiceSpec, StopStep, SupervisorSpec
from supervisord_pidfd.escapees import Identification
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.orphans import Owner
from supervisord_pidfd.service import CompanionsOf, Service

HASTEN_AFTER = 0.5
"""A second signal sooner than this is the same Ctrl-C, seen twice."""

REKILL_EVERY = 0.5
ORPHAN_PATIENCE = 10.0
"""How long orphans may take to end by themselves at shutdown: as long as a service by default."""

SHUTDOWN_TIMEOUT = 80.0
SHUTDOWN_TIMEOUT_PID1 = 8.0
KILL_RESERVE = 2.0

_ENDING_FIRST = (":gateway", ":checker")
_ACTIVE = frozenset({Phase.WAITING, Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.BACKOFF})
_WITH_PROCESSES = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING})


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
    """Look after all services."""

    def __init__(
        self, hands: Hands, outside: Outside, spec: SupervisorSpec, *, pid1: bool
    ) -> None:
        self.services: dict[str, Service] = {}
        self.internals: dict[str, Service] = {}
        self.spec = spec
        self.pid1 = pid1
        self.stopping = False
        self.exit_code = 0
        self.listeners: list[Callable[[Service, ServiceState], None]] = []
        self._code_of_main = False
        self.stop_began = 0.0
        self._hands = hands
        self._outside = outside
        self._starting = 0
        self._held: dict[str, None] = {}
        self._leaving: set[str] = set()
        self._cleaning: set[str] = set()
        self._check_idle = False
        self._finished = False
        self._budget = math.inf
        self._progress = hands.loop.deadline(self._shutdown_progress)

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
        """Name what a start has to wait for: a place among those that start at once."""
        limit = self.spec.start_concurrency
        if limit and self._starting >= limit and not service.internal:
            return Held("start_concurrency")
        return None

    def changed(self, service: Service, before: ServiceState) -> None:
        """Follow a service's state: listeners, gate, leftovers, removal, idleness, shutdown."""
        after = service.state
        name = service.name
        self._outside.touched(name)
        for listener in self.listeners:
            listener(service, before)
        if after.phase is before.phase and after.ended is before.ended:
            return  # as after an immediate restart, which was taken in one go
        if after.ended is not None:
            self._cleaning.add(name)
        else:
            self._cleaning.discard(name)
        if service.internal:
            return
        if before.phase is not after.phase:
            self._follow_gate(name, before.phase, after.phase)
        if after.phase not in _ACTIVE:
            self._check_idle = True
            if name in self._leaving:
                self._forget(name)

    def end_daemon(self, service: Service, code: int) -> None:
        """Shut down because of this service, with this exit code."""
        if self._code_of_main and service.spec.main:
            self.exit_code = code
        self.shut_down("policy", service=service.name, code=code)

    def _follow_gate(self, name: str, before: Phase, after: Phase) -> None:
        self._starting += (after is Phase.STARTING) - (before is Phase.STARTING)
        if after is Phase.WAITING:
            self._held[name] = None
        elif before is Phase.WAITING:
            self._held.pop(name, None)
        if before is Phase.STARTING and self._held and not self.stopping:
            following = self.services.get(next(iter(self._held)))
            if following is not None:
                following.post(GateOpened())

    # -- services come and go ---------------------------------------------------------------------

    def start(self, specs: Mapping[str, ServiceSpec]) -> None:
        """Take in the first configuration, and start what is to start by itself."""
        for spec in specs.values():
            self._add(spec)
        for spec in specs.values():
            if spec.autostart:
                self.services[spec.name].post(StartRequested("config"))

    def names_for_start(self, names: Iterable[str], *, only: bool) -> tuple[str, ...]:  # noqa: ARG002
        """Return whom a start of these starts, in order."""
        return tuple(names)

    def names_for_stop(self, names: Iterable[str], *, only: bool) -> tuple[str, ...]:  # noqa: ARG002
        """Return whom a stop of these stops, in order."""
        return tuple(names)

    def start_names(self, names: Iterable[str], by: str) -> None:
        """Ask for a start of each."""
        for name in names:
            self.services[name].post(StartRequested(by))

    def stop_names(self, names: Iterable[str], by: str, cause: Cause) -> None:
        """Ask for a stop of each."""
        for name in names:
            self.services[name].post(StopRequested(by, cause))

    def restart_names(self, names: Iterable[str], by: str, cause: Cause) -> None:
        """Ask for a new run of each."""
        for name in names:
            self.services[name].post(RestartRequested(by, cause))

    def apply(self, specs: Mapping[str, ServiceSpec], spec: SupervisorSpec) -> ReloadPlan:
        """Go over to another configuration; what did not change is not touched."""
        self.spec = spec
        current = {
            name: service.pending or service.spec
            for name, service in self.services.items()
            if name not in self._leaving
        }
        plan = plan_reload(current, specs)
        for name in plan.remove:
            self._remove(name)
        for name in plan.update + plan.refresh:
            self.services[name].use(specs[name])
        for name in plan.restart:
            self._replace(self.services[name], specs[name])
        for name in plan.add:
            self._add_or_return(specs[name])
        return plan

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
            self.services[spec.name].use_after_run(spec)
        else:
            self._add(spec)
        if spec.autostart:
            self.services[spec.name].post(StartRequested("config"))

    def _remove(self, name: str) -> None:
        service = self.services[name]
        self._leaving.add(name)
        service.post(StopRequested("config", Cause.CONFIG))
        if service.state.phase not in _ACTIVE and name in self._leaving:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._leaving.discard(name)
        service = self.services.pop(name)
        service.close()
        self._outside.removed(name)

    def _replace(self, service: Service, spec: ServiceSpec) -> None:
        service.use_after_run(spec)
        if service.state.wanted is Wanted.UP:
            service.post(RestartRequested("config", Cause.CONFIG))

    # -- orphans ----------------------------------------------------------------------------------

    def look_for_orphans(self) -> None:
        """Find children that we did not spawn; called before a reap, while zombies are listed."""
        found = self._hands.orphans.look(self._hands.reaper.knows, len(self._hands.reaper))
        if found:
            self._identify(found)

    def orphan_reaped(self, pid: int, status: ExitStatus) -> None:
        """Take note that an orphan is gone."""
        self._hands.orphans.forget(pid)
        code = status.code if isinstance(status, Exited) else None
        signum = status.signum if isinstance(status, Signaled) else None
        self._outside.tell(Told(OrphanReaped(code, signum, pid)))
        if self._cleaning:
            self.look_for_orphans()  # it may have left children of its own, which are ours now
        for name in tuple(self._cleaning):
            self._recheck(name)
        if self.stopping:
            self._progress.arm(self._hands.loop.clock.now())

    def _recheck(self, name: str) -> None:
        service = self.services.get(name) or self.internals.get(name)
        if service is not None:
            service.recheck_scope()

    def _identify(self, pids: list[int]) -> None:
        """Have a child read whose these are: their memory may block whoever reads it."""
        Identification(self._hands.loop, self._hands.reaper, pids, self._identified)

    def _identified(self, pid: int, owner: Owner) -> None:
        self._hands.orphans.identify(pid, owner)
        service = self.services.get(owner.service)
        if service is not None:
            service.orphan_identified(pid)
        if self.stopping:
            self._hands.orphans.signal(pid, signal.SIGTERM)
        for name in tuple(self._cleaning):
            self._recheck(name)

    # -- shutting down ----------------------------------------------------------------------------

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
        if self.stopping:
            return
        now = self._hands.loop.clock.now()
        self.stopping = True
        self.exit_code = code or 0
        self._code_of_main = code is None
        self.stop_began = now
        timeout = self.shutdown_timeout
        self._budget = now + timeout
        kill_by = self._budget - min(KILL_RESERVE, timeout / 5)
        self._outside.tell(Told(DaemonStopping(by, signum, service, timeout)))
        self.look_for_orphans()
        for helper in self._helpers():
            helper.post(StopRequested("shutdown", kill_by=kill_by))
        for one in reversed(tuple(self.services.values())):
            one.post(StopRequested("shutdown", kill_by=kill_by))
        self._end_orphans(signal.SIGTERM)
        self._progress.arm(now)

    def hasten(self, signum: int) -> None:
        """Kill all that is left; a repeat within `HASTEN_AFTER` is the same request."""
        if self._hands.loop.clock.now() - self.stop_began < HASTEN_AFTER:
            return
        self._outside.tell(Told(DaemonHastened(signum)))
        for service in self._alive():
            service.post(KillRequested())
        self._end_orphans(signal.SIGKILL)

    def pass_on(self, signum: int) -> None:
        """Hand a signal to CMD's process group, as a single-service init does."""
        for service in self.services.values():
            service.pass_on(signum)

    def stop_with(self, signum: int) -> None:
        """Let this be the stop signal of every service, for the shutdown that follows."""
        for service in self.services.values():
            stop = service.spec.stop
            steps = (StopStep(signum, stop.timeout),)
            service.spec = service.spec._replace(stop=stop._replace(steps=steps))

    def left_alive(self) -> int:
        """Count services that still have processes, and orphans."""
        return sum(1 for service in self._alive() if not service.internal) + len(
            self._hands.orphans
        )

    def _helpers(self) -> list[Service]:
        """Return the helpers that end with the services; the logger stays for what is to tell."""
        return [self.internals[name] for name in _ENDING_FIRST if name in self.internals]

    def _alive(self) -> list[Service]:
        candidates = [*self.services.values(), *self._helpers()]
        return [service for service in candidates if service.state.phase in _WITH_PROCESSES]

    def _end_orphans(self, signum: int) -> None:
        for pid in self._hands.orphans.all:
            self._hands.orphans.signal(pid, signum)
            self._hands.orphans.signal(pid, signal.SIGCONT)

    def _shutdown_progress(self) -> None:
        """Finish when nothing is left; kill orphans when the time for asking is over."""
        if self._finished:
            return
        now = self._hands.loop.clock.now()
        alive = self._alive()
        if not alive:
            self.look_for_orphans()
        if (not alive and not len(self._hands.orphans)) or now >= self._budget:
            if self.left_alive():
                self.exit_code = EXIT_LIMIT
            self._finished = True
            self._outside.finished()
            return
        if not alive:
            soon = now >= self._budget - min(KILL_RESERVE, self.shutdown_timeout / 5)
            patient = now - self.stop_began < ORPHAN_PATIENCE
            self._end_orphans(signal.SIGTERM if patient and not soon else signal.SIGKILL)
        self._progress.arm(min(self._budget, now + REKILL_EVERY))

    # -- end of a turn ----------------------------------------------------------------------------

    def settle(self) -> None:
        """Draw the conclusions that need the whole picture; called at the end of every turn."""
        if self.stopping:
            if not self._finished and not self._alive():
                self._shutdown_progress()
        elif self._check_idle:
            self._check_idle = False
            self._exit_if_idle()

    def _exit_if_idle(self) -> None:
        wants = self.spec.exit_when_idle
        if not (self.pid1 if wants is None else wants):
            return
        phases = [service.state.phase for service in self.services.values()]
        ended = [phase for phase in phases if phase in {Phase.EXITED, Phase.FAILED}]
        if ended and not any(phase in _ACTIVE for phase in phases):
            self.shut_down("policy", code=EXIT_LIMIT if Phase.FAILED in ended else 0)

    # -- looking ----------------------------------------------------------------------------------

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
