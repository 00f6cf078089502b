"""Who is meant by a reference: groups, dependencies and `part_of`, all by full names."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from supervisord_pidfd.config import model
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.references import Ref
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.config.units import quoted
from supervisord_pidfd.core.spec import Condition, Dependency, GroupSpec, GroupStrategy, Tie

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

MAX_EDGES = 200_000
"""Of all services together; two services of 10,000 instances have 100 million between them."""


class Ties(NamedTuple):
    """Hold what ties one copy of a service to others."""

    dependencies: tuple[Dependency, ...] = ()
    part_of: tuple[str, ...] = ()


class Edges:
    """Resolve the references of all services; what names nobody is reported.

    `groups` maps the copies of services that are in a group to its name.
    """

    def __init__(
        self,
        tree: Tree,
        report: Report,
        names: Iterable[str],
        services: Mapping[str, model.Service],
        groups: "Mapping[str, tables.Group]",
    ) -> None:
        """Resolve; `names` are those of all services, also of such as are not in `services`."""
        self._tree = tree
        self._report = report
        self._services = services
        self._copies: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        for name, service in services.items():
            if service.instances:
                self._copies[name] = tuple(f"{name}@{copy}" for copy in service.instances)
                self._copies |= {copy: (copy,) for copy in self._copies[name]}
        self.groups: dict[str, str] = {}
        self.group_specs = tuple(self._grouped(groups))
        self._members = {group.name: group.members for group in self.group_specs}
        for name in services:  # a group of its own, for each service that is in none
            alone = tuple(c for c in self._copies[name] if c not in self.groups)
            self._members.setdefault(name, alone)
        self._after = dict(self._reversed())
        self._ties = {name: self._own(name, service) for name, service in services.items()}

    def of(self, copy: str) -> Ties:
        """Return the ties of one copy."""
        ties = self._ties.get(copy.partition("@")[0], Ties())
        later = self._after.get(copy)
        if later:
            ties = ties._replace(dependencies=tuple(dict.fromkeys((*ties.dependencies, *later))))
        return ties

    # -- groups -----------------------------------------------------------------------------------

    def _grouped(self, groups: "Mapping[str, tables.Group]") -> Iterator[GroupSpec]:
        placed: dict[str, Path] = {}
        for name, group in groups.items():
            members: list[str] = []
            for index, member in enumerate(group.services):
                path = ("group", name, "services", index)
                copies = self._copies.get(member)
                if copies is None:
                    self._nobody(path, member, self._copies)
                    continue
                other = next((placed[copy] for copy in copies if copy in placed), None)
                if other:
                    message = f"services: '{member}' is in a group already"
                    self._report.error(
                        self._tree.value(path), "conflict", message, key=path,
                        see_also=(self._tree.value(other),),
                    )  # fmt: skip
                    continue
                placed |= dict.fromkeys(copies, path)
                self.groups |= dict.fromkeys(copies, name)
                members += copies
            strategy = None if group.strategy is None else GroupStrategy(group.strategy)
            burst, interval = group.limit or (0, 0.0)
            spec = GroupSpec(name, tuple(members), burst=burst, interval=interval)
            yield spec if strategy is None else spec._replace(strategy=strategy)

    def _nobody(self, path: Path, name: str, known: Iterable[str]) -> None:
        close = difflib.get_close_matches(name, known, 1)
        what = "group" if name.startswith("@") else "service"
        self._report.error(
            self._tree.value(path), "no-such-service", f"{path[2]}: no {what} {quoted(name)}",
            key=path, hint=f"did you mean '{close[0]}'?" if close else None,
        )  # fmt: skip

    # -- references -------------------------------------------------------------------------------

    def _targets(self, path: Path, reference: Ref) -> tuple[str, ...]:
        """Return the full names of those who are meant."""
        name = reference.target
        found = self._members.get(name[1:]) if name[0] == "@" else self._copies.get(name)
        if found is None:
            known = [*self._copies, *(f"@{group}" for group in self._members)]
            self._nobody(path, name, known)
        return found or ()

    def _own(self, name: str, service: model.Service) -> Ties:
        ties = ((Tie.REQUIRES, service.requires), (Tie.WANTS, service.wants))
        dependencies = [
            Dependency(target, tie, reference.condition or self._usual(target))
            for tie, references in (*ties, (Tie.AFTER, service.after))
            for index, reference in enumerate(references or ())
            for target in self._targets(("service", name, tie.value, index), reference)
        ]
        part_of = [
            target
            for index, reference in enumerate(service.part_of or ())
            for target in self._targets(("service", name, "part_of", index), reference)
        ]
        return Ties(tuple(dict.fromkeys(dependencies)), tuple(dict.fromkeys(part_of)))

    def _reversed(self) -> Iterator[tuple[str, list[Dependency]]]:
        """Yield what others say with `before`, as what the named ones wait for."""
        found: dict[str, list[Dependency]] = {}
        for name, service in self._services.items():
            for index, reference in enumerate(service.before or ()):
                condition = reference.condition or self._usual(name)
                edges = [Dependency(copy, Tie.AFTER, condition) for copy in self._copies[name]]
                for target in self._targets(("service", name, "before", index), reference):
                    found.setdefault(target, []).extend(edges)
        yield from found.items()

    def _usual(self, target: str) -> Condition:
        """Return what is waited for when nothing is said."""
        service = self._services.get(target.partition("@")[0])
        is_oneshot = service is not None and service.type == "oneshot"
        return Condition.EXITED_OK if is_oneshot else Condition.READY
