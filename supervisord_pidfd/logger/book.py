"""One service's log: streams in, ports out, a ring of the latest lines, and the counts.

Two ways lead through a book. If nobody needs lines (all sinks are raw, nothing is filtered), what
was read is written as it is, up to the last newline; it is never looked at. Else it is cut into
lines, and rendered once for each form that a sink wants.

What was read of a stream and not yet written is at most what one read returns: a stream is not
read again before that.
"""

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd.clock import Clock, rfc3339
from supervisord_pidfd.core.spec import LogFormat, LogSpec
from supervisord_pidfd.logger import ansi
from supervisord_pidfd.logger.lines import Batch, Framer, Piece, first_lines, raw_of
from supervisord_pidfd.logger.port import Desk, Loss, Origin, Port, Witness
from supervisord_pidfd.logger.ratelimit import RateLimit
from supervisord_pidfd.logger.render import Dropped, Form, Interrupted, mark, render
from supervisord_pidfd.logger.sinks import Sink
from supervisord_pidfd.logwire import Counters, Slot, unread

READ_BYTES = 64 << 10
IDLE_LINE_S = 2.0
"""How long the beginning of a line waits for its end."""

DRAIN_READS = 32

READY_WITHIN_S = 2.0
"""How much time of a run is spent on looking for its line; a search lets nobody else work."""

_WORD = {name: place for place, name in enumerate(Slot._fields)}
_BYTES = {stream: _WORD[f"{stream}_bytes"] for stream in ("stdout", "stderr", "hook")}
_LOST = {
    reason: (_WORD[f"{reason}_lines"], _WORD[f"{reason}_bytes"])
    for reason in ("overflow", "rate_limit", "write_error")
}


class Ring(Protocol):
    """Keep the latest lines of a service."""

    def add(self, batch: Batch) -> None:
        """Take some lines; the oldest leave when there are too many."""
        ...

    def resize(self, size: int) -> None:
        """Have room for so many bytes."""
        ...


class Outward(NamedTuple):
    """Hold what a book is connected to: `say` takes messages for the core."""

    say: Callable[[dict[str, Any]], None]
    clock: Clock
    desk: Desk


class Stream:
    """Be one pipe of one run. Owns the read end."""

    __slots__ = (
        "counted", "fd", "framer", "ident", "kept", "kept_since", "name", "offset", "run", "seq",
    )  # fmt: skip

    def __init__(self, ident: int, fd: int, name: str, run: int) -> None:
        self.ident = ident
        self.fd = fd
        self.name = name
        self.run = run
        self.framer = Framer(READ_BYTES)  # until its book says how long a line may be
        self.kept = b""
        self.kept_since = math.inf
        self.offset = 0
        self.seq = 0
        self.counted = _BYTES.get(name, _BYTES["stdout"])
        os.set_blocking(fd, False)


class Book:
    """Take what one service writes to where it belongs. Owns its ports. One thread at a time."""

    def __init__(
        self, service: str, slot: int, counters: Counters, ring: Ring, outward: Outward
    ) -> None:
        self.service = service
        self.streams: dict[int, Stream] = {}
        self.spec = LogSpec()
        self._slot = slot
        self._counters = counters
        self._ring = ring
        self._outward = outward
        self._ports: tuple[Port, ...] = ()
        self._of_stream: dict[str, tuple[Port, ...]] = {}
        self._to_put: deque[tuple[Port, bytes, Origin, int, int]] = deque()
        self._limit = RateLimit(0, 0.0)
        self._pattern: re.Pattern[bytes] | None = None
        self._ready_run = -1
        self._searched_run = -1
        self._searched_s = 0.0
        self._raw = True
        self._held_since = math.inf
        self._relieved_at = -math.inf

    def use(self, spec: LogSpec, sinks: Mapping[str, Iterable[tuple[str, Sink]]]) -> None:
        """Go over to another spec with these sinks, for each stream; those before are closed."""
        for port in self._ports:
            port.close()
        self.spec = spec
        desk = self._outward.desk
        witness = Witness(self._lost, self._failed, self._resumed, self._gap, desk)
        made: dict[int, Port] = {}
        self._of_stream = {}
        for name, found in sinks.items():
            self._of_stream[name] = tuple(
                made.setdefault(id(sink), Port(sink, path, spec, witness)) for path, sink in found
            )
        self._ports = tuple(made.values())
        self._limit = RateLimit(spec.rate_count, spec.rate_per)
        self._pattern = re.compile(spec.ready.encode(), re.MULTILINE) if spec.ready else None
        self._ring.resize(spec.ring)
        self._raw = (
            all(port.sink.form is LogFormat.RAW for port in self._ports)
            and not spec.rate_count
            and not spec.strip_ansi
            and self._pattern is None
        )
        for stream in self.streams.values():
            stream.framer.max_line = spec.max_line

    def leave(self, desk: Desk) -> None:
        """Close the ports: another thread goes on with this book, at its own desk."""
        for port in self._ports:
            port.close()
        self._ports, self._of_stream = (), {}
        self._outward = self._outward._replace(desk=desk)

    # -- back-pressure ----------------------------------------------------------------------------

    @property
    def ports(self) -> tuple[Port, ...]:
        """Return all ports."""
        return self._ports

    def blocks_until(self) -> float:
        """Say until when (CLOCK_MONOTONIC) the service has to wait for a sink; 0 if it has not."""
        return max((port.blocks_until() for port in self._ports), default=0.0)

    def note_held(self, now: float, *, held: bool) -> None:
        """Count the time for which the pipes are not read."""
        if held:
            self._held_since = min(self._held_since, now)
        elif self._held_since != math.inf:
            self._count("blocked_us", max(0, int((now - self._held_since) * 1e6)))
            self._held_since = math.inf

    def due(self) -> float:
        """Say when something has to be done without anything to read; infinite if nothing."""
        moments = [port.retry_at for port in self._ports]
        moments += [one.kept_since + IDLE_LINE_S for one in self.streams.values()]
        return min(moments, default=math.inf)

    def act(self, now: float) -> None:
        """Do what is due."""
        for port in self._ports:
            if port.retry_at <= now:
                port.retry(now)
        for stream in self.streams.values():
            if stream.kept_since + IDLE_LINE_S <= now:
                self._flush(stream, now, at_end=False)

    # -- reading ----------------------------------------------------------------------------------

    def add(self, stream: Stream, *, again: bool, now: float) -> None:
        """Read another pipe; `again`: another logger has read some of it."""
        self.streams[stream.fd] = stream
        stream.framer.max_line = self.spec.max_line
        if again:
            self._mark(stream, now)

    def _mark(self, stream: Stream, now: float) -> None:
        """Mark the place where another logger has ended, once in each file."""
        wall = self._outward.clock.wall()
        ended = Interrupted(self.service, stream.name, stream.run, READ_BYTES, wall)
        origin = Origin(self.service, stream.name, stream.run, wall)
        for port in self._of_stream.get(stream.name, ()):
            if not port.is_marked:
                port.is_marked = True
                port.put(mark(ended, port.sink.form), origin, 0, 0, now)

    def read(self, fd: int, now: float) -> bool:
        """Read once from a pipe and deal with it; return whether its end has not come."""
        stream = self.streams[fd]
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            self._flush(stream, now, at_end=True)
            return False
        self._counters.add(self._slot, stream.counted, len(data))
        if self._raw:
            self._take_raw(stream, data, now)
        else:
            self._take_pieces(stream, stream.framer.feed(data), now)
            stream.kept_since = now if stream.framer.kept else math.inf
        return True

    def drain(self, fd: int, now: float) -> None:
        """Read all that is in a pipe, and let go of it as at its end."""
        stream = self.streams[fd]
        for _ in range(DRAIN_READS):  # who writes without end is not waited for
            if not unread(fd):
                break
            self.read(fd, now)
        self._flush(stream, now, at_end=True)

    def relieve(self, now: float, reads: int) -> bool:
        """Work for a thread that is away: read so many times from each pipe, write no disk.

        Ends are left to it. Returns whether anything was read: there may soon be more.
        """
        self._put_all(now)
        for port in self._ports:
            if port.retry_at <= now and not port.is_out_of_reach:
                port.retry(now)
        since = self._outward.desk.away_since
        if self._relieved_at < since and self.is_written_to:
            self.note_held(since, held=True)
        if self.blocks_until() > now:
            return False
        self.note_held(now, held=False)
        self._relieved_at = now
        done = 0
        for fd in tuple(self.streams):
            for _ in range(reads):
                if not unread(fd):
                    break
                self.read(fd, now)
                done += 1
        return done > 0

    @property
    def is_written_to(self) -> bool:
        """Tell whether there is something to read."""
        return any(unread(fd) for fd in self.streams)

    def end(self, fd: int) -> None:
        """Close a pipe whose end has come, or that is to be waited for no longer."""
        stream = self.streams.pop(fd)
        os.close(fd)
        self._outward.say({"ended": [stream.ident]})

    def _flush(self, stream: Stream, now: float, *, at_end: bool) -> None:
        """Let go of the beginning of a line: the end of it is late, or never comes."""
        stream.kept_since = math.inf
        if stream.kept:
            kept, stream.kept = stream.kept, b""
            self._write_raw(stream, kept, now, torn=at_end)
        pieces = stream.framer.finish() if at_end else stream.framer.flush()
        self._take_pieces(stream, pieces, now)

    # -- as it is ---------------------------------------------------------------------------------

    def _take_raw(self, stream: Stream, data: bytes, now: float) -> None:
        """Write up to the last newline, so that two streams in one file do not mix lines."""
        end = data.rfind(b"\n") + 1
        if stream.kept:
            data, end = stream.kept + data, end and end + len(stream.kept)
        if end == len(data):
            stream.kept, stream.kept_since = b"", math.inf
        elif end or len(data) < self.spec.max_line:
            stream.kept, stream.kept_since = data[end:], now
            data = data[:end]
        else:  # no line is that long: it is binary, or somebody's fault
            stream.kept, stream.kept_since = b"", math.inf
        if data:
            self._write_raw(stream, data, now)

    def _write_raw(self, stream: Stream, data: bytes, now: float, *, torn: bool = False) -> None:
        wall = self._outward.clock.wall()
        whole = data + b"\n" if torn else data
        batch = Batch(self.service, stream.name, stream.run, stream.offset, wall, whole, torn=torn)
        stream.offset += len(data)
        self._ring.add(batch)
        origin = Origin(self.service, stream.name, stream.run, wall)
        for port in self._of_stream.get(stream.name, ()):
            self._to_put.append((port, data, origin, -1, len(data)))
        self._put_all(now)

    # -- in lines ---------------------------------------------------------------------------------

    def _take_pieces(self, stream: Stream, pieces: list[Piece], now: float) -> None:
        wall = self._outward.clock.wall()
        for whole in pieces:
            piece = self._filtered(stream, whole, now, wall)
            if piece is None:
                continue
            batch = Batch(
                self.service, stream.name, stream.run, stream.seq + 1, wall, piece.data,
                piece.partial, piece.torn,
            )  # fmt: skip
            stream.seq += piece.lines
            self._count("lines", piece.lines)
            self._ring.add(batch)
            self._look_for_ready(stream, piece)
            self._render(stream, batch, piece.lines)
        self._put_all(now)

    def _filtered(self, stream: Stream, piece: Piece, now: float, wall: float) -> Piece | None:
        passed = self._limit.admit(piece.lines, now)
        if passed < piece.lines:
            kept, gone = first_lines(piece, passed)
            if gone is not None:
                origin = Origin(self.service, stream.name, stream.run, wall)
                self._lost(Loss(origin, gone.lines, len(raw_of(gone)), "rate_limit"))
            if kept is None:
                return None
            piece = kept
        if self.spec.strip_ansi:
            piece = piece._replace(data=ansi.strip(piece.data))
        return piece

    def _look_for_ready(self, stream: Stream, piece: Piece) -> None:
        if self._pattern is None or self._ready_run >= stream.run or stream.name == "hook":
            return
        if self._searched_run != stream.run:
            self._searched_run, self._searched_s = stream.run, 0.0
        began = self._outward.clock.now()
        for line in piece.data[:-1].split(b"\n"):
            if self._pattern.search(line, 0, self.spec.ready_reach):
                self._ready_run = stream.run
                self._outward.say({"ready": self.service, "run": stream.run})
                return
            if self._outward.clock.now() - began + self._searched_s > READY_WITHIN_S:
                self._ready_run = stream.run  # it costs others too much: look no longer
                return
        self._searched_s += self._outward.clock.now() - began

    def _put_all(self, now: float) -> None:
        """Put what is to be put, in its order, whoever works here: a port may take a long time."""
        while self._to_put:
            port, data, origin, lines, size = self._to_put.popleft()
            port.put(data, origin, lines, size, now)

    def _render(self, stream: Stream, batch: Batch, lines: int) -> None:
        rendered: dict[Form, bytes] = {}
        origin = Origin(self.service, stream.name, stream.run, batch.wall)
        size = len(raw_of(batch))
        for port in self._of_stream.get(stream.name, ()):
            form = port.sink.form
            if form not in rendered:
                rendered[form] = render(batch, form)
            self._to_put.append((port, rendered[form], origin, lines, size))

    # -- what ports tell --------------------------------------------------------------------------

    def _count(self, word: str, amount: int) -> None:
        self._counters.add(self._slot, _WORD[word], amount)

    def _lost(self, loss: Loss) -> None:
        lines_word, bytes_word = _LOST[loss.reason]
        self._counters.add(self._slot, lines_word, loss.lines)
        self._counters.add(self._slot, bytes_word, loss.size)

    def _gap(self, gap: Dropped) -> None:
        self._outward.say(
            {
                "tell": "log.dropped",
                "service": self.service,
                "run": gap.run,
                "stream": gap.stream,
                "lines": gap.lines,
                "bytes": gap.size,
                "reason": gap.reason,
                "from": rfc3339(gap.begun),
                "to": rfc3339(gap.ended),
            }
        )

    def _failed(self, path: str, error: str) -> None:
        self._outward.say(
            {"tell": "log.write_failed", "service": self.service, "path": path, "error": error}
        )

    def _resumed(self, path: str, blocked_s: float) -> None:
        self._outward.say(
            {
                "tell": "log.resumed",
                "service": self.service,
                "path": path,
                "blocked_s": round(blocked_s, 3),
            }
        )

    def reopen(self, now: float) -> int:
        """Have the files reopened; return how many there were."""
        files = [port for port in self._ports if port.sink.device is not None]
        for port in files:
            port.reopen(now)
        return len(files)

    def abandon(self, now: float) -> None:
        """Count as lost what nobody will write any more: the thread that should is away."""
        self._put_all(now)
        for fd in tuple(self.streams):
            for _ in range(DRAIN_READS):
                if not unread(fd):
                    break
                self.read(fd, now)
        for port in self._ports:
            port.abandon()

    def close(self) -> None:
        """Let go of everything; what waits for a sink is lost, and counted."""
        for fd in tuple(self.streams):
            self.end(fd)
        for port in self._ports:
            port.close()
