"""Who may start: what holds a service, and how it learns that nothing does any more.

A start is held by an order that is under way, by the service's dependencies, by its group and by
`start_concurrency`. Whoever waits is woken when what it waited for has changed, and looks again
at the end of the turn; a turn that has gone on for long enough leaves the rest to the next.
"""

from collections.abc import Mapping

from supervisord_pidfd.core.events import GateOpened
from supervisord_pidfd.core.gate import Gate, view_of
from supervisord_pidfd.core.lifecycle import Held, Phase, ServiceState
from supervisord_pidfd.core.planner import ABSENT, Graph, View, holds_back
from supervisord_pidfd.core.spec import Dependency
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.orders import Orders
from supervisord_pidfd.rosters import Rosters
from supervisord_pidfd.service import Service

TURN_S = 0.003
"""How long one turn may go on with starts that became possible."""

PLACE, STOP = "start_concurrency", "stop"
"""What holds a start beside services and groups: the limit, or a stop that is due."""


class Starts:
    """Keep the gate of all services. Borrows them; `limit` of 0 is none."""

    def __init__(
        self, loop: Loop, services: Mapping[str, Service], orders: Orders, rosters: Rosters
    ) -> None:
        self.graph = Graph({})
        self.gate = Gate(self.graph, self._view)
        self.limit = 0
        self._loop = loop
        self._services = services
        self._orders = orders
        self._rosters = rosters
        self._starting = 0
        self._woken: dict[str, None] = {}
        self._more = loop.deadline(lambda: None)  # `open` is called at the end of every turn

    def use(self, graph: Graph, limit: int) -> None:
        """Go over to other dependencies; whoever waits looks again."""
        self.graph = graph
        self.gate = Gate(graph, self._view)
        self.limit = limit
        for name, service in self._services.items():
            if service.state.phase is Phase.WAITING:
                self.gate.follow(name)
                self.wake(name)

    def held(self, service: Service) -> Held | None:
        """Name what a start has to wait for."""
        name = service.name
        if self._orders.is_pending(name):
            return Held(STOP)
        for dependency in self.graph.needs(name):
            if self._holds(dependency):
                return Held(dependency.target, dependency.condition.value)
        group = self._rosters.holds(service)
        if group is not None:
            return Held(group)
        return Held(PLACE) if self._is_full else None

    def unmet(self, name: str) -> tuple[Dependency, ...]:
        """Return what holds a start of this service back now."""
        return tuple(one for one in self.graph.needs(name) if self._holds(one))

    def _holds(self, dependency: Dependency) -> bool:
        target = dependency.target
        return self._orders.is_pending(target) or holds_back(dependency, self.gate.view(target))

    @property
    def _is_full(self) -> bool:
        return 0 < self.limit <= self._starting

    def _view(self, name: str) -> View:
        service = self._services.get(name)
        return ABSENT if service is None else view_of(service.spec, service.state)

    def changed(self, service: Service, before: ServiceState) -> None:
        """Follow a service's state: it may have freed a place, or be what others wait for."""
        name, after = service.name, service.state
        self._starting += (after.phase is Phase.STARTING) - (before.phase is Phase.STARTING)
        if after.phase is Phase.WAITING and before.phase is not Phase.WAITING:
            held = self.held(service)
            if held is None or held.on in {PLACE, STOP}:
                self.wake(name)
        if not self.graph.is_alone(name):
            for other in self.gate.follow(name):
                self.wake(other)

    def wake(self, name: str) -> None:
        """Let a service that waits look again, at the end of this turn."""
        self._woken[name] = None

    def wake_dependents(self, name: str) -> None:
        """Let all look again who depend on a service."""
        for other in self.graph.dependents(name):
            self.wake(other)

    def open(self) -> bool:
        """Let those start who need not wait any longer; tell whether this turn sufficed."""
        clock = self._loop.clock
        until = clock.now() + TURN_S
        while self._woken and not self._is_full:
            if clock.now() > until:
                self._more.arm(until)
                return False
            name = next(iter(self._woken))
            del self._woken[name]
            service = self._services.get(name)
            if service is not None:
                service.post(GateOpened())
        return True
