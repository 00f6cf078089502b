"""What a new configuration changes: old specs and new specs → a plan, key by key.

What is to be done is decided by the members of the specs; the keys of the file are named for
people. A key restarts its service if any member it feeds is not in `LIVE_FIELDS`. Where a member
changed and no line of the file did (the contents of an environment file, a secret, a `before` of
another service) the key that stands for the member is named, and values that may be secret are
not.
"""

import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.core.spec import LIVE_FIELDS, ServiceSpec, SupervisorSpec, dump

SILENT_FIELDS = frozenset({"origin", "written", "program", "fast"})
"""Members that are taken over without being a change: where a line stands, what the host said."""

HIDDEN = "…"
"""What stands for a value that may be secret."""

_KEYS: dict[str, tuple[str, ...]] = {
    "argv": ("command",),
    "identity": ("user", "group", "supplementary_groups"),
    "environment": ("environment", "environment_file", "secrets"),
    "inherit": ("inherit_environment",),
    "unset": ("unset_environment",),
    "instance": ("instances",),
    "output": ("log.to",),
    "dependencies": ("requires", "wants", "after", "before"),
    "fdstore_max": ("fdstore",),
    "checks": ("health",),
    "stop": ("stop", "stop_signal", "stop_timeout"),
    "success": ("success_exit_codes", "success_signals"),
    "nice": ("scheduling.nice",),
    "oom_score_adjust": ("scheduling.oom_score_adjust",),
    "cpu_affinity": ("scheduling.cpu_affinity",),
    "sched_policy": ("scheduling.policy",),
    "sched_priority": ("scheduling.priority",),
    "no_new_privileges": ("sandbox.no_new_privileges",),
    "fault": ("user", "group", "supplementary_groups", "environment_file", "secrets", "stdin"),
    "group": (),
    "foreground": (),
}
"""The keys that feed a member; the others have the member's own name."""

_OF_MANY_MEMBERS = frozenset({"type", "schedule"})
"""Keys from which defaults of other members follow."""


class ReloadPlan(NamedTuple):
    """Hold the names to add, remove, restart and update in place; all others stay untouched.

    `refresh` names those that only learn where their lines stand now: that is no change.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing would be done."""
        return not (self.add or self.remove or self.restart or self.update)


class KeyChange(NamedTuple):
    """Hold one changed key: its values as TOML text, where it is written, whether it restarts."""

    key: str
    old: str | None
    new: str | None
    file: str | None
    line: int | None
    restarts: bool = False


class PlanItem(NamedTuple):
    """Hold what is to be done with one service (`add`, `remove`, `restart`, `update`), and why."""

    action: str
    service: str
    changes: tuple[KeyChange, ...] = ()


class Line(NamedTuple):
    """Hold one key as the file has it; `value` is TOML text."""

    key: str
    value: str
    file: str
    line: int


def changed_fields(old: ServiceSpec, new: ServiceSpec) -> frozenset[str]:
    """Return the names of the members that differ."""
    return frozenset(
        name
        for name, before, after in zip(ServiceSpec._fields, old, new, strict=True)
        if before != after
    )


def plan_reload(old: Mapping[str, ServiceSpec], new: Mapping[str, ServiceSpec]) -> ReloadPlan:
    """Compare by name. A member that is not in `LIVE_FIELDS` restarts its service."""
    lists: dict[str, list[str]] = {"restart": [], "update": [], "refresh": []}
    for name in new:
        if name not in old:
            continue
        changed = changed_fields(old[name], new[name])
        if changed - LIVE_FIELDS:
            lists["restart"].append(name)
        elif changed - SILENT_FIELDS:
            lists["update"].append(name)
        elif changed:
            lists["refresh"].append(name)
    return ReloadPlan(
        add=tuple(name for name in new if name not in old),
        remove=tuple(name for name in old if name not in new),
        **{action: tuple(names) for action, names in lists.items()},
    )


def items_of(
    plan: ReloadPlan, old: Mapping[str, ServiceSpec], new: Mapping[str, ServiceSpec]
) -> tuple[PlanItem, ...]:
    """Tell what a plan does, in the order in which people read it: by name."""
    items = [PlanItem("add", name, (_whole(new[name], added=True),)) for name in plan.add]
    items += [PlanItem("remove", name, (_whole(old[name], added=False),)) for name in plan.remove]
    for action in ("restart", "update"):
        items += [
            PlanItem(action, name, key_changes(old[name], new[name]))
            for name in getattr(plan, action)
        ]
    return tuple(sorted(items, key=lambda item: item.service))


def digest_of(items: Iterable[PlanItem], new: Mapping[str, ServiceSpec]) -> str:
    """Name a plan in eight digits: the same services, the same actions, the same new specs.

    A changed secret changes the digest though its value is not shown; a line that moved does not.
    """
    said = [[item.action, item.service, _content(item, new)] for item in items]
    return f"{binascii.crc32(json.dumps(said, default=str).encode()):08x}"


def _content(item: PlanItem, new: Mapping[str, ServiceSpec]) -> Any:
    spec = new.get(item.service)
    if spec is None:
        return [[change.key, change.old, change.new] for change in item.changes]
    plain = dump(spec)
    return {name: value for name, value in plain.items() if name not in SILENT_FIELDS}


def _whole(spec: ServiceSpec, *, added: bool) -> KeyChange:
    """Stand for a service that comes or goes as a whole: by its table, and where that is."""
    file, line = place_of(spec.origin)
    table = f"service.{spec.name.partition('@')[0]}"
    old, new = (None, "new") if added else ("was", None)
    return KeyChange(table, old, new, file, line, restarts=False)


def place_of(origin: str) -> tuple[str | None, int | None]:
    """Take FILE:LINE apart; nothing, for a service that no file defines."""
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if file and line.isdecimal() else (None, None)


def lines_of(spec: ServiceSpec | SupervisorSpec) -> tuple[Line, ...]:
    """Return what the file says of a service, key by key, in the order of the file."""
    return tuple(Line(*entry) for entry in json.loads(spec.written)) if spec.written else ()


# -- keys -----------------------------------------------------------------------------------------


def key_changes(old: ServiceSpec, new: ServiceSpec) -> tuple[KeyChange, ...]:
    """Name the keys that changed, or that stand for the members that did."""
    fields = changed_fields(old, new) - SILENT_FIELDS
    before = {line.key: line for line in lines_of(old)}
    after = {line.key: line for line in lines_of(new)}
    named = list(_written_changes(fields, before, after))
    explained = {change.key for change in named}
    named += [
        _for_member(field, old, new, after)
        for field in sorted(fields - {"environment"})
        if not _explains(explained, field)
    ]
    if "environment" in fields:
        named += _for_environment(old, new, after, explained)
    return tuple(named)


def feeds(key: str, field: str) -> bool:
    """Tell whether a key of the file feeds this member."""
    return any(key == own or key.startswith(f"{own}.") for own in _KEYS.get(field, (field,)))


def _written_changes(
    fields: frozenset[str], before: Mapping[str, Line], after: Mapping[str, Line]
) -> Iterator[KeyChange]:
    for key in {**after, **before}:
        was, line = before.get(key), after.get(key)
        if was is not None and line is not None and was.value == line.value:
            continue
        touched = [field for field in fields if feeds(key, field)]
        if not touched and key.partition(".")[0] not in _OF_MANY_MEMBERS:
            continue  # as `instances`, which the copies that stay do not feel
        at = line or was
        yield KeyChange(
            key,
            was.value if was else None,
            line.value if line else None,
            at.file if at else None,
            at.line if at else None,
            restarts=not LIVE_FIELDS.issuperset(touched),
        )


def _explains(keys: Iterable[str], field: str) -> bool:
    return any(feeds(key, field) or key.partition(".")[0] in _OF_MANY_MEMBERS for key in keys)


def _for_member(
    field: str, old: ServiceSpec, new: ServiceSpec, after: Mapping[str, Line]
) -> KeyChange:
    """Name a member that changed though no line of its service did."""
    key = _KEYS.get(field, (field,))[0] if _KEYS.get(field, (field,)) else field
    at = next((line for line in after.values() if feeds(line.key, field)), None)
    file, line = (at.file, at.line) if at else place_of(new.origin)
    values = [_text(field, spec) for spec in (old, new)]
    return KeyChange(
        at.key if at else key, values[0], values[1], file, line, restarts=field not in LIVE_FIELDS
    )


def _text(field: str, spec: ServiceSpec) -> str | None:
    """Write a member for people where it has a short form; a fault may name what is secret."""
    value = getattr(spec, field)
    if field == "dependencies":
        said = [f"{one.tie.value} {one.target}:{one.condition.value}" for one in value]
        return json.dumps(said)
    if isinstance(value, str | int | float) or value is None:
        return None if value is None else json.dumps(value)
    return HIDDEN


def _for_environment(
    old: ServiceSpec, new: ServiceSpec, after: Mapping[str, Line], explained: set[str]
) -> list[KeyChange]:
    """Name variables whose value changed behind an unchanged line; values are not shown."""
    before, now = dict(old.environment), dict(new.environment)
    keys: dict[str, None] = {}
    for name in {**now, **before}:
        if before.get(name) == now.get(name):
            continue
        own = [f"secrets.{name}", f"environment.{name}"]
        if not explained.intersection(own):
            keys[next((key for key in own if key in after), "environment_file")] = None
    if "environment_file" in keys and (
        "environment_file" not in after or "environment_file" in explained
    ):
        del keys["environment_file"]  # what follows from `user` and such, or from another list
    if not keys and not explained:
        keys["environment"] = None
    return [
        KeyChange(
            key,
            HIDDEN,
            HIDDEN,
            after[key].file if key in after else None,
            after[key].line if key in after else None,
            restarts=True,
        )
        for key in keys
    ]
