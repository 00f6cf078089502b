"""The whole pass: sources, validation, resolution; every problem is told, none ends it."""

import difflib
import hashlib
import json
import shlex
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from supervisord_pidfd.config import fields, later, model
from supervisord_pidfd.config.positions import Path, Places
from supervisord_pidfd.config.problems import has_errors, in_order
from supervisord_pidfd.config.resolve import Resolver, supervisor_spec
from supervisord_pidfd.config.reading import MAX_FILES, Reader, override
from supervisord_pidfd.config.sources import Report, Source, is_sensitive
from supervisord_pidfd.config.tree import Table, Tree, merged, without
from supervisord_pidfd.config.units import quoted
from supervisord_pidfd.core.spec import ServiceSpec, SupervisorSpec, dump

if TYPE_CHECKING:
    from supervisord_pidfd.config.child import Request

RESERVE = 64
"""Descriptors the daemon keeps for itself."""
FOR_GATEWAY = 4

_Model = TypeVar("_Model", bound=model.Table)

_ANY_COMMAND = {"command": ["?"]}
"""Stands in for a command that is missing or wrong, so that the other keys are still checked."""


def load(request: "Request") -> dict[str, Any]:
    """Load a configuration; return the reply as plain data, problems included."""
    report = Report()
    files, overrides = _sources(request, report)
    if not files and not overrides:
        return _reply(report, SupervisorSpec(), [], [], 0)
    tree = Tree(report, files, overrides)
    loaded = Loader(tree, report)
    sections = loaded.sections()
    services = loaded.services()
    groups = loaded.groups(services)
    supervisor = supervisor_spec(sections, tree, request)
    count = sum(len(service.instances or ("",)) for service in services.values())
    _check_budget(request, report, tree, count, gateway=bool(supervisor.metrics.listen))
    specs: list[ServiceSpec] = []
    if count <= request.max_files:
        resolver = Resolver(request, tree, report, sections, groups)
        supervisor = resolver.gateway(supervisor)
        for name, service in services.items():
            specs += resolver.specs(name, service, broken=name in loaded.broken)
    return _reply(report, supervisor, specs, [source.name for source in files], count)


def _reply(
    report: Report, supervisor: SupervisorSpec, specs: list[ServiceSpec], files: list[str],
    count: int,
) -> dict[str, Any]:  # fmt: skip
    problems = in_order(report.problems)
    plain = {"supervisor": dump(supervisor), "services": [dump(spec) for spec in specs]}
    if has_errors(problems):
        plain["services"] = []
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
    return {
        **plain, "problems": [dump(problem) for problem in problems], "files": files,
        "digest": digest, "count": count,
    }  # fmt: skip


# -- sources --------------------------------------------------------------------------------------


def _sources(request: "Request", report: Report) -> tuple[list[Source], list[Source]]:
    files: list[Source] = []
    if request.file is not None:
        reader = Reader(report, request.start_dir, as_root=request.uid == 0)
        main = reader.file(request.file)
        if main:
            files = [main, *reader.included(main, _patterns(main, report))]
        for source in files[1:]:
            if "include" in source.data:
                del source.data["include"]
                tree = Tree(report, [source], [])
                message = "include: only the main file can include others"
                report.error(tree.key(("include",)), "conflict", message, key=("include",))
    if request.command:
        files.append(_command(request))
    settings = [override(text, request.start_dir, report) for text in request.overrides]
    return files, [source for source in settings if source]


def _patterns(main: Source, report: Report) -> list[str]:
    patterns = main.data.pop("include", [])
    if isinstance(patterns, list) and all(isinstance(p, str) and "\0" not in p for p in patterns):
        if len(patterns) <= MAX_FILES:
            return patterns
        patterns = f"{len(patterns)} patterns"
    place = Tree(report, [main], []).value(("include",))
    message = f"include: not a list of strings: {quoted(patterns)}"
    report.error(place, "bad-type", message, key=("include",))
    return []


def _command(request: "Request") -> Source:
    """Make the source of the service that stands after `--` on the command line."""
    text = f"-- {shlex.join(request.command)}"
    source = Source("--", request.start_dir, Places("").over(text))
    table: Table = {"command": list(request.command), "main": True, "restart": "no"}
    if request.file is None:
        table["stdin"] = "inherit"
    source.data = {"service": {"main": table}}
    return source


def _check_budget(
    request: "Request", report: Report, tree: Tree, count: int, *, gateway: bool
) -> None:
    needed = count + RESERVE + (FOR_GATEWAY if gateway else 0)
    if needed > request.max_files:
        message = f"needs {needed} descriptors, the limit is {request.max_files}"
        report.error(tree.start(), "too-large", message, hint="raise RLIMIT_NOFILE")


# -- validation -----------------------------------------------------------------------------------


class Loader:
    """Turn the tree into validated tables, and every failure into a problem at its place."""

    def __init__(self, tree: Tree, report: Report) -> None:
        """Take out what is not built yet; what remains is validated table by table."""
        self._tree = tree
        self._report = report
        self._data = tree.data
        self.broken: set[str] = set()
        for path in later.take_out(self._data):
            shown = path[2:] if path[0] == "service" else path
            message = f"{'.'.join(shown)}: {later.MESSAGE}"
            report.error(tree.key(path), "later", message, key=path)
        for key in self._data:
            if key not in model.TOP_LEVEL:
                self._unknown((key,), key, "the file", model.TOP_LEVEL)

    def sections(self) -> dict[str, model.Table]:
        """Validate the tables that stand once in the file."""
        return {
            name: self._validated(kind, self._table((name,)), (name,), f"[{name}]")
            or kind.model_construct()
            for name, kind in model.SECTIONS.items()
        }

    def services(self) -> dict[str, model.Service]:
        """Validate every service, over the defaults."""
        defaults = self._defaults()
        services = {}
        for name, table in self._items("service"):
            path = ("service", name)
            service = self._validated(
                model.Service, merged(defaults, table), path, f"service '{name}'"
            )
            if service:
                services[name] = service
        mains = [name for name, service in services.items() if service.main]
        for name in mains:
            copies = services[name].instances
            if name != mains[0] or (copies and len(copies) > 1):
                place = self._tree.value(("service", name, "main"))
                first = self._tree.value(("service", mains[0], "main"))
                self._report.error(
                    place, "conflict", "main: at most one service can be the main one",
                    key=("service", name, "main"), see_also=first if first != place else None,
                )  # fmt: skip
        return services

    def groups(self, services: dict[str, model.Service]) -> dict[str, str]:
        """Validate the groups; return the group of each member, by service or instance name."""
        known = dict.fromkeys(services, "")
        for name, service in services.items():
            known.update(dict.fromkeys((f"{name}@{x}" for x in service.instances or ()), name))
        for name, _ in self._items("service"):
            known.setdefault(name, "")  # one that is wrong elsewhere is no unknown name here
        member_of: dict[str, str] = {}
        placed: dict[str, Path] = {}
        for name, table in self._items("group"):
            group = self._validated(model.Group, table, ("group", name), f"group '{name}'")
            for index, member in enumerate(group.services if group else ()):
                path = ("group", name, "services", index)
                if member not in known:
                    self._no_such_service(path, member, known)
                    continue
                other = placed.get(member) or placed.get(known[member])
                if other:
                    message = f"services: '{member}' is in two groups"
                    self._report.error(
                        self._tree.value(path), "conflict", message, key=path,
                        see_also=self._tree.value(other),
                    )  # fmt: skip
                    continue
                placed[member] = path
                member_of[member] = name
        return member_of

    def _no_such_service(self, path: Path, name: str, known: dict[str, str]) -> None:
        close = difflib.get_close_matches(name, known, 1)
        self._report.error(
            self._tree.value(path), "no-such-service", f"services: no service {quoted(name)}",
            key=path, hint=f"did you mean '{close[0]}'?" if close else None,
        )  # fmt: skip

    def _defaults(self) -> Table:
        table = self._table(("defaults",))
        for key in model.NOT_IN_DEFAULTS:
            if key in table:
                path = ("defaults", key)
                message = f"'{key}' cannot stand in [defaults]"
                self._report.error(self._tree.key(path), "unknown-key", message, key=path)
                table = without(table, (key,))
        bad = self._problems(model.Service, {**table, **_ANY_COMMAND}, ("defaults",), "[defaults]")
        for path in bad:
            table = without(table, path)
        return table

    def _table(self, path: Path) -> Table:
        table = self._data
        for part in path:
            table = table.get(part, {})  # type: ignore[call-overload]
        if isinstance(table, dict):
            return table
        message = f"{path[-1]}: not a table: {quoted(table)}"
        self._report.error(self._tree.value(path), "bad-type", message, key=path)
        return {}

    def _items(self, section: str) -> list[tuple[str, Table]]:
        """Return the named tables of a section whose names are good."""
        items = []
        for name in self._table((section,)):
            path = (section, name)
            if not fields.NAME.fullmatch(name) or name == "all":
                message = f"not a {section} name: {quoted(name)}"
                why = "the word means every service" if name == "all" else fields.NAME_HINT
                self._report.error(
                    self._tree.table(path), "bad-value", message, key=path, hint=why
                )
            else:
                items.append((name, self._table(path)))
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
        for place in bad:
            table = without(table, place)
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
        full = (*path, *inside)
        code = detail["type"]
        shown = ".".join(str(part) for part in inside if isinstance(part, str))
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
            self._report.error(place, code, f"{shown}: {message}", key=full, hint=hint)

    def _unknown(self, path: Path, shown: str, label: str, known: tuple[str, ...]) -> None:
        before, dot, last = shown.rpartition(".")
        close = difflib.get_close_matches(last, known, 1, 0.6)
        hint = f"did you mean '{before}{dot}{close[0]}'?" if close else None
        if shown in _ELSEWHERE and not close:
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
    pattern = ("service", "*") if kind is model.Service else ()
    for name, section in model.SECTIONS.items():
        if kind is section:
            pattern = (name,)
    table: Any = kind
    for part in inside:
        if part == "limits":
            return fields.LIMIT_NAMES
        field = table.model_fields.get(part)
        table = field.annotation if field else None
        pattern = (*pattern, str(part))
        if not (isinstance(table, type) and issubclass(table, model.Table)):
            return ()
    return (*table.model_fields, *later.names_in(pattern))


__all__ = ["load"]
