"""Disks that hang or take nothing, readers that do not read: who is held up, what is lost.

Every byte that the writers send is found again: written, or counted, told and marked as dropped.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisord_pidfd.logwire import Counters, Slot
from tests.support import ctl
from tests.system.helpers import kill, python, sh

pytestmark = pytest.mark.once

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
RELAY = """
import os, pty, sys, tty
kind, board, fifo, *argv = sys.argv[1:]
if kind == "terminal":
    source, sink = pty.openpty()
    tty.setraw(sink)
elif kind == "fifo":
    os.mkfifo(fifo)
    source = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = os.open(fifo, os.O_WRONLY)
    os.set_blocking(source, True)
else:
    source, sink = os.pipe()
if not os.fork():
    if not os.fork():  # nobody's child, and least of all the daemon's
        os.setsid()
        os.dup2(source, 0)
        os.close(sink)
        with open(board, "w") as told:
            told.write(f"reader {os.getpid()}\\n")
        os.execvp("cat", ["cat"])
    os._exit(0)
os.wait()
os.dup2(sink, 1)
os.closerange(3, 20)
os.execvp(argv[0], argv)
"""
"""Executes a program whose standard output goes to ours through another process, and names it."""

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
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("no file system can be mounted here")
        self.path = home / "disk"
        self.path.mkdir()
        self._image = home / "image"
        with self._image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-F", self._image], check=True)
        self.is_frozen = False
        if not self._mount():
            pytest.skip("no file system can be mounted here")
        self.path.chmod(0o755)

    def _mount(self) -> bool:
        options = ["-o", "loop,errors=remount-ro"]
        mounted = subprocess.run(["mount", *options, self._image, self.path], check=False)
        if not mounted.returncode:
            self._fd = os.open(self.path, os.O_RDONLY)
        return not mounted.returncode

    def freeze(self) -> None:
        fcntl.ioctl(self._fd, FIFREEZE, 0)
        self.is_frozen = True

    def thaw(self) -> None:
        fcntl.ioctl(self._fd, FITHAW, 0)
        self.is_frozen = False

    def fail(self) -> None:
        """Find an error, as on a bad block: the file system is read-only from now on."""
        os.fsync(self._fd)
        for file in self.path.glob("*.log"):
            with file.open("rb") as opened:
                os.fsync(opened)
        device = os.fstat(self._fd).st_dev
        name = os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        Path("/sys/fs/ext4", os.path.basename(name), "trigger_fs_error").write_text("a test")

    def repair(self) -> None:
        """Check and mount it, as an operator would."""
        self._unmount()
        subprocess.run(["e2fsck", "-fp", self._image], check=False, capture_output=True)
        assert self._mount()

    def _unmount(self) -> None:
        os.close(self._fd)
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def close(self) -> None:
        if self.is_frozen:
            self.thaw()
        self._unmount()


@pytest.fixture
def disk(daemon, tmp_path):  # after the daemon: it is thawed before the daemon is ended
    it = Disk(tmp_path)
    yield it
    it.close()


def hangs(pid):
    """List the threads of a process that are in a sleep which no signal ends."""
    tasks = Path(f"/proc/{pid}/task")
    return [task for task in (tasks.iterdir() if tasks.exists() else ()) if _state(task) == "D"]


def _state(task):
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return "X"


def counters(process, slot):
    """Read a service's counters in a logger, of which this is the directory in /proc."""
    for fd in (process / "fd").iterdir():
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

    def __init__(self, daemon, board, where, config=""):
        self.daemon, self.board = daemon, board
        self.beside = daemon.home / "beside"
        path = 'log.path = "{}/{}.log"\n'
        parts = [config]
        for name, policy in POLICIES.items():
            file = 'log.to = ["file"]\n' + path.format(where, name)
            parts += [f"[service.{name}]\n{file}{policy}log.rotate_size = 0\n"]
            parts += [python(WRITER, name, str(board))]
        parts += [f'[service.other]\nlog.to = ["file"]\n{path.format(self.beside, "other")}']
        parts += [sh("echo run $SUPERVISORD_RUN; exec sleep 1000")]
        parts += ["backoff.delay = 0\nstart_limit.burst = 0\n"]
        daemon.start("".join(parts))
        self.pids = {
            name: daemon.wait_for("service.ready", name)["pid"] for name in (*POLICIES, "other")
        }
        self.logger = daemon.wait_for("service.spawned", ":logger")["pid"]
        self.process = Path(f"/proc/{self.logger}")
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
        """Check that all that a writer sent is there, or counted and marked; return the losses."""
        marks = [(int(lines), int(size)) for lines, size in MARK.findall(written)]
        kept = MARK.sub(b"", written)
        lost = len(SENT.splitlines()) - len(kept.splitlines()), len(SENT) - len(kept)
        told = [self.daemon.wait_for("log.dropped", name) for _ in marks]
        counted = counters(self.process, slot)
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
    blocked = {
        name: counters(scene.process, slot).blocked_us for slot, name in enumerate(POLICIES)
    }
    disk.thaw()
    assert daemon.wait_for("log.resumed", path=failed["path"])["blocked_s"] > 2
    scene.go_on()
    for name in POLICIES:
        until(has(disk.path / f"{name}.log", b"\nend\n"))
    lost = {
        name: scene.is_exact(name, slot, (disk.path / f"{name}.log").read_bytes())
        for slot, name in enumerate(POLICIES)
    }

    assert all(lines for lines, _ in lost.values())
    assert blocked["block"] >= 400_000
    assert max(during + after) < max(before) + 2
    assert daemon.stop() == 0


@pytest.mark.root
def test_a_rotation_on_a_frozen_disk_loses_nothing_if_the_service_waits(daemon, board, disk):
    config = (
        f'[service.it]\nlog.to = ["file"]\nlog.path = "{disk.path}/it.log"\n'
        'log.rotate_size = "50KB"\nlog.rotate_keep = 100\nlog.block_for = "1h"\n'
        f"{python(WRITER, 'it', board)}"
    )
    daemon.start(config)
    pid = daemon.wait_for("service.ready", "it")["pid"]
    logger = daemon.wait_for("service.spawned", ":logger")["pid"]
    until(has(disk.path / "it.log", b"begin\n"))
    kill(pid, signal.SIGUSR1)
    daemon.wait_for("log.rotated")
    disk.freeze()
    until(lambda: hangs(logger))
    assert ctl.pidfdctl(daemon.socket, "status", "it").returncode == 0
    disk.thaw()
    assert board.line(30) == "it has written"
    kill(pid, signal.SIGUSR1)
    until(has(disk.path / "it.log", b"end\n"))
    assert daemon.stop() == 0
    olds = sorted(disk.path.glob("it.log.*"), key=lambda path: -int(path.suffix[1:]))

    assert len(olds) > 10
    assert b"".join(path.read_bytes() for path in [*olds, disk.path / "it.log"]) == SENT
    assert daemon.told("log.dropped") == []


@pytest.mark.root
def test_the_daemons_own_events_go_on_elsewhere_while_their_file_is_frozen(daemon, disk):
    own = f'supervisor.log = {{ to = ["stdout", "file"], path = "{disk.path}/own.log" }}\n'
    daemon.start(f"{own}[service.web]\nbackoff.delay = 0\n{sh('exec sleep 1000')}")
    first = daemon.wait_for("service.ready", "web")
    logger = daemon.wait_for("service.spawned", ":logger")["pid"]
    until(has(disk.path / "own.log", b"service.ready"))
    disk.freeze()
    kill(first["pid"])
    again = daemon.wait_for("service.ready", "web", run=2)
    until(lambda: hangs(logger))
    kill(again["pid"])
    third = daemon.wait_for("service.ready", "web", run=3)
    assert third["took_s"] < 2
    assert ctl.pidfdctl(daemon.socket, "status").returncode == 0
    disk.thaw()
    assert daemon.stop() == 0
    written = [json.loads(line) for line in (disk.path / "own.log").read_text().splitlines()]

    assert written == daemon.events


@pytest.mark.root
def test_a_daemon_ends_in_time_though_its_logger_cannot(daemon, board, disk):
    own = f'supervisor.log = {{ to = ["stdout", "file"], path = "{disk.path}/own.log" }}\n'
    scene = Scene(daemon, board, disk.path, own)
    until(lambda: all(has(disk.path / f"{name}.log", b"begin\n")() for name in POLICIES))
    disk.freeze()
    scene.go_on()
    until(lambda: hangs(scene.logger))
    began = time.monotonic()
    assert daemon.stop() == 0

    assert time.monotonic() - began < 5
    assert daemon.told("daemon.stopped")[0]["left_alive"] == 0
    assert {one["service"] for one in daemon.told("service.stopped")} >= {*POLICIES, "other"}
    hanging, *_ = hangs(scene.logger)  # SIGKILL does not end it as long as the disk is frozen
    read = {name: counters(hanging, slot).stdout_bytes for slot, name in enumerate(POLICIES)}
    disk.thaw()
    until(lambda: not hangs(scene.logger))
    missing = 0
    for name in POLICIES:
        told = daemon.told("log.dropped", name) + unnumbered(daemon, name)
        assert all(one["lines"] > 0 and one["reason"] for one in told)
        written = len((disk.path / f"{name}.log").read_bytes())
        missing += read[name] - written - sum(one["bytes"] for one in told)
    assert 0 <= missing <= 64 << 10  # what was in the one write that hung


@pytest.mark.root
def test_a_logger_killed_while_it_hangs_is_followed_by_another(daemon, board, disk):
    scene = Scene(daemon, board, disk.path)
    until(lambda: all(has(disk.path / f"{name}.log", b"begin\n")() for name in POLICIES))
    disk.freeze()
    scene.go_on()
    until(lambda: hangs(scene.logger))
    kill(scene.logger)
    with daemon.client() as client:

        def is_running(run):
            other = next(
                one for one in client.call("Status")["services"] if one["name"] == "other"
            )
            scene.pids["other"] = other["pid"]
            return (other["run"], other["phase"]) == (run, "running")

        for run in (2, 3):  # nobody reads what they write, but they start, run and end
            kill(scene.pids["other"])
            until(lambda run=run: is_running(run))
    disk.thaw()
    daemon.wait_for("service.ready", ":logger", run=2)
    until(has(scene.beside / "other.log", b"run 3\n"))
    scene.all_have_written()
    scene.go_on()
    for name in POLICIES:
        until(has(disk.path / f"{name}.log", b"\nend\n"))
        written = (disk.path / f"{name}.log").read_bytes()
        marks = sum(int(size) for _, size in MARK.findall(written))
        kept = MARK.sub(b"", written)
        missing = len(SENT) - len(kept) - marks
        assert missing <= 64 << 10, name
    assert daemon.stop() == 0


# -- disks that take nothing ----------------------------------------------------------------------

FS_IOC_SETFLAGS, FS_IMMUTABLE_FL = 0x40086602, 0x10
"""See ioctl_iflags(2)."""


@contextlib.contextmanager
def read_only(disk):
    disk.fail()
    yield "EROFS"
    disk.repair()


@contextlib.contextmanager
def immutable(disk):
    with contextlib.ExitStack() as stack:
        files = [os.open(disk.path / f"{name}.log", os.O_RDONLY) for name in POLICIES]
        for fd in files:
            stack.callback(os.close, fd)
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL.to_bytes(8, "little"))
        yield "EPERM"
        for fd in files:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, bytes(8))


@pytest.mark.root
@pytest.mark.parametrize("trouble", [read_only, immutable])
def test_what_cannot_be_written_is_counted_and_writing_goes_on_by_itself(
    daemon, board, disk, trouble
):
    scene = Scene(daemon, board, disk.path)
    until(lambda: all(has(disk.path / f"{name}.log", b"begin\n")() for name in POLICIES))
    with trouble(disk) as error:
        scene.go_on()
        for name in POLICIES:
            failed = daemon.wait_for("log.write_failed", name)
            assert (failed["path"], failed["error"]) == (f"{disk.path}/{name}.log", error)
        scene.all_have_written()
        assert scene.restart() < 3
        scene.answers()
    for name in POLICIES:
        daemon.wait_for("log.resumed", name)
    scene.go_on()
    for slot, name in enumerate(POLICIES):
        until(has(disk.path / f"{name}.log", b"\nend\n"))
        lines, _ = scene.is_exact(name, slot, (disk.path / f"{name}.log").read_bytes())
        assert lines > 0
    assert daemon.stop() == 0


class Gone:
    """A directory of log files that is moved away, and removed; the files can still be read."""

    def __init__(self, where):
        self._files = {name: (where / f"{name}.log").open("rb") for name in POLICIES}
        where.rename(where.with_name("gone"))

    def remove(self, where):
        shutil.rmtree(where.with_name("gone"))

    def written(self, name, where):
        """Return what was written to the file that is gone, and to the one in its place."""
        with self._files[name] as old:
            return old.read() + (where / f"{name}.log").read_bytes()


def test_a_log_directory_that_was_removed_is_made_again(daemon, board, tmp_path):
    where = tmp_path / "log"
    scene = Scene(daemon, board, where)
    until(lambda: all(has(where / f"{name}.log", b"begin\n")() for name in POLICIES))
    old = Gone(where)
    scene.go_on()
    old.remove(where)
    scene.all_have_written()
    scene.go_on()
    for slot, name in enumerate(POLICIES):
        until(has(where / f"{name}.log", b"\nend\n"))
        assert daemon.wait_for("log.reopened", name)["files"] == 1
        assert scene.is_exact(name, slot, old.written(name, where)) == (0, 0)
    assert daemon.stop() == 0

    assert where.stat().st_mode & 0o777 == 0o750


def put_file(where):
    where.write_bytes(b"")
    return "ENOTDIR"


def put_link_of_somebody(where):
    elsewhere = where.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    where.symlink_to(elsewhere)
    os.chown(where, 65533, 65533, follow_symlinks=False)
    return "EPERM"


@pytest.mark.parametrize(
    "put", [put_file, pytest.param(put_link_of_somebody, marks=pytest.mark.root)]
)
def test_what_stands_in_the_place_of_a_log_directory_is_not_used(daemon, board, tmp_path, put):
    where = tmp_path / "log"
    scene = Scene(daemon, board, where)
    until(lambda: all(has(where / f"{name}.log", b"begin\n")() for name in POLICIES))
    old = Gone(where)
    error = put(where)
    old.remove(where)
    scene.go_on()
    scene.all_have_written()
    for name in POLICIES:
        assert daemon.wait_for("log.write_failed", name)["error"] == error
    assert scene.restart() < 3
    where.unlink()
    for name in POLICIES:
        daemon.wait_for("log.resumed", name)
    scene.go_on()
    for slot, name in enumerate(POLICIES):
        until(has(where / f"{name}.log", b"\nend\n"))
        assert scene.is_exact(name, slot, old.written(name, where))[0] > 0
    assert daemon.stop() == 0

    assert list(tmp_path.glob("elsewhere/*")) == []


# -- readers that do not read ---------------------------------------------------------------------


def unnumbered(daemon, name):
    """List the losses of a service on standard output of which the core does not tell."""
    losses = [json.loads(line) for line in daemon.output if '"event":"log.dropped"' in line]
    return [one for one in losses if one["service"] == name]


class Crowd:
    """A daemon whose writers share a standard output that goes through a process we can stop."""

    def __init__(self, daemon, board, kind):
        self.daemon, self.board = daemon, board
        shared = 'log.to = ["stdout"]\nlog.format = "json"\nlog.ring = "16KiB"\n'
        parts = ['supervisor.log.format = "json"\n']
        for name, policy in POLICIES.items():
            parts += [f"[service.{name}]\n{shared}{policy}{python(WRITER, name, str(board))}"]
        says = f"echo run $SUPERVISORD_RUN $$ > {board}; exec sleep 1000"
        parts += [f"[service.other]\nbackoff.delay = 0\nstart_limit.burst = 0\n{sh(says)}"]
        relay = [sys.executable, "-I", "-S", "-c", RELAY, kind, str(board), f"{daemon.home}/fifo"]
        daemon.start("".join(parts), prefix=relay)
        self.reader = board.pid()
        self.pids = {name: daemon.wait_for("service.ready", name)["pid"] for name in POLICIES}
        self.other = self._started(1)
        self.logger = daemon.wait_for("service.spawned", ":logger")["pid"]
        self.writing = set()

    def go_on(self):
        self.writing = set(POLICIES)
        for pid in self.pids.values():
            kill(pid, signal.SIGUSR1)

    def _started(self, run):
        while not (said := self.board.line(30)).startswith(f"run {run} "):
            self.writing.remove(said.split()[0])
        return int(said.split()[-1])

    def restart(self, run):
        began = time.monotonic()
        kill(self.other)
        self.other = self._started(run)
        return time.monotonic() - began

    def all_have_written(self):
        while self.writing:
            self.writing.remove(self.board.line(30).split()[0])

    def marks(self, name):
        """List the marks in the place of what a writer has lost.

        The core tells of them as well, with a number.
        """
        return unnumbered(self.daemon, name)

    def read_to_the_marks(self):
        """Read standard output until each writer has its mark, so that it takes all again."""
        deadline = time.monotonic() + 30
        while not all(self.marks(name) for name in POLICIES):
            assert self.daemon._read(deadline)

    def read_to_the_ends(self):
        """Read standard output until the last line of each writer has come."""
        deadline = time.monotonic() + 30
        ends = looked_at = 0
        while ends < len(POLICIES):
            assert self.daemon._read(deadline)
            ends += sum('"msg":"end"' in line for line in self.daemon.output[looked_at:])
            looked_at = len(self.daemon.output)
        return [json.loads(line) for line in self.daemon.output]


@pytest.mark.parametrize("kind", ["pipe", "fifo", "terminal"])
def test_a_standard_output_whose_reader_is_stopped_holds_up_who_is_to_wait(daemon, board, kind):
    crowd = Crowd(daemon, board, kind)
    until(lambda: len(ctl.pidfdctl(daemon.socket, "logs").stdout.splitlines()) == len(POLICIES))
    kill(crowd.reader, signal.SIGSTOP)
    try:
        crowd.go_on()
        assert max(crowd.restart(run) for run in (2, 3, 4)) < 3
        crowd.all_have_written()  # whoever is to wait has waited long enough
        for words in (["status"], ["logs", "block", "-n", "1"]):
            assert ctl.pidfdctl(daemon.socket, *words).returncode == 0
    finally:
        kill(crowd.reader, signal.SIGCONT)
    crowd.read_to_the_marks()
    crowd.go_on()
    lines = [line for line in crowd.read_to_the_ends() if "msg" in line]
    for slot, name in enumerate(POLICIES):
        kept = [line for line in lines if line["service"] == name]
        marks = crowd.marks(name)
        lost = len(SENT.splitlines()) - len(kept), len(SENT) - _size(kept)
        assert lost[0] > 0
        assert (sum(one["lines"] for one in marks), sum(one["bytes"] for one in marks)) == lost
        counted = counters(Path(f"/proc/{crowd.logger}"), slot)
        assert (counted.overflow_lines, counted.overflow_bytes) == lost
        seqs = [line["seq"] for line in kept]
        assert seqs == sorted(set(seqs))
    assert daemon.stop() == 0


def _size(lines):
    return sum(len(line["msg"]) + 1 for line in lines)
