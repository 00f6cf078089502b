"""What is wrong with a configuration, and how a person is told."""

from collections.abc import Iterable
from typing import Any, NamedTuple

WINDOW = 160
"""Characters of a source line that are shown; a longer one is cut around the place."""


class Problem(NamedTuple):
    """Hold one problem; the members up to `see_also` are those of the control interface.

    `source` is the line as it may be shown (secrets masked, control characters escaped), and
    `caret` and `width` say which characters of it are meant. `line` and `column` count from 1, in
    characters of the file.
    """

    file: str
    line: int
    column: int
    severity: str
    code: str
    key: str | None
    message: str
    hint: str | None = None
    source: str | None = None
    see_also: tuple[str, ...] = ()
    caret: int = 1
    width: int = 1


def as_json(problem: Problem) -> dict[str, Any]:
    """Return the problem in the shape of the control interface."""
    members = problem._asdict()
    del members["caret"], members["width"]
    members["see_also"] = list(problem.see_also)
    return members


def has_errors(problems: Iterable[Problem]) -> bool:
    """Tell whether any of them forbids using the configuration."""
    return any(problem.severity == "error" for problem in problems)


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by file, line and column, and drop what was found twice."""
    return tuple(sorted(set(problems), key=_place))


def _place(problem: Problem) -> tuple[str, int, int, str, str]:
    return problem.file, problem.line, problem.column, problem.code, problem.message


def render(problems: Iterable[Problem]) -> str:
    """Write problems as text: each with its place, source line and carets, then the counts."""
    problems = list(problems)
    errors = sum(problem.severity == "error" for problem in problems)
    files = len({problem.file for problem in problems})
    counts = (
        f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}"
        f" in {counted(files, 'file')}\n"
    )
    return "".join(map(_rendered, problems)) + counts


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rendered(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    place = f"{problem.file}:{problem.line}:{problem.column}"
    lines = [
        escaped(f"{place}: {problem.severity}: {problem.message}{hint} [{problem.code}]"),
    ]
    if problem.source is not None:
        margin = f"{problem.line:>5} | "
        # A tab stays a tab, so that the carets stand below their characters.
        lead = "".join("\t" if c == "\t" else " " for c in problem.source[: problem.caret - 1])
        lines += [margin + problem.source, f"{'':>5} | {lead}{'^' * problem.width}"]
    lines += [escaped(f"see also {other}") for other in problem.see_also]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Write out control characters, which a name of a file or a value may bring along."""
    return text if text.isprintable() else "".join(map(_visible, text))


def shown(
    line: str, column: int, width: int, masks: Iterable[tuple[int, int]] = ()
) -> tuple[str, int, int]:
    """Make a source line fit to be shown; return it with the caret's column and width.

    `masks` are (first column, length) of what must not be seen; each becomes `"…"`.
    """
    pieces: list[str] = []
    places: list[int] = []  # where each character of the line begins in what is shown
    hidden = {first: length for first, length in masks if length}
    at = 0
    skip_to = 0
    for index, character in enumerate(line, start=1):
        places.append(at)
        if index < skip_to:
            continue
        if index in hidden:
            piece = '"…"'
            skip_to = index + hidden[index]
        else:
            piece = _visible(character)
        pieces.append(piece)
        at += len(piece)
    places.append(at)
    text = "".join(pieces)
    first = places[min(column, len(places)) - 1]
    last = places[min(column + width, len(places)) - 1]
    return _window(text, first, max(1, last - first))


def _visible(character: str) -> str:
    """Return the character, or how a control character is written."""
    if character == "\t" or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _window(text: str, first: int, width: int) -> tuple[str, int, int]:
    if len(text) <= WINDOW:
        return text, first + 1, min(width, max(1, len(text) - first))
    start = max(0, first - WINDOW // 2)
    cut = ("…" if start else "") + text[start : start + WINDOW]
    caret = first - start + (1 if start else 0)
    if start + WINDOW < len(text):
        cut += "…"
    return cut, caret + 1, max(1, min(width, len(cut) - caret))
