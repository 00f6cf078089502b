"""The last runs of each service, folded from the stream of notices; bounded per service.

A run begins with `ServiceStarting` and ends with `ServiceExited` or `ServiceSpawnFailed`; what
followed is told by the next notice that changes the phase.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from supervisord_pidfd.core.exitstatus import Cause, Exited, ExitStatus, Signaled, Unknown
from supervisord_pidfd.core.lifecycle import End
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceReady,
    ServiceReset,
    ServiceRestartScheduled,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStatusUnknown,
    ServiceStopped,
    ServiceStopping,
    Told,
)


class Run:
    """Hold one run; moments are Unix seconds, None for what is not known or did not happen.

    `stopped_by` is who asked for its end, if anybody did; `next` what followed the end.
    """

    __slots__ = (
        "attempt", "delay_s", "end", "ended_at", "lasted_s", "max_rss_bytes", "next", "pid",
        "ready_at", "reason", "run", "started_at", "stopped_by", "system_cpu_s", "user_cpu_s",
    )  # fmt: skip

    def __init__(self, run: int, attempt: int, started_at: float) -> None:
        self.run = run
        self.attempt = attempt
        self.started_at = started_at
        self.pid: int | None = None
        self.ready_at: float | None = None
        self.ended_at: float | None = None
        self.lasted_s: float | None = None
        self.end: End | None = None
        self.stopped_by: str | None = None
        self.next: str | None = None
        self.delay_s: float | None = None
        self.reason = ""
        self.max_rss_bytes: int | None = None
        self.user_cpu_s: float | None = None
        self.system_cpu_s: float | None = None


class History:
    """Keep the last `size` runs of each service.

    `policy` names the restart policy of a service at the time it restarts.
    """

    def __init__(self, size: int, policy: Callable[[str], str]) -> None:
        self._size = size
        self._policy = policy
        self._runs: dict[str, deque[Run]] = {}

    def runs(self, service: str) -> tuple[Run, ...]:
        """Return the runs that are kept, oldest first."""
        return tuple(self._runs.get(service, ()))

    def resize(self, size: int) -> None:
        """Keep so many runs of each service from now on."""
        if size != self._size:
            self._size = size
            self._runs = {name: deque(runs, size) for name, runs in self._runs.items()}

    def forget(self, service: str) -> None:
        """Drop the runs of a service that is gone."""
        self._runs.pop(service, None)

    def take(self, wall: float, told: Told) -> None:
        """Fold a notice in; those that say nothing of a run pass by."""
        rule = _RULES.get(type(told.notice))
        if rule is None or told.service is None:
            return
        if rule is _starting:
            self._begin(wall, told)
            return
        runs = self._runs.get(told.service)
        if runs:
            rule(runs[-1], wall, told)
            if type(told.notice) is ServiceRestartScheduled:
                runs[-1].next = f"restart {self._policy(told.service)}"

    def _begin(self, wall: float, told: Told) -> None:
        assert told.service is not None  # noqa: S101 - asked by `take`
        runs = self._runs.get(told.service)
        if runs is None:
            runs = self._runs[told.service] = deque(maxlen=self._size)
        if runs and runs[-1].next is None:
            last = runs[-1]
            last.next, last.delay_s = "restart", 0.0
        runs.append(Run(told.run or 0, told.notice.attempt, wall))


def _starting(_run: Run, _wall: float, _told: Told) -> None:
    """Begin a run; `History` does it, since there is none yet."""


def _spawned(run: Run, _wall: float, told: Told) -> None:
    run.pid = told.pid


def _ready(run: Run, wall: float, _told: Told) -> None:
    if run.ready_at is None and run.ended_at is None:
        run.ready_at = wall


def _stopping(run: Run, _wall: float, told: Told) -> None:
    if run.ended_at is None:
        run.stopped_by = told.notice.by


def _status_unknown(run: Run, _wall: float, told: Told) -> None:
    run.reason = told.notice.reason


def _exited(run: Run, wall: float, told: Told) -> None:
    exited: ServiceExited = told.notice
    cause = Cause(exited.cause)
    run.ended_at, run.lasted_s = wall, exited.lasted_s
    run.end = End(cause, _status(exited, run.reason), forced=exited.forced)
    run.max_rss_bytes = exited.max_rss_bytes
    run.user_cpu_s, run.system_cpu_s = exited.user_cpu_s, exited.system_cpu_s
    _followed(run, wall, told)


def _status(exited: ServiceExited, reason: str) -> ExitStatus:
    if exited.exit_code is not None:
        return Exited(exited.exit_code)
    if exited.signal is not None:
        return Signaled(exited.signal, exited.core)
    return Unknown(reason)


def _spawn_failed(run: Run, wall: float, told: Told) -> None:
    failed: ServiceSpawnFailed = told.notice
    run.ended_at, run.lasted_s = wall, 0.0
    run.end = End(Cause.SPAWN_ERROR, None, False, failed.stage, failed.subject, failed.error)


def _scheduled(run: Run, _wall: float, told: Told) -> None:
    run.delay_s = told.notice.delay_s


def _gave_up(run: Run, _wall: float, told: Told) -> None:
    reason = told.notice.reason
    run.next = "failed" if reason == "policy" else f"failed ({reason})"


def _followed(run: Run, _wall: float, told: Told) -> None:
    """Note where the service stays; a later stop of what is down already is not of this run."""
    if told.phase_to in {"stopped", "exited"} and (
        run.next is None or run.next.startswith("restart")
    ):
        run.next, run.delay_s = told.phase_to, None


_RULES: dict[type, Callable[[Run, float, Any], None]] = {
    ServiceStarting: _starting,
    ServiceSpawned: _spawned,
    ServiceReady: _ready,
    ServiceStopping: _stopping,
    ServiceStatusUnknown: _status_unknown,
    ServiceExited: _exited,
    ServiceSpawnFailed: _spawn_failed,
    ServiceRestartScheduled: _scheduled,
    ServiceGaveUp: _gave_up,
    ServiceStopped: _followed,
    ServiceReset: _followed,
}
