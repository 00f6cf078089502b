"""Inputs of the service machine: what happened, or what somebody asks for."""

import math
from typing import NamedTuple

from supervisord_pidfd.core.exitstatus import Cause, ExitStatus, Usage


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
    | ResetRequested
    | KillRequested
    | GateOpened
    | Spawned
    | Executed
    | SpawnFailed
    | ProcessExited
    | ScopeEmptied
    | DeadlinePassed
)
