"""One sink as one service uses it: what it does not take waits here, within bounds, or is dropped.

A port is stuck from the moment its sink leaves something over until all of that was taken. What
happens meanwhile is the service's choice (`Overflow`): whoever reads the pipes asks `accepts`
first. What is dropped is counted to the byte, and a mark stands in its place as soon as the sink
takes something again.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from supervisord_pidfd.core.spec import LogSpec, Overflow
from supervisord_pidfd.logger.render import Dropped, mark
from supervisord_pidfd.logger.sinks import Sink, SinkError

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
LONG_S = 1.0
HANGS = "ETIMEDOUT"
"""What is told of a disk that takes nothing and does not say why."""


class Lock(Protocol):
    """Be a lock that another thread may take over."""

    def acquire(self) -> bool:
        """Wait until it is ours."""
        ...

    def release(self) -> None:
        """Let it go."""
        ...


class Desk:
    """Be where one thread works: it holds `lock`, but while it is away, inside of a disk.

    `away_since` and `away` say since when (infinite: it is here) and with which port. Meanwhile
    whoever takes the lock may work here instead, and keeps off all disks.
    """

    def __init__(self, now: Callable[[], float], lock: Lock | None = None) -> None:
        self.now = now
        self.away_since = math.inf
        self.away: Port | None = None
        self._lock = lock

    def leave(self, port: "Port") -> None:
        """Go to a disk."""
        self.away, self.away_since = port, self.now()
        if self._lock is not None:
            self._lock.release()

    def come_back(self) -> None:
        """Be here again."""
        if self._lock is not None:
            self._lock.acquire()
        self.away, self.away_since = None, math.inf


class Origin(NamedTuple):
    """Say whose lines something is: for the mark that may have to stand in their place."""

    service: str
    stream: str
    run: int
    wall: float


class Loss(NamedTuple):
    """Tell of lines that were dropped: how many, of how many bytes as the service wrote them."""

    origin: Origin
    lines: int
    size: int
    reason: str


class _Waiting(NamedTuple):
    """Hold rendered lines that wait, and what they are if they have to go."""

    data: bytes
    origin: Origin
    lines: int
    size: int


class Witness(NamedTuple):
    """Hold whom a port tells: of losses as they happen; of trouble; of its end (seconds).

    `desk` is where its caller works.
    """

    lost: Callable[[Loss], None]
    failed: Callable[[str, str], None]
    resumed: Callable[[str, float], None]
    gap: Callable[[Dropped], None]
    desk: Desk


class Port:
    """Own one sink. Called by whoever works at the desk."""

    def __init__(self, sink: Sink, path: str, spec: LogSpec, witness: Witness) -> None:
        self.sink = sink
        self.path = path
        self.spec = spec
        self.stuck_since = math.inf
        self.retry_at = math.inf
        self._witness = witness
        self._desk = witness.desk
        self._delay = FIRST_RETRY_S
        self._error: str | None = None
        self._has_failed = False
        self._rest = b""
        self._rest_of: _Waiting | None = None
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._gap: Dropped | None = None
        self.is_marked = False

    @property
    def is_stuck(self) -> bool:
        """Tell whether something waits for the sink, or it may not be written to just now."""
        return self.stuck_since != math.inf or self.is_out_of_reach

    @property
    def is_out_of_reach(self) -> bool:
        """Tell whether it is a disk, and somebody is away to one."""
        return self.sink.device is not None and self._desk.away_since != math.inf

    def blocks_until(self) -> float:
        """Say until when its service is to wait, of CLOCK_MONOTONIC; 0 if it is not to wait."""
        if not self.is_stuck or self.spec.overflow is not Overflow.BLOCK:
            return 0.0
        return min(self.stuck_since, self._desk.away_since) + self.spec.block_for

    # -- writing ----------------------------------------------------------------------------------

    def put(self, data: bytes, origin: Origin, lines: int, size: int, now: float) -> None:
        """Write rendered lines; what cannot be written waits, or something is dropped.

        `lines` and `size` are those of the service, for the count; -1 lines are to be counted.
        """
        if self.is_stuck:
            self._overflow(_Waiting(data, origin, lines, size), now)
            return
        taken = self._write(data)
        if 0 < taken < len(data):  # the next try tells why, or that it was chance
            taken += self._write(data[taken:])
        if taken < len(data):
            self._rest = data[taken:]
            self._rest_of = _Waiting(data, origin, lines, size)
            self._be_stuck(now)
        elif self._has_failed or self.stuck_since != math.inf:  # it took a long time
            self.stuck_since = min(self.stuck_since, now)
            self.retry(now)

    def _write(self, data: bytes) -> int:
        """Have the sink take what it takes; remember why it does not take more."""
        failure = None
        is_disk = self.sink.device is not None
        if is_disk:
            self._desk.leave(self)
        try:
            taken = self.sink.write(data)
        except SinkError as error:
            taken, failure = 0, error
        finally:
            if is_disk:
                self._desk.come_back()
        if failure is not None and self._error != failure.error:
            self._has_failed = True
            self._witness.failed(failure.path, failure.error)
        self._error = None if failure is None else failure.error
        return taken

    def tell_that_it_hangs(self) -> None:
        """Have it told, once, that the present write does not come to an end."""
        if not self._has_failed:
            self._has_failed = True
            self._witness.failed(self.path, HANGS)

    def _be_stuck(self, now: float) -> None:
        if self.stuck_since == math.inf:
            self.stuck_since = now
            self._delay = FIRST_RETRY_S
        self.retry_at = now + self._delay

    def retry(self, now: float) -> None:
        """Try to go on: it is time, or the sink says that it takes more."""
        if self.stuck_since == math.inf:
            return
        is_done = self._drain()
        now = max(now, self._desk.now())  # it may have taken a long time
        if not is_done:
            self._delay = min(2 * self._delay, LAST_RETRY_S)
            self.retry_at = now + self._delay
            return
        blocked, self.stuck_since, self.retry_at = now - self.stuck_since, math.inf, math.inf
        if self._has_failed or blocked >= LONG_S:  # a reader that is a little late is no news
            self._has_failed = False
            self._witness.resumed(self.path, blocked)

    def _drain(self) -> bool:
        """Write what waits, in its order: the rest of a piece, the mark, what came after it."""
        while True:
            if self._rest:
                taken = self._write(self._rest)
                self._rest = self._rest[taken:]
                if self._rest:
                    if taken:
                        self._delay = FIRST_RETRY_S / 2
                    return False
            if self._gap is not None:
                gap, self._gap = self._gap, None
                self._rest, self._rest_of = mark(gap, self.sink.form), None
                self._witness.gap(gap)
            elif self._waiting:
                waiting = self._waiting.popleft()
                self._waiting_bytes -= len(waiting.data)
                self._rest, self._rest_of = waiting.data, waiting
            else:
                return True

    # -- dropping ---------------------------------------------------------------------------------

    def _overflow(self, coming: _Waiting, now: float) -> None:
        """Keep the newest that there is room for, or what is held already."""
        if self.stuck_since == math.inf:  # somebody is away: go on as soon as they are back
            self.stuck_since, self.retry_at = min(now, self._desk.away_since), now
            self._delay = FIRST_RETRY_S
        if self.spec.overflow is Overflow.DROP_NEWEST:
            self._drop(coming)
            return
        self._waiting.append(coming)
        self._waiting_bytes += len(coming.data)
        while self._waiting_bytes > self.spec.ring and self.blocks_until() <= now:
            oldest = self._waiting.popleft()
            self._waiting_bytes -= len(oldest.data)
            self._drop(oldest)

    def _drop(self, gone: _Waiting) -> None:
        if gone.lines < 0:
            gone = gone._replace(lines=gone.data.count(b"\n"))
        reason = "overflow" if self._error is None else "write_error"
        self._witness.lost(Loss(gone.origin, gone.lines, gone.size, reason))
        origin, gap = gone.origin, self._gap
        if gap is None:
            gap = Dropped(
                origin.service, origin.stream, origin.run, 0, 0, reason, origin.wall, origin.wall
            )
        self._gap = gap._replace(
            lines=gap.lines + gone.lines,
            size=gap.size + gone.size,
            reason=reason,
            ended=max(gap.ended, origin.wall),
        )

    def give_up(self) -> None:
        """Drop all that waits: the end of the logger, or of the sink's part in this service."""
        if self._rest and self._rest_of is not None:
            begun = self._rest_of
            if len(self._rest) < len(begun.data):
                lines, size = self._rest.count(b"\n"), min(len(self._rest), begun.size)
                begun = begun._replace(lines=lines, size=size)
            self._drop(begun)
        self._rest = b""
        while self._waiting:
            self._drop(self._waiting.popleft())
        self._waiting_bytes = 0

    def reopen(self, now: float) -> None:
        """Have the sink let go of its file and open it anew, and try at once if it was stuck."""
        self._leave_for(self.sink.reopen)
        self.retry(now)

    def abandon(self) -> None:
        """Give up, and tell what is lost by that: no mark will stand in its place."""
        self.give_up()
        gap, self._gap = self._gap, None
        if gap is not None:
            self._witness.gap(gap)

    def close(self) -> None:
        """Close the sink."""
        self.abandon()
        self._leave_for(self.sink.close)

    def _leave_for(self, act: Callable[[], None]) -> None:
        """Have a disk do what may take as long as a write: the last close of a deleted file."""
        if self.sink.device is None:
            act()
            return
        self._desk.leave(self)
        try:
            act()
        finally:
            self._desk.come_back()
