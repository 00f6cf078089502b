"""A filesystem that never answers: whoever looks a name up in it hangs until SIGKILL.

It is mounted in a mount namespace of this process's own, so nobody else on the machine can step
into it; what is spawned meanwhile inherits the namespace. Closing /dev/fuse ends every wait.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_REC, MS_PRIVATE = 2, 16384, 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextmanager
def dead_filesystem(where: Path) -> Iterator[Path]:
    """Mount it at a directory, which is made; give everything back at the end."""
    directory = os.getcwd()
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    where.mkdir()
    _call("unshare", CLONE_NEWNS)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        _call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        path = os.fsencode(where)
        _call("mount", b"dead", path, b"fuse", ctypes.c_ulong(MS_NOSUID), options)
        try:
            yield where
        finally:
            os.close(fuse)  # first: taking the mount away may ask it for leave
            fuse = -1
            _call("umount2", path, MNT_DETACH)
    finally:
        if fuse >= 0:
            os.close(fuse)
        _call("setns", namespace, CLONE_NEWNS)
        os.close(namespace)
        os.chdir(directory)
