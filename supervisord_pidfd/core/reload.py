"""What a new configuration changes: old specs and new specs → a plan."""

from collections.abc import Mapping
from typing import NamedTuple

from supervisord_pidfd.core.spec import LIVE_FIELDS, ServiceSpec


class ReloadPlan(NamedTuple):
    """Hold the names to add, remove, restart and update in place; all others stay untouched."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    update: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing would be done."""
        return not any(self)


def changed_fields(old: ServiceSpec, new: ServiceSpec) -> frozenset[str]:
    """Return the names of the members that differ."""
    return frozenset(
        name
        for name, before, after in zip(ServiceSpec._fields, old, new, strict=True)
        if before != after
    )


def plan_reload(old: Mapping[str, ServiceSpec], new: Mapping[str, ServiceSpec]) -> ReloadPlan:
    """Compare by name. A member that is not in `LIVE_FIELDS` restarts its service."""
    restart, update = [], []
    for name in new:
        if name not in old:
            continue
        changed = changed_fields(old[name], new[name])
        if changed - LIVE_FIELDS:
            restart.append(name)
        elif changed:
            update.append(name)
    return ReloadPlan(
        add=tuple(name for name in new if name not in old),
        remove=tuple(name for name in old if name not in new),
        restart=tuple(restart),
        update=tuple(update),
    )
