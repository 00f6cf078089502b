"""Find out whose the orphans are, without ever waiting for the answer."""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence

from supervisord_pidfd.core.exitstatus import ExitStatus, Usage
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.orphans import Owner
from supervisord_pidfd.process import ask_owners
from supervisord_pidfd.reaper import Child, Reaper

WITHIN = 2.0
NOBODY = Owner("", 0)


class Identification:
    """Wait for the child that reads the environments of some orphans. Owns its pipe.

    Every pid gets an answer. One that the child could not read in time belongs to nobody, so that
    no service waits for it (at shutdown it is ended all the same), and the rest are asked anew.
    """

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        pids: Sequence[int],
        identified: Callable[[int, Owner], None],
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._unanswered = dict.fromkeys(pids)
        self._identified = identified
        self._text = b""
        self._fd: int | None = None
        self._child: Child | None = None
        self._deadline = loop.deadline(self._give_up)
        self._ask()

    def _ask(self) -> None:
        """Start the child; without room for it, the answer is `NOBODY` this time."""
        try:
            asked = ask_owners(tuple(self._unanswered))
        except OSError:
            self._finish()
            return
        self._child = self._reaper.watch(asked.pid, self._ended, leads_group=False)
        self._text = b""
        self._fd = asked.answers
        try:
            self._loop.add(asked.answers, Priority.READINESS, self._read)
        except OSError:
            self._kill()
            self._finish()
            return
        self._deadline.arm(self._loop.clock.now() + WITHIN)

    def _read(self, _events: int) -> None:
        if self._fd is None:
            return
        with contextlib.suppress(BlockingIOError):  # all there is for now
            while chunk := os.read(self._fd, 65536):
                self._text += chunk
            self._finish()
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            self._answer(line.decode("ascii", "replace").split(" "))

    def _answer(self, words: list[str]) -> None:
        pid, service, run = int(words[0]), words[1], int(words[2])
        if pid in self._unanswered:
            del self._unanswered[pid]
            self._identified(pid, NOBODY if service == "-" else Owner(service, run))

    def _ended(self, child: Child, _status: ExitStatus, _usage: Usage) -> None:
        self._reaper.release(child)
        if child is self._child:
            self._child = None

    def _kill(self) -> None:
        if self._child is not None:
            self._reaper.signal(self._child, signal.SIGKILL, whole_group=False)
            self._child = None

    def _give_up(self) -> None:
        """Leave the one that blocks its reader, and ask for those behind it."""
        self._kill()
        self._close()
        blocking = next(iter(self._unanswered), None)
        if blocking is not None:
            self._answer([str(blocking), "-", "0"])
        if self._unanswered:
            self._ask()

    def _finish(self) -> None:
        self._deadline.disarm()
        self._close()
        # Not at once: whoever asks is looking for orphans just now.
        self._loop.deadline(self._leave_rest).arm(self._loop.clock.now())

    def _close(self) -> None:
        if self._fd is not None:
            self._loop.remove(self._fd)
            self._loop.close_later(self._fd)
            self._fd = None

    def _leave_rest(self) -> None:
        for pid in tuple(self._unanswered):
            self._answer([str(pid), "-", "0"])
