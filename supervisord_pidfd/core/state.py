"""What the machine knows of one service, and the words its rules are written in.

Vocabulary. `phase` says what is, `wanted` says what should be; a restart is "stopping and wanted
up". A *run* begins with its first hook or with `Spawn`, and ends when nothing of it is left and
its last hook is over. A run is *ready* when its program was executed, `hooks.post_start` is over,
and what its type or `ready.*` asks for has come; a oneshot is ready by ending cleanly.

Deadlines. A state holds moments (CLOCK_MONOTONIC seconds, `inf` = none); the shell arms the
earliest of them and posts `DeadlinePassed` when it comes. A rule that enters a phase writes down
the moments of that phase and thereby drops all others, so no timer can outlive its meaning:

- `start_by` (STARTING): ready by then, or stopped with cause `timeout`.
- `ready_at_due` (STARTING): `ready.delay` is over; the run is ready.
- `max_run_by` (STARTING, RUNNING): longest run; stopped with cause `timeout`.
- `watchdog_by` (RUNNING): the service has to be heard by then.
- `reload_by` (RUNNING): its reload has to be over.
- `step_by` (STOPPING): the next stop signal, and in the end SIGKILL, which is repeated.
- `kill_by` (STOPPING): SIGKILL whatever the steps say, and no hook any more; the daemon's own
  shutdown budget.
- `unkillable_by` (STOPPING): SIGKILL had no effect until then: say so, once.
- `next_start_at` (BACKOFF): start again.

A hook has no moment here: the shell ends it at its timeout, so `HookEnded` always comes.
"""

import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.actions import Action
from supervisord_pidfd.core.exitstatus import Cause, ExitStatus
from supervisord_pidfd.core.spec import Hook, ServiceSpec


class Phase(enum.StrEnum):
    """Name the eight phases."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    EXITED = "exited"
    FAILED = "failed"


class Held(NamedTuple):
    """Say what a start has to wait for: a service or a limit, and the condition if it has one."""

    on: str
    condition: str | None = None


class Wanted(enum.StrEnum):
    """Say what should be."""

    UP = "up"
    DOWN = "down"


class End(NamedTuple):
    """Hold how a run ended; `status` is None where nothing was executed."""

    cause: Cause
    status: ExitStatus | None = None
    forced: bool = False
    stage: str | None = None
    subject: str | None = None
    error: str | None = None


class _Members(NamedTuple):
    """Declare what a `ServiceState` holds.

    `hook` is the one under way that the state waits for, or that the service reloads by. `ended`
    keeps the end that the main process has had, until all of the run is over; `emptied` says that
    by now only a hook holds the run. `cut` says that there is no time for hooks any more, `rolled`
    keeps the chance that the last hook was told its delay by, and `fail_reason` why the service is
    to be failed when it has stopped. `heir` is the pid of the process that is to be the main one
    when that has ended, `watchdog` is the period that the service itself has named.
    """

    phase: Phase = Phase.STOPPED
    wanted: Wanted = Wanted.DOWN
    since: float = 0.0
    pid: int | None = None
    run: int = 0
    attempt: int = 0
    restarts: int = 0
    starts: tuple[float, ...] = ()
    started_at: float | None = None
    ready_at: float | None = None
    last_exit: End | None = None
    stop_by: str = ""
    stop_asked_at: float = 0.0
    # what ends with the run: that of its process …
    executed: bool = False
    heir: int | None = None
    way: str | None = None
    reloading: bool = False
    reload_began: float = 0.0
    reload_said: bool = False
    reload_queued: str | None = None
    watchdog: float | None = None
    checked: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    hook: Hook | None = None
    # … that of its stop …
    stop_cause: Cause | None = None
    start_queued: bool = False
    fail_reason: str | None = None
    step: int = 0
    forced: bool = False
    unkillable: bool = False
    ended: End | None = None
    emptied: bool = False
    cut: bool = False
    rolled: float = 0.0
    # … and the moments, which end with the phase
    start_by: float = math.inf
    ready_at_due: float = math.inf
    max_run_by: float = math.inf
    watchdog_by: float = math.inf
    reload_by: float = math.inf
    step_by: float = math.inf
    kill_by: float = math.inf
    unkillable_by: float = math.inf
    next_start_at: float = math.inf


class ServiceState(_Members):
    """Hold everything the machine knows of one service; moments are CLOCK_MONOTONIC seconds."""

    __slots__ = ()

    def _replace(self, **changes: Any) -> "ServiceState":
        """Return a copy with these members; a third of the cost of what NamedTuple makes.

        A restart takes nine of these, and a storm of exits a thousand times as many.
        """
        members = list(self)
        for name, value in changes.items():
            members[_INDEX[name]] = value
        return _new(ServiceState, members)

    @property
    def deadline(self) -> float:
        """Return the earliest moment this state holds, `inf` if none."""
        moments: Any = self[_MOMENTS]  # floats all of them, which a slice cannot say
        return float(min(moments))

    @property
    def has_process(self) -> bool:
        """Tell whether a main process exists."""
        return self.pid is not None


_INDEX = {name: index for index, name in enumerate(_Members._fields)}
_OF_RUN = slice(_INDEX["executed"], len(_INDEX))
_MOMENTS = slice(_INDEX["start_by"], len(_INDEX))
_FRESH = list(_Members())
_NO_RUN, _NO_MOMENTS = _FRESH[_OF_RUN], _FRESH[_MOMENTS]
_new = tuple.__new__


class At(NamedTuple):
    """Hold where a step starts from. `held` names what a start has to wait for, if anything."""

    spec: ServiceSpec
    state: ServiceState
    now: float
    roll: float
    held: Held | None

    def become(self, phase: Phase, **changes: Any) -> ServiceState:
        """Enter a phase: its moments are those named in `changes`, all others end."""
        members = list(self.state)
        members[_MOMENTS] = _NO_MOMENTS
        return self._enter(phase, members, changes)

    def settle(self, phase: Phase, **changes: Any) -> ServiceState:
        """Enter a phase that has no process yet or any more: all of the last run is forgotten."""
        members = list(self.state)
        members[_OF_RUN] = _NO_RUN
        return self._enter(phase, members, changes)

    def stopping(self, by: str, **changes: Any) -> ServiceState:
        """Enter STOPPING at its first step."""
        begun: dict[str, Any] = {"stop_by": by, "stop_asked_at": self.now, "step": 0}
        begun |= {"hook": None, "reloading": False}
        return self.become(Phase.STOPPING, **(begun | changes))

    def changed(self, **changes: Any) -> "At":
        """Return the same place with another state."""
        return self._replace(state=self.state._replace(**changes))

    def _enter(self, phase: Phase, members: list[Any], changes: dict[str, Any]) -> ServiceState:
        changes["phase"], changes["since"] = phase, self.now
        for name, value in changes.items():
            members[_INDEX[name]] = value
        return _new(ServiceState, members)

    @property
    def lasted(self) -> float:
        """Return for how long the run has had a process."""
        started_at = self.state.started_at
        return 0.0 if started_at is None else self.now - started_at


class Step(NamedTuple):
    """Hold the outcome: the new state, what the shell must do, what observers are told."""

    state: ServiceState
    actions: tuple[Action, ...] = ()
    notices: tuple[Any, ...] = ()


Rule = Callable[[At, Any], Step]


def nothing(at: At, _event: object) -> Step:
    """Ignore what may happen here and means nothing."""
    return Step(at.state)
