"""The last runs of each service, folded from the stream of notices; bounded per service.

A run begins with `ServiceStarting` and ends with `ServiceExited` or `ServiceSpawnFailed`, or where
its first hook failed; what followed is told by the next notice that changes the phase. The last
run of a service is an object. Those before it, of which no notice speaks any more, are packed: a
hundred runs of a hundred services would take 4 MB as objects, and take less than one.
"""

import math
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from supervisord_pidfd.core.exitstatus import Cause, Exited, ExitStatus, Signaled, Unknown
from supervisord_pidfd.core.lifecycle import End
from supervisord_pidfd.core.notices import (
    HookFailed,
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
from supervisord_pidfd.core.spec import Hook


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


class Words(NamedTuple):
    """Hold what is said of a run; runs that say the same share it. `reason`: no status, why."""

    stopped_by: str | None
    next: str | None
    reason: str
    stage: str | None
    subject: str | None
    error: str | None


_PACKED = Struct("<IIiBBBiq4d3f")
_CAUSES = tuple(Cause)
_NO_END = len(_CAUSES)
_EXITED, _SIGNALED, _UNKNOWN, _NO_STATUS = range(4)
_FORCED, _CORE = 1, 2
SHARED_MAX = 1024


class _Kept:
    """Hold the runs of one service: the last one as it is, those before it packed in a ring."""

    __slots__ = ("_numbers", "_oldest", "_words", "last")

    def __init__(self, first: Run) -> None:
        self.last = first
        self._numbers = bytearray()
        self._words: list[Words] = []
        self._oldest = 0

    def begin(self, run: Run, room: int, shared: dict[Words, Words]) -> None:
        """Take in a new run; the last one becomes one of at most `room` packed ones."""
        if room > 0:
            words = _words_of(self.last)
            self._pack(_numbers_of(self.last), shared.setdefault(words, words), room)
        self.last = run

    def _pack(self, numbers: bytes, words: Words, room: int) -> None:
        if len(self._words) < room:
            self._numbers += numbers
            self._words.append(words)
            if len(self._words) == room:  # full: give back what it was to grow into
                self._numbers = bytearray(bytes(self._numbers))
        else:
            at = self._oldest * _PACKED.size
            self._numbers[at : at + _PACKED.size] = numbers
            self._words[self._oldest] = words
            self._oldest = (self._oldest + 1) % room

    def all(self) -> list[Run]:
        """Return the runs, oldest first."""
        runs = [
            _run_of(_PACKED.unpack_from(self._numbers, at * _PACKED.size), words)
            for at, words in enumerate(self._words)
        ]
        return [*runs[self._oldest :], *runs[: self._oldest], self.last]


def _numbers_of(run: Run) -> bytes:
    kind, code, flags = _NO_STATUS, 0, 0
    if run.end is not None:
        flags = _FORCED if run.end.forced else 0
        status = run.end.status
        if isinstance(status, Exited):
            kind, code = _EXITED, status.code
        elif isinstance(status, Signaled):
            kind, code = _SIGNALED, status.signum
            flags |= _CORE if status.core else 0
        elif status is not None:
            kind = _UNKNOWN
    return _PACKED.pack(
        run.run,
        run.attempt,
        -1 if run.pid is None else run.pid,
        _NO_END if run.end is None else _CAUSES.index(run.end.cause),
        kind,
        flags,
        code,
        -1 if run.max_rss_bytes is None else run.max_rss_bytes,
        run.started_at,
        *map(_or_nan, (run.ready_at, run.ended_at, run.lasted_s)),
        *map(_or_nan, (run.user_cpu_s, run.system_cpu_s, run.delay_s)),
    )


def _words_of(run: Run) -> Words:
    end = run.end
    reason = end.status.reason if end is not None and isinstance(end.status, Unknown) else ""
    about = (None, None, None) if end is None else (end.stage, end.subject, end.error)
    return Words(run.stopped_by, run.next, reason, *about)


def _run_of(numbers: tuple[Any, ...], words: Words) -> Run:
    number, attempt, pid, cause, kind, flags, code, rss, started_at, *moments = numbers
    run = Run(number, attempt, started_at)
    run.pid = None if pid < 0 else pid
    run.ready_at, run.ended_at, run.lasted_s = map(_or_none, moments[:3])
    run.user_cpu_s, run.system_cpu_s, run.delay_s = map(_or_none, map(_seven_digits, moments[3:]))
    run.max_rss_bytes = None if rss < 0 else rss
    run.stopped_by, run.next, run.reason = words.stopped_by, words.next, words.reason
    if cause != _NO_END:
        status: ExitStatus | None = None
        if kind == _EXITED:
            status = Exited(code)
        elif kind == _SIGNALED:
            status = Signaled(code, core=bool(flags & _CORE))
        elif kind == _UNKNOWN:
            status = Unknown(words.reason)
        forced = bool(flags & _FORCED)
        run.end = End(_CAUSES[cause], status, forced, words.stage, words.subject, words.error)
    return run


def _or_none(moment: float) -> float | None:
    return None if math.isnan(moment) else moment


def _seven_digits(amount: float) -> float:
    """Write a number of single precision as it was before: 0.1, and not 0.10000000149."""
    return float(f"{amount:.7g}")


def _or_nan(moment: float | None) -> float:
    return math.nan if moment is None else moment


class History:
    """Keep the last `size` runs of each service; the one under way, however small that is.

    `policy` names the restart policy of a service at the time it restarts.
    """

    def __init__(self, size: int, policy: Callable[[str], str]) -> None:
        self._size = size
        self._policy = policy
        self._kept: dict[str, _Kept] = {}
        self._shared: dict[Words, Words] = {}

    def runs(self, service: str) -> tuple[Run, ...]:
        """Return the runs that are kept, oldest first."""
        kept = self._kept.get(service)
        return () if kept is None else tuple(kept.all())

    def resize(self, size: int) -> None:
        """Keep so many runs of each service from now on."""
        if size == self._size:
            return
        self._size = size
        for name, kept in self._kept.items():
            first, *others = kept.all()[-max(1, size) :]
            anew = self._kept[name] = _Kept(first)
            for run in others:
                anew.begin(run, size - 1, self._shared)

    def forget(self, service: str) -> None:
        """Drop the runs of a service that is gone."""
        self._kept.pop(service, None)

    def take(self, wall: float, told: Told) -> None:
        """Fold a notice in; those that say nothing of a run pass by."""
        rule = _RULES.get(type(told.notice))
        if rule is None or told.service is None:
            return
        if rule is _starting:
            self._begin(wall, told)
            return
        kept = self._kept.get(told.service)
        if kept is not None:
            rule(kept.last, wall, told)
            if type(told.notice) is ServiceRestartScheduled:
                kept.last.next = f"restart {self._policy(told.service)}"

    def _begin(self, wall: float, told: Told) -> None:
        assert told.service is not None  # noqa: S101 - asked by `take`
        run = Run(told.run or 0, told.notice.attempt, wall)
        kept = self._kept.get(told.service)
        if kept is None:
            self._kept[told.service] = _Kept(run)
            return
        last = kept.last
        if last.next is None:
            last.next, last.delay_s = "restart", 0.0
        if len(self._shared) > SHARED_MAX:  # such as subjects of files long changed
            self._shared.clear()
        kept.begin(run, self._size - 1, self._shared)


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


def _hook_failed(run: Run, wall: float, told: Told) -> None:
    """End a run whose first hook failed: it has never had a process."""
    failed: HookFailed = told.notice
    if failed.hook != Hook.PRE_START.value:
        return
    error = failed.error or f"code {failed.exit_code}"
    if failed.timed_out:
        error = "timed out"
    elif failed.signal is not None:
        error = f"signal {failed.signal}"
    run.ended_at, run.lasted_s = wall, 0.0
    run.end = End(Cause.HOOK, None, False, "hook", failed.hook, error)


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
    HookFailed: _hook_failed,
    ServiceRestartScheduled: _scheduled,
    ServiceGaveUp: _gave_up,
    ServiceStopped: _followed,
    ServiceReset: _followed,
}
