"""Inputs of the service machine: what happened, or what somebody asks for."""

import math
from typing import NamedTuple

from supervisord_pidfd.core.exitstatus import Cause, ExitStatus, Usage
from supervisord_pidfd.core.spec import CheckAction, Hook


class StartRequested(NamedTuple):
    """Ask for the service to be up; `by` is who asks, in the words of the log."""

    by: str


class StopRequested(NamedTuple):
    """Ask for the service to be down, with SIGKILL no later than the moment `kill_by`."""

    by: str
    cause: Cause = Cause.OPERATOR
    kill_by: float = math.inf


class RestartRequested(NamedTuple):
    """Ask for a stop and a start."""

    by: str
    cause: Cause = Cause.OPERATOR


class ReloadRequested(NamedTuple):
    """Ask for the service's own reload; its process stays."""

    by: str


class FailRequested(NamedTuple):
    """Ask for the service to be stopped and `failed`, as a limit over several of them wants it."""

    reason: str


class ResetRequested(NamedTuple):
    """Ask to forget attempts and the start-limit window; starts nothing."""

    by: str


class KillRequested(NamedTuple):
    """Ask for a stop that begins with SIGKILL: the hastened shutdown."""


class GateOpened(NamedTuple):
    """Say that what a waiting service waited for is there."""


class Spawned(NamedTuple):
    """Say that a child exists; it may not have executed its program yet."""

    pid: int
    took_s: float


class Executed(NamedTuple):
    """Say that the child has executed its program."""


class SpawnFailed(NamedTuple):
    """Say that a start ended before the program was executed, and at which stage."""

    stage: str
    subject: str
    error: str


class HookEnded(NamedTuple):
    """Say that a hook, a stop command or a reload command is over; `ok` if it exited with 0.

    `error` says in words what it did instead: `code 1`, `SIGKILL`, `ENOENT`, `timed out`.
    """

    hook: Hook
    ok: bool
    error: str = ""


class BecameReady(NamedTuple):
    """Say that the service is ready, and which way that was learnt (`notify`, `http`, …).

    During a reload it says that the reload is over.
    """

    way: str


class ReadinessLost(NamedTuple):
    """Say that the service closed its readiness descriptor without a word: it never will be."""


class ReloadBegan(NamedTuple):
    """Say that the service has begun to reload, as RELOADING=1 tells."""


class TimeoutExtended(NamedTuple):
    """Say that what the service is at may take `seconds` from now (EXTEND_TIMEOUT_USEC)."""

    seconds: float


class WatchdogPinged(NamedTuple):
    """Say that the service lives (WATCHDOG=1)."""


class WatchdogTriggered(NamedTuple):
    """Say that the service wants to be taken for dead (WATCHDOG=trigger)."""


class WatchdogChanged(NamedTuple):
    """Say that the service promises WATCHDOG=1 every `seconds` from now on (WATCHDOG_USEC)."""

    seconds: float


class AttemptsForgiven(NamedTuple):
    """Say that the row of attempts may begin anew (RESTART_RESET=1)."""


class CheckChanged(NamedTuple):
    """Say that a health check has crossed its threshold; `action` is what its spec says.

    `healthy` is None where nothing is known any more, and nothing follows from that.
    """

    check: str
    healthy: bool | None
    action: CheckAction


class MainPidChanged(NamedTuple):
    """Say that another process, proven to be of this service, is to be the main one."""

    pid: int


class MainReplaced(NamedTuple):
    """Say that the main process has ended, and the one it had named goes on in its place."""

    pid: int


class ProcessExited(NamedTuple):
    """Say that the main process ended; `scope_empty` is false while others of its scope live."""

    status: ExitStatus
    usage: Usage
    scope_empty: bool = True


class ScopeEmptied(NamedTuple):
    """Say that the last process of the scope has gone after the main process."""


class DeadlinePassed(NamedTuple):
    """Say that the earliest moment of the state has come."""


Event = (
    StartRequested
    | StopRequested
    | RestartRequested
    | ReloadRequested
    | FailRequested
    | ResetRequested
    | KillRequested
    | GateOpened
    | Spawned
    | Executed
    | SpawnFailed
    | HookEnded
    | BecameReady
    | ReadinessLost
    | ReloadBegan
    | TimeoutExtended
    | WatchdogPinged
    | WatchdogTriggered
    | WatchdogChanged
    | AttemptsForgiven
    | CheckChanged
    | MainPidChanged
    | MainReplaced
    | ProcessExited
    | ScopeEmptied
    | DeadlinePassed
)
