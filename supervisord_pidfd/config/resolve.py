"""Validated services to specs: texts filled in, accounts and programs looked up, one per copy."""

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from supervisord_pidfd.config import environment, host, model
from supervisord_pidfd.config.child import run_apart
from supervisord_pidfd.config.edges import Edges, Ties
from supervisord_pidfd.config.fields import CommandLine
from supervisord_pidfd.config.filling import Filling, Store, Where
from supervisord_pidfd.config.logs import output_of
from supervisord_pidfd.config.parts import given, parts_of
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.settings import (
    AUTO,
    Sections,
    directories,
    gateway_identity,
    readers,
    shutdown_timeout,
)
from supervisord_pidfd.config.slips import Slips
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tasks import Tasks
from supervisord_pidfd.config.together import Together
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.config.written import written_of
from supervisord_pidfd.core.spec import (
    CommandSpec,
    GatewaySpec,
    Identity,
    ServiceSpec,
    StartFault,
    SupervisorSpec,
)

if TYPE_CHECKING:
    from supervisord_pidfd.config.child import Request


class Resolver:
    """Build specs; look up each account, program and file of this host once."""

    def __init__(self, request: "Request", tree: Tree, report: Report, sections: Sections) -> None:
        """Resolve for the daemon of this request."""
        self._request = request
        self._tree = tree
        self._report = report
        self._accounts = host.Accounts()
        self._files = host.Files(host.read_mounts(), request.start_dir)
        self._store = Store(environment.reader(self._files.may_hang, run_apart))
        self._sections = sections
        self._own = directories(sections, tree, request)
        budget = shutdown_timeout(sections, pid1=request.pid1)
        self._slips = Slips(tree, report, request.uid, budget)
        self._together = Together(tree, report)

    def accounts(self, supervisor: SupervisorSpec) -> SupervisorSpec:
        """Say who may read and, where there is a gateway of root, whom that runs as."""
        web = supervisor.web
        if self._request.uid == 0 and GatewaySpec(supervisor.metrics, web).listens:
            identity = gateway_identity(web.user, self._tree, self._report, self._accounts)
            web = web._replace(identity=identity)
        uids, gids = readers(self._sections, self._tree, self._report, self._accounts)
        return supervisor._replace(web=web, read_uids=uids, read_gids=gids)

    def own_log(self, supervisor: SupervisorSpec) -> SupervisorSpec:
        """Say where the daemon's own events go if that is to be where it suits."""
        log = supervisor.own_log
        if log.to != AUTO:
            return supervisor
        path = log.path if "file" in self._auto_to else ""
        return supervisor._replace(own_log=log._replace(to=self._auto_to, path=path))

    def look_at_chains(self, services: Mapping[str, model.Service], edges: Edges) -> None:
        """Report what is likely not meant of services that wait for each other."""
        self._slips.look_at_chains(services, edges.waits)

    def specs(
        self, name: str, service: model.Service, edges: Edges, *, broken: bool
    ) -> Iterator[ServiceSpec]:
        """Build the specs of a service, one for each instance.

        `broken` says that its command is a stand-in for one that was refused.
        """
        self._slips.look_at(name, service)
        self._together.look_at(name, service)
        for copy in service.instances or ("",):
            full = f"{name}@{copy}" if copy else name
            group = edges.groups.get(full, name)
            own = {**self._own, "service.name": full, "service.group": group}
            if copy:
                own["service.instance"] = copy
            yield self._spec(name, service, own, edges.of(full), broken=broken)

    def _spec(
        self, base: str, service: model.Service, own: dict[str, str], edges: Ties, *, broken: bool
    ) -> ServiceSpec:
        where = Where(("service", base), self._tree, self._report)
        filling = Filling(where, service, own, self._store)
        variables = filling.environment()
        directory = self._directory(where, service, filling)
        argv = self._argv(where, service, filling)
        search = self._search_path(service, variables)

        def command(inside: Path, line: CommandLine) -> CommandSpec:
            words = filling.words(inside, line)
            program = self._program(where, inside, words[0], search, directory)
            return CommandSpec(words, program.program, program.fast)

        tasks = Tasks(where, service, filling, command)
        beside = {
            "ready": tasks.ready(), "checks": tasks.checks(), "hooks": tasks.hooks(),
            "reload": tasks.reload(), "stop": tasks.stop(),
        }  # fmt: skip
        faults = list(filling.faults)
        identity = self._identity(where, service, filling, faults)
        found = host.Found(None, fast=False)
        if not broken:
            found = self._program(where, ("command",), argv[0], search, directory)
        stdin = service.stdin
        if stdin is not None and stdin.startswith("file:"):
            stdin = f"file:{self._stdin(where, stdin[5:])}"
            found = found._replace(fast=found.fast and self._files.lies_local(stdin[5:]))
        output, log = output_of(where, service, filling, own, lambda: self._auto_to)
        place = self._tree.table(where.path)
        return ServiceSpec(
            name=own["service.name"],
            argv=argv,
            program=found.program,
            fast=found.fast,
            group=own["service.group"],
            instance=own.get("service.instance", ""),
            environment=tuple(variables.items()),
            foreground=self._is_foreground(base),
            fault=faults[0] if faults else None,
            origin=f"{place.source.name}:{place.span.line}",
            dependencies=edges.dependencies,
            part_of=edges.part_of,
            written=written_of(where, filling),
            output=output,
            log=log,
            **given(directory=directory, identity=identity, stdin=stdin, **beside),
            **parts_of(service),
        )

    def _is_foreground(self, name: str) -> bool:
        return self._request.file is None and bool(self._request.command) and name == "main"

    @cached_property
    def _auto_to(self) -> tuple[str, ...]:
        """Return where output goes that is to go where it suits: a place that can be had."""
        suitable = self._request.auto_to
        directory = self._own.get("log.dir", "/")
        if suitable != ("file",) or self._files.takes_files(directory):
            return suitable
        message = f"log.to: auto is stdout, because no file can be made in '{directory}'"
        self._report.warning(
            self._tree.start(), "no-such-directory", message,
            key=("supervisor", "log_dir"), hint="set supervisor.log_dir, or log.to",
        )  # fmt: skip
        return ("stdout",)

    def _argv(self, where: Where, service: model.Service, filling: Filling) -> tuple[str, ...]:
        words = service.command.words
        if where.path[1] == "main" and words == self._request.command:
            return words  # from the command line: taken as they are
        return filling.words(("command",), service.command)

    # -- facts of this host -----------------------------------------------------------------------

    def _directory(self, where: Where, service: model.Service, filling: Filling) -> str | None:
        if service.directory is None:
            return None
        text = filling.text(("directory",), service.directory)
        directory = where.absolute(text, ("directory",))
        if text and self._files.is_directory(directory) is False:
            message = f"directory: no such directory: '{directory}'"
            where.warn(("directory",), "no-such-directory", message)
        return directory

    def _identity(
        self, where: Where, service: model.Service, filling: Filling, faults: list[StartFault]
    ) -> Identity | None:
        user, group, others = service.user, service.group, service.supplementary_groups
        if user is None and group is None and others is None:
            return None
        key = "supplementary_groups"
        if user is not None:
            key, user = "user", filling.text(("user",), user)
        if group is not None:
            key, group = "user" if user else "group", filling.text(("group",), group)
        if "" in {user, group}:
            return None  # an undefined name, told already
        try:
            identity = self._accounts.identity(user, group, others)
        except host.NoSuchAccountError as error:
            self._no_such_account(where, error, group)
            faults.insert(0, StartFault("resolve", str(error), "ENOENT"))  # the first stage
            return None
        if self._request.uid != 0:
            if identity.uid == self._request.uid and group is None and others is None:
                return None  # it is ourselves
            if key != "supplementary_groups":
                where.warn((key,), "needs-root", f"{key}: needs root")
        return identity

    def _no_such_account(
        self, where: Where, error: host.NoSuchAccountError, group: str | None
    ) -> None:
        key = "supplementary_groups"
        if error.kind == "user":
            key = "user"
        elif error.name == group:
            key = "group"
        where.warn((key,), "no-such-user", f"{key}: no such {error}")

    def _search_path(self, service: model.Service, variables: dict[str, str]) -> str:
        """Return the PATH a service will have."""
        search = variables.get("PATH")
        inherited = service.inherit_environment
        passed = inherited is None or host.passes("PATH", inherited)
        if search is None and passed and not host.passes("PATH", service.unset_environment or ()):
            search = os.environ.get("PATH")
        return search or host.DEFAULT_PATH

    def _program(
        self, where: Where, inside: Path, name: str, search: str, directory: str | None
    ) -> host.Found:
        if not name:
            return host.Found(None, fast=False)  # an undefined one, told already
        found = self._files.program(name, search, directory)
        if found.problem:
            shown = ".".join(map(str, inside))
            message = f"{shown}: cannot execute '{name}': {found.problem}"
            where.warn(inside, "no-such-executable", message)
        return found

    def _stdin(self, where: Where, name: str) -> str:
        file = where.absolute(name, ("stdin",))
        error = self._files.readable(file)
        if error:
            where.warn(("stdin",), "unreadable", f"stdin: cannot read '{file}': {error}")
        return file
