"""One function per kernel call that Python lacks or trims, raising OSError.

The only module with ctypes, system call numbers and struct layouts. It knows no policy, never
logs, and imports the standard library alone, all of it at the top: an import on an error path
fails when descriptors have run out.

Why raw calls: libc's waitid(2) hides the kernel's fifth argument, the resource usage, and
os.waitid follows libc; pidfd_open and pidfd_send_signal are missing from some builds of Python.
Numbers and layouts differ by machine *and* word size (a 32-bit interpreter on a 64-bit kernel
reads the 64-bit machine's name in uname), so both choose the row of `_TABLES`. On a machine
without a row pidfds are off, and waiting by pid goes through os.waitid and os.wait4.

`probe` tries every call we depend on in a disposable child, because a sandbox may answer by
killing the caller, by an errno of its choice, or with a number that is no descriptor.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Callable, Generator
from typing import NamedTuple, NoReturn

P_ALL = 0
P_PID = 1
P_PIDFD = 3
"""Identity types of waitid(2); P_PIDFD needs Linux 5.4. os.P_PIDFD exists in some builds only."""

CLD_EXITED = 1
CLD_KILLED = 2
CLD_DUMPED = 3

PIDFD_NONBLOCK = os.O_NONBLOCK
PIDFD_SIGNAL_THREAD = 1 << 0
PIDFD_SIGNAL_THREAD_GROUP = 1 << 1
PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
"""Scopes of pidfd_send_signal(2), Linux 6.9; older kernels answer EINVAL to any flag."""

_ENDED = os.WEXITED | os.WNOHANG
_PEEK = _ENDED | os.WNOWAIT


class WaitResult(NamedTuple):
    """Tell how a child ended and what it used: seconds of CPU, highest resident bytes.

    `code` is CLD_EXITED, CLD_KILLED or CLD_DUMPED; `status` the exit code or signal number.
    """

    pid: int
    code: int
    status: int
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_bytes: int = 0


class Features(NamedTuple):
    """Hold the verdict of `probe`; `reason` and `error` (an errno's name) say why not."""

    pidfd: bool
    reason: str | None = None
    error: str | None = None
    pidfs: bool = False
    exit_info: bool = False
    get_info: bool = False
    group_signal: bool = False


class Table(NamedTuple):
    """Hold one architecture's system call numbers, and byte offsets in its structs."""

    waitid: int
    pidfd_send_signal: int
    pidfd_open: int
    close_range: int
    code_at: int
    pid_at: int
    status_at: int
    maxrss_at: int
    rusage_size: int


SIGINFO_SIZE = 128


def _table(waitid: int, bits: int, *, base: int = 0, swapped: bool = False) -> Table:
    # si_code is the third int, on MIPS the second. On 64-bit a pad of 4 bytes aligns the union
    # that si_pid opens; si_uid and si_status follow. rusage is two timevals of longs, then
    # fourteen longs: waitid was never given 64-bit times on 32-bit machines.
    pid_at = 16 if bits == 64 else 12
    word = bits // 8
    return Table(
        waitid=base + waitid,
        pidfd_send_signal=base + 424,
        pidfd_open=base + 434,
        close_range=base + 436,
        code_at=4 if swapped else 8,
        pid_at=pid_at,
        status_at=pid_at + 8,
        maxrss_at=4 * word,
        rusage_size=18 * word,
    )


_TABLES = {
    ("x86", "64"): _table(247, 64),
    ("x86", "32"): _table(284, 32),
    ("arm", "64"): _table(95, 64),
    ("arm", "32"): _table(280, 32),
    ("riscv", "64"): _table(95, 64),
    ("loongarch", "64"): _table(95, 64),
    ("ppc", "64"): _table(272, 64),
    ("s390", "64"): _table(281, 64),
    ("mips", "64"): _table(237, 64, base=5000, swapped=True),
    ("mips", "n32"): _table(241, 32, base=6000, swapped=True),
    ("mips", "32"): _table(278, 32, base=4000, swapped=True),
}
"""By family and ABI. Numbers from the kernel's asm/unistd.h, layouts from asm/siginfo.h."""

_FAMILIES = {
    "x86_64": "x86",
    **dict.fromkeys(("i386", "i486", "i586", "i686"), "x86"),
    **dict.fromkeys(("aarch64", "aarch64_be"), "arm"),
    **dict.fromkeys(("armv5tel", "armv5tejl", "armv6l", "armv7l", "armv7b"), "arm"),
    **dict.fromkeys(("armv8l", "armv8b"), "arm"),
    "riscv64": "riscv",
    "loongarch64": "loongarch",
    **dict.fromkeys(("ppc64le", "ppc64"), "ppc"),
    "s390x": "s390",
    **dict.fromkeys(("mips", "mips64", "mipsel", "mips64el"), "mips"),
}
"""By uname's machine. setarch(8) changes that name, not the interpreter: hence families."""


def syscall_table(machine: str, bits: int, long_double: int = 0) -> Table | None:
    """Return the numbers and layouts of a machine, or None where they are not known.

    Args:
        machine: The name as uname(2) gives it.
        bits: The width of a pointer, 32 or 64.
        long_double: The size of a long double in bytes. It tells n32 (16) from o32 (8) on
            MIPS, and x32 (16), for which we have no row, from i386 (12).
    """
    family = _FAMILIES.get(machine, "")
    abi = str(bits)
    if bits == 32 and long_double == 16:
        abi = {"mips": "n32", "x86": "x32"}.get(family, abi)
    return _TABLES.get((family, abi))


_MACHINE = os.uname().machine
_TABLE = syscall_table(_MACHINE, 8 * struct.calcsize("P"), ctypes.sizeof(ctypes.c_longdouble))

# PyDLL keeps the interpreter lock: none of these calls waits (WNOHANG always), and handing the
# lock over costs 0.7 us. Explicit types, because a plain Python int would be passed as a C int.
_libc = ctypes.PyDLL(None, use_errno=True)
_raw = _libc.syscall
_raw.argtypes = (ctypes.c_long,) * 6
_raw.restype = ctypes.c_long
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_prctl.restype = ctypes.c_int
_errno = ctypes.get_errno

# One pair of buffers for all waits: the core has one thread, and its signal handlers never wait.
# Read through memoryviews in native types, which index faster than ctypes arrays.
_siginfo_buffer = (ctypes.c_char * SIGINFO_SIZE)()
_rusage_buffer = (ctypes.c_long * 18)()
_siginfo = memoryview(_siginfo_buffer).cast("B").cast("i")
_rusage = memoryview(_rusage_buffer).cast("B").cast("l")
_SIGINFO_ADDRESS = ctypes.addressof(_siginfo_buffer)
_RUSAGE_ADDRESS = ctypes.addressof(_rusage_buffer)
_WAITID, _CODE, _PID, _STATUS = (
    (_TABLE.waitid, _TABLE.code_at // 4, _TABLE.pid_at // 4, _TABLE.status_at // 4)
    if _TABLE
    else (-1, 2, 3, 5)
)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _syscall(number: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    while (result := int(_raw(number, a, b, c, d, 0))) == -1:
        if (failure := _errno()) != errno.EINTR:
            raise _error(failure)
    return result


# -- pidfds ---------------------------------------------------------------------------------------

_os_pidfd_open: Callable[[int, int], int] | None = getattr(os, "pidfd_open", None)
_pidfd_send: Callable[[int, int, None, int], None] | None = getattr(
    signal, "pidfd_send_signal", None
)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Open a descriptor for a process, close-on-exec; the caller owns it.

    Raises:
        OSError: ESRCH, and around a death also EINVAL or ENOENT, when the process is gone;
            EMFILE without a free descriptor; ENOSYS before Linux 5.3 and on unknown machines.

    Source: pidfd_open(2).
    """
    if _TABLE is None:
        raise _error(errno.ENOSYS)
    if _os_pidfd_open is not None:
        return _os_pidfd_open(pid, flags)
    return _syscall(_TABLE.pidfd_open, pid, flags)


def pidfd_send_signal(pidfd: int, signum: int, flags: int = 0) -> None:
    """Signal the process (or its group, by a PIDFD_SIGNAL flag) that a descriptor stands for.

    Raises:
        ProcessLookupError: It was reaped already; a zombie takes the signal silently.
        OSError: EINVAL for a flag before Linux 6.9.

    Source: pidfd_send_signal(2), Linux 5.1.
    """
    if _TABLE is None:
        raise _error(errno.ENOSYS)
    if _pidfd_send is not None:
        _pidfd_send(pidfd, signum, None, flags)
    else:
        _syscall(_TABLE.pidfd_send_signal, pidfd, signum, 0, flags)


def pidfd_inode(pidfd: int) -> int:
    """Return the inode number: unique to the process where `Features.pidfs` (Linux 6.9)."""
    return os.fstat(pidfd).st_ino


# struct pidfd_info: u64 mask, u64 cgroupid, u32 pid, tgid, ppid, eight ids, s32 exit_code. 64
# bytes since its first version (Linux 6.13), and later kernels keep taking that size; nothing of
# the longer ones is used. _IOWR(0xFF, 11, 64) is one number on all machines: the direction bits
# of MIPS and PowerPC (6 << 29) are the generic ones (3 << 30).
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_INFO_PID = 1 << 0
_INFO_EXIT = 1 << 3

_NO_INFO = frozenset(
    {
        errno.ENOTTY,  # no such request: before 6.13, or no pidfd at all
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EPERM,  # a sandbox
        errno.EACCES,
        errno.ESRCH,  # reaped, on 6.13 and 6.14
        errno.EREMOTE,  # in a PID namespace that is not ours
    }
)


def _pidfd_info(pidfd: int, want: int) -> tuple[int, int, int] | None:
    # (mask, pid, exit code) or None. Only fields whose bit came back in the mask are filled in.
    buffer = bytearray(_PIDFD_INFO.pack(want, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError as failure:
        if failure.errno in _NO_INFO:
            return None
        raise
    fields = _PIDFD_INFO.unpack(buffer)
    return fields[0], fields[2], fields[13]


def pidfd_exit_info(pidfd: int) -> WaitResult | None:
    """Return how a process ended that somebody else reaped; None if that cannot be known (yet).

    The usage is unknown and left at zero, and so is mostly the pid. A zombie has no such status
    until its parent waited for it. Source: PIDFD_GET_INFO with the EXIT bit, Linux 6.15; the
    bit must be asked for, else a reaped process is ESRCH.
    """
    info = _pidfd_info(pidfd, _INFO_PID | _INFO_EXIT)
    if info is None or not info[0] & _INFO_EXIT:
        return None
    mask, pid, status = info
    return WaitResult(pid if mask & _INFO_PID else 0, *_decode(status))


# -- waiting --------------------------------------------------------------------------------------


def waitid_nohang(idtype: int, ident: int, *, keep: bool = False) -> WaitResult | None:
    """Reap one ended child, with its resource usage; return None if none has ended.

    Args:
        idtype: P_ALL, P_PID or P_PIDFD.
        ident: The pid or pidfd; ignored with P_ALL.
        keep: Leave the child a zombie (WNOWAIT). Its pid and its group stay its own meanwhile.

    Raises:
        ChildProcessError: It is not our child, or was reaped already.

    Source: waitid(2), called raw because os.waitid drops rusage. P_PIDFD needs Linux 5.4.
    """
    if _TABLE is None:
        return _waitid_by_libc(idtype, ident, keep=keep)
    _siginfo[_PID] = 0
    options = _ENDED | os.WNOWAIT if keep else _ENDED
    while _raw(_WAITID, idtype, ident, _SIGINFO_ADDRESS, options, _RUSAGE_ADDRESS):
        if (failure := _errno()) != errno.EINTR:
            raise _error(failure)
    pid = _siginfo[_PID]
    if not pid:
        return None
    user, user_us, system, system_us, max_rss_kib = _rusage[:5]  # as os.wait4 adds them
    return WaitResult(
        pid,
        _siginfo[_CODE],
        _siginfo[_STATUS],
        user + user_us * 1e-6,
        system + system_us * 1e-6,
        max_rss_kib * 1024,
    )


def _waitid_by_libc(idtype: int, ident: int, *, keep: bool) -> WaitResult | None:
    # Unknown machine: os.waitid knows the layout, os.wait4 the usage. Only the latter reaps, so
    # with `keep` the usage stays zero.
    if idtype not in (P_ALL, P_PID):
        raise _error(errno.ENOSYS)
    ended = os.waitid(idtype, ident, _ENDED | os.WNOWAIT)
    if ended is None:
        return None
    if keep:
        return WaitResult(ended.si_pid, ended.si_code, ended.si_status)
    pid, status, usage = os.wait4(ended.si_pid, 0)
    return WaitResult(
        pid, *_decode(status), usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024
    )


def _decode(status: int) -> tuple[int, int]:
    if os.WIFEXITED(status):
        return CLD_EXITED, os.WEXITSTATUS(status)
    return CLD_DUMPED if os.WCOREDUMP(status) else CLD_KILLED, os.WTERMSIG(status)


def peek_pidfd(pidfd: int) -> WaitResult | None:
    """Return how the child of a pidfd ended, without its usage and without reaping it.

    None if it has not ended, or if somebody else reaped it. By os.waitid, which costs a third of
    the raw call: 6 µs from cold caches.
    """
    try:
        ended = os.waitid(P_PIDFD, pidfd, _PEEK)
    except ChildProcessError:
        return None
    return None if ended is None else WaitResult(ended.si_pid, ended.si_code, ended.si_status)


def peek_any() -> int | None:
    """Return the pid of an ended child without reaping it; None if there is none.

    It is the same first zombie, in order of birth, until that one is reaped.
    """
    try:
        ended = waitid_nohang(P_ALL, 0, keep=True)
    except ChildProcessError:
        return None
    return ended.pid if ended else None


# -- prctl(2) and descriptors ---------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def _set(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) == -1:
        raise _error(_errno())


def set_child_subreaper(on: bool) -> None:  # noqa: FBT001  one argument, named by the function
    """Adopt the orphans among our descendants, or stop doing so. Emulators may answer EINVAL."""
    _set(_PR_SET_CHILD_SUBREAPER, int(on))


def set_parent_death_signal(signum: int) -> None:
    """Have this process signalled when the *thread* that spawned it ends; 0 clears it.

    Cleared by fork and by executing a set-id program. The parent may be gone already: compare
    os.getppid() afterwards.
    """
    _set(_PR_SET_PDEATHSIG, signum)


def set_no_new_privs() -> None:
    """Forbid this process and its descendants to gain privileges by exec, for good."""
    _set(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(on: bool) -> None:  # noqa: FBT001  one argument, named by the function
    """Allow or forbid core dumps and tracing, RLIMIT_CORE and core_pattern notwithstanding."""
    _set(_PR_SET_DUMPABLE, int(on))


def signalfd(signum: int) -> int:
    """Return a non-blocking, close-on-exec descriptor that is readable while `signum` is pending.

    The signal must be blocked, or it is delivered and never pends. Source: signalfd(2), through
    libc, which knows the size of the kernel's mask.
    """
    mask = ctypes.create_string_buffer(128)
    if _libc.sigemptyset(mask) or _libc.sigaddset(mask, signum):
        raise _error(_errno())
    fd: int = _libc.signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _error(_errno())
    return fd


_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_ITIMERSPEC = struct.Struct("@4l")
_NEVER = (1 << (_ITIMERSPEC.size * 2 - 1)) - 1


def clock_watch() -> int:
    """Return a non-blocking, close-on-exec descriptor that is readable when the clock was set.

    It is a timer of CLOCK_REALTIME that never comes due and is cancelled whenever that clock
    jumps, which a suspended machine's does, too. Hand it to `watch_clock` now and after each jump.
    """
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    fd: int = _libc.timerfd_create(time.CLOCK_REALTIME, flags)
    if fd < 0:
        raise _error(_errno())
    return fd


def watch_clock(fd: int) -> None:
    """Make the descriptor of `clock_watch` wait for the next jump."""
    never = _ITIMERSPEC.pack(0, 0, _NEVER, 0)
    if _libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, never, None):
        raise _error(_errno())


def _own_peak() -> int:
    """Read the highest resident bytes since our exec; 0 without /proc."""
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        _, found, rest = os.read(status, 4096).partition(b"VmHWM:")
    except OSError:
        return 0
    finally:
        os.close(status)
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else 0


def _peak_ever() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_INHERITED_PEAK = _peak_ever() if _peak_ever() > _own_peak() else 0
"""The mark of the program that executed us, where it was larger than we are; our children do not
inherit that one."""


def peak_rss_bytes() -> int:
    """Return this program's highest resident memory: the floor of what a child's mark can be.

    A child that we spawn inherits our mark through its exec. Our own usage is the cheap answer
    unless a larger program executed us, whose mark hides ours. Source: getrusage(2), proc(5).
    """
    ever = _peak_ever()
    return ever if ever > _INHERITED_PEAK else _own_peak() or ever


_NO_CLOSE_RANGE = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES})
_HIGHEST_TRIED = 65536


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included.

    Without the call (before Linux 5.9, or forbidden) those that /proc lists; without /proc all
    numbers up to 65536.
    """
    if _TABLE is not None:
        try:
            _syscall(_TABLE.close_range, first, last)
        except OSError as failure:
            if failure.errno not in _NO_CLOSE_RANGE:
                raise
        else:
            return
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        os.closerange(first, min(last, _HIGHEST_TRIED) + 1)
        return
    for fd in fds:
        if first <= fd <= last:
            with contextlib.suppress(OSError):  # the listing's own descriptor; a late EIO
                os.close(fd)


# -- the probe ------------------------------------------------------------------------------------

_EXIT_CODE = 42  # not 0, so that a status read from the wrong place cannot pass
_LAST_WAIT_S = 1.0

Report = Callable[[str], None]

_OPEN = "pidfd_open"
_WAIT = "waitid(P_PIDFD)"
_DONE = "done"


class _FailedError(Exception):
    """Carry the verdict out of the steps: the reason, and the errno's name if there is one."""

    def __init__(self, reason: str, error: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def _name(failure: OSError) -> str:
    return errno.errorcode.get(failure.errno or 0, str(failure.errno))


@contextlib.contextmanager
def _step(name: str) -> Generator[None, None, None]:
    try:
        yield
    except OSError as failure:
        raise _FailedError(f"{name}: {_name(failure)}", _name(failure)) from failure


def _prepare_to_die() -> None:
    # A handler of SIGSYS would hide a trap. A core pattern that is a pipe runs in spite of
    # RLIMIT_CORE, hence dumpable too. The suppressed ones are manners, not needs.
    signal.signal(signal.SIGSYS, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        set_parent_death_signal(signal.SIGKILL)
    with contextlib.suppress(OSError):
        set_dumpable(False)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _open_twice() -> int:
    # A handler of SIGSYS makes the call return its own number, a sandbox may make it return 0:
    # that may even be open. Two results that differ and are both open are real.
    first = pidfd_open(os.getpid())
    second = pidfd_open(os.getpid())
    try:
        os.fstat(first)
        os.fstat(second)
    except OSError as failure:
        raise _FailedError("fake descriptor", _name(failure)) from failure
    if first == second:
        raise _FailedError("fake descriptor")
    return first


def _try_all(report: Report) -> None:
    """Try in turn what pidfd mode needs, then what it can use; report what works."""
    with _step(_OPEN):
        pidfd = _open_twice()
    with _step(_WAIT):
        # Ourselves is no child of ours: anything but ECHILD means that P_PIDFD is not there.
        try:
            waitid_nohang(P_PIDFD, pidfd)
        except ChildProcessError:
            pass
        else:
            raise _FailedError(f"{_WAIT}: no error where ECHILD is due")
    with _step("pidfd_send_signal"):
        pidfd_send_signal(pidfd, 0)
    with _step("epoll_ctl"):
        select.epoll().register(pidfd, select.EPOLLIN)
    report(_DONE)
    with contextlib.suppress(OSError):  # optional from here on: what fails is not reported
        info = _pidfd_info(pidfd, _INFO_PID)
        if info is not None and info[0] & _INFO_PID and info[1] == os.getpid():
            report("get_info")
    with contextlib.suppress(OSError):
        os.setsid()
        pidfd_send_signal(pidfd, 0, PIDFD_SIGNAL_PROCESS_GROUP)
        report("group_signal")


def _probe_child(report: Report) -> None:
    _prepare_to_die()
    try:
        _try_all(report)
    except _FailedError as failure:
        report(f"failed\t{failure.reason}\t{failure.error or ''}")


def _poll(fd: int, events: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(timeout_s * 1000))


class _Probe:
    """Own the child of one probe and the pipe it reports by, until `close`."""

    def __init__(self, deadline_s: float, body: Callable[[Report], None]) -> None:
        self._deadline_at = time.monotonic() + deadline_s
        self._reaped = False
        self._fds: list[int] = []
        with _step("pipe"):
            self._report_fd, write_fd = os.pipe()
        self._fds.append(self._report_fd)
        try:
            with _step("fork"):
                self._pid = os.fork()
            if self._pid == 0:
                _run_child(body, write_fd)
        except _FailedError:
            os.close(self._report_fd)
            raise
        finally:
            os.close(write_fd)

    def _wait_readable(self, fd: int) -> None:
        left_s = max(0.0, self._deadline_at - time.monotonic())
        if not _poll(fd, select.POLLIN, left_s):
            raise _FailedError("probe timed out")

    def read_reports(self) -> list[str]:
        """Return the child's reports; its end of the pipe closes when it ends."""
        text = b""
        while True:
            self._wait_readable(self._report_fd)
            part = os.read(self._report_fd, 4096)
            if not part:
                return text.decode().splitlines()
            text += part

    def explain_silence(self) -> _FailedError:
        """Reap the child that ended without a verdict, and say what ended it."""
        code, status = self._end()
        if code == CLD_EXITED:
            return _FailedError(f"probe ended with code {status}")
        names = {signum.value: signum.name for signum in signal.Signals}
        return _FailedError(f"probe killed by {names.get(status, status)}")

    def reap_by_pidfd(self) -> tuple[int, WaitResult]:
        """Reap the child as the reaper will; return its pidfd (ours to close) and its status.

        Only now does the parent make these calls: the child has survived them.
        """
        with _step(_OPEN):
            pidfd = pidfd_open(self._pid)
            self._fds.append(pidfd)
        self._wait_readable(pidfd)
        with _step(_WAIT):
            ended = waitid_nohang(P_PIDFD, pidfd)
        self._reaped = ended is not None
        # SIGSYS: an optional call is forbidden, which shows in what it could not report.
        if ended is None or ended[:3] not in (
            (self._pid, CLD_EXITED, _EXIT_CODE),
            (self._pid, CLD_KILLED, signal.SIGSYS),
        ):
            raise _FailedError(f"{_WAIT}: wrong status")
        return pidfd, ended

    def has_pidfs(self, pidfd: int) -> bool:
        """Tell whether a pidfd has an inode of its process' own; before 6.9 all share one."""
        for _ in range(2):
            self._fds.append(pidfd_open(os.getpid()))
        mine, again = map(pidfd_inode, self._fds[-2:])
        return mine == again != pidfd_inode(pidfd)

    def _end(self) -> tuple[int, int]:
        # Kill by number is safe: nobody else reaps it. A child that has ended keeps its status.
        # The pipe tells the end, since one that hangs in the kernel outlives SIGKILL: then it is
        # left to the sweep of orphans.
        self._reaped = True
        try:
            os.kill(self._pid, signal.SIGKILL)
            if _poll(self._report_fd, 0, _LAST_WAIT_S):
                return _decode(os.waitpid(self._pid, 0)[1])
        except OSError:
            pass  # reaped by another: nothing is left behind
        return CLD_EXITED, 0

    def close(self) -> None:
        """End and reap the child if it is still there; close every descriptor."""
        if not self._reaped:
            self._end()
        for fd in self._fds:
            os.close(fd)


def _run_child(body: Callable[[Report], None], write_fd: int) -> NoReturn:
    # Whatever happens, the copy of the caller's program ends here.
    def report(line: str) -> None:
        os.write(write_fd, f"{line}\n".encode())

    code = 1
    try:
        body(report)
        code = _EXIT_CODE
    finally:
        os._exit(code)


@contextlib.contextmanager
def _undisturbed() -> Generator[None, None, None]:
    # No handler of ours runs in the child, which inherits the mask. A caller that ignores
    # SIGCHLD would have the kernel reap the child before we can.
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def probe(
    deadline_s: float = 1.0,
    child_body: Callable[[Report], None] = _probe_child,
) -> Features:
    """Find out, in a disposable child, whether this kernel and sandbox let us use pidfds.

    Never raises for what the kernel refuses, and leaves no child, descriptor or signal
    disposition behind. Takes 3 to 7 ms; at most the deadline and, for a child that SIGKILL
    does not end, one second more. Call it in the main thread.

    Args:
        deadline_s: When the child is given up and killed.
        child_body: What runs in the child; it is handed a function that reports a line.
    """
    if _TABLE is None:
        return Features(pidfd=False, reason=f"unknown machine {_MACHINE!r}")
    try:
        with _undisturbed(), contextlib.closing(_Probe(deadline_s, child_body)) as trial:
            return _verdict(trial)
    except _FailedError as failure:
        return Features(pidfd=False, reason=failure.reason, error=failure.error)


def _verdict(trial: _Probe) -> Features:
    reports = trial.read_reports()
    failed = next((line for line in reports if line.startswith("failed\t")), None)
    if failed is not None:
        _, reason, error = failed.split("\t")
        raise _FailedError(reason, error or None)
    if _DONE not in reports:
        raise trial.explain_silence()
    pidfd, ended = trial.reap_by_pidfd()
    pidfs = exit_info = False
    get_info = "get_info" in reports
    with contextlib.suppress(OSError):  # optional, as the next
        pidfs = trial.has_pidfs(pidfd)
    with contextlib.suppress(OSError):
        info = pidfd_exit_info(pidfd) if get_info else None
        exit_info = info is not None and info[1:3] == ended[1:3]
    return Features(
        pidfd=True,
        pidfs=pidfs,
        exit_info=exit_info,
        get_info=get_info,
        group_signal="group_signal" in reports,
    )
