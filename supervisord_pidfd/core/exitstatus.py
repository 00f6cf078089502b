"""How a process ended, in waitid(2)'s words, and what that means for policy."""

import enum
from typing import NamedTuple, assert_never


class Exited(NamedTuple):
    """Say that the process called exit(2) with this code, 0 to 255."""

    code: int


class Signaled(NamedTuple):
    """Say that a signal ended the process; `core` tells whether a core was dumped."""

    signum: int
    core: bool = False


class Unknown(NamedTuple):
    """Say that the status could not be read. Never taken for success (law 8)."""

    reason: str = ""


ExitStatus = Exited | Signaled | Unknown


class Usage(NamedTuple):
    """Hold what the process used: CPU seconds, and the highest resident size in bytes."""

    user_cpu_s: float = 0.0
    system_cpu_s: float = 0.0
    max_rss_bytes: int | None = None


class Cause(enum.StrEnum):
    """Name why a run ended; the words of history, events and metrics."""

    SUCCESS = "success"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    CORE_DUMP = "core_dump"
    OOM = "oom"
    TIMEOUT = "timeout"
    WATCHDOG = "watchdog"
    HEALTH = "health"
    SPAWN_ERROR = "spawn_error"
    HOOK = "hook"
    OPERATOR = "operator"
    CONFIG = "config"
    DEPENDENCY = "dependency"
    UNKNOWN = "unknown"


ASKED_FOR = frozenset({Cause.OPERATOR, Cause.CONFIG, Cause.DEPENDENCY})
"""Ends after a stop by one of these are never a failure."""


class Ends(NamedTuple):
    """List exit codes and signal numbers, as `success_*` and `restart_*` keys do."""

    codes: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()

    def includes(self, status: ExitStatus) -> bool:
        """Tell whether this end is on the list; an unknown one never is."""
        match status:
            case Exited(code):
                return code in self.codes
            case Signaled(signum, _):
                return signum in self.signals
            case Unknown():
                return False
            case _:
                assert_never(status)


def cause_of(status: ExitStatus, success: Ends) -> Cause:
    """Classify an end that nobody asked for."""
    if success.includes(status):
        return Cause.SUCCESS
    match status:
        case Exited():
            return Cause.EXIT_CODE
        case Signaled(_, core):
            return Cause.CORE_DUMP if core else Cause.SIGNAL
        case Unknown():
            return Cause.UNKNOWN
        case _:
            assert_never(status)
