"""Configuration files: read once, safely, and parsed.

What is checked here comes before the parser: what kind of file it is and whose, its size, NUL,
UTF-8, line length, nesting. A problem ends its file, not the pass.
"""

import errno
import glob
import itertools
import os
import re
import stat
from typing import Any

import tomli

from supervisord_pidfd.config.positions import LimitError, Path, Places, Span
from supervisord_pidfd.config.sources import START, Place, Report, Source, twice

MAX_FILE = 1 << 20
MAX_ALL = 8 << 20
MAX_FILES = 1024
MAX_LINE = 64 << 10
MAX_DUPLICATES = 100


class RefusedError(Exception):
    """Say why a file is not used: one of our codes, and words."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class Reader:
    """Read files within the limits of one pass."""

    def __init__(self, report: Report, start_dir: str, *, as_root: bool) -> None:
        """Read for this report; `as_root` demands files that nobody else can write.

        `names` are the files asked for, the main one first.
        """
        self._report = report
        self._start_dir = start_dir
        self._as_root = as_root
        self._left = MAX_ALL
        self.names: list[str] = []

    def file(self, path: str, named_at: Place | None = None) -> Source | None:
        """Read and parse one file; None if there is nothing to go on with."""
        self.names.append(path)
        try:
            content, _ = self._content(path)
        except RefusedError as error:
            if named_at is None:
                self._report.outside(path, error.code, f"cannot read the file: {error.why}")
            else:
                message = f"include: cannot read '{path}': {error.why}"
                self._report.error(named_at, error.code, message, key=("include",))
            return None
        directory = os.path.dirname(os.path.join(self._start_dir, path))
        text = self._text(path, directory, content)
        return None if text is None else self._parsed(path, directory, text)

    def included(self, main: Source, patterns: list[str]) -> list[Source]:
        """Read the files that match the patterns of `include`, sorted by bytes."""
        found: dict[str, Place] = {}
        for index, pattern in enumerate(patterns):
            span = main.places.value(("include", index))
            place = Place(main, span or START)
            for path in self._matching(main, pattern, place):
                found.setdefault(path, place)
            if len(found) > MAX_FILES:
                message = f"include: more than {MAX_FILES} files"
                self._report.error(place, "too-large", message, key=("include",))
                return []
        found.pop(main.name, None)
        ordered = sorted(found, key=os.fsencode)
        return [source for path in ordered if (source := self.file(path, found[path]))]

    def trusted(self, path: str) -> tuple[bytes, os.stat_result]:
        """Return the content of another file that says who may do what.

        Raises:
            RefusedError: It cannot be read, or must not be used.
        """
        return self._content(path)

    def _matching(self, main: Source, pattern: str, place: Place) -> list[str]:
        path = os.path.join(os.path.dirname(main.name), pattern)
        if not glob.has_magic(pattern):
            if os.path.lexists(path):
                return [path]
            message = f"include: no such file: '{pattern}'"
            self._report.error(place, "unreadable", message, key=("include",))
            return []
        matches = (match for match in glob.iglob(path) if match.endswith(".toml"))
        return list(itertools.islice(matches, MAX_FILES + 2))

    def _content(self, path: str) -> tuple[bytes, os.stat_result]:
        """Return content and status of a file that may be trusted.

        Raises:
            RefusedError: It cannot be read, or must not be used.
        """
        try:
            # O_NONBLOCK, because opening a FIFO would wait for somebody to write.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                status = os.fstat(fd)
                self._distrust(path, status)
                content = _read(fd, MAX_FILE + 1)
            finally:
                os.close(fd)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            raise RefusedError("unreadable", name) from None
        except ValueError:
            raise RefusedError("unreadable", "its name has a NUL character") from None
        self._left -= len(content)
        if len(content) > MAX_FILE:
            raise RefusedError("too-large", "it is larger than 1 MiB")
        if self._left < 0:
            raise RefusedError("too-large", "all files together are larger than 8 MiB")
        return content, status

    def _distrust(self, path: str, status: os.stat_result) -> None:
        """Refuse what is no regular file, and for root what others could change."""
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError("unsafe-file", "it is not a regular file")
        if not self._as_root:
            return
        if status.st_uid != 0:
            raise RefusedError("unsafe-file", f"it belongs to uid {status.st_uid}, not to root")
        if status.st_mode & 0o022:
            raise RefusedError("unsafe-file", "others than root can write it")
        named = os.path.join(self._start_dir, path)
        for file in dict.fromkeys((named, os.path.realpath(named))):
            above = os.stat(os.path.dirname(file))
            if above.st_uid != 0:
                why = f"its directory belongs to uid {above.st_uid}, not to root"
                raise RefusedError("unsafe-file", why)
            # In a sticky directory nobody but root can replace a file that belongs to root.
            if above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX:
                raise RefusedError("unsafe-file", "others than root can write its directory")

    def _text(self, path: str, directory: str, content: bytes) -> str | None:
        """Check what the parser would choke on; return the text, or None if there was such."""
        flaw = _flaw(content)
        if flaw is None:
            return content.decode("utf-8")
        code, message, offset = flaw
        text = content.decode("utf-8", "replace")
        source = Source(path, directory, Places("").over(text))
        span = source.places.place(len(content[:offset].decode("utf-8", "replace")))
        self._report.error(Place(source, span), code, message, broken=True)
        return None

    def _parsed(self, path: str, directory: str, text: str) -> Source | None:
        try:
            places = Places(text)
        except LimitError as error:
            bare = Source(path, directory, Places("").over(text))
            place = Place(bare, bare.places.place(error.offset))
            self._report.error(place, "too-large", error.message, broken=True)
            return None
        source = Source(path, directory, places)
        if places.duplicates:
            text = self._without_duplicates(source)
            if len(places.duplicates) > MAX_DUPLICATES:
                return None
        try:
            source.data = tomli.loads(text)
        except tomli.TOMLDecodeError as error:
            place = Place(source, Span(error.lineno, error.colno, 1))
            self._report.error(place, "syntax", _lowered(error.msg), broken=True)
            return None
        return source

    def _without_duplicates(self, source: Source) -> str:
        """Report what is defined twice; return the text with the second ones blanked out.

        tomli would stop at the first of them, and hide what else is wrong.
        """
        places = source.places
        above: Path = ()
        for path, first, second in places.duplicates[:MAX_DUPLICATES]:
            if above and path[: len(above)] == above:
                continue  # under a header that is there again, so told already
            if places.is_header_at(second):
                above = path
            self._report.error(
                Place(source, second), "duplicate", twice(path), key=path,
                see_also=(Place(source, first),),
            )  # fmt: skip
        text = places.text
        if len(places.duplicates) > MAX_DUPLICATES:
            return text
        for start, end in places.repeated():
            text = text[:start] + re.sub("[^\n]", " ", text[start:end]) + text[end:]
        return text


def override(text: str, start_dir: str, report: Report) -> Source | None:
    """Parse one `--set KEY=VALUE`: a TOML value, or a bare word, which is a string."""
    key, equals, value = text.partition("=")
    line = text.replace("\n", " ")
    try:
        source = Source("--set", start_dir, Places(line))
    except LimitError as error:
        report.outside("--set", "too-large", error.message)
        return None
    statements = source.places.statements
    if not equals or len(statements) != 1 or statements[0].is_header:
        message, hint = "not KEY=VALUE", "write --set service.web.restart=always"
        report.error(Place(source, START), "syntax", message, hint=hint, broken=True)
        return None
    try:
        source.data = tomli.loads(f"{key} = {value}")
    except tomli.TOMLDecodeError as error:
        if value.lstrip()[:1] in {'"', "'", "[", "{"} or "\n" in value:
            place = Place(source, START)
            report.error(place, "syntax", _lowered(error.msg), broken=True)
            return None
        source.data = _nested(statements[0].path, value.strip())
    return source


def _flaw(content: bytes) -> tuple[str, str, int] | None:
    """Find what no parser should see: a code, words, and the byte where it is."""
    at = 0
    for line in content.split(b"\n"):
        if len(line) > MAX_LINE:
            return "too-large", "a line of more than 64 KiB", at
        at += len(line) + 1
    nul = content.find(b"\0")
    if nul >= 0:
        return "syntax", "a NUL character", nul
    if content.startswith(b"\xef\xbb\xbf"):
        return "syntax", "a byte order mark; TOML has none", 0
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return "syntax", f"not UTF-8: byte 0x{content[error.start]:02x}", error.start
    return None


def _nested(path: Path, value: str) -> dict[str, Any]:
    tree: Any = value
    for part in reversed(path):
        tree = {part: tree}
    return dict(tree)


def _read(fd: int, limit: int) -> bytes:
    pieces = []
    while limit > 0 and (piece := os.read(fd, min(limit, 1 << 18))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
