"""Who may start now: each service's view of those it waits for, kept up as they change.

A service that waits for one that gave up has given up itself, as far as others go: whoever only
`wants` it goes on. `Gate` follows that along the edges, at the cost of those it reaches.
"""

from collections.abc import Callable

from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted, health_of, is_ready
from supervisord_pidfd.core.planner import Graph, View, holds_back, is_met
from supervisord_pidfd.core.spec import Dependency, ServiceSpec, Tie


def view_of(spec: ServiceSpec, state: ServiceState) -> View:
    """Return what those who wait need to know; without checks a ready service is healthy."""
    phase = state.phase
    up = phase is Phase.RUNNING or (phase is Phase.STARTING and state.has_process)
    ready = is_ready(spec, state)
    return View(
        started=up or phase is Phase.EXITED,
        ready=ready,
        healthy=ready and (not spec.checks or health_of(spec, state) == "healthy"),
        exited=phase in {Phase.EXITED, Phase.FAILED},
        exited_ok=phase is Phase.EXITED,
        gone=state.wanted is Wanted.DOWN or phase is Phase.FAILED,
        waiting=phase is Phase.WAITING,
    )


class Gate:
    """Answer what a start waits for. `look` gives the view of a service by its name."""

    def __init__(self, graph: Graph, look: Callable[[str], View]) -> None:
        self._graph = graph
        self._look = look
        self._stuck: set[str] = set()

    def blocker(self, name: str) -> Dependency | None:
        """Return the first dependency that holds a start of this service back."""
        for dependency in self._graph.needs(name):
            if holds_back(dependency, self.view(dependency.target)):
                return dependency
        return None

    def view(self, name: str) -> View:
        """Return the view of a service; one that is stuck counts as gone."""
        view = self._look(name)
        return view._replace(gone=True) if name in self._stuck and view.waiting else view

    def is_stuck(self, name: str) -> bool:
        """Tell whether a service waits for what will not come by itself."""
        return name in self._stuck

    def follow(self, name: str) -> tuple[str, ...]:
        """Take in that a service has changed; return who waits and may look again."""
        woken: dict[str, None] = {}
        self._settle(name)
        todo = [name]
        while todo:
            for other in self._graph.dependents(todo.pop()):
                if self._look(other).waiting:
                    woken[other] = None
                    if self._settle(other):
                        todo.append(other)
        return tuple(woken)

    def _settle(self, name: str) -> bool:
        """Find out anew whether a service is stuck; return whether that has changed."""
        stuck = self._look(name).waiting and any(
            dependency.tie is Tie.REQUIRES
            and not is_met(dependency, view := self.view(dependency.target))
            and view.gone
            for dependency in self._graph.needs(name)
        )
        if stuck is (name in self._stuck):
            return False
        if stuck:
            self._stuck.add(name)
        else:
            self._stuck.discard(name)
        return True
