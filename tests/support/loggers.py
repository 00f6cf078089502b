"""A real logger process, and the core's side of it: taps in a loop, as the daemon has them."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.spec import LogSpec
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.taps import OUTPUT, Outlet, Taps, Told

DEADLINE_S = 30


class Logging:
    """Own a loop, taps and one logger process after another.

    `news` is what loggers told. Writers get the ends of `open`; what they write is the test's.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(SystemClock(), lambda _where, error: self.errors.append(error))
        self.news: list[tuple[Any, ...]] = []
        told = Told(
            lambda *about: self.news.append(("ready", *about)),
            lambda *about: self.news.append(("reopened", *about)),
            lambda *about: self.news.append(("tell", *about)),
            lambda *about: self.news.append(("lost", *about)),
        )
        self.taps = Taps(self.loop, told)
        self.process: subprocess.Popen[bytes] | None = None
        self._events: int | None = None

    def start(self, **popen: Any) -> None:
        """Start a logger, the next one if there was one."""
        read_end, write_end = os.pipe()
        os.write(write_end, b"1\n")
        channel = self.taps.connect()
        words = ["--fd", str(read_end), "--channel", str(channel), "--format", "json"]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "supervisord_pidfd.logger", *words],
            pass_fds=(read_end, channel),
            **{"stdout": subprocess.DEVNULL, **popen},
        )
        os.close(read_end)
        self.taps.line.handed_over()
        self._events = write_end

    def use(self, service: str, path: str, **members: Any) -> LogSpec:
        """Let a service's output go to a file."""
        members.setdefault("to", ("file",))
        members.setdefault("stderr_path", path)
        spec = LogSpec(path=path, **members)
        self.taps.use(service, spec)
        return spec

    def open(self, service: str, run: int = 1, streams: tuple[str, ...] = OUTPUT) -> Outlet:
        """Make the pipes of a run."""
        outlet = self.taps.open(service, run, streams)
        self.turns()
        return outlet

    def turns(self) -> None:
        """Let everything be said that can be said now."""
        while self.taps.line.flush() or self.loop.run_once(0.0) or self.loop.batch:
            pass
        assert not self.errors

    def until(self, condition: Callable[[], object], timeout: float = DEADLINE_S) -> None:
        """Turn until something holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout} s; news: {self.news[-5:]}"
            self.taps.line.flush()
            self.loop.run_once(0.02)
        assert not self.errors

    def drained(self) -> None:
        """Wait until all pipes have come to their ends."""
        self.until(lambda: not self.taps._runs)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return what loggers told of an event."""
        return [about[2] for about in self.news if about[:2] == ("tell", event)]

    def kill(self) -> None:
        """Kill the logger, and wait for its end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close_events()
        self.turns()

    def finish(self, within: float = 10.0) -> int:
        """End as the daemon does; return the logger's exit code."""
        assert self.process is not None
        self.taps.finish(within)
        self.until(lambda: not self.taps.line._queue)
        self._close_events()
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """End everything, by force if need be."""
        self._close_events()
        self.taps.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.loop.run_once(0.0)
        self.loop.close()

    def _close_events(self) -> None:
        if self._events is not None:
            os.close(self._events)
            self._events = None


def write_all(fd: int, data: bytes, timeout: float = DEADLINE_S) -> None:
    """Write all of it, waiting for the reader."""
    os.set_blocking(fd, False)
    deadline = time.monotonic() + timeout
    view = memoryview(data)
    while view:
        _, ready, _ = select.select([], [fd], [], max(0.0, deadline - time.monotonic()))
        assert ready, "nobody reads"
        with contextlib.suppress(BlockingIOError):
            view = view[os.write(fd, view) :]
