"""The end of a run, and what follows it: its last hooks, then restart, rest or failure."""

from typing import Any

from supervisord_pidfd.core.actions import Action, EndDaemon, RunHook
from supervisord_pidfd.core.backoff import delay_before
from supervisord_pidfd.core.events import ProcessExited, ScopeEmptied, SpawnFailed
from supervisord_pidfd.core.exitstatus import (
    ASKED_FOR,
    Cause,
    Exited,
    ExitStatus,
    Signaled,
    Unknown,
    Usage,
    cause_of,
)
from supervisord_pidfd.core.notices import (
    ServiceExited,
    ServiceGaveUp,
    ServiceRestartScheduled,
    ServiceSpawnFailed,
    ServiceStatusUnknown,
    ServiceStopped,
    ServiceStopping,
)
from supervisord_pidfd.core.restart import slow_retry_delay, wants_restart, within_limit
from supervisord_pidfd.core.spec import Hook, LimitAction, Scope, ServiceSpec, ServiceType
from supervisord_pidfd.core.starting import is_host_fault, start
from supervisord_pidfd.core.state import At, End, Phase, Step, Wanted
from supervisord_pidfd.core.stopping import AWAITED, clean_up, clean_up_rest

HOST_FAULT_DELAY = 0.1
"""Least wait after a start that failed for want of memory, processes or descriptors."""

EXIT_LIMIT = 10
EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE, EXIT_SPAWN_ERROR = 127, 126, 125
NEVER: dict[str, float] = {"step_by": float("inf"), "unkillable_by": float("inf")}
"""Moments of a stop whose processes are gone."""


def daemon_code(end: End) -> int:
    """Return the daemon's exit code when this end of a main or critical service ends it."""
    match end.status:
        case Exited(code):
            return code
        case Signaled(signum, _):
            return 128 + signum
        case _ if end.stage != "exec":  # no directory, no user, …: not the program's absence
            return EXIT_SPAWN_ERROR
        case _ if end.error == "ENOENT":
            return EXIT_NOT_FOUND
        case _ if end.error in {"EACCES", "ENOEXEC", "EISDIR"}:
            return EXIT_NOT_EXECUTABLE
        case _:
            return EXIT_SPAWN_ERROR


# -- what ended -----------------------------------------------------------------------------------


def exited(at: At, event: ProcessExited) -> Step:
    """Take in the end of the main process, and go on with what its scope and policy say."""
    state, stop = at.state, at.spec.stop
    ended = End(state.stop_cause or _cause(at, event.status), event.status, forced=state.forced)
    told = _exit_notices(at, ended, event.usage)
    gone = at.changed(pid=None, last_exit=ended)
    if not (event.scope_empty or stop.keep_leftovers or stop.scope is Scope.PROCESS):
        clean = clean_up_rest if state.phase is Phase.STOPPING else clean_up
        following = clean(gone, ended)
    elif state.hook in AWAITED:
        following = _wait_for_hook(gone, ended)
    else:
        following = finish(gone, ended)
    return following._replace(notices=told + following.notices)


def _cause(at: At, status: ExitStatus) -> Cause:
    """Classify an end that nobody asked for: before READY=1 it is a failure, whatever its code."""
    cause = cause_of(status, at.spec.success)
    early = at.spec.type is ServiceType.NOTIFY and at.state.phase is Phase.STARTING
    if early and cause is Cause.SUCCESS:
        return Cause.EXIT_CODE if isinstance(status, Exited) else Cause.SIGNAL
    return cause


def _exit_notices(at: At, ended: End, usage: Usage) -> tuple[Any, ...]:
    status = ended.status
    exited_ = ServiceExited(
        cause=ended.cause.value,
        exit_code=status.code if isinstance(status, Exited) else None,
        signal=status.signum if isinstance(status, Signaled) else None,
        core=isinstance(status, Signaled) and status.core,
        forced=ended.forced,
        wanted=at.state.wanted.value,
        lasted_s=at.lasted,
        max_rss_bytes=usage.max_rss_bytes,
        user_cpu_s=usage.user_cpu_s,
        system_cpu_s=usage.system_cpu_s,
    )
    if isinstance(status, Unknown):
        return (ServiceStatusUnknown(status.reason), exited_)
    return (exited_,)


def spawn_failed(at: At, event: SpawnFailed) -> Step:
    """Take in that nothing was executed."""
    cause = at.state.stop_cause or Cause.SPAWN_ERROR
    ended = End(cause, None, at.state.forced, event.stage, event.subject, event.error)
    told = ServiceSpawnFailed(event.stage, event.subject, event.error)
    following = finish(at.changed(pid=None, last_exit=ended), ended)
    return following._replace(notices=(told, *following.notices))


def scope_emptied(at: At, _event: ScopeEmptied) -> Step:
    """Go on when all of the scope is gone, and no hook of its stop is under way."""
    state = at.state
    if state.ended is None or state.emptied:  # it lives, or that was known: an older question
        return Step(state)
    if state.hook in AWAITED:
        return _wait_for_hook(at, state.ended)
    return finish(at, state.ended)


def _wait_for_hook(at: At, ended: End) -> Step:
    return Step(at.state._replace(ended=ended, emptied=True, **NEVER))


# -- the last hooks -------------------------------------------------------------------------------


def finish(at: At, ended: End) -> Step:
    """Run the hooks that belong to the end of a run, if any, then see what follows."""
    hook = _last_hook(at.spec, ended)
    if hook is None or at.state.cut:
        return after(at, ended)
    held = {"ended": ended, "emptied": True, "rolled": at.roll, "hook": hook}
    action = RunHook(hook, _delay_to_come(at, ended))
    if at.state.phase is Phase.STOPPING:
        return Step(at.state._replace(**held, **NEVER), (action,))
    told = ServiceStopping("policy", None, at.spec.hooks.timeout)
    return Step(at.stopping("policy", **held), (action,), (told,))


def _last_hook(spec: ServiceSpec, ended: End) -> Hook | None:
    """Return the next hook of an ended run; a oneshot has started when it has ended cleanly."""
    hooks = spec.hooks
    if spec.fault is not None:  # nothing of this service can be executed
        return None
    if spec.type is ServiceType.ONESHOT and ended.cause is Cause.SUCCESS and hooks.post_start:
        return Hook.POST_START
    return Hook.POST_STOP if hooks.post_stop is not None else None


def _delay_to_come(at: At, ended: End) -> float | None:
    """Tell in how many seconds the next start comes; None if none does."""
    following = after(at, ended).state
    if following.phase is Phase.BACKOFF:
        return following.next_start_at - at.now
    return 0.0 if following.phase is Phase.STARTING else None


def last_hook_ended(at: At, hook: Hook, ended: End, *, ok: bool) -> Step:
    """Go on from a hook of the end, at last to what follows."""
    over = at._replace(roll=at.state.rolled).changed(hook=None)
    if hook is Hook.POST_STOP:
        return after(over, ended)
    if not ok:
        ended = ended._replace(cause=Cause.HOOK)
        over = over.changed(last_exit=ended)
    if at.spec.hooks.post_stop is None or at.state.cut:
        return after(over, ended)
    action = RunHook(Hook.POST_STOP, _delay_to_come(over, ended))
    return Step(over.state._replace(hook=Hook.POST_STOP, ended=ended), (action,))


# -- what follows ---------------------------------------------------------------------------------


def after(at: At, ended: End) -> Step:
    """Decide what follows a run of which nothing is left."""
    state = at.state
    if state.wanted is Wanted.DOWN:
        return _down(at, ended)
    if state.start_queued or (ended.cause in ASKED_FOR and state.fail_reason is None):
        return start(at)
    if state.fail_reason is not None:
        return give_up(at, ended, state.fail_reason)
    return _by_policy(at, ended)


def _by_policy(at: At, ended: End) -> Step:
    if is_host_fault(ended):
        return _back_off(at, ended, least=HOST_FAULT_DELAY)
    verdict = wants_restart(at.spec, ended.cause, ended.status)
    if verdict.restart:
        return _restart_by_policy(at, ended)
    if ended.cause is Cause.SUCCESS:
        return _stay_exited(at, ended)
    return give_up(at, ended, "prevented" if verdict.prevented else "policy")


def _down(at: At, ended: End) -> Step:
    stopped = ServiceStopped(at.state.stop_by, at.now - at.state.stop_asked_at)
    state = at.settle(Phase.STOPPED)
    return Step(state, daemon_ends(at.spec.main, ended), (stopped,))


def _stay_exited(at: At, ended: End) -> Step:
    was_stopping = at.state.phase is Phase.STOPPING
    state = at.settle(Phase.EXITED, wanted=Wanted.DOWN)
    # service.exited was told when the main process ended; a clean-up needs a notice of its own.
    notices = (ServiceStopped("policy", at.now - at.state.stop_asked_at),) if was_stopping else ()
    return Step(state, daemon_ends(at.spec.main, ended), notices)


def give_up(at: At, ended: End, reason: str) -> Step:
    """Fail, with the hook for that, and whatever it means for the daemon."""
    attempts = _attempts_so_far(at)
    state = at.settle(Phase.FAILED, attempt=attempts)
    notice = ServiceGaveUp(ended.cause.value, reason, attempts)
    ends = daemon_ends(at.spec.main or at.spec.critical, ended)
    if not ends and reason == "limit" and at.spec.start_limit.action is LimitAction.SHUTDOWN:
        ends = (EndDaemon(EXIT_LIMIT),)
    if at.spec.hooks.on_failure is not None:
        ends = (RunHook(Hook.ON_FAILURE), *ends)
    return Step(state, ends, (notice,))


def daemon_ends(decisive: bool, ended: End) -> tuple[Action, ...]:  # noqa: FBT001 - one fact
    """End the daemon if this service's end is decisive."""
    return (EndDaemon(daemon_code(ended)),) if decisive else ()


def _restart_by_policy(at: At, ended: End) -> Step:
    limit = at.spec.start_limit
    if within_limit(at.state.starts, limit, at.now):
        return _back_off(at, ended)
    slow = slow_retry_delay(limit)
    if slow is None:
        return give_up(at, ended, "limit")
    return _back_off(at, ended, least=slow)


def _back_off(at: At, ended: End, least: float = 0.0) -> Step:
    """Schedule the next automatic start."""
    attempt = _attempts_so_far(at) + 1
    delay = max(delay_before(attempt, at.spec.backoff, at.roll), least)
    state = at.settle(Phase.BACKOFF, attempt=attempt, next_start_at=at.now + delay)
    limit = at.spec.start_limit.burst or None
    notice = ServiceRestartScheduled(ended.cause.value, attempt, limit, delay)
    return Step(state, notices=(notice,))


def _attempts_so_far(at: At) -> int:
    """Return the attempts of this row, none if the run just ended was ready for long enough."""
    state = at.state
    if state.ready_at is None:
        return state.attempt
    ready_until = state.stop_asked_at if state.phase is Phase.STOPPING else at.now
    return 0 if ready_until >= state.ready_at + at.spec.backoff.reset_after else state.attempt
