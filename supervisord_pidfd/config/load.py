"""The whole pass: sources, validation, resolution; every problem is told, none ends it."""

import binascii
import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from supervisord_pidfd.config import budgets, later, model
from supervisord_pidfd.config.doors import Doors
from supervisord_pidfd.config.edges import Edges
from supervisord_pidfd.config.positions import Places
from supervisord_pidfd.config.problems import has_errors, in_order
from supervisord_pidfd.config.reading import MAX_FILES, Reader, override
from supervisord_pidfd.config.resolve import Resolver
from supervisord_pidfd.config.settings import directories, supervisor_spec
from supervisord_pidfd.config.sources import START, Place, Report, Source
from supervisord_pidfd.config.tree import Table, Tree
from supervisord_pidfd.config.units import quoted
from supervisord_pidfd.config.validate import Validator
from supervisord_pidfd.config.written import settings_written_of
from supervisord_pidfd.core.spec import GatewaySpec, ServiceSpec, SupervisorSpec, dump

if TYPE_CHECKING:
    from supervisord_pidfd.config.child import Request


def load(request: "Request") -> dict[str, Any]:
    """Load a configuration; return the reply as plain data, problems included."""
    report = Report()
    reader = Reader(report, request.start_dir, as_root=request.uid == 0)
    files, overrides = _sources(request, report, reader)
    supervisor, specs, count = SupervisorSpec(), list[ServiceSpec](), 0
    if files or overrides:
        tree = Tree(report, files, overrides)
        waiting = () if request.all_keys else later.WAITING
        checked = Validator(tree, report, later.gate(waiting))
        sections = checked.sections()
        services = checked.services()
        edges = Edges(tree, report, checked.names(), services, checked.groups())
        places = directories(sections, tree, request)
        supervisor = supervisor_spec(sections, tree, places.get("log.dir"))._replace(
            groups=edges.group_specs, written=settings_written_of(tree)
        )
        if sections.web is not None:
            web = Doors(sections, tree, report, reader).spec(places.get("runtime.dir"))
            supervisor = supervisor._replace(web=web)
        count = sum(len(service.instances or ("",)) for service in services.values())
        if _fits(request, report, tree, supervisor, services):
            resolver = Resolver(request, tree, report, sections)
            resolver.look_at_chains(services, edges)
            supervisor = resolver.own_log(resolver.accounts(supervisor))
            for name, service in services.items():
                specs += resolver.specs(name, service, edges, broken=name in checked.broken)
    problems = in_order(report.problems)
    plain = {"supervisor": dump(supervisor), "services": [dump(spec) for spec in specs]}
    if has_errors(problems):
        plain["services"] = []
    digest = _digest(plain)
    return {
        **plain, "problems": [dump(problem) for problem in problems], "files": reader.names,
        "digest": digest, "count": count,
    }  # fmt: skip


def _digest(plain: dict[str, Any]) -> str:
    """Name what a configuration means; where it is written in its files does not matter."""
    said = [
        {name: member for name, member in spec.items() if name not in _PLACES}
        for spec in (plain["supervisor"], *plain["services"])
    ]
    text = json.dumps(said, sort_keys=True)
    return f"{binascii.crc32(text.encode()):08x}"


_PLACES = {"origin", "written"}

# -- sources --------------------------------------------------------------------------------------


def _sources(
    request: "Request", report: Report, reader: Reader
) -> tuple[list[Source], list[Source]]:
    """Read all that says something; nothing, if the main file cannot be read."""
    files: list[Source] = []
    settings = [override(text, request.start_dir, report) for text in request.overrides]
    if request.file is not None:
        main = reader.file(request.file)
        if main is None:
            return [], []
        files = [main, *reader.included(main, _patterns(main, report))]
        for source in files[1:]:
            if "include" in source.data:
                del source.data["include"]
                span = source.places.key(("include",))
                message = "include: only the main file can include others"
                place = Place(source, span or START)
                report.error(place, "conflict", message, key=("include",))
    if request.command:
        files.append(_command(request))
    return files, [source for source in settings if source]


def _patterns(main: Source, report: Report) -> list[str]:
    patterns = main.data.pop("include", [])
    if isinstance(patterns, list) and all(isinstance(p, str) and "\0" not in p for p in patterns):
        if len(patterns) <= MAX_FILES:
            return patterns
        patterns = f"{len(patterns)} patterns"
    place = Place(main, main.places.value(("include",)) or START)
    message = f"include: not a list of strings: {quoted(patterns)}"
    report.error(place, "bad-type", message, key=("include",))
    return []


def _command(request: "Request") -> Source:
    """Make the source of the service that stands after `--` on the command line."""
    text = f"-- {shlex.join(request.command)}"
    source = Source("--", request.start_dir, Places("").over(text))
    table: Table = {"command": list(request.command), "main": True, "restart": "no"}
    if request.file is None:
        table |= {"stdin": "inherit", "log": {"to": ["inherit"]}}
    source.data = {"service": {"main": table}}
    return source


def _fits(
    request: "Request",
    report: Report,
    tree: Tree,
    supervisor: SupervisorSpec,
    services: Mapping[str, model.Service],
) -> bool:
    """Tell whether the daemon has the descriptors that its services need, beside its own."""
    needed = budgets.RESERVE + budgets.descriptors(services)
    if GatewaySpec(supervisor.metrics, supervisor.web).listens:
        needed += budgets.FOR_GATEWAY
    if supervisor.socket != "none" and request.file is not None:
        needed += budgets.FOR_CONTROL
    if 0 <= request.max_files < needed:
        message = f"needs {needed} descriptors, the limit is {request.max_files}"
        report.error(tree.start(), "too-large", message, hint="raise RLIMIT_NOFILE")
        return False
    return True
