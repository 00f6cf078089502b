"""The shapes that the interface file declares, to hold answers against.

Reads the part of the Varlink language that our interface file uses: aliases of structs and enums,
`?` for what may be null, arrays, maps of strings, and methods with their replies.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from supervisord_pidfd import commands

FILE = Path(commands.__file__).parent / f"{commands.INTERFACE}.varlink"
_TOKEN = re.compile(r"->|\[string\]|\[\]|[?(),:]|[\w.]+")
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "bool": (bool,), "int": (int,), "float": (int, float), "object": (dict,),
}  # fmt: skip


class Interface:
    """Know every type, method and error of the interface."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.replies: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self._tokens = _TOKEN.findall(re.sub(r"#.*", "", text))
        self._at = 2  # after `interface NAME`
        while self._at < len(self._tokens):
            self._member()

    # -- reading ------------------------------------------------------------------------------

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _member(self) -> None:
        keyword, name, shape = self._take(), self._take(), self._type()
        if keyword == "method":
            self.parameters[name] = shape
            assert self._take() == "->"
            self.replies[name] = self._type()
        else:
            {"type": self.types, "error": self.errors}[keyword][name] = shape

    def _type(self) -> Any:
        match self._take():
            case "?":
                return ("maybe", self._type())
            case "[]":
                return ("list", self._type())
            case "[string]":
                return ("map", self._type())
            case "(":
                return self._struct_or_enum()
            case word:
                return ("named", word)

    def _struct_or_enum(self) -> Any:
        members: dict[str, Any] = {}
        words = []
        while (word := self._take()) != ")":
            if word == ",":
                continue
            words.append(word)
            if self._tokens[self._at] == ":":
                self._take()
                members[word] = self._type()
        return ("struct", members) if members or not words else ("enum", tuple(words))

    # -- holding against ----------------------------------------------------------------------

    def wrong_in_reply(self, method: str, reply: Any) -> list[str]:
        """List what of a reply is not as declared."""
        return list(self._wrong(self.replies[method], reply, method))

    def wrong_in_error(self, name: str, parameters: Any) -> list[str]:
        """List what of an error's parameters is not as declared."""
        return list(self._wrong(self.errors[name], parameters, name))

    def wrong_in_type(self, name: str, value: Any) -> list[str]:
        """List what of a value is not as the type declares."""
        return list(self._wrong(self.types[name], value, name))

    def _wrong(self, shape: Any, value: Any, where: str) -> Iterator[str]:
        kind, detail = shape
        if kind == "maybe":
            if value is not None:
                yield from self._wrong(detail, value, where)
        elif kind == "named" and detail in self.types:
            yield from self._wrong(self.types[detail], value, where)
        elif kind in {"list", "map"} and isinstance(value, list if kind == "list" else dict):
            for key, one in enumerate(value) if kind == "list" else value.items():
                yield from self._wrong(detail, one, f"{where}[{key}]")
        elif kind == "struct" and isinstance(value, dict):
            yield from self._wrong_members(detail, value, where)
        elif not self._is_plain(kind, detail, value):
            yield f"{where}: {json.dumps(value)} is no {detail}"

    def _is_plain(self, kind: str, detail: Any, value: Any) -> bool:
        if kind == "enum":
            return value in detail
        return kind == "named" and type(value) in _KINDS[detail]

    def _wrong_members(self, members: Any, value: Any, where: str) -> Iterator[str]:
        for name, shape in members.items():
            if name in value:
                yield from self._wrong(shape, value[name], f"{where}.{name}")
            elif shape[0] != "maybe":
                yield f"{where}.{name}: missing"
        yield from (f"{where}.{name}: not declared" for name in value.keys() - members.keys())


INTERFACE = Interface(FILE.read_text())
