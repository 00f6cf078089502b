"""A proxy that knows a server below a prefix, and takes the prefix away without telling it."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class _Proxy:
    """Pass connections on. Owns its listener, and a thread for each direction of a connection."""

    def __init__(self, address: str, prefix: str) -> None:
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._prefix = prefix.encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{prefix}/"
        self._start(self._accept)

    def _start(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = self._head(client)
            if head is None:
                return
            with socket.create_connection(self._server) as server:
                self._open.append(server)
                server.sendall(head)
                self._start(_pump, client, server)
                _pump(server, client)

    def _head(self, client: socket.socket) -> bytes | None:
        """Read the head of a request and rewrite it; None if it is none that is ours."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return None
            head += data
        method, _, rest = head.partition(b" ")
        if not rest.startswith(self._prefix):
            return None  # a browser asks for /favicon.ico by itself
        line, _, rest = rest.removeprefix(self._prefix).partition(b"\r\n")
        # One request for each connection, so that no other line has to be rewritten.
        return method + b" " + line + b"\r\nConnection: close\r\n" + rest

    def close(self) -> None:
        """End every connection and every thread."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def below(address: str, prefix: str) -> Iterator[str]:
    """Give an address under which the server at `address` is found below a prefix."""
    proxy = _Proxy(address, prefix)
    try:
        yield proxy.url
    finally:
        proxy.close()
