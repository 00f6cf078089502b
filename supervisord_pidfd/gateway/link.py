"""The gateway's end of the channel to the core: records in, one question, notices out."""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd.core.spec import MetricsSpec, load
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.gateway.replica import Replica

OPENING = 1
"""The integer that opens the channel; another one is another version."""

FRAME_MAX_BYTES = 4 << 20
ANSWER_WITHIN_S = 1.0


class Link:
    """Speak with the core; owns the descriptor. At most one question is under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked = 0
        self._answer: asyncio.Future[Mapping[str, Any]] | None = None
        self._synced = asyncio.Event()

    @classmethod
    async def open(cls, fd: int) -> "Link":
        """Take ownership of the inherited descriptor, one end of a socket pair."""
        channel = socket.socket(fileno=fd)
        channel.setblocking(False)
        return cls(*await asyncio.open_connection(sock=channel, limit=FRAME_MAX_BYTES))

    async def _next(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: The core has closed its end.
        """
        try:
            frame = await self._reader.readuntil(b"\0")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error
        return json.loads(frame[:-1])

    async def settings(self) -> MetricsSpec:
        """Read how the channel opens: its version, then our settings.

        Raises:
            StartupError: The core is of another version.
            EOFError: The core has closed its end.
        """
        if await self._next() != OPENING:
            raise StartupError(
                "the installed version differs from the running one: pidfdctl reexec"
            )
        message = await self._next()
        return load(MetricsSpec, message["settings"])

    async def follow(self, replica: Replica) -> None:
        """Keep the replica up to date until the core closes its end."""
        try:
            while True:
                self._take(await self._next(), replica)
        except EOFError:
            return

    def _take(self, message: Mapping[str, Any], replica: Replica) -> None:
        if "reply" not in message:
            replica.apply(message)
            if replica.synced:
                self._synced.set()
        elif message["reply"] == self._asked and self._answer and not self._answer.done():
            self._answer.set_result(message["counters"])

    async def counters(self) -> Mapping[str, Any] | None:
        """Ask the core for its counters; None if it does not answer within a second.

        A question that it has not answered yet is not asked again: a core that hangs finds one
        question when it comes back, however many scrapes there were.
        """
        if self._answer is None or self._answer.done():
            self._asked += 1
            self._answer = asyncio.get_running_loop().create_future()
            self._send({"call": "Counters", "id": self._asked})
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._synced.wait()
                return await asyncio.shield(self._answer)
        except TimeoutError:
            return None

    def notice(self, kind: str, **fields: str) -> None:
        """Tell the core what happened here; it publishes the event."""
        self._send({"notice": {"type": kind, **fields}})

    def _send(self, message: Mapping[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\0")

    def close(self) -> None:
        """Close our end."""
        self._writer.close()
