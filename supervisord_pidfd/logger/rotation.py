"""When a log file has had enough, and what becomes of those before it.

NAME.1 is the newest of the old ones. To rotate is to move each up by one, from the highest down to
the first gap, then NAME to NAME.1, then to create NAME. Nothing is ever renamed over something
else, so a crash after any of these steps leaves all of them, in order: perhaps with a gap, at
which the next rotation stops, or without NAME, which the next open creates.
"""

import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from supervisord_pidfd.core.spec import LogSpec

PACKED = ".gz"


class Rotation(NamedTuple):
    """Hold the limits: bytes of a file, old files, bytes of all, and times; 0 is no limit.

    `every` is seconds, counted from the beginning of Unix time, so that it means the same to each
    logger; `at` is `hourly` or `daily`, by local time. `keep` 0 keeps no old file.
    """

    size: int = 0
    keep: int = 10
    total: int = 0
    every: float = 0.0
    at: str = ""
    compress: bool = False

    @classmethod
    def of(cls, spec: LogSpec) -> "Rotation":
        """Take them from what a service's output becomes."""
        return cls(
            spec.rotate_size,
            spec.rotate_keep,
            spec.rotate_total,
            spec.rotate_every,
            spec.rotate_at,
            spec.compress,
        )


class Old(NamedTuple):
    """Name an old file: the first is the newest."""

    number: int
    suffix: str

    def name(self, base: str) -> str:
        """Say what it is called."""
        return f"{base}.{self.number}{self.suffix}"

    def moved(self) -> "Old":
        """Say what it will be once another one comes."""
        return Old(self.number + 1, self.suffix)


def period_of(rotation: Rotation, wall: float) -> tuple[int, ...]:
    """Say in which period a moment is (Unix seconds): the greater, the later."""
    if rotation.every > 0:
        return (int(wall // rotation.every),)
    if rotation.at:
        local = time.localtime(wall)
        day = (local.tm_year, local.tm_yday)
        return (*day, local.tm_hour) if rotation.at == "hourly" else day
    return ()


def olds(names: Iterable[str], base: str) -> list[Old]:
    """Find the old files among the names of a directory, the newest first."""
    pattern = re.compile(re.escape(base) + r"\.([1-9][0-9]{0,8})(|\.gz)", re.ASCII)
    found = (pattern.fullmatch(name) for name in names if name.startswith(base))
    return sorted(Old(int(match[1]), match[2]) for match in found if match)


def moves(found: list[Old]) -> list[Old]:
    """Say which must move up by one, in this order, for NAME.1 to be free."""
    upto = 0
    for old in found:
        if old.number > upto + 1:
            break
        upto = old.number
    return [old for old in reversed(found) if old.number <= upto]


def surplus(found: list[tuple[Old, int]], rotation: Rotation, current: int) -> list[Old]:
    """Say which old files are too many, by number or by bytes (given with each), oldest first."""
    gone = []
    total = current
    for old, size in found:
        total += size
        if old.number > rotation.keep or (rotation.total and total > rotation.total):
            gone.append(old)
    return gone[::-1]


def rotate(directory: int, base: str, keep: int) -> None:
    """Make room for a new NAME: nothing of that name is there afterwards.

    Raises:
        OSError: A step failed. What was done is in order, and done again from there.
    """
    found = settle(directory, base)
    for old in [old for old in found if old.number >= max(keep, 1)][::-1]:
        os.unlink(old.name(base), dir_fd=directory)
        found.remove(old)
    for old in moves(found):
        _rename(directory, old.name(base), old.moved().name(base))
    _rename(directory, base, Old(1, "").name(base))


def _rename(directory: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)


def settle(directory: int, base: str) -> list[Old]:
    """Find the old files, having finished what was interrupted: packed, but not removed.

    Raises:
        OSError: The directory cannot be read, or not changed.
    """
    found = olds(os.listdir(directory), base)
    packed = {old.number for old in found if old.suffix}
    for old in [old for old in found if old.number in packed and not old.suffix]:
        os.unlink(old.name(base), dir_fd=directory)
        found.remove(old)
    return found


def trim(directory: int, base: str, rotation: Rotation, current: int) -> None:
    """Remove the old files that are too many.

    Raises:
        OSError: One cannot be removed.
    """
    found = []
    for old in olds(os.listdir(directory), base):
        size = os.stat(old.name(base), dir_fd=directory, follow_symlinks=False).st_size
        found.append((old, size))
    for old in surplus(found, rotation, current):
        os.unlink(old.name(base), dir_fd=directory)


def free_some(directory: int, base: str, keep: int) -> bool:
    """Remove the oldest file for the sake of the newest lines; never more than half of them.

    Raises:
        OSError: It cannot be removed.
    """
    found = olds(os.listdir(directory), base)
    if not found or found[-1].number <= (keep + 1) // 2:
        return False
    os.unlink(found[-1].name(base), dir_fd=directory)
    return True
