"""A logger that does nothing by itself: it keeps what it is sent, and says what a test says."""

import os
import socket
from typing import Any

from supervisord_pidfd import logwire
from supervisord_pidfd.logwire import Counters
from supervisord_pidfd.taps import Taps


class Hearer:
    """Be the other end of the logger's channel. Owns the descriptors that it is sent."""

    def __init__(self, taps: Taps) -> None:
        channel = socket.socket(fileno=os.dup(taps.connect()))
        taps.line.handed_over()
        channel.setblocking(False)
        self.channel = channel
        self.heard: list[dict[str, Any]] = []
        self.pipes: dict[int, int] = {}
        self.clients: list[int] = []
        self.counters: Counters | None = None
        self._memory = -1

    def take(self) -> list[dict[str, Any]]:
        """Read what has come; return it, newest last."""
        new = []
        while True:
            try:
                received = logwire.receive(self.channel)
            except BlockingIOError:
                break
            if received is None:
                break
            message, fds = received
            new.append(message)
            if "open" in message:
                (self._memory,) = fds
                self.counters = Counters(self._memory)
            elif "pipes" in message:
                self.pipes |= {
                    pipe: fd for (pipe, _), fd in zip(message["pipes"], fds, strict=True)
                }
            else:
                self.clients += fds
        self.heard += new
        return new

    def say(self, **message: Any) -> None:
        """Tell the core something."""
        self.channel.send(logwire.pack(message))

    def read(self, pipe: int) -> bytes:
        """Read a pipe to its end."""
        said = b""
        while chunk := os.read(self.pipes[pipe], 1 << 16):
            said += chunk
        return said

    def die(self) -> None:
        """Close everything, as the kernel does for a process that was killed."""
        self.channel.close()
        for fd in (*self.pipes.values(), *self.clients):
            os.close(fd)
        self.pipes, self.clients = {}, []
        if self.counters is not None:
            self.counters.close()
            os.close(self._memory)
            self.counters = None
