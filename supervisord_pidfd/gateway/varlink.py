"""Read the interface file of the control socket as JSON Schemas.

Only the part of the language that our file uses: aliases of structs and enums, `?` for what may
be null, arrays, maps of strings, and methods with their replies.
"""

import re
from importlib import resources
from typing import Any

from supervisord_pidfd.commands import INTERFACE

_TOKEN = re.compile(r"->|\[string\]|\[\]|[?(),:]|[\w.]+")
_PLAIN = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "object": {"type": "object"},
}

Schema = dict[str, Any]


class Interface:
    """Hold the schemas of all types, replies and errors, by name."""

    def __init__(self, text: str) -> None:
        """Read the text of an interface file."""
        self.types: dict[str, Schema] = {}
        self.replies: dict[str, Schema] = {}
        self.errors: dict[str, Schema] = {}
        self._tokens: list[str] = _TOKEN.findall(re.sub(r"#.*", "", text))
        self._at = 2  # after `interface NAME`
        while self._at < len(self._tokens):
            self._member()

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _member(self) -> None:
        keyword, name, schema = self._take(), self._take(), self._type()
        if keyword == "method":
            self._take()  # the arrow; what a client may give stands in the table of methods
            self.replies[name] = self._type()
        else:
            {"type": self.types, "error": self.errors}[keyword][name] = schema

    def _type(self) -> Schema:
        word = self._take()
        if word == "?":
            return {"anyOf": [self._type(), {"type": "null"}]}
        if word == "[]":
            return {"type": "array", "items": self._type()}
        if word == "[string]":
            return {"type": "object", "additionalProperties": self._type()}
        if word == "(":
            return self._struct_or_enum()
        return dict(_PLAIN[word]) if word in _PLAIN else {"$ref": f"#/components/schemas/{word}"}

    def _struct_or_enum(self) -> Schema:
        members: dict[str, Schema] = {}
        words: list[str] = []
        while (word := self._take()) != ")":
            if word == ",":
                continue
            words.append(word)
            if self._tokens[self._at] == ":":
                self._take()
                members[word] = self._type()
        if words and not members:
            return {"type": "string", "enum": words}
        schema: Schema = {"type": "object", "properties": members}
        if required := [name for name, member in members.items() if "anyOf" not in member]:
            schema["required"] = required
        return schema


def interface() -> Interface:
    """Read the interface file of this version."""
    file = resources.files("supervisord_pidfd") / f"{INTERFACE}.varlink"
    return Interface(file.read_text(encoding="utf-8"))
