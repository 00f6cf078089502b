"""Tell observers: number the notices, count them, keep the last ones, send them to the logger.

Everything is bounded. A turn encodes at most `A_TURN` notices, after all spawns and signals of the
batch; the pipe to the logger is non-blocking, with a queue of `QUEUE_BYTES` behind it; what does
not fit is counted and told as soon as there is room again.
"""

import contextlib
import fcntl
import json
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import Level, LogDropped, Told, event_of, level_of
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.signals import name_of

A_TURN = 64
STORM = 16
BACKLOG = 8192
KEPT = 1000
QUEUE_BYTES = 1 << 20
CHUNK_BYTES = 64 << 10
PIPE_BYTES = 1 << 20
OPENING = b"1\n"

_NOT_SAID = frozenset(
    {"ts", "level", "event", "seq", "service", "group", "run", "phase_from", "phase_to"}
)
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Published(NamedTuple):
    """Hold a notice as it was published."""

    seq: int
    wall: float
    told: Told


def _make_pipe() -> tuple[int, int]:
    """Make a pipe whose write end never blocks."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_end, False)
    with contextlib.suppress(OSError):  # more than fs.pipe-max-size for this user: 64 KiB do
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read_end, write_end


class LogPipe:
    """Send lines to the logger without ever waiting. Owns both ends of the pipe.

    The read end is kept, so that what is in the pipe outlives a logger: the next one gets it, in a
    pipe of its own that begins with the opening, as every logger expects.
    """

    def __init__(self, loop: Loop) -> None:
        self.read_end, self._write_end = _make_pipe()
        self._lent = False
        self._loop = loop
        self._queue: deque[bytes] = deque([OPENING])
        self._queued = len(OPENING)
        self._waiting = False
        self._finishing = False
        self._lost_lines = 0
        self._lost_bytes = 0

    def lend(self) -> int:
        """Return the read end for the logger that is about to start.

        Raises:
            OSError: Its predecessor's pipe cannot be replaced, for want of descriptors.
        """
        if self._lent and self._write_end >= 0:
            self._renew()
        self._lent = True
        return self.read_end

    def take_lost(self) -> LogDropped | None:
        """Return what was lost since the last time, once there is room again to tell it."""
        if not self._lost_lines or self._queued > QUEUE_BYTES // 2:
            return None
        lost = LogDropped("events", self._lost_lines, self._lost_bytes, "overflow")
        self._lost_lines = self._lost_bytes = 0
        return lost

    def _lose(self, line: bytes) -> None:
        self._lost_lines += 1
        self._lost_bytes += len(line)

    def _renew(self) -> None:
        ends = _make_pipe()
        left = self._unread()
        self._queue.appendleft(OPENING + left)
        self._queued += len(OPENING) + len(left)
        if self._waiting:
            self._wait(on=False)
        self._loop.close_later(self._write_end)
        os.close(self.read_end)
        self.read_end, self._write_end = ends

    def _unread(self) -> bytes:
        """Take back what the last logger left; the rest of a line it had half read is lost."""
        os.set_blocking(self.read_end, False)
        left = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.read_end, PIPE_BYTES):
                left += chunk
        left = left.removeprefix(OPENING)
        if left and not left.startswith(b"{"):
            half_read, _, left = left.partition(b"\n")
            self._lose(half_read)
        return left

    def finish(self) -> None:
        """Close the write end as soon as all that is queued was sent."""
        self._finishing = True
        self.flush()

    def send(self, line: bytes) -> None:
        """Queue a line; one for which there is no room is lost, and counted."""
        if self._queued + len(line) > QUEUE_BYTES:
            self._lose(line)
            return
        self._queue.append(line)
        self._queued += len(line)

    def flush(self) -> None:
        """Write what the pipe takes; go on when it takes more."""
        if self._write_end < 0:
            return
        while self._queue:
            data = self._take_chunk()
            try:
                written = os.write(self._write_end, data)
            except BlockingIOError:
                written = 0
            self._queued -= written
            if written < len(data):
                self._queue.appendleft(data[written:])
                break
        if bool(self._queue) is not self._waiting:
            self._wait(on=bool(self._queue))
        if self._finishing and not self._queue:
            self.close_write_end()

    def _take_chunk(self) -> bytes:
        """Take so many lines out of the queue as one write is worth: a copy of all would weigh."""
        lines = [self._queue.popleft()]
        size = len(lines[0])
        while self._queue and size < CHUNK_BYTES:
            lines.append(self._queue.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _wait(self, *, on: bool) -> None:
        self._waiting = on
        if on:
            self._loop.add(
                self._write_end, Priority.CONTROL, lambda _events: self.flush(), select.EPOLLOUT
            )
        else:
            self._loop.remove(self._write_end)

    def close_write_end(self) -> None:
        """End the stream: the logger sees end of file after what was sent."""
        if self._waiting:
            self._wait(on=False)
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_write_end()
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1


class StderrLines:
    """Write warnings to standard error where there is no logger (`run -- CMD`), never waiting.

    A line goes out only if the descriptor takes it at once; else it is lost, and counted.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)
        self.lost = 0

    def send(self, line: bytes) -> None:
        """Write a line of at most PIPE_BUF bytes, if that cannot block."""
        try:
            if any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                os.write(2, line[: select.PIPE_BUF])
                return
        except OSError:  # closed, hung up: nobody reads warnings here
            pass
        self.lost += 1


def as_json(event: dict[str, Any]) -> bytes:
    """Encode an event for the logger."""
    return _encode(event).encode("utf-8", "backslashreplace") + b"\n"


def as_text(event: dict[str, Any]) -> bytes:
    """Encode an event for people, on one line."""
    about = [str(event["service"])] if event.get("service") else []
    pairs = [
        f"{name}={_encode(value)}"
        for name, value in event.items()
        if value is not None and value is not False and name not in _NOT_SAID
    ]
    words = " ".join(["supervisord-pidfd:", event["event"], *about, *pairs])
    return words.encode("utf-8", "backslashreplace") + b"\n"


class Publisher:
    """Number, count, keep and send notices, in the order in which they were told.

    `observers` are told of each notice once it was counted; `follow` gets each event as plain
    data, whatever its level (number, service, event), while somebody follows.
    """

    def __init__(
        self,
        loop: Loop,
        tally: Tally,
        send: Callable[[bytes], None],
        encode: Callable[[dict[str, Any]], bytes] = as_json,
    ) -> None:
        self._encode = encode
        self._loop = loop
        self.tally = tally
        self._send = send
        self._backlog: deque[tuple[float, Told | Callable[[], None]]] = deque()
        self.level = Level.INFO
        self.seq = 0
        self.kept: deque[Published] = deque(maxlen=KEPT)
        self.observers: list[Callable[[float, Told], None]] = []
        self.follow: Callable[[int, str | None, dict[str, Any]], None] | None = None

    def tell(self, told: Told) -> None:
        """Take a notice; it is published at the end of this turn or a later one."""
        self._backlog.append((self._loop.clock.wall(), told))

    def then(self, call: Callable[[], None]) -> None:
        """Call this once everything that was told so far has been published."""
        self._backlog.append((0.0, call))

    def publish(self) -> bool:
        """Publish a turn's share; return whether notices are left.

        In a storm of exits the acting comes first: nothing is published while `STORM` exits
        or more are there at once, as long as the backlog stays below `BACKLOG`. Beyond that half
        of it is published each turn, so that a storm without end cannot outrun the telling.
        """
        waiting = len(self._backlog)
        if waiting > BACKLOG:
            share = waiting // 2
        elif self._loop.exits >= STORM:
            share = 0
        else:
            share = min(A_TURN, waiting)
        self._publish(share)
        return bool(self._backlog)

    def publish_all(self) -> None:
        """Publish whatever is left: the end of the daemon."""
        self._publish(len(self._backlog))

    def _publish(self, share: int) -> None:
        for _ in range(share):
            wall, told = self._backlog.popleft()
            if not isinstance(told, Told):
                told()
                continue
            self.seq += 1
            self.tally.count(told)
            self.kept.append(Published(self.seq, wall, told))
            for observe in self.observers:
                observe(wall, told)
            is_written = level_of(told.notice) >= self.level
            if is_written or self.follow is not None:
                event = event_of(told, self.seq, rfc3339(wall), name_of)
                if is_written:
                    self._send(self._encode(event))
                if self.follow is not None:
                    self.follow(self.seq, told.service, event)
