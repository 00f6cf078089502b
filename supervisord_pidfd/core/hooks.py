"""What the end of a hook means, by the phase it ends in.

`pre_start` comes before the process, `post_start` between it and being ready (of a oneshot: after
its clean end), `pre_stop` before the first stop signal, `stop.command` instead of it, `post_stop`
after every end. `on_failure` is started and forgotten. One hook of a service runs at a time; one
that the state has stopped waiting for is ended by the shell.
"""

from supervisord_pidfd.core.ending import finish, last_hook_ended
from supervisord_pidfd.core.events import HookEnded
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.spec import Hook
from supervisord_pidfd.core.starting import post_start_ended, spawn
from supervisord_pidfd.core.state import At, End, Step
from supervisord_pidfd.core.stopping import clean_up_rest, first_step, signal_of


def hook_ended_while_starting(at: At, event: HookEnded) -> Step:
    """Go on with the start, or fail it."""
    if event.hook is not at.state.hook:
        return Step(at.state)
    if event.hook is Hook.POST_START:
        return post_start_ended(at, ok=event.ok)
    if event.ok:
        return spawn(at)
    return _never_began(at, event, Cause.HOOK)


def hook_ended_while_stopping(at: At, event: HookEnded) -> Step:
    """Go on with the stop, or with what follows it."""
    state = at.state
    if event.hook is not state.hook:
        return Step(state)
    over, ended = at.changed(hook=None), state.ended
    if ended is None:
        return _hook_of_stop_ended(over, event)
    if event.hook in _AFTER_ALL:
        return last_hook_ended(at, event.hook, ended, ok=event.ok)
    if state.emptied:
        return finish(over, ended)
    return clean_up_rest(over, ended, unsignalled=True)


_AFTER_ALL = frozenset({Hook.POST_START, Hook.POST_STOP})


def _hook_of_stop_ended(over: At, event: HookEnded) -> Step:
    """Go on while the main process lives, or where there never was one."""
    if event.hook is Hook.PRE_START:
        return _never_began(over, event, over.state.stop_cause or Cause.HOOK)
    if event.hook is Hook.PRE_STOP:
        return first_step(over)
    if event.ok:  # the process has the rest of its time
        return Step(over.state)
    first = over.spec.stop.steps[0].signum
    return Step(over.state, (signal_of(over.spec, first),))


def _never_began(at: At, event: HookEnded, cause: Cause) -> Step:
    """End a run that has had no process."""
    error = event.error or "stopped"
    ended = End(cause, None, at.state.forced, "hook", event.hook.value, error)
    return finish(at.changed(hook=None, last_exit=ended), ended)
