"""What users may write: one class per table of the file, one field per key that is built.

A field that is not given is None, so that "not written" is known: defaults belong to
`core/spec.py`. Keys that are known but not built stand in `later.py`. `${}` is filled in by
`resolve.py`, in the fields that §5 of the reference marks so.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from supervisord_pidfd.config import fields, later
from supervisord_pidfd.config.fields import (
    Account,
    AutoFlag,
    CheckName,
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
    Outputs,
    Regex,
    Rewrite,
    Secret,
    Signal,
    SignalName,
    Size,
    Socket,
    Stdin,
    Step,
    StopStep,
    Text,
    Umask,
    Variable,
    Words,
)
from supervisord_pidfd.config.references import Ref, Reference, Target
from supervisord_pidfd.config.targets import (
    Calendar,
    HeaderName,
    Period,
    Rate,
    RateLimit,
    Status,
    TimeZone,
    WebPath,
)


def _key(description: str) -> Any:
    """Declare a key that need not be written."""
    return Field(default=None, description=description)


class Table(BaseModel):
    """Be the base of every table: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


INNER: list[type[Table]] = []
"""The tables inside others."""


def _inner(table: type[Table]) -> tuple[Any, Any]:
    """Make the metadata of a table inside another: it is built when a file has one, not before.

    Most services have few tables, and each costs pydantic as much as the rest of a small file.
    """
    INNER.append(table)
    return PlainValidator(table.model_validate), WithJsonSchema({"table": table.__name__})


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
    """When the service counts as ready: at most one of the ways."""

    tcp: Words | None = _key("HOST:PORT, [IP]:PORT or unix:PATH takes a connection")
    http: Words | None = _key("the URL answers 200-399")
    exec: Command | None = _key("the command exits with 0")
    file: Words | None = _key("the path exists")
    fd: Annotated[int, *fields.whole(3, 1023)] | None = _key(
        "a newline was written to this descriptor"
    )
    delay: Duration | None = _key("it has stayed up so long")
    period: Period | None = _key("between two tries")
    timeout: Period | None = _key("for one try")


READY_WAYS = ("tcp", "http", "exec", "file", "fd", "delay")


class HealthCheck(Table):
    """One check of a service that is ready: exactly one kind."""

    tcp: Words | None = _key("HOST:PORT, [IP]:PORT or unix:PATH takes a connection")
    http: Words | None = _key("the URL answers as it should")
    exec: Command | None = _key("the command exits with 0")
    watchdog: Period | None = _key("WATCHDOG=1 arrives at least so often")
    memory: Size | None = _key("the main process stays below so much")
    period: Period | None = _key("between two tries")
    timeout: Period | None = _key("for one try")
    initial_delay: Duration | None = _key("before the first try")
    failures: Annotated[int, *fields.whole(1, 1_000_000)] | None = _key(
        "in a row until it is unhealthy"
    )
    successes: Annotated[int, *fields.whole(1, 1_000_000)] | None = _key(
        "in a row until it is healthy again"
    )
    action: Annotated[str, *fields.choice("restart", "stop", "shutdown", "none")] | None = _key(
        "what follows; none: only ready is lost"
    )
    headers: dict[HeaderName, Text] | None = _key("of the request")
    status: Status | None = _key("codes that count as success")
    verify: Flag | None = _key("check the certificate of https")


CHECK_KINDS = ("tcp", "http", "exec", "watchdog", "memory")


class Hooks(Table):
    """Commands that run beside the main one."""

    pre_start: Command | None = _key("before every start; its failure fails the start")
    post_start: Command | None = _key("after every start; its failure fails the start")
    pre_stop: Command | None = _key("before a stop")
    post_stop: Command | None = _key("after every end")
    on_failure: Command | None = _key("when the service becomes failed")
    timeout: Period | None = _key("for each of them")


class Reload(Table):
    """How the service is told to read its own configuration again."""

    signal: Signal | None = _key("sent to the main process")
    command: Command | None = _key("run; MAINPID is set")
    check: Command | None = _key("must exit with 0 before a reload or restart by command")
    timeout: Period | None = _key("for each of them")


class Schedule(Table):
    """When a oneshot runs: one of `every` and `calendar`."""

    every: Period | None = _key("from start to start")
    calendar: Calendar | None = _key("cron expression of five fields")
    overlap: Annotated[str, *fields.choice("skip", "queue", "restart")] | None = _key(
        "the last run is not over: leave this one out, run it then, or end the last one"
    )
    jitter: Duration | None = _key("random extra delay up to this")
    timezone: TimeZone | None = _key("of the calendar; the daemon's own by default")


class FdStore(Table):
    """Descriptors that are kept for the service over its restarts."""

    max: Annotated[int, *fields.whole(0, 1024)] | None = _key("how many; 0 is none")


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
    command: Command | None = _key("instead of the first signal; MAINPID is set")
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
        str | None, *fields.choice("simple", "exec", "notify", "oneshot", not_yet=later.TYPES)
    ] = _key("ready when executed, when it says so, or when ended cleanly")
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
    requires: tuple[Reference, ...] | None = _key("needs them: started with it, waited for")
    wants: tuple[Reference, ...] | None = _key("starts them and waits, but goes on without")
    after: tuple[Reference, ...] | None = _key("order only, if both are to run")
    before: tuple[Reference, ...] | None = _key("order only; the condition is this service's own")
    part_of: tuple[Target, ...] | None = _key("their stop and restart is repeated here")
    success_exit_codes: tuple[ExitCode, ...] | None = _key("ends that count as clean")
    success_signals: tuple[Signal, ...] | None = _key("ends that count as clean")
    restart_prevent: tuple[ExitEnd, ...] | None = _key("never restart after these")
    restart_force: tuple[ExitEnd, ...] | None = _key("always restart after these")
    critical: Flag | None = _key("its failure shuts the daemon down")
    main: Flag | None = _key("its end shuts the daemon down")
    notify_access: Annotated[str, *fields.choice("main", "all")] | None = _key(
        "whose notify messages count"
    )
    metrics_port: Annotated[int, *fields.whole(1, 65535)] | None = _key(
        "where the service itself is scraped"
    )
    metrics_path: WebPath | None = _key("where the service itself is scraped")
    backoff: Annotated[Backoff, *_inner(Backoff)] = Backoff.model_construct()
    start_limit: Annotated[StartLimit, *_inner(StartLimit)] = StartLimit.model_construct()
    ready: Annotated[Ready, *_inner(Ready)] = Ready.model_construct()
    health: dict[CheckName, Annotated[HealthCheck, *_inner(HealthCheck)]] | None = _key(
        "checks, from ready on"
    )
    stop: Annotated[Stop, *_inner(Stop)] = Stop.model_construct()
    reload: Annotated[Reload, *_inner(Reload)] = Reload.model_construct()
    hooks: Annotated[Hooks, *_inner(Hooks)] = Hooks.model_construct()
    schedule: Annotated[Schedule, *_inner(Schedule)] | None = None
    fdstore: Annotated[FdStore, *_inner(FdStore)] = FdStore.model_construct()
    log: Annotated[Log, *_inner(Log)] = Log.model_construct()
    limits: dict[LimitName, Limit] | None = Field(
        default=None,
        description="resource limits, see getrlimit(2)",
        json_schema_extra={"propertyNames": {"enum": list(fields.LIMIT_NAMES)}},
    )
    scheduling: Annotated[Scheduling, *_inner(Scheduling)] = Scheduling.model_construct()
    sandbox: Annotated[Sandbox, *_inner(Sandbox)] = Sandbox.model_construct()


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

    socket: Socket | None = _key("control socket, or none")
    runtime_dir: Words | None = _key("place of sockets and state")
    log_dir: Words | None = _key("place of logs")
    state_dir: Words | None = _key("place of what outlives a reboot")
    read_users: tuple[Account, ...] | None = _key("who else may read: names or numbers")
    read_groups: tuple[Account, ...] | None = _key("who else may read: names or numbers")
    reaper: Annotated[str, *fields.choice("auto", "pidfd", "sigchld")] | None = _key(
        "how exits are detected"
    )
    subreaper: Flag | None = _key("adopt orphans when not PID 1")
    shutdown_timeout: Duration | None = _key("budget for stopping everything")
    exit_when_idle: AutoFlag | None = _key("exit when every service has ended for good")
    ready_when: Annotated[str, *fields.choice("listening", "services")] | None = _key(
        "when readiness is told: listening, or every critical service ready"
    )
    history_size: Annotated[int, *fields.whole(0, 10_000)] | None = _key(
        "runs that are kept of each service"
    )
    start_concurrency: Annotated[int, *fields.whole(0, 1_000_000)] | None = _key("0 is no limit")
    signals: dict[SignalName, Rewrite] | None = _key("take one signal as another")
    log: Annotated[DaemonLog, *_inner(DaemonLog)] = DaemonLog.model_construct()


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
    strategy: (
        Annotated[str, *fields.choice("one_for_one", "rest_for_one", "all_for_one")] | None
    ) = _key("what an automatic restart of a member restarts with it")
    limit: Rate | None = _key("automatic restarts of all members together: COUNT/DURATION")


SECTIONS: dict[str, type[Table]] = {"supervisor": Supervisor, "metrics": Metrics, "web": Web}
"""The tables that stand once in the file."""

TOP_LEVEL = (*SECTIONS, "include", "group", "defaults", "service")

NOT_IN_DEFAULTS = ("command", "instances", "sockets")

__all__ = [
    "CHECK_KINDS",
    "INNER",
    "NOT_IN_DEFAULTS",
    "READY_WAYS",
    "SECTIONS",
    "TOP_LEVEL",
    "CommandLine",
    "End",
    "Group",
    "HealthCheck",
    "LimitValues",
    "Metrics",
    "RateLimit",
    "Ref",
    "Service",
    "Step",
    "Supervisor",
    "Table",
    "Web",
]  # fmt: skip
