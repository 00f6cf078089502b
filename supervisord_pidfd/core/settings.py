"""What another [supervisor], [metrics] and [web] change, and what of it has to wait.

Most settings take effect with `apply`. What the daemon has built itself upon (its places, how it
sees exits) stays as it was until the daemon is started again, and is said to.
"""

import json
from collections.abc import Iterator
from typing import Any

from supervisord_pidfd.core.reload import HIDDEN, KeyChange, Line, PlanItem, lines_of
from supervisord_pidfd.core.spec import LogSpec, MetricsSpec, SupervisorSpec, WebSpec

DAEMON = ":supervisor"
"""What stands for the daemon itself in a plan; no service can have this name."""

_KEYS = {
    "read_uids": "supervisor.read_users",
    "read_gids": "supervisor.read_groups",
    "log_level": "supervisor.log.level",
    "log_format": "supervisor.log.format",
}
_LOG_KEYS = {"rotate_at": "rotate_every"}
_TOKENS = "web.token_file"
_NOT_SHOWN = frozenset({"identity", "tokens", "written", "origin"})
"""Members that follow from others or from the host, and what is behind a token file."""
_GROUPED = frozenset({"groups", "metrics", "web", "own_log"})

NEEDS_NEW_DAEMON = frozenset({"socket", "runtime_dir", "reaper", "subreaper", "log_format"})
"""Members of `SupervisorSpec` that the daemon reads once, when it starts."""


def settings_item(old: SupervisorSpec, new: SupervisorSpec) -> PlanItem | None:
    """Tell what changes beside the services; None if nothing does."""
    members = (
        *_supervisor(old, new),
        *_groups(old, new),
        *_section("metrics", old.metrics, new.metrics),
        *_section("web", old.web, new.web),
    )
    before, after = lines_of(old), lines_of(new)
    changes = tuple(_change(*member, before, after) for member in members)
    if old.web.tokens != new.web.tokens and old.web.token_file == new.web.token_file:
        at = _line(after, _TOKENS)
        place = (at.file, at.line) if at else (None, None)
        changes += (KeyChange(_TOKENS, HIDDEN, HIDDEN, *place),)
    return PlanItem("update", DAEMON, changes) if changes else None


def place_of_key(spec: SupervisorSpec, key: str) -> tuple[str | None, int | None]:
    """Return file and line of a key, or of the first one below it."""
    at = _line(lines_of(spec), key)
    return (at.file, at.line) if at is not None else (None, None)


def waiting_keys(running: SupervisorSpec, new: SupervisorSpec) -> tuple[str, ...]:
    """Name the keys that take effect when the daemon is started again.

    Args:
        running: What the daemon was started with.
        new: What the file says.
    """
    return tuple(
        _key(name)
        for name in SupervisorSpec._fields
        if name in NEEDS_NEW_DAEMON and getattr(running, name) != getattr(new, name)
    )


def _key(name: str) -> str:
    return _KEYS.get(name, f"supervisor.{name}")


Member = tuple[str, Any, Any]
"""A key, and the values it had and has."""


def _supervisor(old: SupervisorSpec, new: SupervisorSpec) -> Iterator[Member]:
    for name, before, after in zip(SupervisorSpec._fields, old, new, strict=True):
        if before != after and name not in _NOT_SHOWN | _GROUPED:
            yield _key(name), before, after
    for name, was, now in zip(LogSpec._fields, old.own_log, new.own_log, strict=True):
        if was != now and name != "format":  # that is `log_format`, too
            yield f"supervisor.log.{_LOG_KEYS.get(name, name)}", was, now


def _section(
    name: str, old: MetricsSpec | WebSpec, new: MetricsSpec | WebSpec
) -> Iterator[Member]:
    for key, before, after in zip(old._fields, old, new, strict=True):
        if before != after and key not in _NOT_SHOWN:
            yield f"{name}.{key}", before, after


def _groups(old: SupervisorSpec, new: SupervisorSpec) -> Iterator[Member]:
    before = {group.name: group for group in old.groups}
    after = {group.name: group for group in new.groups}
    for name in {**after, **before}:
        if before.get(name) != after.get(name):
            was, now = (
                None if one is None else list(one.members)
                for one in (before.get(name), after.get(name))
            )
            yield f"group.{name}", was, now


def _change(
    key: str, before: Any, after: Any, old: tuple[Line, ...], new: tuple[Line, ...]
) -> KeyChange:
    """Write a change as the file has it; what is not written, as the default is."""
    was, now = _line(old, key), _line(new, key)
    at = now or was
    return KeyChange(
        key,
        was.value if was is not None and was.key == key else _text(before),
        now.value if now is not None and now.key == key else _text(after),
        at.file if at else None,
        at.line if at else None,
    )


def _line(lines: tuple[Line, ...], key: str) -> Line | None:
    exact = next((line for line in lines if line.key == key), None)
    return exact or next((line for line in lines if line.key.startswith(f"{key}.")), None)


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
