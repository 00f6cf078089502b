"""What a process uses, read from /proc by the client: the daemon is not asked for it."""

import os
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Hold what a process uses; `lifetime_s` is how long it has lived."""

    cpu_s: float
    rss_bytes: int
    threads: int
    lifetime_s: float

    @property
    def cpu_share(self) -> float | None:
        """Return the share of one processor over its life; None right after its start."""
        return self.cpu_s / self.lifetime_s if self.lifetime_s > 0.05 else None


def _read(path: str) -> bytes:
    """Read a short file; a file object would take three times as long."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def uptime() -> float:
    """Return seconds since boot, the clock of start times in /proc."""
    try:
        return float(_read("/proc/uptime").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0


def usage(pid: int, since_boot: float) -> Usage | None:
    """Read one process; None if it is gone, or /proc does not tell.

    Source: proc_pid_stat(5); the command may contain spaces and parentheses.
    """
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        started = int(fields[19]) / _TICKS
        return Usage(cpu, int(fields[21]) * _PAGE, int(fields[17]), since_boot - started)
    except (OSError, ValueError, IndexError):
        return None


def children(pid: int) -> list[int]:
    """List the children of a process; none if /proc does not tell.

    Source: proc_pid_tid_children(5), Linux 4.2.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def descriptors(pid: int) -> int | None:
    """Count open descriptors; None if we may not know.

    Source: since Linux 6.2 the size of /proc/PID/fd is the count, for everybody.
    """
    path = f"/proc/{pid}/fd"
    try:
        counted = os.stat(path).st_size
        return counted or len(os.listdir(path))
    except OSError:
        return None
