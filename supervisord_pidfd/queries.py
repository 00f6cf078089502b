"""What clients may ask without changing anything, and the few changes that concern the daemon.

Answers that grow with the number of services are made in pieces, as the client reads them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd import wire
from supervisord_pidfd.commands import (
    INVALID_PARAMETER,
    NO_SUCH_SERVICE,
    REFUSED,
    Call,
)
from supervisord_pidfd.core.gate import view_of
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.naming import NoSuchNameError, TooManyGlobsError
from supervisord_pidfd.core.planner import ABSENT, is_met
from supervisord_pidfd.core.words import ended
from supervisord_pidfd.records import Records
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of

_WITH_END = frozenset({Phase.BACKOFF, Phase.FAILED, Phase.EXITED})


class Fleet(Protocol):
    """Be all services together."""

    services: dict[str, Service]
    internals: dict[str, Service]

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon shuts down."""
        ...

    def counts(self) -> dict[str, int]:
        """Count the services in each phase."""
        ...

    def unready(self) -> Iterator[Service]:
        """Name who is not ready of those that matter."""
        ...

    def shut_down(self, by: str) -> None:
        """Stop everything."""
        ...


class Sources(NamedTuple):
    """Hold where the answers come from.

    `resolve` turns names as typed into full names, or raises as `naming.expand` does; `families`
    gives the daemon's metrics.
    """

    fleet: Fleet
    records: Records
    resolve: Callable[[Iterable[str]], tuple[str, ...]]
    families: Callable[[], list[dict[str, Any]]]


class Queries:
    """Answer the methods that look, and those that concern the daemon itself."""

    def __init__(self, sources: Sources) -> None:
        self._fleet = sources.fleet
        self._sources = sources

    # -- services ---------------------------------------------------------------------------------

    def status(self, call: Call) -> None:
        """Describe the daemon and services, sorted by name."""
        given = call.parameters["names"]
        names = self.named(call, given) if given is not None else tuple(self._fleet.services)
        if names is None:
            return
        listed = sorted(names)
        if call.parameters["all"]:
            listed = [*sorted(self._fleet.internals), *listed]
        fleet, records = self._fleet, self._sources.records
        about = records.supervisor(stopping=fleet.stopping, counts=fleet.counts())
        opening = b'"supervisor":' + wire.plain(about) + b',"services":['
        call.pull(_listed(opening, self._records(listed)))

    def _records(self, names: list[str]) -> Iterator[dict[str, Any]]:
        fleet, records = self._fleet, self._sources.records
        for name in names:
            service = fleet.services.get(name) or fleet.internals.get(name)
            if service is not None:  # else it has been removed meanwhile
                yield records.service(service)

    def dependencies(self, call: Call) -> None:
        """List edges: all of them, or those on paths that begin or (`reverse`) end at a name."""
        services = self._fleet.services
        name = call.parameters["name"]
        if name is None:
            sources: Iterable[str] = tuple(services)
        else:
            names = self.named(call, [name])
            if names is None:
                return
            sources = names
        if name is not None and call.parameters["reverse"]:
            edges = _edges_to(sources, services)
        else:
            edges = _edges_from(sources, services, follow=name is not None)
        call.pull(_listed(b'"edges":[', edges))

    def discovery(self, call: Call) -> None:
        """List the targets of services with a `metrics_port`; whoever asks knows the host."""
        groups = [
            {
                "targets": [f":{spec.metrics_port}"],
                "labels": {
                    "service": spec.name,
                    "group": spec.group,
                    "__metrics_path__": spec.metrics_path,
                },
            }
            for spec in (service.spec for service in self._fleet.services.values())
            if spec.metrics_port is not None
        ]
        call.reply({"groups": groups})

    def health(self, call: Call) -> None:
        """Say whether all is as it should be; at level `alive`, that we answer."""
        reasons = [] if call.parameters["level"] == "alive" else list(self._amiss())
        call.reply({"ok": not reasons, "reasons": reasons})

    def _amiss(self) -> Iterator[str]:
        """Name what is not ready: the critical services, or all that should be up."""
        if self._fleet.stopping:
            yield "shutting down"
        for service in self._fleet.unready():
            state = service.state
            why = f"{service.name}: {state.phase.value}"
            if state.phase in _WITH_END and state.last_exit is not None:
                why += f", {ended(state.last_exit, name_of)}"
            yield why

    def counters(self, call: Call) -> None:
        """Give the daemon's own metrics."""
        call.reply({"families": self._sources.families()})

    def named(self, call: Call, names: list[str]) -> tuple[str, ...] | None:
        """Look names up; answer the call if one of them stands for nothing."""
        try:
            return self._sources.resolve(names)
        except NoSuchNameError as error:
            call.error(NO_SUCH_SERVICE, {"name": error.name, "suggestion": error.suggestion})
        except TooManyGlobsError:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
        return None

    # -- the daemon -------------------------------------------------------------------------------

    def shutdown(self, call: Call) -> None:
        """Begin to stop everything; the connection ends with the daemon."""
        self._fleet.shut_down(call.peer.by)
        call.reply({})

    def freeze(self, call: Call) -> None:
        """Refuse: a service is frozen through its cgroup, and none has one."""
        names = self.named(call, call.parameters["names"])
        if names is not None:
            message = "freeze and thaw need service.NAME.cgroup, which this version has not"
            call.error(REFUSED, {"reason": "no_cgroup", "message": message})

    thaw = freeze


def _listed(opening: bytes, members: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Make a reply of one list, member by member."""
    yield b'{"parameters":{' + opening
    comma = b""
    for member in members:
        yield comma + wire.plain(member)
        comma = b","
    yield b"]}}\0"


def _edges_from(
    names: Iterable[str], services: Mapping[str, Service], *, follow: bool
) -> Iterator[dict[str, Any]]:
    """Yield the edges that begin at these names; with `follow` also those behind them."""
    todo, seen = list(names), set(names)
    for name in todo:  # which grows
        service = services.get(name)
        for edge in () if service is None else _edges(service, services):
            yield edge
            if follow and edge["to"] not in seen:
                seen.add(edge["to"])
                todo.append(edge["to"])


def _edges_to(names: Iterable[str], services: Mapping[str, Service]) -> Iterator[dict[str, Any]]:
    """Yield the edges on paths that end at these names."""
    depend: dict[str, list[str]] = {}
    for service in services.values():
        spec = service.spec
        targets = (*(one.target for one in spec.dependencies), *spec.part_of)
        for target in dict.fromkeys(targets):
            depend.setdefault(target, []).append(spec.name)
    todo, seen = list(names), set(names)
    for name in todo:  # which grows
        for other in depend.get(name, ()):
            if other in services:
                yield from (e for e in _edges(services[other], services) if e["to"] == name)
            if other not in seen:
                seen.add(other)
                todo.append(other)


def _edges(service: Service, services: Mapping[str, Service]) -> Iterator[dict[str, Any]]:
    spec = service.spec
    for dependency in spec.dependencies:
        target = services.get(dependency.target)
        view = ABSENT if target is None else view_of(target.spec, target.state)
        condition, met = dependency.condition.value, is_met(dependency, view)
        yield _edge(spec.name, dependency.target, dependency.tie.value, condition, met)
    for whole in spec.part_of:
        yield _edge(spec.name, whole, "part_of", "", whole in services)


def _edge(source: str, target: str, kind: str, condition: str, met: bool) -> dict[str, Any]:  # noqa: FBT001 - one fact
    return {"from": source, "to": target, "kind": kind, "condition": condition, "met": met}
