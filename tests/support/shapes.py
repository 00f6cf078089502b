"""The Varlink interface file, read; and whether a value is of one of its types."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import supervisord_pidfd

FILE = Path(supervisord_pidfd.__file__).parent / "io.supervisordpidfd.Control.varlink"
_SCALARS = {"string": {str}, "bool": {bool}, "int": {int}, "float": {int, float}, "object": {dict}}
_TOKEN = re.compile(r"\s+|#.*|(->|\[string\]|\[\]|[A-Za-z_][\w.]*|[(),:?])")


class Struct(NamedTuple):
    """Hold the members of an object, each with its type."""

    members: Mapping[str, Any]


class Choice(NamedTuple):
    """Hold the words there are."""

    words: tuple[str, ...]


class Wrapped(NamedTuple):
    """Hold a type in an array (`[]`), a map (`[string]`) or an optional (`?`)."""

    how: str
    inner: Any


class Interface(NamedTuple):
    """Hold types, methods (in and out) and errors by name."""

    types: dict[str, Any]
    methods: dict[str, tuple[Struct, Struct]]
    errors: dict[str, Struct]


@cache
def interface(path: Path = FILE) -> Interface:
    """Read the file."""
    tokens = _tokens(path.read_text(encoding="utf-8"))
    found = Interface({}, {}, {})
    for word in tokens:
        name = next(tokens)
        if word == "type":
            found.types[name] = _type(tokens, next(tokens))
        elif word == "method":
            taken = _struct(tokens)
            assert next(tokens) == "->"
            found.methods[name] = (taken, _struct(tokens))
        elif word == "error":
            found.errors[name] = _struct(tokens)
        else:
            assert word == "interface", word
    return found


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, text[at : at + 40]
        at = match.end()
        if match[1]:
            yield match[1]


def _struct(tokens: Iterator[str]) -> Struct:
    found = _type(tokens, next(tokens))
    assert isinstance(found, Struct)
    return found


def _type(tokens: Iterator[str], first: str) -> Any:
    if first in {"?", "[]", "[string]"}:
        return Wrapped(first, _type(tokens, next(tokens)))
    if first != "(":
        return first
    members: dict[str, Any] = {}
    words: list[str] = []
    while (token := next(tokens)) != ")":
        if token == ",":
            continue
        if token == ":":
            members[words.pop()] = _type(tokens, next(tokens))
        else:
            words.append(token)
    return Choice(tuple(words)) if words else Struct(members)


def mismatch(value: Any, kind: Any, where: str = "") -> str | None:
    """Say what of a value is not as its type has it; None if nothing."""
    if isinstance(kind, Struct):
        return _mismatch_of_members(value, kind.members, where)
    if isinstance(kind, Wrapped):
        return _mismatch_of_many(value, kind, where)
    if kind in interface().types:
        return mismatch(value, interface().types[kind], where)
    fits = value in kind.words if isinstance(kind, Choice) else type(value) in _SCALARS[kind]
    return None if fits else f"{where}: {value!r} is no {kind}"


def _mismatch_of_many(value: Any, kind: Wrapped, where: str) -> str | None:
    if kind.how == "?":
        return None if value is None else mismatch(value, kind.inner, where)
    if type(value) is not {"[]": list, "[string]": dict}[kind.how]:
        return f"{where}: {value!r} is no {kind.how}"
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found = (mismatch(one, kind.inner, f"{where}[{at}]") for at, one in parts)
    return next((one for one in found if one), None)


def _mismatch_of_members(value: Any, members: Mapping[str, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where}: {value!r} is no object"
    extra = value.keys() - members.keys()
    if extra:
        return f"{where}: {sorted(extra)} are not declared"
    for name, kind in members.items():
        optional = isinstance(kind, Wrapped) and kind.how == "?"
        if name not in value and not optional:
            return f"{where}.{name} is missing"
        found = mismatch(value.get(name), kind, f"{where}.{name}")
        if found:
            return found
    return None
