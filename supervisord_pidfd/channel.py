"""A helper's end of its channel to the core: the inherited socket pair, read with asyncio.

The channel opens with an integer, the version of what follows. Then come JSON objects, each ended
by NUL; the first of them holds the helper's settings.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd.errors import StartupError

OPENING = 1
"""The integer that opens the channel; another one is another version."""

FRAME_MAX_BYTES = 4 << 20


class Channel:
    """Read and write messages; owns the descriptor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, fd: int) -> "Channel":
        """Take ownership of the inherited descriptor, one end of a socket pair."""
        channel = socket.socket(fileno=fd)
        channel.setblocking(False)
        return cls(*await asyncio.open_connection(sock=channel, limit=FRAME_MAX_BYTES))

    async def next(self) -> Any:
        """Return the next message.

        Raises:
            EOFError: The core has closed its end.
        """
        try:
            frame = await self._reader.readuntil(b"\0")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error
        return json.loads(frame[:-1])

    async def settings(self) -> Any:
        """Read how the channel opens: its version, then our settings.

        Raises:
            StartupError: The core is of another version.
            EOFError: The core has closed its end.
        """
        if await self.next() != OPENING:
            raise StartupError(
                "the installed version differs from the running one: pidfdctl reexec"
            )
        return (await self.next())["settings"]

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; to a core that is gone, nothing."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\0")

    def close(self) -> None:
        """Close our end."""
        self._writer.close()
