"""One try of one probe: connect, ask over HTTP, look for a file.

Each tool is an asynchronous function that returns when the answer is good and raises `FailedError`
in the words for the log when it is not; its caller bounds its time. Redirects are an answer like
any other and are not followed. Of a body at most `BODY_MAX_BYTES` are read.
"""

import asyncio
import errno
import functools
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

from supervisord_pidfd import __version__

BODY_MAX_BYTES = 64 << 10
HEAD_MAX_BYTES = 16 << 10
_CHUNK = 16 << 10
_FILE_THREADS = 64
_PORTS = {"http": 80, "https": 443}
_UNIX = "unix:"
_NEXT_ADDRESS_AFTER_S = 0.25
"""A name may have an address that swallows packets beside one that answers (RFC 8305)."""


class FailedError(Exception):
    """Tell in a few words why the answer was not good."""


class HttpRequest(NamedTuple):
    """Hold what an http probe asks, and which codes are a good answer."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    verify: bool = True


# -- tcp ------------------------------------------------------------------------------------------


async def connect(address: str) -> None:
    """Connect to `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`, and hang up."""
    if address.startswith(_UNIX):
        opened = asyncio.open_unix_connection(address.removeprefix(_UNIX))
    else:
        parts = _split(f"//{address}")
        if parts.hostname is None or parts.port is None:
            raise FailedError(f"no address: {address}")
        opened = asyncio.open_connection(
            parts.hostname, parts.port, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S
        )
    try:
        _, writer = await opened
    except OSError as error:
        raise FailedError(_words(error)) from error
    writer.transport.abort()


# -- http -----------------------------------------------------------------------------------------


async def request(ask: HttpRequest) -> None:
    """Send a GET and judge the code of the answer."""
    parts = _split(ask.url)
    if parts.scheme not in _PORTS or parts.hostname is None:
        raise FailedError(f"no http or https URL: {ask.url}")
    secure = _tls(ask.verify) if parts.scheme == "https" else None
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname,
            port,
            ssl=secure,
            server_hostname=parts.hostname if secure else None,
            happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S,
        )
    except OSError as error:  # ssl.SSLError is one
        raise FailedError(_words(error)) from error
    try:
        code = await _converse(reader, writer, parts, ask.headers)
    except (OSError, h11.ProtocolError, asyncio.IncompleteReadError) as error:
        raise FailedError(_words(error)) from error
    finally:
        writer.transport.abort()
    if not any(low <= code <= high for low, high in ask.status):
        raise FailedError(f"HTTP {code}")


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    parts: SplitResult,
    headers: tuple[tuple[str, str], ...],
) -> int:
    """Ask, and read the answer to its end or to the cap; return its code."""
    speech = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
    writer.write(speech.send(_question(parts, headers)) or b"")
    writer.write(speech.send(h11.EndOfMessage()) or b"")
    code, body = 0, 0
    while body <= BODY_MAX_BYTES:
        event = speech.next_event()
        if event is h11.NEED_DATA:
            speech.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            code = event.status_code
        elif isinstance(event, h11.Data):
            body += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return code
        elif isinstance(event, h11.ConnectionClosed):
            raise FailedError("closed without an answer")
    return code


def _question(parts: SplitResult, headers: tuple[tuple[str, str], ...]) -> h11.Request:
    given = {
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": f"supervisord-pidfd/{__version__}",
        "accept": "*/*",
        "connection": "close",
    }
    given.update((name.lower(), value) for name, value in headers)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return h11.Request(method="GET", target=target, headers=list(given.items()))
    except (h11.LocalProtocolError, UnicodeEncodeError) as error:
        raise FailedError(f"cannot be asked: {error}") from error


@functools.cache
def _tls(verify: bool) -> ssl.SSLContext:  # noqa: FBT001 - the key of the cache
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise FailedError(f"no address: {error}") from error
    return parts


# -- file -----------------------------------------------------------------------------------------


class Files:
    """Look for files in threads: a dead mount holds up the thread that asked it, nobody else.

    A path whose last look has not come back is not asked again.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_FILE_THREADS, "file")
        self._asked: dict[str, asyncio.Future[bool]] = {}

    async def exists(self, path: str) -> None:
        """See whether a path is there, through symbolic links."""
        looking = self._asked.get(path)
        if looking is None:
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._threads, _is_there, path)
            self._asked[path] = looking
            looking.add_done_callback(lambda _done: self._asked.pop(path, None))
        try:
            there = await asyncio.shield(looking)
        except PermissionError as error:
            raise FailedError(f"{_words(error)} for uid {os.geteuid()}") from error
        except OSError as error:
            raise FailedError(_words(error)) from error
        if not there:
            raise FailedError("ENOENT")


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as error:  # a NUL inside
        raise OSError(errno.EINVAL, "no path") from error
    return True


# -- words ----------------------------------------------------------------------------------------


def _words(error: Exception) -> str:
    """Name an error: the errno's name where there is one, else what it says, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return errno.errorcode[number]
    return " ".join(str(error).split()) or type(error).__name__
