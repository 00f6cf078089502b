"""Learn that a child ended, once and with its true status; signal it, and never anybody else.

Why a pid cannot be recycled under us. A pid is free for reuse only after its zombie was reaped,
and nobody but this module reaps: SIGCHLD is not ignored, there are no threads, and no wait is for
"any" child. So a number stands for our child from spawn to reap, and no number is signalled after.

`PidfdReaper` (Linux 5.4) holds a pidfd per child in the loop. A readable pidfd means the whole
thread group has ended. `SigchldReaper` does the same from SIGCHLD: one signal may stand for many
exits, so it peeks (WNOWAIT) and reaps by pid until nothing is left, and looks through all children
every `SWEEP_EVERY` seconds in case a wake-up was lost. Both give the same records, and the same
tests run over both.

Who escaped from a child's group is seen only while its zombie is there, so `before_reap` comes
after a child is known to be dead and before it is reaped. For pidfds once a turn does: all of a
batch were dead when epoll gave it out. The sweep meets children that ended since, so it leaves
those with a pidfd to the next batch, and looks again for the first few of the others.

Process groups. Every child leads its own session, so its group has its pid. While the child is not
reaped, its zombie pins the number of the group. After the reap only a pidfd still names the group
(Linux 6.9); where it cannot, leftovers get their signal between peek and reap, and later ones
reach those members that have become our children, one by one.

A status that somebody else took is asked of the kernel once more (PIDFD_GET_INFO, Linux 6.15) and
is otherwise `Unknown`, never 0.
"""

import errno
import os
import select
from collections.abc import Callable
from typing import NamedTuple, Protocol

from supervisord_pidfd import sysabi
from supervisord_pidfd.core.exitstatus import Exited, ExitStatus, Signaled, Unknown, Usage
from supervisord_pidfd.loop import Loop, Priority

SWEEP_EVERY = 5.0
EXITS_A_TURN = 64
LOOKS_A_TURN = EXITS_A_TURN
"""Looks at the list of children in one turn: a child found by SIGCHLD may have ended, and left
others behind, after the look for the one before it."""

OnExit = Callable[["Child", ExitStatus, Usage], None]
BeforeReap = Callable[[], None]
OnOrphan = Callable[[int, ExitStatus], None]

_GROUP = sysabi.PIDFD_SIGNAL_PROCESS_GROUP
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})


class Child:
    """Be one spawned process, from its spawn until its scope is empty.

    `ahead`, if set, is told the status while the child is still a zombie: the moment to start what
    follows it, because whatever it left behind is known by then. `leads_group` turns true when the
    child is known to have its own process group: before that a group signal would hit ours.
    `leftover_signal` is what the rest of its group gets when it ends and no later signal can reach
    them (0: nothing).
    """

    __slots__ = (
        "ahead", "floor_rss", "leads_group", "leftover_signal", "on_exit", "pid", "pidfd",
        "reaped", "traced",
    )  # fmt: skip

    def __init__(self, pid: int, on_exit: OnExit, *, leads_group: bool, floor_rss: int) -> None:
        self.pid = pid
        self.on_exit = on_exit
        self.leads_group = leads_group
        self.leftover_signal = 0
        self.floor_rss = floor_rss
        self.pidfd: int | None = None
        self.reaped = False
        self.traced = False
        self.ahead: Callable[[ExitStatus], None] | None = None


class Hooks(NamedTuple):
    """Hold what a reaper tells besides exits.

    `before_reap` is called before reaps, while all zombies are still listed.
    `on_orphan` is told of a reaped child that nobody registered; None = leave such children alone.
    `on_child_fell_back` is told the errno name when one child had to do without a pidfd.
    `sees_leftovers` says that whatever a child leaves behind is found by `before_reap`.
    """

    before_reap: BeforeReap
    on_orphan: OnOrphan | None
    on_child_fell_back: Callable[[str], None]
    sees_leftovers: bool = False


class Reaper(Protocol):
    """Watch children and signal them."""

    kind: str

    def watch(self, pid: int, on_exit: OnExit, *, leads_group: bool, floor_rss: int = 0) -> Child:
        """Begin to watch a child that was just spawned and not waited for."""
        ...

    def on_sigchld(self) -> None:
        """Take in a SIGCHLD."""
        ...

    def signal(self, child: Child, signum: int, *, whole_group: bool) -> bool:
        """Send a signal; return whether there was anybody to get it."""
        ...

    def group_is_empty(self, child: Child) -> bool:
        """Tell whether nobody of the group of a reaped child is left."""
        ...

    def release(self, child: Child) -> None:
        """Let go of a child that was reaped; exactly once."""
        ...

    def knows(self, pid: int) -> bool:
        """Tell whether this pid is a child that is watched and not reaped."""
        ...

    def __len__(self) -> int:
        """Return how many watched children are not reaped."""
        ...

    def close(self) -> None:
        """Let go of everything; children live on."""
        ...


class _Children:
    """Do what both reapers share: the register, the sweep by pid, and delivery."""

    def __init__(self, loop: Loop, hooks: Hooks) -> None:
        self._loop = loop
        self._hooks = hooks
        self._children: dict[int, Child] = {}
        self._looked_in_turn = -1
        self._looks = 0
        self._met: Child | None = None
        self._closed = False
        self._met_in_turn = 0
        self._more_to_sweep = loop.deadline(self.on_sigchld)

    def __len__(self) -> int:
        return len(self._children)

    def knows(self, pid: int) -> bool:
        """Tell whether this pid is a child that is watched and not reaped."""
        return pid in self._children

    def on_sigchld(self) -> None:
        """Take in a SIGCHLD, or go on where the last turn's share was done."""
        raise NotImplementedError

    def _ended(self, child: Child) -> None:
        """Finish a child that has a pidfd."""
        raise NotImplementedError

    def _look(self, at_most: int) -> None:
        """Let the hook see the zombies, unless this turn has had so many looks already."""
        if self._looked_in_turn != self._loop.turn:
            self._looked_in_turn = self._loop.turn
            self._looks = 0
        if self._looks < at_most:
            self._looks += 1
            self._hooks.before_reap()

    def _sweep(self, on_orphan: OnOrphan) -> None:
        """Reap what has ended until nothing is left or the turn's share is done."""
        try:
            for _ in range(EXITS_A_TURN):
                if self._closed:  # by what an exit brought about: the rest is another reaper's
                    return
                pid = sysabi.peek_any()
                if pid is None:
                    return
                child = self._children.get(pid)
                if child is None:
                    self._reap_orphan(pid, on_orphan)
                elif child.pidfd is None:
                    self._reap_ended(child)
                elif self._is_met_again(child):
                    self._ended(child)
                else:  # readable in the next batch; until then it hides those behind it
                    break
        except BaseException:
            self._go_on()
            raise
        self._go_on()

    def _is_met_again(self, child: Child) -> bool:
        """Tell whether a child was dead in an earlier turn, so that this one's look came after."""
        if child is self._met and self._met_in_turn != self._loop.turn:
            return True
        if child is not self._met:
            self._met, self._met_in_turn = child, self._loop.turn
        return False

    def _go_on(self) -> None:
        if self._closed:
            return
        self._more_to_sweep.arm(self._loop.clock.now())

    def _reap_orphan(self, pid: int, on_orphan: OnOrphan) -> None:
        self._look(1)
        try:
            result = sysabi.waitid_nohang(sysabi.P_PID, pid)
        except ChildProcessError:  # somebody else was quicker
            result = None
            status: ExitStatus = Unknown("waited for by somebody else")
        else:
            status = _status(result) if result is not None else Unknown("not waitable")
        on_orphan(pid, status)

    def _reap_if_ended(self, child: Child) -> None:
        """Ask one child by its pid, and reap it if it has ended."""
        try:
            if sysabi.waitid_nohang(sysabi.P_PID, child.pid, keep=True) is None:
                return
        except ChildProcessError:
            self._deliver(child, Unknown("waited for by somebody else"), Usage())
            return
        self._reap_ended(child)

    def _reap_ended(self, child: Child) -> None:
        """Reap by pid a child that was seen as a zombie, and deliver."""
        self._look(LOOKS_A_TURN)
        self._signal_leftovers(child)
        try:
            result = sysabi.waitid_nohang(sysabi.P_PID, child.pid)
        except ChildProcessError:
            self._deliver(child, Unknown("waited for by somebody else"), Usage())
            return
        if result is not None:
            self._deliver(child, _status(result), _usage(result, child.floor_rss))

    def _signal_leftovers(self, child: Child) -> None:
        """Signal the group while the zombie pins its number, where later it could not be named."""
        if not (child.leftover_signal and child.leads_group):
            return
        _tried(os.killpg, child.pid, child.leftover_signal)

    def _deliver(self, child: Child, status: ExitStatus, usage: Usage) -> None:
        child.reaped = True
        del self._children[child.pid]
        child.on_exit(child, status, usage)


class PidfdReaper(_Children):
    """Hold a pidfd per child in the loop."""

    kind = "pidfd"

    def __init__(self, loop: Loop, hooks: Hooks, features: sysabi.Features) -> None:
        super().__init__(loop, hooks)
        self._group_signal = features.group_signal
        self._exit_info = features.exit_info
        self._without_pidfd: dict[int, Child] = {}

    @property
    def without_pidfd(self) -> int:
        """Return how many children are tracked by SIGCHLD for want of a descriptor."""
        return len(self._without_pidfd)

    def watch(self, pid: int, on_exit: OnExit, *, leads_group: bool, floor_rss: int = 0) -> Child:
        """Begin to watch a child that was just spawned and not waited for."""
        child = Child(pid, on_exit, leads_group=leads_group, floor_rss=floor_rss)
        self._children[pid] = child
        try:
            pidfd = sysabi.pidfd_open(pid)
        except OSError as error:
            self._fall_back(child, error)
            return child
        child.pidfd = pidfd
        try:
            self._loop.add(pidfd, Priority.EXITS, lambda _events: self._ended(child))
        except OSError as error:
            child.pidfd = None
            os.close(pidfd)
            self._fall_back(child, error)
        return child

    def _fall_back(self, child: Child, error: OSError) -> None:
        """Track this one child by SIGCHLD: a registration that fails is not an exit."""
        self._without_pidfd[child.pid] = child
        self._go_on()  # it may have ended before we knew of it
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        # A child of ours that is not reaped always has a pid to open; only room can be short. That
        # it is not there means that somebody else has waited for it.
        self._hooks.on_child_fell_back(name if error.errno in _NO_ROOM else f"unexpected {name}")

    def on_sigchld(self) -> None:
        """Ask the few children that have no pidfd, then reap orphans if that is our task."""
        for child in tuple(self._without_pidfd.values()):
            self._reap_if_ended(child)
        if self._hooks.on_orphan is not None:
            self._sweep(self._hooks.on_orphan)

    def _ended(self, child: Child) -> None:
        """Reap through the pidfd: it names this child and no other."""
        pidfd = child.pidfd
        if child.reaped or pidfd is None:
            return
        self._look(1)
        if child.ahead is not None and self._hooks.sees_leftovers:
            ended = sysabi.peek_pidfd(pidfd)
            if ended is not None:
                child.ahead(_status(ended))
        if not self._group_signal:
            self._signal_leftovers(child)
        try:
            result = sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)
        except ChildProcessError:
            self._loop.remove(pidfd)
            status = self._ask_kernel(pidfd)
            self._deliver(child, status, Usage())
            return
        if result is None:
            # Dead, but a tracer has not let go of it. The level would wake us until it does, so
            # wait for the edge: the kernel wakes us again when the status becomes ours.
            if not child.traced:
                child.traced = True
                self._loop.modify(pidfd, select.EPOLLIN | select.EPOLLET)
            return
        self._loop.remove(pidfd)
        self._deliver(child, _status(result), _usage(result, child.floor_rss))

    def _deliver(self, child: Child, status: ExitStatus, usage: Usage) -> None:
        self._without_pidfd.pop(child.pid, None)
        super()._deliver(child, status, usage)

    def _ask_kernel(self, pidfd: int) -> ExitStatus:
        result = sysabi.pidfd_exit_info(pidfd) if self._exit_info else None
        return _status(result) if result else Unknown("waited for by somebody else")

    def signal(self, child: Child, signum: int, *, whole_group: bool) -> bool:
        """Send a signal through the pidfd; return whether there was anybody to get it."""
        pidfd = child.pidfd
        if pidfd is None:
            return _signal_by_pid(child, signum, whole_group=whole_group)
        if whole_group and child.leads_group:
            if not self._group_signal:
                return _signal_by_pid(child, signum, whole_group=True)
            return _tried(sysabi.pidfd_send_signal, pidfd, signum, _GROUP)
        return not child.reaped and _tried(sysabi.pidfd_send_signal, pidfd, signum)

    def group_is_empty(self, child: Child) -> bool:
        """Tell whether nobody of the group of a reaped child is left."""
        if not child.leads_group:
            return True
        if child.pidfd is not None and self._group_signal:
            return not _tried(sysabi.pidfd_send_signal, child.pidfd, 0, _GROUP)
        return _group_is_empty_by_number(child)

    def release(self, child: Child) -> None:
        """Stop watching and close the pidfd at the end of the turn."""
        if child.pidfd is not None:
            self._loop.remove(child.pidfd)
            self._loop.close_later(child.pidfd)
            child.pidfd = None

    def close(self) -> None:
        """Let go of everything; children live on."""
        self._closed = True
        self._more_to_sweep.disarm()
        for child in self._children.values():
            self.release(child)
        self._children.clear()
        self._without_pidfd.clear()


class SigchldReaper(_Children):
    """Reap by pid when SIGCHLD comes: Linux before 5.4, and sandboxes that forbid the calls."""

    kind = "sigchld"

    def __init__(self, loop: Loop, hooks: Hooks) -> None:
        super().__init__(loop, hooks)
        self._safety = loop.deadline(self._look_through)

    def watch(self, pid: int, on_exit: OnExit, *, leads_group: bool, floor_rss: int = 0) -> Child:
        """Begin to watch a child that was just spawned and not waited for."""
        child = Child(pid, on_exit, leads_group=leads_group, floor_rss=floor_rss)
        self._children[pid] = child
        if len(self._children) == 1:
            self._safety.arm(self._loop.clock.now() + SWEEP_EVERY)
        return child

    def on_sigchld(self) -> None:
        """Reap what has ended.

        The kernel shows the same first zombie until it is reaped: one that must be left alone
        hides all behind it, so where orphans are not our task each child is asked.
        """
        if self._hooks.on_orphan is not None:
            self._sweep(self._hooks.on_orphan)
        else:
            self._ask_each()

    def _ask_each(self) -> None:
        for child in tuple(self._children.values()):
            if self._closed:
                return
            self._reap_if_ended(child)

    def _look_through(self) -> None:
        """Find what a lost wake-up or a thief would hide."""
        if self._children:
            self._safety.arm(self._loop.clock.now() + SWEEP_EVERY)
        self._ask_each()
        if self._hooks.on_orphan is not None and not self._closed:
            self._sweep(self._hooks.on_orphan)

    def signal(self, child: Child, signum: int, *, whole_group: bool) -> bool:
        """Send a signal by number while that is safe; return whether anybody was there."""
        return _signal_by_pid(child, signum, whole_group=whole_group)

    def group_is_empty(self, child: Child) -> bool:
        """Tell whether nobody of the group of a reaped child is left."""
        return not child.leads_group or _group_is_empty_by_number(child)

    def release(self, child: Child) -> None:
        """Nothing is held for a child but its number."""

    def close(self) -> None:
        """Let go of everything; children live on."""
        self._closed = True
        self._safety.disarm()
        self._more_to_sweep.disarm()
        self._children.clear()


def make_reaper(loop: Loop, hooks: Hooks, features: sysabi.Features) -> Reaper:
    """Choose how exits are detected: by pidfd where the probe proved every call."""
    return PidfdReaper(loop, hooks, features) if features.pidfd else SigchldReaper(loop, hooks)


def _signal_by_pid(child: Child, signum: int, *, whole_group: bool) -> bool:
    """Signal by number, which is only safe while the child is not reaped: it keeps its number."""
    if child.reaped:
        return False
    return _tried(os.killpg if whole_group and child.leads_group else os.kill, child.pid, signum)


def _group_is_empty_by_number(child: Child) -> bool:
    """Ask with signal 0, which harms nobody should the number be in use again."""
    return not _tried(os.killpg, child.pid, 0)


def _tried(send: Callable[..., None], *words: int) -> bool:
    """Tell whether anybody was there; "gone already" is a state, not an error.

    EPERM means that somebody is there who changed its user; the daemon is not root then.
    """
    try:
        send(*words)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _status(result: sysabi.WaitResult) -> ExitStatus:
    if result.code == sysabi.CLD_EXITED:
        return Exited(result.status)
    if result.code in {sysabi.CLD_KILLED, sysabi.CLD_DUMPED}:
        return Signaled(result.status, core=result.code == sysabi.CLD_DUMPED)
    return Unknown(f"si_code {result.code}")


def _usage(result: sysabi.WaitResult, floor_rss: int) -> Usage:
    """Leave the high-water mark out where it may be ours: the kernel's mark crosses exec."""
    peak = result.max_rss_bytes if result.max_rss_bytes > floor_rss else None
    return Usage(result.user_s, result.system_s, peak)
