"""Why a service is where it is, and what can be done: words from its spec, state and history.

Everything here is arithmetic over what the core knows; nothing is asked of the system. Clock times
stay out of the sentences, because people read them in their own zone: facts carry `at` instead.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from supervisord_pidfd.core.history import Run
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted, is_ready
from supervisord_pidfd.core.reload import Line, lines_of
from supervisord_pidfd.core.spec import (
    Hook,
    LimitAction,
    ReadyKind,
    RestartPolicy,
    ServiceSpec,
    ServiceType,
)
from supervisord_pidfd.core.words import age, by_whom, ended, length
from supervisord_pidfd.signals import name_of


class Need(NamedTuple):
    """Hold one thing a start waits for: who (or which limit), for what of it, and how it is."""

    on: str
    condition: str | None = None
    tie: str | None = None
    phase: str | None = None


class Applied(NamedTuple):
    """Hold the last change of configuration that touched a service; `wall` is Unix seconds."""

    wall: float
    by: str
    action: str
    keys: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None


class Subject(NamedTuple):
    """Hold what is known of a service; moments as in its state, `wall` is Unix seconds now."""

    spec: ServiceSpec
    state: ServiceState
    now: float
    wall: float
    runs: tuple[Run, ...] = ()
    needs: tuple[Need, ...] = ()
    blocks: tuple[tuple[str, str], ...] = ()
    applied: Applied | None = None
    failed_checks: tuple[tuple[str, str], ...] = ()
    pending: bool = False
    probe_error: str = ""


class Fact(NamedTuple):
    """Hold one line of an explanation; `at` is Unix seconds."""

    label: str
    text: str
    at: float | None = None
    file: str | None = None
    line: int | None = None


class Explanation(NamedTuple):
    """Hold the answer."""

    summary: str
    facts: tuple[Fact, ...]
    tries: tuple[str, ...]


def explain(subject: Subject) -> Explanation:
    """Say why a service is in its phase, what decided it, and what to do."""
    name, phase = subject.spec.name, subject.state.phase
    summary = f"{name} {_SUMMARIES[phase](subject)}"
    return Explanation(summary, tuple(_facts(subject)), _tries(subject))


# -- the first line -------------------------------------------------------------------------------


def _stopped(subject: Subject) -> str:
    state = subject.state
    if state.run == 0 and not state.stop_by:
        return "is stopped: it was never started"
    return f"is stopped, as asked by {by_whom(state.stop_by)}" if state.stop_by else "is stopped"


def _waiting(subject: Subject) -> str:
    needs = ", ".join(_need(need) for need in subject.needs)
    return f"is waiting: needs {needs}" if needs else "is waiting to start"


_LIMITS = {
    "start_concurrency": "a free place (supervisor.start_concurrency)",
    "stop": "the end of a stop that is under way",
}
"""What a start waits for beside services and groups, as `Held` names it."""


def _need(need: Need) -> str:
    if need.on in _LIMITS and need.condition is None:
        return _LIMITS[need.on]
    return f"{need.on} ({need.phase})" if need.phase else need.on


def _starting(subject: Subject) -> str:
    state = subject.state
    awaited = _hook(state.hook) if state.hook is not None else _awaited(subject.spec)
    waits = f"is starting: waiting for {awaited}"
    if math.isfinite(state.start_by):
        waits += f"; times out in {length(max(0.0, state.start_by - subject.now))}"
    return waits


def _hook(hook: Hook) -> str:
    """Name the key of a command that is under way."""
    keys = {Hook.STOP: "stop.command", Hook.RELOAD: "reload.command"}
    return f"{keys.get(hook, f'hooks.{hook.value}')} to end"


def _awaited(spec: ServiceSpec) -> str:
    if spec.type is ServiceType.ONESHOT:
        return "its end"
    if spec.type is ServiceType.NOTIFY or spec.ready.kind is ReadyKind.NOTIFY:
        return "READY=1"
    if spec.ready.kind is ReadyKind.EXECUTED:
        return "its program to be executed"
    return f"ready.{spec.ready.kind.value}"


def _running(subject: Subject) -> str:
    if is_ready(subject.spec, subject.state):
        return "is running and ready"
    if subject.failed_checks:
        checks = ", ".join(name for name, _ in subject.failed_checks)
        return f"is running but not ready: health check {checks} fails"
    return "is running but not ready: it is reloading"


def _stopping(subject: Subject) -> str:
    state = subject.state
    if state.unkillable:
        return "is stopping: SIGKILL has no effect on its process (unkillable)"
    if state.stop_by in {"", "policy"}:
        text = "is stopping: its main process has ended, others of it live"
    else:
        text = f"is stopping, as asked by {by_whom(state.stop_by)}"
    if state.hook is not None:
        text += f"; waiting for {_hook(state.hook)}"
    if not state.forced and math.isfinite(state.step_by):
        text += f"; the next signal comes in {length(max(0.0, state.step_by - subject.now))}"
    return text + ("; then it starts again" if state.wanted is Wanted.UP else "")


def _backoff(subject: Subject) -> str:
    state, limit = subject.state, subject.spec.start_limit
    wait = max(0.0, state.next_start_at - subject.now)
    if not limit.burst:
        return f"is in backoff; next start in {length(wait)} (try {state.attempt})"
    then = {
        LimitAction.FAIL: "then failed",
        LimitAction.SLOW_RETRY: "then slower",
        LimitAction.SHUTDOWN: "then the daemon ends",
    }[limit.action]
    tries = f"try {state.attempt} of {limit.burst}, {then}"
    return f"is in backoff; next start in {length(wait)} ({tries})"


def _exited(_subject: Subject) -> str:
    return "has ended cleanly and stays down"


def _failed(subject: Subject) -> str:
    why = {
        "failed": "its restart policy says so",
        "failed (prevented)": "restart_prevent says so",
        "failed (limit)": f"it gave up after {subject.state.attempt} tries",
        "failed (group_limit)": "the limit of its group was reached",
    }
    last = subject.runs[-1].next if subject.runs else None
    reason = why.get(last or "")
    return "has failed and stays down" + (f": {reason}" if reason else "")


_SUMMARIES = {
    Phase.STOPPED: _stopped,
    Phase.WAITING: _waiting,
    Phase.STARTING: _starting,
    Phase.RUNNING: _running,
    Phase.STOPPING: _stopping,
    Phase.BACKOFF: _backoff,
    Phase.EXITED: _exited,
    Phase.FAILED: _failed,
}


# -- facts ----------------------------------------------------------------------------------------


def _facts(subject: Subject) -> Iterator[Fact]:
    yield from _ended(subject)
    yield from _decided(subject)
    yield from _changed(subject)
    for need in subject.needs:
        at = _line(subject.spec, need.tie) if need.tie else None
        on = need.on if need.condition else _need(need)
        asked = on + (f" to be {_wanted(need.condition)}" if need.condition else "")
        now = f"; it is {need.phase}" if need.phase else ""
        yield _fact("needs", asked + now, at)
    for name, tie in subject.blocks:
        yield Fact("blocks", f"{name} ({tie} {subject.spec.name})")
    if subject.state.phase is Phase.STARTING and subject.probe_error:
        kind = subject.spec.ready.kind.value
        at = _line(subject.spec, f"ready.{kind}")
        yield _fact("health", f"ready.{kind} fails: {subject.probe_error}", at)
    for check, error in subject.failed_checks:
        at = _line(subject.spec, f"health.{check}")
        yield _fact("health", f"{check} fails" + (f": {error}" if error else ""), at)


def _wanted(condition: str) -> str:
    return {"exited": "over", "exited_ok": "over, without an error"}.get(condition, condition)


def _ended(subject: Subject) -> Iterator[Fact]:
    last = next((run for run in reversed(subject.runs) if run.end is not None), None)
    if last is not None and last.end is not None:
        text = ended(last.end, name_of)
        lasted = last.lasted_s or 0.0
        if last.end.stage is None:
            text += f" after {length(lasted)}"
        if last.stopped_by and last.stopped_by not in {"policy", ""}:
            text += f", stopped by {by_whom(last.stopped_by)}"
        yield Fact("ended", f"{text} (run {last.run})", last.ended_at)
    elif subject.state.last_exit is not None:
        yield Fact("ended", ended(subject.state.last_exit, name_of))


def _decided(subject: Subject) -> Iterator[Fact]:
    """Name the keys that decided the present phase, and where they are written."""
    spec, phase = subject.spec, subject.state.phase
    if phase is Phase.STOPPED and subject.state.run == 0 and not spec.autostart:
        yield _fact("autostart", "autostart = false", _line(spec, "autostart"))
    elif phase in {Phase.BACKOFF, Phase.EXITED, Phase.FAILED, Phase.RUNNING} and subject.runs:
        yield from _restarts(spec)
    elif phase is Phase.STARTING:
        at = _line(spec, "start_timeout")
        said = "for ever" if math.isinf(spec.start_timeout) else age(spec.start_timeout)
        yield _fact("timeout", f"start_timeout = {said}{_default(at)}", at)
    elif phase is Phase.STOPPING:
        at = _line(spec, "stop")
        steps = [f"{name_of(step.signum)} {length(step.timeout)}" for step in spec.stop.steps]
        yield _fact("stop", f"{', '.join(steps)}, then SIGKILL{_default(at)}", at)


def _restarts(spec: ServiceSpec) -> Iterator[Fact]:
    at = _line(spec, "restart")
    text = f'restart = "{spec.restart.value}"{_default(at)}'
    limit = spec.start_limit
    if limit.burst and spec.restart is not RestartPolicy.NO:
        within = _line(spec, "start_limit")
        burst = f"{limit.burst} in {age(limit.interval)}"
        text += f"; start_limit.burst = {burst}{_default(within)}"
        at = at or within
    yield _fact("restarts", text, at)


def _default(at: Line | None) -> str:
    return "" if at else " (default)"


def _changed(subject: Subject) -> Iterator[Fact]:
    applied = subject.applied
    if applied is not None:
        keys = f": {', '.join(applied.keys)}" if applied.keys else ""
        text = f"{applied.action} by {by_whom(applied.by)}{keys}"
        yield Fact("changed", text, applied.wall, applied.file, applied.line)
    if subject.pending:
        yield Fact("changed", "a changed configuration waits for a restart")


def _line(spec: ServiceSpec, key: str | None) -> Line | None:
    """Return the line of a key, or of the first key below it or beside it (`stop_timeout`)."""
    if key is None:
        return None
    lines = lines_of(spec)
    exact = next((line for line in lines if line.key == key), None)
    beside = (f"{key}.", f"{key}_") if key == "stop" else (f"{key}.",)
    return exact or next((line for line in lines if line.key.startswith(beside)), None)


def _fact(label: str, text: str, at: Line | None) -> Fact:
    return Fact(label, text, None, at.file if at else None, at.line if at else None)


# -- what to do -----------------------------------------------------------------------------------


def _tries(subject: Subject) -> tuple[str, ...]:
    name, phase = subject.spec.name, subject.state.phase
    match phase:
        case Phase.STOPPED | Phase.EXITED:
            return (f"pidfdctl start {name}", f"pidfdctl history {name}")
        case Phase.WAITING:
            others = [need.on for need in subject.needs if need.phase]
            return (*(f"pidfdctl explain {other}" for other in others), f"pidfdctl deps {name}")
        case Phase.STARTING:
            return (f"pidfdctl logs {name}", f"pidfdctl show {name} --origin")
        case Phase.RUNNING:
            return (f"pidfdctl restart {name}",) if subject.pending else ()
        case Phase.STOPPING:
            return (f"pidfdctl signal --group KILL {name}",)
        case Phase.BACKOFF | Phase.FAILED:
            again = (f"pidfdctl start {name}",) if phase is Phase.FAILED else ()
            return (f"pidfdctl show {name} --origin", f"pidfdctl history {name}", *again)
