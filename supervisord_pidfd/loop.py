"""Wait for descriptors and deadlines, call back; nothing here knows what they mean.

One turn: wait in epoll until a descriptor is ready or the earliest deadline has come; call the
ready ones in the order of their priority (readiness, exits, control), then the deadlines that have
passed, then `after_turn` once. At most `BATCH` descriptors are taken a turn. Every registration is
level-triggered, so what was left over is reported by the next wait, behind those that came since:
the kernel rotates its ready list, nobody starves.

epoll keys a registration on (number, open file). Two consequences, each paid for once by somebody:
a descriptor is unregistered before it is closed, because a child between vfork and exec may still
hold the open file and would keep the registration alive under a number that is already another
file's; and a number taken out during a turn is skipped for the rest of it, since `select.epoll`
hands back numbers only. Descriptors given to `close_later` are closed after the last callback of
the turn, so that a number does not change its meaning inside a batch. Callbacks still treat an
event as a hint and use non-blocking calls.

Deadlines live in a heap with lazy deletion: an entry counts only while its number is the one that
its `Deadline` was armed with last. With none armed and nothing ready the wait has no timeout.
"""

import enum
import heapq
import math
import os
import select
from collections.abc import Callable

from supervisord_pidfd.clock import Clock

BATCH = 64
_LONGEST_WAIT = 1e6
"""Seconds; epoll_wait(2) takes an int of milliseconds, 24 days at most."""


class Priority(enum.IntEnum):
    """Order the callbacks of one turn: what a service said comes before its end."""

    READINESS = 0
    EXITS = 1
    CONTROL = 2


class Deadline:
    """Hold one moment at which `callback` is called; moved or disarmed by its owner."""

    __slots__ = ("_callback", "_loop", "entry", "when")

    def __init__(self, loop: "Loop", callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self.when = math.inf
        self.entry = 0

    def arm(self, when: float) -> None:
        """Call back at `when` (CLOCK_MONOTONIC seconds) instead of any earlier setting."""
        if when == self.when:
            return
        self.when = when
        self.entry = self._loop.push(self) if when != math.inf else 0

    def disarm(self) -> None:
        """Do not call back."""
        self.when = math.inf
        self.entry = 0

    def fire(self) -> None:
        """Call back once; the loop does this."""
        self.disarm()
        self._callback()


class Loop:
    """Be the one place that waits.

    `on_error` is told of an exception that escaped a callback (where, error); the loop goes on.
    `batch` is how many descriptors were ready at the beginning of this turn, `exits` how many of
    them tell of the end of a process.
    """

    def __init__(self, clock: Clock, on_error: Callable[[str, BaseException], None]) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._heap: list[tuple[float, int, Deadline]] = []
        self._pushed = 0
        self._compact_above = 64
        self._closing: list[int] = []
        self._on_error = on_error
        self._running = False
        self.turn = 0
        self.batch = 0
        self.exits = 0
        self.woke_at = clock.now()
        self.after_turn: Callable[[], bool] = lambda: False
        self.on_lag: Callable[[float], None] = lambda _lag: None
        self.on_busy: Callable[[float], None] = lambda _busy: None

    # -- descriptors ------------------------------------------------------------------------------

    def add(
        self,
        fd: int,
        priority: Priority,
        callback: Callable[[int], None],
        events: int = select.EPOLLIN,
    ) -> None:
        """Call `callback(events)` whenever `fd` is ready. Borrows the descriptor.

        Raises:
            OSError: ENOMEM, ENOSPC (fs.epoll.max_user_watches), EEXIST, EPERM (cannot be polled).
        """
        self._epoll.register(fd, events)
        self._callbacks[fd] = (int(priority), callback)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events on a registered descriptor."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching; always before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close_later(self, fd: int) -> None:
        """Close a descriptor that was removed, after the last callback of this turn."""
        self._closing.append(fd)

    # -- deadlines --------------------------------------------------------------------------------

    def deadline(self, callback: Callable[[], None]) -> Deadline:
        """Make a deadline, not armed yet."""
        return Deadline(self, callback)

    def push(self, deadline: Deadline) -> int:
        """Take in a moment and return the number of its entry; for `Deadline` alone."""
        self._pushed += 1
        heapq.heappush(self._heap, (deadline.when, self._pushed, deadline))
        # Lazy deletion may not let the heap grow without bound in a storm of moved deadlines.
        if len(self._heap) > self._compact_above:
            self._compact(self._pushed)
        return self._pushed

    def _compact(self, newest: int) -> None:
        """Drop what no longer counts; again at twice of what is left, so it costs O(1) a push."""
        self._heap = sorted(e for e in self._heap if e[1] == e[2].entry or e[1] == newest)
        self._compact_above = 2 * len(self._heap) + 64

    def next_deadline(self) -> float:
        """Return the earliest armed moment, `inf` if none."""
        heap = self._heap
        while heap and heap[0][1] != heap[0][2].entry:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    # -- running ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until `stop`."""
        self._running = True
        more = False
        while self._running:
            if more:  # no wait is near: what we have started is to get its processor all the same
                os.sched_yield()
            more = self.run_once(0.0 if more else None)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def run_once(self, at_most: float | None = None) -> bool:
        """Do one turn, waiting `at_most` seconds; return whether `after_turn` has work left."""
        ready = self._epoll.poll(self._timeout(at_most), BATCH)
        self.turn += 1
        self.batch = len(ready)
        self.exits = 0
        self.woke_at = self.clock.now()
        if ready:
            self._dispatch(ready)
        self._fire_passed()
        more = self._call("after turn", self.after_turn)
        for fd in self._closing:
            os.close(fd)
        self._closing.clear()
        self.on_busy(self.clock.now() - self.woke_at)
        return bool(more)

    def close(self) -> None:
        """Close the epoll descriptor and what `close_later` still holds."""
        for fd in self._closing:
            os.close(fd)
        self._closing.clear()
        self._callbacks.clear()
        self._epoll.close()

    def _timeout(self, at_most: float | None) -> float:
        upcoming = self.next_deadline()
        if upcoming == math.inf:
            return -1 if at_most is None else at_most
        wait = min(max(0.0, upcoming - self.clock.now()), _LONGEST_WAIT)
        return wait if at_most is None else min(wait, at_most)

    def _dispatch(self, ready: list[tuple[int, int]]) -> None:
        callbacks = self._callbacks
        ordered: tuple[list[tuple[int, int]], ...] = tuple([] for _ in Priority)
        for pair in ready:
            entry = callbacks.get(pair[0])
            if entry is not None:
                ordered[entry[0]].append(pair)
        self.exits = len(ordered[Priority.EXITS])
        for priority, pairs in enumerate(ordered):
            for fd, events in pairs:
                entry = callbacks.get(fd)  # an earlier callback of this turn may have removed it
                if entry is not None and entry[0] == priority:
                    try:
                        entry[1](events)
                    except Exception as error:  # noqa: BLE001 - see `_call`
                        self._on_error("callback", error)

    def _fire_passed(self) -> None:
        """Call the deadlines that have passed by the start of this look, not those set in it."""
        now = self.clock.now()
        due = []
        while self.next_deadline() <= now:
            due.append(heapq.heappop(self._heap))
        for when, entry, deadline in due:
            if deadline.entry == entry:
                self.on_lag(now - when)
                self._call("deadline", deadline.fire)

    def _call(self, where: str, callback: Callable[..., object], *args: object) -> object:
        try:
            return callback(*args)
        except Exception as error:  # noqa: BLE001 - the one net of this process: the loop goes on
            self._on_error(where, error)
            return None
