"""The core's end of the logger's channel: made anew for each logger, never waiting for it.

Datagrams with descriptors (`logwire`). What there is to say stands in a queue as its kind and what
it is about; the message is made when it is sent, so what is out of date by then is never said, and
a logger that reads nothing costs a bounded amount.
"""

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

from supervisord_pidfd import logwire
from supervisord_pidfd.loop import Loop, Priority

A_TURN = 32
COMPACT_ABOVE = 1024
RETRY_S = 0.05

_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})

Message = tuple[dict[str, Any] | None, list[int]]


class Speaker(NamedTuple):
    """Hold whom the line asks.

    `message` makes the message for a kind and what it is about, with its descriptors, or None if
    there is nothing to say any more; `sent` is told when it has gone out, `given_up` when it never
    will; `heard` takes what the logger says.
    """

    message: Callable[[str, Any], Message]
    sent: Callable[[str, Any], None]
    given_up: Callable[[str, Any], None]
    heard: Callable[[dict[str, Any]], None]


class LoggerLine:
    """Talk to one logger after another. Owns our end of the pair."""

    def __init__(self, loop: Loop, speaker: Speaker) -> None:
        self._loop = loop
        self._speaker = speaker
        self._queue: deque[tuple[str, Any]] = deque()
        self._compact_above = COMPACT_ABOVE
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._waiting = False
        self._retry = loop.deadline(self._go_on)

    @property
    def is_open(self) -> bool:
        """Tell whether a logger is there, or will soon be."""
        return self._ours is not None

    def open(self, first: Iterable[tuple[str, Any]]) -> int:
        """Make the channel for a logger about to start, and queue what it is to be told first.

        Returns its end, which stays ours to close.

        Raises:
            OSError: No descriptors to be had.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.close()
        ours.setblocking(False)
        self._ours, self._theirs = ours, theirs
        self._queue.extend(first)
        self._loop.add(ours.fileno(), Priority.READINESS, self._read)
        return theirs.fileno()

    def handed_over(self) -> None:
        """Close the logger's end here: it has its own now, or never came."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def close(self) -> None:
        """End the channel; what was still to be said is given up."""
        self.handed_over()
        queue, self._queue = self._queue, deque()
        for kind, about in queue:
            self._speaker.given_up(kind, about)
        if self._ours is not None:
            ours, self._ours = self._ours, None
            self._waiting = False
            self._retry.disarm()
            self._loop.remove(ours.fileno())
            self._loop.close_later(ours.detach())

    # -- saying -----------------------------------------------------------------------------------

    def say(self, kind: str, about: Hashable = None) -> None:
        """Queue what is to be said; with no logger there it is given up."""
        if self._ours is None:
            self._speaker.given_up(kind, about)
            return
        self._queue.append((kind, about))
        if len(self._queue) > self._compact_above:
            self._compact()

    def _compact(self) -> None:
        """Keep each thing once, and what is out of date not at all."""
        left = [entry for entry in dict.fromkeys(self._queue) if self._speaker.message(*entry)[0]]
        self._queue = deque(left)
        self._compact_above = 2 * len(left) + COMPACT_ABOVE

    def flush(self) -> bool:
        """Send what the logger takes, a turn's share; return whether there is more to send."""
        if self._waiting or self._ours is None:
            return False
        for _ in range(A_TURN):
            if not self._queue or not self._send_next(self._ours):
                return False
        return bool(self._queue)

    def _send_next(self, channel: socket.socket) -> bool:
        """Send the next message; False if that cannot be done now."""
        kind, about = self._queue[0]
        message, fds = self._speaker.message(kind, about)
        if message is not None:
            try:
                socket.send_fds(channel, [logwire.pack(message)], fds)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait(error.errno or 0)
                # Else nobody reads any more: the reaper tells that the logger has ended, and the
                # next one is told everything.
                return False
            self._speaker.sent(kind, about)
        self._queue.popleft()
        return True

    def _wait(self, number: int) -> None:
        """Wait for room in the channel; for what else there is too little of, a little."""
        self._waiting = True
        if number == errno.EAGAIN and self._ours is not None:
            self._loop.modify(self._ours.fileno(), select.EPOLLIN | select.EPOLLOUT)
        else:
            self._retry.arm(self._loop.clock.now() + RETRY_S)

    def _go_on(self) -> None:
        self._waiting = False
        self._retry.disarm()
        self.flush()

    # -- hearing ----------------------------------------------------------------------------------

    def _read(self, events: int) -> None:
        if self._ours is None:
            return
        if events & select.EPOLLOUT:
            self._loop.modify(self._ours.fileno(), select.EPOLLIN)
            self._go_on()
        for _ in range(A_TURN):
            heard = self._receive()
            if heard is None:
                return
            self._speaker.heard(heard)

    def _receive(self) -> dict[str, Any] | None:
        """Read one message; None if there is none now, or nobody any more."""
        if self._ours is None:
            return None
        try:
            heard = logwire.receive(self._ours)
        except BlockingIOError:
            return None
        except OSError:
            heard = None
        if heard is None:  # it is gone, or has closed its end
            self.close()
            return None
        message, fds = heard
        for fd in fds:  # it has nothing to give us
            os.close(fd)
        return message
