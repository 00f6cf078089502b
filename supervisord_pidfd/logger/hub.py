"""The logger's main thread: hears the core, hands pipes to pumps, and never touches a disk.

It waits in one epoll: for the core's messages, for what pumps have to say, for clients. While a
pump is at work it looks once a second whether it hangs in a write; an idle logger has no timer.
"""

import math
import os
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from supervisord_pidfd import logwire
from supervisord_pidfd.clock import Clock
from supervisord_pidfd.core.spec import LogSpec, load
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.logger.book import Book, Outward, Stream
from supervisord_pidfd.logger.clients import Clients
from supervisord_pidfd.logger.journal import Lookup
from supervisord_pidfd.logger.pump import Pump
from supervisord_pidfd.logger.ring import Rings
from supervisord_pidfd.logger.sinks import Sink
from supervisord_pidfd.logwire import Counters

LOOK_EVERY_S = 1.0
AGAIN_S = 0.01
"""How soon the pipes of a pump that hangs are read again, as long as something was read."""

HANGS_AFTER_S = 0.5
FINISH_LOOK_S = 0.05
RESERVE_S = 0.3
"""What is kept of the time for the end, to say what could not be written."""

END_WITHIN_S = 0.1, 2.0
"""How long all pumps together have for their end, at least and at most."""

ENDED_AT_ONCE = 1000
PUMPS = 16
"""Threads at most; directories beyond share them."""

VERSION_DIFFERS = "the installed version differs from the running one: pidfdctl reexec"

Sinks = Mapping[str, Iterable[tuple[str, Sink]]]


class Parts(NamedTuple):
    """Hold what the hub connects.

    `sinks_of` makes the sinks of a service, for each stream, in the thread that will write to
    them; `directories_of` names the directories of its files; `use_settings` takes the settings;
    `reopen_own` has the file of the daemon's own events reopened, and counts it; `lookup` is told
    of groups and processes.
    """

    clock: Clock
    rings: Rings
    sinks_of: Callable[[str, LogSpec], Sinks]
    directories_of: Callable[[LogSpec], tuple[str, ...]]
    use_settings: Callable[[dict[str, Any]], None]
    reopen_own: Callable[[], int]
    lookup: Lookup


class _Kept:
    """Hold a service's book, and the pump that has it: what is to be done is done there.

    `target` is where it will be when all that was submitted is done.
    """

    def __init__(self, book: Book, pump: Pump) -> None:
        self.book = book
        self.pump = self.target = pump

    def submit(self, act: Callable[[Pump], object]) -> None:
        """Have something done by the thread that has the book by then."""
        self.pump.submit(partial(self._do, self.pump, act))

    def _do(self, pump: Pump, act: Callable[[Pump], object]) -> None:
        if self.pump is pump:
            act(pump)
        else:  # it has moved meanwhile
            self.submit(act)


class Hub:
    """Own the pumps and our end of the channel."""

    def __init__(self, channel: socket.socket, parts: Parts) -> None:
        channel.setblocking(False)
        self.epoll = select.epoll()
        self._channel: socket.socket | None = channel
        self._parts = parts
        self._counters: Counters | None = None
        self._pumps: dict[tuple[str, ...], Pump] = {}
        self._in_line: list[Pump] = []
        self._kept: dict[str, _Kept] = {}
        self._gone: set[str] = set()
        self._service_of: dict[int, str] = {}
        self._open_pipes: Counter[str] = Counter()
        self._outbox: deque[dict[str, Any]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._look_at = math.inf
        self._turns: dict[Pump, int] = {}
        self._finish_by = math.inf
        self.is_finishing = False
        self.last_words: list[dict[str, Any]] = []
        self.watch(self._wake, self._woken)
        self.watch(channel.fileno(), lambda _events: self._hear())
        self._clients = Clients(self, parts.rings, parts.clock)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake)

    def watch(
        self, fd: int, callback: Callable[[int], None], events: int = select.EPOLLIN
    ) -> None:
        """Have something called when a descriptor is ready."""
        self.epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Do not, any more."""
        if self._callbacks.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    # -- turns ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until the core has said that it ends, or all that it left behind has."""
        while not self.is_over():
            self.turn()
        self._end()

    def is_over(self) -> bool:
        """Tell whether nothing is left to do."""
        if self.is_finishing and self._parts.clock.now() >= self._finish_by:
            return True
        no_more = self.is_finishing or self._channel is None
        return no_more and not self._service_of and not (self.is_finishing and self._is_behind())

    def _is_behind(self) -> bool:
        """Tell whether a sink has not taken everything yet."""
        return any(pump.is_behind() for pump in self._pumps.values())

    def turn(self) -> None:
        """Wait for something, and deal with it."""
        now = self._parts.clock.now()
        until = min(self._look_at, self._finish_by, self._clients.due())
        until = min(until, *(pump.next_due() for pump in self._in_line), math.inf)
        if self.is_finishing and not self._service_of:
            until = min(until, now + FINISH_LOOK_S)
        for fd, events in self.epoll.poll(-1 if until == math.inf else max(0.0, until - now)):
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        for pump in self._in_line:
            if pump.next_due() <= self._parts.clock.now():
                pump.turn(0.0)
        if self._clients.due() <= self._parts.clock.now():
            self._clients.act(self._parts.clock.now())
        self._look()
        self._send()

    def say(self, message: dict[str, Any]) -> None:
        """Have the core told something; any thread may."""
        self._outbox.append(message)
        os.eventfd_write(self._wake, 1)

    def _send(self) -> None:
        while self._outbox and self._channel is not None:
            message = self._noted(self._outbox.popleft())
            if self.is_finishing and "tell" in message:  # the core has told its last event
                self.last_words.append(message)
                continue
            try:
                self._channel.send(logwire.pack(message))
            except BlockingIOError:
                self._outbox.appendleft(message)
                self.epoll.modify(self._channel.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self._lose_core()
        while self._outbox and self._channel is None:
            self._noted(self._outbox.popleft())
        self._forget_the_gone()

    def _noted(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take note of pipes that have ended, and join what is said of them."""
        ended = list(message.get("ended", ()))
        while ended and self._outbox and "ended" in self._outbox[0] and len(ended) < ENDED_AT_ONCE:
            ended += self._outbox.popleft()["ended"]
        for ident in ended:
            service = self._service_of.pop(ident, None)
            if service is not None:
                self._open_pipes[service] -= 1
        return {"ended": ended} if ended else message

    # -- pumps ------------------------------------------------------------------------------------

    def _pump_for(self, spec: LogSpec) -> Pump:
        key = self._parts.directories_of(spec)
        if key not in self._pumps and len(self._pumps) >= PUMPS:
            key = sorted(self._pumps)[hash(key) % PUMPS]
        pump = self._pumps.get(key)
        if pump is None:
            pump = self._pumps[key] = Pump("log", self._parts.clock, self._began)
            if not pump.start():
                self._in_line.append(pump)
                self.watch(pump.fileno(), lambda _events: pump.turn(0.0))
        return pump

    def _began(self) -> None:
        """Wake up to watch a pump; called by its thread."""
        os.eventfd_write(self._wake, 1)

    def _look(self) -> None:
        """Look whether pumps hang; stop looking at those that rest."""
        now = self._parts.clock.now()
        watched = [pump for pump in self._pumps.values() if pump.is_watched]
        if self._look_at == math.inf and watched:
            self._look_at = now + LOOK_EVERY_S
        if now < self._look_at:
            return
        more = False
        for pump in watched:
            if now - pump.hangs_since() >= HANGS_AFTER_S:
                more = pump.relieve() or more
            elif self._turns.get(pump) == pump.turns:
                pump.rest(pump.turns)
            self._turns[pump] = pump.turns
        rests = not any(pump.is_watched for pump in watched)
        self._look_at = math.inf if rests else now + (AGAIN_S if more else LOOK_EVERY_S)

    # -- the core ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        if self._channel is None:
            return
        self.epoll.modify(self._channel.fileno(), select.EPOLLIN)
        while self._channel is not None:
            try:
                heard = logwire.receive(self._channel)
            except BlockingIOError:
                return
            except OSError:
                heard = None
            if heard is None:
                self._lose_core()
                return
            message, fds = heard
            left = self._take(message, fds)
            for fd in left:
                os.close(fd)

    def _lose_core(self) -> None:
        """Go on without a core: services write on, and somebody has to read."""
        if self._channel is not None:
            self.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _take(self, message: dict[str, Any], fds: list[int]) -> list[int]:
        """Carry a message out; return the descriptors that nobody has taken."""
        if "open" in message:
            return self._open(message, fds)
        if "run" in message:
            return self._add_run(message, fds)
        if "logs" in message and len(fds) == 1:
            self._clients.serve(fds[0], message["logs"])
            return []
        self._take_word(message)
        return fds

    def _take_word(self, message: dict[str, Any]) -> None:
        """Carry out a message that brings no descriptors."""
        if "service" in message:
            self._parts.lookup.use_group(message["service"], message.get("group", ""))
            self._use(message["service"], message["slot"], load(LogSpec, message["log"]))
        elif "settings" in message:
            self._parts.use_settings(message["settings"])
        elif "removed" in message:
            self._gone.add(message["removed"])
        elif "drop" in message:
            idents = frozenset(message["drop"])
            for kept in self._kept.values():
                kept.submit(partial(_drop, book=kept.book, idents=idents))
        elif "reopen" in message:
            self._reopen(message["reopen"])
        elif "finish" in message:
            self.is_finishing = True
            self._finish_by = self._parts.clock.now() + max(0.0, message["finish"] - RESERVE_S)

    def _open(self, message: dict[str, Any], fds: list[int]) -> list[int]:
        if message["open"] != logwire.OPENING:
            raise StartupError(VERSION_DIFFERS)
        self._counters = Counters(fds[0])
        self._parts.use_settings(message["settings"])
        return []

    def _add_run(self, message: dict[str, Any], fds: list[int]) -> list[int]:
        kept = self._kept.get(message["service"])
        if kept is None:
            return fds
        self._parts.rings.ring(kept.book.service).begin(message["run"])
        if message.get("pid") is not None:
            self._parts.lookup.use_pid(kept.book.service, message["run"], message["pid"])
        for (ident, name), fd in zip(message["pipes"], fds, strict=True):
            stream = Stream(ident, fd, name, message["run"])
            self._service_of[ident] = kept.book.service
            self._open_pipes[kept.book.service] += 1
            again = message.get("again") is True
            kept.submit(partial(_add, book=kept.book, stream=stream, again=again))
        return []

    def _use(self, name: str, slot: int, spec: LogSpec) -> None:
        """Have a service's output go where its spec says, from now on."""
        self._gone.discard(name)
        pump = self._pump_for(spec)
        kept = self._kept.get(name)
        if kept is None:
            if self._counters is None:
                return
            outward = Outward(self.say, self._parts.clock, pump.desk)
            ring = self._parts.rings.ring(name)
            book = Book(name, slot, self._counters, ring, outward)
            self._kept[name] = _Kept(book, pump)
            pump.submit(partial(self._begin, book, pump, spec))
        elif kept.target is pump:
            kept.submit(partial(self._change, book=kept.book, spec=spec))
        else:
            kept.target = pump
            kept.submit(partial(self._move, kept, pump, spec))

    def _begin(self, book: Book, pump: Pump, spec: LogSpec) -> None:
        book.use(spec, self._parts.sinks_of(book.service, spec))
        pump.attach(book)

    def _change(self, pump: Pump, book: Book, spec: LogSpec) -> None:
        pump.detach(book)
        self._begin(book, pump, spec)

    def _move(self, kept: _Kept, new: Pump, spec: LogSpec, old: Pump) -> None:
        old.detach(kept.book)
        kept.book.leave(new.desk)
        new.submit(partial(self._begin, kept.book, new, spec))
        kept.pump = new

    def _reopen(self, request: int) -> None:
        """Have all files reopened, and answer when the last pump has done it."""
        pumps = {kept.pump for kept in self._kept.values()}
        files = [self._parts.reopen_own()]
        waiting = len(pumps)

        def one(pump: Pump) -> None:
            nonlocal waiting
            files.append(sum(pump.reopen(book) for book in pump.books))
            waiting -= 1
            if not waiting:
                self.say({"reopened": sum(files), "for": request})

        for pump in pumps:
            pump.submit(partial(one, pump))
        if not pumps:
            self.say({"reopened": sum(files), "for": request})

    def _forget_the_gone(self) -> None:
        """Close the books of removed services when the last of their pipes has ended."""
        for name in tuple(self._gone):
            kept = self._kept.get(name)
            if not self._open_pipes[name]:
                self._gone.discard(name)
                self._kept.pop(name, None)
                del self._open_pipes[name]
                self._parts.rings.forget(name)
                self._parts.lookup.forget(name)
                if kept is not None:
                    kept.submit(partial(_close, book=kept.book))

    # -- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Have the pumps finish; what a sink still does not take is lost, and counted."""
        for kept in self._kept.values():
            kept.submit(partial(_close, book=kept.book))
        for pump in self._pumps.values():
            pump.stop()
        now = self._parts.clock.now()
        until = now + max(END_WITHIN_S[0], min(END_WITHIN_S[1], self._finish_by - now))
        for pump in self._pumps.values():
            if pump in self._in_line:
                pump.turn(0.0)
            if not pump.join(max(0.0, until - self._parts.clock.now())):
                pump.abandon()
        self._clients.close()
        self._send()


def _add(pump: Pump, book: Book, stream: Stream, *, again: bool) -> None:
    pump.add(book, stream, again=again)


def _drop(pump: Pump, book: Book, idents: frozenset[int]) -> None:
    pump.drop(book, idents)


def _close(pump: Pump, book: Book) -> None:
    pump.detach(book)
    book.close()
