"""A loop, a reaper and the list of orphans around real children, without a daemon.

A child gets the write end of `announce` as its descriptor 3 and says `ready <pid>` and the like
there. Nothing here sleeps: `turn_until` waits in the loop's own epoll, `heard` in poll, both with
a deadline that fails loudly.
"""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from supervisord_pidfd import sysabi
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.exitstatus import ExitStatus, Usage
from supervisord_pidfd.core.spec import ServiceSpec
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.orphans import Orphans
from supervisord_pidfd.process import PASSED_FD, Host, Launched, Provision, Recipe
from supervisord_pidfd.reaper import Child, Hooks, make_reaper
from supervisord_pidfd.signals import HELD, ChildrenInbox, SignalInbox

CHILDREN = Path(__file__).parents[1] / "integration" / "children"
DEADLINE_S = 20
SH = "/bin/sh"


class Exit(NamedTuple):
    """Hold what a reaper delivered."""

    child: Child
    status: ExitStatus
    usage: Usage


def program(name: str, *args: str) -> tuple[str, ...]:
    """Give the command line of one of the tiny programs in integration/children/."""
    return (sys.executable, "-I", str(CHILDREN / f"{name}.py"), *args)


def specify(*argv: str, **members: Any) -> ServiceSpec:
    """Describe a service as the config child would have, its program found."""
    members.setdefault("program", argv[0])
    members.setdefault("fast", True)
    return ServiceSpec("test", argv, **members)


class World:
    """Own loop, reaper, orphans and signal inbox of one test, and the children made through it."""

    def __init__(
        self,
        mode: str = "pidfd",
        *,
        subreaper: bool = True,
        by_handler: bool = False,
        before_reap: Callable[[], None] | None = None,
        **features: bool,
    ) -> None:
        found = sysabi.probe()
        if mode == "sigchld":
            found = found._replace(pidfd=False)
        self.features = found._replace(**features)
        self.errors: list[tuple[str, BaseException]] = []
        self.may_crash = False
        self.exits: list[Exit] = []
        self.orphans_reaped: dict[int, ExitStatus] = {}
        self.fell_back: list[str] = []
        self.subreaper = subreaper
        sysabi.set_child_subreaper(subreaper)
        self.loop = Loop(SystemClock(), lambda where, error: self.errors.append((where, error)))
        self.inbox = self._make_inbox(by_handler)
        priority = Priority.CONTROL if self.features.pidfd else Priority.EXITS
        self.loop.add(self.inbox.fd, priority, self.inbox.read)
        self.orphans = Orphans()
        self.before_reap = before_reap or self.look
        hooks = Hooks(
            lambda: self.before_reap(),  # noqa: PLW0108 - a test may change it
            self._orphan if subreaper else None,
            self.fell_back.append,
            sees_leftovers=subreaper and self.orphans.sees_all,
        )
        self.reaper = make_reaper(self.loop, hooks, self.features)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._ears, self.announce = os.pipe2(os.O_CLOEXEC)
        self._heard = b""
        self.host = Host(dict(os.environ), self._null, *_files(), _umask())
        self._children: list[Child] = []
        self._reports: list[int] = []

    def _make_inbox(self, by_handler: bool) -> SignalInbox | ChildrenInbox:
        """Take SIGCHLD by a descriptor, as the daemon does, or by a handler, as it can."""
        if not by_handler:
            return ChildrenInbox(lambda: self.reaper.on_sigchld())  # noqa: PLW0108 - made later
        inbox = SignalInbox(self._signalled)
        inbox.listen([signal.SIGCHLD])
        return inbox

    def _signalled(self, signum: int) -> None:
        if signum == signal.SIGCHLD:
            self.reaper.on_sigchld()

    def _orphan(self, pid: int, status: ExitStatus) -> None:
        self.orphans.forget(pid)
        self.orphans_reaped[pid] = status

    def look(self) -> list[int]:
        """Look for orphans."""
        return self.orphans.look(self.reaper.knows, len(self.reaper))

    # -- children -----------------------------------------------------------------------------

    def launch(self, *argv: str, **members: Any) -> Launched:
        """Spawn without watching."""
        given = Provision(descriptors=((PASSED_FD, self.announce),))
        return Recipe(specify(*argv, **members), self.host, given).spawn(1)

    def watch(self, pid: int, *, leads_group: bool = True, floor_rss: int = 0) -> Child:
        """Have the reaper watch a child; its end is added to `exits`, its handle released."""
        child = self.reaper.watch(pid, self._ended, leads_group=leads_group, floor_rss=floor_rss)
        self._children.append(child)
        return child

    def spawn(self, *argv: str, **members: Any) -> Child:
        """Spawn and watch."""
        launched = self.launch(*argv, **members)
        if launched.report is not None:
            self._reports.append(launched.report)
        return self.watch(launched.pid)

    def sh(self, script: str, **members: Any) -> Child:
        """Run a line of shell."""
        return self.spawn(SH, "-c", script, **members)

    def _ended(self, child: Child, status: ExitStatus, usage: Usage) -> None:
        self.exits.append(Exit(child, status, usage))

    # -- waiting ------------------------------------------------------------------------------

    def turn_until(self, condition: Callable[[], object], timeout: float = DEADLINE_S) -> None:
        """Turn the loop until the condition holds."""
        deadline = time.monotonic() + timeout
        more = False
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {timeout} s; errors: {self.errors}"
            assert self.may_crash or not self.errors, self.errors
            more = self.loop.run_once(0.0 if more else left)

    def exit_of(self, child: Child) -> Exit:
        """Wait for the end of one child."""
        self.turn_until(lambda: any(exited.child is child for exited in self.exits))
        return next(exited for exited in self.exits if exited.child is child)

    def heard(self) -> list[str]:
        """Wait for the next announced line, and return its words."""
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self._heard:
            assert readable(self._ears, deadline - time.monotonic()), f"only {self._heard!r}"
            self._heard += os.read(self._ears, 4096)
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().split()

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """End and reap what is left, give everything back, and insist that no callback crashed."""
        self.may_crash = True
        for child in tuple(self.reaper._children.values()):
            child.on_exit = lambda child, *_: self.reaper.release(child)  # and no restart
            self.reaper.signal(child, signal.SIGKILL, whole_group=True)
        self.turn_until(lambda: not len(self.reaper))
        for child in self._children:
            self.reaper.release(child)
        if self.subreaper:
            while len(self.orphans) or self.look():
                for pid in self.orphans.all:
                    self.orphans.signal(pid, signal.SIGKILL)
                self.turn_until(lambda: not len(self.orphans))
        self.reaper.close()
        self.orphans.close()
        self.loop.remove(self.inbox.fd)
        self.inbox.close()
        self.loop.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        HELD.take()
        for fd in (self._null, self._ears, self.announce, *self._reports):
            os.close(fd)
        sysabi.set_child_subreaper(False)
        assert not self.errors, self.errors


def readable(fd: int, timeout: float) -> bool:
    """Wait until there is something to read, or the other end has closed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000))


def wait_dead(pid: int) -> None:
    """Wait until a child of ours has ended, and leave it a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _files() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
