"""One service, fully resolved: what the core needs to know, with no text left to parse.

Lengths are float seconds (`math.inf` where the file says "infinity"), sizes are bytes, signals are
numbers. `dump` and `load` turn any of these tuples into plain JSON data and back: the config child
sends that over its pipe, never a pickle. Only members that differ from their default travel.
"""

import enum
import math
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from supervisord_pidfd.core.exitstatus import Ends

SIGHUP, SIGINT, SIGPIPE, SIGTERM = 1, 2, 13, 15
"""The numbers are the same on every Linux architecture; `signal` would be an effectful import."""


class ServiceType(enum.StrEnum):
    """Say when a service counts as ready."""

    SIMPLE = "simple"
    NOTIFY = "notify"
    ONESHOT = "oneshot"


class RestartPolicy(enum.StrEnum):
    """Name the seven restart policies."""

    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    ON_SUCCESS = "on-success"
    ON_ABNORMAL = "on-abnormal"
    ON_WATCHDOG = "on-watchdog"
    UNLESS_STOPPED = "unless-stopped"


class LimitAction(enum.StrEnum):
    """Say what happens when the start limit is reached."""

    FAIL = "fail"
    SLOW_RETRY = "slow-retry"
    SHUTDOWN = "shutdown"


class Scope(enum.StrEnum):
    """Say who gets the signals of a stop."""

    GROUP = "group"
    MIXED = "mixed"
    PROCESS = "process"


class Output(enum.StrEnum):
    """Say where standard output and standard error of a service go."""

    INHERIT = "inherit"
    NULL = "null"
    CAPTURED = "captured"
    DIRECT = "direct"


class LogFormat(enum.StrEnum):
    """Name the shapes of a line: as it came, for people, as an object."""

    RAW = "raw"
    TEXT = "text"
    JSON = "json"


class Overflow(enum.StrEnum):
    """Say what happens to output while a sink takes nothing."""

    BLOCK = "block"
    DROP = "drop"
    DROP_NEWEST = "drop_newest"


class LogSpec(NamedTuple):
    """Hold what becomes of captured output; for the logger, the core only passes it on.

    `to` are sinks: `file`, `stdout`, `journal`, `syslog`; with none the ring is all there is.
    `format` is for file and standard output, None what suits each. `path` and `stderr_path` are
    absolute, the same for one file. Sizes are bytes and 0 is no limit; `rotate_every` is seconds
    and `rotate_at` is `hourly`, `daily` or nothing. `block_for` may be infinite. `rate_count`
    lines are let through in `rate_per` seconds, 0 is all of them. `ready` is the pattern of the
    line that makes a run ready, and `ready_reach` how many bytes of a line are looked at for it.
    """

    to: tuple[str, ...] = ()
    format: LogFormat | None = None
    path: str = ""
    stderr_path: str = ""
    rotate_size: int = 50_000_000
    rotate_keep: int = 10
    rotate_total: int = 0
    rotate_every: float = 0.0
    rotate_at: str = ""
    compress: bool = False
    overflow: Overflow = Overflow.BLOCK
    block_for: float = 10.0
    rate_count: int = 0
    rate_per: float = 0.0
    strip_ansi: bool = False
    ring: int = 64 << 10
    max_line: int = 16 << 10
    ready: str = ""
    ready_reach: int = 1000


class CommandSpec(NamedTuple):
    """Hold a command beside the main one: a hook, a check, a way to stop or to reload.

    `program` and `fast` mean what they mean for a service.
    """

    argv: tuple[str, ...]
    program: str | None = None
    fast: bool = False


class Tie(enum.StrEnum):
    """Name how a service is tied to another one that it names."""

    REQUIRES = "requires"
    WANTS = "wants"
    AFTER = "after"


class Condition(enum.StrEnum):
    """Name what a service waits for."""

    STARTED = "started"
    READY = "ready"
    HEALTHY = "healthy"
    EXITED = "exited"
    EXITED_OK = "exited_ok"


class Dependency(NamedTuple):
    """Hold one edge: what waits, for whom (a full name), and for what of it.

    A `before` of the file stands here as the AFTER of the other service, and a group or a base
    name as one edge for each service it stands for.
    """

    target: str
    tie: Tie
    condition: Condition = Condition.READY


class ReadyKind(enum.StrEnum):
    """Name what makes a run ready, as the `way` of `service.ready` does."""

    EXECUTED = "executed"
    DELAY = "delay"
    NOTIFY = "notify"
    EXITED = "exited"
    TCP = "tcp"
    HTTP = "http"
    EXEC = "exec"
    FILE = "file"
    FD = "fd"
    LOG = "log"


class ReadySpec(NamedTuple):
    """Hold when a run is ready.

    `target` is the address, URL or path that is asked; `fd` the number of the descriptor that a
    newline is written to; `period` lies between two tries, `timeout` bounds each.
    """

    kind: ReadyKind = ReadyKind.EXECUTED
    delay: float = 0.0
    target: str = ""
    command: CommandSpec | None = None
    fd: int = -1
    period: float = 0.25
    timeout: float = 2.0


class CheckKind(enum.StrEnum):
    """Name the kinds of health checks."""

    TCP = "tcp"
    HTTP = "http"
    EXEC = "exec"
    WATCHDOG = "watchdog"
    MEMORY = "memory"


class CheckAction(enum.StrEnum):
    """Say what follows when a check has failed often enough."""

    RESTART = "restart"
    STOP = "stop"
    SHUTDOWN = "shutdown"
    NONE = "none"


class CheckSpec(NamedTuple):
    """Hold one health check of a service.

    `target` is an address or URL; `size` bytes for `memory`. The `period` of a watchdog is the
    longest time between two WATCHDOG=1. `status` lists the ranges of accepted HTTP codes.
    """

    name: str
    kind: CheckKind
    target: str = ""
    command: CommandSpec | None = None
    size: int = 0
    period: float = 10.0
    timeout: float = 3.0
    initial_delay: float = 0.0
    failures: int = 3
    successes: int = 1
    action: CheckAction = CheckAction.RESTART
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    verify: bool = True


class Hook(enum.StrEnum):
    """Name the commands that run beside the main one, as SUPERVISORD_HOOK does."""

    PRE_START = "pre_start"
    POST_START = "post_start"
    PRE_STOP = "pre_stop"
    STOP = "stop"
    POST_STOP = "post_stop"
    RELOAD = "reload"
    RELOAD_CHECK = "reload_check"
    ON_FAILURE = "on_failure"


class HooksSpec(NamedTuple):
    """Hold the hooks of a service, and how long each may take."""

    pre_start: CommandSpec | None = None
    post_start: CommandSpec | None = None
    pre_stop: CommandSpec | None = None
    post_stop: CommandSpec | None = None
    on_failure: CommandSpec | None = None
    timeout: float = 30.0


class ReloadSpec(NamedTuple):
    """Hold how a service is told to read its own configuration again; neither = it cannot."""

    signum: int | None = None
    command: CommandSpec | None = None
    check: CommandSpec | None = None
    timeout: float = 30.0


class Overlap(enum.StrEnum):
    """Say what happens to a scheduled run that comes due while the last one is not over."""

    SKIP = "skip"
    QUEUE = "queue"
    RESTART = "restart"


class ScheduleSpec(NamedTuple):
    """Hold when a oneshot runs: every so many seconds from start to start, or by calendar."""

    every: float | None = None
    calendar: str | None = None
    overlap: Overlap = Overlap.SKIP
    jitter: float = 0.0
    timezone: str | None = None


class GroupStrategy(enum.StrEnum):
    """Say what an automatic restart of a member restarts with it."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"
    ALL_FOR_ONE = "all_for_one"


class GroupSpec(NamedTuple):
    """Hold a group: its members by their full names, in the order listed.

    Beyond `burst` automatic restarts of all members together within `interval` the members are
    stopped and failed; burst 0 is no limit.
    """

    name: str
    members: tuple[str, ...] = ()
    strategy: GroupStrategy = GroupStrategy.ONE_FOR_ONE
    burst: int = 0
    interval: float = 0.0


class NotifyAccess(enum.StrEnum):
    """Say whose notify messages count."""

    MAIN = "main"
    ALL = "all"


class StopStep(NamedTuple):
    """Hold one step of a stop: the signal, and how long to wait before the next one."""

    signum: int
    timeout: float


class StopSpec(NamedTuple):
    """Hold how a service is stopped; after the last step comes SIGKILL.

    A `command` runs instead of the first step's signal, whose wait then counts for it.
    """

    steps: tuple[StopStep, ...] = (StopStep(SIGTERM, 10.0),)
    scope: Scope = Scope.GROUP
    keep_leftovers: bool = False
    command: CommandSpec | None = None

    @property
    def timeout(self) -> float:
        """Return the seconds from the first signal to SIGKILL."""
        return sum(step.timeout for step in self.steps)


class BackoffSpec(NamedTuple):
    """Hold how long to wait between automatic restarts."""

    delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.1
    reset_after: float = 60.0


class StartLimitSpec(NamedTuple):
    """Hold how many automatic restarts are allowed in a sliding window; burst 0 is no limit."""

    burst: int = 10
    interval: float = 600.0
    action: LimitAction = LimitAction.FAIL


class Identity(NamedTuple):
    """Hold whom a service runs as, already looked up; `home` and `shell` fill its environment."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    user: str | None = None
    home: str | None = None
    shell: str | None = None


class ResourceLimit(NamedTuple):
    """Hold one rlimit: its name in lower case, soft and hard value; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class StartFault(NamedTuple):
    """Hold why every start must fail until the next apply: a stage, its subject, an errno name."""

    stage: str
    subject: str
    error: str


class ServiceSpec(NamedTuple):
    """Hold one service.

    `program` is the absolute path found in the service's PATH, or None if there was none when the
    configuration was loaded: then the child looks again at each start. `fast` is true when
    program, interpreter and stdin lie on local filesystems: a vfork cannot suspend the core then.
    `origin` is where its table stands (`FILE:LINE`). `written` is what the file says of it, for
    people: JSON, a list of [dotted key, value as TOML text, file, line], secrets masked.
    """

    name: str
    argv: tuple[str, ...]
    program: str | None = None
    fast: bool = False
    group: str = ""
    type: ServiceType = ServiceType.SIMPLE
    description: str = ""
    autostart: bool = True
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    directory: str | None = None
    umask: int = 0o022
    identity: Identity | None = None
    environment: tuple[tuple[str, str], ...] = ()
    inherit: tuple[str, ...] = ("*",)
    unset: tuple[str, ...] = ()
    instance: str = ""
    stdin: str = "null"
    output: Output = Output.INHERIT
    log: LogSpec = LogSpec()
    start_timeout: float = 90.0
    runtime_max: float = math.inf
    ready: ReadySpec = ReadySpec()
    checks: tuple[CheckSpec, ...] = ()
    hooks: HooksSpec = HooksSpec()
    reload: ReloadSpec = ReloadSpec()
    schedule: ScheduleSpec | None = None
    dependencies: tuple[Dependency, ...] = ()
    part_of: tuple[str, ...] = ()
    notify_access: NotifyAccess = NotifyAccess.MAIN
    fdstore_max: int = 0
    metrics_port: int | None = None
    metrics_path: str = "/metrics"
    stop: StopSpec = StopSpec()
    success: Ends = Ends((0,), (SIGHUP, SIGINT, SIGTERM, SIGPIPE))
    restart_prevent: Ends = Ends()
    restart_force: Ends = Ends()
    backoff: BackoffSpec = BackoffSpec()
    start_limit: StartLimitSpec = StartLimitSpec()
    critical: bool = False
    main: bool = False
    limits: tuple[ResourceLimit, ...] = ()
    nice: int | None = None
    oom_score_adjust: int | None = None
    cpu_affinity: tuple[int, ...] = ()
    sched_policy: str | None = None
    sched_priority: int = 0
    no_new_privileges: bool = False
    parent_death_signal: int | None = None
    foreground: bool = False
    fault: StartFault | None = None
    origin: str = ""
    written: str = ""


LIVE_FIELDS = frozenset(
    {
        "description", "autostart", "restart", "start_timeout", "runtime_max", "checks", "hooks",
        "reload", "schedule", "dependencies", "part_of", "notify_access", "fdstore_max",
        "metrics_port", "metrics_path", "stop", "success", "restart_prevent", "restart_force",
        "backoff", "start_limit", "critical", "main", "group", "origin", "written", "program",
        "fast", "log",
    }
)  # fmt: skip
"""Members that `apply` changes in place (L in the reference); every other one restarts.

`program` and `fast` are what the host answered, not what the file says: a command that is found
elsewhere, or a filesystem that was slow to tell its type, is no reason to restart what runs.
"""


class MetricsSpec(NamedTuple):
    """Hold what the gateway serves to Prometheus; `canary` is an interval, 0 for none."""

    listen: tuple[str, ...] = ()
    include: str = ""
    exclude: str = ""
    phases: bool | None = None
    resources: bool = True
    sample_every: float = 15.0
    canary: float = 0.0


class Token(NamedTuple):
    """Hold what a client may do who shows the text with this SHA-256."""

    role: str
    sha256: str


class WebSpec(NamedTuple):
    """Hold what the gateway serves beside metrics, to whom, and whom it runs as.

    `tokens` are what `token_file` held when it was read; None means that there is no such file.
    `rpc_listen` is empty where `rpc` is off.
    """

    listen: tuple[str, ...] = ()
    control: bool = False
    token_file: str | None = None
    tokens: tuple[Token, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    rpc: str = "off"
    rpc_listen: tuple[str, ...] = ()
    user: str | None = None
    identity: Identity | None = None

    @property
    def may_control(self) -> bool:
        """Tell whether anybody may change something through the gateway."""
        return self.control or self.rpc == "control"


class GatewaySpec(NamedTuple):
    """Hold all that the gateway is told; `socket` leads to the core, None where there is none."""

    metrics: MetricsSpec = MetricsSpec()
    web: WebSpec = WebSpec()
    socket: str | None = None

    @property
    def listens(self) -> bool:
        """Tell whether there is anything to serve: without a listener there is no gateway."""
        return bool(self.metrics.listen or self.web.listen or self.web.rpc_listen)


class SupervisorSpec(NamedTuple):
    """Hold the daemon's own settings; None means "the default of this place" (PID 1, uid).

    `socket` is a path, or "none" for no control socket. `own_log` is where the daemon's own events
    go. `written` is as in `ServiceSpec`.
    """

    socket: str | None = None
    runtime_dir: str | None = None
    read_uids: tuple[int, ...] = ()
    read_gids: tuple[int, ...] = ()
    groups: tuple[GroupSpec, ...] = ()
    history_size: int = 100
    ready_when: str = "listening"
    reaper: str = "auto"
    subreaper: bool = True
    shutdown_timeout: float | None = None
    exit_when_idle: bool | None = None
    start_concurrency: int = 0
    signals: tuple[tuple[int, int], ...] = ()
    log_level: str = "info"
    log_format: str = "auto"
    own_log: LogSpec = LogSpec(to=("stdout",))
    metrics: MetricsSpec = MetricsSpec()
    web: WebSpec = WebSpec()
    written: str = ""


# -- plain data ---------------------------------------------------------------------------------

_Tuple = TypeVar("_Tuple")


def dump(value: Any) -> Any:
    """Turn a spec into plain JSON data, leaving out what equals its default."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        defaults = value._field_defaults  # type: ignore[attr-defined]
        return {
            name: dump(member)
            for name, member in zip(value._fields, value, strict=True)
            if name not in defaults or member != defaults[name]
        }
    if isinstance(value, tuple):
        return [dump(member) for member in value]
    return value


def load(kind: type[_Tuple], plain: dict[str, Any]) -> _Tuple:
    """Build a spec from what `dump` made.

    Raises:
        TypeError, ValueError, KeyError: The data does not fit the type: a bug of ours.
    """
    readers = _readers(kind)
    return kind(**{name: readers[name](member) for name, member in plain.items()})


_READERS: dict[type, dict[str, Any]] = {}


def _readers(kind: type) -> dict[str, Any]:
    if kind not in _READERS:
        _READERS[kind] = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    return _READERS[kind]


def _reader(hint: Any) -> Any:
    """Choose how to read a member of this type: nested, enum, tuple of those, or as it is."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if type(None) in get_args(hint):
        inner = _reader(options[0])
        return lambda plain: None if plain is None else inner(plain)
    if hasattr(hint, "_fields"):
        return lambda plain: load(hint, plain)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint
    if getattr(hint, "__origin__", None) is tuple:
        element = _reader(options[0])
        return lambda plain: tuple(element(member) for member in plain)
    return lambda plain: plain
