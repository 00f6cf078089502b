"""Every metric, declared once in `METRICS`; and `Tally`, which counts over the notices.

A row says all there is to know about a family: name, kind, HELP text, labels and, for what the
core counts, the notices it is counted from. The core counts, so that no counter goes back when the
gateway is restarted; `gateway/exposition.py` renders, from the plain data of `Tally.families`.
"""

import enum
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.notices import (
    CallbackCrashed,
    ConfigApplied,
    ConfigRejected,
    OrphanReaped,
    ServiceExited,
    ServiceGaveUp,
    ServiceKillEscalated,
    ServiceReady,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStopped,
    Told,
)


class Kind(enum.StrEnum):
    """Name the kinds of a family, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Part(enum.StrEnum):
    """Name the parts of an answer, the values of `collect[]`."""

    DAEMON = "daemon"
    SERVICES = "services"
    RESOURCES = "resources"
    LOGS = "logs"
    CHECKS = "checks"


class On(NamedTuple):
    """Say how a notice counts for a family of the daemon.

    `read` gives, from the notice, the label values of a counter (one is added), the value of a
    gauge, or the observation of a histogram; None for a notice that does not count.
    """

    notice: type
    read: Callable[[Any], Any]
    services_only: bool = False


class Metric(NamedTuple):
    """Declare one family."""

    name: str
    kind: Kind
    help: str
    part: Part = Part.DAEMON
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    on: tuple[On, ...] = ()


QUICK = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
)  # fmt: skip
"""Upper bounds in seconds for what the core does itself: lag, exit handling, spawn."""

SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds for what services take their time for: start, stop."""

_SERVICE = ("service", "group")

HTTP_KINDS_MAX = 256
"""Pairs of handler and code that are counted; the gateway is not trusted to have no more."""

INTERNAL = ":"
"""How the names of internal services begin."""


def _daemon(
    name: str,
    kind: Kind,
    text: str,
    labels: tuple[str, ...] = (),
    on: tuple[On, ...] = (),
) -> Metric:
    return Metric(f"supervisord_{name}", kind, text, Part.DAEMON, labels, (), on)


def _seconds(name: str, text: str, bounds: tuple[float, ...], *on: On) -> Metric:
    """Declare a histogram of lengths of time."""
    return Metric(f"supervisord_{name}_seconds", Kind.HISTOGRAM, text, bounds=bounds, on=on)


def _service(name: str, kind: Kind, text: str, *labels: str) -> Metric:
    return Metric(f"supervisord_service_{name}", kind, text, Part.SERVICES, (*_SERVICE, *labels))


def _resource(name: str, kind: Kind, text: str, *labels: str) -> Metric:
    return _service(name, kind, text, *labels)._replace(part=Part.RESOURCES)


def _log(name: str, text: str, *labels: str) -> Metric:
    return _service(f"log_{name}", Kind.COUNTER, text, *labels)._replace(part=Part.LOGS)


def _check(name: str, kind: Kind, text: str, *labels: str) -> Metric:
    return Metric(
        f"supervisord_check_{name}", kind, text, Part.CHECKS, (*_SERVICE, "check", *labels)
    )


def _process(name: str, kind: Kind, text: str) -> Metric:
    return Metric(f"process_{name}", kind, text)


def _one(_notice: object) -> tuple[str, ...]:
    return ()


def _succeeded(_notice: ConfigApplied) -> int:
    return 1


def _failed(_notice: ConfigRejected) -> int:
    return 0


def _took(notice: ServiceReady | ServiceSpawned) -> float:
    return notice.took_s


def _stopped(notice: ServiceStopped) -> float | None:
    """Leave out what was no stop of a process: a clean-up, a service that was down already."""
    return notice.took_s if notice.took_s > 0 and notice.by != "policy" else None


def _stage(notice: ServiceSpawnFailed) -> tuple[str, ...]:
    return (notice.stage, notice.error)


METRICS: tuple[Metric, ...] = (
    _daemon("up", Kind.GAUGE, "1 if the supervisor core answered during this scrape."),
    _daemon(
        "build_info",
        Kind.GAUGE,
        "Versions in use; always 1.",
        ("version", "python", "kernel"),
    ),
    _daemon(
        "reaper_info",
        Kind.GAUGE,
        "How exits are detected, and why not by pidfd; always 1.",
        ("kind", "reason"),
    ),
    _daemon(
        "kernel_feature", Kind.GAUGE, "1 if an optional kernel feature is in use.", ("feature",)
    ),
    _daemon("services", Kind.GAUGE, "Number of services in each phase.", ("phase",)),
    _daemon("stopping", Kind.GAUGE, "1 while the supervisor shuts down."),
    _seconds("loop_lag", "Time between a deadline and its handling in the core loop.", QUICK),
    _daemon("loop_busy_seconds_total", Kind.COUNTER, "Time the core loop spent working."),
    _daemon(
        "callback_errors_total",
        Kind.COUNTER,
        "Unexpected errors caught by the core loop.",
        on=(On(CallbackCrashed, _one),),
    ),
    _seconds("exit_handling", "Time between waking for an exit and having acted on it.", QUICK),
    _seconds(
        "exit_detection",
        "Time between the end of the canary child and its detection.",
        QUICK,
    ),
    _seconds("spawn_duration", "Time to create a process.", QUICK, On(ServiceSpawned, _took)),
    _daemon(
        "spawn_errors_total",
        Kind.COUNTER,
        "Processes that could not be created, by failing stage.",
        ("stage", "error"),
        (On(ServiceSpawnFailed, _stage),),
    ),
    _seconds(
        "start_duration",
        "Time from spawn to ready, all services.",
        SLOW,
        On(ServiceReady, _took, services_only=True),
    ),
    _seconds(
        "stop_duration",
        "Time from stop request to no process left, all services.",
        SLOW,
        On(ServiceStopped, _stopped, services_only=True),
    ),
    _daemon(
        "orphans_reaped_total",
        Kind.COUNTER,
        "Processes reaped that belonged to no run.",
        on=(On(OrphanReaped, _one),),
    ),
    _daemon("sigchld_children", Kind.GAUGE, "Children tracked without a pidfd."),
    _daemon(
        "config_last_reload_successful",
        Kind.GAUGE,
        "1 if the last apply of the configuration succeeded.",
        on=(On(ConfigApplied, _succeeded), On(ConfigRejected, _failed)),
    ),
    _daemon(
        "config_last_reload_success_timestamp_seconds",
        Kind.GAUGE,
        "Unix time of the last successful apply.",
    ),
    _daemon(
        "control_requests_total",
        Kind.COUNTER,
        "Calls on the control socket, refused ones included.",
        ("method", "result"),
    ),
    _daemon(
        "http_requests_total",
        Kind.COUNTER,
        "HTTP requests answered by the gateway.",
        ("handler", "code"),
    ),
    _daemon(
        "notify_messages_total",
        Kind.COUNTER,
        "Notify messages accepted, ignored or refused.",
        ("result",),
    ),
    _daemon(
        "internal_up",
        Kind.GAUGE,
        "1 if the internal service runs: logger, gateway or checker.",
        ("name",),
    ),
    _daemon(
        "internal_restarts_total", Kind.COUNTER, "Restarts of the internal service.", ("name",)
    ),
    _daemon(
        "internal_memory_rss_bytes",
        Kind.GAUGE,
        "Resident memory of the internal service.",
        ("name",),
    ),
    _process(
        "cpu_seconds_total", Kind.COUNTER, "Total user and system CPU time spent in seconds."
    ),
    _process("start_time_seconds", Kind.GAUGE, "Start time of the process since unix epoch."),
    _process("resident_memory_bytes", Kind.GAUGE, "Resident memory size in bytes."),
    _process("virtual_memory_bytes", Kind.GAUGE, "Virtual memory size in bytes."),
    _process("open_fds", Kind.GAUGE, "Number of open file descriptors."),
    _process("max_fds", Kind.GAUGE, "Maximum number of open file descriptors."),
    _service("up", Kind.GAUGE, "1 if the service has a process."),
    _service(
        "info", Kind.GAUGE, "Settings of the service; always 1.", "type", "restart", "critical"
    ),
    _service("wanted_up", Kind.GAUGE, "1 if the service should be up."),
    _service("ready", Kind.GAUGE, "1 if the service is ready."),
    _service("healthy", Kind.GAUGE, "1 if no health check fails; absent without checks."),
    _service("phase", Kind.GAUGE, "1 for the phase the service is in.", "phase"),
    _service(
        "phase_change_timestamp_seconds", Kind.GAUGE, "Unix time of the last change of phase."
    ),
    _service(
        "start_time_seconds",
        Kind.GAUGE,
        "Unix time the process was started; absent if there is none.",
    ),
    _service(
        "restarts_total", Kind.COUNTER, "Starts after an end, by the cause of that end.", "cause"
    ),
    _service("exits_total", Kind.COUNTER, "Ends of the main process, by cause.", "cause"),
    _service("last_exit_code", Kind.GAUGE, "Last exit code; -1 if it was a signal or unknown."),
    _service("last_exit_signal", Kind.GAUGE, "Last fatal signal; 0 if it was an exit code."),
    _service("restart_attempts", Kind.GAUGE, "Attempts since the service was last stable."),
    _service("start_limit_hits_total", Kind.COUNTER, "Times the start limit was reached."),
    _service("kill_escalations_total", Kind.COUNTER, "Stops that needed SIGKILL."),
    _resource(
        "cpu_seconds_total",
        Kind.COUNTER,
        "CPU time of ended runs and the present one, user or system.",
        "mode",
    ),
    _resource("memory_rss_bytes", Kind.GAUGE, "Resident memory of the main process."),
    _resource(
        "memory_peak_bytes",
        Kind.GAUGE,
        "Highest resident memory of the present or last run.",
    ),
    _resource(
        "open_fds",
        Kind.GAUGE,
        "Open descriptors of the main process (Linux ≥ 6.2, or same user; else absent).",
    ),
    _resource("threads", Kind.GAUGE, "Threads of the main process."),
    _log("bytes_total", "Bytes read from the service.", "stream"),
    _log("dropped_lines_total", "Lines dropped: overflow, rate_limit or write_error.", "reason"),
    _log("blocked_seconds_total", "Time the output was held back because a sink was stuck."),
    _check("up", Kind.GAUGE, "1 if the check passes."),
    _check("runs_total", Kind.COUNTER, "Check runs: success, failure or timeout.", "result"),
    _check("last_duration_seconds", Kind.GAUGE, "Duration of the last check run."),
)

BY_NAME = {metric.name: metric for metric in METRICS}


# -- what is counted ------------------------------------------------------------------------------


class Histogram:
    """Count observations per bucket: `counts[i]` for `bounds[i-1]` < x <= `bounds[i]`."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, x: float) -> None:
        """Count one observation, in seconds."""
        self.counts[bisect_left(self.bounds, x)] += 1
        self.sum += x

    def plain(self) -> dict[str, Any]:
        """Return the sample as plain data; buckets are not cumulative, the last is +Inf."""
        return {"labels": {}, "buckets": list(self.counts), "sum": self.sum}


class _Totals:
    """Hold what is counted for one service over all its runs."""

    __slots__ = ("exits", "kills", "last_cause", "limit_hits", "restarts", "system_s", "user_s")

    def __init__(self) -> None:
        self.restarts: dict[str, int] = {}
        self.exits: dict[str, int] = {}
        self.limit_hits = 0
        self.kills = 0
        self.user_s = 0.0
        self.system_s = 0.0
        self.last_cause: str | None = None

    def plain(self) -> dict[str, Any]:
        return {
            "restarts": dict(self.restarts),
            "exits": dict(self.exits),
            "start_limit_hits": self.limit_hits,
            "kill_escalations": self.kills,
            "user_cpu_s": self.user_s,
            "system_cpu_s": self.system_s,
        }


def _exited(totals: _Totals, notice: ServiceExited) -> None:
    cause = notice.cause
    totals.exits[cause] = totals.exits.get(cause, 0) + 1
    totals.user_s += notice.user_cpu_s
    totals.system_s += notice.system_cpu_s
    totals.last_cause = cause


def _spawn_failed(totals: _Totals, _notice: ServiceSpawnFailed) -> None:
    totals.last_cause = Cause.SPAWN_ERROR.value


def _starting(totals: _Totals, _notice: ServiceStarting) -> None:
    # Counted here and not where a restart is scheduled: what a stop cancels was never a start,
    # and a start by command after an end has no schedule.
    cause = totals.last_cause
    if cause is not None:
        totals.restarts[cause] = totals.restarts.get(cause, 0) + 1
        totals.last_cause = None


def _gave_up(totals: _Totals, notice: ServiceGaveUp) -> None:
    totals.limit_hits += notice.reason == "limit"


def _killed(totals: _Totals, _notice: ServiceKillEscalated) -> None:
    totals.kills += 1


_TOTALS: dict[type, Callable[[_Totals, Any], None]] = {
    ServiceExited: _exited,
    ServiceSpawnFailed: _spawn_failed,
    ServiceStarting: _starting,
    ServiceGaveUp: _gave_up,
    ServiceKillEscalated: _killed,
}
"""How a notice counts for the service it is about."""

_Rule = Callable[[Told], None]


def _counting(counts: dict[tuple[str, ...], float], on: On) -> _Rule:
    def rule(told: Told) -> None:
        values = on.read(told.notice)
        counts[values] = counts.get(values, 0.0) + 1

    return rule


def _setting(gauges: dict[str, float], name: str, on: On) -> _Rule:
    def rule(told: Told) -> None:
        gauges[name] = on.read(told.notice)

    return rule


def _observing(histogram: Histogram, on: On) -> _Rule:
    def rule(told: Told) -> None:
        if on.services_only and told.service is not None and told.service[0] == INTERNAL:
            return
        x = on.read(told.notice)
        if x is not None:
            histogram.observe(x)

    return rule


class Tally:
    """Count over the stream of notices: totals of each service, families of the daemon.

    Attributes:
        loop_lag: Observe here how late a deadline was handled.
        exit_handling: Observe here how long it took to act on an exit.
        exit_detection: Observe here how late the end of the canary was seen; told once it was.
        sigchld_children: Set before `families`: children tracked without a pidfd.
        config_applied_at: Unix time of the last successful apply; set it with ConfigApplied.
    """

    def __init__(self) -> None:
        self._services: dict[str, _Totals] = {}
        self._internal: dict[str, _Totals] = {}
        self._counters: dict[str, dict[tuple[str, ...], float]] = {}
        self._gauges: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}
        self._rules: dict[type, tuple[_Rule, ...]] = {}
        for metric in METRICS:
            self._prepare(metric)
        self._busy = self._counters["supervisord_loop_busy_seconds_total"] = {(): 0.0}
        self.loop_lag = self._histograms["supervisord_loop_lag_seconds"]
        self.exit_handling = self._histograms["supervisord_exit_handling_seconds"]
        self.exit_detection = self._histograms["supervisord_exit_detection_seconds"]
        self.sigchld_children = 0
        self._notify = self._counters["supervisord_notify_messages_total"] = {}
        self.config_applied_at: float | None = None

    def _prepare(self, metric: Metric) -> None:
        if metric.kind is Kind.HISTOGRAM:
            self._histograms[metric.name] = Histogram(metric.bounds)
        elif metric.kind is Kind.COUNTER and metric.on:
            self._counters[metric.name] = {} if metric.labels else {(): 0.0}
        for on in metric.on:
            rules = self._rules.get(on.notice, ())
            self._rules[on.notice] = (*rules, self._rule(metric, on))

    def _rule(self, metric: Metric, on: On) -> _Rule:
        if metric.kind is Kind.COUNTER:
            return _counting(self._counters[metric.name], on)
        if metric.kind is Kind.GAUGE:
            return _setting(self._gauges, metric.name, on)
        return _observing(self._histograms[metric.name], on)

    def count(self, told: Told) -> None:
        """Count one published notice; runs once per notice, on the core's hot path."""
        notice: object = told.notice
        kind = type(notice)
        for rule in self._rules.get(kind, ()):
            rule(told)
        counted = _TOTALS.get(kind)
        if counted is not None and told.service is not None:
            totals = self._services.get(told.service)
            if totals is None:
                totals = self._add(told.service)
            counted(totals, notice)

    def _add(self, service: str) -> _Totals:
        totals = self._services[service] = _Totals()
        if service[0] == INTERNAL:
            self._internal[service] = totals
        return totals

    def heard(self, result: str) -> None:
        """Count a notify message; only some of those refused are told as a notice."""
        self._notify[result,] = self._notify.get((result,), 0.0) + 1

    def add_busy(self, seconds: float) -> None:
        """Add time the loop spent working."""
        self._busy[()] += seconds

    def count_control(self, method: str, result: str) -> None:
        """Count an answered call; the words come from the table of methods, not from clients."""
        counts = self._counters.setdefault("supervisord_control_requests_total", {})
        counts[method, result] = counts.get((method, result), 0.0) + 1

    def count_http(self, handler: str, code: int, number: int) -> None:
        """Count answers that the gateway told of: a new gateway goes on where the last one was."""
        counts = self._counters.setdefault("supervisord_http_requests_total", {})
        key = (handler, str(code))
        if key in counts or len(counts) < HTTP_KINDS_MAX:
            counts[key] = counts.get(key, 0.0) + number

    def totals(self, service: str) -> dict[str, Any]:
        """Return a service's totals as plain data, all zero for one that never did anything."""
        return (self._services.get(service) or _Totals()).plain()

    def forget(self, service: str) -> None:
        """Drop a removed service; its series end."""
        self._services.pop(service, None)
        self._internal.pop(service, None)

    def families(self) -> list[dict[str, Any]]:
        """Return the daemon's families as plain data, for the `counters` message.

        Their number does not grow with the number of services.
        """
        found: list[dict[str, Any]] = []
        for metric in METRICS:
            samples = self._samples(metric)
            if samples:
                found.append({"name": metric.name, "type": metric.kind.value, "samples": samples})
        return found

    def _samples(self, metric: Metric) -> list[dict[str, Any]]:
        name = metric.name
        if metric.kind is Kind.HISTOGRAM:
            histogram = self._histograms[name]
            is_absent = histogram is self.exit_detection and not any(histogram.counts)
            return [] if is_absent else [histogram.plain()]
        if name == "supervisord_internal_restarts_total":
            return self._internal_restarts()
        if metric.kind is Kind.COUNTER:
            return [
                {"labels": dict(zip(metric.labels, values, strict=True)), "value": value}
                for values, value in self._counters.get(name, {}).items()
            ]
        value = self._gauge(name)
        return [] if value is None else [{"labels": {}, "value": value}]

    def _gauge(self, name: str) -> float | None:
        if name == "supervisord_sigchld_children":
            return self.sigchld_children
        if name == "supervisord_config_last_reload_success_timestamp_seconds":
            return self.config_applied_at
        return self._gauges.get(name)

    def _internal_restarts(self) -> list[dict[str, Any]]:
        return [
            {"labels": {"name": name[1:]}, "value": sum(totals.restarts.values())}
            for name, totals in self._internal.items()
        ]
