"""Write supervisord.toml(5) from the schema, with defaults from the specs."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from supervisord_pidfd import __version__
from supervisord_pidfd.config import later, schema
from supervisord_pidfd.config.units import format_duration, format_signal
from supervisord_pidfd.core import spec
from tests.support.roff import ALSO, Page, sentence

_TYPES = {
    "duration": '`"500ms"`, `"5s"`, `"1m30s"`, in `us ms s m h d w`, or a number of seconds, at'
    ' most 10 years; `"infinity"` where a limit can be absent.',
    "size": (
        "A number of bytes, or `KB MB GB TB` (thousands), `KiB MiB GiB TiB` or `K M G T` (1024)."
    ),
    "signal": '`"TERM"`, `"SIGTERM"`, `15` or `"RTMIN+3"`.',
    "command": (
        "A list is executed as it is. A string is split by the shell's rules of quoting, but no"
        " shell runs."
    ),
    "reference": (
        "`NAME`, `NAME@INSTANCE` or `@GROUP`, with `:started`, `:ready`, `:healthy`, `:exited` or"
        " `:exited_ok` behind it; without one it is `:ready`, or `:exited_ok` for a oneshot."
    ),
}

_FILE = """
The file is TOML 1.0. Its smallest useful form has two lines. An unknown key is an error, and so is
a service that is defined twice. A table inside a service may be written as dotted keys, inline, or
as a table of its own.

`[defaults]` may have any key of a service but `command` and `instances`; scalars and lists of the
service replace it, `environment`, `secrets` and tables are merged key by key.

`${NAME}` is filled in: first `service.name`, `service.group`, `service.instance`, `config.dir`,
`log.dir` and `runtime.dir`, else from the service's environment. `${NAME:-default}` has a default,
`$$` is a dollar sign; what is undefined is an error.

Behind each key of a service stands what `pidfdctl apply` does when it changes: `live` takes effect
at once, `restart` restarts the service.
"""

_SPECS: dict[str, Any] = {
    "Backoff": spec.BackoffSpec(),
    "StartLimit": spec.StartLimitSpec(),
    "Ready": spec.ReadySpec(),
    "HealthCheck": spec.CheckSpec("", spec.CheckKind.TCP),
    "Hooks": spec.HooksSpec(),
    "Reload": spec.ReloadSpec(),
    "Schedule": spec.ScheduleSpec(),
    "Service": spec.ServiceSpec("", ()),
    "Supervisor": spec.SupervisorSpec(),
    "Metrics": spec.MetricsSpec(),
    "Web": spec.WebSpec(),
    "Group": spec.GroupSpec(""),
}
_SERVICE = spec.ServiceSpec("", ())
_LOG = spec.LogSpec()
SAID: dict[str, str] = {
    "Service.type": "simple",
    "Service.restart": "on-failure; oneshot: no",
    "Service.umask": f"{_SERVICE.umask:03o}",
    "Service.inherit_environment": "true",
    "Service.start_timeout": f"{format_duration(_SERVICE.start_timeout)}; oneshot: infinity",
    "Service.stop_signal": format_signal(_SERVICE.stop.steps[0].signum),
    "Service.stop_timeout": format_duration(_SERVICE.stop.steps[0].timeout),
    "Service.autostart": "true; with a schedule: false",
    "Service.success_exit_codes": ", ".join(map(str, _SERVICE.success.codes)),
    "Service.success_signals": (
        ", ".join(map(format_signal, _SERVICE.success.signals)) + "; oneshot: none"
    ),
    "HealthCheck.failures": "3; watchdog: 1",
    "HealthCheck.status": "200-399",
    "HealthCheck.headers": "",
    "Ready.fd": "",
    "Ready.delay": "",
    "HealthCheck.memory": "",
    "Stop.scope": "auto",
    "Stop.leftovers": "kill",
    "FdStore.max": str(_SERVICE.fdstore_max),
    "Supervisor.shutdown_timeout": "80s; PID 1: 8s",
    "Supervisor.exit_when_idle": "auto",
    "Metrics.phases": "auto",
    "Web.rpc_listen": "`unix:${runtime.dir}/rpc.sock`",
    "Log.to": "auto",
    "Log.format": "auto",
    "Log.path": "`${log.dir}/NAME.log`",
    "Log.stderr_path": "the same",
    "Log.rotate_size": "50MB",
    "Log.rotate_keep": str(_LOG.rotate_keep),
    "Log.rotate_total": str(_LOG.rotate_total),
    "Log.rotate_every": "off",
    "Log.compress": "false",
    "Log.overflow": _LOG.overflow.value,
    "Log.block_for": format_duration(_LOG.block_for),
    "Log.rate_limit": "off",
    "Log.strip_ansi": "false",
    "Log.ring": "64KiB",
    "Log.max_line": "16KiB",
    "DaemonLog.level": spec.SupervisorSpec().log_level,
    "DaemonLog.format": spec.SupervisorSpec().log_format,
}
"""Defaults that a spec says in other words, or not at all."""

_FIELD_OF = {
    "stop_signal": "stop", "stop_timeout": "stop", "success_exit_codes": "success",
    "success_signals": "success", "requires": "dependencies", "wants": "dependencies",
    "after": "dependencies", "before": "dependencies", "health": "checks",
    "fdstore": "fdstore_max", "user": "identity", "group": "identity",
}  # fmt: skip
"""Keys of a service whose member of the spec has another name."""

_SCHEMA = schema.schema()
_DEFS: dict[str, Any] = _SCHEMA["$defs"]
_INCLUDE = _SCHEMA["properties"]["include"]["description"]
_GATE = later.gate(later.WAITING)


class Key(NamedTuple):
    """Hold a key: its table in the schema and its name there, its place in a file, its shape."""

    table: str
    name: str
    path: tuple[str, ...]
    shape: dict[str, Any]

    @property
    def written(self) -> str:
        """Write it as the page does: keys of a service without their service."""
        of_service = self.path[0] == "service"
        name = "CHECK" if of_service else "NAME"
        return ".".join(self.path[2 if of_service else 0 :]).replace("*", name)


def keys() -> list[Key]:
    """List every key, table by table."""
    tops = {"Supervisor": ("supervisor",), "Metrics": ("metrics",), "Web": ("web",),
            "Group": ("group", "*"), "Service": ("service", "*")}  # fmt: skip
    return [key for table, path in tops.items() for key in _keys_of(table, path)]


def _keys_of(table: str, path: tuple[str, ...]) -> Iterator[Key]:
    for name, shape in _DEFS[table]["properties"].items():
        named = "patternProperties" in shape
        for inner in [shape, *shape.get("patternProperties", {}).values()]:
            if "$ref" in inner:
                below = (*path, name, "*") if named else (*path, name)
                yield from _keys_of(inner["$ref"].rpartition("/")[2], below)
                break
        else:
            yield Key(table, name, (*path, name), shape)


_TITLES = {
    "supervisor": "[SUPERVISOR]",
    "metrics": "[METRICS]",
    "web": "[WEB]",
    "group": "[GROUP.NAME]",
    "service": "[SERVICE.NAME] AND [DEFAULTS]",
}


def file() -> str:
    """Return supervisord.toml(5)."""
    page = Page("supervisord.toml", 5, __version__, "the services of supervisord-pidfd")
    page.heading("DESCRIPTION")
    page.paragraphs(_FILE)
    page.example('[service.web]\ncommand = "/srv/app/web --port 8080"')
    page.heading("VALUES")
    for kind, meaning in _TYPES.items():
        page.item(kind, meaning)
    page.heading("TOP LEVEL")
    page.item("`include` list of strings", sentence(_INCLUDE))
    section = None
    for key in keys():
        if key.path[0] != section:
            section = key.path[0]
            page.heading(f"KEYS OF {_TITLES[section]}")
        page.item(f"`{key.written}` {kind_of(key.shape)}", _meaning(key))
    page.heading("SEE ALSO")
    page.paragraphs(ALSO)
    return str(page)


def _meaning(key: Key) -> str:
    said = [sentence(key.shape["description"])] if "description" in key.shape else []
    default = _default(key)
    if default:
        said.append(f"Default: {default}.")
    if key.path[0] == "service":
        top = key.path[2]
        live = _FIELD_OF.get(top, top) in spec.LIVE_FIELDS
        said.append("Live." if live else "Restart.")
    if any(_GATE.shuts(key.path[:size]) for size in range(2, len(key.path) + 1)):
        said.append("Not available in this version.")
    return " ".join(said)


def _default(key: Key) -> str:
    said = SAID.get(f"{key.table}.{key.name}")
    if said is not None:
        return said
    value = getattr(_SPECS.get(key.table), key.name, None)
    match value:
        case bool():
            return str(value).lower()
        case float() if kind_of(key.shape) == "duration":
            return "infinity" if math.isinf(value) else format_duration(value)
        case int() | float():
            return f"{value:g}"
        case str():
            return str(value)
        case _:
            return ""


def kind_of(shape: dict[str, Any]) -> str:  # noqa: PLR0911 - one for each shape
    """Say in words what a key takes."""
    if "enum" in shape:
        return "|".join(str(one).lower() for one in shape["enum"])
    if "anyOf" in shape:
        either = [kind_of(one) for one in shape["anyOf"]]
        return "command" if shape["anyOf"][-1].get("minItems") else " or ".join(either)
    example = str(shape.get("examples", [""])[0])
    match shape["type"]:
        case ["string", "number"]:
            return "duration"
        case ["string", "integer"]:
            return {"TERM": "signal", "64MiB": "size"}.get(example, "name or number")
        case "array":
            return f"list of {_plural(kind_of(shape['items']))}"
        case "object":
            return f"table of {_plural(kind_of(shape['additionalProperties']))}"
        case "integer" | "number" as name if "minimum" in shape:
            most = f" to {shape['maximum']}" if "maximum" in shape else " or more"
            return f"{name}, {shape['minimum']}{most}"
        case name:
            return "reference" if "started|ready" in shape.get("pattern", "") else str(name)


def _plural(noun: str) -> str:
    if noun == "name or number":
        return "names or numbers"
    head, comma, rest = noun.partition(",")
    return f"{head}s{comma}{rest}"
