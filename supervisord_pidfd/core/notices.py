"""What observers are told, past tense: one NamedTuple and one row of `EVENTS` per event.

A notice is made by a pure rule or by the part of the shell that saw the thing happen, and is
published once, after the spawns and signals of the batch. The daemon's log, the counters and the
gateway's replica all read the same stream. Field names are those of the log (units in the name);
`None` stands for "unknown or not applicable", and for a length without end. A `signal` is a number
here, because its name depends on the machine; `event_of` gives it the name.
"""

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Level(enum.IntEnum):
    """Order the levels of the log: mechanism, as asked, handled but unwished, needs a person."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


# -- the daemon -----------------------------------------------------------------------------------


class DaemonStarted(NamedTuple):  # noqa: D101 - each of these is told by its row in EVENTS
    version: str
    reaper: str
    pid1: bool
    config: str | None
    services: int


class DaemonReady(NamedTuple):  # noqa: D101
    took_s: float


class DaemonStopping(NamedTuple):  # noqa: D101
    by: str
    signal: int | None
    service: str | None
    timeout_s: float


class DaemonHastened(NamedTuple):  # noqa: D101
    signal: int


class DaemonStopped(NamedTuple):  # noqa: D101
    exit_code: int
    took_s: float
    left_alive: int


class ReaperChosen(NamedTuple):  # noqa: D101
    reaper: str
    reason: str | None
    features: tuple[str, ...]


class ReaperFellBack(NamedTuple):  # noqa: D101
    reason: str
    error: str | None


class ReaperChildFellBack(NamedTuple):  # noqa: D101
    error: str


class OrphanReaped(NamedTuple):  # noqa: D101
    exit_code: int | None
    signal: int | None
    pid: int


class LoopLagged(NamedTuple):  # noqa: D101
    lag_s: float


class CallbackCrashed(NamedTuple):  # noqa: D101
    where: str
    error: str


class ConfigApplied(NamedTuple):  # noqa: D101
    generation: int
    digest: str
    added: int
    removed: int
    restarted: int
    updated: int
    by: str
    took_s: float


class ConfigRejected(NamedTuple):  # noqa: D101
    errors: int
    warnings: int
    first: str


class ConfigNeedsRestart(NamedTuple):  # noqa: D101
    key: str


class ConfigUnreadable(NamedTuple):  # noqa: D101
    service: str
    path: str
    error: str


class ControlUnavailable(NamedTuple):  # noqa: D101
    path: str
    error: str


# -- one service ----------------------------------------------------------------------------------


class ServiceWaiting(NamedTuple):  # noqa: D101
    on: str
    condition: str | None


class ServiceStarting(NamedTuple):  # noqa: D101
    attempt: int


class ServiceSpawned(NamedTuple):  # noqa: D101
    took_s: float


class ServiceSpawnFailed(NamedTuple):  # noqa: D101
    stage: str
    subject: str
    error: str


class ServiceReady(NamedTuple):  # noqa: D101
    way: str
    took_s: float


class ServiceStartTimedOut(NamedTuple):  # noqa: D101
    timeout_s: float


class ServiceRuntimeExceeded(NamedTuple):  # noqa: D101
    limit_s: float


class ServiceStatusUnknown(NamedTuple):  # noqa: D101
    reason: str


class ServiceStopping(NamedTuple):  # noqa: D101
    by: str
    signal: int | None
    timeout_s: float


class ServiceKillEscalated(NamedTuple):  # noqa: D101
    scope: str
    after_s: float


class ServiceUnkillable(NamedTuple):  # noqa: D101
    after_s: float


class ServiceExited(NamedTuple):  # noqa: D101
    cause: str
    exit_code: int | None
    signal: int | None
    core: bool
    forced: bool
    wanted: str
    lasted_s: float
    max_rss_bytes: int | None
    user_cpu_s: float
    system_cpu_s: float


class ServiceLeftoversKilled(NamedTuple):  # noqa: D101
    scope: str


class ServiceRestartScheduled(NamedTuple):  # noqa: D101
    cause: str
    attempt: int
    limit: int | None
    delay_s: float


class ServiceGaveUp(NamedTuple):  # noqa: D101
    cause: str
    reason: str
    attempts: int


class ServiceStopped(NamedTuple):  # noqa: D101
    by: str
    took_s: float


class ServiceReset(NamedTuple):  # noqa: D101
    by: str


class ServiceStatusChanged(NamedTuple):  # noqa: D101
    text: str


class ServiceReloading(NamedTuple):  # noqa: D101
    by: str


class ServiceReloaded(NamedTuple):  # noqa: D101
    took_s: float


class ServiceReloadFailed(NamedTuple):  # noqa: D101
    error: str


class ServiceReloadRefused(NamedTuple):  # noqa: D101
    error: str


class ServiceWatchdogMissed(NamedTuple):  # noqa: D101
    timeout_s: float


class HookFailed(NamedTuple):  # noqa: D101
    hook: str
    exit_code: int | None
    signal: int | None
    timed_out: bool
    took_s: float
    error: str | None = None


class CheckFailed(NamedTuple):  # noqa: D101
    check: str
    error: str
    failures: int
    threshold: int
    took_s: float


class CheckUnhealthy(NamedTuple):  # noqa: D101
    check: str
    error: str
    action: str


class CheckRecovered(NamedTuple):  # noqa: D101
    check: str


class NotifyRefused(NamedTuple):  # noqa: D101
    reason: str
    sender_pid: int | None


class ServiceSignaled(NamedTuple):  # noqa: D101
    signal: int
    by: str


class ServiceDumped(NamedTuple):  # noqa: D101
    phase: str
    wanted: str
    ready: bool
    restarts: int


# -- groups and control ---------------------------------------------------------------------------


class GroupGaveUp(NamedTuple):  # noqa: D101
    group: str
    restarts: int
    interval_s: float


class ControlCalled(NamedTuple):  # noqa: D101
    method: str
    names: tuple[str, ...]
    uid: int
    sender_pid: int
    result: str


class ControlRefused(NamedTuple):  # noqa: D101
    reason: str
    method: str | None
    uid: int
    sender_pid: int


class ControlClientDropped(NamedTuple):  # noqa: D101
    reason: str


# -- the logger -----------------------------------------------------------------------------------


class LogDropped(NamedTuple):  # noqa: D101
    stream: str
    lines: int | None
    bytes: int
    reason: str
    from_: str | None = None
    to: str | None = None


class LogRotated(NamedTuple):  # noqa: D101
    path: str


class LogReopened(NamedTuple):  # noqa: D101
    files: int


class LogWriteFailed(NamedTuple):  # noqa: D101
    path: str
    error: str


class LogResumed(NamedTuple):  # noqa: D101
    path: str
    blocked_s: float


# -- the gateway ----------------------------------------------------------------------------------


class GatewayListening(NamedTuple):  # noqa: D101
    address: str
    serves: str


class GatewayListenFailed(NamedTuple):  # noqa: D101
    address: str
    error: str


Notice = NamedTuple
"""Any class of this module; told apart by class, never by fields."""


class Row(NamedTuple):
    """Say how a notice appears to people: its event name and its level."""

    event: str
    level: Level | Callable[[Any], Level]


def _exit_level(notice: ServiceExited) -> Level:
    clean = notice.cause in {"success", "operator", "config", "dependency"}
    return Level.INFO if clean else Level.WARNING


EVENTS: dict[type, Row] = {
    DaemonStarted: Row("daemon.started", Level.INFO),
    DaemonReady: Row("daemon.ready", Level.INFO),
    DaemonStopping: Row("daemon.stopping", Level.INFO),
    DaemonHastened: Row("daemon.hastened", Level.WARNING),
    DaemonStopped: Row("daemon.stopped", Level.INFO),
    ReaperChosen: Row("reaper.chosen", Level.INFO),
    ReaperFellBack: Row("reaper.fell_back", Level.WARNING),
    ReaperChildFellBack: Row("reaper.child_fell_back", Level.WARNING),
    OrphanReaped: Row("orphan.reaped", Level.DEBUG),
    LoopLagged: Row("loop.lagged", Level.WARNING),
    CallbackCrashed: Row("loop.callback_crashed", Level.ERROR),
    ConfigApplied: Row("config.applied", Level.INFO),
    ConfigRejected: Row("config.rejected", Level.ERROR),
    ConfigNeedsRestart: Row("config.needs_restart", Level.WARNING),
    ConfigUnreadable: Row("config.unreadable", Level.WARNING),
    ControlUnavailable: Row("control.unavailable", Level.WARNING),
    ServiceWaiting: Row("service.waiting", Level.INFO),
    ServiceStarting: Row("service.starting", Level.DEBUG),
    ServiceSpawned: Row("service.spawned", Level.INFO),
    ServiceSpawnFailed: Row("service.spawn_failed", Level.WARNING),
    ServiceReady: Row("service.ready", Level.INFO),
    ServiceStartTimedOut: Row("service.start_timed_out", Level.WARNING),
    ServiceRuntimeExceeded: Row("service.runtime_exceeded", Level.WARNING),
    ServiceStatusUnknown: Row("service.status_unknown", Level.WARNING),
    ServiceStopping: Row("service.stopping", Level.INFO),
    ServiceKillEscalated: Row("service.kill_escalated", Level.WARNING),
    ServiceUnkillable: Row("service.unkillable", Level.ERROR),
    ServiceExited: Row("service.exited", _exit_level),
    ServiceLeftoversKilled: Row("service.leftovers_killed", Level.WARNING),
    ServiceRestartScheduled: Row("service.restart_scheduled", Level.INFO),
    ServiceGaveUp: Row("service.gave_up", Level.ERROR),
    ServiceStopped: Row("service.stopped", Level.INFO),
    ServiceReset: Row("service.reset", Level.INFO),
    ServiceStatusChanged: Row("service.status_changed", Level.DEBUG),
    ServiceReloading: Row("service.reloading", Level.INFO),
    ServiceReloaded: Row("service.reloaded", Level.INFO),
    ServiceReloadFailed: Row("service.reload_failed", Level.WARNING),
    ServiceReloadRefused: Row("service.reload_refused", Level.WARNING),
    ServiceWatchdogMissed: Row("service.watchdog_missed", Level.WARNING),
    HookFailed: Row("hook.failed", Level.WARNING),
    CheckFailed: Row("check.failed", Level.DEBUG),
    CheckUnhealthy: Row("check.unhealthy", Level.WARNING),
    CheckRecovered: Row("check.recovered", Level.INFO),
    NotifyRefused: Row("notify.refused", Level.WARNING),
    GroupGaveUp: Row("group.gave_up", Level.ERROR),
    ControlCalled: Row("control.called", Level.INFO),
    ControlRefused: Row("control.refused", Level.WARNING),
    ControlClientDropped: Row("control.client_dropped", Level.WARNING),
    ServiceSignaled: Row("service.signaled", Level.INFO),
    ServiceDumped: Row("service.dumped", Level.INFO),
    LogDropped: Row("log.dropped", Level.WARNING),
    LogRotated: Row("log.rotated", Level.INFO),
    LogReopened: Row("log.reopened", Level.INFO),
    LogWriteFailed: Row("log.write_failed", Level.ERROR),
    LogResumed: Row("log.resumed", Level.INFO),
    GatewayListening: Row("gateway.listening", Level.INFO),
    GatewayListenFailed: Row("gateway.listen_failed", Level.ERROR),
}


class Told(NamedTuple):
    """Hold a notice on its way out: who it is about, and the change of phase it tells, if any.

    `service` is None for the daemon's own notices. At most one notice of a step carries
    `phase_from` and `phase_to`.
    """

    notice: Any
    service: str | None = None
    group: str | None = None
    run: int | None = None
    pid: int | None = None
    phase_from: str | None = None
    phase_to: str | None = None


def level_of(notice: object) -> Level:
    """Look up the level of a notice."""
    level = EVENTS[type(notice)].level
    return level if isinstance(level, Level) else level(notice)


def _plain(value: Any) -> Any:
    """Turn a field into JSON data, which knows neither infinity nor tuples."""
    if type(value) is float:
        return round(value, 6) if math.isfinite(value) else None
    return list(value) if type(value) is tuple else value


def event_of(told: Told, seq: int, ts: str, signal_name: Callable[[int], str]) -> dict[str, Any]:
    """Give a notice the shape that the log, `events` and the dashboard share.

    Args:
        told: The notice and whom it is about.
        seq: The event's number, which never repeats in a daemon's life.
        ts: The wall-clock time, UTC RFC 3339 with milliseconds.
        signal_name: Names a signal number of this machine, as in "SIGTERM".
    """
    notice = told.notice
    event: dict[str, Any] = {
        "ts": ts,
        "level": level_of(notice).name.lower(),
        "event": EVENTS[type(notice)].event,
        "seq": seq,
    }
    if told.service is not None:
        event |= {"service": told.service, "group": told.group, "run": told.run, "pid": told.pid}
    for name, value in zip(notice._fields, notice, strict=True):
        event[name.rstrip("_")] = _plain(value)  # `from_`: the word itself is Python's
    if event.get("signal") is not None:
        event["signal"] = signal_name(event["signal"])
    if told.phase_to is not None:
        event |= {"phase_from": told.phase_from, "phase_to": told.phase_to}
    return event
