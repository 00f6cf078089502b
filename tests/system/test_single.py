"""`run -- CMD`: a single-service init that is as good as not there."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time

import pytest

from tests.system.helpers import Board, alive, reaped, status


@pytest.fixture
def single(daemon, tmp_path):
    """Start `run … -- CMD`, and see to it that nothing is left."""
    with contextlib.ExitStack() as stack:

        def start(*words, options=(), **popen):
            popen = {
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "cwd": tmp_path,
            } | popen
            env = daemon.environment() | popen.pop("env", {})
            argv = [*daemon.command("run", *options, "--"), *map(str, words)]
            process = subprocess.Popen(argv, env=env, start_new_session=True, **popen)
            return stack.enter_context(reaped(process))

        yield start
    left = daemon.running()
    daemon.sweep()
    assert not left, left


def run(process, timeout=20):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(), but_for_the_fallback(err)


def but_for_the_fallback(err):
    """Leave out the one warning that every run without pidfds begins with."""
    lines = err.decode().splitlines(keepends=True)
    return "".join(line for line in lines if "reaper.fell_back" not in line)


@pytest.mark.parametrize("code", [0, 1, 3, 77, 125, 127, 255])
def test_the_code_passes_through(single, code):
    got, out, err = run(single("/bin/sh", "-c", f"exit {code}"))
    assert (got, out) == (code, "")
    assert bool(err) is bool(code)  # warnings only


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGUSR1, signal.SIGABRT])
def test_a_signal_is_128_and_its_number(single, signum):
    code, out, _ = run(single("/bin/sh", "-c", f"ulimit -c 0; kill -{int(signum)} $$"))
    assert (code, out) == (128 + signum, "")


def test_what_cannot_be_executed(single, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for words, expected, word in (
        (["/no/such/program"], 127, "ENOENT"),
        (["no-such-program-at-all"], 127, "ENOENT"),
        ([plain], 126, "EACCES"),
        (["/"], 126, "EACCES"),
    ):
        code, out, err = run(single(*words))
        assert (code, out) == (expected, ""), (words, err)
        assert word in err


def test_an_internal_failure_to_start_is_125(single):
    options = ("--set", "service.main.directory=/no/such")
    assert run(single("true", options=options))[0] == 125


def test_streams_environment_and_directory_are_inherited(single, tmp_path):
    script = 'cat; pwd; echo "$GIVEN"; echo oops >&2; exit 4'
    process = single("/bin/sh", "-c", script, stdin=subprocess.PIPE, env={"GIVEN": "$HOME ${x}"})
    out, err = process.communicate(b"fed\n", timeout=20)
    assert out.decode().splitlines() == ["fed", str(tmp_path), "$HOME ${x}"]
    assert but_for_the_fallback(err).startswith("oops\n")
    assert process.returncode == 4


def test_words_are_taken_as_they_are(single):
    words = ["${HOME}", "$$", "a b", "--set", "-c"]
    code, out, err = run(single("printf", "%s\\n", *words))
    assert (code, out.splitlines(), err) == (0, words, "")


def test_arguments_of_the_init_are_its_own(single):
    code, _, err = run(single("true", options=("--set", "service.main.stop_timeout=soon")))
    assert code == 6
    assert "soon" in err


RECORDER = """
trap 'echo TERM > BOARD' TERM
trap 'echo INT > BOARD' INT
trap 'echo HUP > BOARD' HUP
trap 'echo USR1 > BOARD' USR1
trap 'echo WINCH > BOARD' WINCH
trap 'echo QUIT > BOARD; exit 9' QUIT
echo ready > BOARD
while :; do sleep 0.05; done
"""


def recorder(board: Board) -> list[str]:
    return ["/bin/sh", "-c", RECORDER.replace("BOARD", str(board))]


def test_every_signal_is_passed_on_and_repeats_too(single, board):
    process = single(*recorder(board), options=("--set", "service.main.stop_timeout=60s"))
    assert board.line() == "ready"
    names = ["HUP", "USR1", "WINCH", "HUP", "TERM", "TERM", "INT", "USR1", "QUIT"]
    for name in names:
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert board.line() == name
    assert run(process)[0] == 9  # its code, however it was stopped


def test_realtime_signals_are_passed_on(single, board):
    process = single(
        "/bin/bash", "-c",
        f"trap 'echo rt > {board}; exit 5' RTMIN+3; echo ready > {board};"
        " while :; do sleep 0.05; done",
    )  # fmt: skip
    assert board.line() == "ready"
    process.send_signal(signal.SIGRTMIN + 3)
    assert board.line() == "rt"
    assert run(process)[0] == 5


def test_the_whole_group_gets_it(single, board):
    child = (
        f"trap 'echo child > {board}; exit 0' TERM; echo up > {board};"
        " while :; do sleep 0.05; done"
    )
    parent = 'sh -c "$1" & trap "wait; exit 3" TERM; wait'
    process = single("/bin/sh", "-c", parent, "sh", child)
    assert board.line() == "up"
    process.send_signal(signal.SIGTERM)
    assert board.line() == "child"
    assert run(process)[0] == 3


@pytest.mark.parametrize("mode", ["auto", "sigchld"])
def test_what_does_not_stop_is_killed_in_time(single, board, mode):
    begun = time.monotonic()
    process = single(
        "/bin/sh", "-c", f"trap '' TERM; echo $$ > {board}; while :; do sleep 0.05; done",
        options=(
            "--set", f"supervisor.reaper={mode}", "--set", "supervisor.shutdown_timeout=1s",
            "--set", "service.main.stop_timeout=60s",
        ),
    )  # fmt: skip
    board.pid()
    process.send_signal(signal.SIGTERM)
    assert run(process)[0] == 128 + signal.SIGKILL
    assert time.monotonic() - begun < 15


def test_what_cmd_leaves_behind_is_ended(single, board):
    script = (
        f"sh -c 'echo $$ > {board}; exec sleep 1000' &"
        f"setsid sh -c 'echo $$ > {board}; exec sleep 1000' &"
        f"setsid sh -c 'trap \"\" TERM; echo $$ > {board}; while :; do sleep 0.1; done' &"
        "read go; exit 6"
    )
    process = single(
        "/bin/sh", "-c", script,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        options=("--set", "service.main.stop_timeout=300ms"),
    )  # fmt: skip
    pids = [board.pid() for _ in range(3)]
    process.stdin.write(b"go\n")
    process.stdin.flush()
    assert process.wait(20) == 6
    assert not [pid for pid in pids if alive(pid)]


def test_a_restart_policy_may_be_given(single, board, tmp_path):
    again = tmp_path / "again"
    script = f"echo $$ > {board}; test -e {again} && exit 8; touch {again}; exit 1"
    code, _, err = run(
        single(
            "/bin/sh", "-c", script,
            options=("--set", "service.main.restart=always", "--set",
                     "service.main.restart_prevent=[8]"),
        )
    )  # fmt: skip
    assert code == 8
    assert board.pid() != board.pid()
    assert "service.exited" in err  # a warning, on standard error


def test_cmd_beside_a_file_is_one_more_service(daemon):
    daemon.start(
        "[service.web]\ncommand = 'sleep 1000'\n", "--", "/bin/sh", "-c", "sleep 0.2; exit 21"
    )
    daemon.wait_for("service.ready", service="main")
    daemon.wait_for("service.ready", service="web")
    assert daemon.wait() == 21
    assert daemon.told("daemon.stopping", service="main")
    assert not daemon.running()


# -- on a terminal --------------------------------------------------------------------------------


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def on(slave):
    return {
        "stdin": slave,
        "stdout": slave,
        "stderr": slave,
        "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    }


def read_until(master, text, timeout=10):
    deadline, got = time.monotonic() + timeout, b""
    while text not in got:
        left = deadline - time.monotonic()
        assert left > 0, got
        if select.select([master], [], [], left)[0]:
            got += os.read(master, 4096)
    return got.decode()


def test_on_a_terminal_ctrl_c_reaches_cmd_alone(single, board, terminal):
    master, slave = terminal
    script = (
        f"trap 'echo interrupted > {board}; exit 7' INT; echo $$ > {board};"
        " while :; do sleep 0.05; done"
    )
    process = single("/bin/sh", "-c", script, **on(slave))
    pid = board.pid()
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == process.pid  # the daemon's session, not one of its own
    assert os.tcgetpgrp(master) == pid
    assert int(status(pid)["SigIgn"], 16) & ~(0b11 << 31) == 0

    os.write(master, b"\x03")

    assert board.line() == "interrupted"
    assert process.wait(10) == 7


def test_on_a_terminal_cmd_can_read_it(single, terminal):
    master, slave = terminal
    process = single("/bin/sh", "-c", "read line; echo got $line; exit 5", **on(slave))
    os.write(master, b"words\n")
    assert "got words" in read_until(master, b"got words")
    assert process.wait(10) == 5


def test_a_second_start_on_a_terminal_is_in_the_foreground_too(single, board, terminal):
    master, slave = terminal
    script = f"echo $$ > {board}; read line; exit 1"
    process = single(
        "/bin/sh", "-c", script, options=("--set", "service.main.restart=always"), **on(slave)
    )
    first = board.pid()
    os.write(master, b"\n")
    second = board.pid()
    assert second != first
    assert os.tcgetpgrp(master) == second
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
