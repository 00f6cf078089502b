"""Write the OpenAPI document of the API, from its rows and the interface of the control socket."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from supervisord_pidfd import __version__
from supervisord_pidfd.commands import Param
from supervisord_pidfd.gateway.access import Level
from supervisord_pidfd.gateway.http import FORMAT, JSON
from supervisord_pidfd.gateway.varlink import Interface, Schema, interface

_ERRORS = {
    400: "A parameter is unknown, missing or not of its type, or the request makes no sense",
    401: "A token is needed, and this is none",
    403: "This token, page or door may not",
    404: "There is no such service",
    408: "The request did not come in time",
    409: "The supervisor refuses",
    421: "This Host is not known here",
    422: "The configuration is invalid",
    431: "The head of the request is too long",
    501: "Not available in this version",
    503: "The supervisor cannot be reached, or there are too many connections",
    504: "It takes longer than `timeout_s`; the change goes on",
}
_ALWAYS = (400, 401, 403, 408, 421, 431, 503)
_INTRO = """\
Levels are `open`, `metrics`, `read` and `control`, each with all that the one before may. Without
a token file, `metrics` and `read` need no token on addresses that only this machine reaches;
`control` always needs one. A POST needs the header `X-Supervisord-Request: 1`. Members are only
added to answers of a format, so clients ignore those they do not know."""
_KINDS: Mapping[str, Schema] = {
    "string": {"type": "string", "minLength": 1, "maxLength": 512},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number", "minimum": 0},
    "[]string": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "minLength": 1, "maxLength": 512},
    },
}
_NAME: Schema = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "A service, all instances of one, a pattern, or a group (`@backend`)",
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
}
_HEADER: Schema = {
    "name": "X-Supervisord-Request",
    "in": "header",
    "required": True,
    "description": "What no form of a web page can send",
    "schema": {"type": "string", "enum": ["1"]},
}


class Row(Protocol):
    """Be what is described: a row of the API."""

    @property
    def method(self) -> str: ...  # noqa: D102 - see api.Row
    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def level(self) -> Level: ...  # noqa: D102
    @property
    def calls(self) -> str: ...  # noqa: D102
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def answer(self) -> str: ...  # noqa: D102
    @property
    def params(self) -> tuple[Param, ...]: ...  # noqa: D102
    @property
    def names(self) -> Mapping[str, str]: ...  # noqa: D102


def document_text(rows: Iterable[Row]) -> bytes:
    """Return the document as JSON."""
    return json.dumps(document(rows, interface()), separators=(",", ":")).encode("ascii") + b"\n"


def document(rows: Iterable[Row], varlink: Interface) -> dict[str, Any]:
    """Describe the rows; types are those of the interface file."""
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, varlink)
    return {
        "openapi": "3.1.0",
        "info": {"title": "supervisord-pidfd", "version": __version__, "description": _INTRO},
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {
            "schemas": {**varlink.types, "Error": _error_schema()},
            "responses": {str(code): _failure(text) for code, text in _ERRORS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(row: Row, varlink: Interface) -> dict[str, Any]:
    named = "{name}" in row.path
    parameters = [_NAME] if named else []
    if row.method == "POST":
        parameters.append(_HEADER)
    parameters += [_parameter(row.names.get(one.name, one.name), one) for one in row.params]
    if row.answer == "targets":
        parameters.append(_query("host", {"type": "string"}, "Where the targets are; the Host"))
    words = re.findall(r"[a-z]+", row.path.replace("{name}", "service" if row.params else ""))
    found: dict[str, Any] = {
        "operationId": "_".join([row.method.lower(), *words[1:]]),
        "summary": row.summary,
        "description": f"Level `{row.level.name.lower()}`.",
        "security": [{"token": []}] if row.level is Level.CONTROL else [{}, {"token": []}],
        "parameters": parameters,
        "responses": _responses(row, varlink),
    }
    if row.method == "POST" and row.params:
        found["requestBody"] = _body(row)
    return found


def _parameter(name: str, param: Param) -> Schema:
    schema = _schema(param)
    found = _query(name, schema)
    found["required"] = False
    return found


def _query(name: str, schema: Schema, description: str = "") -> Schema:
    found: Schema = {"name": name, "in": "query", "schema": schema}
    return {**found, "description": description} if description else found


def _schema(param: Param) -> Schema:
    schema = dict(_KINDS[param.kind])
    if param.choices:
        schema["enum"] = list(param.choices)
    if param.kind == "int" and param.least is not None:
        schema["minimum"] = int(param.least)
    return schema


def _body(row: Row) -> Schema:
    """Describe the JSON object that may say the same as the query."""
    members = {row.names.get(one.name, one.name): _schema(one) for one in row.params}
    schema = {"type": "object", "properties": members, "additionalProperties": False}
    text = "What is not in the query"
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _responses(row: Row, varlink: Interface) -> dict[str, Any]:
    found = {"200": {"description": "Done", "content": _content(row, varlink)}}
    if any(param.name == "wait" for param in row.params):
        found["202"] = {"description": "Begun; not awaited", "content": _content(row, varlink)}
    codes = [*_ALWAYS]
    if "{name}" in row.path or any(param.name == "names" for param in row.params):
        codes.append(404)
    if row.level is Level.CONTROL:
        codes += [404, 409, 422, 501, 504]
    for code in sorted(set(codes)):
        found[str(code)] = {"$ref": f"#/components/responses/{code}"}
    return found


def _content(row: Row, varlink: Interface) -> Schema:
    reply = varlink.replies[row.calls]
    if row.answer == "targets":
        return {JSON: {"schema": _TARGETS}}
    if row.answer == "stream":
        (member,) = reply["properties"].values()
        line = member["anyOf"][0]
        return {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": line},
        }
    return {JSON: {"schema": _framed(reply)}}


def _framed(reply: Schema) -> Schema:
    """Add the number of the format to a reply."""
    return {
        **reply,
        "properties": {"format": {"const": FORMAT}, **reply["properties"]},
        "required": ["format", *reply.get("required", [])],
    }


_TARGETS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["targets", "labels"],
        "properties": {
            "targets": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}


def _error_schema() -> Schema:
    error = {
        "type": "object",
        "required": ["name", "message", "parameters"],
        "properties": {
            "name": {"type": "string"},
            "message": {"type": "string"},
            "parameters": {"type": "object"},
        },
    }
    members = {"format": {"const": FORMAT}, "error": error}
    return {"type": "object", "required": ["format", "error"], "properties": members}


def _failure(text: str) -> Schema:
    """Describe what is answered instead; what is refused before it is read is a line of text."""
    schema = {"$ref": "#/components/schemas/Error"}
    content = {JSON: {"schema": schema}, "text/plain": {"schema": {"type": "string"}}}
    return {"description": text, "content": content}
