"""Stop a set of services in reverse order: each only when nothing that depends on it is left.

A `Sequence` says who may be asked to stop now. It costs the edges among its members, once.
"""

from collections.abc import Callable, Iterable

from supervisord_pidfd.core.planner import Graph


class StopSequence:
    """Hold who is still to be asked. `has_process` tells whether a service has one now."""

    def __init__(
        self, graph: Graph, names: Iterable[str], has_process: Callable[[str], bool]
    ) -> None:
        members = dict.fromkeys(names)
        self._graph = graph
        self._has_process = has_process
        self._blocked_by: dict[str, set[str]] = {}
        self._open: dict[str, None] = {}
        for name in members:
            blockers = {
                other
                for other in graph.dependents(name)
                if other in members and has_process(other)
            }
            # Where there is no process nothing is cut off by a stop: a backoff ends at once.
            if blockers and has_process(name):
                self._blocked_by[name] = blockers
            else:
                self._open[name] = None

    @property
    def pending(self) -> tuple[str, ...]:
        """Return who has not been asked yet."""
        return (*self._open, *self._blocked_by)

    @property
    def is_over(self) -> bool:
        """Tell whether everybody has been asked."""
        return not self._open and not self._blocked_by

    def take(self) -> tuple[str, ...]:
        """Return who is to be asked now; each once."""
        taken, self._open = tuple(self._open), {}
        return taken

    def ended(self, name: str) -> None:
        """Take in that a service has no process any more, or is no more."""
        self._unblock_targets_of(name)
        if name in self._blocked_by:
            self._free(name)

    def drop(self, name: str) -> None:
        """Leave a service out: a newer command is about it. Nobody waits for it any longer."""
        self._open.pop(name, None)
        self._blocked_by.pop(name, None)
        self._unblock_targets_of(name)

    def force(self, names: Iterable[str]) -> None:
        """Let these be asked now, whoever is still there: the time for waiting is over."""
        for name in names:
            if name in self._blocked_by:
                self._free(name)

    def _unblock_targets_of(self, name: str) -> None:
        """Take one out of what its targets wait for."""
        for dependency in self._graph.needs(name):
            blockers = self._blocked_by.get(dependency.target)
            if blockers is not None:
                blockers.discard(name)
                if not blockers:
                    self._free(dependency.target)

    def _free(self, name: str) -> None:
        del self._blocked_by[name]
        self._open[name] = None
