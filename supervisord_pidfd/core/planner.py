"""Who waits for whom: the graph of the services, and what it asks for.

An edge is a `Dependency` of the service that waits: its target, its tie, and the condition it
waits for. Three ties say what a target that is not there means:

- `requires`: never start without it. It is started along, and stopped last.
- `wants`: start it along and wait for it, but go on once it has given up.
- `after`: wait for it if it is to run at all, and go on once it has given up.

`part_of` is no edge of that kind: it says whose stops and restarts are repeated, nothing of order.

Everything here is iterative and linear in the edges it meets: a chain of ten thousand services
neither exhausts the stack nor takes longer than a fan of ten thousand.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, assert_never

from supervisord_pidfd.core.spec import Condition, Dependency, ServiceSpec, Tie

_STARTED_ALONG = frozenset({Tie.REQUIRES, Tie.WANTS})


class View(NamedTuple):
    """Hold what those who wait need to know of a service.

    The first five members are the conditions. `gone` is true for one that will not get there
    unless somebody asks for it: it is down, has failed, or waits for one that has. `waiting` says
    that it waits itself.
    """

    started: bool = False
    ready: bool = False
    healthy: bool = False
    exited: bool = False
    exited_ok: bool = False
    gone: bool = True
    waiting: bool = False


ABSENT = View()
"""The view of a service that does not exist (any more)."""


def is_met(dependency: Dependency, view: View) -> bool:
    """Tell whether the target is where the dependency wants it."""
    match dependency.condition:
        case Condition.STARTED:
            return view.started
        case Condition.READY:
            return view.ready
        case Condition.HEALTHY:
            return view.healthy
        case Condition.EXITED:
            return view.exited
        case Condition.EXITED_OK:
            return view.exited_ok
        case _:
            assert_never(dependency.condition)


def holds_back(dependency: Dependency, view: View) -> bool:
    """Tell whether the one that waits must go on waiting for this target."""
    if is_met(dependency, view):
        return False
    return dependency.tie is Tie.REQUIRES or not view.gone


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Return a cycle as a path that ends where it began, `("a", "b", "a")`; None without one.

    Names that `edges` has no row for have no edges.
    """
    finished: set[str] = set()
    for root in edges:
        if root in finished:
            continue
        path: dict[str, None] = {root: None}
        trail: list[tuple[str, Iterator[str]]] = [(root, iter(edges[root]))]
        while trail:
            name, rest = trail[-1]
            following = next(rest, None)
            if following is None:
                trail.pop()
                del path[name]
                finished.add(name)
            elif following in path:
                names = list(path)
                return (*names[names.index(following) :], following)
            elif following not in finished and following in edges:
                path[following] = None
                trail.append((following, iter(edges[following])))
    return None


class Graph:
    """Hold all edges, both ways. Built anew when a configuration is applied; never changed.

    Targets that do not exist are kept as edges: whoever requires them waits.
    """

    def __init__(self, specs: Mapping[str, ServiceSpec]) -> None:
        self._needs: dict[str, tuple[Dependency, ...]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._requirers: dict[str, dict[str, None]] = {}
        self._parts: dict[str, dict[str, None]] = {}
        for name, spec in specs.items():
            if spec.dependencies:
                self._needs[name] = spec.dependencies
            for dependency in spec.dependencies:
                self._dependents.setdefault(dependency.target, {})[name] = None
                if dependency.tie is Tie.REQUIRES:
                    self._requirers.setdefault(dependency.target, {})[name] = None
            for whole in spec.part_of:
                self._parts.setdefault(whole, {})[name] = None

    def needs(self, name: str) -> tuple[Dependency, ...]:
        """Return what a service waits for, as it is written."""
        return self._needs.get(name, ())

    def is_alone(self, name: str) -> bool:
        """Tell whether a service neither waits for another nor is waited for."""
        return name not in self._needs and name not in self._dependents

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return who waits for a service, by whatever tie."""
        return tuple(self._dependents.get(name, ()))

    def requirers(self, name: str) -> tuple[str, ...]:
        """Return who requires a service."""
        return tuple(self._requirers.get(name, ()))

    def parts(self, name: str) -> tuple[str, ...]:
        """Return who is part of a service."""
        return tuple(self._parts.get(name, ()))

    # -- sets -------------------------------------------------------------------------------------

    def order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Sort names so that each comes after all it waits for, else as they are given.

        What lies between two of them counts, whether it is among the names or not. The reverse is
        the order to stop in.
        """
        wanted = dict.fromkeys(names)
        found: list[str] = []
        seen: set[str] = set()
        for root in wanted:
            if root in seen:
                continue
            seen.add(root)
            trail = [(root, iter(self.needs(root)))]
            while trail:
                name, rest = trail[-1]
                dependency = next(rest, None)
                if dependency is None:
                    trail.pop()
                    if name in wanted:
                        found.append(name)
                elif dependency.target not in seen:
                    seen.add(dependency.target)
                    trail.append((dependency.target, iter(self.needs(dependency.target))))
        return tuple(found)

    def starts_with(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names and all that a start of them also starts, in the order to start in."""
        reached = dict.fromkeys(names)
        todo = list(reached)
        while todo:
            for dependency in self.needs(todo.pop()):
                if dependency.tie in _STARTED_ALONG and dependency.target not in reached:
                    reached[dependency.target] = None
                    todo.append(dependency.target)
        return self.order(reached)

    def stops_with(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return the names and all that a stop of them also stops, in the order to stop in.

        Those are who requires them or is part of them, and who requires or is part of those. Each
        comes with the service that it goes down with; None for those that were named.
        """
        reached: dict[str, str | None] = dict.fromkeys(names)
        todo = list(reached)
        while todo:
            name = todo.pop()
            for other in (*self.requirers(name), *self.parts(name)):
                if other not in reached:
                    reached[other] = name
                    todo.append(other)
        return {name: reached[name] for name in reversed(self.order(reached))}

    def parts_of(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return the names and all that are part of them, as `stops_with` does for a crash."""
        reached: dict[str, str | None] = dict.fromkeys(names)
        todo = list(reached)
        while todo:
            name = todo.pop()
            for other in self.parts(name):
                if other not in reached:
                    reached[other] = name
                    todo.append(other)
        return {name: reached[name] for name in reversed(self.order(reached))}
