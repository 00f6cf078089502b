"""What is asked and what is answered: requests checked, answers with the headers of every answer.

h11 has parsed the bytes when they come here. A path that could be read in two ways is refused, so
that whoever judges a request and whoever answers it see the same one.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import h11

HEAD_MAX_BYTES = 8192
HEADERS_MAX = 64
BODY_MAX_BYTES = 65536
QUERY_FIELDS_MAX = 32
VERSIONS = (b"1.0", b"1.1")
GZIP_WBITS = 16 + zlib.MAX_WBITS
PACKED_BYTES = 8192
PIECE_BYTES = 65536
FORMAT = 1
"""The number of the shape of all JSON answers; members are only added to it."""

JSON = "application/json"
_ALWAYS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer; one that an answer has itself replaces ours."""


class Door(NamedTuple):
    """Hold through which listener a request came.

    `purpose` is what the listener is for (`metrics`, `web`, `rpc`); `near` is true if only this
    machine reaches it: a loopback address or a socket in the file system.
    """

    purpose: str = "metrics"
    near: bool = True


METRICS_DOOR = Door()


@dataclass(frozen=True, slots=True)
class Request:
    """Hold what an answer depends on; header names are in lower case, the path is decoded.

    `params` are the parts of the path that the row which answers has a name for.
    """

    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    method: str = "GET"
    body: bytes = b""
    door: Door = METRICS_DOOR
    peer: str = ""
    params: Mapping[str, str] = field(default_factory=dict[str, str])


class Stream(Protocol):
    """Be an answer whose end is not known yet: pieces of bytes, until the end or `aclose`.

    Every asynchronous generator is one.
    """

    async def __anext__(self) -> bytes:
        """Return the next piece; it is sent as soon as the client takes it."""
        ...

    async def aclose(self) -> None:
        """End it, also before the first piece."""
        ...


class Packed(NamedTuple):
    """Hold a body compressed, and how large it is; it is unpacked only as its client reads."""

    data: bytes
    size: int

    def pieces(self) -> Iterator[bytes]:
        """Unpack it, a bounded piece at a time."""
        unpacker = zlib.decompressobj(GZIP_WBITS)
        for start in range(0, len(self.data), PACKED_BYTES):
            rest = self.data[start : start + PACKED_BYTES]
            while rest:
                yield unpacker.decompress(rest, PIECE_BYTES)
                rest = unpacker.unconsumed_tail
        yield unpacker.flush()


@dataclass(frozen=True, slots=True)
class Response:
    """Hold an answer; `handler` is the name it is counted under.

    With `packed` the body is unpacked from there. With `stream` the answer is what comes from
    there, and `body` is not looked at; `heartbeat` is sent when nothing came for a while, so that
    proxies and we ourselves notice who is gone.
    """

    code: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    handler: str = "other"
    packed: Packed | None = None
    stream: Stream | None = None
    heartbeat: bytes = b""


class RefusedError(Exception):
    """Say with which status a request is refused; the connection is closed after it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def refusal(code: int, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Make the answer to what is not served."""
    return Response(code, f"{code} {HTTPStatus(code).phrase}\n".encode(), headers=headers)


def json_response(
    members: Mapping[str, Any], code: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Make an answer of JSON, with the number of its format."""
    text = json.dumps({"format": FORMAT, **members}, separators=(",", ":"))
    # A lone surrogate cannot be written as UTF-8; json.dumps has escaped it, as all non-ASCII.
    return Response(code, text.encode("ascii") + b"\n", JSON, headers)


def failure(
    code: int,
    name: str,
    message: str,
    parameters: Mapping[str, Any] | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    """Make the answer to what could not be done, in the shape that `pidfdctl --json` prints."""
    error = {"name": name, "message": message, "parameters": dict(parameters or {})}
    return json_response({"error": error}, code, headers)


# -- requests -------------------------------------------------------------------------------------


def request_of(head: h11.Request, door: Door = METRICS_DOOR, peer: str = "") -> Request:
    """Check a request's head, and read its target.

    Raises:
        RefusedError: It is not one that we serve.
    """
    size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
    if size > HEAD_MAX_BYTES or len(head.headers) > HEADERS_MAX:
        raise RefusedError(431)
    names = [name for name, _ in head.headers]
    if head.http_version not in VERSIONS or b"transfer-encoding" in names:
        raise RefusedError(400)
    if not head.target.startswith(b"/") or head.target.startswith(b"//"):
        raise RefusedError(400)
    try:
        target = urlsplit(head.target.decode("ascii"))
        path = _path_of(target.path)
        query = parse_qs(
            target.query,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError as error:
        raise RefusedError(400) from error
    return Request(path, query, _headers_of(head), head.method.decode("ascii"), b"", door, peer)


def _path_of(text: str) -> str:
    """Decode a path once.

    Raises:
        ValueError: It has more than one reading: a slash or a control character in disguise.
    """
    path = unquote(text, errors="strict")
    if path.count("/") != text.count("/") or "\\" in path or not path.isprintable():
        raise ValueError(text)
    return path


def _headers_of(head: h11.Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key = name.decode("ascii")
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


# -- answers --------------------------------------------------------------------------------------


def headers_of(response: Response, *, last: bool) -> list[tuple[str, str]]:
    """Return all headers of an answer; `last` is the last of its connection."""
    headers = {"Date": formatdate(usegmt=True), **_ALWAYS}
    if response.code not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        headers["Content-Type"] = response.content_type
        if response.stream is None:
            size = len(response.body) if response.packed is None else response.packed.size
            headers["Content-Length"] = str(size)
    headers.update(response.headers)
    if last:
        headers["Connection"] = "close"
    return list(headers.items())
