"""Signals that become a readable descriptor, and the slate that children find."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisord_pidfd import signals
from supervisord_pidfd.signals import HELD, RTMAX, RTMIN, ChildrenInbox, SignalInbox, name_of
from tests.support.world import readable

ROOT = Path(signals.__file__).parents[1]


@pytest.fixture
def inbox():
    taken = []
    it = SignalInbox(taken.append)
    it.taken = taken
    it.listen([signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD])
    yield it
    it.close()
    for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    HELD.take()


def test_a_signal_makes_the_descriptor_readable_and_is_handed_over_once(inbox):
    assert not readable(inbox.fd, 0)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert readable(inbox.fd, 5)
    inbox.read()
    inbox.read()

    assert inbox.taken == [signal.SIGUSR1]
    assert not readable(inbox.fd, 0)


def test_signals_keep_their_order_and_many_sigchld_are_one_and_last(inbox):
    for signum in (signal.SIGCHLD, signal.SIGUSR2, signal.SIGCHLD, signal.SIGUSR1):
        os.kill(os.getpid(), signum)
    inbox.read()

    assert inbox.taken == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGCHLD]


def test_a_full_pipe_loses_no_signal_and_prints_nothing(inbox, capfd):
    while True:
        try:
            os.write(inbox._write_end, b"x" * 4096)
        except BlockingIOError:
            break
    os.kill(os.getpid(), signal.SIGUSR1)
    inbox.read()

    assert inbox.taken == [signal.SIGUSR1]
    assert not readable(inbox.fd, 0)
    assert capfd.readouterr().err == ""


def test_no_signal_is_lost_while_others_are_taken(inbox):
    """Another thread sends as fast as it can; handlers run between any two steps of ours."""
    sent = 2000
    pid = os.getpid()

    def send():
        for _ in range(sent):
            before = inbox.seen
            os.kill(pid, signal.SIGUSR1)
            while inbox.seen == before:  # noted: the kernel merges those that wait
                os.sched_yield()

    inbox.seen = 0
    note = HELD._note

    def count(signum, frame):
        note(signum, frame)
        inbox.seen += 1

    signal.signal(signal.SIGUSR1, count)
    sender = threading.Thread(target=send)
    sender.start()
    while len(inbox.taken) < sent and (sender.is_alive() or HELD.noted):
        inbox.read()
    sender.join()
    inbox.read()

    assert len(inbox.taken) == sent


def test_what_was_noted_before_the_inbox_was_there_is_handed_over():
    HELD.hold([signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    taken = []
    inbox = SignalInbox(taken.append)
    inbox.read()
    inbox.close()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    assert taken == [signal.SIGUSR1]


def test_the_end_of_a_child_makes_its_own_inbox_readable():
    called = []
    inbox = ChildrenInbox(lambda: called.append("children"))
    try:
        for _ in range(3):
            pid = os.posix_spawn("/bin/true", ["true"], {})
            os.waitpid(pid, 0)
        assert readable(inbox.fd, 5)
        inbox.read()
        assert called == ["children"]
        assert not readable(inbox.fd, 0)
    finally:
        inbox.close()

    assert signal.SIGCHLD not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


INHERITED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from supervisord_pidfd import signals
signals.reset_inherited()
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], {})
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([int(status["SigBlk"], 16), int(status["SigIgn"], 16), code]))
"""


def bit(signum):
    return 1 << (signum - 1)


@pytest.mark.slow
def test_what_the_parent_ignored_or_blocked_is_undone():
    """An ignored SIGCHLD would have the kernel throw every status away."""

    def spoil():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())

    done = subprocess.run(
        [sys.executable, "-I", "-c", INHERITED, str(ROOT)],
        stdout=subprocess.PIPE,
        preexec_fn=spoil,
        timeout=20,
        check=True,
    )

    ignored = sum(bit(signum) for signum in signals.IGNORED | signals.REALTIME)
    blocked, found, code = json.loads(done.stdout)
    found &= ~(bit(32) | bit(33))  # glibc's own: Python cannot touch what the parent left of them
    assert [blocked, found, code] == [0, ignored, 5]


@pytest.mark.parametrize(
    ("signum", "name"),
    [
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGKILL, "SIGKILL"),
        (RTMIN, "SIGRTMIN"),
        (RTMIN + 3, "SIGRTMIN+3"),
        (RTMAX, f"SIGRTMIN+{RTMAX - RTMIN}"),
        (99, "signal 99"),
        (32, "signal 32"),
    ],
)
def test_names(signum, name):
    assert name_of(signum) == name


def test_nothing_is_both_handled_and_ignored():
    assert not signals.HANDLED & (signals.IGNORED | signals.REALTIME)
    assert not signals.PASSED_ON & {signal.SIGKILL, signal.SIGSTOP}
