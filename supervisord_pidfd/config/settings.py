"""The daemon's own tables to its spec, and whom the gateway runs as."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisord_pidfd.config import host, paths
from supervisord_pidfd.config.parts import given, rotation_of
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.core.spec import Identity, LogFormat, LogSpec, MetricsSpec, SupervisorSpec

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables
    from supervisord_pidfd.config.child import Request

GATEWAY_USER = "supervisord-pidfd"
GATEWAY_UID = 65532
NOBODY = 65534
"""Never the gateway: this is also how every client of another user namespace looks."""
OWN_LOG = "supervisord.log"
AUTO = ("auto",)
SHUTDOWN_TIMEOUT = 80.0
SHUTDOWN_TIMEOUT_PID1 = 8.0


class Sections(NamedTuple):
    """Hold the tables that stand once in the file; None where it does not have one."""

    supervisor: "tables.Supervisor | None" = None
    metrics: "tables.Metrics | None" = None
    web: "tables.Web | None" = None


def supervisor_spec(sections: Sections, tree: Tree, log_dir: str | None = None) -> SupervisorSpec:
    """Build the settings of the daemon and of its metrics; what is `auto` stays so."""
    daemon, metrics, _ = sections
    return SupervisorSpec(
        metrics=MetricsSpec(**_metrics(metrics, tree)),
        **_daemon(daemon, tree, log_dir),
    )


def _daemon(table: "tables.Supervisor | None", tree: Tree, log_dir: str | None) -> dict[str, Any]:
    if table is None:
        return {}
    runtime_dir, socket = table.runtime_dir, table.socket
    if runtime_dir is not None:
        runtime_dir = tree.absolute(runtime_dir, ("supervisor", "runtime_dir"))
    if socket is not None and socket != "none":
        socket = tree.absolute(socket, ("supervisor", "socket"))
    return given(
        socket=socket,
        runtime_dir=runtime_dir,
        history_size=table.history_size,
        ready_when=table.ready_when,
        reaper=table.reaper,
        subreaper=table.subreaper,
        shutdown_timeout=table.shutdown_timeout,
        exit_when_idle=table.exit_when_idle,
        start_concurrency=table.start_concurrency,
        log_level=table.log and table.log.level,
        log_format=table.log and table.log.format,
        own_log=_own_log(table.log, tree, log_dir),
        signals=tuple(sorted((table.signals or {}).items())),
    )


def _own_log(table: "tables.DaemonLog | None", tree: Tree, log_dir: str | None) -> LogSpec | None:
    """Return where the daemon's own events go; None as by default."""
    if table is None:
        return None
    path = table.path and tree.absolute(table.path, ("supervisor", "log", "path"))
    to = ("stdout",) if table.to is None else table.to
    return LogSpec(
        to=to,
        path=(path or os.path.join(log_dir or "/", OWN_LOG)) if "file" in to or to == AUTO else "",
        format=LogFormat.TEXT if table.format == "text" else None,
        **rotation_of(table),
    )


def _metrics(table: "tables.Metrics | None", tree: Tree) -> dict[str, Any]:
    if table is None:
        return {}
    return given(
        listen=addresses(table.listen, ("metrics", "listen"), tree),
        include=table.include,
        exclude=table.exclude,
        phases=table.phases,
        resources=table.resources,
        sample_every=table.sample_every,
        canary=table.canary,
    )


def addresses(texts: tuple[str, ...] | None, where: Path, tree: Tree) -> tuple[str, ...] | None:
    """Make the paths among addresses absolute."""
    if texts is None:
        return None
    return tuple(
        f"unix:{tree.absolute(text[5:], where)}" if text.startswith("unix:") else text
        for text in texts
    )


def shutdown_timeout(sections: Sections, *, pid1: bool) -> float:
    """Return the budget for stopping everything."""
    daemon = sections.supervisor
    if daemon is not None and daemon.shutdown_timeout is not None:
        return daemon.shutdown_timeout
    return SHUTDOWN_TIMEOUT_PID1 if pid1 else SHUTDOWN_TIMEOUT


def directories(sections: Sections, tree: Tree, request: "Request") -> dict[str, str]:
    """Return what `${}` knows of places: `config.dir`, `log.dir`, `runtime.dir`."""
    daemon = sections.supervisor
    log_dir = request.log_dir or paths.default_log_dir(request.uid, os.environ)
    if daemon and daemon.log_dir:
        log_dir = tree.absolute(daemon.log_dir, ("supervisor", "log_dir"))
    runtime_dir = request.runtime_dir or paths.default_runtime_dir(request.uid, os.environ)
    if daemon and daemon.runtime_dir:
        runtime_dir = tree.absolute(daemon.runtime_dir, ("supervisor", "runtime_dir"))
    known = given(log=log_dir, runtime=runtime_dir, config=tree.start().source.directory)
    return {f"{name}.dir": directory for name, directory in known.items()}


def gateway_identity(
    user: str | None, tree: Tree, report: Report, accounts: host.Accounts
) -> Identity:
    """Look up whom the gateway of a root daemon runs as; never nobody, and never root unasked."""
    path = ("web", "user")
    identity = Identity(GATEWAY_UID, GATEWAY_UID)
    try:
        identity = accounts.identity(user or GATEWAY_USER, None, None)
    except host.NoSuchAccountError as error:
        if user is not None:
            message = f"user: no such {error}; the gateway runs as uid {GATEWAY_UID}"
            report.warning(tree.value(path), "no-such-user", message, key=path)
    if identity.uid == NOBODY:
        message = f"user: uid {NOBODY} is shared by everything that has no account"
        report.error(tree.value(path), "bad-value", message, key=path)
    return identity


def readers(
    sections: Sections, tree: Tree, report: Report, accounts: host.Accounts
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Look up who else may read: numbers of users, and of groups; unknown ones are left out."""
    daemon = sections.supervisor
    if daemon is None:
        return (), ()
    lists = (
        ("read_users", daemon.read_users or (), accounts.uid),
        ("read_groups", daemon.read_groups or (), accounts.gid),
    )
    found: list[tuple[int, ...]] = []
    for key, names, look_up in lists:
        numbers = []
        for index, name in enumerate(names):
            path = ("supervisor", key, index)
            try:
                numbers.append(look_up(name))
            except host.NoSuchAccountError as error:
                message = f"supervisor.{key}: no such {error}"
                report.warning(tree.value(path), "no-such-user", message, key=path)
        if NOBODY in numbers and key == "read_users":
            path = ("supervisor", key, 0)
            message = f"supervisor.{key}: uid {NOBODY} is shared by everything without an account"
            report.error(tree.value(path), "bad-value", message, key=path)
        found.append(tuple(dict.fromkeys(numbers)))
    return found[0], found[1]
