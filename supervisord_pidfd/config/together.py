"""Keys of one service that do not go together: at most one, exactly one, or not with this type."""

from typing import TYPE_CHECKING, NamedTuple

from supervisord_pidfd.config import model
from supervisord_pidfd.config.logs import is_captured
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

READY_WAYS = ("tcp", "http", "exec", "file", "log", "fd", "delay")
CHECK_KINDS = ("tcp", "http", "exec", "watchdog", "memory")
_OF_HTTP = ("headers", "status", "verify")
_NOT_READY_SO = {
    "notify": "which is ready when it says so", "oneshot": "which is ready when it has ended",
}  # fmt: skip


class Together(NamedTuple):
    """Look at the tables of services one by one."""

    tree: Tree
    report: Report

    def look_at(self, name: str, service: model.Service) -> None:
        """Report what does not go together in one service."""
        path = ("service", name)
        if service.ready is not None:
            self._ready((*path, "ready"), service.ready, service.type)
            self._heard((*path, "ready"), service)
        if service.log is not None:
            self._log((*path, "log"), service.log)
        if service.health is not None:
            self._health((*path, "health"), service)
        if service.reload is not None:
            self._one((*path, "reload"), service.reload, ("signal", "command"))
        if service.schedule is not None:
            self._schedule((*path, "schedule"), service.schedule, service.type)

    def _ready(self, path: Path, table: "tables.Ready", kind: str | None) -> None:
        if kind not in _NOT_READY_SO:
            self._one(path, table, READY_WAYS)
            return
        for way in _written(table, READY_WAYS):
            message = f"ready.{way}: not with type {kind}, {_NOT_READY_SO[kind]}"
            self._conflict((*path, way), message)

    def _heard(self, path: Path, service: model.Service) -> None:
        """Report a pattern for output that nobody here reads."""
        asked = service.ready is not None and service.ready.log is not None
        if asked and not is_captured(service):
            message = 'ready.log: needs log.to, such as ["file"], else nobody reads the output'
            self._conflict((*path, "log"), message)

    def _log(self, path: Path, table: "tables.Log") -> None:
        """Report a service that is to open nothing."""
        if table.to == ("direct",) and table.path is None:
            message = 'log.to: "direct" needs log.path, the file that the service opens'
            self.report.error(self.tree.value((*path, "to")), "missing-key", message, key=path)

    def _health(self, path: Path, service: model.Service) -> None:
        own = self.tree.data["service"][path[1]].get("health")
        if service.type == "oneshot" and own:
            message = "health: not with type oneshot, which is over when it is ready"
            self._conflict(path, message)
        for name, check in (service.health or {}).items():
            here = (*path, name)
            kinds = self._one(here, check, CHECK_KINDS)
            if not kinds:
                self._missing(here, f"health.{name}: has none of {', '.join(CHECK_KINDS)}")
            elif "http" not in kinds:
                for key in _written(check, _OF_HTTP):
                    self._conflict((*here, key), f"health.{name}.{key}: only with http")
            if kinds == ["watchdog"] and check.period is not None:
                message = f"health.{name}.period: not with watchdog, which is one itself"
                self._conflict((*here, "period"), message)

    def _schedule(self, path: Path, table: "tables.Schedule", kind: str | None) -> None:
        if kind != "oneshot":
            self._conflict(path, "schedule: only with type oneshot")
        ways = self._one(path, table, ("every", "calendar"))
        if not ways:
            self._missing(path, "schedule: has neither every nor calendar")
        elif ways == ["every"] and table.timezone is not None:
            self._conflict((*path, "timezone"), "schedule.timezone: only with schedule.calendar")

    def _one(self, path: Path, table: model.Table, keys: tuple[str, ...]) -> list[str]:
        """Report every key of these beyond the first; return those that are written."""
        found = _written(table, keys)
        first = (*path, *found[:1])
        label = ".".join(map(str, path[2:]))
        for key in found[1:]:
            place, other = self.tree.value((*path, key)), self.tree.value(first)
            message = f"{label}.{key}: {label}.{found[0]} is there already"
            self.report.error(place, "conflict", message, key=(*path, key), see_also=(other,))
        return found

    def _missing(self, path: Path, message: str) -> None:
        if not self.report.told_inside(path):  # else what is wrong there may be the key
            self.report.error(self.tree.table(path), "missing-key", message, key=path)

    def _conflict(self, where: Path, message: str) -> None:
        self.report.error(self.tree.value(where), "conflict", message, key=where)


def _written(table: model.Table, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if getattr(table, key) is not None]
