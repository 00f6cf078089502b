"""What users may write: one class per table of the file, one field per key that is built.

A field that is not given is None, so that "not written" is known: defaults belong to
`core/spec.py`. Keys that are known but not built stand in `later.py`. `${}` is filled in by
`resolve.py`, in the fields that §5 of the reference marks so.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from supervisord_pidfd.config import fields, later
from supervisord_pidfd.config.fields import (
    Account,
    AutoFlag,
    Command,
    CommandLine,
    Cpus,
    Duration,
    End,
    ExitCode,
    ExitEnd,
    Flag,
    Globs,
    Instances,
    Limit,
    LimitName,
    LimitValues,
    Listen,
    LongDuration,
    NoSocket,
    Outputs,
    Regex,
    Rewrite,
    Secret,
    Signal,
    SignalName,
    Stdin,
    Step,
    StopStep,
    Text,
    Umask,
    Variable,
    Words,
)


def _key(description: str) -> Any:
    """Declare a key that need not be written."""
    return Field(default=None, description=description)


class Table(BaseModel):
    """Be the base of every table: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


# -- a service ------------------------------------------------------------------------------------


class Backoff(Table):
    """How long to wait between automatic restarts."""

    delay: Duration | None = _key("wait before the second restart in a row; the first is at once")
    factor: Annotated[float, *fields.real(1, 1000)] | None = _key("growth of the wait")
    max_delay: Duration | None = _key("longest wait")
    jitter: Annotated[float, *fields.real(0, 1)] | None = _key("random part added to each wait")
    reset_after: Duration | None = _key("ready for so long, and the next end is a first one")


class StartLimit(Table):
    """How many automatic restarts are allowed in an interval."""

    burst: Annotated[int, *fields.whole(0, 1_000_000)] | None = _key("restarts; 0 is no limit")
    interval: Duration | None = _key("length of the sliding window")
    action: Annotated[str, *fields.choice("fail", "slow-retry", "shutdown")] | None = _key(
        "what happens at the limit"
    )


class Ready(Table):
    """When the service counts as ready."""

    delay: Duration | None = _key("it has stayed up so long")


class Stop(Table):
    """How the service is stopped."""

    scope: (
        Annotated[
            str,
            *fields.choice("auto", "group", "mixed", "process", not_yet=later.SCOPES),
        ]
        | None
    ) = _key("who gets the signals")
    sequence: tuple[StopStep, ...] | None = _key("replaces stop_signal and stop_timeout")
    leftovers: Annotated[str, *fields.choice("kill", "keep")] | None = _key(
        "processes still there when the main process has ended"
    )


class Log(Table):
    """Where the output of the service goes."""

    to: Outputs | None = _key("sinks")


class Scheduling(Table):
    """How the kernel treats the service."""

    nice: Annotated[int, *fields.whole(-20, 19)] | None = _key("as nice(1)")
    oom_score_adjust: Annotated[int, *fields.whole(-1000, 1000)] | None = _key("oom_score_adj")
    cpu_affinity: Cpus | None = _key("as taskset(1)")
    policy: Annotated[str, *fields.choice("other", "batch", "idle", "fifo", "rr")] | None = _key(
        "as chrt(1)"
    )
    priority: Annotated[int, *fields.whole(1, 99)] | None = _key("of fifo and rr")


class Sandbox(Table):
    """What the service may not do."""

    no_new_privileges: Flag | None = _key("set-user-id programs gain nothing")


class Service(Table):
    """One service."""

    command: Command = Field(description="program and arguments; no shell runs")
    type: Annotated[
        str | None, *fields.choice("simple", "exec", "oneshot", not_yet=later.TYPES)
    ] = _key("ready when executed, or when ended cleanly")
    autostart: Flag | None = _key("wanted up when the daemon starts")
    description: Text | None = _key("shown in the long view")
    restart: Annotated[
        str | None,
        *fields.choice(
            "no", "always", "on-failure", "on-success", "on-abnormal", "on-watchdog",
            "unless-stopped",
        ),
    ] = _key("when an ended service is started again")  # fmt: skip
    instances: Instances | None = _key("copies NAME@0…, or NAME@x for each name")
    directory: Words | None = _key("working directory")
    umask: Umask | None = _key("octal")
    user: Account | None = _key("name or number")
    group: Account | None = _key("name or number; the user's own by default")
    supplementary_groups: tuple[Account, ...] | None = _key("the user's own by default")
    environment: dict[Variable, Text] | None = _key("variables, as strings")
    inherit_environment: Globs | None = _key("what passes from the daemon's environment")
    unset_environment: tuple[Words, ...] | None = _key("what is taken out again")
    environment_file: tuple[Words, ...] | None = _key(
        "KEY=VALUE lines; '-' before: may be missing"
    )
    secrets: dict[Variable, Secret] | None = _key("variables that are never shown")
    stdin: Stdin | None = _key("where standard input comes from")
    start_timeout: LongDuration | None = _key("from the start to ready")
    runtime_max: LongDuration | None = _key("longest run")
    stop_signal: Signal | None = _key("first signal of a stop")
    stop_timeout: LongDuration | None = _key("then SIGKILL")
    parent_death_signal: Signal | None = _key("sent when the daemon dies")
    success_exit_codes: tuple[ExitCode, ...] | None = _key("ends that count as clean")
    success_signals: tuple[Signal, ...] | None = _key("ends that count as clean")
    restart_prevent: tuple[ExitEnd, ...] | None = _key("never restart after these")
    restart_force: tuple[ExitEnd, ...] | None = _key("always restart after these")
    critical: Flag | None = _key("its failure shuts the daemon down")
    main: Flag | None = _key("its end shuts the daemon down")
    backoff: Backoff = Backoff.model_construct()
    start_limit: StartLimit = StartLimit.model_construct()
    ready: Ready = Ready.model_construct()
    stop: Stop = Stop.model_construct()
    log: Log = Log.model_construct()
    limits: dict[LimitName, Limit] | None = Field(
        default=None,
        description="resource limits, see getrlimit(2)",
        json_schema_extra={"propertyNames": {"enum": list(fields.LIMIT_NAMES)}},
    )
    scheduling: Scheduling = Scheduling.model_construct()
    sandbox: Sandbox = Sandbox.model_construct()


# -- the daemon -----------------------------------------------------------------------------------


class DaemonLog(Table):
    """The daemon's own events."""

    level: Annotated[str, *fields.choice("debug", "info", "warning", "error")] | None = _key(
        "the least important that are written"
    )
    format: (
        Annotated[str, *fields.choice("auto", "text", "json", not_yet=later.LOG_FORMATS)] | None
    ) = _key("auto: text on a terminal, else json")


class Supervisor(Table):
    """The daemon itself."""

    socket: NoSocket | None = _key("control socket; none in this version")
    runtime_dir: Words | None = _key("place of sockets and state")
    log_dir: Words | None = _key("place of logs")
    state_dir: Words | None = _key("place of what outlives a reboot")
    reaper: Annotated[str, *fields.choice("auto", "pidfd", "sigchld")] | None = _key(
        "how exits are detected"
    )
    subreaper: Flag | None = _key("adopt orphans when not PID 1")
    shutdown_timeout: Duration | None = _key("budget for stopping everything")
    exit_when_idle: AutoFlag | None = _key("exit when every service has ended for good")
    start_concurrency: Annotated[int, *fields.whole(0, 1_000_000)] | None = _key("0 is no limit")
    signals: dict[SignalName, Rewrite] | None = _key("take one signal as another")
    log: DaemonLog = DaemonLog.model_construct()


class Metrics(Table):
    """What Prometheus reads."""

    listen: Listen | None = _key("IP:PORT, [IP]:PORT or unix:PATH")
    include: Regex | None = _key("service names to export")
    exclude: Regex | None = _key("service names not to export")
    phases: AutoFlag | None = _key("the phase set; auto: up to 1000 services")
    resources: Flag | None = _key("figures per process")
    sample_every: Duration | None = _key("read /proc at most this often")


class Web(Table):
    """The gateway."""

    user: Account | None = _key("whom the gateway runs as")


class Group(Table):
    """Services that belong together."""

    services: tuple[Words, ...] = Field(description="members")


SECTIONS: dict[str, type[Table]] = {"supervisor": Supervisor, "metrics": Metrics, "web": Web}
"""The tables that stand once in the file."""

TOP_LEVEL = (*SECTIONS, "include", "group", "defaults", "service")

NOT_IN_DEFAULTS = ("command", "instances", "sockets")

__all__ = [
    "NOT_IN_DEFAULTS", "SECTIONS", "TOP_LEVEL", "CommandLine", "End", "Group", "LimitValues",
    "Metrics", "Service", "Step", "Supervisor", "Table", "Web",
]  # fmt: skip
