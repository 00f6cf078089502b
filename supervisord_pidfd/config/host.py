"""Facts of this host that a configuration leans on: accounts, programs, filesystems.

It runs in the config child, under its deadline. Where a path lies on a filesystem that may never
answer (NFS, FUSE, …), nothing is asked of it: /proc/self/mountinfo tells where mounts are, and
links are followed one by one, so that no look-up can hang. What could not be found out is left to
the child that starts the service.
"""

import errno
import fnmatch
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from typing import NamedTuple

from supervisord_pidfd.core.spec import Identity

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_LINKS = 40
MAX_PARTS = 100
MAX_INTERPRETERS = 4

LOCAL = frozenset({
    "bcachefs", "binfmt_misc", "btrfs", "cgroup", "cgroup2", "configfs", "cramfs", "debugfs",
    "devpts", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs",
    "hugetlbfs", "iso9660", "jfs", "mqueue", "msdos", "nilfs2", "ntfs3", "overlay", "proc",
    "pstore", "ramfs", "reiserfs", "rootfs", "securityfs", "squashfs", "sysfs", "tmpfs", "tracefs",
    "udf", "vfat", "xfs", "zfs",
})  # fmt: skip
"""Filesystem types whose answers come from this kernel alone; every other one may hang."""


class Found(NamedTuple):
    """Hold what was found of a program: its path, whether all is local, or what is wrong."""

    program: str | None
    fast: bool
    problem: str | None = None


# -- accounts -------------------------------------------------------------------------------------


class NoSuchAccountError(LookupError):
    """Say that there is no such user or group; the text is the subject: `user 'www'`."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} '{name}'")
        self.kind = kind
        self.name = name


class Accounts:
    """Look users and groups up, each name once."""

    def __init__(self) -> None:
        self._users: dict[str, pwd.struct_passwd | None] = {}
        self._groups: dict[str, int] = {}

    def identity(
        self, user: str | None, group: str | None, supplementary: tuple[str, ...] | None
    ) -> Identity:
        """Resolve whom a service runs as; what is not given is the daemon's, or the user's own.

        Raises:
            NoSuchAccountError: A name is unknown.
        """
        if user is None:
            groups = os.getgroups() if supplementary is None else map(self.gid, supplementary)
            gid = os.getgid() if group is None else self.gid(group)
            return Identity(os.getuid(), gid, tuple(groups))
        entry = self._user(user)
        others = tuple(map(self.gid, supplementary or ()))
        if entry is None:
            # A number without an account: nothing but itself, above all not root's group.
            return Identity(int(user), int(user) if group is None else self.gid(group), others)
        gid = entry.pw_gid if group is None else self.gid(group)
        if supplementary is None:
            others = tuple(sorted(os.getgrouplist(entry.pw_name, gid)))
        shell = entry.pw_shell or "/bin/sh"
        return Identity(entry.pw_uid, gid, others, entry.pw_name, entry.pw_dir, shell)

    def uid(self, user: str) -> int:
        """Return the number of a user.

        Raises:
            NoSuchAccountError: The name is unknown.
        """
        entry = self._user(user)
        return int(user) if entry is None else entry.pw_uid

    def gid(self, group: str) -> int:
        """Return the number of a group.

        Raises:
            NoSuchAccountError: The name is unknown.
        """
        if group not in self._groups:
            if _is_number(group):
                self._groups[group] = int(group)
            else:
                try:
                    self._groups[group] = grp.getgrnam(group).gr_gid
                except (KeyError, ValueError):
                    raise NoSuchAccountError("group", group) from None
        return self._groups[group]

    def _user(self, user: str) -> pwd.struct_passwd | None:
        if user not in self._users:
            by_number = _is_number(user)
            try:
                self._users[user] = pwd.getpwuid(int(user)) if by_number else pwd.getpwnam(user)
            except (KeyError, ValueError):
                if not by_number:
                    raise NoSuchAccountError("user", user) from None
                self._users[user] = None
        return self._users[user]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1


# -- filesystems ----------------------------------------------------------------------------------


def parse_mounts(mountinfo: str) -> dict[str, str]:
    """Map mount points to filesystem types; the last mount on a point is the one seen.

    Source: proc(5), /proc/PID/mountinfo; blanks in paths are octal escapes.
    """
    mounts = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if "-" in fields[6:] and len(fields) > fields.index("-", 6) + 1:
            point = fields[4]
            for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n")):
                point = point.replace(escape, character)
            mounts[point.replace("\\134", "\\")] = fields[fields.index("-", 6) + 1]
    return mounts


class Files:
    """Ask about files, but never on a filesystem that may not answer."""

    def __init__(self, mounts: Mapping[str, str], root_dir: str) -> None:
        """Know the mounts; relative paths start at `root_dir`."""
        self._foreign = {point for point, kind in mounts.items() if kind not in LOCAL}
        self._points = mounts
        self._start = root_dir
        self._directories: dict[str, str | None] = {}
        self._programs: dict[tuple[str, str, str | None], Found] = {}

    def is_local(self, path: str) -> bool:
        """Tell whether a path without links lies on a local filesystem."""
        while path not in self._points:
            if path == "/":
                return bool(self._points) and "/" not in self._foreign
            path = os.path.dirname(path)
        return path not in self._foreign

    def resolve(self, path: str) -> str | None:
        """Follow every link of a path; None where it leaves the local filesystems.

        Raises:
            OSError: ENOENT, ENOTDIR, ELOOP, …: there is no such file.
        """
        path = os.path.join(self._start, path)
        return self._walk(path, MAX_LINKS) if path.count("/") <= MAX_PARTS else None

    def _walk(self, path: str, links: int) -> str | None:
        parent, name = os.path.split(path.rstrip("/") or "/")
        if not name:
            return "/" if self.is_local("/") else None
        if parent not in self._directories:
            self._directories[parent] = self._walk(parent, links)
        above = self._directories[parent]
        if above is None:
            return None
        if name in {".", ".."}:
            return above if name == "." else os.path.dirname(above)
        here = os.path.join(above, name)
        if not self.is_local(here):
            return None
        if not stat.S_ISLNK(os.lstat(here).st_mode):
            return here
        if links == 0:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return self._walk(os.path.join(above, os.readlink(here)), links - 1)

    def program(self, name: str, path: str, directory: str | None) -> Found:
        """Find the program of a command, as the service's PATH and directory say."""
        key = (name, path, directory if "/" in name else None)
        if key not in self._programs:
            self._programs[key] = self._find(name, path, directory)
        return self._programs[key]

    def _find(self, name: str, path: str, directory: str | None) -> Found:
        if "/" in name:
            return self._judge(os.path.join(directory or self._start, name))
        first: Found | None = None
        for element in path.split(":"):
            if not element.startswith("/"):
                continue  # an empty or relative element means the present directory: never
            found = self._judge(os.path.join(element, name))
            if found.program:
                return found
            if found.problem is None:
                return Found(None, fast=False)  # on a filesystem we do not ask
            if first is None and not found.problem.startswith("ENOENT"):
                first = found
        return first or Found(None, fast=False, problem=f"ENOENT: not found in PATH ({path})")

    def _judge(self, path: str) -> Found:
        try:
            real = self.resolve(path)
            if real is None:
                return Found(None, fast=False)
            mode = os.lstat(real).st_mode
            if stat.S_ISDIR(mode):
                return Found(None, fast=False, problem="EISDIR: it is a directory")
            if not stat.S_ISREG(mode):
                return Found(None, fast=False, problem="EACCES: it is not a regular file")
            if not mode & 0o111 or not os.access(real, os.X_OK, effective_ids=True):
                return Found(None, fast=False, problem="EACCES: it is not executable")
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None) or errno.EINVAL
            name = errno.errorcode.get(number, "EIO")
            return Found(None, fast=False, problem=f"{name}: {os.strerror(number).lower()}")
        return Found(path, fast=self._interpreters_local(real))

    def _interpreters_local(self, path: str) -> bool:
        """Tell whether the `#!` interpreters of a program, too, lie on local filesystems."""
        for _ in range(MAX_INTERPRETERS):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                return False  # it may be executed but not read: we cannot know
            try:
                head = os.read(fd, 256)
            finally:
                os.close(fd)
            if not head.startswith(b"#!"):
                return True
            words = head[2:].split(b"\n", 1)[0].split()
            if not words or not words[0].startswith(b"/"):
                return False
            try:
                real = self.resolve(os.fsdecode(words[0]))
            except (OSError, ValueError):
                return False
            if real is None:
                return False
            path = real
        return False

    def is_directory(self, path: str) -> bool | None:
        """Tell whether a directory is there; None if it lies where we do not ask."""
        try:
            real = self.resolve(path)
            return None if real is None else stat.S_ISDIR(os.lstat(real).st_mode)
        except (OSError, ValueError):
            return False

    def takes_files(self, directory: str) -> bool:
        """Tell whether we may make files in a directory, or make it; yes where we do not ask."""
        while True:
            try:
                real = self.resolve(directory)
            except FileNotFoundError:
                directory = os.path.dirname(directory)
            except (OSError, ValueError):
                return False
            else:
                rights = os.W_OK | os.X_OK
                return real is None or (
                    os.path.isdir(real) and os.access(real, rights, effective_ids=True)
                )

    def readable(self, path: str) -> str | None:
        """Say why a file cannot be read (an errno name); None if it can, or was not asked."""
        try:
            real = self.resolve(path)
            if real is not None and not os.access(real, os.R_OK, effective_ids=True):
                return "EACCES"
        except (OSError, ValueError) as error:
            return errno.errorcode.get(getattr(error, "errno", None) or errno.EINVAL, "EIO")
        return None

    def lies_local(self, path: str) -> bool:
        """Tell whether there is such a file on a local filesystem."""
        try:
            return self.resolve(path) is not None
        except (OSError, ValueError):
            return False

    def may_hang(self, path: str) -> bool:
        """Tell whether reading a file means to ask a filesystem that may not answer."""
        try:
            return self.resolve(path) is None
        except (OSError, ValueError):
            return False


def passes(name: str, globs: tuple[str, ...]) -> bool:
    """Tell whether a variable of the daemon matches `inherit_environment`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)


def read_mounts(path: str = "/proc/self/mountinfo") -> dict[str, str]:
    """Read the mounts of this process; none if /proc is not there, and then nothing is local."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_mounts(file.read())
    except OSError:
        return {}
