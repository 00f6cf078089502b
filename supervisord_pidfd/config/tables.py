"""The tables inside others, and those that stand once in a file; imported when a file has one.

Most services have few of them, and each costs pydantic as much as the rest of a small file.
"""

from typing import Annotated

from pydantic import Field

from supervisord_pidfd.config import fields, later
from supervisord_pidfd.config.fields import (
    Account,
    AutoFlag,
    Command,
    Cpus,
    Duration,
    Flag,
    LinePattern,
    Listen,
    LongDuration,
    Outputs,
    OwnOutputs,
    Regex,
    Rewrite,
    RotateEvery,
    Signal,
    SignalName,
    Size,
    Socket,
    StopStep,
    Text,
    Words,
)
from supervisord_pidfd.config.model import Table, key
from supervisord_pidfd.config.targets import (
    Calendar,
    HeaderName,
    HostName,
    Period,
    Rate,
    Status,
    TimeZone,
)

# -- of a service ---------------------------------------------------------------------------------


class Backoff(Table):
    """How long to wait between automatic restarts."""

    delay: Duration | None = key("wait before the second restart in a row; the first is at once")
    factor: Annotated[float, fields.real(1, 1000)] | None = key("growth of the wait")
    max_delay: Duration | None = key("longest wait")
    jitter: Annotated[float, fields.real(0, 1)] | None = key("random part added to each wait")
    reset_after: Duration | None = key("ready for so long, and the next end is a first one")


class StartLimit(Table):
    """How many automatic restarts are allowed in an interval."""

    burst: Annotated[int, fields.whole(0, 1_000_000)] | None = key("restarts; 0 is no limit")
    interval: Duration | None = key("length of the sliding window")
    action: Annotated[str, fields.choice("fail", "slow-retry", "shutdown")] | None = key(
        "what happens at the limit"
    )


class Ready(Table):
    """When the service counts as ready: at most one of the ways."""

    tcp: Words | None = key("HOST:PORT, [IP]:PORT or unix:PATH takes a connection")
    http: Words | None = key("the URL answers 200-399")
    exec: Command | None = key("the command exits with 0")
    file: Words | None = key("the path exists")
    log: LinePattern | None = key("a line of its output matches")
    fd: Annotated[int, fields.whole(3, 1023)] | None = key(
        "a newline was written to this descriptor"
    )
    delay: Duration | None = key("it has stayed up so long")
    period: Period | None = key("between two tries")
    timeout: Period | None = key("for one try")


class HealthCheck(Table):
    """One check of a service that is ready: exactly one kind."""

    tcp: Words | None = key("HOST:PORT, [IP]:PORT or unix:PATH takes a connection")
    http: Words | None = key("the URL answers as it should")
    exec: Command | None = key("the command exits with 0")
    watchdog: Period | None = key("WATCHDOG=1 arrives at least so often")
    memory: Size | None = key("the main process stays below so much")
    period: Period | None = key("between two tries")
    timeout: Period | None = key("for one try")
    initial_delay: Duration | None = key("before the first try")
    failures: Annotated[int, fields.whole(1, 1_000_000)] | None = key(
        "in a row until it is unhealthy"
    )
    successes: Annotated[int, fields.whole(1, 1_000_000)] | None = key(
        "in a row until it is healthy again"
    )
    action: Annotated[str, fields.choice("restart", "stop", "shutdown", "none")] | None = key(
        "what follows; none: only ready is lost"
    )
    headers: dict[HeaderName, Text] | None = key("of the request")
    status: Status | None = key("codes that count as success")
    verify: Flag | None = key("check the certificate of https")


class Hooks(Table):
    """Commands that run beside the main one."""

    pre_start: Command | None = key("before every start; its failure fails the start")
    post_start: Command | None = key(
        "after every start, of a oneshot after its clean end; its failure fails the start"
    )
    pre_stop: Command | None = key("before the first stop signal; its failure is only told")
    post_stop: Command | None = key(
        "after every end, before what follows; its failure is only told"
    )
    on_failure: Command | None = key("when the service becomes failed; nobody waits for it")
    timeout: Period | None = key("for each of them")


class Reload(Table):
    """How the service is told to read its own configuration again."""

    signal: Signal | None = key("sent to the main process")
    command: Command | None = key("run; MAINPID is set")
    check: Command | None = key("must exit with 0 before a reload or restart by command")
    timeout: Period | None = key("for each of them")


class Schedule(Table):
    """When a oneshot runs: one of `every` and `calendar`."""

    every: Period | None = key("from start to start")
    calendar: Calendar | None = key("cron expression of five fields")
    overlap: Annotated[str, fields.choice("skip", "queue", "restart")] | None = key(
        "the last run is not over: leave this one out, run it then, or end the last one"
    )
    jitter: Duration | None = key("random extra delay up to this")
    timezone: TimeZone | None = key("of the calendar; the daemon's own by default")


class FdStore(Table):
    """Descriptors that are kept for the service over its restarts."""

    max: Annotated[int, fields.whole(0, 1024)] | None = key("how many; 0 is none")


class Stop(Table):
    """How the service is stopped."""

    scope: (
        Annotated[
            str,
            fields.choice("auto", "group", "mixed", "process", not_yet=later.SCOPES),
        ]
        | None
    ) = key("who gets the signals")
    sequence: tuple[StopStep, ...] | None = key("replaces stop_signal and stop_timeout")
    command: Command | None = key(
        "instead of the first signal, which follows if it fails; MAINPID is set"
    )
    leftovers: Annotated[str, fields.choice("kill", "keep")] | None = key(
        "processes still there when the main process has ended"
    )


class Log(Table):
    """Where the output of the service goes."""

    to: Outputs | None = key(
        "any of file, stdout, journal, syslog; auto: the one that suits; inherit: as the daemon;"
        " direct: the service opens log.path itself; null"
    )
    format: Annotated[str, fields.choice("auto", "raw", "text", "json")] | None = key(
        "of lines in files and on standard output; auto: raw, and text on a terminal, else json"
    )
    path: Words | None = key("the file")
    stderr_path: Words | None = key("another file for standard error")
    rotate_size: Size | None = key("a file that has grown to this is rotated; 0 is never")
    rotate_keep: Annotated[int, fields.whole(0, 10_000)] | None = key("rotated files kept")
    rotate_total: Size | None = key("size of all files together; 0 is no limit")
    rotate_every: RotateEvery | None = key("rotate also when so much time has passed")
    compress: Flag | None = key("compress rotated files (gzip)")
    overflow: Annotated[str, fields.choice("block", "drop", "drop_newest")] | None = key(
        "while a sink takes nothing: the service waits, or the oldest or newest lines go"
    )
    block_for: LongDuration | None = key("how long overflow = block lets it wait, then it drops")
    rate_limit: Rate | None = key("lines beyond this are dropped")
    strip_ansi: Flag | None = key("remove colours and other escape sequences")
    ring: Size | None = key("memory for the latest output")
    max_line: Size | None = key("longer lines are split")


class Scheduling(Table):
    """How the kernel treats the service."""

    nice: Annotated[int, fields.whole(-20, 19)] | None = key("as nice(1)")
    oom_score_adjust: Annotated[int, fields.whole(-1000, 1000)] | None = key("oom_score_adj")
    cpu_affinity: Cpus | None = key("as taskset(1)")
    policy: Annotated[str, fields.choice("other", "batch", "idle", "fifo", "rr")] | None = key(
        "as chrt(1)"
    )
    priority: Annotated[int, fields.whole(1, 99)] | None = key("of fifo and rr")


class Sandbox(Table):
    """What the service may not do."""

    no_new_privileges: Flag | None = key("set-user-id programs gain nothing")


# -- of the file ----------------------------------------------------------------------------------


class DaemonLog(Table):
    """The daemon's own events."""

    level: Annotated[str, fields.choice("debug", "info", "warning", "error")] | None = key(
        "the least important events that are written"
    )
    format: (
        Annotated[str, fields.choice("auto", "text", "json", not_yet=later.LOG_FORMATS)] | None
    ) = key("auto: text on a terminal, else json")
    to: OwnOutputs | None = key("any of file, stdout, journal, syslog; or auto, null")
    path: Words | None = key("the file")
    rotate_size: Size | None = key("a file that has grown to this is rotated; 0 is never")
    rotate_keep: Annotated[int, fields.whole(0, 10_000)] | None = key("rotated files kept")
    rotate_total: Size | None = key("size of all files together; 0 is no limit")
    rotate_every: RotateEvery | None = key("rotate also when so much time has passed")
    compress: Flag | None = key("compress rotated files (gzip)")


class Supervisor(Table):
    """The daemon itself."""

    socket: Socket | None = key("control socket, or none")
    runtime_dir: Words | None = key("place of sockets and state")
    log_dir: Words | None = key("place of logs")
    state_dir: Words | None = key("place of what outlives a reboot")
    read_users: tuple[Account, ...] | None = key("users who may read over the control socket")
    read_groups: tuple[Account, ...] | None = key("groups that may read over the control socket")
    reaper: Annotated[str, fields.choice("auto", "pidfd", "sigchld")] | None = key(
        "how exits are detected"
    )
    subreaper: Flag | None = key("adopt orphans when not PID 1")
    shutdown_timeout: Duration | None = key("budget for stopping everything")
    exit_when_idle: AutoFlag | None = key("exit when every service has ended for good")
    ready_when: Annotated[str, fields.choice("listening", "services")] | None = key(
        "when readiness is told: listening, or every critical service ready"
    )
    history_size: Annotated[int, fields.whole(0, 10_000)] | None = key(
        "runs that are kept of each service"
    )
    start_concurrency: Annotated[int, fields.whole(0, 1_000_000)] | None = key(
        "services that start at once; 0 is no limit"
    )
    signals: dict[SignalName, Rewrite] | None = key("take one signal as another")
    log: DaemonLog | None = None


class Metrics(Table):
    """What Prometheus reads."""

    listen: Listen | None = key("IP:PORT, [IP]:PORT or unix:PATH")
    include: Regex | None = key("service names to export")
    exclude: Regex | None = key("service names not to export")
    phases: AutoFlag | None = key("the phase set; auto: up to 1000 services")
    resources: Flag | None = key("figures per process")
    sample_every: Duration | None = key("read /proc at most this often")
    canary: Period | None = key(
        "start a test child so often, and measure how late its end is seen"
    )


class Web(Table):
    """Dashboard and HTTP API, and the gateway that serves them."""

    listen: Listen | None = key("IP:PORT, [IP]:PORT or unix:PATH")
    control: Flag | None = key("allow changes over HTTP; needs token_file")
    token_file: Words | None = key(
        "one ROLE:SHA256HEX a line, ROLE metrics, read or control; then a token is needed"
    )
    user: Account | None = key("whom the gateway runs as")
    allowed_hosts: tuple[HostName, ...] | None = key(
        "Host names accepted beside IP addresses and localhost"
    )
    rpc: Annotated[str, fields.choice("off", "read", "control")] | None = key(
        "XML-RPC as Supervisor has it, at /RPC2"
    )
    rpc_listen: Listen | None = key("where: IP:PORT, [IP]:PORT or unix:PATH")


class Group(Table):
    """Services that belong together."""

    services: tuple[Words, ...] = Field(description="members")
    strategy: (
        Annotated[str, fields.choice("one_for_one", "rest_for_one", "all_for_one")] | None
    ) = key("what an automatic restart of a member restarts with it")
    limit: Rate | None = key("automatic restarts of all members together: COUNT/DURATION")
