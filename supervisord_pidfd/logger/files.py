"""Append lines to a file, and rotate it between two of them.

A file is looked at before each write (fstat(2), half a microsecond): so one that was deleted is
made again, and one that somebody else has cut (logrotate's copytruncate) is as long as it is. What
is opened, moved or removed is named relative to a directory that was just walked to, see `places`.
"""

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.logger import places, rotation
from supervisord_pidfd.logger.render import Form
from supervisord_pidfd.logger.rotation import Rotation, period_of
from supervisord_pidfd.logger.sinks import SinkError

SLACK_BYTES = 64 << 10
"""How far a line may lead over the size of a file before it is divided."""

RETRY_S = 60.0
"""After a rotation has failed, the file grows for so long before the next try."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Tell = Callable[[str, dict[str, Any]], None]
"""Take the name of an event and its fields."""


def _silence(_event: str, _fields: dict[str, Any]) -> None:
    """Tell nobody."""


def _lock_of(path: str) -> threading.Lock:
    """Return the lock of what is called so: another sink of that path has the same one."""
    lock = _locks.get(path)
    if lock is None:
        lock = _locks[path] = threading.Lock()
    return lock


_locks: "weakref.WeakValueDictionary[str, threading.Lock]" = weakref.WeakValueDictionary()


class FileSink:
    """Be the sink that is a file; see `sinks.Sink`. One thread at a time.

    `device` is what `places.device_of` says of its directory, for who needs to know it before the
    file is opened, which the first write does. Lines that were given up in the middle leave the
    file in the middle of one: `fresh` before what comes next.

    `pack` is called after a rotation if old files are to be compressed; it holds `lock` while it
    changes names, as we do.
    """

    def __init__(  # noqa: PLR0913 - the last four have defaults
        self,
        path: str,
        form: Form,
        limits: Rotation,
        *,
        device: int | None = None,
        tell: Tell = _silence,
        pack: "Callable[[FileSink], None] | None" = None,
        wall: Callable[[], float] = SystemClock.wall,
    ) -> None:
        self.path = path
        self.form = form
        self.device = device
        self.lock = _lock_of(path)
        self._limits = limits
        self._tell = tell
        self._pack = pack
        self._wall = wall
        self._base = os.path.basename(path)
        self._fd: int | None = None
        self._size = 0
        self._inode = (0, 0)
        self._begun = True  # the next byte begins a line
        self._mend = False  # a newline must come first
        self._period: tuple[int, ...] = ()
        self._looked_at = -1
        self._not_before = float("-inf")

    def write(self, data: bytes) -> int:
        """Append; see `sinks.Sink`. Rotates between two lines."""
        taken = 0
        try:
            while taken < len(data):
                fd = self._ready()
                end = self._end(data, taken)
                if end == taken:
                    self._rotate()
                    continue
                done = self._append(fd, data if end - taken == len(data) else data[taken:end])
                taken += done
                self._begun = data[taken - 1] == 0x0A
                if taken < end:
                    break
        except OSError as error:
            if error.errno not in _FULL:
                self.reopen()  # what is there by then may be another file system, or mended
            if not taken:
                raise SinkError.of(error, self.path) from error
        return taken

    def fresh(self) -> None:
        """Let what comes begin a line, even if what came last has not ended one."""
        self._mend = self._mend or not self._begun

    def waits_on(self) -> int | None:
        """Return None: a disk does not tell when it has room."""
        return None

    def reopen(self) -> None:
        """Open the file anew with the next write; what was written to stays as it is."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close the file."""
        self.reopen()

    # -- writing ----------------------------------------------------------------------------------

    def _ready(self) -> int:
        """Return the file, open, whole and known: its size, whether it is at the end of a line."""
        fd = self._fd
        if fd is not None:
            found = os.fstat(fd)
            if found.st_nlink:
                self._size = found.st_size
                return fd
            self.reopen()  # it was deleted: nobody would ever read what we write there
            opened = self._open()
            self._say("log.reopened", files=1)
            return opened
        return self._open()

    def _append(self, fd: int, data: bytes) -> int:
        """Write once; the newline that mends what is torn comes before it, and is not counted."""
        while True:
            try:
                if self._mend:
                    self._size += os.write(fd, b"\n")
                    self._mend = False
                    self._begun = True
                done = os.write(fd, data)
            except OSError as error:
                if error.errno not in _FULL or not self._free_some():
                    raise
            else:
                self._size += done
                return done

    def _end(self, data: bytes, start: int) -> int:
        """Say how much may go into this file: up to where; nothing, if it must be rotated."""
        left = len(data) - start
        limit = self._limit()
        if limit is None or (self._size + left <= limit):
            return len(data)
        cut = data.rfind(b"\n", start, start + limit - self._size) + 1 if limit > self._size else 0
        if cut:
            return cut
        if self._size and (self._begun or self._mend or self._is_endless()):
            return start
        return data.find(b"\n", start) + 1 or len(data)

    def _is_endless(self) -> bool:
        return 0 < self._limits.size <= self._size - SLACK_BYTES

    def _limit(self) -> int | None:
        """Say at which size the file is full: 0 if its time has come, None if never."""
        now = self._wall()
        if now < self._not_before:
            return None
        second = int(now)
        if second != self._looked_at:
            self._looked_at = second
            period = period_of(self._limits, now)
            if period > self._period:
                if self._size:
                    self._looked_at = -1
                    return 0
                self._period = period
        return self._limits.size or None

    # -- names ------------------------------------------------------------------------------------

    @contextmanager
    def directory(self) -> Iterator[int]:
        """Hold the directory of the file.

        Raises:
            OSError: It cannot be opened, see `places`.
        """
        fd = places.open_directory(os.path.dirname(self.path))
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def base(self) -> str:
        """Say what the file is called in its directory."""
        return self._base

    def _open(self) -> int:
        with self.directory() as directory:
            fd = places.open_log(directory, self._base)
            self._fd = fd
            found = os.fstat(fd)
            self.device, self._size = found.st_dev, found.st_size
            if not self._size or (found.st_dev, found.st_ino) != self._inode:
                self._begun, self._mend = True, self._is_torn(directory)
            self._inode = (found.st_dev, found.st_ino)
            now = self._wall()
            self._period = period_of(self._limits, min(found.st_mtime, now) if self._size else now)
            self._looked_at = -1
        return fd

    def _is_torn(self, directory: int) -> bool:
        if not self._size:
            return False
        try:
            fd = places.open_to_read(directory, self._base)
        except PermissionError:
            return True  # we may write only: a line too many is better than two in one
        try:
            return os.pread(fd, 1, self._size - 1) != b"\n"
        finally:
            os.close(fd)

    def _rotate(self) -> None:
        """Give the file its place among the old ones; the next write opens a new one.

        If that fails, the file goes on growing: rather too long a file than lost lines.
        """
        try:
            with self.lock, self.directory() as directory:
                if self._is_ours(directory):
                    rotation.rotate(directory, self._base, self._limits.keep)
                self.reopen()
                rotation.trim(directory, self._base, self._limits, 0)
        except OSError as error:
            self._not_before = self._wall() + RETRY_S
            failed = SinkError.of(error, f"{self.path}.1")
            self._say("log.write_failed", error=failed.error, path=failed.path)
            return
        self._say("log.rotated", path=self.path)
        if self._limits.compress and self._pack is not None:
            self._pack(self)

    def _is_ours(self, directory: int) -> bool:
        """Say whether the name still means the file that we write to; somebody may have moved it.

        Raises:
            OSError: Nobody can say.
        """
        try:
            found = os.stat(self._base, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _free_some(self) -> bool:
        """Remove an old file of ours from a full disk."""
        try:
            with self.lock, self.directory() as directory:
                return rotation.free_some(directory, self._base, self._limits.keep)
        except OSError:
            return False  # the disk is as full as it was, which is what is told

    def _say(self, event: str, **fields: Any) -> None:
        self._tell(event, fields)
