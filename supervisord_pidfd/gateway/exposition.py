"""Render a scrape: the rows of `METRICS` as bytes, in small pieces.

What is about the daemon is encoded by prometheus-client. So is the head of every other family; its
lines, a dozen or two for each service, are written here, eight times as fast. A test holds them
against prometheus-client's, byte by byte.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from prometheus_client.utils import floatToGoString

from supervisord_pidfd.core import metrics
from supervisord_pidfd.core.metrics import METRICS, Kind, Part
from supervisord_pidfd.gateway.http import GZIP_WBITS
from supervisord_pidfd.gateway.samples import (
    Core,
    Scrape,
    Subject,
    Values,
    counted,
    of_daemon,
    reader_of,
)

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_EOF = b"# EOF\n"

SLICE = 256
"""Services rendered before other connections get their turn: about a millisecond a family."""


def encode(scrape: Scrape, content_type: str) -> Iterator[bytes]:
    """Encode a scrape in a format of Prometheus, in the order of `METRICS`.

    A family without samples is left out.
    """
    labels = [(_quoted(it.record.name), _quoted(it.record.group)) for it in scrape.services]
    for row in METRICS:
        if row.part not in scrape.parts:
            continue
        if row.part is Part.DAEMON:
            yield _daemon(row, scrape, content_type)
        else:
            yield from _services(row, scrape, labels, content_type)
    if content_type == OPENMETRICS:
        yield _EOF


# -- what is about the daemon ---------------------------------------------------------------------


class _Single(Collector):
    """Give a registry of our own one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def generate(family: Metric, content_type: str) -> bytes:
    """Have prometheus-client encode one family."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Single(family))
    formats: dict[str, Any] = {TEXT: text_format, OPENMETRICS: openmetrics}
    encoded: bytes = formats[content_type].generate_latest(registry)
    return encoded.removesuffix(_EOF)


def family_of(row: metrics.Metric, values: Values) -> Metric:
    """Make a family of counters or gauges."""
    kind = CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(row.name, row.help, labels=row.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _daemon(row: metrics.Metric, scrape: Scrape, content_type: str) -> bytes:
    if row.kind is not Kind.HISTOGRAM:
        family = family_of(row, of_daemon(row, scrape))
    elif scrape.core is not None:
        family = _histogram(row, scrape.core)
    else:
        return b""
    return generate(family, content_type) if family.samples else b""


def _histogram(row: metrics.Metric, core: Core) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for sample in counted(row, core):
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


# -- what is about services -----------------------------------------------------------------------

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_in_go: Callable[[float], str] = floatToGoString
_SMALL = tuple(_in_go(number) for number in range(256))


def _quoted(value: str) -> str:
    """Escape a label's value as both formats want it."""
    return value.translate(_ESCAPES)


def _number(value: float) -> str:
    """Write a number as both formats want it; the few that most samples have are at hand."""
    if isinstance(value, int) and 0 <= value < len(_SMALL):
        return _SMALL[value]
    return _in_go(value)


def _line_of(row: metrics.Metric) -> Callable[..., str]:
    """Make what writes a line from its label values, in the row's order, and the number."""
    order = sorted(range(len(row.labels)), key=lambda place: row.labels[place])
    pairs = ",".join(f'{row.labels[place]}="{{{place}}}"' for place in order)
    return f"{row.name}{{{{{pairs}}}}} {{{len(order)}}}\n".format


def _services(
    row: metrics.Metric, scrape: Scrape, labels: Sequence[tuple[str, str]], content_type: str
) -> Iterator[bytes]:
    """Write a family's head and its lines, a slice of the services at a time."""
    read = reader_of(row, scrape)
    if read is None:
        return
    line = _line_of(row)
    head = generate(family_of(row, ()), content_type)
    for start in range(0, len(labels), SLICE):
        some = slice(start, start + SLICE)
        lines = _lines(line, read, scrape.services[some], labels[some])
        if lines:
            yield head + "".join(lines).encode()
            head = b""


def _lines(
    line: Callable[..., str],
    read: Callable[[Subject], Values],
    services: Iterable[Subject],
    labels: Iterable[tuple[str, str]],
) -> list[str]:
    return [
        line(name, group, *(map(_quoted, extra)), _number(value))
        for subject, (name, group) in zip(services, labels, strict=True)
        for extra, value in read(subject)
    ]


# -- negotiation ----------------------------------------------------------------------------------


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
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, GZIP_WBITS)

    def add(self, piece: bytes) -> bytes:
        """Return what is ready after this piece."""
        return self._deflate.compress(piece)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._deflate.flush()
