"""What stands beside a service's process: readiness, health checks, hooks, reload, schedule."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisord_pidfd.config import model
from supervisord_pidfd.config.fields import CommandLine
from supervisord_pidfd.config.filling import Filling, Where
from supervisord_pidfd.config.parts import given, steps_of
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.units import NotAUnitError, quoted
from supervisord_pidfd.core.spec import (
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    HooksSpec,
    ReadyKind,
    ReadySpec,
    ReloadSpec,
    Scope,
    StopSpec,
)

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

WATCHDOG_FAILURES = 1
"""One WATCHDOG=1 that is missing is enough, unless `failures` says more."""


class Tasks(NamedTuple):
    """Build these parts for one instance: texts filled in, programs looked up.

    `command` turns a command line at a place into what is executed.
    """

    where: Where
    service: model.Service
    filling: Filling
    command: Callable[[Path, CommandLine], CommandSpec]

    def ready(self) -> ReadySpec | None:
        """Return when a run is ready."""
        if self.service.type == "notify":
            return ReadySpec(ReadyKind.NOTIFY)
        if self.service.type == "oneshot":
            return ReadySpec(ReadyKind.EXITED)
        table = self.service.ready
        if table is None:
            return None
        spec = ReadySpec(**given(period=table.period, timeout=table.timeout))
        if table.delay:
            spec = spec._replace(kind=ReadyKind.DELAY, delay=table.delay)
        elif table.fd is not None:
            spec = spec._replace(kind=ReadyKind.FD, fd=table.fd)
        elif table.log is not None:
            spec = spec._replace(kind=ReadyKind.LOG)
        else:
            spec = self._asked(table, spec)
        return spec

    def _asked(self, table: "tables.Ready", spec: ReadySpec) -> ReadySpec:
        """Say whom somebody asks whether the service is ready."""
        if table.exec is not None:
            command = self.command(("ready", "exec"), table.exec)
            spec = spec._replace(kind=ReadyKind.EXEC, command=command)
        elif table.file is not None:
            inside = ("ready", "file")
            path = self.where.absolute(self.filling.text(inside, table.file), inside)
            spec = spec._replace(kind=ReadyKind.FILE, target=path)
        elif table.http is not None:
            url = self._target(("ready", "http"), table.http)
            spec = spec._replace(kind=ReadyKind.HTTP, target=url)
        elif table.tcp is not None:
            endpoint = self._target(("ready", "tcp"), table.tcp)
            spec = spec._replace(kind=ReadyKind.TCP, target=endpoint)
        return spec

    def checks(self) -> tuple[CheckSpec, ...]:
        """Return the health checks; those of the defaults are not for a oneshot."""
        if self.service.type == "oneshot":
            return ()
        checks = (self._check(name, table) for name, table in (self.service.health or {}).items())
        return tuple(check for check in checks if check)

    def _check(self, name: str, table: "tables.HealthCheck") -> CheckSpec | None:
        here = ("health", name)
        usual = given(
            period=table.period,
            timeout=table.timeout,
            initial_delay=table.initial_delay,
            failures=table.failures,
            successes=table.successes,
            action=None if table.action is None else CheckAction(table.action),
        )
        if table.watchdog is not None:
            usual = {"failures": WATCHDOG_FAILURES, **usual, "period": table.watchdog}
            return CheckSpec(name, CheckKind.WATCHDOG, **usual)
        if table.memory is not None:
            return CheckSpec(name, CheckKind.MEMORY, size=table.memory, **usual)
        if table.exec is not None:
            command = self.command((*here, "exec"), table.exec)
            return CheckSpec(name, CheckKind.EXEC, command=command, **usual)
        if table.tcp is not None:
            target = self._target((*here, "tcp"), table.tcp)
            return CheckSpec(name, CheckKind.TCP, target=target, **usual)
        if table.http is not None:
            usual |= given(status=table.status, verify=table.verify)
            headers = tuple(
                (key, self._target((*here, "headers", key), text))
                for key, text in (table.headers or {}).items()
            )
            target = self._target((*here, "http"), table.http)
            return CheckSpec(name, CheckKind.HTTP, target=target, headers=headers, **usual)
        return None  # of no kind, which was told

    def hooks(self) -> HooksSpec | None:
        """Return the hooks."""
        table = self.service.hooks
        if table is None:
            return None
        commands: dict[str, Any] = {
            name: self.command(("hooks", name), line)
            for name, line in table
            if isinstance(line, CommandLine)
        }
        return HooksSpec(**given(timeout=table.timeout), **commands)

    def reload(self) -> ReloadSpec | None:
        """Return how the service is told to read its own configuration again."""
        table = self.service.reload
        if table is None:
            return None
        return ReloadSpec(
            **given(
                signum=table.signal,
                command=self._optional(("reload", "command"), table.command),
                check=self._optional(("reload", "check"), table.check),
                timeout=table.timeout,
            )
        )

    def stop(self) -> StopSpec:
        """Return how the service is stopped."""
        table = self.service.stop
        if table is None:
            return StopSpec(steps_of(self.service))
        return StopSpec(
            steps_of(self.service),
            Scope.GROUP if table.scope in {None, "auto"} else Scope(table.scope),
            table.leftovers == "keep",
            self._optional(("stop", "command"), table.command),
        )

    # -- the parts of these -----------------------------------------------------------------------

    def _optional(self, inside: Path, line: CommandLine | None) -> CommandSpec | None:
        return None if line is None else self.command(inside, line)

    def _target(self, inside: Path, text: str) -> str:
        """Fill in an address, a URL or a header; what is wrong is told as it was written."""
        from supervisord_pidfd.config import targets  # noqa: PLC0415 - few files have one

        kind = "header" if inside[-2] == "headers" else str(inside[-1])
        filled = self.filling.known(inside, text)
        if filled is None:
            return ""
        try:
            parsed = targets.PARSERS[kind](filled)
        except NotAUnitError as error:
            shown = ".".join(map(str, inside))
            message = error.message.replace(quoted(filled), quoted(text))
            self.where.wrong(inside, f"{shown}: {message}", error.hint)
            return ""
        if kind == "tcp" and parsed.startswith("unix:"):
            return f"unix:{self.where.absolute(parsed[5:], inside)}"
        return parsed
