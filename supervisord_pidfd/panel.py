"""All that clients of the control socket reach, put together and kept in step with the services.

The panel follows every change of state and every notice, so that what a client asks is answered
from memory. It exists as soon as services do, and serves whatever listener it is given.
"""

import os
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from supervisord_pidfd import configuring
from supervisord_pidfd.accounts import Accounts
from supervisord_pidfd.accounts import Sources as AccountsSources
from supervisord_pidfd.answers import Answers
from supervisord_pidfd.changes import Changes
from supervisord_pidfd.commands import Access, Role, bind
from supervisord_pidfd.configuring import Configuring, GoingOver
from supervisord_pidfd.control import Bounds, ControlServer, Outward
from supervisord_pidfd.core import naming
from supervisord_pidfd.core.history import History
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.notices import ControlUnavailable, Told
from supervisord_pidfd.core.reload import PlanItem
from supervisord_pidfd.core.spec import GatewaySpec
from supervisord_pidfd.deployment import Deployment
from supervisord_pidfd.door import GATEWAY, NAME, Door
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.explain import Applied, Need, Subject
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.listening import Listener, mode_of, word_of
from supervisord_pidfd.operations import Operations
from supervisord_pidfd.operations import Sources as OperationsSources
from supervisord_pidfd.outputs import News, Outputs
from supervisord_pidfd.publisher import Publisher
from supervisord_pidfd.queries import Queries
from supervisord_pidfd.queries import Sources as QueriesSources
from supervisord_pidfd.records import Records
from supervisord_pidfd.reloads import Reloads
from supervisord_pidfd.service import Service
from supervisord_pidfd.streams import Sources as StreamsSources
from supervisord_pidfd.streams import Streams
from supervisord_pidfd.supervisor import Supervisor
from supervisord_pidfd.trials import Trials

DESCRIPTION = os.path.join(os.path.dirname(__file__), "io.supervisordpidfd.Control.varlink")


class Sides(NamedTuple):
    """Hold what the panel stands between."""

    hands: Hands
    supervisor: Supervisor
    publisher: Publisher
    crashed: Callable[[str, BaseException], None]
    going_over: GoingOver
    news: News


class Panel:
    """Follow the services and answer clients. Owns the listener that it is given."""

    def __init__(self, sides: Sides) -> None:
        hands, supervisor, publisher, _, going_over, news = self._sides = sides
        loop = self._loop = hands.loop
        self._supervisor = supervisor
        self._listener: Listener | None = None
        self._server: ControlServer | None = None
        self._door = Door(self._serve, self._gateway_pid)
        self._groups: dict[str, list[str]] | None = None
        self._applied: dict[str, Applied] = {}
        self._shutdown_told = False
        self._changes = Changes(loop, supervisor.services)
        self._history = History(supervisor.spec.history_size, self._policy_of)
        self._trials = Trials(hands)
        self.configuring = Configuring(
            configuring.Sides(loop, supervisor, self._changes, self._trials, going_over),
            supervisor.spec,
        )
        self.records = Records(loop.clock, publisher.tally, self._needs)
        answers = Answers(supervisor.services, self._changes, self._resolve, self.records.service)
        queries = Queries(
            QueriesSources(supervisor, self.records, self._resolve, publisher.tally.families)
        )
        self._streams = Streams(
            StreamsSources(
                loop,
                publisher,
                supervisor.services,
                lambda service: self.records.service(service, totals=True),
                queries.named,
            )
        )
        self._handlers = bind(
            Operations(
                OperationsSources(loop, supervisor, supervisor.sets, answers, self._trials)
            ),
            Accounts(
                AccountsSources(
                    supervisor.services,
                    self._history,
                    self._subject,
                    self.records.service,
                    publisher.publish,
                ),
                answers,
            ),
            Reloads(loop, supervisor, answers, self._trials),
            Deployment(self.configuring, answers),
            queries,
            self._streams,
            *(
                [Outputs(hands.taps, news, supervisor.services, answers)]
                if hands.taps is not None
                else []
            ),
        )
        supervisor.listeners.append(self._follow)
        publisher.observers += [self._history.take, self._changes.told, self._streams.told]

    # -- the socket -------------------------------------------------------------------------------

    def serve(self, listener: Listener) -> None:
        """Serve clients on this socket."""
        self._listener = listener
        self._server = self._serve(listener.socket, Bounds())
        self._admit()

    def _serve(self, listener: socket.socket, bounds: Bounds) -> ControlServer:
        with open(DESCRIPTION, encoding="utf-8") as file:
            description = file.read()
        loop, publisher, crashed = self._loop, self._sides.publisher, self._sides.crashed
        outward = Outward(publisher.tell, publisher.tally, crashed)
        return ControlServer(loop, listener, self._handlers, outward, description, bounds=bounds)

    def open_door(self, gateway: GatewaySpec, directory: str | None) -> str | None:
        """Let the gateway in as its settings say; return where, None if it cannot come in.

        It serves metrics and health all the same: what these need comes to it by another way.
        """
        if not gateway.listens:
            self._door.close()
            return None
        web = gateway.web
        if directory is None:
            if web.listen or web.rpc_listen:
                self._sides.publisher.tell(Told(ControlUnavailable(NAME, "no runtime directory")))
            return None
        role = Role.FULL if web.may_control else Role.READ
        try:
            return self._door.open(directory, web.identity, role)
        except (OSError, StartupError) as error:
            path = os.path.join(directory, NAME)
            self._sides.publisher.tell(Told(ControlUnavailable(path, word_of(error))))
            return None

    def _gateway_pid(self) -> int | None:
        gateway = self._supervisor.internals.get(GATEWAY)
        return None if gateway is None else gateway.state.pid

    def _admit(self) -> None:
        """Let those in whom the configuration names."""
        spec = self._supervisor.spec
        if self._server is not None and self._listener is not None:
            readers = frozenset(spec.read_uids), frozenset(spec.read_gids)
            self._server.let_in(Access(os.geteuid(), *readers))
            if self._listener.is_in_place:
                self._listener.let_connect(mode_of(spec))
            else:
                self._make_anew(self._server, self._listener)

    def _make_anew(self, server: ControlServer, old: Listener) -> None:
        """Make the socket again: its file was removed, or is somebody else's."""
        try:
            self._listener = Listener(old.path, mode_of(self._supervisor.spec))
        except (OSError, StartupError) as error:
            self._sides.publisher.tell(Told(ControlUnavailable(old.path, word_of(error))))
            return
        server.listen_on(self._listener.socket)
        old.close()

    def work(self) -> bool:
        """Do a turn's share for clients; return whether there is more."""
        if self._supervisor.stopping and not self._shutdown_told:
            self._shutdown_told = True
            self._trials.close()
            self.configuring.close()
            self._changes.supersede_all("shutdown")
        more = self._server is not None and self._server.work()
        return self._door.work() or more

    def spread(self) -> bool:
        """Hand on what changed to those who follow; return whether there is anything to send."""
        spread = self._streams.spread()
        served = self._server is not None and self._server.has_work
        return spread or served or self._door.has_work

    def close(self) -> None:
        """End all conversations, and take the sockets away."""
        self._door.close()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # -- keeping in step --------------------------------------------------------------------------

    def _follow(self, service: Service, before: ServiceState) -> None:
        if not service.internal and service.name not in self._supervisor.services:
            return  # its end was its removal
        self.records.follow(service)
        self._changes.changed(service, before)

    def touched(self, name: str) -> None:
        """Note that a service's record has changed."""
        self._streams.touched(name)

    def removed(self, name: str) -> None:
        """Forget a service that is gone."""
        self._streams.removed(name)
        self._changes.removed(name)
        self._history.forget(name)
        self.records.forget(name)
        self._applied.pop(name, None)
        self._groups = None

    def applied(self, items: Iterable[PlanItem], by: str) -> None:
        """Take note of another configuration, and of what it changed."""
        self._groups = None
        self._admit()
        self._history.resize(self._supervisor.spec.history_size)
        wall = self._loop.clock.wall()
        for item in items:
            if item.service not in self._supervisor.services:  # gone, or the daemon itself
                continue
            keys = tuple(change.key for change in item.changes)
            at = next((one for one in item.changes if one.file), None)
            place = (at.file, at.line) if at is not None else (None, None)
            note = Applied(
                wall, by, "config applied", keys if item.action != "add" else (), *place
            )
            self._applied[item.service] = note
            self._streams.touched(item.service)

    # -- what the methods ask ---------------------------------------------------------------------

    def _resolve(self, names: Iterable[str]) -> tuple[str, ...]:
        services = self._supervisor.services
        if self._groups is None:
            self._groups = {}
            for service in services.values():
                if service.spec.group:
                    self._groups.setdefault(service.spec.group, []).append(service.name)
        return naming.expand(names, services, self._groups)

    def _policy_of(self, name: str) -> str:
        service = self._supervisor.services.get(name)
        return "" if service is None else service.spec.restart.value

    def _subject(self, service: Service) -> Subject:
        clock = self._loop.clock
        return Subject(
            spec=service.spec,
            state=service.state,
            now=clock.now(),
            wall=clock.wall(),
            runs=self._history.runs(service.name),
            needs=tuple(self._needs_of(service)),
            blocks=tuple(self._blocked_by(service)),
            applied=self._applied.get(service.name),
            failed_checks=tuple(
                (name, check.error or "")
                for name, check in service.checks.items()
                if name in service.state.failing
            ),
            pending=service.pending is not None,
            probe_error=service.probe_error,
        )

    def _needs(self, service: Service) -> list[tuple[str, str]]:
        return [
            (need.on, f"{need.on} ({need.phase})" if need.phase else need.on)
            for need in self._needs_of(service)
        ]

    def _needs_of(self, service: Service) -> list[Need]:
        """List what a waiting service waits for: all unmet dependencies, or what else holds it."""
        if service.state.phase is not Phase.WAITING:
            return []
        services = self._supervisor.services
        unmet = self._supervisor.starts.unmet(service.name)
        if unmet:
            return [
                Need(
                    edge.target,
                    edge.condition.value,
                    edge.tie.value,
                    services[edge.target].state.phase.value if edge.target in services else None,
                )
                for edge in unmet
            ]
        held = self._supervisor.held(service)
        return [] if held is None else [Need(held.on)]

    def _blocked_by(self, service: Service) -> list[tuple[str, str]]:
        """List who waits for a service now, and the key that says so."""
        supervisor = self._supervisor
        return [
            (name, dependency.tie.value)
            for name in supervisor.graph.dependents(service.name)
            if name in supervisor.services
            and supervisor.services[name].state.phase is Phase.WAITING
            for dependency in supervisor.starts.unmet(name)
            if dependency.target == service.name
        ]
