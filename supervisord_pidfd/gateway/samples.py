"""What a scrape says: for every row of `METRICS` its samples, as plain values.

Pure: from what the core, the replica, the logger's counters and /proc told. `exposition` makes
the bytes of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from supervisord_pidfd.core import metrics
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.metrics import Part
from supervisord_pidfd.gateway.procfs import Usage
from supervisord_pidfd.gateway.replica import Record
from supervisord_pidfd.logwire import REASONS, Slot

PHASES = tuple(phase.value for phase in Phase)
PHASES_AUTO_MAX = 1000
"""Services up to which `metrics.phases = "auto"` exports the phase set."""

Values = Iterable[tuple[Sequence[str], float]]
"""Samples of one family: label values in the row's order, and the number."""


@dataclass(frozen=True, slots=True)
class Core:
    """Hold what the core answered, and its own process as /proc shows it."""

    counters: Mapping[str, Any]
    usage: Usage | None = None
    max_fds: int | None = None
    boot_time: float | None = None


class Subject(NamedTuple):
    """Hold what a service's samples are made of; `cpu` is user and system seconds."""

    record: Record
    usage: Usage | None = None
    cpu: tuple[float, float] = (0.0, 0.0)
    log: Slot | None = None


@dataclass(frozen=True, slots=True)
class Scrape:
    """Hold everything one answer is made of; `core` is None if the core did not answer."""

    core: Core | None
    services: Sequence[Subject] = ()
    internal: Sequence[Subject] = ()
    parts: frozenset[Part] = frozenset(Part)
    phases: bool | None = None


class CpuClock:
    """Add up CPU time so that it never goes back.

    Ended runs come from the core, the present one from /proc. Where the core could not learn what
    a run had used, the sum would fall at its end; then the highest figure seen stands.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}
        self._sums: dict[str, tuple[float, float]] = {}

    def add_up(self, record: Record, present: Usage | None) -> tuple[float, float]:
        """Return user and system seconds of a service."""
        user = record.totals["user_cpu_s"] + (present.user_cpu_s if present else 0.0)
        system = record.totals["system_cpu_s"] + (present.system_cpu_s if present else 0.0)
        seen = self._seen.get(record.name, (0.0, 0.0))
        found = self._sums[record.name] = (max(user, seen[0]), max(system, seen[1]))
        return found

    def settle(self) -> None:
        """Forget services that were not added up since the last time: they are gone."""
        self._seen, self._sums = self._sums, {}


# -- the daemon: one sample, or a few, from the core's answer -------------------------------------


def _info(core: Core) -> Values:
    info = core.counters["info"]
    return [((info["version"], info["python"], info["kernel"]), 1)]


def _reaper(core: Core) -> Values:
    reaper = core.counters["reaper"]
    return [((reaper["kind"], reaper["reason"] or ""), 1)]


def _features(core: Core) -> Values:
    return [((name,), int(used)) for name, used in sorted(core.counters["features"].items())]


def _phases(core: Core) -> Values:
    counts = core.counters["phases"]
    return [((phase,), counts.get(phase, 0)) for phase in PHASES]


def _known(value: float | None) -> Values:
    return [] if value is None else [((), value)]


def _started(core: Core) -> Values:
    if core.usage is None or core.boot_time is None:
        return []
    return _known(core.boot_time + core.usage.started_s)


def _used(read: Callable[[Usage], float | None]) -> Callable[[Core], Values]:
    return lambda core: _known(read(core.usage) if core.usage else None)


_FROM_CORE: dict[str, Callable[[Core], Values]] = {
    "supervisord_build_info": _info,
    "supervisord_reaper_info": _reaper,
    "supervisord_kernel_feature": _features,
    "supervisord_services": _phases,
    "supervisord_stopping": lambda core: _known(int(core.counters["stopping"])),
    "process_cpu_seconds_total": _used(lambda use: use.user_cpu_s + use.system_cpu_s),
    "process_start_time_seconds": _started,
    "process_resident_memory_bytes": _used(lambda use: use.rss_bytes),
    "process_virtual_memory_bytes": _used(lambda use: use.virtual_bytes),
    "process_open_fds": _used(lambda use: use.open_fds),
    "process_max_fds": lambda core: _known(core.max_fds),
}

# -- services: from the record, and from /proc ----------------------------------------------------


def _plain(read: Callable[[Record], float | None]) -> Callable[[Subject], Values]:
    return lambda of: _known(read(of.record))


def _by_label(counts: Mapping[str, float]) -> Values:
    return [((label,), count) for label, count in counts.items()]


def _settings(of: Subject) -> Values:
    record = of.record
    return [((record.type, record.restart, "true" if record.critical else "false"), 1)]


def _phase_set(of: Subject) -> Values:
    return [((phase,), int(of.record.phase == phase)) for phase in PHASES]


def _exit_code(record: Record) -> float | None:
    if record.last_exit is None:
        return None
    code: int | None = record.last_exit["exit_code"]
    return -1 if code is None else code


def _exit_signal(record: Record) -> float | None:
    return None if record.last_exit is None else record.last_exit["signum"] or 0


def _in_use(read: Callable[[Usage], float | None]) -> Callable[[Subject], Values]:
    return lambda of: _known(read(of.usage) if of.usage else None)


def _peak(of: Subject) -> Values:
    record, usage = of.record, of.usage
    if usage is not None:
        return _known(usage.peak_bytes)
    return _known(record.max_rss_bytes if record.pid is None else None)


def _of_log(read: Callable[[Slot], Mapping[str, float]]) -> Callable[[Subject], Values]:
    return lambda of: _by_label(read(of.log)) if of.log else []


def _of_checks(
    read: Callable[[Mapping[str, Any]], Values],
) -> Callable[[Subject], Values]:
    return lambda of: [
        ((check["name"], *labels), value)
        for check in of.record.checks
        for labels, value in read(check)
    ]


def _check_up(check: Mapping[str, Any]) -> Values:
    return _known(None if check["ok"] is None else int(check["ok"]))


_FROM_SERVICE: dict[str, Callable[[Subject], Values]] = {
    "up": _plain(lambda record: int(record.pid is not None)),
    "info": _settings,
    "wanted_up": _plain(lambda record: int(record.wanted == "up")),
    "ready": _plain(lambda record: int(record.ready)),
    "healthy": _plain(
        lambda record: None if record.health == "none" else int(record.health != "unhealthy")
    ),
    "phase": _phase_set,
    "phase_change_timestamp_seconds": _plain(lambda record: record.since_ts),
    "start_time_seconds": _plain(lambda record: record.started_ts if record.pid else None),
    "restarts_total": lambda of: _by_label(of.record.totals["restarts"]),
    "exits_total": lambda of: _by_label(of.record.totals["exits"]),
    "last_exit_code": _plain(_exit_code),
    "last_exit_signal": _plain(_exit_signal),
    "restart_attempts": _plain(lambda record: record.attempt),
    "start_limit_hits_total": _plain(lambda record: record.totals["start_limit_hits"]),
    "kill_escalations_total": _plain(lambda record: record.totals["kill_escalations"]),
    "cpu_seconds_total": lambda of: [(("user",), of.cpu[0]), (("system",), of.cpu[1])],
    "memory_rss_bytes": _in_use(lambda use: use.rss_bytes),
    "memory_peak_bytes": _peak,
    "open_fds": _in_use(lambda use: use.open_fds),
    "threads": _in_use(lambda use: use.threads),
    "log_bytes_total": _of_log(
        lambda slot: {
            "stdout": slot.stdout_bytes,
            "stderr": slot.stderr_bytes,
            "hook": slot.hook_bytes,
        }
    ),
    "log_dropped_lines_total": _of_log(
        lambda slot: {reason: getattr(slot, f"{reason}_lines") for reason in REASONS}
    ),
    "log_blocked_seconds_total": lambda of: _known(of.log.blocked_us / 1e6 if of.log else None),
    "supervisord_check_up": _of_checks(_check_up),
    "supervisord_check_runs_total": _of_checks(lambda check: _by_label(check["runs"])),
    "supervisord_check_last_duration_seconds": _of_checks(
        lambda check: _known(check["last_duration_s"])
    ),
}
_SERVICE_PREFIX = "supervisord_service_"

_FROM_INTERNAL: dict[str, Callable[[Subject], Values]] = {
    "supervisord_internal_up": _plain(lambda record: int(record.pid is not None)),
    "supervisord_internal_memory_rss_bytes": _in_use(lambda use: use.rss_bytes),
}


# -- rows to samples ------------------------------------------------------------------------------


def of_daemon(row: metrics.Metric, scrape: Scrape) -> Values:
    """Return the samples of a row that is about the daemon.

    Without an answer of the core only what is certain is told: that it is not up.
    """
    if row.name == "supervisord_up":
        return [((), int(scrape.core is not None))]
    if scrape.core is None:
        return []
    if row.name in _FROM_INTERNAL:
        return _of_internal(row, scrape)
    if row.name in _FROM_CORE:
        return _FROM_CORE[row.name](scrape.core)
    return [
        ([str(sample["labels"][label]) for label in row.labels], sample["value"])
        for sample in counted(row, scrape.core)
    ]


def counted(row: metrics.Metric, core: Core) -> Sequence[Mapping[str, Any]]:
    """Return what the core counted for a row."""
    for family in core.counters["families"]:
        if family["name"] == row.name:
            samples: Sequence[Mapping[str, Any]] = family["samples"]
            return samples
    return ()


def _of_internal(row: metrics.Metric, scrape: Scrape) -> Values:
    read = _FROM_INTERNAL[row.name]
    for subject in scrape.internal:
        for _, value in read(subject):
            yield (subject.record.name.removeprefix(metrics.INTERNAL),), value


def reader_of(row: metrics.Metric, scrape: Scrape) -> Callable[[Subject], Values] | None:
    """Return what reads the samples of a row from a service, without the two labels that all have.

    None if the row is not wanted, or nothing is known of services.
    """
    key = row.name.removeprefix(_SERVICE_PREFIX)
    if scrape.core is None or (key == "phase" and not _wants_phases(scrape)):
        return None
    return _FROM_SERVICE[key]


def _wants_phases(scrape: Scrape) -> bool:
    if scrape.phases is None:
        return len(scrape.services) <= PHASES_AUTO_MAX
    return scrape.phases
