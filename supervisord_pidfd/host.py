"""Take the process over from whoever started it: descriptors, limits, directories, the lock."""

import contextlib
import errno
import fcntl
import os
import resource
import stat
from collections.abc import Mapping
from typing import NamedTuple

from supervisord_pidfd import sysabi
from supervisord_pidfd.errors import StartupError

UMASK = 0o077
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_NULL_DEVICE = os.makedev(1, 3)


class Files(NamedTuple):
    """Hold RLIMIT_NOFILE as it was found; the soft one is given back to children."""

    soft: int
    hard: int


class Process(NamedTuple):
    """Hold what the daemon found when it took its process over.

    `start_dir` is where services without a directory run; a directory that is gone counts as "/".
    """

    environ: Mapping[str, str]
    start_dir: str
    null: int
    files: Files
    uid: int


def take_over() -> Process:
    """Make this process safe to be a daemon: descriptors, umask, the limit on files."""
    environ = _environment()
    try:
        start_dir = os.getcwd()
    except OSError:
        start_dir = "/"
    null = open_standard_files()
    close_inherited(null)
    os.umask(UMASK)
    return Process(environ, start_dir, null, raise_file_limit(), os.geteuid())


def suitable_sinks(
    environ: Mapping[str, str],
    *,
    pid1: bool,
    terminal: bool,
    signs: tuple[str, ...] = CONTAINER_FILES,
) -> tuple[str, ...]:
    """Return where logs go that are to go where they suit; `signs` are files of containers.

    The journal, if systemd has connected us to it or has executed us; standard output in a
    container or on a terminal, because somebody reads it there; else files.
    """
    if environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()) or _is_journal(environ):
        return ("journal",)
    if pid1 or "container" in environ or any(map(os.path.exists, signs)) or terminal:
        return ("stdout",)
    return ("file",)


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Tell whether 1 or 2 is the journal's stream; the variable alone is inherited by anybody."""
    for fd in (1, 2):
        found = os.fstat(fd)
        if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
            return True
    return False


def _environment() -> dict[str, str]:
    """Return what we were started with: without a locale, Python adds LC_CTYPE to it (PEP 538)."""
    environ = dict(os.environ)
    if "LC_CTYPE" in environ:
        with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as given:
            if not any(pair.startswith(b"LC_CTYPE=") for pair in given.read().split(b"\0")):
                del environ["LC_CTYPE"]
    return environ


def open_standard_files() -> int:
    """Make sure that 0, 1 and 2 are open, and return a descriptor of /dev/null above them.

    With one of them closed, the next file or socket opened would become somebody's output.
    """
    null = _open_null()
    while null <= 2:
        null = os.dup(null)
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.dup2(null, fd)
        os.set_inheritable(fd, True)  # /dev/null may have landed there by itself, close-on-exec
    os.set_inheritable(null, False)
    return null


def _open_null() -> int:
    """Open /dev/null if it is the real one; else something that reads empty and takes nothing."""
    with contextlib.suppress(OSError):
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        status = os.fstat(fd)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE:
            return fd
        os.close(fd)
    empty = os.memfd_create("null", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(empty, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)
    return empty


def close_inherited(kept: int) -> None:
    """Close what the parent left open above `kept` (and between 2 and it)."""
    if kept > 3:
        sysabi.close_range(3, kept - 1)
    sysabi.close_range(kept + 1, 2**31 - 1)


def raise_file_limit() -> Files:
    """Raise the soft RLIMIT_NOFILE to the hard one, and return what they were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return Files(soft, hard)


def say(text: str) -> None:
    """Write to standard error, which is only done while nothing is supervised."""
    with contextlib.suppress(OSError):
        os.write(2, f"supervisord-pidfd: {text}\n".encode("utf-8", "backslashreplace"))


class RuntimeDirectory:
    """Hold the runtime directory and the lock that makes this the only daemon in it."""

    def __init__(self, path: str) -> None:
        """Make the directory if need be, and lock it.

        Raises:
            StartupError: It belongs to somebody else, or another daemon holds the lock.
            OSError: It cannot be made or written; the daemon does without.
        """
        self.path = path
        with contextlib.suppress(FileExistsError):
            os.makedirs(path, mode=0o755)
            os.chmod(path, 0o755)  # noqa: S103 - clients need to reach the sockets inside
        self._check_owner()
        self._lock = os.open(
            os.path.join(path, "lock"),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
            0o600,
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise StartupError(
                    f"cannot start: another daemon runs in {path}"
                    " (stop it, or choose another supervisor.runtime_dir)"
                ) from None
            raise

    def _check_owner(self) -> None:
        status = os.lstat(self.path)
        if not stat.S_ISDIR(status.st_mode):
            raise StartupError(f"cannot start: {self.path} is not a directory")
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & (
            stat.S_IWGRP | stat.S_IWOTH
        ):
            raise StartupError(
                f"cannot start: {self.path} is unsafe: it must belong to uid {os.geteuid()}"
                " and not be writable by others"
            )

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)
