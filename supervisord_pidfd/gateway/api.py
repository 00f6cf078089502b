"""The HTTP API: one row of `ROWS` for each path under /v1, most of them one call of the core.

A row names the method of the control socket that answers it, and which of its parameters a client
may give: in the query, or in a POST also as members of a JSON object. Types come from `commands`,
so that the API takes what the socket takes, and the document of `openapi` says the same.
"""

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from supervisord_pidfd.commands import METHODS, Method, Param
from supervisord_pidfd.gateway import openapi
from supervisord_pidfd.gateway.access import Level, host_of
from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.http import (
    FORMAT,
    JSON,
    Request,
    Response,
    failure,
    json_response,
)
from supervisord_pidfd.gateway.router import EVERYWHERE, WEB, Route
from supervisord_pidfd.gateway.sse import Events, Lines, LogEvents, wants_lines

WAIT_S = 60.0
"""How long a change is awaited if the client does not say."""
WAIT_MAX_S = 3600.0
LAST = 50
"""Events or lines that a stream begins with if the client does not say."""
WORD_MAX = 512
NUMBER_MAX = 10**15

IN_QUERY = {"names": "service"}
"""Parameters whose name in a query or body is another than that of the control socket."""

_METHODS: dict[str, Method] = {method.name: method for method in METHODS}


class Core(Protocol):
    """Be what the API needs of the core."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its one answer."""
        ...

    async def call_text(self, method: str, **parameters: Any) -> bytes:
        """Call a method and return its one answer as JSON."""
        ...

    def stream(self, method: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Call a method and give each of its answers."""
        ...


class Row(NamedTuple):
    """Declare one path of the API.

    `calls` is a method of the control socket; `takes` are those of its parameters that a client
    may give, beside the name in the path. `answer` names how its answer becomes ours.
    """

    method: str
    path: str
    level: Level
    handler: str
    calls: str
    takes: tuple[str, ...]
    summary: str
    answer: str = "reply"
    doors: frozenset[str] = WEB

    @property
    def params(self) -> tuple[Param, ...]:
        """Return what a client may give, with the types of the method."""
        known = {param.name: param for param in _METHODS[self.calls].params}
        return tuple(known[name] for name in self.takes)

    @property
    def names(self) -> Mapping[str, str]:
        """Return how parameters are called here, where it is not as on the control socket."""
        return IN_QUERY


_NAMED = "/v1/services/{name}"
_WAITING = ("only", "wait", "timeout_s")
_SETTLING = (*_WAITING, "settle_s")


def _read(path: str, handler: str, calls: str, summary: str, *takes: str) -> Row:
    return Row("GET", path, Level.READ, handler, calls, takes, summary)


def _change(verb: str, calls: str, summary: str, *takes: str) -> Row:
    path = f"{_NAMED}/{verb}"
    return Row("POST", path, Level.CONTROL, verb, calls, takes, summary, "change")


def _stream(path: str, handler: str, calls: str, summary: str, *takes: str) -> Row:
    return Row("GET", path, Level.READ, handler, calls, takes, summary, "stream")


ROWS: tuple[Row, ...] = (
    _read("/v1/status", "status", "Status", "The daemon and its services", "names", "all"),
    _read(_NAMED, "service", "Status", "One service, or all instances of it"),
    _read(f"{_NAMED}/explain", "explain", "Explain", "Why it is in this phase, and what to do"),
    _read(f"{_NAMED}/history", "history", "History", "Its last runs, newest first", "last"),
    _read(f"{_NAMED}/deps", "deps", "Dependencies", "What it depends on", "reverse"),
    _read(f"{_NAMED}/config", "config", "Show", "Its configuration, values hidden", "origin"),
    _read("/v1/deps", "deps", "Dependencies", "All dependencies", "reverse"),
    _stream(
        "/v1/events",
        "events",
        "Events",
        "What happened and what happens",
        *("names", "since", "last", "follow"),
    ),
    _stream(
        "/v1/logs",
        "logs",
        "Logs",
        "What services write",
        *("names", "since", "last", "follow", "stream", "run"),
    ),
    Row(
        *("GET", "/v1/sd", Level.METRICS, "sd", "Discovery", ()),
        "Targets for Prometheus' http_sd: the metrics of the services themselves",
        "targets",
        EVERYWHERE,
    ),
    Row("GET", "/v1/plan", Level.CONTROL, "plan", "Plan", (), "What an apply would do"),
    Row(
        *("POST", "/v1/apply", Level.CONTROL, "apply", "Apply"),
        ("only", "no_restart", "expect", "wait", "timeout_s"),
        "Load the configuration and act on it",
        "change",
    ),
    _change("start", "Start", "Start it and what it requires", *_SETTLING),
    _change("stop", "Stop", "Stop it, first what requires it", *_WAITING),
    _change("restart", "Restart", "Stop and start it", "rolling", *_SETTLING),
    _change("reload", "Reload", "Have it reload its own configuration", "wait", "timeout_s"),
    _change("signal", "Signal", "Send a signal to its main process", "signal", "group"),
    _change("reset", "Reset", "Forget its failures; starts nothing"),
    _change("freeze", "Freeze", "Hold all its processes"),
    _change("thaw", "Thaw", "Let its processes go on"),
)


class Api:
    """Answer the rows."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._one_list = asyncio.Lock()
        self._document = openapi.document_text(ROWS)

    def routes(self) -> list[Route]:
        """Return a route for each row, and that of the document."""
        routes = [
            Route(row.method, row.path, row.level, row.handler, self._handler(row), row.doors)
            for row in ROWS
        ]
        document = Route("GET", "/v1/openapi.json", Level.READ, "openapi", self._openapi)
        return [*routes, document]

    def _handler(self, row: Row) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        ways = {
            "reply": self._reply,
            "change": self._change,
            "stream": self._stream,
            "targets": self._targets,
        }
        return partial(self._answer, row, ways[row.answer])

    async def _answer(
        self,
        row: Row,
        way: Callable[[Row, Request, dict[str, Any]], Coroutine[Any, Any, Response]],
        request: Request,
    ) -> Response:
        """Read the parameters, and say what went wrong in the words of the API."""
        try:
            given = parameters_of(row, request)
        except InvalidError as error:
            return _invalid(error)
        try:
            return await way(row, request, given)
        except ControlError as error:
            return failed(error)
        except TimeoutError:
            return failure(503, "NoAnswer", "the supervisor does not answer")
        except ConnectionError:
            return failure(503, "Unreachable", "the supervisor cannot be reached")

    async def _openapi(self, _request: Request) -> Response:
        return Response(200, self._document, JSON)

    async def _reply(self, row: Row, _request: Request, given: dict[str, Any]) -> Response:
        if row.calls != "Status":
            return json_response(await self._core.call(row.calls, **given))
        # The list of all services may be megabytes: one at a time is read, and none is parsed.
        async with self._one_list if "names" not in given else contextlib.nullcontext():
            text = await self._core.call_text(row.calls, **given)
        return Response(200, b'{"format":%d,' % FORMAT + text[1:] + b"\n", JSON)

    async def _change(self, row: Row, _request: Request, given: dict[str, Any]) -> Response:
        """Have something changed; what is not awaited is only accepted."""
        waits = "wait" in row.takes
        if waits and given.get("wait", True):
            given["timeout_s"] = min(given.get("timeout_s", WAIT_S), WAIT_MAX_S)
        reply = await self._core.call(row.calls, **given)
        return json_response(reply, 200 if not waits or given.get("wait", True) else 202)

    async def _targets(self, row: Row, request: Request, _given: dict[str, Any]) -> Response:
        asked = request.query.get("host", [])
        if len(asked) > 1:
            return _invalid(InvalidError("host"))
        host = _target_host(asked[0] if asked else request.headers.get("host", ""), bool(asked))
        if host is None:
            return _invalid(InvalidError("host"))
        groups = (await self._core.call(row.calls))["groups"]
        for group in groups:
            group["targets"] = [host + port for port in group["targets"]]
        text = json.dumps(groups, separators=(",", ":"))
        return Response(200, text.encode("ascii") + b"\n", JSON)

    async def _stream(self, row: Row, request: Request, given: dict[str, Any]) -> Response:
        lines = wants_lines(request.headers.get("accept", ""))
        given.setdefault("follow", not lines)
        member = "event" if row.calls == "Events" else "line"
        resumed = request.headers.get("last-event-id", "")
        if lines:
            shape: Lines = Lines(member)
        elif member == "event":
            shape = Events(member, resumed)
        else:
            shape = LogEvents(member, resumed)
        given = shape.adapt({"last": LAST, **given} if "since" not in given else given)
        stream = self._core.stream(row.calls, **given)
        return await shape.response(stream, follows=given["follow"])


# -- parameters -----------------------------------------------------------------------------------


class InvalidError(Exception):
    """Name the parameter that is unknown, missing, repeated or not of its type."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


def parameters_of(row: Row, request: Request) -> dict[str, Any]:
    """Return the parameters of the row's method, from the path, the query and the body.

    Raises:
        InvalidError: One of them is not what the row takes.
    """
    declared = {IN_QUERY.get(param.name, param.name): param for param in row.params}
    found: dict[str, Any] = {}
    for name, values in request.query.items():
        if name == "host" and row.answer == "targets":
            continue
        if name not in declared:
            raise InvalidError(name)
        found[declared[name].name] = _from_query(name, declared[name], values)
    for name, value in _body_of(request).items():
        if name not in declared or declared[name].name in found:
            raise InvalidError(name)
        found[declared[name].name] = _checked(name, declared[name], value)
    for name, param in declared.items():
        if not param.optional and param.name not in found:
            raise InvalidError(name)
    return _with_name(row, request, found)


def _with_name(row: Row, request: Request, found: dict[str, Any]) -> dict[str, Any]:
    """Add the service that the path names."""
    if "name" not in request.params:
        return found
    name = request.params["name"]
    # The daemon's own processes are changed where an answer survives it: by `pidfdctl`.
    if len(name) > WORD_MAX or (request.method == "POST" and name.startswith(":")):
        raise InvalidError("name")
    several = any(param.name == "names" for param in _METHODS[row.calls].params)
    return {"names": [name], **found} if several else {"name": name, **found}


def _body_of(request: Request) -> dict[str, Any]:
    """Read a JSON object; no body is an empty one."""
    if request.method != "POST" or not request.body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise InvalidError("Content-Type")
    try:
        body = json.loads(request.body, object_pairs_hook=_members, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidError("body") from error
    if type(body) is not dict:
        raise InvalidError("body")
    return cast("dict[str, Any]", body)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(constant)


_WORDS = {"1": True, "true": True, "": True, "0": False, "false": False}
_INT = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_FLOAT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)


def _from_query(name: str, param: Param, values: list[str]) -> Any:
    """Read the text of a query as the type that is declared."""
    if param.kind == "[]string":
        return _checked(name, param, values)
    if len(values) != 1:
        raise InvalidError(name)
    text = values[0]
    value: Any = text
    if param.kind == "bool":
        value = _WORDS.get(text)
    elif param.kind == "int":
        value = int(text) if _INT.fullmatch(text) else None
    elif param.kind == "float":
        value = float(text) if _FLOAT.fullmatch(text) else None
    return _checked(name, param, value)


def _checked(name: str, param: Param, value: Any) -> Any:
    """Hold a value against its type, more narrowly than the core does: it comes from far away."""
    if not _fits(param, value):
        raise InvalidError(name)
    return value


def _fits(param: Param, value: Any) -> bool:
    match param.kind:
        case "string":
            return _is_word(value) and (not param.choices or value in param.choices)
        case "bool":
            return type(value) is bool
        case "int":
            least = -math.inf if param.least is None else param.least
            return type(value) is int and least <= value < NUMBER_MAX and -value < NUMBER_MAX
        case "float":
            return type(value) in {int, float} and 0 <= value < NUMBER_MAX
        case _:
            return type(value) is list and bool(value) and all(map(_is_word, value))


def _is_word(value: object) -> bool:
    """Tell whether this is a short text that can be written as UTF-8."""
    if type(value) is not str or not 0 < len(value) <= WORD_MAX:
        return False
    with contextlib.suppress(UnicodeEncodeError):
        value.encode()
        return value.isprintable()
    return False


def _target_host(text: str, asked: bool) -> str | None:  # noqa: FBT001 - both callers name it
    """Return the host of a target as it stands in an address; None if it is none."""
    if asked and ":" in text and not text.startswith("["):
        text = f"[{text}]"  # an IPv6 address, as it stands on its own
    host = host_of(text)
    return None if host is None or (asked and host.port is not None) else host.name


# -- what went wrong ------------------------------------------------------------------------------

STATUS = {
    "InvalidParameter": 400,
    "PermissionDenied": 403,
    "NoSuchService": 404,
    "Refused": 409,
    "ConfigInvalid": 422,
    "MethodNotFound": 501,
    "MethodNotImplemented": 501,
    "WaitTimedOut": 504,
}
"""The status of each error of the core."""


def _invalid(error: InvalidError) -> Response:
    message = f"this is not accepted: {error.parameter}"
    return failure(400, "InvalidParameter", message, {"parameter": error.parameter})


def failed(error: ControlError) -> Response:
    """Make the answer to what the core refused."""
    text = message_of(error.name, error.parameters)
    return failure(STATUS.get(error.name, 503), error.name, text, error.parameters)


def message_of(  # noqa: PLR0911 - one for each error
    name: str, parameters: Mapping[str, Any]
) -> str:
    """Say in a sentence what the core had against it."""
    match name:
        case "NoSuchService":
            near = parameters.get("suggestion")
            hint = f" (did you mean {near!r}?)" if near else ""
            return f"no such service: {parameters.get('name')}{hint}"
        case "InvalidParameter":
            return f"this is not accepted: {parameters.get('parameter')}"
        case "PermissionDenied":
            return "the supervisor does not allow this over HTTP (web.control)"
        case "ConfigInvalid":
            return "the configuration is invalid; nothing was changed"
        case "WaitTimedOut":
            return "it takes longer; the change goes on"
        case "Refused":
            return str(parameters.get("message") or parameters.get("reason"))
        case "MethodNotFound" | "MethodNotImplemented":
            return "not available in this version"
        case _:
            return f"the supervisor answered {name}"
