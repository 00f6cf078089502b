"""Text between two worlds: what the source fills in stands as a mark until words are split.

A value such as `%(ENV_PORT)s` or `${PORT}` becomes a mark of plain letters, so that the splitting
into words and the removal of quotes do with it what the source's own supervisor does with a word.
Afterwards each mark becomes a `${}` of ours, and every `$` of the rest is written so that it stays
one.
"""

import re
import shlex
from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_DOLLAR = re.compile(r"\$(?=[${]|$)", re.DOTALL)
_PLAIN = re.compile(r"(?:[A-Za-z0-9_./:=@%+,^~-]|\$\{[A-Za-z0-9_.]+\})+")


class NotConvertibleError(ValueError):
    """Say why a value cannot be said in our file; the text never holds the value."""


def literal(text: str) -> str:
    """Write a text where `${}` is filled in, so that it means itself."""
    return _DOLLAR.sub("$$", text)


def is_name(text: str) -> bool:
    """Tell whether this can stand inside `${}`."""
    return _NAME.fullmatch(text) is not None


class Marks:
    """Hold what the marks in a text stand for: each a text of ours, such as `${PORT}`."""

    def __init__(self, text: str) -> None:
        """Choose marks that do not occur in this text."""
        self._prefix = "mark"
        while self._prefix in text:
            self._prefix += "k"
        self._meant: list[str] = []
        self._pattern = re.compile(f"{self._prefix}([0-9]+)x")

    def add(self, meant: str) -> str:
        """Return the mark for a text that is to be filled in."""
        self._meant.append(meant)
        return f"{self._prefix}{len(self._meant) - 1}x"

    def within(self, text: str) -> bool:
        """Tell whether there is a mark in a text."""
        return self._pattern.search(text) is not None

    def meant_in(self, text: str) -> list[str]:
        """Return what the marks in a text stand for."""
        return [self._meant[int(index)] for index in self._pattern.findall(text)]

    def fill(self, text: str) -> str:
        """Return the text as it is written in our file, where `${}` is filled in."""
        pieces = self._pattern.split(text)
        for index, piece in enumerate(pieces):
            pieces[index] = self._meant[int(piece)] if index % 2 else literal(piece)
        return "".join(pieces)

    def plain(self, text: str) -> str:
        """Return a text that stands where nothing is filled in.

        Raises:
            NotConvertibleError: There is a mark in it.
        """
        if self.within(text):
            raise NotConvertibleError("a variable cannot stand here")
        return text


def command(words: Sequence[str]) -> str | list[str]:
    """Return the value of a command: a line, if that is what people would write; else a list."""
    if words and all(map(_PLAIN.fullmatch, words)):
        return " ".join(words)
    return list(words)


def shell(script: str) -> list[str]:
    """Return the command that has a shell run a script, in which no `${}` is ours."""
    return ["/bin/sh", "-c", literal(script)]


def split(text: str) -> list[str]:
    """Split a text into words by the rules of a shell.

    Raises:
        NotConvertibleError: A quote is not closed, or there is no word.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise NotConvertibleError(f"cannot be split into words: {str(error).lower()}") from None
    if not words or not words[0]:
        raise NotConvertibleError("there is no command")
    return words


_NOT_IN_NAMES = re.compile("[^A-Za-z0-9_-]")


class Names:
    """Give out names of services: as close to the wish as they may be, and none twice."""

    def __init__(self) -> None:
        self._given: set[str] = {"all"}

    def give(self, wish: str) -> str:
        """Return the name for this wish."""
        name = _NOT_IN_NAMES.sub("-", wish).lstrip("_-")[:60] or "service"
        found, number = name, 2
        while found in self._given:
            found, number = f"{name}-{number}", number + 1
        self._given.add(found)
        return found
