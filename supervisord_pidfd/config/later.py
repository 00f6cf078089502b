"""The one table of names that are taken but not built in this version.

There are two kinds. `KEYS` are not read at all: who builds one removes it here, and gives it its
field in `model.py` and its row in `core/spec.py`. `WAITING` are read, checked and part of the
spec, but nothing on this version acts on them, so a file that has one is refused all the same:
who brings the behaviour removes the line and runs `make docs`. Tests of the reading alone pass
`Request(all_keys=True)`, which lets them through.

`*` stands for any name; `[defaults]` follows `service.*`. `KEY=WORD` is that value of the key
alone, `KEY!=WORD` every other value.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

_KEYS = """
    supervisor.survivors
    supervisor.log.stderr_path
    service.*.sockets
    service.*.scheduling.io_class service.*.scheduling.io_priority service.*.cgroup
    service.*.sandbox.capability_bounding_set service.*.sandbox.ambient_capabilities
    service.*.sandbox.private_tmp service.*.sandbox.protect_system service.*.sandbox.seccomp
    service.*.watch service.*.extends
"""
KEYS = frozenset(tuple(key.split(".")) for key in _KEYS.split())

WAITING: tuple[str, ...] = ()
"""One key a line: remove it in the change that brings what it does."""

TYPES = ("task",)
SCOPES = ("cgroup",)
LOG_FORMATS = ("raw",)
"""Words that are not available yet as values of keys that are."""

MESSAGE = "not available in this version"

_NAMED = {"service", "group"}
_CHECKS = ("service", "*", "health")


class Taken(NamedTuple):
    """Hold a key that was taken out; `value` where only some values of it are refused."""

    path: tuple[str, ...]
    value: object = None


class Gate(NamedTuple):
    """Hold what is refused: keys whatever their value, and values of keys."""

    keys: frozenset[tuple[str, ...]]
    refused: dict[tuple[str, ...], str]
    allowed: dict[tuple[str, ...], str]

    def shuts(self, key: tuple[str, ...]) -> bool:
        """Tell whether the key is refused whatever its value."""
        return key in self.keys

    def shuts_value(self, key: tuple[str, ...], value: object) -> bool:
        """Tell whether this value of the key is refused; one of a wrong type is not."""
        if not isinstance(value, str):
            return False
        return self.refused.get(key) == value or self.allowed.get(key, value) != value


def gate(waiting: tuple[str, ...]) -> Gate:
    """Make the gate of lines such as those of `WAITING`, and of `KEYS`."""
    keys, refused, allowed = set(KEYS), {}, {}
    for line in waiting:
        name, equals, word = line.partition("=")
        key = tuple(name.removesuffix("!").split("."))
        if not equals:
            keys.add(key)
        elif name.endswith("!"):
            allowed[key] = word
        else:
            refused[key] = word
    return Gate(frozenset(keys), refused, allowed)


def take_out(tree: dict[str, Any], gate: Gate) -> Iterator[Taken]:
    """Remove every key that the gate shuts from a tree of sections; yield what was there."""
    for section, content in tree.items():
        if not isinstance(content, dict):
            continue
        if section in _NAMED:
            for name, table in content.items():
                if isinstance(table, dict):
                    yield from _taken(table, (section, "*"), (section, name), gate)
        else:
            pattern = ("service", "*") if section == "defaults" else (section,)
            yield from _taken(content, pattern, (section,), gate)


def _taken(
    table: dict[str, Any], pattern: tuple[str, ...], path: tuple[str, ...], gate: Gate
) -> Iterator[Taken]:
    for key, value in list(table.items()):
        here = (*pattern, "*" if pattern == _CHECKS else key)
        if gate.shuts(here) or gate.shuts_value(here, value):
            del table[key]
            yield Taken((*path, key), None if gate.shuts(here) else value)
            if pattern[:-1] == _CHECKS:
                table.clear()  # the rest of a check means nothing without its kind
                return
        elif isinstance(value, dict) and value and len(here) < 5:
            yield from _taken(value, here, (*path, key), gate)
            if not value:
                del table[key]


def names_in(pattern: tuple[str, ...]) -> list[str]:
    """Return the keys of the table that stand directly in this one, for suggestions."""
    size = len(pattern)
    return [key[size] for key in KEYS if len(key) > size and key[:size] == pattern]
