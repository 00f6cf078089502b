"""A Procfile to a draft: `name: command`, run in its directory, with `.env` beside it."""

import os
import re
import shlex

from supervisord_pidfd.config.environment import UnreadableError, parse_variables
from supervisord_pidfd.convert import text as words
from supervisord_pidfd.convert.draft import Draft
from supervisord_pidfd.convert.source import Option, Reader, SourceError, number

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(\S.*)")
_ONLY_WORDS = re.compile(r"[A-Za-z0-9_./:=@%+,^ \t-]+")
_SIMPLE = re.compile(r"[^;&|<>()`\n!#]+")
_NOT_PROGRAMS = {
    "!", ".", "[", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done",
    "elif", "else", "esac", "eval", "exec", "exit", "export", "fg", "fi", "for", "hash", "if",
    "in", "jobs", "local", "read", "readonly", "return", "set", "shift", "source", "then", "time",
    "times", "trap", "type", "ulimit", "umask", "unalias", "unset", "until", "wait", "while", "{",
    "}",
}  # fmt: skip
FIRST_PORT = 5000
"""Where foreman begins; each process type has a hundred ports of its own."""


def convert(text: str, file: str, read: Reader, draft: Draft) -> None:
    """Convert a Procfile into the draft.

    Raises:
        SourceError: A line is not `name: command`.
    """
    home = os.path.dirname(os.path.abspath(file))
    table = draft.table("defaults")
    table.usual("directory", words.literal(home), "")
    first = _environment(os.path.join(home, ".env"), read, draft)
    names, seen = words.Names(), set[str]()
    for number_of_line, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise SourceError(f"{file}:{number_of_line}: not NAME: COMMAND")
        option = Option(file, number_of_line, found[1], found[2])
        if found[1] in seen:
            raise SourceError(f"{file}:{number_of_line}: {found[1]} is there already")
        seen.add(found[1])
        _process(draft, names.give(found[1]), option, first + 100 * (len(seen) - 1))


def _process(draft: Draft, name: str, option: Option, port: int) -> None:
    table = draft.table("service", name)
    if name != option.name:
        table.note(option, f"its name here is {name}")
    if table.set("command", command(option.value), option) and port <= 65535:
        table.put(("environment", "PORT"), str(port), option)
    if not table.has("command"):
        draft.drop(table)


def command(line: str) -> str | list[str]:
    """Return the command for a line of a shell: without a shell, if it is plain words.

    One that is a single program is executed by the shell, so that signals reach it.
    """
    first = line.split(maxsplit=1)[0]
    program = first not in _NOT_PROGRAMS and "=" not in first and not first.startswith("~")
    if program and _ONLY_WORDS.fullmatch(line):
        return " ".join(line.split())
    try:
        shlex.split(line)
        whole = _SIMPLE.fullmatch(line) is not None
    except ValueError:  # a quote is not closed, or so it seems to us: the shell will tell
        whole = False
    return words.shell(f"exec {line}" if whole and program else line)


def _environment(path: str, read: Reader, draft: Draft) -> int:
    """Take in `.env`, if it is there; return the first port."""
    if not os.path.exists(path):
        return FIRST_PORT
    table, option = draft.table("defaults"), Option(path, 1, ".env", "")
    try:
        variables = parse_variables(read(path))
    except (SourceError, UnreadableError) as error:
        table.lost(option, str(error))
        return FIRST_PORT
    table.set("environment_file", [words.literal(path)], option)
    found = number(variables.get("PORT", ""), 1, 65535)
    return FIRST_PORT if found is None else found
