"""The one table of names that are taken but not built in this version.

A later version removes lines here, and gives the key its field in `model.py` and its row in
`core/spec.py`. `*` stands for any name; `[defaults]` follows `service.*`.
"""

from collections.abc import Iterator
from typing import Any

_KEYS = """
    supervisor.survivors
    supervisor.log.to supervisor.log.path supervisor.log.stderr_path supervisor.log.rotate_size
    supervisor.log.rotate_keep supervisor.log.rotate_every supervisor.log.compress
    metrics.canary
    web.listen web.control web.token_file web.allowed_hosts web.rpc web.rpc_listen
    service.*.ready.log
    service.*.log.format service.*.log.path service.*.log.stderr_path service.*.log.rotate_size
    service.*.log.rotate_keep service.*.log.rotate_every service.*.log.compress
    service.*.log.overflow service.*.log.block_for service.*.log.rate_limit
    service.*.log.strip_ansi service.*.log.ring service.*.log.max_line
    service.*.sockets
    service.*.scheduling.io_class service.*.scheduling.io_priority service.*.cgroup
    service.*.sandbox.capability_bounding_set service.*.sandbox.ambient_capabilities
    service.*.sandbox.private_tmp service.*.sandbox.protect_system service.*.sandbox.seccomp
    service.*.watch service.*.extends
"""
KEYS = frozenset(tuple(key.split(".")) for key in _KEYS.split())

TYPES = ("task",)
SCOPES = ("cgroup",)
OUTPUTS = ("auto", "file", "journal", "syslog")
LOG_FORMATS = ("raw",)
"""Words that are not available yet as values of keys that are."""

MESSAGE = "not available in this version"

_NAMED = {"service", "group"}


def take_out(tree: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Remove every key of the table from a tree of sections; yield the paths that were there."""
    for section, content in tree.items():
        if not isinstance(content, dict):
            continue
        if section in _NAMED:
            for name, table in content.items():
                if isinstance(table, dict):
                    yield from _taken(table, (section, "*"), (section, name))
        else:
            pattern = ("service", "*") if section == "defaults" else (section,)
            yield from _taken(content, pattern, (section,))


def _taken(
    table: dict[str, Any], pattern: tuple[str, ...], path: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    for key, value in list(table.items()):
        here = (*pattern, key)
        if here in KEYS:
            del table[key]
            yield (*path, key)
        elif isinstance(value, dict) and len(here) < 4:
            yield from _taken(value, here, (*path, key))


def names_in(pattern: tuple[str, ...]) -> list[str]:
    """Return the keys of the table that stand directly in this one, for suggestions."""
    size = len(pattern)
    return [key[size] for key in KEYS if len(key) > size and key[:size] == pattern]
