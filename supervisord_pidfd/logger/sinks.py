"""What the lines of services are written to: the face that all sinks have."""

import errno
from typing import Protocol

from supervisord_pidfd.logger.render import Form


class SinkError(Exception):
    """A sink takes nothing now: `error` is the name of an errno, `path` says where."""

    def __init__(self, error: str, path: str) -> None:
        super().__init__(f"cannot write {path}: {error}")
        self.error = error
        self.path = path

    @classmethod
    def of(cls, failure: OSError, path: str) -> "SinkError":
        """Make one of what a system call said."""
        return cls(errno.errorcode.get(failure.errno or 0, "EIO"), path)


class Sink(Protocol):
    """Take bytes: whole rendered lines, or whatever a service wrote if `form` is raw.

    `device` is the file system that may hold us up (st_dev); None: it never does.
    """

    device: int | None

    @property
    def form(self) -> Form:
        """Return how lines are wanted."""
        ...

    def write(self, data: bytes) -> int:
        """Return how many of the bytes were taken; blocks no longer than its disk does.

        Raises:
            SinkError: None was, for a reason.
        """
        ...

    def waits_on(self) -> int | None:
        """Return a descriptor that is writable once more is taken; None: try again by time.

        One that is writable while nothing is taken would keep its thread busy.
        """
        ...

    def reopen(self) -> None:
        """Let go of the file and open it anew: it was renamed, or a cause of trouble is gone."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
