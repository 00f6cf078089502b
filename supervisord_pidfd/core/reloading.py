"""How a service is told to read its own configuration again, and when that is over.

Its process stays, whatever comes of it. A signal is done when it is sent and a command when it has
ended; a service of type `notify` says itself that it is done, by READY=1 after RELOADING=1. A
request that comes meanwhile is carried out afterwards: what it is about may have been read too
early. A service that reloads by itself is only watched.
"""

import math
from typing import Any

from supervisord_pidfd.core.actions import RunHook, Signal
from supervisord_pidfd.core.events import BecameReady, HookEnded, ReloadBegan, ReloadRequested
from supervisord_pidfd.core.notices import (
    ServiceReloaded,
    ServiceReloadFailed,
    ServiceReloading,
)
from supervisord_pidfd.core.spec import Hook, ServiceType
from supervisord_pidfd.core.state import At, ServiceState, Step

_OVER: dict[str, Any] = {
    "hook": None,
    "reloading": False,
    "reload_said": False,
    "reload_queued": None,
    "reload_by": math.inf,
}


def reload_requested(at: At, event: ReloadRequested) -> Step:
    """Begin to reload, or remember to; a service that has no way to is left alone."""
    how, told = at.spec.reload, ServiceReloading(event.by)
    if at.state.reloading:
        return Step(at.state._replace(reload_queued=event.by))
    if how.command is not None:
        state, action = _under_way(at)._replace(hook=Hook.RELOAD), RunHook(Hook.RELOAD)
        return Step(state, (action,), (told,))
    if how.signum is None:
        return Step(at.state)
    actions = (Signal(how.signum, whole_scope=False, then_continue=False),)
    if at.spec.type is ServiceType.NOTIFY:
        return Step(_under_way(at), actions, (told,))
    return Step(at.state, actions, (told, ServiceReloaded(0.0)))


def _under_way(at: At) -> ServiceState:
    return at.state._replace(
        reloading=True, reload_began=at.now, reload_by=at.now + at.spec.reload.timeout
    )


def reload_began(at: At, _event: ReloadBegan) -> Step:
    """Watch a service that reloads by itself; what was asked for is under way already."""
    if at.state.reloading:
        return Step(at.state)
    return Step(_under_way(at), notices=(ServiceReloading("policy"),))


def ready_again(at: At, _event: BecameReady) -> Step:
    """Be done when the service says so, and its command is over."""
    if not at.state.reloading:
        return Step(at.state)
    if at.state.hook is Hook.RELOAD:
        return Step(at.state._replace(reload_said=True))
    return _over(at, ServiceReloaded(at.now - at.state.reload_began))


def reload_command_ended(at: At, event: HookEnded) -> Step:
    """Be done when the command is over, and the service has said so if it can."""
    state = at.state
    if event.hook is not state.hook:
        return Step(state)
    if not event.ok:
        return _over(at, ServiceReloadFailed(event.error))
    if at.spec.type is ServiceType.NOTIFY and not state.reload_said:
        return Step(state._replace(hook=None))
    return _over(at, ServiceReloaded(at.now - state.reload_began))


def reload_too_slow(at: At) -> Step:
    """Wait no longer; the service is as ready as before."""
    return _over(at, ServiceReloadFailed("timed out"))


def _over(at: At, told: ServiceReloaded | ServiceReloadFailed) -> Step:
    queued = at.state.reload_queued
    over = at.changed(**_OVER)
    if queued is None:
        return Step(over.state, notices=(told,))
    again = reload_requested(over, ReloadRequested(queued))
    return again._replace(notices=(told, *again.notices))
