"""The verdict of the probe under real filters, and what it leaves behind: nothing."""

import json
import os
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
PATIENCE_S = 10  # for a probe on a busy machine; its own second is for a daemon that starts

pytestmark = pytest.mark.pidfd
needs_filters = pytest.mark.skipif(
    not seccomp.supported(), reason="no seccomp filters for this machine"
)

PROBE = """
import json, os, resource, signal
from supervisord_pidfd import sysabi
{before}
def state():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        children = True
    except ChildProcessError:
        children = False
    return {{
        "children": children,
        "fds": sorted(os.listdir("/proc/self/fd")),
        "handlers": [str(signal.getsignal(signum)) for signum in signal.valid_signals()],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "session": os.getsid(0),
    }}
first = state()
features = sysabi.probe(10)
last = state()
print(json.dumps({{**features._asdict(), "changed": [k for k in first if first[k] != last[k]]}}))
"""


def probe_in_process(rules=None, before="", **options):
    filtered = [sys.executable, str(SECCOMP), rules, "--"] if rules else []
    done = subprocess.run(
        [*filtered, sys.executable, "-c", PROBE.format(before=before)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
        **options,
    )
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found.pop("changed") == []
    return sysabi.Features(**found)


def unsupported(reason, error=None):
    return sysabi.Features(pidfd=False, reason=reason, error=error)


# -- real filters ---------------------------------------------------------------------------------

STEPS = {
    "pidfd_open": "pidfd_open",
    "waitid_pidfd": "waitid(P_PIDFD)",
    "pidfd_send_signal": "pidfd_send_signal",
}


@needs_filters
@pytest.mark.parametrize("answer", ["ENOSYS", "EPERM", "EACCES", "EINVAL"])
@pytest.mark.parametrize("call", STEPS)
def test_an_errno_is_the_verdict_and_names_its_step(call, answer):
    found = probe_in_process(f"{call}={answer}")

    assert found == unsupported(f"{STEPS[call]}: {answer}", answer)


@needs_filters
@pytest.mark.parametrize("answer", ["SIGSYS", "KILL"])
@pytest.mark.parametrize("call", STEPS)
def test_a_killing_filter_costs_the_child_only(call, answer):
    assert probe_in_process(f"{call}={answer}") == unsupported("probe killed by SIGSYS")


@needs_filters
@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGSYS, lambda *_: None)",
        "signal.signal(signal.SIGSYS, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSYS])",
    ],
    ids=["handled", "ignored", "blocked"],
)
@pytest.mark.parametrize("call", STEPS)
def test_a_trap_shows_whatever_the_caller_does_with_sigsys(call, before):
    found = probe_in_process(f"{call}=SIGSYS", before)

    assert found == unsupported("probe killed by SIGSYS")


@needs_filters
@pytest.mark.parametrize("before", ["", "os.close(0)"], ids=["input open", "input closed"])
def test_a_number_that_is_no_new_descriptor_is_fake(before):
    # the filter has pidfd_open return 0: standard input, or the pipe that took its place
    found = probe_in_process("pidfd_open=FAKE", before, stdin=subprocess.DEVNULL)

    assert found == unsupported("fake descriptor")


def test_a_number_that_is_not_open_is_fake():
    # what a handler of SIGSYS makes of the call: its own number
    def body(report):
        sysabi._os_pidfd_open = lambda _pid, _flags: 434  # in the forked child alone
        sysabi._probe_child(report)

    assert sysabi.probe(PATIENCE_S, child_body=body) == unsupported("fake descriptor", "EBADF")


@needs_filters
def test_a_wait_that_does_nothing_is_not_taken_for_support():
    found = probe_in_process("waitid_pidfd=FAKE")

    assert found == unsupported("waitid(P_PIDFD): no error where ECHILD is due")


@needs_filters
@pytest.mark.parametrize(
    ("preset", "reason", "error"),
    [
        ("kernel-4.19", "pidfd_open: ENOSYS", "ENOSYS"),
        ("kernel-5.3", "waitid(P_PIDFD): EINVAL", "EINVAL"),
        ("old-container", "pidfd_open: EPERM", "EPERM"),
    ],
)
def test_the_first_failing_step_decides(preset, reason, error):
    assert probe_in_process(preset) == unsupported(reason, error)


@needs_filters
def test_calls_we_do_not_depend_on_do_not_matter():
    assert probe_in_process("clone3=ENOSYS,close_range=EPERM,pidfd_getfd=KILL").pidfd


# -- the caller's state ---------------------------------------------------------------------------

STEALING_HANDLER = """
def steal(*_):
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, steal)
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        STEALING_HANDLER,
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "os.close(0)",
        "[os.close(fd) for fd in (0, 2)]",
        "os.setsid()",
    ],
    ids=[
        "plain",
        "SIGCHLD ignored",
        "SIGCHLD handled",
        "all blocked",
        "no 0",
        "no 0, 2",
        "leader",
    ],
)
def test_the_callers_state_neither_disturbs_nor_is_disturbed(before):
    assert probe_in_process(before=before).pidfd


NO_DESCRIPTORS = """
import json, os, resource
from supervisord_pidfd import sysabi
open_ones = len(os.listdir("/proc/self/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (open_ones + {spare}, open_ones + {spare}))
print(json.dumps(sysabi.probe(10)))
"""


@pytest.mark.parametrize(
    ("spare", "reason"),
    [
        (0, "pipe: EMFILE"),
        (1, "pipe: EMFILE"),
        (2, "pidfd_open: EMFILE"),
        (4, "epoll_ctl: EMFILE"),
    ],
)
def test_no_free_descriptor_is_a_verdict(spare, reason):
    done = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS.format(spare=spare)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=True,
    )

    assert json.loads(done.stdout)[:3] == [False, reason, "EMFILE"]


def test_many_probes_leave_nothing_behind():
    # that nothing is left is what the folder's fixture checks
    found = {sysabi.probe(PATIENCE_S) for _ in range(50)}

    assert len(found) == 1


# -- children that misbehave ----------------------------------------------------------------------


def hang(_report):
    while True:
        signal.pause()


def hang_silently(_report):
    os.closerange(3, 256)  # the pipe among them: its end does not mean that the child has ended
    hang(_report)


def hang_when_done(report):
    report("done")
    hang_silently(report)


def crash(_report):
    raise RuntimeError


def be_killed(_report):
    os.kill(os.getpid(), signal.SIGKILL)


def leave_early(_report):
    os._exit(3)


def end_in_a_lie(report):
    report("done")
    os._exit(3)


def be_trapped_in_an_optional_step(report):
    report("done")
    report("get_info")
    signal.signal(signal.SIGSYS, signal.SIG_DFL)
    sysabi.set_dumpable(False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGSYS])
    os.kill(os.getpid(), signal.SIGSYS)


@pytest.mark.parametrize("body", [hang, hang_when_done])
def test_a_hung_probe_is_killed_at_its_deadline(body):
    assert sysabi.probe(0.05, body) == unsupported("probe timed out")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (hang_silently, "probe killed by SIGKILL"),  # ours: it does not get the time left
        (crash, "probe ended with code 1"),
        (be_killed, "probe killed by SIGKILL"),
        (leave_early, "probe ended with code 3"),
        (end_in_a_lie, "waitid(P_PIDFD): wrong status"),
    ],
)
def test_a_child_that_ends_otherwise_is_a_verdict(body, reason):
    assert sysabi.probe(PATIENCE_S, child_body=body) == unsupported(reason)


def test_a_death_after_the_needed_steps_costs_the_optional_ones():
    found = sysabi.probe(PATIENCE_S, child_body=be_trapped_in_an_optional_step)

    assert found.pidfd
    assert not found.group_signal
    assert found.pidfs is sysabi.probe(PATIENCE_S).pidfs


def test_features_go_by_kernel_version_at_least():
    """Newer than the mainline release means it must be there; older ones may carry backports."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    found = sysabi.probe(PATIENCE_S)

    assert found.pidfd
    assert found.pidfs or release < (6, 9)
    assert found.group_signal or release < (6, 9)
    assert found.get_info or release < (6, 13)
    assert found.exit_info or release < (6, 15)


# -- the stand-in itself --------------------------------------------------------------------------


@needs_filters
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense=EPERM", "--", "true"], "cannot filter 'nonsense'"),
        (["pidfd_open=EWHAT", "--", "true"], "cannot answer 'EWHAT'"),
        (["kernel-4.19", "true"], "RULES -- COMMAND"),
        (["kernel-4.19", "--", "/nonexistent/program"], "No such file"),
    ],
)
def test_the_stand_in_explains_a_wrong_command_line(arguments, message):
    done = subprocess.run(
        [sys.executable, str(SECCOMP), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 1
    assert message in done.stderr


CALLS = """
import errno, os, signal
def answer(call):
    try:
        call()
    except OSError as failure:
        return errno.errorcode[failure.errno]
    return "ok"
with open(os.devnull) as null:
    print(
        answer(lambda: os.close(os.pidfd_open(os.getpid()))),
        answer(lambda: signal.pidfd_send_signal(null.fileno(), 0)),
        answer(lambda: os.waitid(3, null.fileno(), os.WEXITED)),
        answer(lambda: os.waitid(os.P_ALL, 0, os.WEXITED)),
    )
"""


@needs_filters
@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        ("clone3=ENOSYS", "ok EBADF EBADF ECHILD"),
        ("kernel-4.19", "ENOSYS ENOSYS EINVAL ECHILD"),
        ("kernel-5.3", "ok EBADF EINVAL ECHILD"),
        ("old-container", "EPERM EPERM EBADF ECHILD"),
        ("pidfd_open=EMFILE,waitid_pidfd=EACCES", "EMFILE EBADF EACCES ECHILD"),
        ("kernel-4.19,pidfd_open=ALLOW", "ok ENOSYS EINVAL ECHILD"),
    ],
)
def test_the_stand_in_answers_as_told_and_touches_nothing_else(rules, answers):
    done = subprocess.run(
        [sys.executable, str(SECCOMP), rules, "--", sys.executable, "-c", CALLS],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )

    assert done.stdout.split() == answers.split()


@needs_filters
def test_the_stand_in_can_filter_the_calling_process():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            seccomp.install("pidfd_open=EMFILE")
            code = sysabi.probe(PATIENCE_S).reason == "pidfd_open: EMFILE"
        finally:
            os._exit(int(code))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
