"""Services, the daemon and its configuration as the plain data that clients get.

One shape for `status`, `watch`, `explain` and the gateway. Moments of the core's clock become UTC
here; what is unknown is null. A record is made when a client takes it, never kept.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd import __version__
from supervisord_pidfd.clock import Clock, rfc3339
from supervisord_pidfd.core.detail import Look, detail
from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, health_of, is_ready
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.words import ended
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of

HOUR = 3600.0
SLOT = 60.0
"""Seconds; restarts of the last hour are counted by the minute: a storm costs no memory."""


class Lately:
    """Remember of one service when its last run ended, and its restarts of the last hour."""

    __slots__ = ("_restarts", "_slots", "ended_at", "last_exit")

    def __init__(self) -> None:
        self.ended_at: float | None = None
        self.last_exit: End | None = None
        self._restarts = 0
        self._slots: list[list[float]] = []

    def follow(self, state: ServiceState, now: float) -> None:
        """Take in a state."""
        if state.last_exit is not self.last_exit:
            self.last_exit, self.ended_at = state.last_exit, now
        more = state.restarts - self._restarts
        if more > 0:
            slot = now // SLOT
            if not self._slots or self._slots[-1][0] != slot:
                self._slots.append([slot, 0])
                self._drop(now)
            self._slots[-1][1] += more
        self._restarts = state.restarts

    def restarts(self, now: float) -> int:
        """Count the restarts of the last hour."""
        self._drop(now)
        return int(sum(count for _, count in self._slots))

    def _drop(self, now: float) -> None:
        oldest = (now - HOUR) // SLOT
        while self._slots and self._slots[0][0] < oldest:
            del self._slots[0]


class Daemon(NamedTuple):
    """Hold what does not change while the daemon runs."""

    pid1: bool
    reaper: str
    reaper_reason: str | None
    features: tuple[str, ...]
    started: float


class ConfigRecord:
    """Hold what is known of the configuration in use."""

    def __init__(
        self,
        file: str | None = None,
        files: tuple[str, ...] = (),
        generation: int = 0,
        digest: str = "",
        applied_at: float = 0.0,
    ) -> None:
        self.last_error: str | None = None
        self._file = file
        self._files = files
        self._generation = generation
        self._digest = digest
        self._applied_at = applied_at

    def plain(self) -> dict[str, Any]:
        """Return it as clients get it."""
        return {
            "file": self._file,
            "files": list(self._files),
            "generation": self._generation,
            "digest": self._digest,
            "applied_at": rfc3339(self._applied_at),
            "last_error": self.last_error,
        }


Needs = Callable[[Service], list[tuple[str, str]]]
"""What a waiting service waits for: names, and each as people read it, `db (backoff)`."""


class Records:
    """Make records. Follows every change, to know what a state does not say."""

    def __init__(self, clock: Clock, tally: Tally, needs: Needs) -> None:
        self.config = ConfigRecord()
        self.daemon = Daemon(pid1=False, reaper="", reaper_reason=None, features=(), started=0.0)
        self.clock = clock
        self._needs = needs
        self._tally = tally
        self._lately: dict[str, Lately] = {}

    def follow(self, service: Service) -> None:
        """Take note of a service's state; called at every change."""
        lately = self._lately.get(service.name)
        if lately is None:
            lately = self._lately[service.name] = Lately()
        lately.follow(service.state, self.clock.now())

    def forget(self, name: str) -> None:
        """Drop what was known of a removed service."""
        self._lately.pop(name, None)

    # -- a service --------------------------------------------------------------------------------

    def service(self, service: Service, *, totals: bool = False) -> dict[str, Any]:
        """Describe a service."""
        spec, state = service.spec, service.state
        now, wall = self.clock.now(), self.clock.wall()
        lately = self._lately.get(spec.name) or Lately()
        needs = self._needs(service) if state.phase is Phase.WAITING else []
        ready_at = state.ready_at if state.has_process else None
        next_start = service.due_wall
        if state.phase is Phase.BACKOFF:
            next_start = _wall(state.next_start_at, now, wall)
        return {
            "name": spec.name,
            "group": spec.group,
            "type": spec.type.value,
            "description": spec.description,
            "phase": state.phase.value,
            "wanted": state.wanted.value,
            "ready": is_ready(spec, state),
            "health": health_of(spec, state),
            "pid": state.pid,
            "run": state.run,
            "since": rfc3339(service.since_wall),
            "started_at": _moment(service.started_wall if state.has_process else None),
            "ready_at": _moment(_wall(ready_at, now, wall)),
            "restarts": state.restarts,
            "restarts_1h": lately.restarts(now),
            "attempt": state.attempt,
            "limit": spec.start_limit.burst or None,
            "next_start_at": _moment(next_start),
            "last_exit": exit_record(state.last_exit),
            "checks": [_check(check.plain()) for check in service.checks.values()],
            "totals": self._tally.totals(spec.name) if totals else None,
            "waiting_for": [name for name, _ in needs],
            "status_text": service.status_text,
            "critical": spec.critical,
            "adopted": False,
            "frozen": False,
            "pending": service.pending is not None,
            "detail": detail(
                Look(
                    spec,
                    state,
                    now,
                    name_of,
                    needs=", ".join(text for _, text in needs),
                    status_text=service.status_text,
                    ended_at=lately.ended_at,
                    probe_error=service.probe_error,
                    next_run=None if service.due_wall is None else service.due_wall - wall,
                )
            ),
        }

    # -- the daemon -------------------------------------------------------------------------------

    def supervisor(self, *, stopping: bool, counts: dict[str, int]) -> dict[str, Any]:
        """Describe the daemon."""
        daemon = self.daemon
        return {
            "version": __version__,
            "pid": os.getpid(),
            "pid1": daemon.pid1,
            "phase": "stopping" if stopping else "running",
            "reaper": daemon.reaper,
            "reaper_reason": daemon.reaper_reason,
            "features": list(daemon.features),
            "started_at": rfc3339(daemon.started),
            "config": self.config.plain(),
            "counts": counts,
        }


def _check(plain: dict[str, Any]) -> dict[str, Any]:
    """Tell the time of its last run as people read it."""
    last_ts = plain.pop("last_ts")
    return {**plain, "last_at": _moment(last_ts)}


def exit_record(end: End | None) -> dict[str, Any] | None:
    """Describe how a run ended."""
    if end is None:
        return None
    status = end.status
    return {
        "cause": end.cause.value,
        "exit_code": status.code if isinstance(status, Exited) else None,
        "signal": name_of(status.signum) if isinstance(status, Signaled) else None,
        "core": isinstance(status, Signaled) and status.core,
        "forced": end.forced,
        "stage": end.stage,
        "error": end.error,
        "text": ended(end, name_of),
    }


def _wall(moment: float | None, now: float, wall: float) -> float | None:
    """Turn a moment of the core's clock into Unix seconds."""
    return None if moment is None or moment == float("inf") else wall - (now - moment)


def _moment(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
