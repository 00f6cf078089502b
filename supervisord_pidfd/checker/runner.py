"""Run probes over and over: each in a task of its own, so that none overlaps itself.

A readiness probe (`once`) is tried at once and again a period after each failure, until it passes;
only its first failure and each that differs from the one before is told, because at four tries a
second of thousands of services nobody could read them. A health check is told of each run. Its
runs lie on a grid that is shifted by a share of the period which depends on its number, so that
checks that began together do not stay together.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from supervisord_pidfd.checker.tools import FailedError, Files, HttpRequest, connect, request
from supervisord_pidfd.clock import Clock
from supervisord_pidfd.core.health import first_run, next_run

AT_ONCE = 256
"""How many probes are under way at the same time; more wait for their turn, unhurried."""

_ERROR_MAX = 200


class Watch(NamedTuple):
    """Hold what is to be probed, as the core asks it."""

    ident: int
    kind: str
    target: str
    period: float
    timeout: float
    delay: float = 0.0
    once: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    verify: bool = True


def watch_from(plain: dict[str, Any]) -> Watch:
    """Read a `watch` message.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    return Watch(
        ident=int(plain["watch"]),
        kind=str(plain["kind"]),
        target=str(plain["target"]),
        period=float(plain["period"]),
        timeout=float(plain["timeout"]),
        delay=float(plain.get("delay", 0.0)),
        once=bool(plain.get("once", False)),
        headers=tuple((str(name), str(value)) for name, value in plain.get("headers", ())),
        status=tuple((int(low), int(high)) for low, high in plain.get("status", ((200, 399),))),
        verify=bool(plain.get("verify", True)),
    )


class Verdict(NamedTuple):
    """Hold how one run went."""

    ok: bool
    error: str
    timed_out: bool
    took_s: float


class Runner:
    """Keep the probes running; `told(ident, verdict)` takes what they found."""

    def __init__(self, clock: Clock, told: Callable[[int, Verdict], None]) -> None:
        self._clock = clock
        self._told = told
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._files = Files()

    def watch(self, watch: Watch) -> None:
        """Begin, in place of an earlier probe of this number."""
        self.unwatch(watch.ident)
        run = self._until_it_passes if watch.once else self._for_ever
        self._tasks[watch.ident] = asyncio.get_running_loop().create_task(run(watch))

    def unwatch(self, ident: int) -> None:
        """Stop; nothing more is told of it."""
        task = self._tasks.pop(ident, None)
        if task is not None:
            task.cancel()

    def __len__(self) -> int:
        return len(self._tasks)

    async def _until_it_passes(self, watch: Watch) -> None:
        told = None
        while True:
            verdict = await self._try(watch)
            if verdict.ok or verdict.error != told:
                told = verdict.error
                self._told(watch.ident, verdict)
            if verdict.ok:
                return
            await asyncio.sleep(watch.period)

    async def _for_ever(self, watch: Watch) -> None:
        ident, period = watch.ident, watch.period
        began = self._clock.now() + watch.delay
        due = first_run(began, ident, period)
        while True:
            await asyncio.sleep(due - self._clock.now())
            self._told(ident, await self._try(watch))
            due = next_run(began, ident, period, self._clock.now())

    async def _try(self, watch: Watch) -> Verdict:
        async with self._turns:
            began = self._clock.now()
            error, timed_out = "", False
            try:
                async with asyncio.timeout(watch.timeout):
                    await self._probe(watch)
            except TimeoutError:
                error, timed_out = "no answer in time", True
            except FailedError as failed:
                error = str(failed)[:_ERROR_MAX]
            return Verdict(not error, error, timed_out, self._clock.now() - began)

    def _probe(self, watch: Watch) -> Awaitable[None]:
        match watch.kind:
            case "tcp":
                return connect(watch.target)
            case "http":
                ask = HttpRequest(watch.target, watch.headers, watch.status, watch.verify)
                return request(ask)
            case "file":
                return self._files.exists(watch.target)
            case _:
                raise FailedError(f"no such probe: {watch.kind}")

    async def close(self) -> None:
        """End all probes."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
