"""What the harness asks of the kernel: children it holds, processes it reads.

A process is only ever signalled through a pidfd whose owner was checked first.
"""

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Pid(NamedTuple):
    """A process that cannot be mistaken for another: its number and when it started."""

    pid: int
    start: int  # clock ticks since boot


class Child(NamedTuple):
    """A process that the harness started itself; it owns `pidfd`."""

    pid: int
    pidfd: int


class Usage(NamedTuple):
    """What one process has used so far."""

    voluntary: int
    involuntary: int
    cpu_ms: float


class Memory(NamedTuple):
    """What one process occupies now, in KiB."""

    rss: int
    pss: int
    private_dirty: int


def become_subreaper() -> None:
    """Let orphans of the subjects fall to this process, where they are ended.

    Source: prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read(path: str) -> str:
    """Return the text of a /proc file, empty if its process has gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def spawn(argv: tuple[str, ...], env: Mapping[str, str], output: str) -> Child:
    """Start a program in a session of its own, reading nothing, writing to the file `output`."""
    keep = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        argv,
        env,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD),
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, keep, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
    )
    return Child(pid, os.pidfd_open(pid))


def reap(child: Child) -> int | None:
    """Reap an ended child and close its pidfd; return its code as a shell would, or None."""
    found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
    if found is None:
        return None
    os.close(child.pidfd)
    return found.si_status + (0 if found.si_code == os.CLD_EXITED else 128)


def reap_orphans() -> int:
    """Reap whatever fell to us; call it only while no child of our own is being waited for."""
    count = 0
    with contextlib.suppress(ChildProcessError):  # no children at all
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            count += 1
    return count


def readable(fd: int, deadline: float) -> bool:
    """Wait until a descriptor is readable (a pidfd: its process has ended) or time is up."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def rest(seconds: float) -> None:
    """Let time pass."""
    select.poll().poll(seconds * 1000)


def hold(pid: int, is_ours: Callable[[int], bool]) -> int | None:
    """Open a pidfd and only then ask whether the process is ours; None if not, or gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The question was about this process, and not about a later owner of its number, only if
    # the process still lives after the answer.
    if is_ours(pid) and not readable(pidfd, 0):
        return pidfd
    os.close(pidfd)
    return None


def started(pid: int) -> int | None:
    """Return the start time of a process in clock ticks, None if it has gone or is a zombie."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def state(pid: int) -> str:
    """Return the state letter of a process, empty if it has gone."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].strip()[:1]


def descendants(root: int) -> list[Pid]:
    """Return the processes below `root`, parents first; zombies are left out."""
    children: dict[int, list[Pid]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        fields = read(f"/proc/{name}/stat").rpartition(")")[2].split()
        if fields and fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(Pid(int(name), int(fields[19])))
    found = list(children.get(root, ()))
    for process in found:  # grows while we walk: breadth first
        found += children.get(process.pid, ())
    return found


def zombies(root: int) -> int:
    """Count the children of `root` that nobody has reaped."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = read(f"/proc/{name}/stat").rpartition(")")[2].split()
            count += bool(fields) and fields[0] == "Z" and int(fields[1]) == root
    return count


def hold_all(processes: Iterable[Pid]) -> list[int]:
    """Return pidfds of those processes that are still the ones named."""
    held = []
    for pid, start in processes:
        pidfd = hold(pid, lambda number, start=start: started(number) == start)  # type: ignore[misc]
        if pidfd is not None:
            held.append(pidfd)
    return held


def kill(pidfd: int, signum: signal.Signals) -> None:
    """Send a signal; a process that has gone needs none."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signum)


def program(pid: int) -> str:
    """Return the file that a process executes, empty if it has gone."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""


def _processor_time() -> tuple[int, int]:
    """Return (idle, all) ticks of the machine since boot. Source: proc(5), /proc/stat."""
    ticks = [int(text) for text in read("/proc/stat").split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def calm(patience: float, busy: float = 0.1, over: float = 0.1) -> bool:
    """Wait until the processors are nearly idle; False if they were not in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        idle, total = _processor_time()
        rest(over)
        idle_now, total_now = _processor_time()
        if total_now - total and (idle_now - idle) / (total_now - total) >= 1 - busy:
            return True
    return False


def command(pid: int) -> list[str]:
    """Return the command line of a process."""
    return read(f"/proc/{pid}/cmdline").split("\0")[:-1]


def usage(pid: int) -> Usage:
    """Add up the context switches and processor time of a process, all its threads."""
    voluntary = involuntary = nanoseconds = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for line in read(f"/proc/{pid}/task/{thread}/status").splitlines():
                key, _, value = line.partition(":")
                voluntary += int(value) if key == "voluntary_ctxt_switches" else 0
                involuntary += int(value) if key == "nonvoluntary_ctxt_switches" else 0
            spent = read(f"/proc/{pid}/task/{thread}/schedstat").split()
            nanoseconds += int(spent[0]) if spent else 0
    return Usage(voluntary, involuntary, nanoseconds / 1e6)


def memory(pid: int) -> Memory:
    """Read what a process occupies; zeros if it has gone."""
    found = {"Rss": 0, "Pss": 0, "Private_Dirty": 0}
    for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0])
    return Memory(found["Rss"], found["Pss"], found["Private_Dirty"])


def descriptors(pid: int) -> int:
    """Count the open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def filesystem(path: str) -> str:
    """Return the type of the filesystem that holds `path`."""
    best = ("", "unknown")
    for line in read("/proc/mounts").splitlines():
        place, kind = line.split()[1:3]
        if os.path.commonpath((place, os.path.abspath(path))) == place:
            best = max(best, (place, kind), key=lambda found: len(found[0]))
    return best[1]
