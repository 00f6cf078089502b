"""What the machine demands of its shell."""

from typing import NamedTuple

from supervisord_pidfd.core.spec import Hook


class Spawn(NamedTuple):
    """Start the program; answered by `Spawned` or `SpawnFailed`."""


class Signal(NamedTuple):
    """Signal the main process, or all of the scope; SIGCONT follows if asked for."""

    signum: int
    whole_scope: bool
    then_continue: bool


class RunHook(NamedTuple):
    """Run a command beside the main one; answered by `HookEnded`, `on_failure` by nothing.

    `next_delay` is how many seconds after it the next start comes, None if none does.
    """

    hook: Hook
    next_delay: float | None = None


class EndDaemon(NamedTuple):
    """Shut the daemon down because of this service; it exits with `code`."""

    code: int


Action = Spawn | Signal | RunHook | EndDaemon
