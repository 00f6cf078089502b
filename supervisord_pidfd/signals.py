"""Signals become a readable descriptor; what a number is called; the children's clean slate.

Python's handlers only note the number; the wakeup descriptor makes the loop look. Not signalfd:
that needs a blocked mask, which children would inherit through posix_spawn. The bytes in the pipe
are a hint and nothing more: a child between fork and exec shares the pipe, so a signal meant for
it may leave a byte there, but the list of noted numbers is the parent's own.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from supervisord_pidfd import sysabi

RTMIN, RTMAX = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
IGNORED = frozenset(
    {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP,
     signal.SIGWINCH}
)  # fmt: skip
"""Ignored by the daemon; children get the default disposition of each back."""

HANDLED = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1,
     signal.SIGUSR2, signal.SIGCHLD, RTMIN + 3}
)  # fmt: skip
REALTIME = frozenset(range(RTMIN, RTMAX + 1)) - {RTMIN + 3}
PASSED_ON = frozenset(signal.valid_signals()) - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV,
    signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, signal.SIGPIPE, signal.SIGXFSZ,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP,
}  # fmt: skip
"""What `run -- CMD` listens to: all but what the kernel raises for faults and for terminals."""


def name_of(signum: int) -> str:
    """Return "SIGTERM", "SIGRTMIN+3", or "signal 99" for a number without a name here."""
    if RTMIN <= signum <= RTMAX:
        return f"SIGRTMIN+{signum - RTMIN}" if signum > RTMIN else "SIGRTMIN"
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


class Held:
    """Note signals from the first moment of the process on, until an inbox takes them over."""

    def __init__(self) -> None:
        self.noted: list[int] = []

    def hold(self, signums: Iterable[int]) -> None:
        """Note these from now on. PID 1 gets no signal that has no handler."""
        for signum in signums:
            signal.signal(signum, self._note)

    def take(self) -> list[int]:
        """Return what was noted so far and begin anew.

        The list is exchanged, never emptied: a handler may run between any two steps of Python,
        and what it adds lands either in the list that is returned or in the new one.
        """
        noted = self.noted
        self.noted = []
        return noted

    def _note(self, signum: int, _frame: object) -> None:
        self.noted.append(signum)


HELD = Held()
"""The one list of noted signals of this process: handlers are process-wide by nature."""


def reset_inherited(ignored: Iterable[int] = IGNORED | REALTIME) -> None:
    """Take over a clean slate whatever the parent left: empty mask, SIGCHLD not ignored.

    An inherited SIGCHLD=SIG_IGN would let the kernel throw every exit status away (waitid(2)).
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ignored = frozenset(ignored)
    for signum in signal.valid_signals():
        if signum in ignored:
            signal.signal(signum, signal.SIG_IGN)
        elif signum not in {signal.SIGKILL, signal.SIGSTOP}:
            current = signal.getsignal(signum)
            if current is signal.SIG_IGN or current is None:
                signal.signal(signum, signal.SIG_DFL)


class ChildrenInbox:
    """Be readable while SIGCHLD pends. Owns its descriptor.

    The signal stays blocked, so an exit wakes the loop once, through its pidfd, and runs no
    handler before the loop has acted on it. Children are given an empty mask on both spawn paths.
    """

    def __init__(self, on_children: Callable[[], None]) -> None:
        """Block SIGCHLD and make the descriptor.

        Raises:
            OSError: The kernel or a sandbox has no signalfd; SIGCHLD is not blocked then.
        """
        self._on_children = on_children
        self.fd = sysabi.signalfd(signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    def read(self, _events: int = 0) -> None:
        """Take the pending signal, which may stand for many exits, then look for them."""
        with contextlib.suppress(BlockingIOError):  # taken already
            os.read(self.fd, 4096)
        self._on_children()

    def close(self) -> None:
        """Unblock the signal and close the descriptor."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(self.fd)


class SignalInbox:
    """Hand noted signals to `on_signal`, from the loop. Owns both ends of the wakeup pipe."""

    def __init__(self, on_signal: Callable[[int], None]) -> None:
        self._on_signal = on_signal
        self.fd, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def listen(self, signums: Iterable[int]) -> None:
        """Note these signals from now on."""
        HELD.hold(signums)

    def read(self, _events: int = 0) -> None:
        """Empty the pipe, then hand over each noted number in order; many SIGCHLD are one."""
        with contextlib.suppress(BlockingIOError):  # empty: a wake-up that was handled already
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        children = False
        for signum in HELD.take():
            if signum == signal.SIGCHLD:
                children = True
            else:
                self._on_signal(signum)
        if children:
            self._on_signal(signal.SIGCHLD)

    def close(self) -> None:
        """Give the wakeup descriptor back."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_end)
