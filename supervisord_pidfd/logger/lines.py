"""Cut what services write into lines; never do anything line by line.

A read of 64 KiB has hundreds of lines. What is asked of all of them at once is asked of the bytes
object as a whole, in C: the costs are per read, and per line that is too long.
"""

from typing import NamedTuple

UTF8_MAX_BYTES = 4
SAMPLE_BYTES = 512
SHORT_LINE_BYTES = 32


class Piece(NamedTuple):
    r"""Hold some lines of one stream, each ended by a newline.

    `partial`: the last one is not at its end, more of it follows in the next piece. `torn`: it
    was cut off by the end of the stream. In both cases its newline is ours, see `raw_of`.
    """

    data: bytes
    lines: int
    partial: bool = False
    torn: bool = False


class Batch(NamedTuple):
    """Hold some lines of one run, for sinks and ring; `data`, `partial`, `torn` as in `Piece`.

    `seq` is the number of its first line in the run, `wall` the time of the read (Unix seconds).
    """

    service: str
    stream: str
    run: int
    seq: int
    wall: float
    data: bytes
    partial: bool = False
    torn: bool = False


def raw_of(piece: Piece | Batch) -> bytes:
    """Return the bytes as the service wrote them, without a newline of ours."""
    return piece.data[:-1] if piece.partial or piece.torn else piece.data


def count_lines(data: bytes) -> int:
    """Count the newlines.

    bytes.count looks at every byte; replace goes from one to the next by memchr(3), which is more
    than twice as fast, unless they are close together.
    """
    if data.count(b"\n", 0, SAMPLE_BYTES) > SAMPLE_BYTES // SHORT_LINE_BYTES:
        return data.count(b"\n")
    return len(data) - len(data.replace(b"\n", b""))


class Framer:
    """Cut one stream into lines of at most `max_line` bytes; bytes in, pieces out.

    At most `max_line` bytes are kept between two calls: the beginning of a line.
    """

    def __init__(self, max_line: int) -> None:
        self._max = max(max_line, UTF8_MAX_BYTES)
        self._kept = b""

    @property
    def kept(self) -> int:
        """Say how many bytes of an unfinished line are held."""
        return len(self._kept)

    @property
    def max_line(self) -> int:
        """Say at which length lines are split; a new value holds from the next read on."""
        return self._max

    @max_line.setter
    def max_line(self, size: int) -> None:
        self._max = max(size, UTF8_MAX_BYTES)

    def feed(self, data: bytes) -> list[Piece]:
        """Take what was read; return what can be written."""
        if self._kept:
            data = self._kept + data
        whole = data.rfind(b"\n") + 1
        pieces: list[Piece] = []
        start = done = 0
        while len(data) - start > self._max:
            # All lines up to the last newline of this window are short enough.
            end = data.rfind(b"\n", start, start + self._max + 1) + 1
            if end:
                start = end
                continue
            if done < start:
                pieces.append(self._piece(data[done:start]))
            cut = _between_characters(data, start, start + self._max)
            pieces.append(self._piece(data[start:cut] + b"\n", partial=True))
            start = done = cut
        if done < whole:
            pieces.append(self._piece(data[done:whole]))  # no copy, if that is all of it
            done = whole
        self._kept = data[done:]
        return pieces

    def flush(self) -> list[Piece]:
        """Give away the beginning of a line that has been waiting for its end for too long."""
        return self._rest(partial=True)

    def finish(self) -> list[Piece]:
        """Give away what the end of the stream has cut off."""
        return self._rest(partial=False)

    def _rest(self, *, partial: bool) -> list[Piece]:
        data, self._kept = self._kept, b""
        if not data:
            return []
        return [Piece(data + b"\n", 1, partial=partial, torn=not partial)]

    def _piece(self, data: bytes, *, partial: bool = False) -> Piece:
        return Piece(data, 1 if partial else count_lines(data), partial=partial)


def _between_characters(data: bytes, start: int, cut: int) -> int:
    """Move a cut back so that it does not divide a character; not, if there is none there."""
    for back in range(UTF8_MAX_BYTES):
        at = cut - back
        if at <= start:
            break
        if data[at] & 0xC0 != 0x80:  # no byte that continues a character
            return at
    return cut


def first_lines(piece: Piece, count: int) -> tuple[Piece | None, Piece | None]:
    """Divide a piece after so many lines; either half is None if it is empty."""
    if count <= 0:
        return None, piece
    if count >= piece.lines:
        return piece, None
    *_, rest = piece.data.split(b"\n", count)
    head = piece.data[: len(piece.data) - len(rest)]
    return Piece(head, count), piece._replace(data=rest, lines=piece.lines - count)
