"""Commands about sets of services: who is meant beside those that are named, and in which order.

A start takes along what it needs, a stop what needs it; `parts` repeat what happens to a whole.
"""

from collections.abc import Iterable, Mapping

from supervisord_pidfd.core.events import RestartRequested, StartRequested, StopRequested
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.lifecycle import Phase, Wanted
from supervisord_pidfd.core.planner import Graph
from supervisord_pidfd.core.spec import ServiceType, Tie
from supervisord_pidfd.orders import Orders
from supervisord_pidfd.service import Service
from supervisord_pidfd.starts import Starts

_COMING = frozenset({Phase.WAITING, Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.BACKOFF})


class Sets:
    """Start, stop and restart services together. Borrows them."""

    def __init__(self, services: Mapping[str, Service], orders: Orders, starts: Starts) -> None:
        self._services = services
        self._orders = orders
        self._starts = starts

    @property
    def _graph(self) -> Graph:
        return self._starts.graph

    def names_for_start(self, names: Iterable[str], *, only: bool) -> tuple[str, ...]:
        """Return these and, unless `only`, what they need and is not there, in order."""
        named = dict.fromkeys(names)
        every = self._graph.order(named) if only else self._graph.starts_with(named)
        return tuple(
            name
            for name in every
            if name in named or (name in self._services and not self._has_done(name))
        )

    def names_for_stop(self, names: Iterable[str], *, only: bool) -> dict[str, str | None]:
        """Return these and, unless `only`, what goes down with them, in the order to stop in.

        Each comes with the one that it goes down with; None for those that were named.
        """
        if only:
            return dict.fromkeys(reversed(self._graph.order(names)))
        return self._graph.stops_with(names)

    def names_for_restart(self, names: Iterable[str], *, only: bool) -> dict[str, str | None]:
        """Return these and, unless `only`, what is up and goes down with them, as for a stop."""
        every = self.names_for_stop(names, only=only)
        return {
            name: along for name, along in every.items() if along is None or self.is_wanted(name)
        }

    def start(self, names: Iterable[str], by: str) -> None:
        """Ask for a start of each; a newer command, so no order is about them any more."""
        for name in names:
            self._orders.drop(name)
            service = self._services.get(name)
            if service is not None:
                service.post(StartRequested(by))

    def stop(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Stop all of these, each after what depends on it; see `names_for_stop`."""
        self._order(StopRequested, names, by, cause)

    def restart(self, names: Mapping[str, str | None], by: str, cause: Cause) -> None:
        """Stop all of these in that order, and start each when what it waits for is back."""
        self._order(RestartRequested, names, by, cause)

    def _order(
        self,
        event: type[StopRequested | RestartRequested],
        names: Mapping[str, str | None],
        by: str,
        cause: Cause,
    ) -> None:
        """Ask this of those named, and of the others because of the one they go with."""
        self._orders.begin(
            self._graph,
            {
                name: event(by, cause)
                if along is None
                else event(f"dependency:{along}", Cause.DEPENDENCY)
                for name, along in names.items()
                if name in self._services
            },
        )

    def is_wanted(self, name: str) -> bool:
        """Tell whether a service should be up."""
        service = self._services.get(name)
        return service is not None and service.state.wanted is Wanted.UP

    def _has_done(self, name: str) -> bool:
        """Tell whether a oneshot has had its run: nobody runs it again by needing it."""
        service = self._services[name]
        return service.spec.type is ServiceType.ONESHOT and service.state.phase is Phase.EXITED

    def repeat_crash(self, name: str) -> None:
        """Repeat what became of a service that ended by itself for those that are part of it.

        Where it stays down, so do they; but whoever requires it waits for it instead.
        """
        whole = self._services.get(name)
        parts = self._graph.parts_of((name,))
        events: dict[str, StopRequested | RestartRequested] = {}
        for part, along in parts.items():
            if along is None or not self.is_wanted(part) or whole is None:
                continue
            waits = any(
                one.tie is Tie.REQUIRES and one.target == along for one in self._graph.needs(part)
            )
            event = RestartRequested if waits or whole.state.phase in _COMING else StopRequested
            events[part] = event(f"dependency:{along}", Cause.DEPENDENCY)
        if events:
            self._orders.begin(self._graph, events)
