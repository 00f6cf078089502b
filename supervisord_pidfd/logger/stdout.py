"""The daemon's standard output as services and its own events share it: no write to it waits.

Descriptor 1 is not ours alone, so it is not made non-blocking: it is opened again, which gives a
state of its own. Where that cannot be done (another user's terminal), only so much is written at
once as poll(2) promises room for. Lines are not mixed: whoever was cut off in the middle of a line
goes on before anybody else.
"""

import os
import select
import socket
import stat
import threading
import time
from typing import Protocol

from supervisord_pidfd.core.spec import LogFormat
from supervisord_pidfd.logger.sinks import SinkError

STDOUT = 1
PATH = "standard output"

ATOMIC_BYTES = 4096
"""PIPE_BUF: a write up to here is not mixed with what others write to the same pipe (pipe(7))."""

PATIENCE_S = 1.0
"""How long others wait for the rest of a line, if it is not for want of room."""


class _Way(Protocol):
    """Write some of it at once. Raises BlockingIOError: nothing now; OSError: it is broken."""

    def __call__(self, data: memoryview) -> int: ...


class Outlet:
    """Own the way to standard output; all threads write to it. Borrows the descriptor.

    `device` is the file system that may hold a write up; None for pipes, sockets and terminals.
    """

    def __init__(self, fd: int = STDOUT) -> None:
        self._fd = fd
        self._own: int | None = None
        self._turn = threading.Condition()
        self._cut_off: object | None = None
        self._cut_since = 0.0
        self._unended: object | None = None
        self.device: int | None = None
        self._way, self._waits_on = self._open()

    def _open(self) -> tuple[_Way, int | None]:
        try:
            about = os.fstat(self._fd)
        except OSError:  # closed: each write says so
            return self._write_blocking, None
        if stat.S_ISREG(about.st_mode) or stat.S_ISBLK(about.st_mode):
            self.device = about.st_dev
            return self._write_blocking, None
        if stat.S_ISSOCK(about.st_mode):
            return self._send, self._fd
        if stat.S_ISFIFO(about.st_mode) or os.isatty(self._fd):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._own = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError:
                return self._write_polled, self._fd
            return self._write_own, self._own
        return self._write_blocking, None  # /dev/null and its like

    # -- ways -------------------------------------------------------------------------------------

    def _write_blocking(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def _write_own(self, data: memoryview) -> int:
        assert self._own is not None  # noqa: S101 - this way was chosen because it is there
        return os.write(self._own, data)

    def _write_polled(self, data: memoryview) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, data[:ATOMIC_BYTES])

    def _send(self, data: memoryview) -> int:
        with socket.socket(fileno=os.dup(self._fd)) as sock:
            return sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    # -- writing ----------------------------------------------------------------------------------

    def write(self, writer: object, data: bytes) -> int:
        """Write lines, as many as are taken at once; return how many bytes were.

        Raises:
            OSError: None was, and not for want of room.
        """
        with self._turn:
            if self._is_anothers_turn(writer):
                return 0
            try:
                if self._unended not in {None, writer}:
                    self._way(memoryview(b"\n"))
                    self._unended = None
            except BlockingIOError:
                return 0
            taken = self._write_lines(data)
            if taken:
                self._note_end(writer, data, taken)
            return taken

    def _is_anothers_turn(self, writer: object) -> bool:
        if not self.is_held_from(writer):
            return False
        if time.monotonic() - self._cut_since < PATIENCE_S:
            return True
        self._unended, self._cut_off = self._cut_off, None  # it hangs elsewhere
        return False

    def _write_lines(self, data: bytes) -> int:
        taken = 0
        try:
            while taken < len(data):
                end = _end_of_lines(data, taken)
                wanted = end - taken
                written = self._way(memoryview(data)[taken:end])
                taken += written
                if written < wanted:
                    break
        except BlockingIOError:
            pass
        except OSError:
            if not taken:
                raise
        return taken

    def _note_end(self, writer: object, data: bytes, taken: int) -> None:
        """Note whether a line is to be gone on with: by its writer at once, or some time."""
        is_ended = data[taken - 1 : taken] == b"\n"
        self._unended = None if is_ended else writer
        self._cut_off = writer if not is_ended and taken < len(data) else None
        self._cut_since = time.monotonic()
        if self._cut_off is None:
            self._turn.notify_all()

    def is_held_from(self, writer: object) -> bool:
        """Tell whether somebody else is in the middle of a line."""
        return self._cut_off not in {None, writer}

    def wait_for_turn(self, writer: object) -> None:
        """Wait until nobody else is in the middle of a line, or has been for too long."""
        with self._turn:
            self._turn.wait_for(lambda: not self.is_held_from(writer), PATIENCE_S)

    def waits_on(self) -> int | None:
        """Return a descriptor that is writable once more is taken; None for what has none."""
        return self._waits_on

    def release(self, writer: object) -> None:
        """Let others write: the rest of this one's line will never come."""
        with self._turn:
            if self._cut_off is writer:
                self._cut_off = None
                self._turn.notify_all()
            if self._unended is writer:
                self._unended = self  # so that its next line is a new one, too

    def close(self) -> None:
        """Let go of our own descriptor; descriptor 1 stays."""
        if self._own is not None:
            os.close(self._own)
            self._own, self._way, self._waits_on = None, self._write_polled, self._fd


def _end_of_lines(data: bytes, start: int) -> int:
    """Say up to where one write goes: whole lines that it does not tear, or one that is longer."""
    if len(data) - start <= ATOMIC_BYTES:
        return len(data)
    end = data.rfind(b"\n", start, start + ATOMIC_BYTES) + 1
    if not end:
        end = data.find(b"\n", start) + 1
    return end or len(data)


class StdoutSink:
    """Be what one service writes to standard output. Borrows the outlet."""

    def __init__(self, outlet: Outlet, form: LogFormat) -> None:
        self._outlet = outlet
        self._wants_room = False
        self.form = form
        self.device = outlet.device

    def write(self, data: bytes) -> int:
        """Return how many of the bytes were taken; see `Sink`.

        Raises:
            SinkError: None was, for a reason.
        """
        self._wants_room = False
        try:
            taken = self._outlet.write(self, data)
            self._wants_room = taken > 0 or not self._outlet.is_held_from(self)
            return taken
        except OSError as error:
            raise SinkError.of(error, PATH) from None

    def waits_on(self) -> int | None:
        """Return a descriptor that is writable once more is taken, if that is for want of room."""
        return self._outlet.waits_on() if self._wants_room else None

    def reopen(self) -> None:
        """Do nothing: whoever started the daemon has opened it."""

    def close(self) -> None:
        """Let others write."""
        self._outlet.release(self)
