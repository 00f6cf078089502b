"""Have a configuration loaded by the config child, without ever waiting for it.

The child's pipe is read from the loop, its end is seen by the reaper, and a deadline ends a child
that takes too long. One load at a time; who is next, `configuring` knows.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from supervisord_pidfd.core.exitstatus import ExitStatus, Usage
from supervisord_pidfd.errors import ConfigError, OtherVersionError
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.reaper import Child, Reaper

LOAD_WITHIN = 30.0
REPLY_MAX_BYTES = 256 << 20


class Loading(Protocol):
    """Be a config child under way."""

    @property
    def pid(self) -> int:
        """Return the child's pid."""
        ...

    @property
    def fd(self) -> int:
        """Return the read end of its pipe, non-blocking."""
        ...


class Loader(NamedTuple):
    """Hold how to load: start a child, for this file or the daemon's own; read what it said."""

    start: Callable[[str | None], Loading]
    parse: Callable[[bytes], Any]


class Outcome(NamedTuple):
    """Hold what came of a load: a reply, or why there is none; who asked; how long it took.

    `other_version`: there is none because another version of this program is installed now.
    """

    reply: Any
    error: str | None
    by: str
    took_s: float
    other_version: bool = False


class Applying:
    """Load configurations, one at a time. Owns the child's pipe while one is under way."""

    def __init__(
        self, loop: Loop, reaper: Reaper, loader: Loader, loaded: Callable[[Outcome], None]
    ) -> None:
        self.reaper = reaper
        self._loop = loop
        self._loader = loader
        self._loaded = loaded
        self._deadline = loop.deadline(self._too_slow)
        self._child: Child | None = None
        self._fd = -1
        self._data: list[bytes] = []
        self._size = 0
        self._by = ""
        self._begun = 0.0
        self._problem: str | None = None

    @property
    def busy(self) -> bool:
        """Tell whether a load is under way."""
        return self._fd >= 0 or self._child is not None

    def load(self, by: str, started: Loading | None = None, file: str | None = None) -> None:
        """Load a configuration for `by`; the outcome comes through `loaded`. Not while `busy`.

        Takes over the child that was `started` already, if any.
        """
        self._by, self._begun = by, self._loop.clock.now()
        self._data, self._size, self._problem = [], 0, None
        try:
            loading = started or self._loader.start(file)
        except OSError as error:
            self._report(None, f"cannot start the config child: {os.strerror(error.errno or 0)}")
            return
        self._fd = loading.fd
        self._child = self.reaper.watch(loading.pid, self._ended, leads_group=False)
        self._loop.add(self._fd, Priority.CONTROL, self._read)
        self._deadline.arm(self._begun + LOAD_WITHIN)

    def cancel(self) -> None:
        """End a load under way without an outcome: the daemon is shutting down."""
        self._problem = "cancelled"
        self._kill()

    def _read(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):  # all there is for now
            while chunk := os.read(self._fd, 1 << 18):
                self._data.append(chunk)
                self._size += len(chunk)
                if self._size > REPLY_MAX_BYTES:
                    self._problem = "cannot read the config child: its answer has no end"
                    self._kill()
                    break
            self._close()
            self._finish()

    def _ended(self, child: Child, _status: ExitStatus, _usage: Usage) -> None:
        self.reaper.release(child)
        self._child = None
        self._finish()

    def _too_slow(self) -> None:
        self._problem = f"cannot load the configuration within {LOAD_WITHIN:g}s"
        self._kill()

    def _kill(self) -> None:
        if self._child is not None:
            self.reaper.signal(self._child, signal.SIGKILL, whole_group=False)

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.remove(self._fd)
            self._loop.close_later(self._fd)
            self._fd = -1

    def _finish(self) -> None:
        """Report when the answer is whole and the child is gone."""
        if self.busy:
            return
        self._deadline.disarm()
        if self._problem == "cancelled":
            return
        if self._problem is not None:
            self._report(None, self._problem)
        else:
            self._parse()

    def _parse(self) -> None:
        try:
            reply = self._loader.parse(b"".join(self._data))
        except ConfigError as error:
            self._report(None, str(error), other_version=isinstance(error, OtherVersionError))
        else:
            self._report(reply, None)

    def _report(self, reply: object, error: str | None, *, other_version: bool = False) -> None:
        self._data = []
        took = self._loop.clock.now() - self._begun
        self._loaded(Outcome(reply, error, self._by, took, other_version))
