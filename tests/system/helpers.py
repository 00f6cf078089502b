"""What the system tests share: programs as text, a board they announce themselves on, /proc."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SLEEPER = ["sleep", "1000"]
HOUR = 3600


# -- configuration --------------------------------------------------------------------------------


def command(*argv: str | Path) -> str:
    """Give a line `command = […]`; nothing in the words is filled in."""
    return f"command = {json.dumps([str(word).replace('$', '$$') for word in argv])}\n"


def sh(script: str) -> str:
    """Give the line of a shell script as command."""
    return command("/bin/sh", "-c", script)


def python(program: str, *argv: str | Path) -> str:
    """Give the line of a Python program as command."""
    return command(sys.executable, "-I", "-S", "-c", program, *argv)


def reaping(mode: str) -> tuple[str, str]:
    """Give the words that choose how exits are seen."""
    return ("--set", f"supervisor.reaper={mode}")


# -- processes ------------------------------------------------------------------------------------


class Board:
    """A FIFO on which programs announce themselves, one line each. Owns the descriptor."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        path.chmod(0o666)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._text = b""

    def __str__(self) -> str:
        return str(self.path)

    def line(self, timeout: float = 10) -> str:
        """Wait for the next line."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._text:
            left = deadline - time.monotonic()
            assert left > 0, f"nothing more on the board within {timeout} s: {self._text!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._text += os.read(self._fd, 65536)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def pid(self, timeout: float = 10) -> int:
        """Wait for the next line, which ends in a pid."""
        return int(self.line(timeout).split()[-1])

    def is_empty(self) -> bool:
        """Tell whether nothing was said that was not read."""
        return not self._text and not select.select([self._fd], [], [], 0)[0]

    def close(self) -> None:
        os.close(self._fd)


def alive(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    try:
        return status(pid)["State"][0] not in "ZX"
    except OSError:
        return False


def gone(pid: int, timeout: float = 10) -> bool:
    """Wait for the end of a process that is not ours."""
    deadline = time.monotonic() + timeout
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # pidfds are forbidden here: ask now and then
        while alive(pid) and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        return not alive(pid)
    try:
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def status(pid: int) -> dict[str, str]:
    """Read /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> dict[int, str]:
    """List a process's descriptors and what each stands for."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def executed(pid: int, timeout: float = 10) -> int:
    """Wait until a service's program is all there; its parent goes on a little earlier (vfork)."""
    deadline = time.monotonic() + timeout
    while not Path(f"/proc/{pid}/environ").read_bytes():
        assert time.monotonic() < deadline, f"{pid} has no environment"
        select.select([], [], [], 0.002)
    return pid


def environ(pid: int) -> dict[str, str]:
    """Read the environment a service was started with."""
    text = Path(f"/proc/{executed(pid)}/environ").read_bytes().decode()
    return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Signal a process that lives as long as nobody else signals it."""
    os.kill(pid, signum)


def switches(pid: int) -> int:
    """Count how often a process went to sleep by itself, all its threads together."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        total += sum(int(x.split()[1]) for x in lines if x.startswith("voluntary_ctxt_switches"))
    return total


@contextlib.contextmanager
def reaped(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process of ours for certain, and close its pipes."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
