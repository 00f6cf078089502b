"""Render a scrape: every row of `METRICS`, from what the core, the replica and /proc told.

Pure: `Scrape` in, families out. Encoding is prometheus-client's, a family at a time, so that other
connections get their turn between two families however many services there are.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import exposition as text_format
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from supervisord_pidfd.core import metrics
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.metrics import METRICS, Kind, Part
from supervisord_pidfd.gateway.procfs import Usage
from supervisord_pidfd.gateway.replica import Record
from supervisord_pidfd.logwire import REASONS, Slot

PHASES = tuple(phase.value for phase in Phase)
PHASES_AUTO_MAX = 1000
"""Services up to which `metrics.phases = "auto"` exports the phase set."""

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_EOF = b"# EOF\n"

Values = Iterable[tuple[Sequence[str], float]]
"""Samples of one family: label values in the row's order, and the number."""


@dataclass(frozen=True, slots=True)
class Core:
    """Hold what the core answered, and its own process as /proc shows it."""

    counters: Mapping[str, Any]
    usage: Usage | None = None
    max_fds: int | None = None
    boot_time: float | None = None


@dataclass(frozen=True, slots=True)
class Scrape:
    """Hold everything one answer is made of; `core` is None if the core did not answer."""

    core: Core | None
    records: Sequence[Record] = ()
    internal: Sequence[Record] = ()
    usage: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    cpu: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    parts: frozenset[Part] = frozenset(Part)
    phases: bool | None = None
    logs: Mapping[str, Slot] = field(default_factory=dict[str, Slot])


class CpuClock:
    """Add up CPU time so that it never goes back.

    Ended runs come from the core, the present one from /proc. Where the core could not learn what
    a run had used, the sum would fall at its end; then the highest figure seen stands.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def add_up(
        self, records: Iterable[Record], usage: Mapping[str, Usage]
    ) -> dict[str, tuple[float, float]]:
        """Return user and system seconds of each service; forget services that are gone."""
        sums: dict[str, tuple[float, float]] = {}
        for record in records:
            present = usage.get(record.name)
            user = record.totals["user_cpu_s"] + (present.user_cpu_s if present else 0.0)
            system = record.totals["system_cpu_s"] + (present.system_cpu_s if present else 0.0)
            seen = self._seen.get(record.name, (0.0, 0.0))
            sums[record.name] = (max(user, seen[0]), max(system, seen[1]))
        self._seen = sums
        return sums


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

_FROM_INTERNAL: dict[str, Callable[[Record, Usage | None], float | None]] = {
    "supervisord_internal_up": lambda record, _: int(record.pid is not None),
    "supervisord_internal_memory_rss_bytes": lambda _, use: use.rss_bytes if use else None,
}


# -- services: from the record, and from /proc ----------------------------------------------------

_Of = tuple[Record, Usage | None, tuple[float, float], Slot | None]
"""What a service's samples are made of: its record, what it uses, CPU seconds by mode, its log."""


def _plain(read: Callable[[Record], float | None]) -> Callable[[_Of], Values]:
    return lambda of: _known(read(of[0]))


def _by_label(counts: Mapping[str, float]) -> Values:
    return [((label,), count) for label, count in counts.items()]


def _settings(of: _Of) -> Values:
    record = of[0]
    return [((record.type, record.restart, "true" if record.critical else "false"), 1)]


def _phase_set(of: _Of) -> Values:
    return [((phase,), int(of[0].phase == phase)) for phase in PHASES]


def _exit_code(record: Record) -> float | None:
    if record.last_exit is None:
        return None
    code: int | None = record.last_exit["exit_code"]
    return -1 if code is None else code


def _exit_signal(record: Record) -> float | None:
    return None if record.last_exit is None else record.last_exit["signum"] or 0


def _in_use(read: Callable[[Usage], float | None]) -> Callable[[_Of], Values]:
    return lambda of: _known(read(of[1]) if of[1] else None)


def _peak(of: _Of) -> Values:
    record, usage, *_ = of
    if usage is not None:
        return _known(usage.peak_bytes)
    return _known(record.max_rss_bytes if record.pid is None else None)


def _of_log(read: Callable[[Slot], Mapping[str, float]]) -> Callable[[_Of], Values]:
    return lambda of: _by_label(read(of[3])) if of[3] else []


def _of_checks(
    read: Callable[[Mapping[str, Any]], Values],
) -> Callable[[_Of], Values]:
    return lambda of: [
        ((check["name"], *labels), value)
        for check in of[0].checks
        for labels, value in read(check)
    ]


def _check_up(check: Mapping[str, Any]) -> Values:
    return _known(None if check["ok"] is None else int(check["ok"]))


_FROM_SERVICE: dict[str, Callable[[_Of], Values]] = {
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
    "restarts_total": lambda of: _by_label(of[0].totals["restarts"]),
    "exits_total": lambda of: _by_label(of[0].totals["exits"]),
    "last_exit_code": _plain(_exit_code),
    "last_exit_signal": _plain(_exit_signal),
    "restart_attempts": _plain(lambda record: record.attempt),
    "start_limit_hits_total": _plain(lambda record: record.totals["start_limit_hits"]),
    "kill_escalations_total": _plain(lambda record: record.totals["kill_escalations"]),
    "cpu_seconds_total": lambda of: [(("user",), of[2][0]), (("system",), of[2][1])],
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
    "log_blocked_seconds_total": lambda of: _known(of[3].blocked_us / 1e6 if of[3] else None),
    "supervisord_check_up": _of_checks(_check_up),
    "supervisord_check_runs_total": _of_checks(lambda check: _by_label(check["runs"])),
    "supervisord_check_last_duration_seconds": _of_checks(
        lambda check: _known(check["last_duration_s"])
    ),
}
_SERVICE_PREFIX = "supervisord_service_"


# -- rows to families -----------------------------------------------------------------------------


def families(scrape: Scrape) -> Iterator[Metric]:
    """Make the families of one answer, in the order of `METRICS`; empty ones are left out.

    Without an answer of the core only what is certain is told: that it is not up.
    """
    counted = {} if scrape.core is None else _by_name(scrape.core)
    for row in METRICS:
        if row.part not in scrape.parts:
            continue
        if row.kind is Kind.HISTOGRAM:
            family = _histogram(row, counted.get(row.name, ()))
        else:
            family = _family(row, _values(row, scrape, counted))
        if family.samples:
            yield family


def _by_name(core: Core) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {family["name"]: family["samples"] for family in core.counters["families"]}


def _values(
    row: metrics.Metric, scrape: Scrape, counted: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Values:
    if row.name == "supervisord_up":
        return [((), int(scrape.core is not None))]
    if scrape.core is None:
        return []
    if row.part is not Part.DAEMON:
        return _of_services(row, scrape)
    if row.name in _FROM_INTERNAL:
        return _of_internal(row, scrape)
    return _of_core(row, scrape.core, counted.get(row.name, ()))


def _of_core(row: metrics.Metric, core: Core, counted: Iterable[Mapping[str, Any]]) -> Values:
    if row.name in _FROM_CORE:
        return _FROM_CORE[row.name](core)
    return [
        ([str(sample["labels"][label]) for label in row.labels], sample["value"])
        for sample in counted
    ]


def _of_internal(row: metrics.Metric, scrape: Scrape) -> Values:
    read = _FROM_INTERNAL[row.name]
    for record in scrape.internal:
        value = read(record, scrape.usage.get(record.name))
        if value is not None:
            yield (record.name.removeprefix(metrics.INTERNAL),), value


def _of_services(row: metrics.Metric, scrape: Scrape) -> Values:
    key = row.name.removeprefix(_SERVICE_PREFIX)
    if key == "phase" and not _wants_phases(scrape):
        return
    read = _FROM_SERVICE[key]
    for record in scrape.records:
        cpu = scrape.cpu.get(record.name, (0.0, 0.0))
        log = scrape.logs.get(record.name)
        for extra, value in read((record, scrape.usage.get(record.name), cpu, log)):
            yield (record.name, record.group, *extra), value


def _wants_phases(scrape: Scrape) -> bool:
    if scrape.phases is None:
        return len(scrape.records) <= PHASES_AUTO_MAX
    return scrape.phases


def _family(row: metrics.Metric, values: Values) -> Metric:
    kind = CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(row.name, row.help, labels=row.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histogram(row: metrics.Metric, samples: Sequence[Mapping[str, Any]]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for sample in samples:
        family.add_metric(
            [str(sample["labels"][label]) for label in row.labels],
            list(_cumulative(row.bounds, sample["buckets"])),
            sample["sum"],
        )
    return family


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        yield "+Inf" if math.isinf(bound) else repr(bound), total


# -- families to bytes ----------------------------------------------------------------------------


class _Single(Collector):
    """Give a registry of our own one family at a time."""

    def __init__(self) -> None:
        self.family: Metric | None = None

    def collect(self) -> Iterable[Metric]:
        return () if self.family is None else (self.family,)


def encode(found: Iterable[Metric], content_type: str) -> Iterator[bytes]:
    """Encode families in a format of Prometheus, one piece of text for each."""
    single = _Single()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(single)
    formats: dict[str, Any] = {TEXT: text_format, OPENMETRICS: openmetrics}
    generate: Callable[[CollectorRegistry], bytes] = formats[content_type].generate_latest
    for single.family in found:
        yield generate(registry).removesuffix(_EOF)
    if content_type == OPENMETRICS:
        yield _EOF


def negotiate(accept: str) -> str:
    """Choose by the Accept header: OpenMetrics 1.0 if it is asked for, else text 0.0.4."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for choice in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in choice.split(";"))
        if kind in wanted and _version_served(kind, parameters):
            wanted[kind] = max(wanted[kind], _quality(parameters))
    ours, plain = wanted.values()
    return OPENMETRICS if ours > 0 and ours >= plain else TEXT


def _version_served(kind: str, parameters: Sequence[str]) -> bool:
    if kind == "text/plain":
        return True
    versions = [part[8:] for part in parameters if part.startswith("version=")]
    return all(version in ("0.0.1", "1.0.0") for version in versions)


def _quality(parameters: Sequence[str]) -> float:
    for part in parameters:
        if part.startswith("q="):
            try:
                return float(part[2:])
            except ValueError:
                return 0.0
    return 1.0


class Gzip:
    """Compress piece by piece, quickly: the text of metrics shrinks to a tenth at any level."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def add(self, piece: bytes) -> bytes:
        """Return what is ready after this piece."""
        return self._deflate.compress(piece)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._deflate.flush()
