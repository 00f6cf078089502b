"""One subject with its services, from launch until nothing of it is left."""

import contextlib
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from benchmarks import linux
from benchmarks.build import Programs
from benchmarks.inbox import LAUNCHED, Inbox, Start
from benchmarks.subjects import Options, Site, Subject

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class SubjectFailedError(Exception):
    """A subject did not do what was asked in the time it had; the others go on."""


class Booted(NamedTuple):
    """Launch to first and to last first instruction, in seconds."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Place:
    """What every session of a run shares."""

    directory: str
    programs: Programs
    options: Options


class Wish(NamedTuple):
    """What is particular to one session."""

    services: int
    nofile: int = 0  # RLIMIT_NOFILE, soft and hard; 0 = as the harness has it
    metrics: bool = False  # ours: with its logger and gateway
    web: bool = False  # ours: the gateway serves the API too
    crash: bool = False
    patience: float = 60.0  # s for each step


class Session:
    """A subject that runs; leaving the context ends everything it started."""

    def __init__(self, subject: Subject, place: Place, wish: Wish) -> None:
        self.subject = subject
        self.wish = wish
        self.inbox = Inbox()
        self.directory = tempfile.mkdtemp(prefix=f"{subject.name}-", dir=place.directory)
        self.output = os.path.join(self.directory, "output")
        self.starts: dict[int, Start] = {}  # index -> its newest
        self.launched = 0  # ns
        self.metrics_address = ""  # where ours serves them, if that was wished
        self.web_address = ""
        self.exit_code: int | None = None
        self.left_behind = 0
        self._child: linux.Child | None = None
        self._held: dict[int, int] = {}  # index -> pidfd of its newest instance
        self._place = place
        self._closed = False

    # -- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self) -> None:
        """Start the subject; its services report later."""
        place, wish = self._place, self.wish
        port = _free_port() if wish.metrics else 0
        self.metrics_address = f"127.0.0.1:{port}"
        web_port = _free_port() if wish.web else 0
        self.web_address = f"127.0.0.1:{web_port}"
        site = Site(
            self.directory,
            self.inbox.name,
            wish.services,
            place.programs,
            place.options,
            port,
            wish.crash,
            web_port,
        )
        found = self.subject.find(place.options)
        if found is None:
            raise SubjectFailedError(f"{self.subject.name} is not installed")
        argv = self.subject.prepare(site, found)
        launcher = (place.programs.launch, self.inbox.name, str(int(self.subject.stop)))
        self._child = linux.spawn((*launcher, str(wish.nofile), *argv), ENV, self.output)

    def boot(self) -> Booted:
        """Launch, and wait until every service has started."""
        self.launch()
        starts = [start for start in self._collect(self.wish.services + 1) if start.service >= 0]
        moments = [start.moment - self.launched for start in starts]
        return Booted(min(moments) / 1e9, max(moments) / 1e9)

    def stop(self) -> float:
        """Ask the subject to stop; return the seconds until no process of it is left."""
        if self._child is None:
            raise SubjectFailedError("not running")
        deadline = time.monotonic() + self.wish.patience
        self.hold(range(self.wish.services))
        others = linux.hold_all(linux.descendants(self._child.pid))
        begun = time.monotonic_ns()
        linux.kill(self._child.pidfd, self.subject.stop)
        try:
            for pidfd in (self._child.pidfd, *others):
                if not linux.readable(pidfd, deadline):
                    raise SubjectFailedError(f"not gone {self.wish.patience:.0f} s after the stop")
            took = (time.monotonic_ns() - begun) / 1e9
            self.exit_code = linux.reap(self._child)
            self._child = None
            return took
        finally:
            for pidfd in others:
                os.close(pidfd)

    def close(self) -> None:
        """End whatever is left, by force, and remove the files."""
        if self._closed:
            return
        self._closed = True
        if self._child is not None:
            with contextlib.suppress(SubjectFailedError, TimeoutError):
                self.wish = self.wish._replace(patience=min(self.wish.patience, 15.0))
                self.stop()
        if self._child is not None:
            self._force(self._child)
        for pidfd in self._held.values():
            if not linux.readable(pidfd, 0):  # outlived its supervisor: must not be
                self.left_behind += 1
                linux.kill(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._held.clear()
        self.inbox.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _force(self, child: linux.Child) -> None:
        held = linux.hold_all(linux.descendants(child.pid))
        linux.kill(child.pidfd, signal.SIGKILL)
        for pidfd in held:
            linux.kill(pidfd, signal.SIGKILL)
        deadline = time.monotonic() + 10
        for pidfd in (child.pidfd, *held):
            linux.readable(pidfd, deadline)
        self.left_behind += len(held)
        self.exit_code = linux.reap(child)
        self._child = None
        for pidfd in held:
            os.close(pidfd)

    # -- services ---------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process that was launched."""
        if self._child is None:
            raise SubjectFailedError("not running")
        return self._child.pid

    def is_probe(self, pid: int) -> bool:
        """Tell whether a process is a service of this session."""
        return linux.program(pid) == self._place.programs.probe

    def tree(self) -> list[int]:
        """Return the processes of the subject itself, services left out."""
        below = [process.pid for process in linux.descendants(self.pid)]
        return [self.pid, *(pid for pid in below if not self.is_probe(pid))]

    def hold(self, indexes: Iterable[int]) -> None:
        """Open a pidfd for the newest instance of each index, unless it is open."""
        for index in indexes:
            if index not in self._held and index in self.starts:
                pidfd = linux.hold(self.starts[index].pid, self.is_probe)
                if pidfd is None:
                    raise SubjectFailedError(f"service {index} is not alive")
                self._held[index] = pidfd

    def restart(self, index: int) -> float:
        """Kill one service; return the seconds to the next instance's first instruction."""
        self.ripen((index,))
        self.hold((index,))
        begun = self._kill((index,))
        again = self._collect(1)[0]
        if again.service != index:
            raise SubjectFailedError(f"killed service {index}, but {again.service} started")
        return (again.moment - begun) / 1e9

    def storm(self) -> float:
        """Kill all services at once; return the seconds until all are back."""
        indexes = list(range(self.wish.services))
        random.shuffle(indexes)
        self.ripen(indexes)
        self.hold(indexes)
        begun = self._kill(indexes)
        again = self._collect(len(indexes))
        if {start.service for start in again} != set(indexes):
            raise SubjectFailedError("a service came back twice in one storm")
        return (max(start.moment for start in again) - begun) / 1e9

    def settle(self, seconds: float) -> list[Start]:
        """Let time pass; return the starts that nobody asked for."""
        linux.rest(seconds)
        stray = self.inbox.take()
        self._note(stray)
        return stray

    def age(self, index: int) -> float:
        """Return how long the newest instance of a service has lived, in seconds."""
        return (time.monotonic_ns() - self.starts[index].moment) / 1e9

    def ripen(self, indexes: Iterable[int]) -> None:
        """Wait until the subject no longer holds these back for having lived too short."""
        if self.subject.least_life:
            linux.rest(max(0.0, *(self.subject.least_life - self.age(i) for i in indexes), 0.0))

    def _kill(self, indexes: Iterable[int]) -> int:
        pidfds = [self._held.pop(index) for index in indexes]
        begun = time.monotonic_ns()
        for pidfd in pidfds:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in pidfds:
            os.close(pidfd)
        return begun

    def _collect(self, count: int) -> list[Start]:
        """Wait for so many starts; fail at once if the subject itself ends."""
        deadline = time.monotonic() + self.wish.patience
        arrived: list[Start] = []
        while len(arrived) < count:
            if time.monotonic() > deadline:
                raise SubjectFailedError(f"{len(arrived)} of {count} starts in time{self.tail()}")
            fresh = self.inbox.wait(min(deadline, time.monotonic() + 0.5))
            arrived += fresh
            if not fresh and self._child is not None and linux.readable(self._child.pidfd, 0):
                code = self.exit_code = linux.reap(self._child)
                self._child = None
                raise SubjectFailedError(f"ended with {code}{self.tail()}")
        self._note(arrived)
        return arrived

    def _note(self, arrived: Iterable[Start]) -> None:
        for start in arrived:
            if start.service == LAUNCHED:
                self.launched = start.moment
                continue
            self.starts[start.service] = start
            stale = self._held.pop(start.service, None)
            if stale is not None:  # it started again without being asked, or beside the old one
                alive = not linux.readable(stale, 0)
                os.close(stale)
                if alive:
                    raise SubjectFailedError(f"two instances of service {start.service}")

    def wait_exit(self) -> int | None:
        """Wait until the subject ends by itself; return its code, None if it does not."""
        if self._child is not None and linux.readable(
            self._child.pidfd, time.monotonic() + self.wish.patience
        ):
            self.exit_code = linux.reap(self._child)
            self._child = None
        return self.exit_code

    def text(self) -> str:
        """Return what the subject has written so far."""
        with open(self.output, encoding="utf-8", errors="replace") as file:
            return file.read()

    def tail(self) -> str:
        """Return the end of it, for an error message."""
        lines = self.text().strip().splitlines()[-5:] if os.path.exists(self.output) else []
        return "; its last words: " + " | ".join(lines) if lines else ""
