"""What the file says of a service, for people: each key, its value as TOML text, and its place.

The defaults are merged in and `${}` is filled in. Secrets, and values of keys whose name says that
they are secret, are masked, also where another value takes them in by `${}`.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from supervisord_pidfd.config.filling import Filling, Where
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import MASK, is_sensitive
from supervisord_pidfd.config.tree import Tree

_BARE = re.compile("[A-Za-z0-9_-]+")
_FILLED = {"command", "directory", "user", "group", "environment", "environment_file", "hooks"}
_FILLED_INSIDE = {"tcp", "http", "exec", "file", "command", "check", "path", "stderr_path"}
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_COMMANDS = {
    "command", "exec", "check", "pre_start", "post_start", "pre_stop", "post_stop", "on_failure",
}  # fmt: skip


def written_of(where: Where, filling: Filling) -> str:
    """Return JSON: a list of [dotted key, TOML text, file, line], the service's own keys first."""
    data = where.tree.data
    found = dict(_leaves(data["service"][where.path[1]], ()))
    for path, value in _leaves(data.get("defaults", {}), ()):
        found.setdefault(path, value)
    lines = []
    for path, value in found.items():
        source, span = where.tree.value((*where.path, *path))
        shown = value
        if is_sensitive(path):
            shown = MASK
        elif source.name != "--":  # what stands on a command line is taken as it is
            shown = _filled(filling, path, value)
        lines.append([dotted(path), toml(shown), source.name, span.line])
    return _compact(lines)


def settings_written_of(tree: Tree) -> str:
    """Return the same of the daemon's own tables and of the groups; empty if there are none."""
    lines = []
    for section in ("supervisor", "metrics", "web", "group"):
        table = tree.data.get(section)
        for path, value in _leaves(table if isinstance(table, dict) else {}, (section,)):
            source, span = tree.value(path)
            shown = MASK if is_sensitive(path) else value
            lines.append([dotted(path), toml(shown), source.name, span.line])
    return _compact(lines) if lines else ""


def _leaves(table: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in table.items():
        path = (*above, key)
        if isinstance(value, dict):
            yield from _leaves(value, path)
        else:
            yield path, value


def _filled(filling: Filling, path: Path, value: Any) -> Any:
    """Fill in a value, if its key is one of those; a string of words becomes a list of them."""
    takes = path[0] in _FILLED or path[-1] in _FILLED_INSIDE or "headers" in path
    if not takes or "$" not in str(value):
        return value
    if isinstance(value, str) and path[-1] in _COMMANDS and path[0] != "environment":
        value = shlex.split(value)
    if isinstance(value, list):
        return [filling.shown(path, word) if isinstance(word, str) else word for word in value]
    return filling.shown(path, value) if isinstance(value, str) else value


# -- TOML -----------------------------------------------------------------------------------------


def dotted(path: Path) -> str:
    """Write a path as a dotted key."""
    return ".".join(part if _BARE.fullmatch(part) else _string(part) for part in map(str, path))


def toml(value: Any) -> str:
    """Write a value that tomli read, in one line."""
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value)  # numbers, also inf and nan, and dates are written as Python writes them


def _string(text: str) -> str:
    return _compact(text).replace("\x7f", "\\u007f")
