"""`supervisord-pidfd schema`: JSON Schema 2020-12 of the file, for editors."""

import json
import sys
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from supervisord_pidfd.config import fields, model, tables

URL = "https://json-schema.org/draft/2020-12/schema"
USAGE = "usage: supervisord-pidfd schema"
OK, USAGE_ERROR = 0, 2


def main(argv: list[str]) -> int:
    """Print the schema; return the exit code."""
    if argv:
        sys.stderr.write(f"supervisord-pidfd: unknown argument '{argv[0]}'\n{USAGE}\n")
        return USAGE_ERROR
    sys.stdout.write(text())
    return OK


def text() -> str:
    """Return the schema as it is printed, and kept in `docs/supervisord.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the schema of a whole file."""
    mode: Literal["validation"] = "validation"
    written: list[type[model.Table]] = [
        model.Service,
        *(table for table in vars(tables).values() if _is_table(table)),
    ]
    _, definitions = models_json_schema(
        [(table, mode) for table in written],
        ref_template="#/$defs/{model}",
        schema_generator=_Generator,
    )
    kinds: dict[str, Any] = _linked(definitions["$defs"])
    for kind in kinds.values():
        kind.pop("title", None)  # it would only repeat the name
    service = kinds["Service"]
    kinds["Defaults"] = {
        "description": "Every service starts from these; its own keys are stronger.",
        **{
            key: value for key, value in service.items() if key in {"type", "additionalProperties"}
        },
        "properties": {
            key: value
            for key, value in service["properties"].items()
            if key not in model.NOT_IN_DEFAULTS
        },
    }
    named = {"type": "object", "propertyNames": {"pattern": f"^{fields.NAME.pattern}$"}}
    return {
        "$schema": URL,
        "title": "supervisord-pidfd configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "files to read as well: paths or globs, relative to this file",
                "type": "array",
                "items": {"type": "string"},
            },
            **{name: _reference(table) for name, table in model.SECTIONS.items()},
            "defaults": _reference("Defaults"),
            "group": {**named, "additionalProperties": _reference("Group")},
            "service": {**named, "additionalProperties": _reference("Service")},
        },
        "$defs": dict(sorted(kinds.items())),
    }


def _is_table(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, model.Table) and value is not model.Table


def _linked(node: Any) -> Any:
    """Put references where the model says `table`."""
    if isinstance(node, dict):
        if isinstance(node.get("table"), str):
            return {**{k: v for k, v in node.items() if k != "table"}, **_reference(node["table"])}
        return {key: _linked(value) for key, value in node.items()}
    return [_linked(part) for part in node] if isinstance(node, list) else node


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


class _Generator(GenerateJsonSchema):
    """Leave out what tells a user nothing: titles, and that a key may be absent."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's shape
        """Never: a title would only repeat the key."""
        return False

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        """Describe the value alone; TOML has no null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """Leave defaults out: None means that a key was not written."""
        return self.generate_inner(schema["schema"])
