"""What dashboards follow: one `Watch` of the core, shared by all that look.

However many look, the core has one client, and only while there is one. A record is made small
once, and kept as the bytes that are sent. What a client has not taken yet is a *set* of names, so
that a slow one gets the latest record of each, and costs no more than a fast one.

While somebody looks, the core is asked every two seconds how it is. That is how a core that hangs
is told from one where nothing happens, and what the page knows of the configuration stays true.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from supervisord_pidfd.clock import Clock, rfc3339
from supervisord_pidfd.gateway.access import Level, Policy, judge
from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.http import FORMAT, Request, Response
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.router import Route

A_PIECE = 200
"""Records in one piece of a stream."""

BATCH_S = 0.1
"""How long changes are gathered, once something was sent."""

EVENTS_MAX = 1000
"""Events kept for a client that does not read; those before are told as a gap."""

PING_S = 2.0
ANSWER_WITHIN_S = 1.5
RETRY_S = 0.5
LINGER_S = 10.0
"""How long the core is followed after the last client has left: a page that is loaded again."""

HEARTBEAT = b": \n\n"

MEMBERS = (
    "name", "group", "type", "description", "phase", "wanted", "ready", "health", "pid", "run",
    "since", "started_at", "restarts", "restarts_1h", "attempt", "limit", "next_start_at",
    "status_text", "critical", "adopted", "frozen", "pending", "detail",
)  # fmt: skip
"""What of a record is passed on; what is null, false or empty is left out."""

_ALWAYS = frozenset({"group", "ready", "restarts", "detail"})

_NEWS = ("config.", "daemon.", "reaper.")
"""Events after which the supervisor itself may look different."""


class Core(Protocol):
    """Be what the hub needs of the core."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method."""
        ...

    def stream(self, method: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Call a method that streams."""
        ...


def slim(record: Mapping[str, Any], at: str) -> bytes:
    """Return what the dashboard needs of a record, as JSON; `at` is when it was true."""
    kept = {name: record.get(name) for name in MEMBERS}
    end = record.get("last_exit")
    failing = next((check for check in record.get("checks") or () if check["ok"] is False), None)
    kept |= {
        "exit": end.get("text") if end else None,
        "failing": failing and ": ".join(filter(None, (failing["name"], failing["error"]))),
        "at": at,
    }
    small = {name: value for name, value in kept.items() if value or name in _ALWAYS}
    return json.dumps(small, separators=(",", ":")).encode("ascii")


def sse(kind: str, data: Any) -> bytes:
    """Write one server-sent event."""
    text = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return b"event: %s\ndata: %s\n\n" % (kind.encode("ascii"), text)


class _Client:
    """Be one that looks: what it has not got yet."""

    def __init__(self, names: Iterable[str]) -> None:
        self.changed = dict.fromkeys(names)
        self.removed: dict[str, None] = {}
        self.events: deque[bytes] = deque(maxlen=EVENTS_MAX)
        self.lost = 0
        self.whole = False
        self.supervisor: bytes | None = None
        self.contact: bytes | None = None
        self.wake = asyncio.Event()

    def touch(self, name: str) -> None:
        self.removed.pop(name, None)
        self.changed[name] = None
        self.wake.set()

    def remove(self, name: str) -> None:
        self.changed.pop(name, None)
        self.removed[name] = None
        self.wake.set()

    def tell(self, event: bytes) -> None:
        self.lost += len(self.events) == EVENTS_MAX
        self.events.append(event)
        self.wake.set()


class Hub:
    """Follow the core while somebody looks, and tell those who do."""

    def __init__(
        self,
        core: Core,
        clock: Clock,
        policy: Policy,
        replica: Replica,
    ) -> None:
        self._core = core
        self._clock = clock
        self._policy = policy
        self._replica = replica
        self._clients: dict[_Client, None] = {}
        self._records: dict[str, bytes] = {}
        self._seen: set[str] | None = None
        self._synced = False
        self._supervisor: bytes | None = None
        self._contact: bytes | None = None
        self._answered_at = clock.wall()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: asyncio.TimerHandle | None = None

    def routes(self) -> list[Route]:
        """Return the rows that we answer."""
        return [Route("GET", "/v1/watch", Level.READ, "watch", self.answer)]

    async def answer(self, request: Request) -> Response:
        """Open a stream: all services, then what changes."""
        control = judge(self._policy, Level.CONTROL, request) is None
        stream = self.follow("control" if control else "read")
        return Response(200, content_type="text/event-stream", stream=stream, heartbeat=HEARTBEAT)

    # -- those who look ---------------------------------------------------------------------------

    async def follow(self, level: str) -> AsyncGenerator[bytes, None]:
        """Give one client what it needs, as server-sent events, for as long as it reads."""
        client = _Client(self._records)
        self._join(client)
        try:
            hello = {"format": FORMAT, "level": level, "now": rfc3339(self._clock.wall())}
            yield sse("hello", hello)
            while True:
                piece = self._take(client)
                if piece:
                    yield piece
                    if client.whole:
                        await asyncio.sleep(BATCH_S)
                else:
                    client.wake.clear()
                    await client.wake.wait()
        finally:
            self._leave(client)

    def _take(self, client: _Client) -> bytes:
        """Take a piece of what a client has not got yet."""
        parts: list[bytes] = []
        if client.contact is not self._contact and self._contact is not None:
            client.contact = self._contact
            parts.append(sse("contact", self._contact))
        if client.supervisor is not self._supervisor and self._supervisor is not None:
            client.supervisor = self._supervisor
            parts.append(sse("supervisor", self._supervisor))
        if client.removed:
            parts.append(sse("removed", list(client.removed)))
            client.removed.clear()
        if client.changed:
            names = list(client.changed)[:A_PIECE]
            for name in names:
                del client.changed[name]
            parts.append(sse("services", b"[%s]" % b",".join(map(self._record, names))))
        elif self._synced and not client.whole:
            client.whole = True
            parts.append(sse("synced", {}))
        if client.whole and client.events:
            parts.append(sse("event", b"[%s]" % b",".join(_events_of(client))))
        return b"".join(parts)

    def _record(self, name: str) -> bytes:
        """Return a record, and whether there is a log to follow, which the core does not tell."""
        known = self._replica.find(name)
        captured = known is not None and known.log_slot is not None
        return self._records[name][:-1] + (b',"captured":true}' if captured else b"}")

    def _join(self, client: _Client) -> None:
        self._clients[client] = None
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if not self._tasks:
            self._tasks = [asyncio.create_task(one) for one in (self._listen(), self._ask())]

    def _leave(self, client: _Client) -> None:
        self._clients.pop(client, None)
        if not self._clients and self._leaving is None:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(LINGER_S, self.close)

    def close(self) -> None:
        """Stop following, and forget everything."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._records = {}
        self._seen = None
        self._synced = False
        self._supervisor = self._contact = None

    # -- the core ---------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Follow the core, and begin anew whenever it has hung up."""
        while True:
            self._seen = set()
            with contextlib.suppress(ConnectionError, TimeoutError, ControlError):
                # closed at once when we are cancelled, not when somebody collects it
                stream: Any = self._core.stream("Watch")
                async with contextlib.aclosing(stream):
                    async for reply in stream:
                        self._hear(reply)
            await asyncio.sleep(RETRY_S)

    def _hear(self, reply: Mapping[str, Any]) -> None:
        """Take in one reply of `Watch`."""
        at = rfc3339(self._clock.wall())
        for record in reply.get("services") or ():
            name = record["name"]
            self._records[name] = slim(record, at)
            if self._seen is not None:
                self._seen.add(name)
            for client in self._clients:
                client.touch(name)
        for name in reply.get("removed") or ():
            self._remove(name)
        event = reply.get("event")
        if event is not None:
            self._tell(event)
        if reply.get("synced") and self._seen is not None:
            for name in [name for name in self._records if name not in self._seen]:
                self._remove(name)
            self._seen = None
            self._synced = True
            self._wake_all()

    def _remove(self, name: str) -> None:
        if self._records.pop(name, None) is not None:
            for client in self._clients:
                client.remove(name)

    def _tell(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event, separators=(",", ":")).encode("ascii")
        for client in self._clients:
            client.tell(line)
        if str(event.get("event")).startswith(_NEWS):
            self._news.set()

    async def _ask(self) -> None:
        """Ask how the core is, every two seconds and after news."""
        while True:
            self._news.clear()
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    reply = await self._core.call("Status", names=[])
            except (ConnectionError, TimeoutError, ControlError):
                self._show_contact({"ok": False, "since": rfc3339(self._answered_at)})
            else:
                self._answered_at = self._clock.wall()
                self._show_supervisor(reply["supervisor"])
                self._show_contact({"ok": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._news.wait()

    def _show_supervisor(self, about: Mapping[str, Any]) -> None:
        internal = [
            {"name": one.name, "phase": one.phase, "pid": one.pid}
            for one in self._replica.internal()
        ]
        data = json.dumps({**about, "internal": internal}, separators=(",", ":")).encode("ascii")
        if data != self._supervisor:
            self._supervisor = data
            self._wake_all()

    def _show_contact(self, contact: Mapping[str, Any]) -> None:
        data = json.dumps(contact, separators=(",", ":")).encode("ascii")
        if data != self._contact:
            self._contact = data
            self._wake_all()

    def _wake_all(self) -> None:
        for client in self._clients:
            client.wake.set()


def _events_of(client: _Client) -> list[bytes]:
    """Take the events that a client has not got yet, and before them how many it will not get."""
    gap = [b'{"event":"gap","lost":%d}' % client.lost] if client.lost else []
    events = [*gap, *client.events]
    client.events.clear()
    client.lost = 0
    return events
