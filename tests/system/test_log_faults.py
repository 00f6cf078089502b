"""Disks that hang, go away or take nothing, and readers that do not read: who is held up, and what is lost."""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from supervisord_pidfd.logwire import Counters, Slot
from tests.support import ctl
from tests.system.helpers import kill, python, sh

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""See ioctl_fsfreeze(2): writers wait, uninterruptibly, until the file system is thawed."""

LINES = 20_000
WRITER = f"""
import os, signal, sys
name, board = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
board = os.open(board, os.O_WRONLY)
def say(text):
    os.write(board, text.encode())
def write(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
write(b"begin\\n")
while signal.sigwait([signal.SIGUSR1]):
    for at in range(0, {LINES}, 500):
        write(b"".join(b"%d %s\\n" % (n, b"x" * (n % 100)) for n in range(at, at + 500)))
    say(name + " has written\\n")
    signal.sigwait([signal.SIGUSR1])
    write(b"end\\n")
"""
SENT = b"begin\n" + b"".join(b"%d %s\n" % (n, b"x" * (n % 100)) for n in range(LINES)) + b"end\n"
POLICIES = {
    "block": 'log.overflow = "block"\nlog.block_for = "500ms"\n',
    "drop": 'log.overflow = "drop"\n',
    "newest": 'log.overflow = "drop_newest"\n',
}
MARK = re.compile(rb"-- (\d+) lines \((\d+) bytes\) dropped: \w+, [0-9:]+ to [0-9:]+ --\n")


def until(condition, timeout=20):
    """Wait until something holds of which nobody tells."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


def has(path, text):
    return lambda: path.exists() and text in path.read_bytes()


class Disk:
    """A small file system of its own. Owns the mount."""

    def __init__(self, home: Path) -> None:
        self.path = home / "disk"
        self.path.mkdir()
        image = home / "image"
        with image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        mounted = subprocess.run(["mount", "-o", "loop", image, self.path], check=False)
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        self.path.chmod(0o755)
        self._fd = os.open(self.path, os.O_RDONLY)
        self.is_frozen = False

    def freeze(self) -> None:
        fcntl.ioctl(self._fd, FIFREEZE, 0)
        self.is_frozen = True

    def thaw(self) -> None:
        fcntl.ioctl(self._fd, FITHAW, 0)
        self.is_frozen = False

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)

    def close(self) -> None:
        if self.is_frozen:
            self.thaw()
        os.close(self._fd)
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def disk(daemon, tmp_path):  # after the daemon: it is thawed before the daemon is ended
    it = Disk(tmp_path)
    yield it
    it.close()


def hangs(pid):
    """Tell whether a thread of a process is in a sleep that no signal ends."""
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "stat").read_text().rpartition(")")[2].split()[0] == "D":
                return True
    return False


def counters(pid, slot):
    """Read the counters that a logger keeps of a service."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if "supervisord-pidfd-log" in os.readlink(fd):
            opened = os.open(fd, os.O_RDONLY)
            memory = Counters(opened, may_write=False)
            found = memory.read(slot)
            memory.close()
            os.close(opened)
            return found
    return Slot()


class Scene:
    """A daemon with a writer for each policy, and one service beside them."""

    def __init__(self, daemon, board, where, config="", to='log.to = ["file"]\n', args=()):
        self.daemon, self.board = daemon, board
        self.beside = daemon.home / "beside"
        path = 'log.path = "{}/{}.log"\n'
        parts = [config]
        for name, policy in POLICIES.items():
            file = path.format(where, name) if where else ""
            parts += [f"[service.{name}]\n{to}{file}{policy}log.rotate_size = 0\n"]
            parts += [python(WRITER, name, str(board))]
        parts += [f'[service.other]\nlog.to = ["file"]\n{path.format(self.beside, "other")}']
        parts += [sh("echo run $SUPERVISORD_RUN; exec sleep 1000")]
        parts += ["backoff.delay = 0\nstart_limit.burst = 0\n"]
        daemon.start("".join(parts), *args)
        self.pids = {
            name: daemon.wait_for("service.ready", name)["pid"] for name in (*POLICIES, "other")
        }
        self.logger = daemon.wait_for("service.spawned", ":logger")["pid"]
        self.run = 1
        until(has(self.beside / "other.log", b"run 1\n"))

    def go_on(self):
        """Have the writers do what they do next."""
        for name in POLICIES:
            kill(self.pids[name], signal.SIGUSR1)

    def all_have_written(self):
        assert sorted(self.board.line(30) for _ in POLICIES) == [
            f"{name} has written" for name in sorted(POLICIES)
        ]

    def restart(self):
        """Kill the service beside the writers; return how long its next run took to be logged."""
        began = time.monotonic()
        self.run += 1
        kill(self.pids["other"])
        again = self.daemon.wait_for("service.ready", "other", run=self.run)
        self.pids["other"] = again["pid"]
        until(has(self.beside / "other.log", b"run %d\n" % self.run))
        return time.monotonic() - began

    def answers(self):
        """Ask the daemon for its state, and the logger for lines."""
        for words in (["status"], ["logs", "block", "-n", "1"]):
            began = time.monotonic()
            ran = ctl.pidfdctl(self.daemon.socket, *words)
            assert ran.returncode == 0, ran
            assert time.monotonic() - began < 5

    def is_exact(self, name, slot, written):
        """Check that all that a writer sent is there, or counted and marked."""
        marks = [(int(lines), int(size)) for lines, size in MARK.findall(written)]
        kept = MARK.sub(b"", written)
        lost = len(SENT.splitlines()) - len(kept.splitlines()), len(SENT) - len(kept)
        told = [self.daemon.wait_for("log.dropped", name) for _ in marks]
        counted = counters(self.logger, slot)
        assert sum(one["lines"] for one in told) == lost[0]
        assert sum(one["bytes"] for one in told) == lost[1]
        assert [(one["lines"], one["bytes"]) for one in told] == marks
        assert counted.overflow_lines + counted.write_error_lines == lost[0]
        assert counted.overflow_bytes + counted.write_error_bytes == lost[1]
        assert counted.stdout_bytes == len(SENT)
        whole = iter(SENT.splitlines())
        assert all(line in whole for line in kept.splitlines())  # in their order, none twice
        return lost


@pytest.mark.root
def test_a_frozen_disk_holds_up_who_writes_there_and_nobody_else(daemon, board, disk):
    scene = Scene(daemon, board, disk.path)
    until(lambda: all(has(disk.path / f"{name}.log", b"begin\n")() for name in POLICIES))
    before = [scene.restart() for _ in range(3)]
    disk.freeze()
    scene.go_on()
    until(lambda: hangs(scene.logger))
    during = [scene.restart() for _ in range(3)]
    scene.answers()
    failed = daemon.wait_for("log.write_failed")
    assert (Path(failed["path"]).parent, failed["error"]) == (disk.path, "ETIMEDOUT")
    scene.all_have_written()  # whoever is to wait has waited long enough
    scene.answers()
    after = [scene.restart() for _ in range(3)]
    assert hangs(scene.logger)
    blocked = {name: counters(scene.logger, slot).blocked_us for slot, name in enumerate(POLICIES)}
    disk.thaw()
    assert daemon.wait_for("log.resumed", path=failed["path"])["blocked_s"] > 2
    scene.go_on()
    for name in POLICIES:
        until(has(disk.path / f"{name}.log", b"\nend\n"))
    lost = {
        name: scene.is_exact(name, slot, (disk.path / f"{name}.log").read_bytes())
        for slot, name in enumerate(POLICIES)
    }
    print(before, during, after, lost, blocked)  # noqa: T201

    assert all(lines for lines, _ in lost.values())
    assert blocked["block"] >= 400_000
    assert max(during + after) < max(before) + 2
    assert daemon.stop() == 0
