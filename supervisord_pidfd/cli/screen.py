"""What people see: text made safe, moments and lengths, tables that fit, colour on the phase."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

Row = Sequence[str]

_RESET = "\x1b[0m"
_COLOURS = {
    "running": "\x1b[32m", "starting": "\x1b[33m", "stopping": "\x1b[33m", "waiting": "\x1b[33m",
    "backoff": "\x1b[33m", "failed": "\x1b[31m",
}  # fmt: skip


class Screen:
    """Write to standard output and standard error, as far as the options and the terminal allow.

    `width` is the terminal's; None for a pipe, where nothing is cut.
    """

    def __init__(  # noqa: PLR0913 - three are switches
        self,
        out: TextIO,
        err: TextIO,
        environment: Mapping[str, str],
        *,
        as_json: bool = False,
        no_color: bool = False,
        quiet: bool = False,
    ) -> None:
        self._out, self._err = out, err
        self.terminal = out.isatty()
        self.colour = self.terminal and not no_color and not environment.get("NO_COLOR")
        self.as_json, self.quiet = as_json, quiet

    @property
    def width(self) -> int | None:
        """Return the columns of the terminal."""
        return self.size()[0] if self.terminal else None

    def size(self) -> tuple[int, int]:
        """Return columns and rows of the terminal; the usual ones where it has none."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24

    def line(self, text: str = "") -> None:
        """Print a line for people, at once."""
        if not self.quiet and not self.as_json:
            self.write(text + "\n")

    def lines(self, lines: Sequence[str]) -> None:
        """Print lines for people."""
        if lines and not self.quiet and not self.as_json:
            self.write("\n".join(lines) + "\n")

    def object(self, value: Any) -> None:
        """Print one line of JSON."""
        self.write(json.dumps(value, separators=(",", ":")) + "\n")

    def frame(self, reply: Mapping[str, Any]) -> None:
        """Print a reply as one line of JSON, if that is what is asked for."""
        if self.as_json:
            self.object({"format": 1, **reply})

    def write(self, text: str) -> None:
        """Write as it is, at once."""
        self._out.write(text)
        self._out.flush()

    def as_written(self, written: str | bytes, end: str) -> None:
        """Write what a service wrote; bytes that are no text, too, where there is a way."""
        if self.quiet:
            return
        binary = getattr(self._out, "buffer", None)
        if isinstance(written, str) or binary is None:
            shown = written if isinstance(written, str) else written.decode("utf-8", "replace")
            self.write(shown + end)
            return
        self._out.flush()
        binary.write(written + end.encode())
        binary.flush()

    def control(self, sequence: str) -> None:
        """Write a control sequence past the buffer, for a signal may come while that is busy."""
        os.write(self._out.fileno(), sequence.encode())

    def error(self, text: str) -> None:
        """Print an error."""
        self._err.write(f"pidfdctl: {text}\n")
        self._err.flush()

    def end_of_line(self) -> None:
        """Go to a line of our own: the terminal has echoed the ^C that ended us."""
        if self._err.isatty():
            self._err.write("\n")

    def warn(self, text: str) -> None:
        """Print a line of bad news that is not ours: an outcome, a problem of a file."""
        if not self.as_json:
            self._err.write(text + "\n")
            self._err.flush()

    def phase(self, word: str, shown: str | None = None) -> str:
        """Colour a phase; `shown` is the word with its padding."""
        shown = word if shown is None else shown
        on = _COLOURS.get(word) if self.colour else None
        return f"{on}{shown}{_RESET}" if on else shown

    def table(
        self, titles: Row | None, rows: Sequence[Row], phase: int | None = None
    ) -> list[str]:
        """Lay out a table: two spaces between columns, the last one cut at the terminal's edge.

        `phase` is the column that is coloured.
        """
        safe = [[escape(cell) for cell in row] for row in rows]
        every = [list(titles), *safe] if titles is not None else safe
        if not every:
            return []
        wide = [max(map(_cells, column)) for column in zip(*every, strict=True)][:-1]
        edge = self.width
        room = None if edge is None else max(edge - sum(wide) - 2 * len(wide), 8)
        lines = [self._row(row, wide, room, phase) for row in safe]
        return lines if titles is None else [self._row(every[0], wide, room, None), *lines]

    def _row(self, row: list[str], wide: list[int], room: int | None, phase: int | None) -> str:
        last = row[-1] if room is None else cut(row[-1], room)
        cells = [text + " " * (size - _cells(text)) for text, size in zip(row, wide, strict=False)]
        if phase is not None and phase < len(cells):
            cells[phase] = self.phase(row[phase], cells[phase])
        elif phase is not None:
            last = self.phase(row[phase], last)
        return "  ".join([*cells, last]).rstrip()


def standard_screen(
    *, as_json: bool = False, no_color: bool = False, quiet: bool = False
) -> Screen:
    """Make the screen of this process. What its encoding lacks is escaped, not an error."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - kept to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - kept to the end
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return Screen(
        sys.stdout, sys.stderr, os.environ, as_json=as_json, no_color=no_color, quiet=quiet
    )


# -- text -----------------------------------------------------------------------------------------


def escape(text: str, keep: str = "") -> str:
    r"""Write every byte of what cannot be printed as `\xNN`, but for the characters of `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _hex(c) for c in text)


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


def _cells(text: str) -> int:
    """Count the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - rarely needed

    return sum(0 if combining(c) else 2 if east_asian_width(c) in {"W", "F"} else 1 for c in text)


def cut(text: str, room: int) -> str:
    """Cut a text to so many columns, with a mark where it was cut."""
    if _cells(text) <= room:
        return text
    while text and _cells(text) > room - 1:
        text = text[:-1]
    return text + "…"


# -- moments and lengths --------------------------------------------------------------------------


def moment(text: object) -> float | None:
    """Return the Unix seconds of an RFC 3339 moment in UTC; None if it is none."""
    try:
        word = str(text)
        year, month, day = int(word[:4]), int(word[5:7]), int(word[8:10])
        hour, minute, second = int(word[11:13]), int(word[14:16]), float(word[17:].rstrip("Z"))
    except ValueError:
        return None
    return _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Count the days since 1970 (datetime would cost 3 ms at every start)."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def local(text: object, form: str = "%H:%M:%S") -> str:
    """Write a moment in local time; `-` for none."""
    at = moment(text)
    return "-" if at is None else time.strftime(form, time.localtime(at))


def clock_time(text: object) -> str:
    """Write the local time of day with milliseconds."""
    at = moment(text)
    if at is None:
        return "--:--:--.---"
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{round(at % 1 * 1000) % 1000:03d}"


_UNITS = ((86400, "d", "h", 3600), (3600, "h", "m", 60), (60, "m", "s", 1))


def length(seconds: float | None, *, fine: bool = False) -> str:
    """Write a length in two units: `3d 04h`, `12m 12s`, `42s`; with `fine` also `0.4s`."""
    if seconds is None:
        return "-"
    if fine and seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = max(0, round(seconds) if fine else int(seconds))
    for size, big, small, part in _UNITS:
        if whole >= size:
            return f"{whole // size}{big} {whole % size // part:02d}{small}"
    return f"{whole}s"


def ago(text: object, now: float) -> str:
    """Write a moment with its age: `14:02:11 (3s ago)`; with the date if it is another day."""
    at = moment(text)
    if at is None:
        return "-"
    form = "%H:%M:%S" if abs(now - at) < 86400 else "%Y-%m-%d %H:%M:%S"
    age = f"in {length(at - now)}" if at > now + 1 else f"{length(now - at)} ago"
    return f"{local(text, form)} ({age})"


def size(amount: float | None) -> str:
    """Write an amount of bytes: `88 MB`, `1.2 GB`."""
    if amount is None:
        return "-"
    units = ["B", "KB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        del units[0]
    fine = amount < 9.95 and units[0] not in {"B", "KB"}
    return f"{amount:.1f} {units[0]}" if fine else f"{amount:.0f} {units[0]}"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun: `1 service`, `2 services`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
