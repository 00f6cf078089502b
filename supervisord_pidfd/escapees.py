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

    Every pid gets an answer: those that the child could not read in time belong to nobody, so that
    no service waits for them; at shutdown they are ended all the same.
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
        self._deadline = loop.deadline(self._give_up)
        try:
            asked = ask_owners(pids)
        except OSError:  # no process or descriptor to be had: nobody's, this time
            self._child: Child | None = None
            self._finish()
            return
        self._child = reaper.watch(asked.pid, self._ended, leads_group=False)
        self._fd = asked.report
        self._deadline.arm(loop.clock.now() + WITHIN)
        if self._fd is not None:
            loop.add(self._fd, Priority.READINESS, self._read)

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
        self._unanswered.pop(pid, None)
        self._identified(pid, NOBODY if service == "-" else Owner(service, run))

    def _ended(self, child: Child, _status: ExitStatus, _usage: Usage) -> None:
        self._reaper.release(child)
        self._child = None

    def _give_up(self) -> None:
        if self._child is not None:
            self._reaper.signal(self._child, signal.SIGKILL, whole_group=False)
        self._finish()

    def _finish(self) -> None:
        self._deadline.disarm()
        if self._fd is not None:
            self._loop.remove(self._fd)
            self._loop.close_later(self._fd)
            self._fd = None
        self._loop.deadline(self._leave_rest).arm(self._loop.clock.now())

    def _leave_rest(self) -> None:
        for pid in tuple(self._unanswered):
            self._unanswered.pop(pid)
            self._identified(pid, NOBODY)
