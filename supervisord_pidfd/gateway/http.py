"""HTTP for GET and HEAD: h11 parses, this keeps the bounds.

Every wait has a deadline and every amount a limit; a client that keeps neither costs one
connection for five seconds. The bounds are those of the reference: head 8 KiB, body 64 KiB,
32 connections, 5 s for a head, 100 requests on a connection.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

import h11

HEAD_MAX_BYTES = 8192
HEADERS_MAX = 64
BODY_MAX_BYTES = 65536
CONNECTIONS_MAX = 32
REQUESTS_MAX = 100
QUERY_FIELDS_MAX = 32
REQUEST_WITHIN_S = 5.0
IDLE_S = 60.0
ANSWER_WITHIN_S = 30.0
LINGER_S = 1.0
READ_BYTES = 4096
WRITE_BYTES = 65536
METHODS = (b"GET", b"HEAD")
VERSIONS = (b"1.0", b"1.1")


@dataclass(frozen=True, slots=True)
class Request:
    """Hold what an answer depends on; header names are in lower case."""

    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """Hold an answer; `handler` is the name it is counted under."""

    code: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    handler: str = "other"


class RefusedError(Exception):
    """Say with which status a request is refused; the connection is closed after it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


Answer = Callable[[Request], Awaitable[Response]]


def refusal(code: int) -> Response:
    """Make the answer to what is not served."""
    headers = (("Allow", "GET, HEAD"),) if code == HTTPStatus.METHOD_NOT_ALLOWED else ()
    return Response(code, f"{code} {HTTPStatus(code).phrase}\n".encode(), headers=headers)


def request_of(head: h11.Request) -> Request:
    """Check a request's head, and read its target.

    Raises:
        RefusedError: It is not one that we serve.
    """
    size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
    if size > HEAD_MAX_BYTES or len(head.headers) > HEADERS_MAX:
        raise RefusedError(431)
    if head.http_version not in VERSIONS:
        raise RefusedError(400)
    if head.method not in METHODS:
        raise RefusedError(405)
    names = [name for name, _ in head.headers]
    if b"transfer-encoding" in names:
        raise RefusedError(400)
    try:
        target = urlsplit(head.target.decode("ascii"))
        query = parse_qs(target.query, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise RefusedError(400) from error
    if not head.target.startswith(b"/"):
        raise RefusedError(400)
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key = name.decode("ascii")
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return Request(unquote(target.path), query, headers)


@dataclass(slots=True)
class Server:
    """Serve connections of any listener, all counted together."""

    answer: Answer
    answered: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    _open: dict["_Connection", None] = field(default_factory=dict["_Connection", None])

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; the callback of every listener."""
        if len(self._open) >= 2 * CONNECTIONS_MAX:  # no room even for those who are told so
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer)
        full = len(self._open) >= CONNECTIONS_MAX and not self._evict()
        self._open[connection] = None
        try:
            if full:
                await connection.refuse(503)
            else:
                await connection.serve()
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # the peer went away, or read too slowly: it is not there to be told
        finally:
            del self._open[connection]
            writer.transport.abort()

    def _evict(self) -> bool:
        """Make room by closing the connection that has been idle for longest."""
        idle = next((connection for connection in self._open if connection.idle), None)
        if idle is not None:
            idle.drop()
        return idle is not None


class _Connection:
    """Serve one connection: requests one after the other, each bounded."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._bare = False
        self.idle = False
        # drain() then waits for everything, so that the end of an answer is never cut off.
        writer.transport.set_write_buffer_limits(0)

    def drop(self) -> None:
        """End it now; whoever waits for it sees the end of its stream."""
        self.idle = False
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Answer until the client leaves, misbehaves, or has had its number of requests."""
        for number in range(1, REQUESTS_MAX + 1):
            try:
                request = await self._request()
            except RefusedError as refused:
                await self.refuse(refused.code)
                return
            if request is None:
                return
            await self._send(await self._answer(request), last=number == REQUESTS_MAX)
            if not await self._again():
                return

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

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._server.answer(request)
        except Exception as error:  # noqa: BLE001 - the one place where a bug costs one request
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"cannot answer {request.path!r}", "exception": error}
            )
            return refusal(500)

    async def _again(self) -> bool:
        """Get ready for another request on this connection; return whether one begins."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return bool(self._http.trailing_data[0]) or await self._wake()

    async def _wake(self) -> bool:
        """Wait for the next request to begin; return whether it did."""
        self.idle = True
        try:
            async with asyncio.timeout(IDLE_S):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            return False
        finally:
            self.idle = False
        self._http.receive_data(data)
        return bool(data)

    async def _receive(self) -> Request | None:
        """Read one request, with the body that nobody wants; None if the client has left."""
        request = None
        size = 0
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(READ_BYTES))
                case h11.Request() as head:
                    self._bare = head.method == b"HEAD"
                    request = request_of(head)
                case h11.Data() as data:
                    size += len(data.data)
                    if size > BODY_MAX_BYTES:
                        raise RefusedError(400)
                case h11.EndOfMessage():
                    return request
                case _:
                    return None

    async def _send(self, response: Response, *, last: bool) -> None:
        """Send an answer, a piece at a time, so that a slow reader holds no copy of it."""
        self._server.answered[response.handler, response.code] += 1
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Date", formatdate(usegmt=True)),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        if last:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.code).phrase.encode()
        head = h11.Response(status_code=response.code, headers=headers, reason=reason)
        ready = self._http.send(head) or b""
        body = memoryview(b"" if self._bare else response.body)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            for start in range(0, len(body), WRITE_BYTES):
                piece = h11.Data(data=bytes(body[start : start + WRITE_BYTES]))
                self._writer.write(ready + (self._http.send(piece) or b""))
                await self._writer.drain()
                ready = b""
            self._writer.write(ready + (self._http.send(h11.EndOfMessage()) or b""))
            await self._writer.drain()

    async def refuse(self, code: int) -> None:
        """Answer what is not served, and close so that the answer arrives."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self._send(refusal(code), last=True)
        # Closing with bytes unread would reset the connection, and the answer might be lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                self._writer.write_eof()
                while await self._reader.read(WRITE_BYTES):
                    pass
