"""The gateway as a client of the core: calls and streams over gateway.sock.

Every call has a connection of its own, so that a slow answer holds up nobody else, and cancelling
whoever waits ends the call: the core is told by the end of its connection.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from supervisord_pidfd import wire
from supervisord_pidfd.commands import INTERFACE

CONNECT_WITHIN_S = 1.0
ANSWER_WITHIN_S = 10.0
"""How long the core may take for an answer that waits for nothing."""
LOADING_WITHIN_S = 60.0
"""The same, where it loads the configuration first."""
REPLY_MAX_BYTES = 64 << 20
READ_AHEAD_BYTES = 64 << 10
"""What is read of a stream before it is wanted; asyncio takes up to twice as much."""

_LOADING = frozenset({"Plan", "Apply"})
_WAITING = frozenset({"Start", "Stop", "Restart", "Reload", "Apply", "Wait"})
"""Methods whose one answer may come as late as the services it is about."""


class ControlError(Exception):
    """Hold an error that the core answered: its short name, such as NoSuchService, and more."""

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = dict(parameters)


class CoreClient:
    """Call the core; parameters that are None are left out."""

    def __init__(self, path: str | None) -> None:
        """Connect to this socket; None where there is none, and then every call fails."""
        self._path = path

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its one answer.

        What waits for services has no deadline of its own but the `timeout_s` that it is given.

        Raises:
            ControlError: The core answered an error.
            ConnectionError: It cannot be reached, hung up, or its answer makes no sense.
            TimeoutError: It does not answer.
        """
        reply, _ = _read(await self._call(method, parameters))
        return reply

    async def call_text(self, method: str, **parameters: Any) -> bytes:
        """Call a method and return its one answer as it came: JSON, of any length.

        An answer of megabytes would take ten times as many as objects, and be written as it was.

        Raises:
            ControlError, ConnectionError, TimeoutError: As `call`.
        """
        frame = await self._call(method, parameters)
        if frame.startswith(_PLAIN[0]) and frame.endswith(_PLAIN[1]):
            return frame[len(_PLAIN[0]) : -len(_PLAIN[1])]
        return wire.plain(_read(frame)[0])

    async def _call(self, method: str, parameters: Mapping[str, Any]) -> bytes:
        async with asyncio.timeout(within_of(method, parameters)):
            connection = await _Connection.open(self._path)
            try:
                connection.send(method, parameters, more=False)
                return await connection.frame()
            finally:
                connection.close()

    async def stream(self, method: str, **parameters: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Call a method and give each of its answers; closing the iterator ends the call.

        Raises:
            ControlError: The core answered an error.
            ConnectionError: It cannot be reached, hung up, or its answer makes no sense.
            TimeoutError: It does not let us in.
        """
        connection = await _Connection.open(self._path)
        try:
            connection.send(method, parameters, more=True)
            continues = True
            while continues:
                reply, continues = _read(await connection.frame())
                yield reply
        finally:
            connection.close()


def held(path: str | None) -> str | None:
    """Return a path that leads to the socket also when we are no longer root.

    Its directory stays open for that: what lies above it may be closed to the gateway's user, and
    another socket that is made there is found all the same. Where /proc is not mounted, the path
    remains as it is.
    """
    if path is None:
        return None
    directory, name = os.path.split(path)
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return path
    by_descriptor = f"/proc/self/fd/{fd}"
    if not os.path.exists(by_descriptor):
        os.close(fd)
        return path
    return os.path.join(by_descriptor, name)


def within_of(method: str, parameters: Mapping[str, Any]) -> float | None:
    """Return how many seconds a call may take; None if nobody can say."""
    within = LOADING_WITHIN_S if method in _LOADING else ANSWER_WITHIN_S
    if method not in _WAITING or parameters.get("wait") is False:
        return within
    timeout = parameters.get("timeout_s")
    return None if timeout is None else within + float(timeout)


class _Connection:
    """Be one connection to the core. Owns its socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, path: str | None) -> "_Connection":
        """Connect.

        Raises:
            ConnectionError: Nobody listens there, or we may not connect.
            TimeoutError: There is no room in the queue of those who want to.
        """
        if path is None:
            raise ConnectionError("the core has no gateway.sock: it has no runtime directory")
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                return cls(*await asyncio.open_unix_connection(path, limit=READ_AHEAD_BYTES))
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionError(f"cannot reach the core: {error}") from error

    def send(self, method: str, parameters: Mapping[str, Any], *, more: bool) -> None:
        """Send a call."""
        given = {name: value for name, value in parameters.items() if value is not None}
        self._writer.write(wire.call(f"{INTERFACE}.{method}", given, more=more))

    async def frame(self) -> bytes:
        """Return the next answer, unread, with its NUL.

        Raises:
            ConnectionError: There is none, or it is too long.
        """
        try:
            return await self._gather()
        except (asyncio.IncompleteReadError, OSError) as failure:
            raise ConnectionError(f"the core hung up: {failure}") from failure

    async def _gather(self) -> bytes:
        """Read up to the next NUL, however much more it is than is read ahead."""
        found = bytearray()
        while len(found) <= REPLY_MAX_BYTES:
            try:
                last = await self._reader.readuntil(b"\0")
            except asyncio.LimitOverrunError as longer:
                found += await self._reader.readexactly(longer.consumed)
            else:
                return bytes(found + last) if found else last
        raise OSError(f"an answer of more than {REPLY_MAX_BYTES} bytes")

    def close(self) -> None:
        """Hang up; what the core was told to change goes on."""
        self._writer.transport.abort()


_PLAIN = (b'{"parameters":', b"}\0")
"""Before and after the parameters of an answer that is neither an error nor one of many."""


def _read(frame: bytes) -> tuple[dict[str, Any], bool]:
    """Return what an answer holds, and whether there is more to come.

    Raises:
        ControlError: It is an error.
        ConnectionError: It makes no sense.
    """
    try:
        answer = json.loads(frame[:-1])
        parameters = answer.get("parameters") or {}
        error = answer.get("error")
    except (ValueError, AttributeError, RecursionError) as failure:
        raise ConnectionError("the answer of the core makes no sense") from failure
    if error is not None:
        raise ControlError(str(error).rpartition(".")[2], parameters)
    return parameters, answer.get("continues") is True
