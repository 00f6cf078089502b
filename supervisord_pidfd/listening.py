"""The control socket's place in the file system: taken over if nobody is behind it, made anew.

The directory is the daemon's own and locked (`host.RuntimeDirectory`), or one that the operator
named: there, whoever answers at the path keeps it.
"""

import contextlib
import errno
import os
import socket
import stat

from supervisord_pidfd.core.spec import SupervisorSpec
from supervisord_pidfd.errors import StartupError

BACKLOG = 4096
"""Who connects beyond it is refused at once; the kernel bounds it by net.core.somaxconn."""

FOR_US, FOR_ALL = 0o600, 0o666
"""Modes: whether others may connect. What they may do is decided by who they are."""


def mode_of(spec: SupervisorSpec) -> int:
    """Let others connect if there are any who may do something."""
    return FOR_ALL if spec.read_uids or spec.read_gids else FOR_US


def word_of(error: OSError | StartupError) -> str:
    """Name in a word why there is no socket."""
    if isinstance(error, StartupError):
        return "EADDRINUSE"
    if error.errno is None:  # CPython's own word for a path that is too long
        return "ENAMETOOLONG"
    return errno.errorcode.get(error.errno, str(error.errno))


class Listener:
    """Hold a listening socket and the file that leads to it."""

    def __init__(self, path: str, mode: int) -> None:
        """Bind and listen.

        Raises:
            StartupError: Somebody listens there.
            OSError: It cannot be made there.
        """
        self.path = path
        self._mode = mode
        _take_over(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        umask = os.umask(0)
        try:
            # The file gets the mode of the descriptor, so there is no moment with another one.
            os.fchmod(self.socket.fileno(), mode)
            self.socket.bind(path)
            self.socket.listen(BACKLOG)
            self._file = _identity(path)
        except BaseException:
            self.socket.close()
            raise
        finally:
            os.umask(umask)

    def let_connect(self, mode: int) -> None:
        """Change who may connect, if the path still leads to this socket."""
        if mode != self._mode and self.is_in_place:
            self._mode = mode
            with contextlib.suppress(OSError):
                os.chmod(self.path, mode)

    @property
    def is_in_place(self) -> bool:
        """Tell whether the path still leads to this socket."""
        with contextlib.suppress(OSError):
            return _identity(self.path) == self._file
        return False

    def close(self) -> None:
        """Stop listening, and remove the file if it is still ours."""
        if self.is_in_place:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.socket.close()


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _take_over(path: str) -> None:
    """Remove a socket that a daemon left behind; anything else that is there stays.

    Raises:
        StartupError: Somebody listens there.
        OSError: What is there cannot be removed, or is no socket (EEXIST, from `bind`).
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:  # somebody listens, and is busy
            pass
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise StartupError(
        f"cannot start: another process listens on {path} (stop it, or choose another --socket)"
    )
