"""Read what the kernel says of a process: whose child it is, its group, its session, its start.

/proc/PID/stat is made by the kernel from what it holds itself: it never waits for a page of the
process, as its command line or environment would.
"""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

_DEPTH = 32
_PPID, _PGRP, _SESSION, _STARTED = 1, 2, 3, 19  # counted from the field after the name


class Process(NamedTuple):
    """Hold one process as it is now.

    `started`, in clock ticks since boot, tells it from a later one that has its number.
    """

    pid: int
    ppid: int
    pgrp: int
    session: int
    started: int


def look(pid: int) -> Process | None:
    """Return what the kernel says of a process, None if there is none or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            said = file.read()
    except OSError:
        return None
    fields = said.rpartition(b")")[2].split()
    ppid, pgrp, session, started = (
        int(fields[index]) for index in (_PPID, _PGRP, _SESSION, _STARTED)
    )
    return Process(pid, ppid, pgrp, session, started)


def is_below(pid: int, ancestors: AbstractSet[int], group: int | None) -> bool:
    """Tell whether a process is one of these, of this group, or descends from one that is."""
    for _ in range(_DEPTH):
        if pid in ancestors:
            return True
        process = look(pid)
        if process is None or process.ppid <= 1:
            return process is not None and process.pgrp == group
        if process.pgrp == group:
            return True
        pid = process.ppid
    return False
