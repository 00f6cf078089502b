"""A gateway with thousands of services that are not: the real server and hub, a core of paper."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from supervisord_pidfd.clock import SystemClock, rfc3339
from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway.access import Level, Policy
from supervisord_pidfd.gateway.http import Door, Request, Response, json_response
from supervisord_pidfd.gateway.pages import Pages, load
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.resources import Resources
from supervisord_pidfd.gateway.router import Route, Router
from supervisord_pidfd.gateway.server import Server
from supervisord_pidfd.gateway.watch import Hub

A_FRAME = 4
"""Records in one reply of the core, as in the real one."""


def record(number: int, clock: SystemClock, **changed: Any) -> dict[str, Any]:
    """Describe a service as the core does."""
    at = rfc3339(clock.wall() - number)
    return {
        "name": f"svc-{number:05d}", "group": f"team-{number % 37}", "type": "simple",
        "description": "", "phase": "running", "wanted": "up", "ready": True, "health": "none",
        "pid": 100_000 + number, "run": 1, "since": at, "started_at": at, "ready_at": at,
        "restarts": 0, "restarts_1h": 0, "attempt": 0, "limit": 10, "next_start_at": None,
        "last_exit": None, "checks": [], "totals": {"restarts": {}}, "waiting_for": [],
        "status_text": None, "critical": False, "adopted": False, "frozen": False,
        "pending": False, "detail": "",
    } | changed  # fmt: skip


class Crowd:
    """Own the server, a process of its own."""

    def __init__(self, number: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crowd", str(number)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def change(self, number: int, **changed: Any) -> None:
        """Let the core tell that a service has changed."""
        assert self._process.stdin is not None
        print(json.dumps([number, changed]), file=self._process.stdin, flush=True)


class Core:
    """Be the core: all services first, then the changes that are read."""

    def __init__(self, number: int, clock: SystemClock) -> None:
        self._number = number
        self._clock = clock
        self._changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def read(self, said: bytes) -> None:
        """Take in a line of the test's."""
        number, changed = json.loads(said)
        records = [record(number, self._clock, **changed)]
        self._changes.put_nowait({"services": records, "synced": True})

    async def call(self, method: str, **_parameters: Any) -> dict[str, Any]:
        """Answer `Status`."""
        assert method == "Status"
        now = rfc3339(self._clock.wall())
        config = {"generation": 1, "applied_at": now, "last_error": None, "files": []}
        about = {"phase": "running", "reaper": "pidfd", "config": config, "started_at": now}
        return {"supervisor": about}

    async def stream(self, method: str, **_parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Be watched."""
        assert method == "Watch"
        for first in range(0, self._number, A_FRAME):
            some = range(first, min(first + A_FRAME, self._number))
            yield {"services": [record(one, self._clock) for one in some], "synced": False}
            if first % 400 == 0:
                await asyncio.sleep(0)
        yield {"synced": True}
        while True:
            yield await self._changes.get()


async def nothing(_request: Request) -> Response:
    """Answer what is not of interest here."""
    return json_response({"edges": []})


async def serve(number: int) -> None:
    """Serve on an address of our own until we are ended; print it."""
    clock, policy, replica = SystemClock(), Policy(), Replica(MetricsSpec())
    core = Core(number, clock)
    hub = Hub(core, clock, policy, replica)
    resources = Resources(replica, clock, os.getppid)
    routes = [*hub.routes(), *resources.routes(), *Pages(load()).routes()]
    others = ("/v1/events", "/v1/deps", "/v1/logs")
    routes += [Route("GET", path, Level.READ, "none", nothing) for path in others]
    server = Server(Router(policy, routes).answer, Counter())
    listener = await asyncio.start_server(server.at(Door("web")), "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    print(f"http://{host}:{port}/", flush=True)
    lines = asyncio.StreamReader()
    pipe = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: pipe, sys.stdin)
    while said := await lines.readline():
        core.read(said)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
