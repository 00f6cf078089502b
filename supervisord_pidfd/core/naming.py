"""What a NAME of a client stands for: services, instances, globs, groups; and what was meant.

All names of a call are looked up before anything is done. A base name stands for all instances, a
glob for every service it matches, `@group` for the members of the group in their order. The work
is bounded, whatever a client sends: plain names are looked up, and at most `GLOBS` globs are
matched.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping

GLOBS = 16
NAME_CHARS = 160
"""Longer than any name: `@`, 64 characters, `@`, 64 characters."""

_GLOB = frozenset("*?[")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-@"


class NoSuchNameError(Exception):
    """Say which name stands for nothing, and which one was probably meant."""

    def __init__(self, name: str, suggestion: str | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.suggestion = suggestion


class TooManyGlobsError(Exception):
    """Say that a call has more globs than are matched at once."""


def expand(
    names: Iterable[str], services: Collection[str], groups: Mapping[str, Iterable[str]]
) -> tuple[str, ...]:
    """Return the services that these names stand for, each once, in the order of the names.

    Args:
        names: What the client wrote.
        services: The full names there are, such as `web` and `worker@3`; a set or a mapping.
        groups: The members of each group, without its `@`.

    Raises:
        NoSuchNameError: One of them stands for nothing.
        TooManyGlobsError: There are more globs than `GLOBS`.
    """
    found: dict[str, None] = {}
    bases: dict[str, list[str]] | None = None
    globs = 0
    for name in names:
        if name in services:
            found[name] = None
            continue
        if name.startswith("@"):
            members = [one for one in groups.get(name[1:], ()) if one in services]
        elif not _GLOB.isdisjoint(name) and len(name) <= NAME_CHARS:
            globs += 1
            if globs > GLOBS:
                raise TooManyGlobsError
            members = _matching(name, services)
        else:
            bases = _bases(services) if bases is None else bases
            members = bases.get(name, [])
        if not members:
            raise NoSuchNameError(name[:NAME_CHARS], suggest(name, services, groups))
        found.update(dict.fromkeys(members))
    return tuple(found)


def _bases(services: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in services:
        base, at, _ = name.partition("@")
        if at:
            found.setdefault(base, []).append(name)
    return found


def _matching(glob: str, services: Iterable[str]) -> list[str]:
    """Match one glob; `fnmatch` makes an expression of it that never goes back behind a star."""
    matches = re.compile(fnmatch.translate(glob)).match
    return sorted(name for name in services if matches(name))


def suggest(name: str, services: Collection[str], groups: Mapping[str, object]) -> str | None:
    """Return a name that one slip of a finger away is this one; looked up, never searched for."""
    if len(name) > NAME_CHARS // 2 or not name:
        return None
    bases = {one.partition("@")[0] for one in services}
    lowered = name.lower()
    for slip in (lowered, *_slips(name)):
        if slip in services or slip in bases:
            return slip
        if slip.startswith("@") and slip[1:] in groups:
            return slip
    return f"@{name}" if name in groups else None


def _slips(name: str) -> Iterable[str]:
    """Yield every text that differs by one letter: left out, doubled, exchanged, another."""
    parts = [(name[:at], name[at:]) for at in range(len(name) + 1)]
    yield from (head + tail[1:] for head, tail in parts if tail)
    yield from (head + tail[1] + tail[0] + tail[2:] for head, tail in parts if len(tail) > 1)
    yield from (head + letter + tail for head, tail in parts for letter in _LETTERS)
    yield from (head + letter + tail[1:] for head, tail in parts if tail for letter in _LETTERS)
