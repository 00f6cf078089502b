"""Whatever the daemon was started with, and whatever becomes of its helpers, it does its work."""

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import seccomp
from tests.system.helpers import (
    Board,
    alive,
    descriptors,
    environ,
    executed,
    gone,
    kill,
    python,
    reaped,
    reaping,
    status,
)

WEB = "[service.web]\ncommand = 'sleep 1000'\nbackoff.delay = 0\nstart_limit.burst = 0\n"


ANNOUNCE = """
import os, signal, sys
board = os.open(sys.argv[1], os.O_WRONLY)
pid = b"%d\\n" % os.getpid()
os.set_blocking(board, False)
os.write(board, pid)
os.close(board)
signal.pause()
"""


def announcing(board: Board, name: str = "web") -> str:
    """Give a service that says its pid on the board: for where the daemon cannot be heard."""
    program = python(ANNOUNCE, board.path)
    return f"[service.{name}]\n{program}backoff.delay = 0\nstart_limit.burst = 0\n"


def restarts(daemon, reaper=None):
    """Kill the service `web` and see it come back."""
    first = daemon.wait_for("service.ready", service="web")
    kill(first["pid"])
    again = daemon.wait_for("service.ready", service="web", run=first["run"] + 1)
    assert alive(executed(again["pid"]))
    return again


# -- what was inherited ---------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_standard_descriptors_closed_at_start(daemon, board, reaper_mode, closed):
    """What is opened later must not become somebody's output."""
    script = (
        f"import os, sys\nfor fd in {closed}: os.close(fd)\nos.execv(sys.argv[1], sys.argv[1:])\n"
    )
    prefix = (sys.executable, "-I", "-c", script)
    inherits = f"{announcing(board)}\nlog.to = ['inherit']\n"
    daemon.start(inherits, *reaping(reaper_mode), prefix=prefix)
    first = board.pid()
    held = descriptors(first)
    assert {0, 1, 2} <= set(held)
    for fd in closed:
        assert held[fd] == "/dev/null"
    kill(first)
    assert board.pid() != first
    core = descriptors(daemon.pid)
    for fd in closed:
        assert core[fd] == "/dev/null"
    assert daemon.stop() == 0
    assert not daemon.running()


def test_ignored_and_blocked_signals_are_taken_back(daemon, reaper_mode):
    def spoil():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    daemon.start(WEB, *reaping(reaper_mode), preexec_fn=spoil)
    again = restarts(daemon)
    assert int(status(again["pid"])["SigBlk"], 16) == 0
    assert int(status(again["pid"])["SigIgn"], 16) & ~(0b11 << 31) == 0
    assert daemon.told("service.exited", signal="SIGKILL")  # not "unknown"
    assert daemon.reload()["event"] == "config.applied"
    assert daemon.stop() == 0


def test_a_limit_that_is_too_low_is_refused_with_the_number_it_needs(daemon):
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    daemon.start("[service.web]\ninstances = 200\ncommand = 'sleep 1000'\n", preexec_fn=lower)
    assert daemon.wait() == 6
    # 200 with two pipes each, clients of control 65, a reserve of 64
    assert "needs 729 descriptors" in daemon.stderr
    assert not daemon.running()


def test_a_soft_limit_is_raised_and_given_back(daemon):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))

    daemon.start("[service.web]\ninstances = 100\ncommand = 'sleep 1000'\n", preexec_fn=lower)
    last = daemon.wait_for("service.ready", service="web@99")["pid"]
    limits = Path(f"/proc/{executed(last)}/limits").read_text()
    row = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    assert row.split()[3:5] == ["80", str(hard)]
    assert daemon.stop() == 0
    assert not daemon.running()


def test_inherited_descriptors_are_closed(daemon):
    junk = [os.open("/dev/zero", os.O_RDONLY) for _ in range(5)]
    try:
        far = os.dup2(junk[0], 200)
        daemon.start(WEB, pass_fds=[*junk, far])
        pid = daemon.wait_for("service.ready", service="web")["pid"]
        daemon.wait_for("daemon.ready")
        assert "/dev/zero" not in descriptors(daemon.pid).values()
        assert set(descriptors(executed(pid))) == {0, 1, 2}
        assert daemon.stop() == 0
    finally:
        os.close(200)
        for fd in junk:
            os.close(fd)


def test_a_working_directory_that_is_gone(daemon):
    where = daemon.home / "gone"
    where.mkdir()
    script = f'rmdir {where}; exec "$0" "$@"'
    daemon.start(WEB, prefix=("/bin/sh", "-c", script), cwd=where)
    restarts(daemon)
    assert daemon.reload()["event"] == "config.applied"
    assert daemon.stop() == 0


def test_an_empty_environment(daemon):
    daemon.start(WEB, prefix=("/usr/bin/env", "-i"))
    first = daemon.wait_for("service.ready", service="web")["pid"]
    assert set(environ(first)) == {"SUPERVISORD_SERVICE", "SUPERVISORD_RUN"}
    assert daemon.stop() == 0
    assert gone(first)


@pytest.mark.parametrize(
    "settings",
    [
        ("-u", "HOME", "-u", "XDG_CONFIG_HOME", "-u", "XDG_RUNTIME_DIR", "-u", "XDG_STATE_HOME"),
        ("LANG=oops", "LC_ALL=oops.nowhere", "PYTHONIOENCODING=oops"),
        ("LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"),
        ("PYTHONPATH=/nonexistent", "PYTHONSTARTUP=/none", "PYTHONHOME=/none"),
        ("TZ=:/no/such/zone", "TMPDIR=/no/such", "COLUMNS=x"),
    ],
    ids=["no home", "odd locale", "C locale", "python's variables", "odd values"],
)
def test_odd_environments(daemon, settings):
    config = daemon.write_config(WEB + "description = 'Grüße ☃'\nenvironment = { G = 'ü☃' }\n")
    daemon.start(config, prefix=("/usr/bin/env", *settings))
    again = restarts(daemon)
    assert environ(again["pid"])["G"] == "ü☃"
    assert daemon.stop() == 0


def test_bytes_in_the_environment_that_are_no_text(daemon):
    script = (
        "import os, sys\nos.environb[b'ODD'] = b'\\xff\\xfe'\nos.execv(sys.argv[1], sys.argv[1:])"
    )
    daemon.start(WEB, prefix=(sys.executable, "-I", "-c", script))
    pid = executed(restarts(daemon)["pid"])
    assert b"ODD=\xff\xfe\0" in Path(f"/proc/{pid}/environ").read_bytes()
    assert daemon.stop() == 0


# -- the runtime directory ------------------------------------------------------------------------


def test_an_unsafe_runtime_directory_is_refused_with_7(daemon):
    where = daemon.home / "run"
    where.mkdir()
    where.chmod(0o777)
    daemon.start(WEB)
    assert daemon.wait() == 7
    assert "unsafe" in daemon.stderr
    assert not daemon.running()


def test_a_file_in_the_place_of_the_runtime_directory_is_refused(daemon):
    (daemon.home / "run").write_text("")
    daemon.start(WEB)
    assert daemon.wait() == 7
    assert "not a directory" in daemon.stderr


def test_a_runtime_directory_that_cannot_be_made_is_done_without(daemon):
    nowhere = '"/proc/none/of/this"'
    daemon.start(WEB, "--set", f"supervisor.runtime_dir={nowhere}")
    assert daemon.wait_for("control.unavailable")["path"] == "/proc/none/of/this"
    restarts(daemon)
    assert daemon.stop() == 0
    assert len(daemon.told("control.unavailable")) == 1


def test_a_runtime_directory_of_ones_own_as_an_ordinary_user(ordinary):
    ordinary.start(WEB)
    restarts(ordinary)
    where = ordinary.home / "run"
    assert stat.S_IMODE(where.stat().st_mode) == 0o755
    assert stat.S_IMODE((where / "lock").stat().st_mode) == 0o600
    assert ordinary.stop() == 0
    assert not ordinary.running()


def test_the_lock_is_given_back_by_a_killed_daemon(daemon):
    daemon.start(WEB)
    daemon.wait_for("daemon.ready")
    daemon.kill()
    daemon.start(WEB)
    daemon.wait_for("daemon.ready")
    assert daemon.stop() == 0


# -- where nobody reads ---------------------------------------------------------------------------


def quick_restarts(board, times=20):
    """Kill what announces itself, again and again; each must be back within a second or so."""
    pid, slowest = board.pid(), 0.0
    for _ in range(times):
        begun = time.monotonic()
        kill(pid)
        pid = board.pid(timeout=10)
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


def test_nobody_reads_standard_output(daemon, board, reaper_mode):
    """The pipe is full before the first event; restarts go on as ever."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read_end)
        os.set_blocking(write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write_end, b"x" * 65536)
        os.set_blocking(write_end, True)
        process = start_apart(daemon, announcing(board), write_end, reaper_mode)
        stack.enter_context(reaped(process))
        os.close(write_end)
        quick_restarts(board)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not daemon.running()


def test_standard_output_is_a_closed_pipe(daemon, board, reaper_mode):
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    process = start_apart(daemon, announcing(board), write_end, reaper_mode)
    with reaped(process):
        os.close(write_end)
        os.close(read_end)
        quick_restarts(board)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not daemon.running()


def test_the_reader_of_standard_output_is_stopped(daemon, board):
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            reaped(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))
        )
        reader.send_signal(signal.SIGSTOP)
        process = start_apart(daemon, announcing(board), reader.stdin.fileno(), "auto")
        stack.enter_context(reaped(process))
        quick_restarts(board, times=300)  # more than a pipe holds
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not daemon.running()


def start_apart(daemon, config, stdout, mode):
    """Start a daemon whose standard output is not the fixture's pipe."""
    path = daemon.write_config(config)
    words = daemon.command("run", "-c", str(path), *reaping(mode))
    words += ["--set", f'supervisor.runtime_dir="{daemon.home}/run"']
    return subprocess.Popen(
        words,
        env=daemon.environment(),
        cwd=daemon.home,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        start_new_session=True,
    )


# -- the helpers ----------------------------------------------------------------------------------

METRICS = "metrics.listen = '127.0.0.1:0'\n"


def helper(daemon, name):
    return daemon.wait_for("service.spawned", service=name)["pid"]


@pytest.mark.parametrize("name", [":logger", ":gateway"])
def test_a_killed_helper_comes_back_and_nothing_is_lost(daemon, board, reaper_mode, name):
    daemon.start(METRICS + announcing(board), *reaping(reaper_mode))
    daemon.wait_for("gateway.listening")
    pid = helper(daemon, name)
    first = board.pid()
    seqs = {event["seq"] for event in daemon.events}

    kill(pid)
    kill(first)

    second = board.pid()
    assert second != first
    assert helper(daemon, name) != pid
    assert daemon.wait_for("service.ready", service="web", run=2)["pid"] == second
    if name == ":gateway":
        assert daemon.wait_for("gateway.listening")
    assert daemon.stop() == 0
    after = [event["seq"] for event in daemon.events]
    assert after == sorted(after)
    assert len(after) == len(set(after))
    assert seqs < set(after)
    assert not daemon.running()


@pytest.mark.parametrize("name", [":logger", ":gateway"])
def test_a_stopped_helper_holds_nothing_up(daemon, board, name):
    daemon.start(METRICS + announcing(board))
    daemon.wait_for("gateway.listening")
    pid = helper(daemon, name)
    kill(pid, signal.SIGSTOP)
    try:
        quick_restarts(board, times=50)
    finally:
        kill(pid, signal.SIGCONT)
    daemon.wait_for("service.ready", service="web", run=51)
    assert daemon.stop() == 0
    assert not daemon.running()


@pytest.mark.parametrize("name", [":logger", ":gateway"])
def test_a_stopped_helper_does_not_hold_up_the_end(daemon, name):
    daemon.start(METRICS + WEB)
    daemon.wait_for("gateway.listening")
    kill(helper(daemon, name), signal.SIGSTOP)
    assert daemon.stop(timeout=15) == 0
    assert not daemon.running()


def test_a_stopped_core_catches_up(daemon, reaper_mode):
    daemon.start("[service.w]\ninstances = 20\ncommand = 'sleep 1000'\n", *reaping(reaper_mode))
    pids = [daemon.wait_for("service.ready", service=f"w@{n}")["pid"] for n in range(20)]
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGSTOP)
    for pid in pids:
        kill(pid)
    daemon.signal(signal.SIGCONT)
    for n in range(20):
        daemon.wait_for("service.ready", service=f"w@{n}", run=2)
    assert daemon.stop() == 0


def test_an_address_that_is_taken(daemon):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.start(f"metrics.listen = '127.0.0.1:{port}'\n" + WEB)
        failed = daemon.wait_for("gateway.listen_failed")
        assert failed["error"] == "EADDRINUSE"
        restarts(daemon)
        assert daemon.stop() == 0


# -- where pidfds are forbidden -------------------------------------------------------------------

CALLS = ["pidfd_open", "pidfd_send_signal", "waitid_pidfd"]
FILTER = (sys.executable, "-I", str(Path(seccomp.__file__)))


@pytest.mark.pidfd
@pytest.mark.parametrize("answer", ["ENOSYS", "EPERM", "SIGSYS", "EACCES"])
@pytest.mark.parametrize("call", CALLS)
def test_a_forbidden_call_means_the_fallback(daemon, call, answer):
    daemon.start(WEB, prefix=(*FILTER, f"{call}={answer}", "--"))
    fell_back = daemon.wait_for("reaper.fell_back")
    said = "SIGSYS" if answer == "SIGSYS" else call.split("_pidfd")[0]
    assert said in fell_back["reason"]
    assert answer in {fell_back["error"], said}
    assert daemon.wait_for("daemon.started")["reaper"] == "sigchld"
    restarts(daemon)
    assert len(daemon.told("reaper.fell_back")) == 1
    assert daemon.stop() == 0
    assert not daemon.running()


@pytest.mark.parametrize("call", ["pidfd_open", "waitid_pidfd"])
def test_a_call_that_only_pretends_is_not_trusted(daemon, call):
    daemon.start(WEB, prefix=(*FILTER, f"{call}=FAKE", "--"))
    daemon.wait_for("reaper.fell_back")
    restarts(daemon)
    assert daemon.stop() == 0


@pytest.mark.parametrize("preset", ["kernel-4.19", "kernel-5.3", "old-container"])
def test_old_kernels_and_containers(daemon, preset):
    daemon.start(METRICS + WEB, prefix=(*FILTER, preset, "--"))
    daemon.wait_for("reaper.fell_back")
    restarts(daemon)
    daemon.reload(METRICS + WEB.replace("1000", "2000"))
    daemon.wait_for("service.ready", service="web", run=3)
    assert daemon.stop() == 0
    assert not daemon.running()


@pytest.mark.pidfd
@pytest.mark.parametrize("call", CALLS)
def test_a_forced_pidfd_that_does_not_work_is_a_start_error(daemon, call):
    daemon.start(WEB, *reaping("pidfd"), prefix=(*FILTER, f"{call}=ENOSYS", "--"))
    assert daemon.wait() == 7
    assert "ENOSYS" in daemon.stderr
    assert call.split("_pidfd")[0] in daemon.stderr
    assert not daemon.running()


def test_a_forced_sigchld_needs_no_reason(daemon):
    daemon.start(WEB, *reaping("sigchld"))
    assert daemon.wait_for("reaper.chosen")["reaper"] == "sigchld"
    assert not daemon.told("reaper.fell_back")
    restarts(daemon)


# -- root and others ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "sigchld"])
def test_an_ordinary_user_without_any_right(ordinary, mode):
    ordinary.start(METRICS + WEB, *reaping(mode))
    ordinary.wait_for("gateway.listening")
    restarts(ordinary)
    assert ordinary.reload(METRICS + WEB.replace("1000", "2000"))["restarted"] == 1
    ordinary.wait_for("service.ready", service="web", run=3)
    assert ordinary.stop() == 0
    assert not ordinary.running()


@pytest.mark.root
def test_the_gateway_has_no_privileges(daemon):
    daemon.start(METRICS + WEB)
    daemon.wait_for("gateway.listening")
    said = status(helper(daemon, ":gateway"))
    assert "0" not in said["Uid"].split()
    assert int(said["CapEff"], 16) == 0
    assert said["NoNewPrivs"] == "1"


def test_the_umask_of_the_caller_is_not_taken_over(daemon):
    daemon.start(WEB, prefix=("/bin/sh", "-c", 'umask 0; exec "$0" "$@"'))
    pid = daemon.wait_for("service.ready", service="web")["pid"]
    assert status(daemon.pid)["Umask"] == "0077"
    assert status(pid)["Umask"] == "0022"


def test_random_signals_at_random_times(daemon):
    """Only what is documented has an effect; a stop signal is not among these."""
    daemon.start(WEB)
    daemon.wait_for("daemon.ready")
    harmless = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGPIPE,
                signal.SIGCHLD, signal.SIGRTMIN, signal.SIGRTMAX]  # fmt: skip
    for _ in range(50):
        for signum in harmless:
            daemon.signal(signum)
    restarts(daemon)
    assert not daemon.told("loop.callback_crashed")
    assert daemon.stop() == 0
