"""Environment files and secrets: read when the configuration is loaded, never at a start."""

import errno
import os
import re
import stat
from typing import NamedTuple

MAX_FILE = 1 << 20

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*", re.ASCII)
_DOUBLE = re.compile(r'"((?>[^"\\]+|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_PLAIN = re.compile(r"(?>[^\s\\'\"]+|\\.|[ \t]+(?![#\s]))*", re.DOTALL)


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


def read_variables(path: str) -> dict[str, str]:
    """Read `KEY=VALUE` lines: comments, `export`, quotes; nothing is expanded.

    Raises:
        UnreadableError: It cannot be read, is no regular file, too large, or has a line that is
            no assignment.
    """
    return parse_variables(_content(path)[0])


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


def read_secret(path: str) -> Secret:
    """Read a secret; one final newline is removed.

    Raises:
        UnreadableError: It cannot be read, is no regular file, too large, or has a NUL.
    """
    text, mode = _content(path)
    if "\0" in text:
        raise UnreadableError("EINVAL", "it has a NUL character")
    return Secret(text.removesuffix("\n").removesuffix("\r"), bool(mode & stat.S_IROTH))


def _content(path: str) -> tuple[str, int]:
    try:
        # O_NONBLOCK, because opening a FIFO would wait for somebody to write.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnreadableError(_errno_name(error), os.strerror(error.errno or 0)) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            name = "EISDIR" if stat.S_ISDIR(status.st_mode) else "EINVAL"
            raise UnreadableError(name, "it is not a regular file")
        if status.st_size > MAX_FILE:
            raise UnreadableError("EFBIG", "it is larger than 1 MiB")
        pieces = []
        while piece := os.read(fd, 1 << 18):
            pieces.append(piece)
    except OSError as error:
        raise UnreadableError(_errno_name(error), os.strerror(error.errno or 0)) from None
    finally:
        os.close(fd)
    return b"".join(pieces).decode("utf-8", "surrogateescape"), status.st_mode


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")
