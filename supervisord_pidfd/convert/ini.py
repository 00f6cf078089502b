"""Read supervisord.conf as Supervisor does, and keep the line of every option.

The format is that of Python's configparser with `;` and `#` after a blank as comments, where a
deeper indented line goes on with the value above it. The standard library's own reader cannot say
where an option stood, and takes `%(ENV_X)s` for its own.
"""

import glob
import os
import re
from typing import NamedTuple

from supervisord_pidfd.convert.source import Option, Reader, SourceError

_HEADER = re.compile(r"\[(.+)\]")
_OPTION = re.compile(r"(.*?)\s*[=:]\s*(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=\s))[;#]")
MAX_FILES = 1024


class Section(NamedTuple):
    """Hold one section: `here` is the directory of its file, as `%(here)s` means it."""

    name: str
    file: str
    line: int
    here: str
    options: dict[str, Option]

    @property
    def header(self) -> Option:
        """Return the section itself as something to be told of."""
        return Option(self.file, self.line, f"[{self.name}]", "")


def parse(text: str, file: str) -> list[Section]:
    """Return the sections of a text; one that comes again goes on, and the last value counts.

    Raises:
        SourceError: A line is neither section nor option, or there is no section yet.
    """
    here = os.path.dirname(os.path.abspath(file))
    sections: dict[str, Section] = {}
    section: Section | None = None
    name, indent = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _without_comment(raw)
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if section is not None and name and depth > indent:
            option = section.options[name]
            section.options[name] = option._replace(value=f"{option.value}\n{line.strip()}")
            continue
        indent, name, line = depth, "", line.strip()
        if header := _HEADER.match(line):
            fresh = Section(header[1], file, number, here, {})
            section = sections.setdefault(fresh.name, fresh)
            continue
        found = _OPTION.fullmatch(line)
        if section is None or found is None or not found[1]:
            why = "no section before this line" if section is None else "not OPTION = VALUE"
            raise SourceError(f"{file}:{number}: {why}")
        name = found[1].lower()
        section.options[name] = Option(file, number, name, found[2], section.name)
    return list(sections.values())


def _without_comment(line: str) -> str:
    found = _COMMENT.search(line)
    return line[: found.start()] if found else line


def with_included(sections: list[Section], read: Reader) -> list[Section]:
    """Return the sections with those of the files that `[include]` names; it does not nest.

    Raises:
        SourceError: As `parse`, or a file cannot be read.
    """
    include = next((one for one in sections if one.name == "include"), None)
    if include is None or "files" not in include.options:
        return sections
    merged = {one.name: one for one in sections if one is not include}
    files = include.options["files"].value.replace("%(here)s", include.here).split()
    names = [
        found
        for pattern in files
        for found in sorted(glob.glob(os.path.join(include.here, pattern)))
    ]
    for name in names[:MAX_FILES]:
        for section in parse(read(name), name):
            known = merged.setdefault(section.name, section)
            known.options.update(section.options)
    return list(merged.values())
