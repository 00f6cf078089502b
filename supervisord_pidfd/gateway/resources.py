"""What the processes of services use now, for whoever draws it; read only when asked.

A figure is at most a second old, however many ask: each process is read once a second and no more.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from supervisord_pidfd.clock import Clock, rfc3339
from supervisord_pidfd.gateway.access import Level
from supervisord_pidfd.gateway.http import Request, Response, json_response
from supervisord_pidfd.gateway.procfs import SLICE, Usage, read_usage
from supervisord_pidfd.gateway.replica import Record, Replica
from supervisord_pidfd.gateway.router import Route

FRESH_S = 0.9
"""Seconds for which a figure is good; a little less than the second between two questions."""

_Sample = tuple[int, float, dict[str, Any] | None]
"""The run it is of, when it was read, and what was read."""


class Resources:
    """Read /proc for those who ask; `core_pid` tells whose children the services are."""

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        core_pid: Callable[[], int],
        read: Callable[[int], Usage | None] = read_usage,
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._core_pid = core_pid
        self._read = read
        self._samples: dict[str, _Sample] = {}
        self._one = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the rows that we answer."""
        return [Route("GET", "/v1/resources", Level.READ, "resources", self.answer)]

    async def answer(self, request: Request) -> Response:
        """Give the figures of `?services=A,B`, or of all services that have a process."""
        names = [name for text in request.query.get("services", ()) for name in text.split(",")]
        if names:
            found = [self._replica.find(name) for name in names]
            records = [record for record in found if record is not None]
        else:
            records = self._replica.services()
        async with self._one:
            figures = await self._sample(records)
        return json_response({"ts": rfc3339(self._clock.wall()), "services": figures})

    async def _sample(self, records: Sequence[Record]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        reads = 0
        for record in records:
            if record.pid is None:
                self._samples.pop(record.name, None)
                continue
            now = self._clock.now()
            run, read_at, figures = self._samples.get(record.name, (-1, 0.0, None))
            if run != record.run or now - read_at >= FRESH_S:
                figures = self._figures(record.run, record.pid)
                self._samples[record.name] = (record.run, now, figures)
                reads += 1
                if reads % SLICE == 0:
                    await asyncio.sleep(0)
            if figures is not None:
                found[record.name] = figures
        if len(self._samples) > 2 * len(self._replica.services()):
            self._samples = {name: self._samples[name] for name in found}
        return found

    def _figures(self, run: int, pid: int) -> dict[str, Any] | None:
        usage = self._read(pid)
        if usage is None or usage.parent != self._core_pid():
            return None  # ended, or its number is somebody else's by now
        return {
            "ts": rfc3339(self._clock.wall()),
            "run": run,
            "cpu_s": round(usage.user_cpu_s + usage.system_cpu_s, 3),
            "rss_bytes": usage.rss_bytes,
            "fds": usage.open_fds,
            "threads": usage.threads,
        }
