"""Run the hooks of one service: what they are told, how long they may take, who ends them.

One that the machine waits for runs at a time. `on_failure` runs beside, bounded by its timeout.
"""

from collections.abc import Callable

from supervisord_pidfd.core.exitstatus import Exited, ExitStatus, Signaled
from supervisord_pidfd.core.lifecycle import ServiceState
from supervisord_pidfd.core.spec import CommandSpec, Hook, ServiceSpec
from supervisord_pidfd.errands import Errand, Result
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.signals import name_of

_WITH_MAINPID = frozenset({Hook.POST_START, Hook.PRE_STOP, Hook.STOP, Hook.RELOAD})
_AT_THE_END = frozenset({Hook.POST_STOP, Hook.ON_FAILURE})
_OF_A_STOP = frozenset({Hook.PRE_STOP, Hook.STOP})


class Hooks:
    """Own the hooks of one service that are under way; `ended` takes how each went."""

    def __init__(self, hands: Hands, ended: Callable[[Hook, Result], None]) -> None:
        self._hands = hands
        self._ended = ended
        self._awaited: Errand | None = None
        self._beside: Errand | None = None

    def run(
        self, hook: Hook, spec: ServiceSpec, state: ServiceState, next_delay: float | None
    ) -> None:
        """Start a hook; an older one of its kind is ended."""
        command, timeout = _order(hook, spec)
        errand = Errand(
            self._hands,
            spec,
            command,
            timeout,
            variables_of(hook, state, next_delay),
            lambda result: self._take(hook, result),
            run=state.run,
        )
        if hook is Hook.ON_FAILURE:
            if self._beside is not None:
                self._beside.cancel()
            self._beside = errand
        else:
            self.cancel()
            self._awaited = errand

    @property
    def under_way(self) -> bool:
        """Tell whether any hook is."""
        return self._awaited is not None or self._beside is not None

    def signal(self, signum: int) -> None:
        """Signal the hook that is waited for, with its group."""
        if self._awaited is not None:
            self._awaited.signal(signum)

    def cancel(self) -> None:
        """End the hook that is waited for; it is never told."""
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def close(self) -> None:
        """End all."""
        self.cancel()
        if self._beside is not None:
            self._beside.cancel()
            self._beside = None

    def _take(self, hook: Hook, result: Result) -> None:
        if hook is Hook.ON_FAILURE:
            self._beside = None
        else:
            self._awaited = None
        self._ended(hook, result)


def _order(hook: Hook, spec: ServiceSpec) -> tuple[CommandSpec, float]:
    """Return what to run and for how long at most."""
    if hook is Hook.STOP:
        command, timeout = spec.stop.command, spec.stop.steps[0].timeout
    elif hook is Hook.RELOAD:
        command, timeout = spec.reload.command, spec.reload.timeout
    else:
        command, timeout = getattr(spec.hooks, hook.value), spec.hooks.timeout
    assert command is not None  # noqa: S101 - the machine asks for what the spec has
    return command, timeout


def variables_of(hook: Hook, state: ServiceState, next_delay: float | None) -> dict[str, str]:
    """Return what a hook is told beside the service's own environment."""
    told = {
        "SUPERVISORD_HOOK": hook.value,
        "SUPERVISORD_ATTEMPT": str(state.attempt),
        "SUPERVISORD_NEXT_DELAY": "" if next_delay is None else f"{next_delay:.3f}",
    }
    if hook in _WITH_MAINPID and state.pid is not None:
        told["MAINPID"] = str(state.pid)
    if hook in _OF_A_STOP and state.stop_cause is not None:
        told["SERVICE_RESULT"] = state.stop_cause.value
    end = state.ended or state.last_exit
    if hook in _AT_THE_END and end is not None:
        told["SERVICE_RESULT"] = end.cause.value
        told |= _status_variables(end.status)
    return told


def _status_variables(status: ExitStatus | None) -> dict[str, str]:
    """Write an end as systemd.exec(5) does; nothing where nothing was executed."""
    match status:
        case Exited(code):
            return {"EXIT_CODE": "exited", "EXIT_STATUS": str(code)}
        case Signaled(signum, core):
            name = name_of(signum).removeprefix("SIG")
            return {"EXIT_CODE": "dumped" if core else "killed", "EXIT_STATUS": name}
        case _:
            return {}


def words(result: Result) -> str:
    """Say what a hook did that did not end well."""
    if result.timed_out:
        return "timed out"
    match result.status:
        case Exited(code):
            return f"code {code}"
        case Signaled(signum, _):
            return name_of(signum)
        case _:
            return result.error or "status unknown"
