r"""Where each key, value and table header of a TOML text stands.

The values come from tomli; this scanner only tells where they are written, so it is tolerant: on
text that is no TOML it goes on with the next line, and it never raises but for the limits below.
It reads every text once, left to right, in time linear in its length; the limits keep tomli from
work that is not (a dotted key of 16,000 parts costs it a gigabyte).
"""

import bisect
import re
from typing import NamedTuple

MAX_DOTS = 64
MAX_DEPTH = 32
MAX_SCALAR = 1000

Path = tuple[str | int, ...]


class Span(NamedTuple):
    """Hold where something stands: line and column from 1, in characters, and its length."""

    line: int
    column: int
    length: int


class LimitError(ValueError):
    """Say that the text goes beyond a limit of this scanner, and where."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Statement(NamedTuple):
    """Hold one `key = value` or table header: its path, and where it begins and ends."""

    path: Path
    start: int
    end: int
    is_header: bool


_Range = tuple[int, int]  # offset and length: what is stored, as most are never asked for

_BLANK = re.compile(r"(?>[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""([A-Za-z0-9_-]+)|("(?>[^"\\\n]|\\[^\n])*")|('[^'\n]*')""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_STRING = re.compile(
    r'"""(?>[^"\\]+|\\.|"(?!""))*"{3,5}'
    r"|'''(?>[^']+|'(?!''))*'{3,5}"
    r'|(?!""")"(?>[^"\\\n]|\\[^\n])*"'
    r"|(?!''')'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^\n,\]}#]*")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class Places:
    """Map the key paths of one text to the places where they are written."""

    def __init__(self, text: str) -> None:
        """Scan the text.

        Raises:
            LimitError: A key of too many parts, too deep a nesting, or too long a number.
        """
        self.text = text
        self.statements: list[Statement] = []
        self.duplicates: list[tuple[Path, Span, Span]] = []
        self._keys: dict[Path, _Range] = {}
        self._values: dict[Path, _Range] = {}
        self._headers: dict[Path, _Range] = {}
        self._elements: dict[Path, int] = {}
        self._again: list[tuple[Path, _Range]] = []
        self._second: list[int] = []  # numbers of the statements that define a thing again
        self._line_starts: list[int] = []
        self._scan()

    # -- what is asked ----------------------------------------------------------------------------

    def key(self, path: Path) -> Span | None:
        """Return where the last part of this key path is first named."""
        return self._span(self._keys.get(path))

    def value(self, path: Path) -> Span | None:
        """Return where the value of this key path, or this element of a list, is written."""
        return self._span(self._values.get(path))

    def header(self, path: Path) -> Span | None:
        """Return where the table header `[path]` stands, brackets included."""
        return self._span(self._headers.get(path))

    def table(self, path: Path) -> Span | None:
        """Return the best place for a table: its header, its key, or the first one inside it."""
        place = self._headers.get(path) or self._keys.get(path) or self._values.get(path)
        if place is None:
            inside = (p for p in self._headers if p[: len(path)] == path)
            place = self._headers.get(next(inside, path))
        return self._span(place)

    def is_header_at(self, span: Span) -> bool:
        """Tell whether a table header begins there."""
        return self.text.startswith("[", self.offset(span.line) + span.column - 1)

    def paths(self) -> set[Path]:
        """Return every key path that has a value: keys and elements of lists, at all depths."""
        return set(self._values)

    def place(self, offset: int, length: int = 1) -> Span:
        """Turn an offset into the text to line and column."""
        if not self._line_starts:
            self._line_starts = [0, *(m.end() for m in re.finditer("\n", self.text))]
        line = bisect.bisect_right(self._line_starts, offset)
        return Span(line, offset - self._line_starts[line - 1] + 1, length)

    def offset(self, line: int) -> int:
        """Return the offset at which a line, counted from 1, begins."""
        self.place(0)
        return self._line_starts[min(line, len(self._line_starts)) - 1]

    def line(self, number: int) -> str:
        """Return one line of the text, without its end; empty if there is no such line."""
        self.place(0)
        if number > len(self._line_starts):
            return ""
        start = self._line_starts[number - 1]
        end = self.text.find("\n", start)
        return (self.text[start:] if end < 0 else self.text[start:end]).removesuffix("\r")

    def statement_at(self, offset: int) -> Statement | None:
        """Return the statement that begins last before this offset."""
        index = bisect.bisect_right(self.statements, offset, key=lambda s: s.start) - 1
        return self.statements[index] if index >= 0 else None

    def all_values(self) -> list[tuple[Path, int, int]]:
        """Return (path, offset, length) of every value, those of duplicates too."""
        return [(path, *place) for path, place in (*self._values.items(), *self._again)]

    def repeated(self) -> list[tuple[int, int]]:
        """Return the ranges to leave out, so that nothing is defined twice.

        A header that is there again goes with all that stands under it.
        """
        ranges = []
        for number in self._second:
            start, end = self.statements[number].start, self.statements[number].end
            if self.statements[number].is_header:
                below = self.statements[number + 1 :]
                end = next((s.start for s in below if s.is_header), len(self.text))
            ranges.append((start, end))
        return ranges

    def over(self, text: str) -> "Places":
        """Tell lines and columns of a text that was not scanned, because it cannot be."""
        self.text = text
        return self

    def _span(self, place: _Range | None) -> Span | None:
        if place is None:
            return None
        span = self.place(*place)
        # A value may go over several lines: the carets stay on its first.
        end = self.text.find("\n", place[0], place[0] + place[1])
        return span if end < 0 else span._replace(length=max(1, end - place[0]))

    # -- the scan ---------------------------------------------------------------------------------

    def _scan(self) -> None:
        text, at = self.text, 0
        table: Path = ()
        while True:
            at = _skip(_BLANK, text, at)
            if at >= len(text):
                return
            start = at
            if text[at] == "[":
                at, path = self._header(at)
                if path is not None:
                    table = path
            else:
                at, path = self._assignment(at, table, 0)
            if path is not None:
                self.statements.append(Statement(path, start, at, text[start] == "["))
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1

    def _header(self, start: int) -> tuple[int, Path | None]:
        text = self.text
        brackets = 2 if text.startswith("[[", start) else 1
        at, parts = self._dotted(_skip(_SPACE, text, start + brackets))
        at = _skip(_SPACE, text, at)
        if not parts or not text.startswith("]" * brackets, at):
            return at, None
        end = at + brackets
        path: Path = ()
        for index, (name, offset, length) in enumerate(parts):
            path = (*path, name)
            self._keys.setdefault(path, (offset, length))
            if path in self._elements and (brackets == 1 or index < len(parts) - 1):
                path = (*path, self._elements[path] - 1)
        if brackets == 2:
            number = self._elements.get(path, 0)
            self._elements[path] = number + 1
            path = (*path, number)
        self._define(self._headers, path, (start, end - start))
        return end, path

    def _assignment(self, start: int, table: Path, depth: int) -> tuple[int, Path | None]:
        at, parts = self._dotted(start)
        equals = _EQUALS.match(self.text, at)
        if not parts or not equals:
            return at, None
        path = table
        for name, offset, length in parts:
            path = (*path, name)
            self._keys.setdefault(path, (offset, length))
        name_at = parts[-1][1], parts[-1][2]
        if path in self._values or path in self._headers:
            first = self._keys[path] if path in self._values else self._headers[path]
            self._duplicate(path, first, name_at)
        end = self._value(equals.end(), path, depth)
        return end, path

    def _dotted(self, at: int) -> tuple[int, list[tuple[str, int, int]]]:
        """Read a key of one or more parts; return where it ends and (name, offset, length)s."""
        parts: list[tuple[str, int, int]] = []
        start = at
        while match := _KEY.match(self.text, at):
            bare, basic, literal = match.groups()
            name = bare or (_unescaped(basic[1:-1]) if basic else literal[1:-1])
            parts.append((name, at, match.end() - at))
            at = match.end()
            dot = _DOT.match(self.text, at)
            if not dot:
                break
            if len(parts) > MAX_DOTS:
                raise LimitError(f"a key of more than {MAX_DOTS} dots", start)
            at = dot.end()
        return at, parts

    def _value(self, start: int, path: Path, depth: int) -> int:
        text = self.text
        first = text[start : start + 1]
        if first in {'"', "'"}:
            match = _STRING.match(text, start)
            end = match.end() if match else self._unterminated(start)
        elif first in {"[", "{"}:
            if depth >= MAX_DEPTH:
                raise LimitError(f"nested deeper than {MAX_DEPTH} brackets", start)
            read = self._array if first == "[" else self._inline_table
            end = read(start + 1, path, depth + 1)
        else:
            end = start + len(_SCALAR.match(text, start)[0].rstrip())  # type: ignore[index]
            if end - start > MAX_SCALAR:
                raise LimitError(f"a value of more than {MAX_SCALAR} characters", start)
        self._define(self._values, path, (start, end - start))
        return end

    def _unterminated(self, start: int) -> int:
        multi_line = self.text.startswith(('"""', "'''"), start)
        end = -1 if multi_line else self.text.find("\n", start)
        return len(self.text) if end < 0 else end

    def _array(self, at: int, path: Path, depth: int) -> int:
        text, number = self.text, 0
        while True:
            at = _skip(_BLANK, text, at)
            if text.startswith("]", at):
                return at + 1
            end = self._value(at, (*path, number), depth)
            number += 1
            after = _skip(_BLANK, text, end)
            if not text.startswith(",", after):
                return after + 1 if text.startswith("]", after) else end
            at = after + 1

    def _inline_table(self, at: int, path: Path, depth: int) -> int:
        text = self.text
        while True:
            at = _skip(_BLANK, text, at)
            if text.startswith("}", at):
                return at + 1
            end, found = self._assignment(at, path, depth)
            if found is None:
                return end
            after = _skip(_BLANK, text, end)
            if not text.startswith(",", after):
                return after + 1 if text.startswith("}", after) else end
            at = after + 1

    def _define(self, where: dict[Path, _Range], path: Path, place: _Range) -> None:
        if where is self._headers and (path in where or path in self._values):
            first = where.get(path) or self._keys.get(path) or self._values[path]
            self._duplicate(path, first, place)
        if where.setdefault(path, place) is not place and where is self._values:
            self._again.append((path, place))

    def _duplicate(self, path: Path, first: _Range, second: _Range) -> None:
        self.duplicates.append((path, self.place(*first), self.place(*second)))
        self._second.append(len(self.statements))  # the one being read comes next


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    if match[3] is not None:
        return _ESCAPED.get(match[3], match[3])
    code = int(match[1] or match[2], 16)
    return chr(code) if code < 0x110000 else "\ufffd"
