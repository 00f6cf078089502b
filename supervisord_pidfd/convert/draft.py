"""The TOML file while it is written: tables of keys, each checked as the daemon would check it.

What our file cannot hold is a comment at its place and a remark for standard error; so is a key
that this version does not have yet, and a value that `check` would refuse. A remark repeats no
value, which may be secret; a comment does: it stands in the file that replaces the other.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from supervisord_pidfd.config import later, model
from supervisord_pidfd.config.problems import escaped
from supervisord_pidfd.config.sources import MASK, is_sensitive
from supervisord_pidfd.config.written import dotted, toml
from supervisord_pidfd.convert.source import Option

LOST, NOTE = "not converted", "note"


class Remark(NamedTuple):
    """Hold one thing to be told of an option: that it was left out, or what changed."""

    option: Option
    kind: str
    why: str

    def __str__(self) -> str:
        return escaped(f"{self.option.place}: {self.kind}: {self.option.label}: {self.why}")

    @property
    def comment(self) -> str:
        """Say it in the file."""
        name, value = self.option.name, " ".join(self.option.value.split())
        if is_sensitive((name,)) or name.lower() in {"environment", "username"}:
            value = MASK
        shown = f"{name} = {value}" if value else name
        return escaped(f"# {self.kind}: {shown} ({self.why})")


class Line(NamedTuple):
    """Hold one line of a table: a key and its value, or a comment alone."""

    path: tuple[str, ...] = ()
    value: Any = None
    comment: str = ""


class Table:
    """Hold the keys of one table, in the order in which they are written."""

    def __init__(self, draft: "Draft", path: tuple[str, ...]) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._draft = draft

    def set(self, key: str, value: Any, option: Option) -> bool:
        """Set a dotted key, if the daemon would take it; else tell why not."""
        return self.put(tuple(key.split(".")), value, option)

    def put(self, path: tuple[str, ...], value: Any, option: Option) -> bool:
        """Set a key whose parts may hold anything."""
        why = self._draft.refusal((*self.path, *path), value)
        if why:
            self.lost(option, f"{dotted(path)}: {why}")
            return False
        self.lines = [line for line in self.lines if line.path != path]
        self.lines.append(Line(path, value))
        return True

    def usual(self, key: str, value: Any, why: str) -> None:
        """Set a key that the source does not write: what its own supervisor does by default."""
        path = tuple(key.split("."))
        if not self.has(key):
            self.lines.append(Line(path, value, f"  # {why}" if why else ""))

    def has(self, key: str) -> bool:
        """Tell whether a key is set."""
        return any(line.path == tuple(key.split(".")) for line in self.lines)

    def lost(self, option: Option, why: str) -> None:
        """Tell that an option was left out."""
        self._remark(Remark(option, LOST, why))

    def note(self, option: Option, why: str) -> None:
        """Tell what an option means here that it did not mean there."""
        self._remark(Remark(option, NOTE, why))

    def comment(self, text: str) -> None:
        """Add a line for people."""
        self.lines.append(Line(comment=escaped(f"# {text}")))

    def _remark(self, remark: Remark) -> None:
        self._draft.remarks.append(remark)
        self.lines.append(Line(comment=remark.comment))


class Draft:
    """Hold the file while it is written; `gate` says what this version does not have."""

    def __init__(self, gate: later.Gate | None = None) -> None:
        self.remarks: list[Remark] = []
        self._tables: list[Table] = []
        self._gate = later.gate(later.WAITING) if gate is None else gate

    def table(self, *path: str) -> Table:
        """Return a table, a new one if it is not there."""
        for table in self._tables:
            if table.path == path:
                return table
        self._tables.append(Table(self, path))
        return self._tables[-1]

    def drop(self, table: Table) -> None:
        """Take a table out; what it told remains, as comments of a table without a name."""
        index = self._tables.index(table)
        self._tables[index] = left = Table(self, ())
        left.lines = [line for line in table.lines if not line.path]

    def services(self) -> list[Table]:
        """Return the tables of services."""
        return [table for table in self._tables if table.path[:1] == ("service",)]

    @property
    def lost(self) -> bool:
        """Tell whether anything was left out."""
        return any(remark.kind == LOST for remark in self.remarks)

    # -- what the daemon would take ---------------------------------------------------------------

    def refusal(self, path: tuple[str, ...], value: Any) -> str | None:
        """Say why the daemon would refuse a key, or this value of it; None if it would not."""
        pattern, inside, kind = _pattern(path)
        for end in range(1, len(pattern) + 1):
            if self._gate.shuts(pattern[:end]):
                return later.MESSAGE
        if self._gate.shuts_value(pattern, value):
            return f"{toml(value)} is {later.MESSAGE}"
        try:
            _class_of(kind).model_validate(_nested(inside, value, kind))
        except ValidationError as error:
            return _worded(error, sensitive=is_sensitive(path))
        return None

    # -- as text ----------------------------------------------------------------------------------

    def render(self, head: list[str]) -> str:
        """Write the file, with these lines as its head."""
        return "\n".join([*(escaped(f"# {line}") for line in head), *self._lines()]) + "\n"

    def _lines(self) -> Iterator[str]:
        for table in sorted(self._tables, key=_rank):
            if not table.lines:
                continue
            yield ""
            if table.path:
                yield f"[{dotted(table.path)}]"
            for line in sorted(table.lines, key=lambda line: line.path != ("command",)):
                key = f"{dotted(line.path)} = {toml(line.value)}" if line.path else ""
                yield f"{key}{line.comment}"


_ORDER = ("supervisor", "metrics", "web", "defaults")


def _rank(table: Table) -> tuple[int, bool]:
    """Put the file's own tables first, and groups last; those of a kind stay as they are."""
    kind = table.path[0] if table.path else ""
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind == "group")


def _pattern(path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the path as the table of later keys has it, the part inside, and its section."""
    section = path[0]
    if section == "defaults":
        return ("service", "*", *path[1:]), path[1:], "service"
    if section in {"service", "group"}:
        return (section, "*", *path[2:]), path[2:], section
    return path, path[1:], section


def _class_of(kind: str) -> type[model.Table]:
    if kind == "service":
        return model.Service
    return model.table("Group" if kind == "group" else model.SECTIONS[kind])


def _nested(inside: tuple[str, ...], value: Any, kind: str) -> dict[str, Any]:
    for part in reversed(inside):
        value = {part: value}
    return {"command": ["?"], **value} if kind == "service" else dict(value)


def _worded(error: ValidationError, *, sensitive: bool) -> str:
    detail = error.errors(include_url=False)[0]
    context: dict[str, Any] = detail.get("ctx", {})
    if sensitive or detail["type"] in {"unknown-key", "extra_forbidden"}:
        return "not possible here"
    return str(context.get("message", detail["msg"]))
