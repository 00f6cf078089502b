"""What users may write of a service: one field per key that is built.

A field that is not given is None, so that "not written" is known: defaults belong to
`core/spec.py`. Keys that are known but not built stand in `later.py`. `${}` is filled in by
`resolve.py`, in the fields that the reference marks so. Tables inside a service, and those of
other sections, are in `tables.py`.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from supervisord_pidfd.config import fields, later
from supervisord_pidfd.config.fields import (
    Account,
    CheckName,
    Command,
    CommandLine,
    End,
    ExitCode,
    ExitEnd,
    Flag,
    Globs,
    Instances,
    Limit,
    LimitName,
    LimitValues,
    LongDuration,
    Secret,
    Signal,
    Stdin,
    Step,
    Text,
    Umask,
    Variable,
    WebPath,
    Words,
)
from supervisord_pidfd.config.references import Ref, Reference, Target

if TYPE_CHECKING:
    from supervisord_pidfd.config.tables import (
        Backoff,
        FdStore,
        HealthCheck,
        Hooks,
        Log,
        Ready,
        Reload,
        Sandbox,
        Schedule,
        Scheduling,
        StartLimit,
        Stop,
    )
else:  # pydantic need not know them before a file has one
    Backoff = FdStore = HealthCheck = Hooks = Log = Ready = Reload = Any
    Sandbox = Schedule = Scheduling = StartLimit = Stop = Any


def key(description: str) -> Any:
    """Declare a key that need not be written."""
    return Field(default=None, description=description)


class Table(BaseModel):
    """Be the base of every table: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def table(name: str) -> type[Table]:
    """Return a class of `tables.py`."""
    from supervisord_pidfd.config import tables  # noqa: PLC0415 - most files need few of them

    found: type[Table] = getattr(tables, name)
    return found


class Inner(fields.Kind):
    """Be the metadata of a table inside another one."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """Take the name of its class."""
        super().__init__(lambda value: table(name).model_validate(value), {"table": name})
        self.name = name


class Service(Table):
    """One service."""

    command: Command = Field(description="program and arguments; no shell runs")
    type: Annotated[
        str | None, fields.choice("simple", "exec", "notify", "oneshot", not_yet=later.TYPES)
    ] = key("ready when executed, when it says so, or when ended cleanly")
    autostart: Flag | None = key("wanted up when the daemon starts")
    description: Text | None = key("shown in the long view")
    restart: Annotated[
        str | None,
        fields.choice(
            "no", "always", "on-failure", "on-success", "on-abnormal", "on-watchdog",
            "unless-stopped",
        ),
    ] = key("when an ended service is started again")  # fmt: skip
    instances: Instances | None = key("copies NAME@0…, or NAME@x for each name")
    directory: Words | None = key("working directory")
    umask: Umask | None = key("file mode creation mask, octal")
    user: Account | None = key("whom it runs as")
    group: Account | None = key("group it runs as; the user's own by default")
    supplementary_groups: tuple[Account, ...] | None = key(
        "more groups; the user's own by default"
    )
    environment: dict[Variable, Text] | None = key("variables, as strings")
    inherit_environment: Globs | None = key("what passes from the daemon's environment")
    unset_environment: tuple[Words, ...] | None = key("what is taken out again")
    environment_file: tuple[Words, ...] | None = key("KEY=VALUE lines; '-' before: may be missing")
    secrets: dict[Variable, Secret] | None = key("variables that are never shown")
    stdin: Stdin | None = key("where standard input comes from")
    start_timeout: LongDuration | None = key("from the start to ready")
    runtime_max: LongDuration | None = key("longest run")
    stop_signal: Signal | None = key("first signal of a stop")
    stop_timeout: LongDuration | None = key("from the signal to SIGKILL")
    parent_death_signal: Signal | None = key("sent when the daemon dies")
    requires: tuple[Reference, ...] | None = key("needs them: started with it, waited for")
    wants: tuple[Reference, ...] | None = key("starts them and waits, but goes on without")
    after: tuple[Reference, ...] | None = key("order only, if both are to run")
    before: tuple[Reference, ...] | None = key("order only; the condition is this service's own")
    part_of: tuple[Target, ...] | None = key("their stop and restart is repeated here")
    success_exit_codes: tuple[ExitCode, ...] | None = key("ends that count as clean")
    success_signals: tuple[Signal, ...] | None = key("ends that count as clean")
    restart_prevent: tuple[ExitEnd, ...] | None = key("never restart after these")
    restart_force: tuple[ExitEnd, ...] | None = key("always restart after these")
    critical: Flag | None = key("its failure shuts the daemon down")
    main: Flag | None = key("its end shuts the daemon down")
    notify_access: Annotated[str, fields.choice("main", "all")] | None = key(
        "whose notify messages count"
    )
    metrics_port: Annotated[int, fields.whole(1, 65535)] | None = key(
        "where the service itself is scraped, for discovery"
    )
    metrics_path: WebPath | None = key("path of its own metrics, for discovery")
    backoff: Annotated[Backoff | None, Inner("Backoff")] = None
    start_limit: Annotated[StartLimit | None, Inner("StartLimit")] = None
    ready: Annotated[Ready | None, Inner("Ready")] = None
    health: dict[CheckName, Annotated[HealthCheck, Inner("HealthCheck")]] | None = key(
        "checks, from ready on"
    )
    stop: Annotated[Stop | None, Inner("Stop")] = None
    reload: Annotated[Reload | None, Inner("Reload")] = None
    hooks: Annotated[Hooks | None, Inner("Hooks")] = None
    schedule: Annotated[Schedule | None, Inner("Schedule")] = None
    fdstore: Annotated[FdStore | None, Inner("FdStore")] = None
    log: Annotated[Log | None, Inner("Log")] = None
    limits: dict[LimitName, Limit] | None = Field(
        default=None,
        description="resource limits, see getrlimit(2)",
        json_schema_extra={"propertyNames": {"enum": list(fields.LIMIT_NAMES)}},
    )
    scheduling: Annotated[Scheduling | None, Inner("Scheduling")] = None
    sandbox: Annotated[Sandbox | None, Inner("Sandbox")] = None


SECTIONS = {"supervisor": "Supervisor", "metrics": "Metrics", "web": "Web"}
"""The tables that stand once in the file, and their classes."""

TOP_LEVEL = (*SECTIONS, "include", "group", "defaults", "service")

NOT_IN_DEFAULTS = ("command", "instances", "sockets")

__all__ = [
    "NOT_IN_DEFAULTS", "SECTIONS", "TOP_LEVEL", "CommandLine", "End", "Inner", "LimitValues",
    "Ref", "Service", "Step", "Table", "key", "table",
]  # fmt: skip
