"""Who is meant by a reference: groups, dependencies and `part_of`, all by full names."""

import itertools
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

MAX_CYCLES = 20
MAX_HINTS = 20
"""Names that get a suggestion; among ten thousand services it takes a while to find one."""
MAX_SHOWN = 12
"""Names of one cycle that are printed."""
MAX_EDGES = 200_000
"""Of all services together; two services of 10,000 instances have 100 million between them."""


class Ties(NamedTuple):
    """Hold what ties one copy of a service to others."""

    dependencies: tuple[Dependency, ...] = ()
    part_of: tuple[str, ...] = ()


class Meant(NamedTuple):
    """Hold one service that a reference means, and where the reference stands."""

    target: str
    condition: Condition | None
    path: Path


class Edges:
    """Resolve the references of all services; what names nobody is reported.

    `groups` maps the copies of services that are in a group to its name, `waits` each copy to
    those it waits for; it is empty if some wait for themselves.
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
        self._slips = 0
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
            if alone:
                self._members.setdefault(name, alone)
        self._count = 0
        self._after = self._reversed()
        self._ties = {name: self._own(name, service) for name, service in services.items()}
        self.waits: dict[str, dict[str, None]] = {}
        if self._count:
            waits = {
                copy: {one.target: None for one in self.of(copy).dependencies}
                for name in services
                for copy in self._copies[name]
            }
            self.waits = {} if self._has_cycles(waits) else waits

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
        import difflib  # noqa: PLC0415 - most files have no slip

        self._slips += 1
        close = difflib.get_close_matches(name, known, 1) if self._slips <= MAX_HINTS else []
        what = "group" if name.startswith("@") else "service"
        self._report.error(
            self._tree.value(path), "no-such-service", f"{path[2]}: no {what} {quoted(name)}",
            key=path, hint=f"did you mean '{close[0]}'?" if close else None,
        )  # fmt: skip

    # -- references -------------------------------------------------------------------------------

    def _targets(self, path: Path, reference: Ref) -> tuple[str, ...]:
        """Return the full names of those who are meant; it is reported if nobody is."""
        found = self._whom(reference)
        if found is None:
            group = reference.target.startswith("@")
            known = [f"@{name}" for name in self._members] if group else self._copies
            self._nobody(path, reference.target, known)
        return found or ()

    def _whom(self, reference: Ref) -> tuple[str, ...] | None:
        name = reference.target
        return self._members.get(name[1:]) if name[0] == "@" else self._copies.get(name)

    def _meant(self, name: str, key: str, references: tuple[Ref, ...] | None) -> Iterator[Meant]:
        """Yield who is meant by the references of one key, one by one; as many as are allowed."""
        for index, reference in enumerate(references or ()):
            path: Path = ("service", name, key, index)
            targets = self._targets(path, reference)
            self._count += len(targets) * len(self._copies[name])
            if self._count > MAX_EDGES:
                message = f"{key}: more than {MAX_EDGES} dependencies of all services together"
                self._report.error(self._tree.value(path), "too-large", message, key=path)
                return
            for target in targets:
                yield Meant(target, reference.condition, path)

    def _own(self, name: str, service: model.Service) -> Ties:
        ties = ((Tie.REQUIRES, service.requires), (Tie.WANTS, service.wants))
        dependencies = [
            Dependency(target, tie, condition or self._usual(target))
            for tie, references in (*ties, (Tie.AFTER, service.after))
            for target, condition, _ in self._meant(name, tie.value, references)
        ]
        part_of = [target for target, _, _ in self._meant(name, "part_of", service.part_of)]
        return Ties(tuple(dict.fromkeys(dependencies)), tuple(dict.fromkeys(part_of)))

    def _reversed(self) -> dict[str, list[Dependency]]:
        """Return what others say with `before`, as what the named ones wait for."""
        found: dict[str, list[Dependency]] = {}
        for name, service in self._services.items():
            for target, condition, _ in self._meant(name, "before", service.before):
                usual = condition or self._usual(name)
                found.setdefault(target, []).extend(
                    Dependency(copy, Tie.AFTER, usual) for copy in self._copies[name]
                )
        return found

    def _usual(self, target: str) -> Condition:
        """Return what is waited for when nothing is said."""
        service = self._services.get(target.partition("@")[0])
        is_oneshot = service is not None and service.type == "oneshot"
        return Condition.EXITED_OK if is_oneshot else Condition.READY

    # -- cycles -----------------------------------------------------------------------------------

    def _has_cycles(self, waits: dict[str, dict[str, None]]) -> bool:
        """Report who waits for itself, at the references that make it; tell whether any does."""
        from supervisord_pidfd.core.planner import find_cycle  # noqa: PLC0415 - few files need it

        for name, ties in self._ties.items():
            own = next((copy for copy in self._copies[name] if copy in ties.part_of), None)
            if own:
                self._tell_cycle((own, own), [self._reference(own, own, ("part_of",))])
        for number in range(MAX_CYCLES):
            cycle = find_cycle(waits)
            if cycle is None:
                return number > 0
            paths = [self._made_by(one, other) for one, other in itertools.pairwise(cycle)]
            self._tell_cycle(cycle, paths)
            self._cut(waits, paths[-1])  # none is told twice
        return True

    def _tell_cycle(self, cycle: tuple[str, ...], paths: list[Path]) -> None:
        if len(cycle) > MAX_SHOWN:
            cycle = (*cycle[:MAX_SHOWN], "…", cycle[-1])
        places = [self._tree.value(path) for path in paths[:MAX_SHOWN]]
        self._report.error(
            places[0], "cycle", f"{paths[0][2]}: waits for itself: {' → '.join(cycle)}",
            key=paths[0], see_also=[place for place in places if place != places[0]],
        )  # fmt: skip

    def _cut(self, waits: dict[str, dict[str, None]], path: Path) -> None:
        """Take out the edges that a reference makes."""
        _, base, key, index = path
        copies = self._copies[str(base)]
        targets = self._whom(getattr(self._services[str(base)], str(key))[index]) or ()
        if key == "before":
            copies, targets = targets, copies
        for copy in copies:
            for target in targets:
                waits.get(copy, {}).pop(target, None)

    def _made_by(self, waiting: str, target: str) -> Path:
        """Return the reference that lets the first wait for the second."""
        ties = tuple(tie.value for tie in Tie)
        return self._reference(waiting, target, ties) or self._reference(
            target, waiting, ("before",)
        )

    def _reference(self, name: str, meant: str, keys: tuple[str, ...]) -> Path:
        """Return the reference of a service, among these keys, that means another."""
        base = name.partition("@")[0]
        for key in keys:
            for index, reference in enumerate(getattr(self._services[base], key) or ()):
                if meant in (self._whom(reference) or ()):
                    return ("service", base, key, index)
        return ()
