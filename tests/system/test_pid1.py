"""PID 1 of a PID namespace: everybody's parent, and nobody's child."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.helpers import kill, python, reaped, reaping, sh

WEB = "[service.web]\ncommand = 'sleep 1000'\nbackoff.delay = 0\n"
IN_A_NAMESPACE = ("--pid", "--fork", "--kill-child", "--mount-proc")


def runners():
    """Give the ways of being PID 1 that this machine and user allow."""
    ways = {
        "unshare": ("unshare", *(() if os.geteuid() == 0 else ("--map-current-user",)),
                    *IN_A_NAMESPACE),
        "ordinary": ("unshare", "--user", "--map-user=1000", "--map-group=1000", *IN_A_NAMESPACE),
        "bwrap": ("bwrap", "--bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid",
                  "--die-with-parent", "--as-pid-1"),
    }  # fmt: skip
    for name, words in ways.items():
        if shutil.which(words[0]) and works(words):
            yield pytest.param(words, id=name)


def works(words):
    return subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0


RUNNERS = list(runners())
needs_a_namespace = pytest.mark.skipif(not RUNNERS, reason="no PID namespace can be made here")
pytestmark = needs_a_namespace
each_runner = pytest.mark.parametrize("runner", RUNNERS)
RUNNER = RUNNERS[0].values[0] if RUNNERS else ()


def outer_pid(daemon, timeout=10):
    """Find the daemon from out here: the one child of the runner that leads the namespace."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for pid in (daemon.pid, *daemon.running()):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                numbers = status.split("NSpid:")[1].split("\n")[0].split()
                if len(numbers) > 1 and numbers[-1] == "1":
                    return pid
    message = "no PID 1 was found"
    raise AssertionError(message)


def tell(daemon, signum):
    kill(outer_pid(daemon), signum)


def inside(daemon, word):
    """Find a process of the namespace from out here, by the last word of its command line."""
    return [pid for pid, argv in daemon.running().items() if argv and argv[-1] == word]


@each_runner
def test_it_does_what_pid_1_does(daemon, runner, reaper_mode):
    daemon.start(WEB + "[service.done]\ntype = 'oneshot'\ncommand = 'true'\n",
                 *reaping(reaper_mode), prefix=runner)  # fmt: skip
    started = daemon.wait_for("daemon.started")
    assert (started["pid1"], started["reaper"]) == (True, reaper_mode)
    first = daemon.wait_for("service.ready", service="web")
    daemon.wait_for("daemon.ready")

    kill(inside(daemon, "1000")[0])
    assert daemon.wait_for("service.exited", service="web")["signal"] == "SIGKILL"
    assert daemon.wait_for("service.ready", service="web", run=2)["pid"] != first["pid"]

    tell(daemon, signal.SIGTERM)
    assert daemon.wait_for("daemon.stopping")["timeout_s"] == 8
    assert daemon.wait() == 0
    assert daemon.told("service.stopped", service="web")
    assert not daemon.running()


@pytest.mark.parametrize("name", ["INT", "QUIT", "RTMIN+3", "HUP"])
def test_signals_reach_pid_1(daemon, name):
    daemon.start(WEB, prefix=RUNNER)
    daemon.wait_for("daemon.ready")
    tell(daemon, signal.SIGRTMIN + 3 if name == "RTMIN+3" else getattr(signal, f"SIG{name}"))
    if name == "HUP":
        assert daemon.wait_for("config.applied", by="signal")
        tell(daemon, signal.SIGTERM)
    assert daemon.wait_for("daemon.stopping")
    assert daemon.wait() == 0


ORPHANS = """
import os, sys
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os._exit(7)
        os._exit(0)
for _ in range(200):
    os.wait()
"""


def test_two_hundred_orphans_are_reaped(daemon, reaper_mode):
    daemon.start(
        f"[service.once]\ntype = 'oneshot'\nstop.leftovers = 'keep'\n{python(ORPHANS)}{WEB}",
        *reaping(reaper_mode), "--set", "supervisor.log.level=debug",
        prefix=RUNNER,
    )  # fmt: skip
    for _ in range(200):
        assert daemon.wait_for("orphan.reaped", timeout=20)["exit_code"] == 7
    daemon.wait_for("service.exited", service="once")
    one = outer_pid(daemon)
    zombies = [
        pid
        for pid in Path(f"/proc/{one}/task/{one}/children").read_text().split()
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    ]
    assert not zombies
    assert not daemon.told("service.exited", service="web")
    tell(daemon, signal.SIGTERM)
    assert daemon.wait() == 0


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 5", 10)])
def test_idle_is_the_end_of_pid_1(daemon, script, code):
    daemon.start(f"[service.once]\ntype = 'oneshot'\n{sh(script)}", prefix=RUNNER)
    assert daemon.wait() == code


def test_the_code_of_the_main_service_is_that_of_the_container(daemon):
    daemon.start(f"{WEB}[service.it]\nmain = true\nrestart = 'no'\n{sh('exit 33')}", prefix=RUNNER)
    assert daemon.wait() == 33


@each_runner
def test_a_single_command(daemon, runner):
    def run(*words):
        argv = [*runner, *daemon.command("run", "--", *words)]
        return subprocess.run(
            argv, env=daemon.environment(), check=False, capture_output=True, text=True, timeout=30
        )

    done = run("/bin/sh", "-c", "echo $PPID; exit 12")
    assert (done.returncode, done.stdout) == (12, "1\n")
    assert run("/no/such").returncode == 127
    assert run("/bin/sh", "-c", "kill -KILL $$").returncode == 137


def test_a_single_command_gets_the_signals_of_pid_1(daemon, board):
    script = f"trap 'exit 21' TERM; echo $$ > {board}; while :; do sleep 0.05; done"
    argv = [*RUNNER, *daemon.command("run", "--", "/bin/sh", "-c", script)]
    with reaped(
        subprocess.Popen(
            argv, env=daemon.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    ) as process:
        board.pid()
        one = next(
            pid for pid, words in daemon.running().items()
            if pid != process.pid and "supervisord_pidfd" in words and "unshare" not in words
        )  # fmt: skip
        kill(one, signal.SIGTERM)
        assert process.wait(20) == 21
    assert not daemon.running()


# -- without what one relies on -------------------------------------------------------------------


def in_a_shell(script):
    """Do something inside before the daemon starts there."""
    words = [word for word in RUNNER if word != "--mount-proc"]
    if os.geteuid() != 0:
        words += ["--map-root-user"]
    return (*words, "--mount", "/bin/sh", "-c", script + '; exec "$0" "$@"')


def can(script):
    return bool(RUNNER) and RUNNER[0] == "unshare" and works((*in_a_shell(script)[:-1], script))


HIDE_PROC = "mount -t tmpfs none /proc"
READ_ONLY = "mount --bind / / && mount -o remount,bind,ro / 2>/dev/null"


@pytest.mark.skipif(not can(HIDE_PROC), reason="no mount namespace can be made here")
@pytest.mark.parametrize("mode", ["auto", "sigchld"])
def test_without_proc(daemon, mode):
    daemon.start(WEB, *reaping(mode), prefix=in_a_shell(HIDE_PROC))
    daemon.wait_for("daemon.ready")
    daemon.wait_for("service.ready", service="web")
    kill(inside(daemon, "1000")[0])
    daemon.wait_for("service.ready", service="web", run=2)
    tell(daemon, signal.SIGHUP)
    daemon.wait_for("config.applied", by="signal")
    tell(daemon, signal.SIGTERM)
    assert daemon.wait() == 0
    assert not daemon.told("loop.callback_crashed")
    assert not daemon.running()


@pytest.mark.skipif(not can(READ_ONLY), reason="no mount namespace can be made here")
def test_a_read_only_root(daemon):
    daemon.write_config(WEB)
    script = f"{READ_ONLY}; ! touch {daemon.home}/x 2>/dev/null"
    daemon.start(daemon.home / "supervisord.toml", prefix=in_a_shell(script))
    daemon.wait_for("daemon.ready")
    assert len(daemon.told("control.unavailable")) == 1
    kill(inside(daemon, "1000")[0])
    daemon.wait_for("service.ready", service="web", run=2)
    tell(daemon, signal.SIGTERM)
    assert daemon.wait() == 0
    assert not (daemon.home / "x").exists()
