"""Every table of the tree against the model; every failure becomes a problem at its place."""

from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import ValidationError

from supervisord_pidfd.config import fields, later, model
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.settings import Sections
from supervisord_pidfd.config.sources import Report, is_sensitive
from supervisord_pidfd.config.tree import Table, Tree, merged, without
from supervisord_pidfd.config.units import quoted

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

_Model = TypeVar("_Model", bound=model.Table)

_ANY_COMMAND = {"command": ["?"]}
"""Stands in for a command that is missing or wrong, so that the other keys are still checked."""


class Validator:
    """Turn the tree into validated tables, and every failure into a problem at its place."""

    def __init__(self, tree: Tree, report: Report, gate: later.Gate) -> None:
        """Take out what the gate shuts; what remains is validated table by table."""
        self._tree = tree
        self._report = report
        self._data = tree.data
        self.broken: set[str] = set()
        for path, value in later.take_out(self._data, gate):
            shown = ".".join(path[2:] if path[0] == "service" else path)
            if value is None:
                report.error(tree.key(path), "later", f"{shown}: {later.MESSAGE}", key=path)
            else:
                message = f"{shown}: {quoted(value)} is {later.MESSAGE}"
                report.error(tree.value(path), "later", message, key=path)
        for key in self._data:
            if key not in model.TOP_LEVEL and not report.is_full:
                self._unknown((key,), key, "the file", model.TOP_LEVEL)

    def sections(self) -> Sections:
        """Validate the tables that stand once in the file."""
        return Sections(**{name: self._section(name) for name in model.SECTIONS})

    def _section(self, name: str) -> Any:
        table = self._table(name)
        if not table:
            return None
        return self._validated(model.table(model.SECTIONS[name]), table, (name,), f"[{name}]")

    def services(self) -> dict[str, model.Service]:
        """Validate every service, over the defaults."""
        defaults = self._defaults()
        found = {
            name: self._validated(
                model.Service, merged(defaults, table), ("service", name), f"service '{name}'"
            )
            for name, table in self._items("service")
        }
        services = {name: service for name, service in found.items() if service}
        mains = [name for name, service in services.items() if service.main]
        for name in mains:
            copies = services[name].instances
            if name != mains[0] or (copies and len(copies) > 1):
                place = self._tree.value(("service", name, "main"))
                first = self._tree.value(("service", mains[0], "main"))
                self._report.error(
                    place, "conflict", "main: at most one service can be the main one",
                    key=("service", name, "main"), see_also=(first,) if first != place else (),
                )  # fmt: skip
        return services

    def groups(self) -> "dict[str, tables.Group]":
        """Validate the groups."""
        found: dict[str, Any] = {
            name: self._validated(model.table("Group"), table, ("group", name), f"group '{name}'")
            for name, table in self._items("group")
        }
        return {name: group for name, group in found.items() if group}

    def names(self) -> tuple[str, ...]:
        """Return the names of all services, also of those that cannot be used."""
        return tuple(name for name, _ in self._items("service"))

    def _defaults(self) -> Table:
        table = self._table("defaults")
        path: Path
        for key in model.NOT_IN_DEFAULTS:
            if key in table:
                path = ("defaults", key)
                message = f"'{key}' cannot stand in [defaults]"
                self._report.error(self._tree.key(path), "unknown-key", message, key=path)
                table = without(table, [(key,)])
        bad = self._problems(model.Service, {**table, **_ANY_COMMAND}, ("defaults",), "[defaults]")
        return without(table, bad)

    def _table(self, name: str) -> Table:
        table = self._data.get(name, {})
        return table if self._is_table((name,), table) else {}

    def _is_table(self, path: Path, value: object) -> bool:
        if isinstance(value, dict):
            return True
        message = f"{path[-1]}: not a table: {quoted(value)}"
        self._report.error(self._tree.value(path), "bad-type", message, key=path)
        return False

    def _items(self, section: str) -> list[tuple[str, Table]]:
        """Return the named tables of a section whose names are good."""
        items = []
        for name, table in self._table(section).items():
            path = (section, name)
            if not fields.NAME.fullmatch(name) or name == "all":
                message = f"not a {section} name: {quoted(name)}"
                why = "the word means every service" if name == "all" else fields.NAME_HINT
                self._report.error(self._tree.key(path), "bad-value", message, key=path, hint=why)
            elif self._is_table(path, table):
                items.append((name, table))
        return items

    def _validated(
        self, kind: type[_Model], table: Table, path: Path, label: str
    ) -> _Model | None:
        """Validate a table; what is wrong is reported, left out, and the rest is returned."""
        try:
            return kind.model_validate(table)
        except ValidationError:
            bad = self._problems(kind, table, path, label)
        if ("command",) in (place[:1] for place in bad):
            self.broken.add(str(path[-1]))
        table = without(table, bad)
        if kind is model.Service:
            table = {**_ANY_COMMAND, **table}
        try:
            return kind.model_validate(table)
        except ValidationError:
            return None

    def _problems(
        self, kind: type[model.Table], table: Table, path: Path, label: str
    ) -> list[Path]:
        """Report what is wrong with a table; return the paths inside it."""
        try:
            kind.model_validate(table)
        except ValidationError as error:
            found = error.errors(include_url=False)
        else:
            return []
        places = []
        for detail in found:
            inside = detail["loc"]
            if inside and inside[-1] == "[key]":
                inside = inside[:-1]
                names_key = True
            else:
                names_key = False
            self._tell(kind, detail, path, inside, label, names_key=names_key)
            places.append(inside)
        return places

    def _tell(  # noqa: PLR0913 - one error of pydantic, and where it stands
        self, kind: type[model.Table], detail: Any, path: Path, inside: Path, label: str, *,
        names_key: bool,
    ) -> None:  # fmt: skip
        if self._report.is_full:
            return
        full = (*path, *inside)
        code = detail["type"]
        shown = ".".join(part for part in inside if isinstance(part, str))
        if code == "missing":
            message = f"{label} has no '{shown}'"
            self._report.error(self._tree.table(path), "missing-key", message, key=full)
        elif code in {"extra_forbidden", "unknown-key"}:
            self._unknown(full, shown, label, _known_keys(kind, inside[:-1]))
        else:
            message, hint = _worded(detail)
            if is_sensitive(full):
                value = detail["input"]
                message = message.replace(quoted(value), '"…"')
                hint = None if hint and str(value) in hint else hint
            place = self._tree.key(full) if names_key else self._tree.value(full)
            code = code if code in _OUR_CODES else "bad-type"
            if path[0] in model.SECTIONS:
                shown = f"{path[0]}.{shown}"
            self._report.error(place, code, f"{shown}: {message}", key=full, hint=hint)

    def _unknown(self, path: Path, shown: str, label: str, known: tuple[str, ...]) -> None:
        before, dot, last = shown.rpartition(".")
        import difflib  # noqa: PLC0415 - most files have no slip

        close = difflib.get_close_matches(last, known, 1, 0.6)
        hint = f"did you mean '{before}{dot}{close[0]}'?" if close else None
        if shown in _ELSEWHERE and _ELSEWHERE[shown].partition(".")[0] in known:
            hint = f"did you mean '{_ELSEWHERE[shown]}'?"
        message = f"unknown key '{shown}' in {label}"
        self._report.error(self._tree.key(path), "unknown-key", message, key=path, hint=hint)


_OUR_CODES = {"bad-type", "bad-value", "too-large", "later"}

_ELSEWHERE = {
    "autorestart": "restart", "numprocs": "instances", "startsecs": "ready.delay",
    "startretries": "start_limit.burst", "stopwaitsecs": "stop_timeout", "stopsignal":
    "stop_signal", "exitcodes": "success_exit_codes", "cwd": "directory", "env": "environment",
    "ExecStart": "command", "cmd": "command",
}  # fmt: skip
"""Words of other programs for our keys, where they are not alike enough to be found."""


def _worded(detail: Any) -> tuple[str, str | None]:
    if detail["type"] in _OUR_CODES:
        context = detail["ctx"]
        return context["message"], context["hint"]
    kinds = {"tuple_type": "a list", "dict_type": "a table", "model_type": "a table"}
    return f"not {kinds.get(detail['type'], 'right')}: {quoted(detail['input'])}", None


def _known_keys(kind: type[model.Table], inside: Path) -> tuple[str, ...]:
    """Return the keys a table may have, those of later versions too."""
    pattern: tuple[str, ...] = ("service", "*") if kind is model.Service else ()
    for name, section in model.SECTIONS.items():
        if kind.__name__ == section:
            pattern = (name,)
    table = kind
    if inside[:1] == ("health",) and len(inside) > 1:
        return tuple(model.table("HealthCheck").model_fields)
    for part in inside:
        if part == "limits":
            return fields.LIMIT_NAMES
        table = _table_in(table.model_fields[str(part)])
        pattern = (*pattern, str(part))
    return (*table.model_fields, *later.names_in(pattern))


def _table_in(field: Any) -> type[model.Table]:
    """Return the table that a field holds, if it is written."""
    inner = next((mark for mark in field.metadata if isinstance(mark, model.Inner)), None)
    if inner is not None:
        return model.table(inner.name)
    found: type[model.Table] = get_args(field.annotation)[0]
    return found
