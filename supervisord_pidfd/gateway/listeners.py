"""The doors of the gateway: addresses bound at the start, tried again while they cannot be."""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace

from supervisord_pidfd.core.spec import GatewaySpec
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.gateway.http import Door
from supervisord_pidfd.gateway.server import Connected

BACKLOG = 64
ACCEPTED_AT_ONCE = 16
"""Fewer than there are places: who comes in a crowd is heard before the crowd has them all."""
FOR_ALL, FOR_US = 0o111, 0o177
"""Masks of a path: open to every local user, like a loopback port, or to the daemon's own."""
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
READ_LIMIT_BYTES = 16384

Notice = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Address:
    """Hold one address, as written and as the kernel takes it, and what is served there.

    `mask` is what is taken from the mode of a socket in the file system.
    """

    text: str
    family: int
    target: tuple[str, int] | str
    purpose: str = "metrics"
    mask: int = FOR_ALL

    @property
    def near(self) -> bool:
        """Tell whether only this machine reaches it."""
        return isinstance(self.target, str) or ipaddress.ip_address(self.target[0]).is_loopback


def addresses_of(settings: GatewaySpec) -> list[Address]:
    """List where to listen, and what for.

    Whoever may connect to a path of XML-RPC that can change things needs no token there, so it is
    for the daemon's own user alone.

    Raises:
        StartupError: One of the addresses is none.
    """
    web = settings.web
    private = web.rpc == "control" and web.token_file is None
    lists = (
        ("metrics", settings.metrics.listen, FOR_ALL),
        ("web", web.listen, FOR_ALL),
        ("rpc", web.rpc_listen, FOR_US if private else FOR_ALL),
    )
    return [
        replace(parse(text), purpose=purpose, mask=mask)
        for purpose, texts, mask in lists
        for text in texts
    ]


def parse(text: str) -> Address:
    """Read `IP:PORT`, `[IP]:PORT` or `unix:PATH`.

    Raises:
        StartupError: It is none of these.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address(text, socket.AF_UNIX, text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    six = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.IPv6Address(host[1:-1]) if six else ipaddress.IPv4Address(host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number < 65536:
        raise StartupError(f"cannot listen on {text!r}: not IP:PORT, [IP]:PORT or unix:PATH")
    return Address(text, socket.AF_INET6 if six else socket.AF_INET, (str(ip), number))


def bind(address: Address) -> socket.socket:
    """Open and bind a socket for this address; the caller owns it.

    Raises:
        OSError: The kernel refuses.
    """
    listener = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if isinstance(address.target, str):
            _remove_stale(address.target)
            # By umask, so that there is no moment with another mode.
            with _umask(address.mask):
                listener.bind(address.target)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it; asyncio sets it only where the protocol was named.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address.target)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _umask(mask: int) -> Generator[None, None, None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove the socket of a gateway that is gone: ours, and nobody answers there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def _shown(address: Address, listener: socket.socket) -> str:
    """Write the address as it came out: the port is chosen by the kernel if it was 0."""
    if isinstance(address.target, str):
        return address.text
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if address.family == socket.AF_INET6 else f"{host}:{port}"


class Listeners:
    """Hold every listener; owns their sockets.

    `at` makes the callback of a door.
    """

    def __init__(
        self, addresses: Iterable[Address], at: Callable[[Door], Connected], notice: Notice
    ) -> None:
        self._addresses = tuple(addresses)
        self._at = at
        self._notice = notice
        self._bound: list[tuple[Address, socket.socket]] = []
        self._failed: list[tuple[Address, str]] = []
        self._servers: list[asyncio.Server] = []

    def bind_all(self) -> None:
        """Try each address once; done while we still have the daemon's privileges."""
        for address in self._addresses:
            try:
                self._bound.append((address, bind(address)))
            except OSError as error:
                self._failed.append((address, self._tell(address, error, "")))

    async def serve(self) -> None:
        """Accept connections on what is bound; return when nothing is left to be tried."""
        for bound in self._bound:
            await self._accept(*bound)
        async with asyncio.TaskGroup() as group:
            for failed in self._failed:
                group.create_task(self._keep_trying(*failed))

    async def _accept(self, address: Address, listener: socket.socket) -> None:
        connected = self._at(Door(address.purpose, address.near))
        server = await asyncio.start_server(
            connected, sock=listener, limit=READ_LIMIT_BYTES, backlog=ACCEPTED_AT_ONCE
        )
        listener.listen(BACKLOG)  # asyncio takes its number of accepts for the queue's length
        self._servers.append(server)
        self._notice("listening", address=_shown(address, listener), serves=address.purpose)

    async def _keep_trying(self, address: Address, told: str) -> None:
        delay = RETRY_FIRST_S
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)
            try:
                listener = bind(address)
            except OSError as error:
                told = self._tell(address, error, told)
            else:
                return await self._accept(address, listener)

    def _tell(self, address: Address, error: OSError, told: str) -> str:
        """Tell why an address cannot be used, once for each reason."""
        name = errno.errorcode.get(error.errno or 0, str(error))
        if name != told:
            self._notice("listen_failed", address=address.text, error=name)
        return name

    def close(self) -> None:
        """Close every listener."""
        for server in self._servers:
            server.close()
        for _, listener in self._bound:
            listener.close()
