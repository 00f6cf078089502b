"""Compile the C programs."""

import os
import subprocess
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))

_COMMON = ("-O2", "-Wall", "-Wextra")
_NO_LIBC = (
    *("-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie"),
    *("-fno-tree-loop-distribute-patterns", "-fno-asynchronous-unwind-tables"),
    "-Wl,--build-id=none",
)


class Programs(NamedTuple):
    """Paths of the compiled programs."""

    probe: str
    launch: str
    floor: str


class Pipes(NamedTuple):
    """Paths of the programs at the ends of a pipe.

    `writer` writes as fast as it can, `copy` is the least that reads it, `numbers` writes lines
    with numbers.
    """

    writer: str
    copy: str
    numbers: str


class CannotBuildError(Exception):
    """No compiler, or it failed; the benchmarks cannot run."""


def _compile(name: str, flags: tuple[str, ...], into: str) -> str:
    output = os.path.join(into, name)
    argv = (os.environ.get("CC", "cc"), *flags, "-o", output, os.path.join(HERE, f"{name}.c"))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuildError(f"cannot compile {name}.c: {error} (see setup.sh)") from error
    if done.returncode:
        raise CannotBuildError(f"cannot compile {name}.c: {done.stderr.strip()}")
    return output


def build(into: str) -> Programs:
    """Compile everything into one directory.

    Raises:
        CannotBuildError: With the compiler's words.
    """
    try:
        floor = _compile("floor", (*_COMMON, "-static"), into)
    except CannotBuildError:  # no static libc here: a dynamic floor starts about 0.4 ms later
        floor = _compile("floor", _COMMON, into)
    into = os.path.realpath(into)  # as /proc names them
    probe = _compile("probe", (*_COMMON, *_NO_LIBC), into)
    launch = _compile("launch", (*_COMMON, *_NO_LIBC), into)
    return Programs(probe, launch, floor)


def build_pipes(into: str) -> Pipes:
    """Compile what writes pipes, and the least that reads one.

    Raises:
        CannotBuildError: With the compiler's words.
    """
    return Pipes(*(_compile(name, _COMMON, into) for name in Pipes._fields))
