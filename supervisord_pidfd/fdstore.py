"""Keep descriptors for a service over its restarts: what it gave us with FDSTORE=1.

They come back to it as LISTEN_FDS, from number 3 on, in the order in which they came. One whose
other side hangs up is dropped (unless FDPOLL=0 said not to look): epoll tells that without being
asked for. A socket or pipe that is here already is not kept twice.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from typing import NamedTuple

from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.process import Provision

FIRST_FD = 3
UNNAMED = "stored"
"""What systemd calls a descriptor that came without FDNAME."""


class Kept(NamedTuple):
    """Hold one descriptor and its name."""

    name: str
    fd: int


class FdStore:
    """Own the descriptors that one service has stored."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._kept: list[Kept] = []
        self._watched: set[int] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, fds: Iterable[int], name: str | None, room: int, *, poll: bool) -> bool:
        """Take ownership of descriptors; keep what there is room for, close the rest.

        Args:
            fds: The descriptors.
            name: What FDNAME said.
            room: How many may be kept in all.
            poll: Whether to drop one whose other side hangs up.

        Returns:
            Whether all of them are kept now.
        """
        known = {_file_of(kept.fd) for kept in self._kept} - {None}
        everything = True
        for fd in fds:
            file = _file_of(fd)
            if file is not None and file in known:
                os.close(fd)
            elif len(self._kept) >= room:
                os.close(fd)
                everything = False
            else:
                known.add(file)
                self._kept.append(Kept(name or UNNAMED, fd))
                if poll:
                    self._watch(fd)
        return everything

    def _watch(self, fd: int) -> None:
        # A regular file cannot be polled: it has no other side.
        with contextlib.suppress(OSError):
            self._loop.add(fd, Priority.CONTROL, lambda _events: self._hung_up(fd), 0)
            self._watched.add(fd)

    def _hung_up(self, fd: int) -> None:
        self._drop(kept for kept in self._kept if kept.fd == fd)

    def remove(self, name: str) -> None:
        """Drop all of this name."""
        self._drop(kept for kept in self._kept if kept.name == name)

    def shrink(self, room: int) -> None:
        """Drop the latest until no more than `room` are left."""
        self._drop(self._kept[room:])

    def _drop(self, some: Iterable[Kept]) -> None:
        for kept in list(some):
            self._kept.remove(kept)
            if kept.fd in self._watched:
                self._watched.discard(kept.fd)
                self._loop.remove(kept.fd)
            self._loop.close_later(kept.fd)

    def provision(self) -> Provision:
        """Return what hands them to the next run; LISTEN_PID is filled in by the child."""
        if not self._kept:
            return Provision()
        names = ":".join(kept.name for kept in self._kept)
        environment = (("LISTEN_FDS", str(len(self._kept))), ("LISTEN_FDNAMES", names))
        numbered = enumerate((kept.fd for kept in self._kept), FIRST_FD)
        return Provision(environment, tuple(numbered))

    def close(self) -> None:
        """Drop everything."""
        self._drop(self._kept)


def _file_of(fd: int) -> tuple[int, int, int] | None:
    """Tell sockets and pipes apart; None for what has no number of its own.

    Their numbers are the kernel's, so that the look cannot wait for a disk: /proc/self/fd names
    the kind first, since even fstat(2) may hang on a file of a dead mount.
    """
    try:
        kind = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    if not kind.startswith(("socket:[", "pipe:[")):
        return None
    status = os.fstat(fd)
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE  # which end of a pipe this is
    return status.st_dev, status.st_ino, access
