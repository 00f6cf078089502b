"""Give up root for good, and prove it: what gateway and checker do before they meet a stranger."""

import os
import pwd

from supervisord_pidfd import sysabi
from supervisord_pidfd.errors import StartupError

USER = "supervisord-pidfd"
UID = 65532
"""Whom gateway and checker run as where there is no such user."""

OVERFLOW_UID = 65534
"""Stands for every user that this namespace does not know (user_namespaces(7))."""


def identity(user: str | None) -> tuple[int, int]:
    """Look up whom a helper without privileges runs as: user and group number.

    Raises:
        StartupError: There is no such user, or it is one that cannot be told apart.
    """
    uid, gid = _look_up(user)
    if OVERFLOW_UID in (uid, gid):
        raise StartupError(f"cannot run as {user!r}: {OVERFLOW_UID} stands for unknown users")
    return uid, gid


def _look_up(user: str | None) -> tuple[int, int]:
    try:
        if user is not None and user.isascii() and user.isdigit():
            found = pwd.getpwuid(int(user))
        else:
            found = pwd.getpwnam(USER if user is None else user)
    except (KeyError, OverflowError) as error:
        if user is None:
            return UID, UID
        if user.isascii() and user.isdigit() and int(user) < 2**32 - 1:
            return int(user), int(user)
        raise StartupError(f"cannot run as {user!r}: no such user") from error
    return found.pw_uid, found.pw_gid


def drop(user: str | None) -> None:
    """Become an ordinary user, with no way back; without root only the way up is closed.

    Raises:
        StartupError: It did not work; the caller must not go on.
    """
    try:
        if os.geteuid() == 0:
            uid, gid = identity(user)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or os.getgroups():
                raise StartupError("cannot drop privileges: the kernel kept some")
        sysabi.set_no_new_privs()
    except OSError as error:
        raise StartupError(f"cannot drop privileges: {error}") from error
