"""What processes use, read from /proc on a scrape and at most every `sample_every` seconds.

The files read are open to every user (proc_pid_stat(5), proc_pid_status(5)); only the number of
descriptors may stay unknown. A pid is only believed if its parent is the core: the number of a
process that ended may be somebody else's by now.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from supervisord_pidfd.gateway.replica import Record

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
READ_BYTES = 1 << 16
SLICE = 64
"""Processes read before other connections get their turn: about 4 ms."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Hold what one process uses now; `started_s` is in seconds after boot."""

    parent: int
    user_cpu_s: float
    system_cpu_s: float
    threads: int
    started_s: float
    virtual_bytes: int
    rss_bytes: int
    peak_bytes: int | None
    open_fds: int | None


def parse_stat(stat: str) -> Usage | None:
    """Read /proc/PID/stat; None for a process that has ended.

    Raises:
        ValueError, IndexError: This is no such file.
    """
    # The name in parentheses may itself hold spaces and parentheses: fields count from the last.
    rest = stat[stat.rindex(")") + 2 :].split()
    if rest[0] in "ZXx":
        return None
    return Usage(
        parent=int(rest[1]),
        user_cpu_s=int(rest[11]) / TICKS,
        system_cpu_s=int(rest[12]) / TICKS,
        threads=int(rest[17]),
        started_s=int(rest[19]) / TICKS,
        virtual_bytes=int(rest[20]),
        rss_bytes=int(rest[21]) * PAGE_BYTES,
        peak_bytes=None,
        open_fds=None,
    )


def parse_peak(status: str) -> int | None:
    """Find the highest resident size, in bytes, in /proc/PID/status."""
    _, found, rest = status.partition("VmHWM:")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else None


def _slurp(path: str) -> str:
    """Read a file of /proc by system calls alone: twice as fast, and there may be thousands."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while piece := os.read(fd, READ_BYTES):
            text += piece
    finally:
        os.close(fd)
    return text.decode("utf-8", "replace")


def read_usage(pid: int) -> Usage | None:
    """Read what a process uses; None if it has ended or hides (hidepid)."""
    try:
        usage = parse_stat(_slurp(f"/proc/{pid}/stat"))
        peak = parse_peak(_slurp(f"/proc/{pid}/status"))
    except (OSError, ValueError, IndexError):
        return None
    if usage is None:
        return None
    return Usage(
        usage.parent, usage.user_cpu_s, usage.system_cpu_s, usage.threads, usage.started_s,
        usage.virtual_bytes, usage.rss_bytes, peak, count_fds(pid),
    )  # fmt: skip


def count_fds(pid: int) -> int | None:
    """Count open descriptors: the size of the directory (Linux >= 6.2), or its entries."""
    path = f"/proc/{pid}/fd"
    try:
        return os.stat(path).st_size or len(os.listdir(path))
    except OSError:
        return None


def boot_time() -> float | None:
    """Return the Unix time of the boot, from which /proc counts."""
    try:
        _, found, rest = _slurp("/proc/stat").partition("btime ")
        return float(rest.split(maxsplit=1)[0]) if found else None
    except (OSError, ValueError):
        return None


def max_fds(pid: int) -> int | None:
    """Return a process' soft limit of descriptors."""
    try:
        _, _, rest = _slurp(f"/proc/{pid}/limits").partition("Max open files")
        return int(rest.split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None


class Sampler:
    """Remember what the processes of services used, so that /proc is read rarely."""

    def __init__(self, every: float, read: Callable[[int], Usage | None] = read_usage) -> None:
        self._every = every
        self._read = read
        self._read_at = float("-inf")
        self._samples: dict[str, tuple[int, Usage | None]] = {}

    async def sample(
        self, records: Iterable[Record], core_pid: int, now: float
    ) -> dict[str, Usage]:
        """Return the usage of each service that has a process, by service name.

        A run that was not seen yet is read at once, all others when their time has come.
        """
        fresh = now - self._read_at < self._every
        known = self._samples if fresh else {}
        if not fresh:
            self._read_at = now
        samples: dict[str, tuple[int, Usage | None]] = {}
        count = 0
        for record in records:
            if record.pid is None:
                continue
            sample = known.get(record.name)
            if sample is None or sample[0] != record.run:
                count += 1
                if count % SLICE == 0:
                    await asyncio.sleep(0)
                sample = (record.run, self._believed(record.pid, core_pid))
            samples[record.name] = sample
        self._samples = samples
        return {name: usage for name, (_, usage) in samples.items() if usage is not None}

    def _believed(self, pid: int, core_pid: int) -> Usage | None:
        usage = self._read(pid)
        return usage if usage is not None and usage.parent == core_pid else None
