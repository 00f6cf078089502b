"""The gateway's copy of the state: the latest record of each service, by list and watch."""

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from supervisord_pidfd.core.spec import MetricsSpec


@dataclass(frozen=True, slots=True)
class Record:
    """Hold one service as the core last told it; times are Unix seconds."""

    name: str
    group: str
    type: str
    restart: str
    critical: bool
    phase: str
    wanted: str
    ready: bool
    health: str
    checks: Sequence[Mapping[str, Any]]
    pid: int | None
    run: int
    since_ts: float
    started_ts: float | None
    attempt: int
    last_exit: Mapping[str, Any] | None
    internal: bool
    totals: Mapping[str, Any]
    max_rss_bytes: int | None
    log_slot: int | None = None


_MEMBERS = tuple(field.name for field in fields(Record) if field.name != "log_slot")


def record_of(plain: Mapping[str, Any]) -> Record:
    """Read a record; members we do not know are left out.

    Raises:
        KeyError: One that we need is missing (a bug, or another version).
    """
    return Record(**{name: plain[name] for name in _MEMBERS}, log_slot=plain.get("log_slot"))


class Replica:
    """Hold the records; each is replaced whole, so that a list of them is a snapshot."""

    def __init__(self, settings: MetricsSpec) -> None:
        self._records: dict[str, Record] = {}
        self._shown: dict[str, bool] = {}
        self._order: list[str] | None = None
        self._include = re.compile(settings.include) if settings.include else None
        self._exclude = re.compile(settings.exclude) if settings.exclude else None
        self.revision = 0
        self.synced = False

    def apply(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the core: a record, a removal, or the end of the first list."""
        self.revision += 1
        if "service" in message:
            record = record_of(message["service"])
            self._records[record.name] = record
            if record.name not in self._shown:
                self._shown[record.name] = not record.internal and self._wanted(record.name)
                self._order = None
        elif "removed" in message:
            self._records.pop(message["removed"], None)
            self._shown.pop(message["removed"], None)
            self._order = None
        elif message.get("synced"):
            self.synced = True

    def _wanted(self, name: str) -> bool:
        """Apply `metrics.include` and `metrics.exclude`, which match whole names."""
        included = self._include is None or self._include.fullmatch(name) is not None
        return included and not (self._exclude is not None and self._exclude.fullmatch(name))

    def exported(self) -> list[Record]:
        """Return the services to export, by name."""
        if self._order is None:
            self._order = sorted(name for name, shown in self._shown.items() if shown)
        return [self._records[name] for name in self._order]

    def services(self) -> list[Record]:
        """Return all services but the internal ones, also those that are not exported."""
        return [record for record in self._records.values() if not record.internal]

    def find(self, name: str) -> Record | None:
        """Return the service of this name, if there is one."""
        return self._records.get(name)

    def internal(self) -> list[Record]:
        """Return the internal services, by name."""
        found = [record for record in self._records.values() if record.internal]
        return sorted(found, key=lambda record: record.name)

    def unready(self) -> list[str]:
        """Say what keeps `/readyz` from being good: critical services, or all that are wanted."""
        services = [record for record in self._records.values() if not record.internal]
        critical = [record for record in services if record.critical]
        awaited = critical or [record for record in services if record.wanted == "up"]
        return sorted(_reason(record) for record in awaited if not record.ready)


def _reason(record: Record) -> str:
    end = "" if record.pid is not None or not record.last_exit else end_text(record.last_exit)
    return f"{record.name}: {record.phase}" + (f", {end}" if end else "")


_TOLD_BY_STATUS = frozenset({"success", "exit_code", "signal", "core_dump"})


def end_text(end: Mapping[str, Any]) -> str:
    """Write an end as people read it everywhere: `code 1`, `signal SIGKILL (oom)`."""
    cause = end.get("cause")
    if end.get("exit_code") is not None:
        text = f"code {end['exit_code']}"
    elif end.get("signum") is not None:
        text = f"signal {_signal_name(end['signum'])}"
        if cause == "core_dump":
            text += ", core dumped"
    elif cause == "spawn_error":
        return "cannot start"
    else:
        text = "status unknown"
    told = cause is None or cause in _TOLD_BY_STATUS or cause == "unknown"
    return text if told else f"{text} ({cause})"


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        over = signum - signal.SIGRTMIN
        return f"SIGRTMIN+{over}" if over > 0 else str(signum)
