"""Where something stood in the file that is converted, and what is wrong with that file."""

import os
from collections.abc import Callable
from typing import NamedTuple

from supervisord_pidfd.errors import SupervisordError

MAX_FILE = 1 << 20


class SourceError(SupervisordError):
    """Tell the user that a file is not what it claims to be; the text names file and line."""


class Option(NamedTuple):
    """Hold one setting of the source: its place, its name, and its value as it stands there.

    `within` is the section for people, such as `program:web`.
    """

    file: str
    line: int
    name: str
    value: str
    within: str = ""

    @property
    def place(self) -> str:
        """Return `FILE:LINE`."""
        return f"{self.file}:{self.line}"

    @property
    def label(self) -> str:
        """Name it in a message, without its value, which may be secret."""
        return f"[{self.within}] {self.name}" if self.within else self.name


def read_text(path: str) -> str:
    """Read a whole file.

    Raises:
        SourceError: It cannot be read, is larger than 1 MiB, or is no text.
    """
    try:
        # A FIFO would have us wait for whoever writes it.
        with open(path, "rb", opener=_opener) as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from None
    if len(data) > MAX_FILE:
        raise SourceError(f"cannot read {path}: it is larger than 1 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}:{line}: not UTF-8") from None
    if "\0" in text:
        raise SourceError(f"{path}:{text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL")
    return text


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)


def one_of(value: str, words: dict[str, bool]) -> bool | None:
    """Return what a word means, in any case; None if it means nothing."""
    return words.get(value.strip().lower())


YES_NO = {
    "yes": True, "true": True, "on": True, "1": True, "y": True, "t": True,
    "no": False, "false": False, "off": False, "0": False, "n": False, "f": False,
}  # fmt: skip


def number(value: str, low: int = 0, high: int = 2**31 - 1) -> int | None:
    """Return the whole number that a text is, in a range; None if it is none."""
    text = value.strip()
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20:
        return None
    found = int(text)
    return found if low <= found <= high else None


Reader = Callable[[str], str]
"""Reads a file as `read_text` does; tests hand in their own."""
