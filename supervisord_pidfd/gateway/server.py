"""Serve HTTP connections: h11 parses, this keeps the bounds.

Every wait has a deadline and every amount a limit; a client that keeps neither costs one
connection for five seconds. The bounds are those of the reference: head 8 KiB, body 64 KiB,
32 connections, 5 s for a head, 100 requests on a connection.

When all connections are taken, a newcomer gets the place of whoever needs it least: one that is
idle, then the one that has been sending its head for longest, then one that does not read its
answer. So a client that says at once what it wants is answered, however many say nothing. Where
all are at work, it waits for a moment, and is told if that was not enough. Streams have a share of
the connections, and leave the rest to scrapes and health checks.
"""

import asyncio
import contextlib
import enum
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import h11

from supervisord_pidfd.gateway.http import (
    BODY_MAX_BYTES,
    HEAD_MAX_BYTES,
    Door,
    RefusedError,
    Request,
    Response,
    Stream,
    headers_of,
    refusal,
    request_of,
)

CONNECTIONS_MAX = 32
STREAMS_MAX = 20
"""Connections that may be streams at the same time."""
HELD_MAX_BYTES = 96 << 20
"""Bytes of long answers that wait to be read, together; the same answer to several counts once."""
LONG_BYTES = 256 << 10
REQUESTS_MAX = 100
REQUEST_WITHIN_S = 5.0
IDLE_S = 60.0
ANSWER_WITHIN_S = 30.0
PIECE_WITHIN_S = 20.0
"""How long a piece of a stream may wait for a client to take it."""
HEARTBEAT_S = 15.0
STALLED_S = 1.0
"""A client that has taken nothing for so long makes room when there is none left."""
PLACE_WITHIN_S = 2.0
"""How long a newcomer waits for a place before it is told that there is none."""
LOOK_AGAIN_S = 0.25
LINGER_S = 1.0
READ_BYTES = 4096
WRITE_BYTES = 65536
RETRY_AFTER = ("Retry-After", "5")

_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 30,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 60_000,
}

Answer = Callable[[Request], Coroutine[Any, Any, Response]]
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Mood(enum.IntEnum):
    """Say what a connection is at, in the order in which it has to make room."""

    IDLE = 0
    ASKING = 1
    SENDING = 2
    BUSY = 3


_PATIENCE = {Mood.IDLE: 0.0, Mood.ASKING: 0.0, Mood.SENDING: STALLED_S}


@dataclass(slots=True)
class Server:
    """Serve connections of any listener, all counted together."""

    answer: Answer
    answered: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    streams: int = 0
    _open: dict["_Connection", None] = field(default_factory=dict["_Connection", None])
    _waiting: int = 0
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _held: dict["_Connection", bytes] = field(default_factory=dict["_Connection", bytes])

    def at(self, door: Door) -> Connected:
        """Return the callback of the listener that is this door."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(_Connection(self, door, reader, writer))

        return connected

    async def _connected(self, connection: "_Connection") -> None:
        """Serve one connection to its end."""
        if self._waiting >= CONNECTIONS_MAX:  # no room even for those who are told so
            connection.drop()
            return
        # The peer may go away, or read too slowly: then it is not there to be told.
        with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError):
            try:
                if await self._found_place(connection):
                    await connection.serve()
            finally:
                self._drop(connection)

    async def _found_place(self, connection: "_Connection") -> bool:
        """Wait for a place; without one, say so. A burst of work is over before that."""
        self._waiting += 1
        try:
            deadline = asyncio.get_running_loop().time() + PLACE_WITHIN_S
            while len(self._open) >= CONNECTIONS_MAX and not self._evict():
                if asyncio.get_running_loop().time() >= deadline:
                    await connection.refuse(503)
                    return False
                self._freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._freed.wait()
            self._open[connection] = None
            return True
        finally:
            self._waiting -= 1

    def _evict(self) -> bool:
        """Make room by closing the connection that needs it least."""
        now = asyncio.get_running_loop().time()
        waiting = [
            (one.mood, one.since, one)
            for one in self._open
            if one.mood in _PATIENCE and now - one.since >= _PATIENCE[one.mood]
        ]
        if not waiting:
            return False
        self._drop(min(waiting, key=lambda found: found[:2])[2])
        return True

    def _drop(self, connection: "_Connection") -> None:
        """Give its place away at once: its end takes a few turns of the loop."""
        self._open.pop(connection, None)
        self._held.pop(connection, None)
        self._freed.set()
        connection.drop()

    def hold(self, connection: "_Connection", body: bytes) -> bool:
        """Take note of a long answer until it is sent; return whether there is room for it.

        Those who have taken nothing for a while make room: they hold what nobody reads.
        """
        if len(body) < LONG_BYTES:
            return True
        self._held[connection] = body
        now = asyncio.get_running_loop().time()
        for one in list(self._held):
            if self._held_bytes() <= HELD_MAX_BYTES:
                break
            if one.mood is Mood.SENDING and now - one.since >= STALLED_S:
                self._drop(one)
        fits = self._held_bytes() <= HELD_MAX_BYTES
        if not fits:
            self.release(connection)
        return fits

    def _held_bytes(self) -> int:
        return sum(map(len, {id(body): body for body in self._held.values()}.values()))

    def release(self, connection: "_Connection") -> None:
        """Forget an answer that is sent."""
        self._held.pop(connection, None)


class _Connection:
    """Serve one connection: requests one after the other, each bounded."""

    def __init__(
        self,
        server: Server,
        door: Door,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._server = server
        self._door = door
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._bare = False
        self._loop = asyncio.get_running_loop()
        self._become(Mood.ASKING)
        # drain() then waits for everything, so that the end of an answer is never cut off.
        writer.transport.set_write_buffer_limits(0)
        peer = writer.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else "unix"

    def _become(self, mood: Mood) -> None:
        self.mood = mood
        self.since = self._loop.time()

    def drop(self) -> None:
        """End it now; whoever waits for it sees the end of its stream."""
        self.mood = Mood.BUSY
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Answer until the client leaves, misbehaves, or has had its number of requests."""
        for number in range(1, REQUESTS_MAX + 1):
            self._become(Mood.ASKING)
            try:
                request = await self._request()
            except RefusedError as refused:
                await self.refuse(refused.code)
                return
            if request is None:
                return
            self._become(Mood.BUSY)
            response = await self._answer(request)
            if response is None:
                return
            await self._respond(response, last=number == REQUESTS_MAX)
            if not await self._again():
                return

    # -- requests -----------------------------------------------------------------------------

    async def _request(self) -> Request | None:
        """Read one request in time; None if the client has left.

        Raises:
            RefusedError: It did not come in time, or is not one that we serve.
        """
        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                return await self._receive()
        except h11.RemoteProtocolError as error:
            raise RefusedError(431 if error.error_status_hint == 431 else 400) from error
        except TimeoutError as error:
            raise RefusedError(408) from error

    async def _receive(self) -> Request | None:
        """Read one request and its body; None if the client has left."""
        request = None
        body = bytearray()
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    await self._read_more()
                case h11.Request() as head:
                    self._bare = head.method == b"HEAD"
                    request = request_of(head, self._door, self._peer)
                case h11.Data() as data:
                    body += data.data
                    if len(body) > BODY_MAX_BYTES:
                        raise RefusedError(400)
                case h11.EndOfMessage():
                    return replace(request, body=bytes(body)) if request else None
                case _:
                    return None

    async def _read_more(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._writer.write(self._http.send(go_on) or b"")
        self._http.receive_data(await self._reader.read(READ_BYTES))

    async def _again(self) -> bool:
        """Get ready for another request on this connection; return whether one begins."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return bool(self._http.trailing_data[0]) or await self._wake()

    async def _wake(self) -> bool:
        """Wait for the next request to begin; return whether it did."""
        self._become(Mood.IDLE)
        try:
            async with asyncio.timeout(IDLE_S):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            return False
        self._http.receive_data(data)
        return bool(data)

    # -- answers ------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response | None:
        """Have a request answered; None if the client has left what may take long."""
        try:
            if request.method == "POST":
                return await self._unless_it_leaves(request)
            return await self._server.answer(request)
        except Exception as error:  # noqa: BLE001 - the one place where a bug costs one request
            self._complain(request.path, error)
            return refusal(500)

    def _complain(self, path: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": f"cannot answer {path!r}", "exception": error}
        )

    async def _unless_it_leaves(self, request: Request) -> Response | None:
        """Wait for an answer that may take long; what the client says meanwhile is kept."""
        answering = self._loop.create_task(self._server.answer(request))
        reading = self._loop.create_task(self._reader.read(READ_BYTES))
        try:
            await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not reading.result():
                return None
            return await answering
        finally:
            await _end(answering)
            await _end(reading)
            if not reading.cancelled() and reading.exception() is None and reading.result():
                self._http.receive_data(reading.result())

    async def _respond(self, response: Response, *, last: bool) -> None:
        stream = response.stream
        if stream is None:
            await self._send(response, last=last)
            return
        try:
            if self._bare:
                await self._send(response, last=True)
            elif self._server.streams >= STREAMS_MAX:
                await self._send(refusal(503, (RETRY_AFTER,)), last=last)
            else:
                await self._send_stream(response, stream)
        finally:
            await stream.aclose()

    def _head(self, response: Response, *, last: bool) -> bytes:
        self._server.answered[response.handler, response.code] += 1
        reason = HTTPStatus(response.code).phrase.encode()
        headers = headers_of(response, last=last)
        head = h11.Response(status_code=response.code, headers=headers, reason=reason)
        return self._http.send(head) or b""

    async def _send(self, response: Response, *, last: bool) -> None:
        """Send an answer, a piece at a time, so that a slow reader holds no copy of it."""
        held = response.body if response.packed is None else response.packed.data
        if not self._server.hold(self, held):
            response = refusal(503, (RETRY_AFTER,))
        try:
            await self._send_whole(response, last=last)
        finally:
            self._server.release(self)

    async def _send_whole(self, response: Response, *, last: bool) -> None:
        ready = self._head(response, last=last)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            for piece in () if self._bare else _pieces(response):
                await self._write(ready + (self._http.send(h11.Data(data=piece)) or b""))
                ready = b""
            await self._write(ready + (self._http.send(h11.EndOfMessage()) or b""))

    async def _write(self, data: bytes) -> None:
        """Write, and wait until the kernel has taken all of it."""
        self._become(Mood.SENDING)
        self._writer.write(data)
        await self._writer.drain()
        self._become(Mood.BUSY)

    async def _send_stream(self, response: Response, stream: Stream) -> None:
        """Send pieces as they come; whoever leaves, talks or does not read ends it."""
        self._server.streams += 1
        _notice_dead_peers(self._writer)
        leaving = self._loop.create_task(self._reader.read(READ_BYTES))
        try:
            await self._write_in_time(self._head(response, last=True))
            while not leaving.done():
                piece = await self._piece(stream, leaving, response.heartbeat)
                if piece is None:
                    break
                await self._write_in_time(self._http.send(h11.Data(data=piece)) or b"")
            if not leaving.done():
                await self._write_in_time(self._http.send(h11.EndOfMessage()) or b"")
        finally:
            self._server.streams -= 1
            await _end(leaving)

    async def _piece(
        self, stream: Stream, leaving: "asyncio.Task[bytes]", heartbeat: bytes
    ) -> bytes | None:
        """Wait for the next piece of a stream; None if it is over or nobody is there."""
        coming = self._loop.create_task(_next(stream))
        try:
            while not coming.done() and not leaving.done():
                within = HEARTBEAT_S if heartbeat else None
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait((coming, leaving), timeout=within, return_when=first)
                if not coming.done() and not leaving.done():
                    await self._write_in_time(self._http.send(h11.Data(data=heartbeat)) or b"")
            return await coming if coming.done() else None
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            self._complain("a stream", error)
            raise ConnectionAbortedError from error
        finally:
            await _end(coming)

    async def _write_in_time(self, data: bytes) -> None:
        async with asyncio.timeout(PIECE_WITHIN_S):
            await self._write(data)

    async def refuse(self, code: int) -> None:
        """Answer what is not served, and close so that the answer arrives."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self._send(refusal(code, (RETRY_AFTER,) if code == 503 else ()), last=True)
        # Closing with bytes unread would reset the connection, and the answer might be lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                self._writer.write_eof()
                while await self._reader.read(WRITE_BYTES):
                    pass


def _pieces(response: Response) -> Iterator[bytes]:
    """Cut a body into pieces, so that a slow reader holds no other copy of it."""
    if response.packed is not None:
        yield from filter(None, response.packed.pieces())
        return
    body = memoryview(response.body)
    for start in range(0, len(body), WRITE_BYTES):
        yield bytes(body[start : start + WRITE_BYTES])


async def _next(stream: Stream) -> bytes | None:
    """Return the next piece, None after the last: a task cannot end with StopAsyncIteration."""
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


async def _end(task: "asyncio.Task[Any]") -> None:
    """Cancel what is not done, and wait until it is; what it raised is nobody's business."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


def _notice_dead_peers(writer: asyncio.StreamWriter) -> None:
    """Have the kernel find out whether somebody is still there, as long as we say nothing."""
    connection = writer.get_extra_info("socket")
    if connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
