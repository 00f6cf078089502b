"""Streams of the core as server-sent events, or as JSON lines.

An event has the number of what it tells as its id, so that a client which comes back with
`Last-Event-ID` (a browser does by itself) goes on where it was cut off. Lines of a log are
numbered for each stream of each run, so their id says how far we are in every stream.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.http import FORMAT, Response

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
BEAT = b": \n\n"
RETRY = b"retry: 2000\n\n"
FIRST_WITHIN_S = 0.15
"""How long the first answer of a stream that follows is awaited, to see whether it is an error."""
MARKS_MAX = 16
"""Streams of services that the id of a line may tell of."""
RESUMED_LAST = 1000
"""Lines that are looked at to find those that a client has missed."""
ENDED = "end"

_SEQ = re.compile(r"[0-9]{1,18}", re.ASCII)
_MARK = re.compile(r"([\w:@-]{1,140}/[a-z]{1,10})=([0-9]{1,9})\.([0-9]{1,15})", re.ASCII)


def wants_lines(accepted: str) -> bool:
    """Tell whether a client asks for JSON lines."""
    kinds = (choice.partition(";")[0].strip() for choice in accepted.lower().split(","))
    return NDJSON in kinds


class Lines:
    """Write one JSON object in a line; `member` is what each reply of the core holds."""

    content_type = NDJSON
    heartbeat = b""
    start = b""

    def __init__(self, member: str) -> None:
        self._member = member

    def adapt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters to call the core with."""
        return parameters

    def write(self, said: Mapping[str, Any]) -> bytes:
        """Write one; b"" if it has been told before."""
        return _json(said) + b"\n"

    def end(self) -> bytes:
        """Write that this was all."""
        return b""

    def broken(self, error: Exception) -> bytes:
        """Write that there is no more, though there should be."""
        return _json(_told(error)) + b"\n"

    async def response(self, replies: AsyncIterator[dict[str, Any]], *, follows: bool) -> Response:
        """Make an answer of the replies.

        Raises:
            ControlError: The core refuses.
            ConnectionError: It cannot be reached.
            TimeoutError: It does not answer.
        """
        stream = _Stream(self, replies, self._member)
        try:
            await stream.begin(FIRST_WITHIN_S if follows else None)
        except BaseException:
            await stream.aclose()
            raise
        kind, beat = self.content_type, self.heartbeat if follows else b""
        return Response(200, content_type=kind, stream=stream, heartbeat=beat)


class Events(Lines):
    """Write server-sent events of what happens; `resumed` is the last one that a client has."""

    content_type = SSE
    heartbeat = BEAT
    start = RETRY

    def __init__(self, member: str, resumed: str) -> None:
        super().__init__(member)
        self._resumed = resumed

    def adapt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Go on after the event that the client had last."""
        if not _SEQ.fullmatch(self._resumed):
            return parameters
        rest = {name: value for name, value in parameters.items() if name != "last"}
        return {**rest, "since": str(int(self._resumed))}

    def write(self, said: Mapping[str, Any]) -> bytes:
        """Write one with its number; a gap has none."""
        return _event(said, str(said["seq"]) if "seq" in said else None)

    def end(self) -> bytes:
        """Say that this was all: the end of a connection says "come back"."""
        return _event({}, None, ENDED)

    def broken(self, error: Exception) -> bytes:
        """Say why there is no more."""
        return _event(_told(error), None, "error")


class LogEvents(Events):
    """Write server-sent events of the lines of logs.

    The id is how far we are in each stream of each service. Of more than a few services it would
    be long, so then there is none, and a client that comes back begins as it did the first time.
    """

    def __init__(self, member: str, resumed: str) -> None:
        super().__init__(member, resumed)
        self._marks: dict[str, tuple[int, int]] = {}
        for mark in resumed.split(",")[:MARKS_MAX]:
            match = _MARK.fullmatch(mark)
            if match is not None:
                self._marks[match[1]] = (int(match[2]), int(match[3]))

    def adapt(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Look for what the client has missed in what there is."""
        return {**parameters, "last": RESUMED_LAST} if self._marks else parameters

    def write(self, said: Mapping[str, Any]) -> bytes:
        """Write one with how far we are; nothing if the client has it."""
        stream, at = f"{said['service']}/{said['stream']}", (said["run"], said["seq"])
        if at <= self._marks.get(stream, (-1, -1)):
            return b""
        if len(self._marks) <= MARKS_MAX:
            self._marks[stream] = at
        if len(self._marks) > MARKS_MAX:
            return _event(said, "")
        return _event(
            said, ",".join(f"{name}={run}.{n}" for name, (run, n) in self._marks.items())
        )


class _Stream:
    """Give the replies of the core, in a shape, until one says that it was the last."""

    def __init__(self, shape: Lines, replies: AsyncIterator[dict[str, Any]], member: str) -> None:
        self._shape = shape
        self._replies = replies
        self._member = member
        self._start: bytes = shape.start
        self._first: asyncio.Task[dict[str, Any] | None] | None = None
        self._over = False

    async def begin(self, within: float | None) -> None:
        """Ask, and wait for the first reply, because it may be a refusal."""
        self._first = asyncio.get_running_loop().create_task(self._next())
        await asyncio.wait((self._first,), timeout=within)
        if self._first.done():
            self._first.result()

    async def _next(self) -> dict[str, Any] | None:
        try:
            return await self._replies.__anext__()
        except StopAsyncIteration:
            return None

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        if self._start:
            piece, self._start = self._start, b""
            return piece
        piece = b""
        while not piece:
            if self._over:
                raise StopAsyncIteration
            piece = await self._piece()
        return piece

    async def _piece(self) -> bytes:
        try:
            if self._first is not None:
                reply = await asyncio.shield(self._first)
                self._first = None
            else:
                reply = await self._next()
        except (ControlError, ConnectionError, TimeoutError) as error:
            self._over = True
            return self._shape.broken(error)
        said = None if reply is None else reply.get(self._member)
        if said is None:
            self._over = True
            return self._shape.end()
        return self._shape.write(said)

    async def aclose(self) -> None:
        """Hang up."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait((self._first,))
            with contextlib.suppress(asyncio.CancelledError):
                self._first.exception()
        close = getattr(self._replies, "aclose", None)
        if close is not None:
            await close()


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode("ascii")


def _event(said: Mapping[str, Any], ident: str | None, name: str | None = None) -> bytes:
    """Write one server-sent event; JSON has no line ends, so its data is one line."""
    head = f"event: {name}\n" if name else ""
    head += "" if ident is None else f"id: {ident}\n"
    return head.encode("ascii") + b"data: " + _json(said) + b"\n\n"


def _told(error: Exception) -> dict[str, Any]:
    name = error.name if isinstance(error, ControlError) else "Unreachable"
    parameters = error.parameters if isinstance(error, ControlError) else {}
    message = "the supervisor ended this stream"
    return {
        "format": FORMAT,
        "error": {"name": name, "message": message, "parameters": parameters},
    }
