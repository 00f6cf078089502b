"""Every function of sysabi against real processes."""

import errno
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisord_pidfd import sysabi
from tests.support import seccomp

ROOT = Path(sysabi.__file__).parents[1]
SECCOMP = Path(seccomp.__file__)
DEADLINE_S = 20

IGNORED = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
TERMINATING = sorted(signal.valid_signals() - IGNORED - STOPPING)

pidfd_only = pytest.mark.pidfd
needs_filters = pytest.mark.skipif(
    not seccomp.supported(), reason="no seccomp filters for this machine"
)


class Child:
    """A forked process; its handles are given up by `close`."""

    def __init__(self, body):
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = body() or 0
            finally:
                os._exit(code)

    def open(self):
        self.pidfd = sysabi.pidfd_open(self.pid)
        return self.pidfd

    def wait_for_end(self):
        wait_readable(self.pidfd)

    def close(self):
        if hasattr(self, "pidfd"):
            os.close(self.pidfd)
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def fork():
    children = []

    def start(body):
        children.append(child := Child(body))
        return child

    yield start
    for child in children:
        child.close()


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        if fd is not None:
            os.close(fd)


def wait_readable(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(DEADLINE_S * 1000), "nothing happened within the deadline"


def wait_zombie(pid):
    """Wait until a child has ended, by the one call that blocks; the child is sure to end."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def sleep_for_ever():
    while True:
        signal.pause()


def run(program, *, rules=None, expect=0):
    filtered = [sys.executable, str(SECCOMP), rules, "--"] if rules else []
    done = subprocess.run(
        [*filtered, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


# -- exit codes and signals -----------------------------------------------------------------------


@pidfd_only
@pytest.mark.slow
def test_all_exit_codes_are_reported_exactly(fork):
    found = []
    for code in range(256):
        child = fork(lambda code=code: code)
        pidfd = child.open()
        child.wait_for_end()
        found.append((child.pid, sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)[:3]))

    assert [ended for _, ended in found] == [(pid, 1, code) for code, (pid, _) in enumerate(found)]


@pytest.mark.slow
def test_all_exit_codes_are_reported_exactly_by_pid(fork):
    for code in range(0, 256, 5):
        child = fork(lambda code=code: code)
        wait_zombie(child.pid)

        assert sysabi.waitid_nohang(sysabi.P_PID, child.pid)[:3] == (child.pid, 1, code)


@pidfd_only
@pytest.mark.parametrize("signum", TERMINATING)
def test_every_terminating_signal_is_reported_exactly(fork, pipe, signum):
    def body():
        sysabi.set_dumpable(False)
        if signum != signal.SIGKILL:
            signal.signal(signum, signal.SIG_DFL)
        os.write(pipe[1], b"ready")
        sleep_for_ever()

    child = fork(body)
    pidfd = child.open()
    wait_readable(pipe[0])
    sysabi.pidfd_send_signal(pidfd, signum)
    child.wait_for_end()

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)[:3] == (child.pid, 2, signum)


@pidfd_only
def test_a_core_dump_is_told_apart(fork, tmp_path):
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("core files go to a program here")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("the hard limit forbids core files")

    def body():
        os.chdir(tmp_path)
        sysabi.set_dumpable(True)  # a test before may have changed the user and back
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    child = fork(body)
    pidfd = child.open()
    child.wait_for_end()

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)[1:3] == (sysabi.CLD_DUMPED, signal.SIGSEGV)


# -- waiting --------------------------------------------------------------------------------------


@pidfd_only
def test_a_running_child_has_not_ended(fork):
    child = fork(sleep_for_ever)
    pidfd = child.open()

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd) is None
    assert sysabi.waitid_nohang(sysabi.P_PID, child.pid) is None
    assert sysabi.waitid_nohang(sysabi.P_ALL, 0) is None
    assert sysabi.peek_any() is None


@pidfd_only
def test_a_stopped_child_has_not_ended(fork):
    child = fork(sleep_for_ever)
    pidfd = child.open()
    sysabi.pidfd_send_signal(pidfd, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd) is None
    assert sysabi.peek_any() is None


def test_usage_equals_what_wait4_returns_for_the_same_child(fork):
    def burn():
        block = bytearray(20 << 20)
        while sum(os.times()[:2]) < 0.05:
            block[::4096] = block[::4096]
            os.stat("/")

    child = fork(burn)
    wait_zombie(child.pid)
    first = sysabi.waitid_nohang(sysabi.P_PID, child.pid, keep=True)
    again = sysabi.waitid_nohang(sysabi.P_PID, child.pid, keep=True)
    _, status, usage = os.wait4(child.pid, 0)

    assert first == again
    assert (first.code, first.status) == (sysabi.CLD_EXITED, os.WEXITSTATUS(status))
    assert first[3:] == (usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)
    assert first.user_s + first.system_s >= 0.05


@pidfd_only
def test_usage_is_the_same_by_pidfd_and_by_pid(fork):
    child = fork(lambda: sum(range(200_000)) and 0)
    pidfd = child.open()
    child.wait_for_end()

    by_pid = sysabi.waitid_nohang(sysabi.P_PID, child.pid, keep=True)

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd, keep=True) == by_pid
    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd) == by_pid


@pidfd_only
def test_a_reaped_child_is_no_child(fork):
    child = fork(lambda: 0)
    pidfd = child.open()
    child.wait_for_end()
    sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)

    with pytest.raises(ChildProcessError):
        sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)
    with pytest.raises(ChildProcessError):
        sysabi.waitid_nohang(sysabi.P_PID, child.pid)
    with pytest.raises(ProcessLookupError):
        sysabi.pidfd_send_signal(pidfd, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        sysabi.pidfd_open(child.pid)


@pidfd_only
def test_a_zombie_takes_signals_silently(fork):
    child = fork(lambda: 7)
    pidfd = child.open()
    child.wait_for_end()

    sysabi.pidfd_send_signal(pidfd, signal.SIGTERM)

    assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)[1:3] == (sysabi.CLD_EXITED, 7)


@pidfd_only
def test_ourselves_are_not_our_child():
    pidfd = sysabi.pidfd_open(os.getpid())
    try:
        with pytest.raises(ChildProcessError):
            sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)
    finally:
        os.close(pidfd)


@pidfd_only
@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda fd: sysabi.waitid_nohang(sysabi.P_PIDFD, fd), errno.EBADF),
        (lambda fd: sysabi.pidfd_send_signal(fd, 0), errno.EBADF),
        (lambda _: sysabi.waitid_nohang(sysabi.P_PIDFD, -1), errno.EINVAL),
        (lambda _: sysabi.waitid_nohang(99, 1), errno.EINVAL),
        (lambda _: sysabi.pidfd_open(-1), errno.EINVAL),
        (lambda _: sysabi.pidfd_inode(-1), errno.EBADF),
        (lambda _: sysabi.pidfd_exit_info(1 << 20), errno.EBADF),
        (lambda _: sysabi.close_range(9, 3), errno.EINVAL),
    ],
)
def test_what_the_kernel_refuses_is_raised_as_its_errno(pipe, call, number):
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call(pipe[0])

    assert caught.value.errno == number


@pidfd_only
def test_a_pidfd_is_not_inherited_by_programs(fork):
    pidfd = fork(sleep_for_ever).open()

    assert not os.get_inheritable(pidfd)


def test_peek_shows_the_first_born_zombie_until_it_is_reaped(fork):
    first, second = fork(lambda: 1), fork(lambda: 2)
    wait_zombie(second.pid)
    wait_zombie(first.pid)

    assert [sysabi.peek_any(), sysabi.peek_any()] == [first.pid, first.pid]
    assert sysabi.waitid_nohang(sysabi.P_PID, first.pid).status == 1
    assert sysabi.peek_any() == second.pid
    assert sysabi.waitid_nohang(sysabi.P_ALL, 0).status == 2
    assert sysabi.peek_any() is None


def test_nothing_is_lost_while_signals_storm(fork):
    caught = []
    previous = signal.signal(signal.SIGALRM, lambda *_: caught.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        child = fork(sleep_for_ever)
        while len(caught) < 200:
            assert sysabi.waitid_nohang(sysabi.P_PID, child.pid) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.slow
def test_eintr_is_retried():
    strace = shutil.which("strace")
    program = """
import os
from supervisord_pidfd import sysabi
pid = os.fork()
if pid == 0:
    os._exit(5)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
for _ in range(10):
    assert sysabi.waitid_nohang(sysabi.P_PID, pid, keep=True).status == 5
assert sysabi.peek_any() == pid
print(sysabi.waitid_nohang(sysabi.P_PID, pid).status)
"""
    command = [strace or "", "-f", "-qq", "-o", "/dev/null", "-e", "trace=waitid"]
    if strace is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("strace cannot trace here")

    done = subprocess.run(
        [*command, "-e", "inject=waitid:error=EINTR:when=1+2", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


# -- groups, inodes, exit status of other people's children ---------------------------------------


@pytest.fixture
def subreaper():
    try:
        sysabi.set_child_subreaper(True)
    except OSError:
        pytest.skip("cannot become a subreaper here")
    yield
    sysabi.set_child_subreaper(False)


def features():
    found = sysabi.probe(DEADLINE_S)
    assert found.pidfd, found
    return found


@pidfd_only
@pytest.mark.parametrize("leader", ["alive", "zombie", "reaped"])
def test_a_group_is_signalled_through_its_leaders_pidfd(fork, pipe, subreaper, leader):
    if not features().group_signal:
        pytest.skip("the kernel lacks PIDFD_SIGNAL_PROCESS_GROUP (6.9)")

    def body():
        os.setsid()
        if member := os.fork():
            os.write(pipe[1], b"%d\n" % member)
            if leader != "alive":
                os._exit(0)
        sleep_for_ever()

    child = fork(body)
    pidfd = child.open()
    wait_readable(pipe[0])
    member = int(os.read(pipe[0], 100))
    member_fd = sysabi.pidfd_open(member)
    try:
        if leader != "alive":
            child.wait_for_end()
        if leader == "reaped":
            sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)
        sysabi.pidfd_send_signal(pidfd, signal.SIGTERM, sysabi.PIDFD_SIGNAL_PROCESS_GROUP)
        child.wait_for_end()
        wait_readable(member_fd)
        if leader != "reaped":
            sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)

        # its parent is gone: as a subreaper we inherit it, and the sweep finds it
        assert sysabi.peek_any() == member
        assert sysabi.waitid_nohang(sysabi.P_PIDFD, member_fd)[1:3] == (2, signal.SIGTERM)
    finally:
        os.close(member_fd)


@pidfd_only
def test_inodes_are_of_the_process_where_pidfs_is_reported(fork):
    first, again = fork(sleep_for_ever), sysabi.pidfd_open(os.getpid())
    try:
        inodes = (sysabi.pidfd_inode(first.open()), sysabi.pidfd_inode(again))
    finally:
        os.close(again)

    assert (inodes[0] != inodes[1]) is features().pidfs


@pidfd_only
@pytest.mark.parametrize("ending", [0, 1, 42, 255, -signal.SIGTERM, -signal.SIGKILL])
def test_the_status_is_known_after_somebody_else_reaped(fork, ending):
    if not features().exit_info:
        pytest.skip("the kernel lacks PIDFD_INFO_EXIT (6.15)")
    child = fork(sleep_for_ever if ending < 0 else lambda: ending)
    pidfd = child.open()
    if ending < 0:
        sysabi.pidfd_send_signal(pidfd, -ending)
    child.wait_for_end()
    before = sysabi.pidfd_exit_info(pidfd)
    os.waitpid(child.pid, 0)

    assert before is None
    expected = (sysabi.CLD_KILLED, -ending) if ending < 0 else (sysabi.CLD_EXITED, ending)
    assert sysabi.pidfd_exit_info(pidfd)[1:3] == expected


@pidfd_only
def test_a_descriptor_that_is_no_pidfd_has_no_exit_status(pipe):
    assert sysabi.pidfd_exit_info(pipe[0]) is None


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 128 << 20], ids=["plainly", "from a larger program"])
def test_the_floor_of_a_childs_memory_is_this_programs_own(before):
    """The mark of whoever executed us hides ours in getrusage(2), and no child inherits it."""
    tell = "from supervisord_pidfd import sysabi; print(sysabi.peak_rss_bytes())"
    again = f"os.execv(sys.executable, ['python', '-c', {tell!r}])"
    grow = f"import os, sys; bytearray({before}); {again}"
    told = subprocess.run([sys.executable, "-c", grow], capture_output=True, check=True, text=True)

    assert 4 << 20 < int(told.stdout) < 64 << 20


# -- prctl ----------------------------------------------------------------------------------------


def test_no_new_privs_holds(fork, pipe):
    def body():
        sysabi.set_no_new_privs()
        status = Path("/proc/self/status").read_text()
        os.write(pipe[1], b"%d" % ("NoNewPrivs:\t1\n" in status))

    fork(body)
    wait_readable(pipe[0])

    assert os.read(pipe[0], 10) == b"1"


def test_a_child_dies_with_its_parent(fork, pipe):
    def grandchild(parent):
        sysabi.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            os.write(pipe[1], b"ready")
            sleep_for_ever()
        os._exit(0)

    def body():
        if not os.fork():
            grandchild(os.getppid())
        sleep_for_ever()

    child = fork(body)
    wait_readable(pipe[0])
    os.read(pipe[0], 100)
    os.close(pipe[1])
    pipe[1] = None
    os.kill(child.pid, signal.SIGKILL)
    wait_readable(pipe[0])

    assert os.read(pipe[0], 100) == b""  # the last writer has gone


# -- descriptors ----------------------------------------------------------------------------------

CLOSE_RANGE = """
import os, sys
from supervisord_pidfd import sysabi
{before}
for fd in range(50, 61):
    os.dup2(0, fd)
sysabi.close_range(53, 55)
sysabi.close_range(58, 0xFFFFFFFF)
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print(*filter(is_open, range(50, 70)))
"""
WITHOUT_PROC = """
def refuse(path):
    raise FileNotFoundError(path)
os.listdir = refuse
"""


@pytest.mark.parametrize(
    ("rules", "before"),
    [
        (None, ""),
        pytest.param("close_range=ENOSYS", "", marks=needs_filters),
        pytest.param("close_range=EPERM", "", marks=needs_filters),
        pytest.param("close_range=ENOSYS", WITHOUT_PROC, marks=needs_filters),
    ],
    ids=["the call", "ENOSYS", "EPERM", "no proc"],
)
def test_close_range_closes_just_these(rules, before):
    assert run(CLOSE_RANGE.format(before=before), rules=rules) == "50 51 52 56 57\n"


# -- builds and machines that lack things ---------------------------------------------------------


@pidfd_only
def test_a_python_without_pidfd_functions_uses_the_raw_calls():
    program = """
import os, signal
del os.pidfd_open, signal.pidfd_send_signal
from supervisord_pidfd import sysabi
assert sysabi.probe(10).pidfd
pid = os.fork()
if pid == 0:
    signal.pause()
pidfd = sysabi.pidfd_open(pid)
assert not os.get_inheritable(pidfd)
sysabi.pidfd_send_signal(pidfd, signal.SIGKILL)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
assert sysabi.waitid_nohang(sysabi.P_PIDFD, pidfd)[:3] == (pid, 2, 9)
try:
    sysabi.pidfd_open(-1)
except OSError as failure:
    print(failure.errno)
"""
    assert run(program) == f"{errno.EINVAL}\n"


def test_an_unknown_machine_waits_by_pid_without_pidfds():
    program = """
import errno, os, types
os.uname = lambda: types.SimpleNamespace(machine="vax")
from supervisord_pidfd import sysabi
print(sysabi.probe().reason)
for call in (
    lambda: sysabi.pidfd_open(os.getpid()),
    lambda: sysabi.pidfd_send_signal(0, 0),
    lambda: sysabi.waitid_nohang(sysabi.P_PIDFD, 0),
):
    try:
        call()
    except OSError as failure:
        assert failure.errno == errno.ENOSYS
    else:
        raise SystemExit("no error")
def child(code):
    pid = os.fork()
    if pid == 0:
        sum(range(300000))
        os.kill(os.getpid(), 9) if code is None else os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
assert sysabi.peek_any() is None
pid = child(5)
assert sysabi.peek_any() == pid
assert sysabi.waitid_nohang(sysabi.P_PID, pid, keep=True)[:3] == (pid, 1, 5)
ended = sysabi.waitid_nohang(sysabi.P_PID, pid)
assert ended[:3] == (pid, 1, 5) and ended.user_s + ended.system_s > 0 and ended.max_rss_bytes > 0
pid = child(None)
assert sysabi.waitid_nohang(sysabi.P_ALL, 0)[:3] == (pid, 2, 9)
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    os.read(r, 1)
    os._exit(0)
assert sysabi.waitid_nohang(sysabi.P_PID, pid) is None and sysabi.peek_any() is None
os.write(w, b"x")
os.waitpid(pid, 0)
try:
    sysabi.waitid_nohang(sysabi.P_PID, pid)
except ChildProcessError:
    os.dup2(0, 50)
    sysabi.close_range(50, 60)
    os.dup2(0, 50) == 50 and print("ok")
"""
    assert run(program) == "unknown machine 'vax'\nok\n"
