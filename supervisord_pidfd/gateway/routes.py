"""What the gateway answers by itself: the metrics, and whether all is well."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from supervisord_pidfd.clock import Clock
from supervisord_pidfd.core.metrics import Part
from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway import procfs
from supervisord_pidfd.gateway.access import Level
from supervisord_pidfd.gateway.exposition import Gzip, encode, negotiate
from supervisord_pidfd.gateway.http import Packed, Request, Response, refusal
from supervisord_pidfd.gateway.link import ANSWER_WITHIN_S
from supervisord_pidfd.gateway.replica import Record, Replica
from supervisord_pidfd.gateway.router import EVERYWHERE, Route
from supervisord_pidfd.gateway.samples import Core, CpuClock, Scrape, Subject
from supervisord_pidfd.logwire import Counters, Slot

CACHE_S = 0.1
"""How long an answer is good for others who ask the same, unless the replica has changed."""

SLICE = 512
"""Services put together before other connections get their turn: about a millisecond."""

SHARE = 0.7
"""The part of a scraper's timeout for which the core is waited for."""

NO_ANSWER = "supervisor: no answer within 1s"


class Asked(Protocol):
    """Be what a site needs of the core."""

    async def counters(self, within: float = ...) -> Mapping[str, Any] | None:
        """Return the core's counters, or None if it does not answer in time."""
        ...


class Site:
    """Answer requests from the replica, the core and /proc."""

    def __init__(
        self,
        core: Asked,
        replica: Replica,
        settings: MetricsSpec,
        clock: Clock,
        logs: Counters | None = None,
    ) -> None:
        self._logs = logs
        self._core = core
        self._replica = replica
        self._settings = settings
        self._clock = clock
        self._sampler = procfs.Sampler(settings.sample_every)
        self._cpu = CpuClock()
        self._one_scrape = asyncio.Lock()
        self._cached: tuple[Any, float, Packed] | None = None

    def routes(self) -> list[Route]:
        """Return the rows that we answer."""
        return [
            Route("GET", "/metrics", Level.METRICS, "metrics", self.metrics, EVERYWHERE),
            Route("GET", "/healthz", Level.OPEN, "healthz", self.healthz, EVERYWHERE),
            Route("GET", "/readyz", Level.OPEN, "readyz", self.readyz, EVERYWHERE),
        ]

    async def metrics(self, request: Request) -> Response:
        """Serve the metrics; one at a time, so that many scrapers cost little more than one."""
        asked = set(request.query.get("collect[]", ()))
        if not asked <= {part.value for part in Part}:
            return refusal(400)
        parts = frozenset(Part(word) for word in asked)
        if "collect[]" not in request.query:
            parts = frozenset(Part)
        form = negotiate(request.headers.get("accept", ""))
        gzip = _accepts_gzip(request.headers.get("accept-encoding", ""))
        # Asked before the lock: scrapes of a core that hangs wait side by side.
        within = _patience(request.headers.get("x-prometheus-scrape-timeout-seconds", ""))
        counters = await self._core.counters(within)
        async with self._one_scrape:
            key = (form, parts, counters is None, self._replica.revision)
            if self._cached is not None:
                cached_key, made_at, packed = self._cached
                if cached_key == key and self._clock.now() - made_at < CACHE_S:
                    return _rendered(packed, form, gzip=gzip)
            packed = await _render(await self._scrape(counters, parts), form)
            self._cached = (key, self._clock.now(), packed)
            return _rendered(packed, form, gzip=gzip)

    async def _scrape(self, counters: Mapping[str, Any] | None, parts: frozenset[Part]) -> Scrape:
        """Look at the replica, and read /proc if it is time."""
        if counters is None:
            return Scrape(None, parts=parts)
        # Both lists are of this moment: what follows may wait, and records may change meanwhile.
        records, internal = self._replica.exported(), self._replica.internal()
        pid = counters["pid"]
        usage: dict[str, procfs.Usage] = {}
        if self._settings.resources:
            usage = await self._sampler.sample([*internal, *records], pid, self._clock.now())
        else:
            parts -= {Part.RESOURCES}
        core = Core(counters, procfs.read_usage(pid), procfs.max_fds(pid), procfs.boot_time())
        helpers = [Subject(record, usage.get(record.name)) for record in internal]
        services = await self._subjects(records, usage)
        return Scrape(core, services, helpers, parts, self._settings.phases)

    async def _subjects(
        self, records: Sequence[Record], usage: Mapping[str, procfs.Usage]
    ) -> list[Subject]:
        """Put together what is known of each service."""
        found: list[Subject] = []
        for record in records:
            used = usage.get(record.name)
            cpu = self._cpu.add_up(record, used)
            found.append(Subject(record, used, cpu, self._logged(record)))
            if len(found) % SLICE == 0:
                await asyncio.sleep(0)
        self._cpu.settle()
        return found

    def _logged(self, record: Record) -> Slot | None:
        """Read what the logger has counted of a service, if that writes to it."""
        if self._logs is None or record.log_slot is None:
            return None
        return self._logs.read(record.log_slot)

    async def healthz(self, _request: Request) -> Response:
        """Tell whether the core answers."""
        alive = await self._core.counters() is not None
        return _health([] if alive else [NO_ANSWER])

    async def readyz(self, _request: Request) -> Response:
        """Tell whether what matters is up, and stays so."""
        counters = await self._core.counters()
        if counters is None:
            return _health([NO_ANSWER])
        stopping = ["supervisor: shutting down"] if counters["stopping"] else []
        return _health(stopping + self._replica.unready())


async def _render(scrape: Scrape, form: str) -> Packed:
    """Write a scrape, compressed: readers who are slow, and many, hold a thirtieth of it."""
    packer = Gzip()
    pieces: list[bytes] = []
    size = 0
    for piece in encode(scrape, form):
        size += len(piece)
        pieces.append(packer.add(piece))
        await asyncio.sleep(0)
    pieces.append(packer.finish())
    return Packed(b"".join(pieces), size)


def _rendered(packed: Packed, form: str, *, gzip: bool) -> Response:
    vary = ("Vary", "Accept, Accept-Encoding")
    if gzip:
        return Response(200, packed.data, form, (vary, ("Content-Encoding", "gzip")))
    return Response(200, content_type=form, headers=(vary,), packed=packed)


def _patience(timeout: str) -> float:
    """Say how long to wait for the core: a scraper that gives up soon is to get an answer."""
    try:
        return max(0.0, min(ANSWER_WITHIN_S, float(timeout) * SHARE))
    except ValueError:
        return ANSWER_WITHIN_S


def _health(reasons: list[str]) -> Response:
    found: dict[str, Any] = {"ok": not reasons}
    if reasons:
        found["reasons"] = reasons
    body = json.dumps(found, separators=(",", ":")).encode() + b"\n"
    return Response(503 if reasons else 200, body, "application/json")


def _accepts_gzip(accepted: str) -> bool:
    for choice in accepted.lower().split(","):
        coding, *parameters = (part.strip() for part in choice.split(";"))
        if coding == "gzip":
            return not any(part in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters)
    return False
