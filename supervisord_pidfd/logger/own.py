"""The daemon's own events, beside standard output: in a file, the journal, syslog.

All of it is the events' thread's, but for `use` and `reopen`. A sink that takes nothing costs the
events meanwhile; they are counted, and told by an event in their place when it takes some again.
The file is written by a thread of its own, so a disk that hangs holds up nothing else.
"""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from supervisord_pidfd.clock import SystemClock, rfc3339
from supervisord_pidfd.core.spec import LogFormat, LogSpec, load
from supervisord_pidfd.logger import events, journal, syslog
from supervisord_pidfd.logger.aside import Aside
from supervisord_pidfd.logger.datagrams import Courier
from supervisord_pidfd.logger.events import Event, Lost
from supervisord_pidfd.logger.files import FileSink
from supervisord_pidfd.logger.packing import Packer
from supervisord_pidfd.logger.rotation import Rotation
from supervisord_pidfd.logger.sinks import SinkError

BY_DEFAULT = LogSpec(to=("stdout",))
SETTLE_S = 1.0
"""How long the first events wait to be told where they belong."""

WAITING_BYTES = 1 << 20
"""Events, as JSON, that may wait for a disk that hangs."""

MARK_BYTES = 256
"""What a mark of lost events is counted as."""

LINGER_S = 1.0
"""How long such a disk is waited for when it is to be used no longer."""


class Way:
    """Be one sink. `send` sends an event of so many bytes; it returns whether all was taken."""

    def __init__(self, send: Callable[[Event, int], bool]) -> None:
        self._send = send
        self._lost = Lost()

    def take(self, event: Event, size: int) -> None:
        """Take an event, which is so many bytes as JSON."""
        if self._lost.lines:
            if not self._sent(self._lost.event(), MARK_BYTES):
                self._lost.add(1, size, rfc3339(SystemClock.wall()))
                return
            self._lost = Lost()
        if not self._sent(event, size):
            self._lost.add(1, size, rfc3339(SystemClock.wall()))

    def _sent(self, event: Event, size: int) -> bool:
        try:
            return self._send(event, size)
        except (SinkError, ValueError, RecursionError):  # it cannot be sent, or not be written
            return False


class Own:
    """Know where the daemon's own events go."""

    def __init__(self, to_journal: Courier, to_syslog: Courier) -> None:
        self.settled = threading.Event()
        self.wants_stdout = True
        self._journal = to_journal
        self._syslog = to_syslog
        self._next = BY_DEFAULT
        self._spec = BY_DEFAULT
        self._reopen = False
        self._file: FileSink | None = None
        self._aside = Aside(WAITING_BYTES)
        self._packer = Packer()
        self._ways: tuple[Way, ...] = ()

    # -- the main thread's ------------------------------------------------------------------------

    def use(self, spec: Mapping[str, Any]) -> None:
        """Let the events to come go where this LogSpec says; empty: where they went before."""
        self._next = load(LogSpec, dict(spec)) if spec else BY_DEFAULT
        self.settled.set()

    def reopen(self) -> int:
        """Have the file reopened before the next event; return how many there are."""
        self._reopen = True
        return int("file" in self._next.to and bool(self._next.path))

    # -- the events' thread's ---------------------------------------------------------------------

    def settle(self) -> None:
        """Go over to what was last said; called before some events are taken."""
        spec = self._next
        if spec != self._spec:
            self._spec = spec
            self._build(spec)
        if self._reopen:
            self._reopen = False
            if self._file is not None:
                self._aside.ask(self._file.reopen)

    def take(self, line: bytes) -> None:
        """Take an event as it came from the core."""
        if not self._ways:
            return
        event = events.decode(line)
        if event is None:
            text = line.decode("utf-8", "surrogateescape")
            event = {"level": "warning", "event": "log.unreadable", "text": text}
        for way in self._ways:
            way.take(event, len(line) + 1)

    @property
    def has_ways(self) -> bool:
        """Tell whether events go anywhere but to standard output."""
        return bool(self._ways)

    def close(self) -> None:
        """Let go of the file, when all is in it or it hangs."""
        if self._file is not None:
            self._aside.ask(self._file.close)
            self._aside.close(LINGER_S)
            self._file, self._aside = None, Aside(WAITING_BYTES)

    def _build(self, spec: LogSpec) -> None:
        self.close()
        self.wants_stdout = "stdout" in spec.to
        ways = []
        if "file" in spec.to and spec.path:
            ways.append(Way(self._to_file(spec)))
        if "journal" in spec.to:
            ways.append(Way(self._to_journal))
        if "syslog" in spec.to:
            ways.append(Way(self._to_syslog))
        self._ways = tuple(ways)

    def _to_file(self, spec: LogSpec) -> Callable[[Event, int], bool]:
        dated = partial(events.text_of, dated=True)  # it is read on other days too
        render = dated if spec.format is LogFormat.TEXT else events.json_of
        pack = self._packer.ask if spec.compress else None
        sink = self._file = FileSink(spec.path, LogFormat.RAW, Rotation.of(spec), pack=pack)

        def write(event: Event, _size: int) -> bool:
            data = render(event).encode("utf-8", "replace") + b"\n"
            taken = sink.write(data)
            if taken < len(data):
                sink.fresh()
            return taken == len(data)

        way, aside = Way(write), self._aside

        def send(event: Event, size: int) -> bool:
            return aside.ask(partial(way.take, event, size), size)

        return send

    def _to_journal(self, event: Event, _size: int) -> bool:
        return journal.send(self._journal, journal.fields_of(event))

    def _to_syslog(self, event: Event, _size: int) -> bool:
        return self._syslog.send(syslog.of_event(event, SystemClock.wall()))
