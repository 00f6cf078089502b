"""Environment files and secrets: read when the configuration is loaded, never at a start."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

MAX_FILE = 1 << 20

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*", re.ASCII)
_DOUBLE = re.compile(r'"((?>[^"\\]+|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_PLAIN = re.compile(r"(?>[^\s\\'\"]+|\\.|[ \t]+(?=[^#\s]))*", re.DOTALL)


class UnreadableError(Exception):
    """Say why a file gives no variables; `error` is an errno name."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


class Secret(NamedTuple):
    """Hold the content of a secret, and whether anybody on the host can read its file."""

    value: str
    world_readable: bool


class Content(NamedTuple):
    """Hold the bytes of a file, and its mode."""

    data: bytes
    mode: int


def parse_variables(text: str) -> dict[str, str]:
    """Parse the content of an environment file.

    Raises:
        UnreadableError: A line is no assignment.
    """
    variables: dict[str, str] = {}
    at, line = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        begun = text[at:end].lstrip()
        if begun and not begun.startswith("#"):
            start = end - len(text[at:end].lstrip())
            name, value, stop = _assignment(text, start, line)
            variables[name] = value
            line += text.count("\n", at, stop)
            at = stop
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
        at = end + 1
        line += 1
    return variables


def _assignment(text: str, start: int, line: int) -> tuple[str, str, int]:
    match = _NAME.match(text, start)
    if match is None:
        raise UnreadableError("EINVAL", f"line {line} is not KEY=VALUE")
    at = match.end()
    pieces: list[str] = []
    while at < len(text) and text[at] not in "\r\n":
        if text[at] == '"':
            piece = _DOUBLE.match(text, at)
            value = re.sub(r'\\(["\\$`\n])', r"\1", piece[1]).replace("\\n", "\n") if piece else ""
        elif text[at] == "'":
            piece = _SINGLE.match(text, at)
            value = piece[1] if piece else ""
        else:
            piece = _PLAIN.match(text, at)
            value = re.sub(r"\\(.)", r"\1", piece[0]) if piece else ""
        if piece is None:
            raise UnreadableError("EINVAL", f"line {line}: a quote is not closed")
        if piece.end() == at:  # blank to the end of the line, or a comment after a blank
            break
        pieces.append(value)
        at = piece.end()
    rest = re.compile(r"[ \t\r]*(?:#[^\n]*)?").match(text, at)
    at = rest.end() if rest else at
    value = "".join(pieces)
    if "\0" in value:
        raise UnreadableError("EINVAL", f"line {line} has a NUL character")
    return match[1], value, at


def secret_of(content: Content) -> Secret:
    """Take a secret from the content of its file; one final newline is removed.

    Raises:
        UnreadableError: It has a NUL, which no variable can hold.
    """
    text = _text(content.data).removesuffix("\n")
    if "\0" in text:
        raise UnreadableError("EINVAL", "it has a NUL character")
    return Secret(text, bool(content.mode & stat.S_IROTH))


def variables_of(content: Content) -> dict[str, str]:
    """Parse the content of an environment file.

    Raises:
        UnreadableError: A line is no assignment.
    """
    return parse_variables(_text(content.data))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def read(path: str) -> Content:
    """Read a file that holds variables or a secret.

    Raises:
        UnreadableError: It cannot be read, is no regular file, or larger than 1 MiB.
    """
    try:
        # O_NONBLOCK, because opening a FIFO would wait for somebody to write.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            return _read(fd)
        finally:
            os.close(fd)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise UnreadableError(name, (error.strerror or name).lower()) from None


def _read(fd: int) -> Content:
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableError("EISDIR", "it is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("EINVAL", "it is not a regular file")
    if status.st_size > MAX_FILE:
        raise UnreadableError("EFBIG", "it is larger than 1 MiB")
    pieces = []
    left = MAX_FILE + 1  # a file of /proc says it has no size
    while left > 0 and (piece := os.read(fd, min(left, 1 << 18))):
        pieces.append(piece)
        left -= len(piece)
    return Content(b"".join(pieces), status.st_mode)


# -- where reading may hang -----------------------------------------------------------------------

RunApart = Callable[[Callable[[], bytes]], bytes | None]
"""Runs a function in a process of its own; returns its bytes, or None if it took too long."""


def reader(may_hang: Callable[[str], bool], run: RunApart) -> Callable[[str], Content]:
    """Make a function that reads a file, aside where its filesystem may not answer."""
    return lambda path: read_apart(path, run) if may_hang(path) else read(path)


def read_apart(path: str, run: RunApart) -> Content:
    """Read a file on a filesystem that may not answer, in a process that can be given up.

    Raises:
        UnreadableError: As `read`; ETIMEDOUT if there was no answer.
    """
    answer = run(lambda: _packed(path))
    if not answer:
        raise UnreadableError("ETIMEDOUT", "its filesystem does not answer")
    head, _, data = answer.partition(b"\n")
    found = json.loads(head)
    if "error" in found:
        raise UnreadableError(found["error"], found["message"])
    return Content(data, found["mode"])


def _packed(path: str) -> bytes:
    try:
        content = read(path)
    except UnreadableError as error:
        return json.dumps({"error": error.error, "message": error.message}).encode() + b"\n"
    return json.dumps({"mode": content.mode}).encode() + b"\n" + content.data
