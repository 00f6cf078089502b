"""A thread that reads pipes and writes sinks: one for each directory that is written to.

A disk that hangs holds up one pump and its services, nobody else. While a pump is away, inside of
a disk, its lock is free, so that the main thread can read its pipes for it (`relieve`). Commands
come from the main thread and are carried out between two turns.
"""

import math
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from supervisord_pidfd.clock import Clock
from supervisord_pidfd.logger.book import Book, Stream
from supervisord_pidfd.logger.port import Desk

BATCH = 64
RELIEF_READS = 4
"""Reads from each pipe of a pump that hangs, each time it is looked at."""

TOLD_AFTER_S = 2.0
"""How long a disk may take for one write before it is told that it hangs."""

PATIENCE_S = 0.05
"""How long the main thread waits for a pump that is neither away nor done."""

Command = Callable[[], None]


class Pump:
    """Own an epoll and the books given to it, which are written to at its desk.

    `began` is told, by the pump's thread, that it is at work while nobody watches it. What is not
    under `from the main thread` is the thread's own.
    """

    def __init__(self, name: str, clock: Clock, began: Callable[[], None]) -> None:
        self.name = name
        self._lock = threading.Lock()
        self.desk = Desk(clock.now, self._lock)
        self.is_watched = False
        self.turns = 0
        self._clock = clock
        self._began = began
        self._commands: deque[Command] = deque()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._books: dict[str, Book] = {}
        self._of_fd: dict[int, Book] = {}
        self._held: set[str] = set()
        self._due: dict[str, float] = {}
        self._waits: dict[int, set[str]] = {}
        self._running = True
        self._was_relieved = False
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """Return what is readable when there is something to do: for who turns it in line."""
        return self._epoll.fileno()

    def start(self) -> bool:
        """Begin to turn, in a thread; return False if none can be had."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
        return self._thread is not None

    def submit(self, command: Command) -> None:
        """Have something done by the pump's thread."""
        self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End after the commands that were given before."""
        self.submit(self._stop)

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread; return whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def close(self) -> None:
        """Close the descriptors of a pump that has ended."""
        self._epoll.close()
        os.close(self._wake)

    def _stop(self) -> None:
        self._running = False

    # -- turns ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._running:
            self.turn(self.next_due())

    def next_due(self) -> float:
        """Say when something is due without anything to read, of CLOCK_MONOTONIC."""
        return min(self._due.values(), default=math.inf)

    def turn(self, until: float) -> None:
        """Wait until then at most, and do what there is to do."""
        wait = -1.0 if until == math.inf else max(0.0, until - self._clock.now())
        events = self._epoll.poll(wait, BATCH)
        with self._lock:
            self.turns += 1
            if not self.is_watched:
                self.is_watched = True
                self._began()
            now = self._clock.now()
            for fd, _ in events:
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._ready(fd, now)
            while self._commands:
                self._commands.popleft()()
            for name in [name for name, due in self._due.items() if due <= now]:
                book = self._books[name]
                book.act(now)
                self._settle(book, now)
            if self._was_relieved:
                self._take_over()

    def _take_over(self) -> None:
        """Go on where the main thread has worked for us."""
        self._was_relieved = False
        now = self._clock.now()
        for book in self.books:
            book.note_held(now, held=book.service in self._held)

    def _ready(self, fd: int, now: float) -> None:
        book = self._of_fd.get(fd)
        if book is not None:
            if book.service not in self._held:  # since a moment ago
                self._read(book, fd, now)
        elif fd in self._waits:
            for name in tuple(self._waits[fd]):
                book = self._books[name]
                for port in book.ports:
                    if port.sink.waits_on() == fd:
                        port.retry(now)
                self._settle(book, now)

    def _read(self, book: Book, fd: int, now: float) -> None:
        if not book.read(fd, now):
            self._epoll.unregister(fd)
            del self._of_fd[fd]
            book.end(fd)
        self._settle(book, now)

    def _settle(self, book: Book, now: float) -> None:
        """Read its pipes or leave them alone, as its sinks allow; note when it is due."""
        due = book.due()
        if due == math.inf and book.service not in self._due:
            return  # nothing waits, and nothing did: whoever is stuck has a moment to try again
        until = book.blocks_until()
        if (now < until) is not (book.service in self._held):
            self._hold(book, now, held=now < until)
        due = min(due, until if until > now else math.inf)
        if due == math.inf:
            self._due.pop(book.service, None)
        else:
            self._due[book.service] = due
        self._wait_for_sinks(book)

    def _hold(self, book: Book, now: float, *, held: bool) -> None:
        book.note_held(now, held=held)
        if held:
            self._held.add(book.service)
            for fd in book.streams:
                self._epoll.unregister(fd)
        else:
            self._held.discard(book.service)
            for fd in book.streams:
                self._epoll.register(fd, select.EPOLLIN)

    def _wait_for_sinks(self, book: Book) -> None:
        """Wait for the descriptors of sinks that are stuck, and for no other ones."""
        stuck = [port.sink.waits_on() for port in book.ports if port.is_stuck]
        wanted = {fd for fd in stuck if fd is not None}
        for fd in [fd for fd in self._waits if fd not in wanted]:
            self._wait_no_longer(fd, book.service)
        for fd in wanted:
            if fd not in self._waits:
                self._waits[fd] = set()
                self._epoll.register(fd, select.EPOLLOUT)
            self._waits[fd].add(book.service)

    def _wait_no_longer(self, fd: int, service: str) -> None:
        waiting = self._waits.get(fd)
        if waiting is not None:
            waiting.discard(service)
            if not waiting:
                del self._waits[fd]
                self._epoll.unregister(fd)

    # -- commands ---------------------------------------------------------------------------------

    def attach(self, book: Book) -> None:
        """Take over a book with its streams."""
        self._books[book.service] = book
        for fd in book.streams:
            self._of_fd[fd] = book
            self._epoll.register(fd, select.EPOLLIN)
        self._settle(book, self._clock.now())

    def detach(self, book: Book) -> None:
        """Let go of a book; its streams and ports stay open."""
        for fd in book.streams:
            del self._of_fd[fd]
            if book.service not in self._held:
                self._epoll.unregister(fd)
        self._held.discard(book.service)
        self._due.pop(book.service, None)
        for fd in tuple(self._waits):
            self._wait_no_longer(fd, book.service)
        del self._books[book.service]

    def add(self, book: Book, stream: Stream, *, again: bool) -> None:
        """Read another pipe of a book."""
        now = self._clock.now()
        self._of_fd[stream.fd] = book
        book.add(stream, again=again, now=now)
        if book.service not in self._held:
            self._epoll.register(stream.fd, select.EPOLLIN)
        self._settle(book, now)

    def drop(self, book: Book, idents: frozenset[int]) -> None:
        """Read what is there of these pipes, and wait for their end no longer."""
        now = self._clock.now()
        for fd, stream in tuple(book.streams.items()):
            if stream.ident in idents:
                book.drain(fd, now)
                if book.service not in self._held:
                    self._epoll.unregister(fd)
                del self._of_fd[fd]
                book.end(fd)
        self._settle(book, now)

    def reopen(self, book: Book) -> int:
        """Have a book's files reopened; return how many."""
        now = self._clock.now()
        files = book.reopen(now)
        self._settle(book, now)
        return files

    @property
    def books(self) -> tuple[Book, ...]:
        """Return the books that are here."""
        return tuple(self._books.values())

    # -- from the main thread ---------------------------------------------------------------------

    def hangs_since(self) -> float:
        """Say since when the pump is inside of one write; infinite if it is not."""
        return self.desk.away_since

    def rest(self, turns: int) -> None:
        """Be watched no longer, unless it has turned since: the next turn says that it began."""
        if self._lock.acquire(blocking=False):
            if self.turns == turns and self.desk.away is None:
                self.is_watched = False
            self._lock.release()

    def is_behind(self) -> bool:
        """Tell whether a sink has not taken everything yet."""
        if not self._lock.acquire(timeout=PATIENCE_S):
            return True
        try:
            return self.desk.away is not None or any(
                port.is_stuck for book in self.books for port in book.ports
            )
        finally:
            self._lock.release()

    def relieve(self) -> bool:
        """Read the pipes of services that have waited long enough for a pump that hangs.

        Returns whether anything was read: there may soon be more.
        """
        if not self._lock.acquire(timeout=PATIENCE_S):
            return False
        try:
            now = self._clock.now()
            if self.desk.away is None:
                return False
            if now - self.desk.away_since >= TOLD_AFTER_S:
                self.desk.away.tell_that_it_hangs()
            self._was_relieved = True
            more = [self._relieve(book, now) for book in self.books]
            return any(more)
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Count as lost what waits for a pump that hangs: we end without it."""
        if self._lock.acquire(timeout=PATIENCE_S):
            if self.desk.away is not None:
                for book in self.books:
                    book.abandon(self._clock.now())
            self._lock.release()

    def _relieve(self, book: Book, now: float) -> bool:
        more = book.relieve(now, RELIEF_READS)
        due = book.due()
        if due < math.inf:  # then it goes on by itself
            self._due[book.service] = due
        return more
