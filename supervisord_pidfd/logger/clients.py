"""Answer clients of `logs` from the rings: what there is, then, for those who follow, what comes.

The core hands a client's socket over; from then on it is ours, and it is closed after the last
reply. A client costs its place in each ring and one reply's bytes, however slowly it reads: what
has left a ring meanwhile is told to it as a number of bytes. Nothing here waits for a client.
"""

import contextlib
import heapq
import math
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd import wire
from supervisord_pidfd.clock import Clock
from supervisord_pidfd.commands import INVALID_PARAMETER, REFUSED, age_of
from supervisord_pidfd.logger.replies import lines_in, replies
from supervisord_pidfd.logger.ring import Place, Ring, Rings

CLIENTS = 16
READ_WITHIN = 60.0
"""How long a client may leave unread what waits for it."""

SLOW = 1.0
"""Who has left it unread for so long makes room for a newcomer."""

PIECE_BYTES = 16 << 10
PIECE_BATCHES = 256
TURN_PIECES = 4

THAT_WAS_ALL = wire.reply({"line": None})
_BUSY = {"reason": "busy", "message": "too many clients read logs at once (try again)"}


class Poll(Protocol):
    """Call back when descriptors are ready; hang-ups are told unasked."""

    def watch(self, fd: int, callback: Callable[[int], None], events: int = ...) -> None:
        """Have something called when a descriptor is ready."""
        ...

    def unwatch(self, fd: int) -> None:
        """Do not, any more."""
        ...


class Wanted(NamedTuple):
    """Hold which lines a client wants; `names` None is every service, `since` Unix seconds."""

    names: frozenset[str] | None
    last: int | None
    since: float
    stream: str | None
    run: int | None
    follow: bool

    def run_of(self, ring: Ring) -> int | None:
        """Say which run is meant; 0 is the newest one, -1 that before it."""
        if self.run is None or self.run > 0:
            return self.run
        return ring.newest_run + self.run


def wanted_of(asked: Mapping[str, Any], now: float) -> Wanted:
    """Read the parameters of the method Logs, whose types the core has looked at.

    Raises:
        ValueError: The parameter with this name makes no sense.
    """
    names, since, last = asked.get("names"), asked.get("since"), asked.get("last")
    age = math.inf if since is None else age_of(since)
    if age is None:
        raise ValueError("since")
    if last is not None and last < 0:
        raise ValueError("last")
    return Wanted(
        None if names is None else frozenset(names),
        last,
        now - age,
        asked.get("stream"),
        asked.get("run"),
        asked.get("follow") is True,
    )


class _Reader:
    """Be one client's place in one ring; `skip` lines of its first batch are left out."""

    def __init__(self, ring: Ring, wanted: Wanted) -> None:
        self.ring = ring
        self.run = wanted.run_of(ring)
        self.place = Place()
        self.end: Place | None = None
        self.skip = 0
        self.is_queued = False


class Selection:
    """Find a client's lines in all rings, and merge them by time: `next` gives them as replies."""

    def __init__(self, rings: Rings, wanted: Wanted) -> None:
        self._wanted = wanted
        self._readers: dict[str, _Reader] = {}
        self._heads: list[tuple[float, str]] = []
        for name in sorted(rings.names()):
            ring = rings.find(name)
            if ring is not None and self.concerns(name):
                self._readers[name] = _Reader(ring, wanted)
        self._find_beginning()
        self.look()

    def concerns(self, name: str) -> bool:
        """Tell whether lines of a service may be wanted."""
        return self._wanted.names is None or name in self._wanted.names

    def join(self, name: str, ring: Ring) -> None:
        """Read the ring of a service that has appeared, from its beginning."""
        if self._wanted.follow and self.concerns(name):
            self._readers[name] = _Reader(ring, self._wanted)

    def _find_beginning(self) -> None:
        """Set each reader to the first batch that it needs, and to the last one there is now."""
        left = self._wanted.last
        for reader in self._readers.values():
            end = reader.ring.end()
            reader.end = None if self._wanted.follow else end
            if left is None:
                reader.place = reader.ring.all()[1]
            else:
                reader.place = end
        if left is None or not left:
            return
        newest_first = heapq.merge(
            *(self._backwards(reader) for reader in self._readers.values()),
            key=lambda found: found[0],
            reverse=True,
        )
        for _, lines, reader, place in newest_first:
            reader.place, reader.skip = place, max(0, lines - left)
            left -= lines
            if left <= 0:
                return

    def _backwards(self, reader: _Reader) -> Iterator[tuple[float, int, _Reader, Place]]:
        """Give the batches that are wanted, the newest first: time, lines, and where it is."""
        batches, first = reader.ring.all()
        number, size = first.batches + len(batches), first.size + sum(len(b.data) for b in batches)
        while batches:
            batch = batches.pop()
            number, size = number - 1, size - len(batch.data)
            if self._takes(reader, batch.run, batch.stream, batch.wall):
                yield batch.wall, lines_in(batch), reader, Place(number, size)

    def _takes(self, reader: _Reader, run: int, stream: str, wall: float) -> bool:
        wanted = self._wanted
        return (
            wall >= wanted.since
            and (wanted.stream is None or stream == wanted.stream)
            and (reader.run is None or run == reader.run)
        )

    def look(self) -> None:
        """Look for what has come to rings that had nothing more for us."""
        for name, reader in self._readers.items():
            if not reader.is_queued:
                self._queue(name, reader)

    def _queue(self, name: str, reader: _Reader) -> None:
        found = reader.ring.next(reader.place)
        reader.is_queued = found is not None and (
            reader.end is None or reader.place.batches < reader.end.batches
        )
        if found is not None and reader.is_queued:
            heapq.heappush(self._heads, (found[0].wall, name))

    def next(self) -> Iterator[bytes] | None:
        """Give the replies for the next batch; None if there is nothing more now."""
        if not self._heads:
            return None
        _, name = heapq.heappop(self._heads)
        reader = self._readers[name]
        found = reader.ring.next(reader.place)
        if found is None:
            reader.is_queued = False
            return iter(())
        batch, reader.place, missed = found
        skip, reader.skip = (0, 0) if missed else (reader.skip, 0)
        self._queue(name, reader)
        if not self._takes(reader, batch.run, batch.stream, batch.wall):
            return iter(())
        return replies(batch, skip, missed)


class _Client:
    """Own one client's socket, and what of its answer is on the way."""

    def __init__(self, sock: socket.socket, selection: Selection, *, follows: bool) -> None:
        self.socket = sock
        self.selection = selection
        self.follows = follows
        self.waiting_since = math.inf
        self._rest = b""
        self._batch: Iterator[bytes] = iter(())
        self._is_over = False
        self._is_idle = False

    @property
    def is_done(self) -> bool:
        """Tell whether the last reply has gone out."""
        return self._is_over and not self._rest

    def go_on(self, now: float) -> bool:
        """Send a turn's share; return whether there is more to send.

        Raises:
            OSError: The client has gone.
        """
        for _ in range(TURN_PIECES):
            if not self._rest and not self._fill():
                break
            try:
                sent = self.socket.send(self._rest, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            self._rest = self._rest[sent:]
            self.waiting_since = now
        more = bool(self._rest) or not (self._is_over or self._is_idle)
        self.waiting_since = min(self.waiting_since, now) if more else math.inf
        return more

    def finish(self, now: float) -> None:
        """Send what there is and the end, if all of it is taken at once.

        Raises:
            OSError: The client has gone, or has to be waited for.
        """
        self.follows = False
        while self.go_on(now):
            if self._rest:
                raise BlockingIOError

    def _fill(self) -> bool:
        """Make some replies, and look at no more than so many batches for them."""
        pieces: list[bytes] = []
        size = batches = 0
        self._is_idle = False
        while size < PIECE_BYTES and batches < PIECE_BATCHES and not self._is_over:
            reply = next(self._batch, None)
            if reply is not None:
                pieces.append(reply)
                size += len(reply)
                continue
            batch = self.selection.next()
            if batch is not None:
                self._batch = batch
                batches += 1
            elif self.follows:
                self._is_idle = True
                break
            else:
                pieces.append(THAT_WAS_ALL)
                self._is_over = True
        self._rest = b"".join(pieces)
        return bool(self._rest)


class Clients:
    """Own all clients of `logs`; the main thread's, but for `_added`."""

    def __init__(self, poll: Poll, rings: Rings, clock: Clock) -> None:
        self._poll = poll
        self._rings = rings
        self._clock = clock
        self._clients: dict[int, _Client] = {}
        self._events: dict[int, int] = {}
        self._woken = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poll.watch(self._wake, self._look)
        rings.appeared = self._appeared

    def __len__(self) -> int:
        """Say how many there are."""
        return len(self._clients)

    def serve(self, fd: int, asked: Mapping[str, Any]) -> None:
        """Answer a client; the descriptor is ours from now on."""
        client = socket.socket(fileno=fd)
        client.setblocking(False)
        try:
            wanted = wanted_of(asked, self._clock.wall())
        except ValueError as error:
            self._refuse(client, wire.error(INVALID_PARAMETER, {"parameter": str(error)}))
            return
        if len(self._clients) >= CLIENTS and not self._drop_slowest():
            self._refuse(client, wire.error(REFUSED, _BUSY))
            return
        selection = Selection(self._rings, wanted)
        self._clients[fd] = _Client(client, selection, follows=wanted.follow)
        if wanted.follow:
            self._be_told()
        self._go_on(fd)

    @staticmethod
    def _refuse(client: socket.socket, answer: bytes) -> None:
        with client:
            try:
                client.send(answer, socket.MSG_NOSIGNAL)
            except OSError:
                return  # it has gone, or its buffer is full: then it sees the end only

    def _drop_slowest(self) -> bool:
        """Drop who has left its answer unread for the longest time; False if everybody reads."""
        fd = min(self._clients, key=lambda fd: self._clients[fd].waiting_since)
        if self._clients[fd].waiting_since + SLOW > self._clock.now():
            return False
        self._drop(fd)
        return True

    def _drop(self, fd: int) -> None:
        client = self._clients.pop(fd)
        if self._events.pop(fd, None) is not None:
            self._poll.unwatch(fd)
        client.socket.close()
        if client.follows:
            self._be_told()

    # -- sending ----------------------------------------------------------------------------------

    def _go_on(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            more = client.go_on(self._clock.now())
        except OSError:
            self._drop(fd)
            return
        if client.is_done:
            self._drop(fd)
        else:
            self._watch(fd, select.EPOLLOUT if more else 0)

    def _watch(self, fd: int, events: int) -> None:
        if self._events.get(fd) != events:
            if fd in self._events:
                self._poll.unwatch(fd)
            self._events[fd] = events
            self._poll.watch(fd, lambda happened: self._ready(fd, happened), events)

    def _ready(self, fd: int, happened: int) -> None:
        if happened & (select.EPOLLHUP | select.EPOLLERR):
            self._drop(fd)
        else:
            self._go_on(fd)

    def due(self) -> float:
        """Say when the next client will have read nothing for too long."""
        waiting = (client.waiting_since for client in self._clients.values())
        return READ_WITHIN + min(waiting, default=math.inf)

    def act(self, now: float) -> None:
        """Drop those that have read nothing for too long."""
        for fd, client in tuple(self._clients.items()):
            if client.waiting_since + READ_WITHIN <= now:
                self._drop(fd)

    def close(self) -> None:
        """Tell all that this was all, as far as they read, and let go of everything."""
        for fd, client in tuple(self._clients.items()):
            client.selection.look()
            with contextlib.suppress(OSError):  # it has gone, or would have to be waited for
                client.finish(self._clock.now())
            self._drop(fd)
        self._rings.appeared = None
        self._poll.unwatch(self._wake)
        os.close(self._wake)

    # -- following --------------------------------------------------------------------------------

    def _added(self) -> None:
        """Wake the main thread: somebody follows this ring. Pumps call it."""
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wake, 1)

    def _look(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        self._woken = False  # first: what is added from now on wakes us again
        for fd, client in tuple(self._clients.items()):
            if client.follows:
                client.selection.look()
                if self._events.get(fd) == 0:
                    self._go_on(fd)

    def _appeared(self, name: str, ring: Ring) -> None:
        for client in self._clients.values():
            client.selection.join(name, ring)
        self._be_told()

    def _be_told(self) -> None:
        """Be woken by the rings that somebody follows, and by no others."""
        following = [client.selection for client in self._clients.values() if client.follows]
        for name in self._rings.names():
            ring = self._rings.find(name)
            if ring is not None:
                followed = any(selection.concerns(name) for selection in following)
                ring.followed = self._added if followed else None
