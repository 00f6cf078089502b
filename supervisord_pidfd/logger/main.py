"""Read the core's log pipe until it ends; write each event to standard output.

Who holds what: the core holds the write end of the pipe, we inherit the read end (the core keeps
a duplicate, so that our death loses nothing) and the daemon's own standard output. Reads block, so
that an idle daemon wakes nobody. What cannot be written is counted and told later; it never ends
us, and never stops the reading, because a full pipe would be the core's problem.
"""

import argparse
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

from supervisord_pidfd.clock import SystemClock, rfc3339
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.logger.events import Format, Lost, log_record, make_log
from supervisord_pidfd.logger.hub import VERSION_DIFFERS, Hub, Parts
from supervisord_pidfd.logger.making import Making, directories_of
from supervisord_pidfd.logger.own import SETTLE_S, Own
from supervisord_pidfd.logger.ring import TOTAL_BYTES, Rings
from supervisord_pidfd.logger.stdout import ATOMIC_BYTES, Outlet

OPENING = b"1"
"""The integer that opens the channel; another one is another version."""

CHUNK_BYTES = 65536
RECORD_MAX_BYTES = 1 << 20
LINGER_S = 2.0
"""How long a full standard output may hold us once the core is gone."""

LATE_AFTER_S = 1.0
"""How long it may hold us while the core is there, if the events go elsewhere, too."""

_IGNORED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE,
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip

_STDOUT = 1
_STDERR = 2

UMASK = 0o027
"""Lets the modes of `places` be what they say; the daemon's own umask would make 0750 to 0700."""


def _now() -> str:
    return rfc3339(SystemClock.wall())


class Stdout:
    """Write lines to descriptor 1, and outlive whatever happens to it.

    `source` is the pipe we read: when its other end is gone, a standard output that takes nothing
    is given up after `LINGER_S`. Neither descriptor is closed here. `is_alone`: the events go
    nowhere else, so it is waited for; else others must not miss them for its sake.
    """

    def __init__(
        self, source: int, form: Format, outlet: Outlet, now: Callable[[], str] = _now
    ) -> None:
        self._form = form
        self._now = now
        self._lines: list[bytes] = []
        self._lost = Lost()
        self._outlet = outlet
        self._patience_ms: float | None = None
        self.is_alone = True
        self._is_late = False
        self._poll = select.poll()
        self._source = source
        self._poll.register(_STDOUT, select.POLLOUT)
        self._poll.register(source, 0)  # POLLHUP and POLLERR come unasked

    def add(self, line: bytes) -> None:
        """Take one line, ended by a newline, for the next `flush`."""
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was added, whole lines at a time; count what cannot be written."""
        lines, self._lines = self._lines, []
        if self._lost.lines and lines:
            if not self._write(self._lost.mark(self._form)):
                self._lose(lines)
                return
            self._lost = Lost()
        for group in _grouped(lines):
            if not self._write(b"".join(group)):
                self._lose(group)

    def finish(self) -> None:
        """Write what is left and, if lines were lost, say so once more."""
        self.flush()
        if self._lost.lines:
            self._write(self._lost.mark(self._form))

    def _lose(self, lines: list[bytes]) -> None:
        self._lost.add(len(lines), sum(map(len, lines)), self._now())

    def _write(self, data: bytes) -> bool:
        while data:
            try:
                self._wait()
                taken = self._outlet.write(self, data)
            except OSError:
                # Whatever the reason (EPIPE, EIO, EBADF, ENOSPC, EDQUOT, EFBIG, ETIMEDOUT), the
                # answer is the same: count, go on reading, try again with the next line.
                self._outlet.release(self)
                return False
            if not taken:  # somebody else was faster, or is in the middle of a line
                self._outlet.wait_for_turn(self)
            data = data[taken:]
        return True

    def _wait(self) -> None:
        """Wait until standard output takes a piece, for ever while the core lives.

        Raises:
            OSError: It took nothing for `LINGER_S` after the core had gone; or if it is not alone
                for `LATE_AFTER_S`, since when it is not waited for at all.
        """
        patience = self._patience_ms
        if patience is None and not self.is_alone:
            patience = 0.0 if self._is_late else LATE_AFTER_S * 1000
        ready = dict(self._poll.poll(patience))
        self._is_late = not ready
        if _STDOUT not in ready and self._source in ready:
            # The core is gone; from now on this poll would return at once, for ever.
            self._poll.unregister(self._source)
            self._patience_ms = LINGER_S * 1000
            ready = dict(self._poll.poll(self._patience_ms))
        if _STDOUT not in ready:
            if self._patience_ms is not None:
                self._patience_ms = 0.0
            raise OSError(errno.ETIMEDOUT, "standard output takes nothing")


def _grouped(lines: list[bytes]) -> list[list[bytes]]:
    """Split lines into groups that one atomic write can take; a longer line is alone."""
    groups: list[list[bytes]] = []
    room = 0
    for line in lines:
        if len(line) > room:
            groups.append([])
            room = ATOMIC_BYTES
        groups[-1].append(line)
        room -= len(line)
    return groups


class Records:
    """Cut the stream into lines; bytes in, whole records out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the records they complete, without their newline."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > RECORD_MAX_BYTES:  # no record is that long: show it, and go on
            whole.append(self._rest)
            self._rest = b""
        return whole

    def finish(self) -> list[bytes]:
        """Return what the end of the stream cut off."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Events:
    """Carry the daemon's own events from its pipe to standard output. Borrows the descriptor."""

    def __init__(self, fd: int, form: Format, outlet: Outlet, own: Own, *, colour: bool) -> None:
        self._fd = fd
        self._own = own
        self._stdout = Stdout(fd, form, outlet)
        self._log = make_log(self._stdout.add, form, colour=colour)
        self._records = Records()
        self._opened = False

    def read(self) -> bool:
        """Read once, and write what came; return whether its end has not come.

        Raises:
            StartupError: The core is of another version.
        """
        data = os.read(self._fd, CHUNK_BYTES)
        lines = self._records.feed(data) if data else self._records.finish()
        if lines and not self._opened:
            if lines.pop(0) != OPENING:
                raise StartupError(VERSION_DIFFERS)
            self._opened = True
        self._own.settle()
        for line in lines:
            if self._own.wants_stdout:
                log_record(self._log, line, _now)
            self._own.take(line)
        if not data:
            self._stdout.finish()
            return False
        self._stdout.is_alone = not self._own.has_ways
        self._stdout.flush()
        return True

    def add(self, said: Mapping[str, Any]) -> None:
        """Write what the core could not be told any more, after its last event."""
        fields = {key: value for key, value in said.items() if key != "tell"}
        event = {"ts": _now(), "level": "warning", "event": said["tell"], **fields}
        line = json.dumps(event).encode()
        if self._own.wants_stdout:
            log_record(self._log, line, _now)
        self._own.take(line)

    def finish(self) -> None:
        """Write what is left, and let go of what was written to."""
        self._stdout.finish()
        self._own.close()


def pump(events: Events, own: Own) -> int:
    """Carry events until end of file; return the exit code."""
    own.settled.wait(SETTLE_S)
    try:
        while events.read():
            pass
    except StartupError as error:
        _complain(str(error))
        return 1
    return 0


def _complain(text: str) -> None:
    try:
        os.write(_STDERR, text.encode() + b"\n")
    except OSError:
        return  # nobody listens there; the exit code says it too


def choose(word: str) -> tuple[Format, bool]:
    """Choose the format, and whether to colour, from the option and from what descriptor 1 is."""
    terminal = os.isatty(_STDOUT)
    form = (Format.TEXT if terminal else Format.JSON) if word == "auto" else Format(word)
    return form, terminal and not os.environ.get("NO_COLOR")


def _hub(channel: socket.socket, making: Making, own: Own) -> Hub:
    """Connect the parts of the logger."""
    rings = Rings()

    def use_settings(settings: dict[str, Any]) -> None:
        rings.use_total(settings.get("ring_total") or TOTAL_BYTES)
        own.use(settings.get("own") or {})

    parts = Parts(
        SystemClock(), rings, making.sinks_of, directories_of, use_settings, own.reopen,
        making.lookup,
    )  # fmt: skip
    hub = Hub(channel, parts)
    making.say = hub.say
    return hub


def main(argv: list[str] | None = None) -> int:
    """Run the logger; return its exit code."""
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="supervisord_pidfd.logger")
    parser.add_argument("--fd", type=int, required=True, help="the read end of the log pipe")
    parser.add_argument("--channel", type=int, help="the channel to the core")
    parser.add_argument("--format", choices=("auto", "text", "json"), default="auto")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    os.umask(UMASK)
    os.set_blocking(options.fd, True)
    form, colour = choose(options.format)
    outlet = Outlet()
    making = Making(outlet)
    own = Own(making.journal, making.syslog)
    events = Events(options.fd, form, outlet, own, colour=colour)
    if options.channel is None:
        own.settled.set()
        code = pump(events, own)
        events.finish()
        return code
    thread = Thread(target=pump, args=(events, own), daemon=True)
    try:
        hub = _hub(socket.socket(fileno=options.channel), making, own)
        _carry(events, options.fd, thread, hub)
        hub.run()
    except StartupError as error:
        _complain(str(error))
        return 1
    if thread.ident is not None:
        thread.join(LINGER_S)
    else:
        pump(events, own)
    if not thread.is_alive():
        for said in hub.last_words:
            events.add(said)
        events.finish()
    return 0


def _carry(events: Events, fd: int, thread: Thread, hub: Hub) -> None:
    """Carry events in a thread of their own; without one between other things."""
    try:
        thread.start()
    except RuntimeError:

        def read(_events: int) -> None:
            if not events.read():
                hub.unwatch(fd)

        hub.watch(fd, read)
