"""Know the processes that fell to us: children of ours that we did not spawn.

A process whose parent ends is given to the nearest subreaper, or to PID 1: to us. Those that left
their service's group (setsid) are not reached by a group signal, so they are looked for when a
main process has ended, before the next one may start.

The kernel lists our children in /proc/self/task/TID/children, in the order in which they became
ours; writing out a long list costs 0.19 µs a child (Linux 6.18). So the file is kept open and read
on from where it ended: the sequence file remembers its index, and one read asks "is there a child
beyond those I know?" for 2 µs at 100 children and 19 µs at 1,000. Only when the list is longer
than the children we know, or has become shorter, is it read again from its start. Zombies are
listed, which is why the look comes before the reaping of the process that ended.

Whose an orphan is, is written in its environment (SUPERVISORD_SERVICE, SUPERVISORD_RUN). Reading
that can block on a page that its owner controls, so it is not this module's business; see
`supervisor`.
"""

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

_PAGE = 65536
_RUN_DIGITS = 18


class Owner(NamedTuple):
    """Name the run that an orphan came from; `service` is empty for one that belongs to none."""

    service: str
    run: int


class Orphans:
    """Keep the orphans that live, and whose each is as far as it is known."""

    def __init__(self) -> None:
        self._owners: dict[int, Owner | None] = {}
        self._index = 0
        try:
            path = f"/proc/self/task/{os.getpid()}/children"
            self._fd: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no /proc, or a kernel without CONFIG_PROC_CHILDREN: groups only
            self._fd = None

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, pid: int) -> bool:
        return pid in self._owners

    @property
    def sees_all(self) -> bool:
        """Tell whether the kernel lists our children, so that none is overlooked."""
        return self._fd is not None

    @property
    def all(self) -> tuple[int, ...]:
        """Return the pids of all known orphans; each is our child, so its pid cannot be reused."""
        return tuple(self._owners)

    @property
    def unidentified(self) -> tuple[int, ...]:
        """Return the pids of those whose owner is not known yet."""
        return tuple(pid for pid, owner in self._owners.items() if owner is None)

    def of(self, service: str) -> tuple[int, ...]:
        """Return the pids that came from any run of this service."""
        return tuple(
            pid for pid, owner in self._owners.items() if owner and owner.service == service
        )

    def may_belong_to(self, service: str) -> bool:
        """Tell whether an orphan is, or may turn out to be, this service's."""
        if not self._owners:
            return False
        return any(owner is None or owner.service == service for owner in self._owners.values())

    def look(self, is_known: Callable[[int], bool], known: int) -> list[int]:
        """Return children of ours that were not known before, and note them as orphans.

        Args:
            is_known: Tells whether a pid is a child that we spawned and have not reaped.
            known: How many such children there are.
        """
        if self._fd is None:
            return []
        text = b""
        if known + len(self._owners) == self._index:
            text = os.read(self._fd, _PAGE)
            if not text:  # nobody new: the answer between an exit and the next start
                return []
        found = self._read_on(text, is_known, rewind=known + len(self) < self._index)
        if known + len(self) < self._index:
            # One came while others went, so it stands before the place where reading went on.
            found += self._read_on(b"", is_known, rewind=True)
        return found

    def _read_on(self, text: bytes, is_known: Callable[[int], bool], *, rewind: bool) -> list[int]:
        """Read on after `text`, which is from here, and note who is new."""
        assert self._fd is not None  # noqa: S101 - `look` has asked
        if rewind:
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._index = 0
        while chunk := os.read(self._fd, _PAGE):
            text += chunk
        pids = [int(word) for word in text.split()]
        self._index += len(pids)
        found = [pid for pid in pids if not is_known(pid) and pid not in self._owners]
        self._owners.update(dict.fromkeys(found))
        return found

    def identify(self, pid: int, owner: Owner) -> None:
        """Note whose an orphan is; one that has ended meanwhile stays forgotten."""
        if pid in self._owners:
            self._owners[pid] = owner

    def signal(self, pid: int, signum: int) -> None:
        """Signal an orphan: a child of ours that is not reaped, so the number is its own."""
        if pid in self._owners:
            with contextlib.suppress(PermissionError, ProcessLookupError):  # changed its user
                os.kill(pid, signum)  # not reaped: the number is still its own

    def forget(self, pid: int) -> None:
        """Drop one that was reaped."""
        self._owners.pop(pid, None)

    def close(self) -> None:
        """Close the list of children."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def owner_from_environ(environ: bytes) -> Owner:
    """Read a process's owner out of /proc/PID/environ, which says whatever the process likes."""
    values = dict(pair.partition(b"=")[::2] for pair in environ.split(b"\0"))
    service = values.get(b"SUPERVISORD_SERVICE", b"")
    run = values.get(b"SUPERVISORD_RUN", b"")
    is_word = all(0x20 < byte < 0x7F for byte in service)
    if not service or not is_word or not run.isdigit() or len(run) > _RUN_DIGITS:
        return Owner("", 0)
    return Owner(service.decode("ascii"), int(run))
