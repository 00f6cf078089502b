"""Stops and restarts of sets of services, each carried out from the dependents down.

An order says what each of its members is to be asked (`StopRequested`, `RestartRequested`). A
member is asked when nothing that depends on it has a process any more; until then it is *pending*,
and no service that depends on it is started. A newer command about a member takes it out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.events import RestartRequested, StopRequested
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.planner import Graph
from supervisord_pidfd.core.sequence import StopSequence
from supervisord_pidfd.service import Service

WITH_PROCESSES = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING})


class Order(NamedTuple):
    """Hold one order: who is next, and what each is asked."""

    sequence: StopSequence
    events: Mapping[str, StopRequested | RestartRequested]


class Orders:
    """Carry out all orders that are under way. Borrows the services.

    `dropped` is called with each service that is not pending any more without having been asked.
    """

    def __init__(self, services: Mapping[str, Service], dropped: Callable[[str], None]) -> None:
        self._services = services
        self._dropped = dropped
        self._of: dict[str, Order] = {}
        self._active: list[Order] = []

    def begin(self, graph: Graph, events: Mapping[str, StopRequested | RestartRequested]) -> None:
        """Ask those now who need not wait; the others follow by `ended` and `advance`."""
        for name in events:
            self.drop(name)
        order = Order(StopSequence(graph, events, self._has_process), events)
        self._of.update(dict.fromkeys(events, order))
        self._active.append(order)
        self.advance()

    def is_pending(self, name: str) -> bool:
        """Tell whether a service is still to be asked for a stop or a restart."""
        return name in self._of

    def drop(self, name: str) -> None:
        """Take a service out: a newer command is about it."""
        order = self._of.pop(name, None)
        if order is not None:
            order.sequence.drop(name)
            self._dropped(name)

    def ended(self, name: str) -> None:
        """Take in that a run of a service is over, or the service gone."""
        for order in self._active:
            order.sequence.ended(name)

    def force(self, names: Iterable[str]) -> None:
        """Let these be asked, whoever depends on them: there is no time left to wait."""
        forced = tuple(names)
        for order in self._active:
            order.sequence.force(forced)

    def advance(self) -> None:
        """Ask all those whose turn has come."""
        for order in tuple(self._active):
            while taken := order.sequence.take():
                for name in taken:
                    self._ask(order, name)
        self._active = [order for order in self._active if not order.sequence.is_over]

    def _ask(self, order: Order, name: str) -> None:
        if self._of.get(name) is not order:
            return
        del self._of[name]
        service = self._services.get(name)
        if service is not None:
            service.post(order.events[name])

    def _has_process(self, name: str) -> bool:
        service = self._services.get(name)
        return service is not None and service.state.phase in WITH_PROCESSES
