"""Say in few words how a run ended, how long ago something was, and what a service is at.

The texts of `detail`, `history` and `explain`. Names of signals depend on the machine, so the
caller passes what names them.
"""

import math
from collections.abc import Callable

from supervisord_pidfd.core.exitstatus import ASKED_FOR, Cause, Exited, Signaled
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState
from supervisord_pidfd.core.spec import ReadyKind, ServiceSpec, ServiceType

SignalName = Callable[[int], str]

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
_SAID_BY_STATUS = frozenset(
    {Cause.SUCCESS, Cause.EXIT_CODE, Cause.SIGNAL, Cause.CORE_DUMP, Cause.UNKNOWN}
)


def end_text(end: End, signal_name: SignalName) -> str:
    """Write how a run ended: `code 1`, `signal SIGKILL (oom)`, `cannot start: …`."""
    match end.status:
        case Exited(code):
            text = f"code {code}"
        case Signaled(signum, core):
            text = f"signal {signal_name(signum)}{', core dumped' if core else ''}"
        case None if end.stage is not None:
            return f"cannot start: {end.stage} {end.subject or ''}".rstrip() + f": {end.error}"
        case None:
            return end.cause.value
        case _:
            text = "status unknown"
    return text if end.cause in _SAID_BY_STATUS else f"{text} ({end.cause})"


def age(seconds: float) -> str:
    """Write a length in its largest unit: `3s`, `12m`, `3d`."""
    for unit, letter in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"


def left(seconds: float) -> str:
    """Write what is left of a wait, rounded up so that it never says 0 while there is some."""
    if seconds <= 0:
        return "0s"
    return f"{math.ceil(seconds * 10) / 10:g}s" if seconds < 1 else age(math.ceil(seconds))


def who(by: str) -> str:
    """Write who asked for something: `uid 0`, `config`."""
    kind, _, uid = by.partition(":")
    return f"uid {uid}" if kind == "operator" and uid else by


class Wording:
    """Write the `detail` of services as they are at one moment (CLOCK_MONOTONIC seconds)."""

    def __init__(self, now: float, signal_name: SignalName) -> None:
        self._now = now
        self._signal_name = signal_name

    def detail(
        self,
        spec: ServiceSpec,
        state: ServiceState,
        *,
        needs: str | None = None,
        status_text: str | None = None,
        ended_at: float | None = None,
    ) -> str:
        """Write what a service is at.

        Args:
            spec: The service.
            state: Where it is.
            needs: What it waits for, as in `worker@0 (backoff)`.
            status_text: What the service says of itself.
            ended_at: When its last run ended.
        """
        match state.phase:
            case Phase.RUNNING:
                return status_text or self._last_exit(state, ended_at)
            case Phase.WAITING:
                return f"needs {needs}" if needs else ""
            case Phase.STARTING:
                return f"{_waiting_for(spec, state)}, {age(self._now - state.since)}"
            case Phase.STOPPING:
                return self._stopping(spec, state)
            case Phase.STOPPED:
                ago = age(self._now - state.since)
                return f"by {who(state.stop_by)}, {ago} ago" if state.stop_by else ""
            case Phase.EXITED:
                return f"{self._end(state)}, {age(self._now - state.since)} ago"
            case Phase.BACKOFF:
                return f"{self._end(state)}; {self._next_try(spec, state)}"
            case Phase.FAILED:
                return f"{self._end(state)}; {_given_up(state)}"

    def _end(self, state: ServiceState) -> str:
        return "" if state.last_exit is None else end_text(state.last_exit, self._signal_name)

    def _last_exit(self, state: ServiceState, ended_at: float | None) -> str:
        if state.last_exit is None or state.last_exit.cause in ASKED_FOR or ended_at is None:
            return ""
        return f"last exit: {self._end(state)}, {age(self._now - ended_at)} ago"

    def _stopping(self, spec: ServiceSpec, state: ServiceState) -> str:
        if state.unkillable:
            return "unkillable"
        ago = age(self._now - state.stop_asked_at)
        if state.forced:
            return f"SIGKILL sent, {ago} after the stop"
        steps = spec.stop.steps
        at = min(state.step, len(steps) - 1)
        later = sum(step.timeout for step in steps[at + 1 :])
        kill_at = min(state.step_by + later, state.kill_by)
        sent = f"{self._signal_name(steps[at].signum)} sent {ago} ago"
        if kill_at == math.inf:
            return sent
        return f"{sent}, SIGKILL in {left(kill_at - self._now)}"

    def _next_try(self, spec: ServiceSpec, state: ServiceState) -> str:
        limit = spec.start_limit.burst
        of = f" of {limit}" if limit else ""
        return f"try {state.attempt}{of} in {left(state.next_start_at - self._now)}"


def _given_up(state: ServiceState) -> str:
    if state.attempt == 0:
        return "not restarted"
    return f"gave up after {state.attempt} {'try' if state.attempt == 1 else 'tries'}"


def _waiting_for(spec: ServiceSpec, state: ServiceState) -> str:
    if state.pid is None:
        return "about to start"
    if spec.type is ServiceType.ONESHOT:
        return "at work"
    if spec.type is ServiceType.NOTIFY:
        return "waiting for READY=1"
    if spec.ready.kind is not ReadyKind.EXECUTED:
        return f"waiting for ready.{spec.ready.kind}"
    return "waiting for ready.delay" if spec.ready.delay > 0 else "waiting for exec"
