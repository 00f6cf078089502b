"""The texts of a configuration, and the problems found in them, each at its place."""

import bisect
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from supervisord_pidfd.config.positions import Path, Places, Span
from supervisord_pidfd.config.problems import Problem, shown

MAX_PROBLEMS = 1000

START = Span(1, 1, 1)

_SENSITIVE = re.compile("PASSWORD|SECRET|TOKEN|KEY|AUTHORIZATION|COOKIE", re.IGNORECASE)
"""The last two are headers of requests."""
MASK = "…"


def is_sensitive(path: Path) -> bool:
    """Tell whether a value of this key path must not be shown."""
    if path == ("web", "token_file"):
        return False  # it only leads there
    return "secrets" in path or any(
        isinstance(part, str) and _SENSITIVE.search(part) for part in path
    )


class Source:
    """Hold one text of the configuration: a file, or one `--set`."""

    def __init__(self, name: str, directory: str, places: Places) -> None:
        """Take what was read; `directory` is absolute, relative paths start there."""
        self.name = name
        self.directory = directory
        self.places = places
        self.data: dict[str, Any] = {}
        self._hidden: list[tuple[int, int]] | None = None

    def shown(self, span: Span, *, broken: bool = False) -> tuple[str, int, int]:
        """Return the source line as it may be shown, with the caret's column and width.

        `broken` says that the text around is no TOML, so that places of values are not known.
        """
        line = self.places.line(span.line)
        start = self.places.offset(span.line)
        if broken:
            statement = self.places.statement_at(start + span.column - 1)
            if _SENSITIVE.search(line) or (statement and is_sensitive(statement.path)):
                equals = line.find("=") + 1
                return shown(line, span.column, 1, [(equals + 1, len(line) - equals)])
        masks = []
        hidden = self._sensitive()
        at = max(0, bisect.bisect_right(hidden, (start, 0)) - 1)
        while at < len(hidden) and hidden[at][0] < start + len(line):
            first = max(hidden[at][0], start)
            last = min(sum(hidden[at]), start + len(line))
            if first < last:
                masks.append((first - start + 1, last - first))
            at += 1
        return shown(line, span.column, span.length, masks)

    def _sensitive(self) -> list[tuple[int, int]]:
        """Return what must not be seen: offsets and lengths, in order, none inside another."""
        if self._hidden is None:
            self._hidden = []
            end = 0
            for path, offset, length in sorted(self.places.all_values(), key=lambda v: v[1:]):
                # A table is not hidden as such: its members are.
                is_table = self.places.text[offset : offset + 1] == "{"
                if offset >= end and not is_table and is_sensitive(path):
                    self._hidden.append((offset, length))
                    end = offset + length
        return self._hidden

    def place(self, span: Span) -> str:
        """Write a place of this source: `conf.d/b.toml:4:1`."""
        return f"{self.name}:{span.line}:{span.column}"


class Place(NamedTuple):
    """Hold a place in a source."""

    source: Source
    span: Span

    def __str__(self) -> str:
        return self.source.place(self.span)


class Report:
    """Collect problems, each at its place; what is found twice is told once."""

    def __init__(self) -> None:
        self.problems: set[Problem] = set()

    def error(  # noqa: PLR0913 - the members of a problem
        self, place: Place, code: str, message: str, *, key: Path = (), hint: str | None = None,
        see_also: Iterable[Place] = (), broken: bool = False,
    ) -> None:  # fmt: skip
        """Add an error; `broken` says that there is no knowing what else its line holds."""
        self._add("error", place, code, message, (key, hint, see_also), broken=broken)

    def warning(
        self, place: Place, code: str, message: str, *, key: Path = (), hint: str | None = None
    ) -> None:
        """Add a warning: a fact of this host, or a likely slip."""
        self._add("warning", place, code, message, (key, hint, ()))

    @property
    def is_full(self) -> bool:
        """Tell whether more would not be told: then there is no sense in wording it."""
        return len(self.problems) >= MAX_PROBLEMS

    def told_inside(self, path: Path) -> bool:
        """Tell whether something inside a table of a service is an error already."""
        options = [".".join(map(str, path)), ".".join(map(str, ("defaults", *path[2:])))]
        return any(
            problem.key and problem.key.startswith(f"{option}.")
            for problem in self.problems
            for option in options
            if problem.severity == "error"
        )

    def told_of(self, file: str) -> bool:
        """Tell whether there is an error in a file already."""
        return any(p.file == file and p.severity == "error" for p in self.problems)

    def outside(self, file: str, code: str, message: str) -> None:
        """Add an error about what cannot be shown, because it could not be read."""
        self.problems.add(Problem(file, 1, 1, "error", code, None, message))

    def _add(  # noqa: PLR0913 - the members of a problem
        self,
        severity: str,
        place: Place,
        code: str,
        message: str,
        about: tuple[Path, str | None, Iterable[Place]],
        *,
        broken: bool = False,
    ) -> None:
        if self.is_full:
            return
        source, span = place
        key, hint, see_also = about
        line, caret, width = source.shown(span, broken=broken)
        self.problems.add(
            Problem(
                source.name,
                span.line,
                span.column,
                severity,
                code,
                ".".join(map(str, key)) or None,
                message,
                hint,
                line,
                tuple(dict.fromkeys(map(str, see_also))),
                caret,
                width,
            ),
        )


def twice(path: Path) -> str:
    """Say that this was defined twice."""
    if len(path) == 2 and path[0] in {"service", "group"}:
        return f"{path[0]} '{path[1]}' is defined twice"
    return f"key '{'.'.join(map(str, path))}' is set twice"
