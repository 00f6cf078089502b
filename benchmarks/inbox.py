"""Where the probes report: one datagram for each start, with the sender's pid from the kernel."""

import os
import secrets
import socket
import struct
import time
from typing import NamedTuple, Self

from benchmarks.linux import readable

LAUNCHED = -1  # the index under which launch.c reports

_REPORT = struct.Struct("@ll")  # struct report of nolibc.h
_CREDENTIALS = struct.Struct("@iII")  # struct ucred of unix(7): pid, uid, gid
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size)


class Start(NamedTuple):
    """One first instruction."""

    service: int
    moment: int  # ns of CLOCK_MONOTONIC
    pid: int


class Inbox:
    """An abstract datagram socket that nobody can guess."""

    def __init__(self) -> None:
        self.name = f"@bench-{os.getpid()}-{secrets.token_hex(8)}"
        self._socket: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Start to listen, under the same name each time."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setblocking(False)
        self._socket.bind("\0" + self.name[1:])

    def close(self) -> None:
        """Stop to listen: from now on a probe that was to exit stays."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> list[Start]:
        """Return what has arrived, without waiting."""
        arrived: list[Start] = []
        while self._socket is not None:
            try:
                data, extra, _, _ = self._socket.recvmsg(_REPORT.size, _ROOM)
            except BlockingIOError:
                break
            service, moment = _REPORT.unpack(data)
            pid = _CREDENTIALS.unpack(extra[0][2])[0]
            arrived.append(Start(service, moment, pid))
        return arrived

    def wait(self, deadline: float) -> list[Start]:
        """Return what has arrived as soon as there is something; empty if time is up."""
        if self._socket is not None and readable(self._socket.fileno(), deadline):
            return self.take()
        return []

    def collect(self, count: int, deadline: float) -> list[Start]:
        """Wait for `count` starts.

        Raises:
            TimeoutError: The message says how many came.
        """
        arrived: list[Start] = []
        while len(arrived) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(arrived)} of {count} starts were seen in time")
            arrived += self.wait(deadline)
        return arrived
