"""The core's end of a helper's channel: a socket pair that is made anew for each of its runs.

It opens with an integer, the version of what follows; then JSON objects go both ways, each ended
by NUL. What the helper does not take waits in one buffer; whoever sends looks at `has_room` first
and keeps what is left as a set of what changed, not as a queue. So a slow helper costs little.
"""

import contextlib
import errno
import json
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.process import PASSED_FD, Provision, SpawnError, Stage

OPENING = b"1\0"
BUFFER_BYTES = 64 << 10
FRAME_MAX_BYTES = 64 << 10
READ_A_TURN = 2 << 10
"""Some 25 verdicts: what follows from each takes its time, and a turn is to be short."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Line:
    """Talk to one process after another. Owns our end of the pair.

    `heard` takes each message as bytes; `writable` is called when a buffer that was stuck can go
    on.
    """

    def __init__(
        self, loop: Loop, heard: Callable[[bytes], None], writable: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._heard = heard
        self._writable = writable
        self._socket: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._buffer = b""
        self._received = b""
        self._waiting = False

    @property
    def is_open(self) -> bool:
        """Tell whether somebody is, or will soon be, at the other end."""
        return self._socket is not None

    @property
    def is_idle(self) -> bool:
        """Tell whether all that was put in has been sent."""
        return not self._buffer

    @property
    def has_room(self) -> bool:
        """Tell whether another message may be put in."""
        return len(self._buffer) < BUFFER_BYTES

    def open(self, settings: Mapping[str, Any]) -> Provision:
        """Make a new pair that opens with these settings; return what the process is given.

        Raises:
            SpawnError: There is no room for it.
        """
        self.close()
        try:
            ours, self._theirs = socket.socketpair()
            ours.setblocking(False)
            self._socket = ours
            self._loop.add(ours.fileno(), Priority.CONTROL, self._ready)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            raise SpawnError(Stage.STDIO, "channel", name) from None
        self._buffer, self._received = OPENING, b""
        self.put({"settings": settings})
        return Provision(descriptors=((PASSED_FD, self._theirs.fileno()),))

    def handed_over(self) -> None:
        """Close the process's end here: it has its own now."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def close(self) -> None:
        """End the conversation."""
        self.handed_over()
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._loop.close_later(self._socket.detach())
            self._socket = None
        self._buffer = b""
        self._waiting = False

    # -- sending ----------------------------------------------------------------------------------

    def put(self, message: Mapping[str, Any]) -> None:
        """Add a message to what `send` sends."""
        self._buffer += _encode(message).encode() + b"\0"

    def send(self) -> None:
        """Send what was put in, as far as the socket takes it."""
        if self._socket is None:
            return
        try:
            while self._buffer:
                self._buffer = self._buffer[self._socket.send(self._buffer) :]
        except BlockingIOError:
            pass
        except OSError:  # it is gone; its end is seen by the reaper and it is started again
            self.close()
            return
        if bool(self._buffer) is not self._waiting:
            self._waiting = bool(self._buffer)
            events = select.EPOLLIN | (select.EPOLLOUT if self._waiting else 0)
            self._loop.modify(self._socket.fileno(), events)

    # -- hearing ----------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._writable()
        if events & ~select.EPOLLOUT and self._socket is not None:
            self._receive(self._socket)

    def _receive(self, ours: socket.socket) -> None:
        data = None
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            data = ours.recv(READ_A_TURN)
        if data is None:
            return
        *messages, self._received = (self._received + data).split(b"\0")
        if not data or len(self._received) > FRAME_MAX_BYTES:
            self.close()
            return
        for message in messages:
            self._heard(message)
        self.send()
