"""What the machine demands of its shell."""

from typing import NamedTuple


class Spawn(NamedTuple):
    """Start the program; answered by `Spawned` or `SpawnFailed`."""


class Signal(NamedTuple):
    """Signal the main process, or all of the scope; SIGCONT follows if asked for."""

    signum: int
    whole_scope: bool
    then_continue: bool


class EndDaemon(NamedTuple):
    """Shut the daemon down because of this service; it exits with `code`."""

    code: int


Action = Spawn | Signal | EndDaemon
