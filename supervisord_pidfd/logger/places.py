"""Open log files where nobody can lead us elsewhere.

A path is walked component by component, each opened relative to the one before, so that what was
looked at is what is used. Refused, with EPERM:

- a directory that everybody may write to; on the way a sticky one (/tmp) will do, if what we enter
  there belongs to root or to us;
- a symbolic link that belongs to somebody else;
- a file that is not regular, has another hard link, or belongs neither to root nor to us nor to
  the owner of its directory.

A directory may belong to anybody: its owner can lead us to what is in it, and nowhere else. Mode
and owner are never changed by path; the mode of a file is set on the descriptor that created it.
"""

import errno
import os
import stat
from contextlib import suppress

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
LINKS_MAX = 40

_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = (
    os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
)  # fmt: skip
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_directory(path: str) -> int:
    """Open a directory, and make what is missing of it; the descriptor is the caller's.

    Raises:
        OSError: It cannot be opened, or is refused (EPERM, see above).
    """
    fd = os.open("/", _WALK)
    try:
        parts = _parts(path)
        links = 0
        while parts:
            name = parts.pop()
            entered = _enter(fd, name)
            if isinstance(entered, int):
                os.close(fd)
                fd = entered
                continue
            links += 1
            if links > LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            parts += _parts(entered)
            if entered.startswith("/"):
                os.close(fd)
                fd = os.open("/", _WALK)
        if os.fstat(fd).st_mode & stat.S_IWOTH:
            raise _refused(path)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _parts(path: str) -> list[str]:
    """Give the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def _enter(fd: int, name: str) -> int | str:
    """Open a directory in a directory; of a symbolic link return where it leads."""
    above = os.fstat(fd)
    open_to_all = bool(above.st_mode & stat.S_IWOTH)
    if open_to_all and not above.st_mode & stat.S_ISVTX:
        raise _refused(name)
    try:
        inner = os.open(name, _WALK, dir_fd=fd)
    except FileNotFoundError:
        with suppress(FileExistsError):  # somebody was faster
            os.mkdir(name, DIRECTORY_MODE, dir_fd=fd)
        inner = os.open(name, _WALK, dir_fd=fd)
    except NotADirectoryError:
        link = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISLNK(link.st_mode):
            raise
        if link.st_uid not in {0, os.geteuid()}:
            raise _refused(name) from None
        return os.readlink(name, dir_fd=fd)
    if open_to_all and os.fstat(inner).st_uid not in {0, os.geteuid()}:
        os.close(inner)
        raise _refused(name)
    return inner


def _refused(name: str) -> OSError:
    return OSError(errno.EPERM, os.strerror(errno.EPERM), name)


def open_log(directory: int, name: str) -> int:
    """Open a log file for appending, create it if it is not there.

    Raises:
        OSError: It cannot be opened, or is refused (EPERM, see above).
    """
    fd = create(directory, name)
    if fd is not None:
        return fd
    fd = os.open(name, _WRITE, dir_fd=directory)
    try:
        _check(fd, directory, name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(fd: int, directory: int, name: str) -> None:
    found = os.fstat(fd)
    owners = {0, os.geteuid(), os.fstat(directory).st_uid}
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in owners:
        raise _refused(name)


def create(directory: int, name: str) -> int | None:
    """Create a file for writing; None if there is something of that name.

    Raises:
        OSError: It cannot be created.
    """
    try:
        fd = os.open(name, _WRITE | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=directory)
    except FileExistsError:
        return None
    os.fchmod(fd, FILE_MODE)  # whatever our umask is
    return fd


def open_to_read(directory: int, name: str) -> int:
    """Open a regular file for reading.

    Raises:
        OSError: It cannot be opened, or is refused.
    """
    fd = os.open(name, _READ, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _refused(name)
    return fd


def device_of(path: str) -> int | None:
    """Say on which file system a path is, or would be once it is made; None if nobody can say.

    Asks the disk, so it may block.
    """
    while True:
        try:
            return os.stat(path).st_dev
        except OSError:
            parent = os.path.dirname(path)
            if parent == path:
                return None
            path = parent
