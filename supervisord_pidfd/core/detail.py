"""The `detail` of a service: in few words, what it is at."""

import math
from collections.abc import Callable
from typing import NamedTuple

from supervisord_pidfd.core.exitstatus import ASKED_FOR
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.spec import ReadyKind, ServiceSpec, ServiceType
from supervisord_pidfd.core.words import by_whom, ended, rough

_AT_REST = frozenset({Phase.STOPPED, Phase.EXITED, Phase.FAILED})


class Look(NamedTuple):
    """Hold what is known of a service at the moment `now` (CLOCK_MONOTONIC seconds).

    `signal_name` names a signal of this machine; `needs` is what it waits for, as in `worker@0
    (backoff)`; `status_text` what it says of itself; `ended_at` when its last run ended;
    `next_run` in how many seconds the next scheduled one is due; `probe_error` why the last probe
    did not find it ready.
    """

    spec: ServiceSpec
    state: ServiceState
    now: float
    signal_name: Callable[[int], str]
    needs: str = ""
    status_text: str | None = None
    ended_at: float | None = None
    next_run: float | None = None
    probe_error: str = ""


def detail(look: Look) -> str:
    """Write what a service is at."""
    said = _WORDS[look.state.phase](look)
    if look.next_run is None or look.state.phase not in _AT_REST:
        return said
    return "; ".join(filter(None, (said, f"next run in {_left(look.next_run)}")))


def _left(seconds: float) -> str:
    """Write what is left of a wait, rounded up so that it never says 0 while there is some."""
    if seconds <= 0:
        return "0s"
    return f"{math.ceil(seconds * 10) / 10:g}s" if seconds < 1 else rough(math.ceil(seconds))


def _since(look: Look) -> str:
    return rough(look.now - look.state.since)


def _end(look: Look) -> str:
    end = look.state.last_exit
    return "" if end is None else ended(end, look.signal_name)


def _stopped(look: Look) -> str:
    by = look.state.stop_by
    return f"by {by_whom(by)}, {_since(look)} ago" if by else ""


def _waiting(look: Look) -> str:
    return f"needs {look.needs}" if look.needs else ""


def _starting(look: Look) -> str:
    spec = look.spec
    if look.state.pid is None:
        what = "about to start"
    elif spec.type is ServiceType.ONESHOT:
        what = "at work"
    elif spec.type is ServiceType.NOTIFY:
        what = "waiting for READY=1"
    elif spec.ready.kind is ReadyKind.EXECUTED:
        what = "waiting for exec"
    else:
        what = f"waiting for ready.{spec.ready.kind}"
    said = f"{what}, {_since(look)}"
    return f"{said}: {look.probe_error}" if look.probe_error else said


def _running(look: Look) -> str:
    if look.status_text:
        return look.status_text
    last = look.state.last_exit
    if last is None or last.cause in ASKED_FOR or look.ended_at is None:
        return ""
    return f"last exit: {_end(look)}, {rough(look.now - look.ended_at)} ago"


def _stopping(look: Look) -> str:
    state, steps = look.state, look.spec.stop.steps
    ago = rough(look.now - state.stop_asked_at)
    if state.unkillable:
        return "unkillable"
    if state.forced:
        return f"SIGKILL sent, {ago} after the stop"
    at = min(state.step, len(steps) - 1)
    kill_at = min(state.step_by + sum(step.timeout for step in steps[at + 1 :]), state.kill_by)
    sent = f"{look.signal_name(steps[at].signum)} sent {ago} ago"
    return sent if kill_at == math.inf else f"{sent}, SIGKILL in {_left(kill_at - look.now)}"


def _backoff(look: Look) -> str:
    state, limit = look.state, look.spec.start_limit.burst
    tries = f"try {state.attempt}" + (f" of {limit}" if limit else "")
    return f"{_end(look)}; {tries} in {_left(state.next_start_at - look.now)}"


def _exited(look: Look) -> str:
    return f"{_end(look)}, {_since(look)} ago"


def _failed(look: Look) -> str:
    tries = look.state.attempt
    if tries == 0:
        return f"{_end(look)}; not restarted"
    return f"{_end(look)}; gave up after {tries} {'try' if tries == 1 else 'tries'}"


_WORDS: dict[Phase, Callable[[Look], str]] = {
    Phase.STOPPED: _stopped,
    Phase.WAITING: _waiting,
    Phase.STARTING: _starting,
    Phase.RUNNING: _running,
    Phase.STOPPING: _stopping,
    Phase.BACKOFF: _backoff,
    Phase.EXITED: _exited,
    Phase.FAILED: _failed,
}
