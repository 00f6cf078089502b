"""The installed `pidfdctl` as a process: pipes, terminals, signals, and a socket with a script."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from tests.support.ctl import COMMAND, environment, pidfdctl
from tests.support.scripted import Scripted, error, outcome, service, status

WEB = status(service("web", detail="x" * 100))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


def test_text_and_json_through_the_socket(path):
    with Scripted(Status=WEB).serve(path):
        text, plain = pidfdctl(path), pidfdctl(path, "--json")

    assert text.stdout.splitlines()[0].split()[:2] == ["SERVICE", "PHASE"]
    assert json.loads(plain.stdout)["services"][0]["name"] == "web"
    assert (text.returncode, text.stderr, plain.stderr) == (0, "", "")


def test_the_socket_may_be_named_by_the_environment(path):
    with Scripted(Status=WEB).serve(path):
        ran = subprocess.run(
            [COMMAND, "status", "--names"],
            env=environment(PIDFDCTL_SOCKET=str(path)),
            capture_output=True,
            check=True,
        )

    assert ran.stdout == b"web\n"


def test_a_daemon_that_is_down(path):
    ran = pidfdctl(path)

    assert ran.returncode == 7
    assert ran.stderr.splitlines() == [
        f"pidfdctl: cannot reach the daemon at {path}: no such file",
        "          is it running?  (another socket: pidfdctl -s PATH, or PIDFDCTL_SOCKET)",
    ]


def test_a_daemon_that_has_gone_and_left_its_socket(path):
    with Scripted().serve(path):
        pass
    ran = pidfdctl(path, "--json", "start", "web")

    assert ran.returncode == 7
    assert json.loads(ran.stdout)["error"]["parameters"]["reason"] == "connection refused"


@pytest.mark.parametrize(("words", "code"), [(["statr", "web"], 2), (["--nope"], 2)])
def test_a_wrong_command_line(path, words, code):
    ran = pidfdctl(path, *words, "--json")

    assert ran.returncode == code
    assert json.loads(ran.stdout)["error"]["name"] == "Usage"
    assert ran.stderr.startswith("pidfdctl: ")


@pytest.mark.parametrize("words", [["--help"], ["start", "--help"], ["-h"]])
def test_help_needs_no_daemon(path, words):
    ran = pidfdctl(path, *words)

    assert ran.returncode == 0
    assert ran.stdout.startswith("usage: pidfdctl ")


def test_a_reader_that_leaves_is_no_error(path):
    many = status(*(service(f"service-{n}", detail="x" * 100) for n in range(2000)))
    with Scripted(Status=many).serve(path):
        reader, writer = os.pipe()
        os.close(reader)
        with subprocess.Popen(
            [COMMAND, "-s", path], env=environment(), stdout=writer, stderr=subprocess.PIPE
        ) as ran:
            os.close(writer)
            said = ran.stderr.read()

    assert (ran.returncode, said) == (141, b"")


def test_an_output_that_is_full_is_told(path):
    with Scripted(Status=WEB).serve(path), open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [COMMAND, "-s", path], env=environment(), stdout=full, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip

    assert ran.returncode == 1
    assert ran.stderr == b"pidfdctl: cannot show the services: no space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_do_no_harm(path, closed):
    with Scripted(Status=WEB).serve(path):
        ran = subprocess.run(
            ["sh", "-c", f'exec "$0" "$@" {closed}', COMMAND, "-s", path], env=environment(),
            capture_output=True, check=False,
        )  # fmt: skip

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_shell_without_completion_is_named(path):
    ran = pidfdctl(path, "completion", "tcsh")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "pidfdctl: no completion for 'tcsh' (there is one for bash, zsh, fish)\n"
    )


def test_an_output_without_unicode_loses_no_line(path):
    with Scripted(Status=status(service("web", detail="größer → kleiner"))).serve(path):
        ran = pidfdctl(path, env={"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0",
                                  "PYTHONUTF8": "0"})  # fmt: skip

    assert ran.returncode == 0
    assert "gr\\xf6\\xdfer \\u2192 kleiner" in ran.stdout


def test_ctrl_c_ends_the_wait(path):
    daemon = Scripted(Start=[])
    with (
        daemon.serve(path),
        subprocess.Popen(
            [COMMAND, "-s", path, "start", "web"], env=environment(), stderr=subprocess.PIPE
        ) as ran,
    ):
        daemon.heard.get(timeout=30)
        ran.send_signal(signal.SIGINT)
        said = ran.stderr.read()

    assert ran.returncode == 130
    assert said == b"pidfdctl: interrupted: cannot confirm 'web'; it goes on\n"


def test_outcomes_are_printed_as_they_come(path):
    first = {"change": 17, "outcomes": [outcome("web", "running (ready in 0.4s)")]}
    late = error("WaitTimedOut", change=17, outcomes=[
        outcome("report", "waiting for worker@0", "waiting", ok=False)])  # fmt: skip
    with Scripted(Start=[first, late]).serve(path):
        ran = pidfdctl(path, "start", "web", "report", "--timeout", "5s")

    assert ran.returncode == 5
    assert ran.stdout == "web: running (ready in 0.4s)\n"
    assert ran.stderr == (
        "pidfdctl: cannot confirm 'report': waiting for worker@0 after 5s;"
        " it goes on (pidfdctl wait --change 17)\n"
    )


# -- on a terminal --------------------------------------------------------------------------------


class Terminal:
    """Run the command on a terminal of our own; `shown` is all it wrote so far."""

    def __init__(self, path, *words, columns=80, rows=24):
        self.shown = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        command = ["setsid", "--ctty", COMMAND, "-s", path, *words]
        self.process = subprocess.Popen(command, env=environment(), **streams)

    def wait_for(self, text, times=1):
        """Read until a text was shown so often."""
        deadline = time.monotonic() + 30
        while self.shown.count(text) < times:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, self.shown
            self.shown += os.read(self._master, 1 << 16)

    def settings(self):
        return termios.tcgetattr(self._slave)

    def press(self, keys):
        os.write(self._master, keys)

    def end(self):
        """Wait for the end; return the exit code and how the terminal was left."""
        code = self.process.wait(30)
        while select.select([self._master], [], [], 0)[0]:
            self.shown += os.read(self._master, 1 << 16)
        after = termios.tcgetattr(self._slave)
        return code, after

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)


@pytest.fixture
def terminal(path):
    with contextlib.ExitStack() as stack:

        def start(*words, **size):
            one = Terminal(path, *words, **size)
            stack.callback(one.close)
            return one

        yield start


def test_a_table_fits_the_terminal(path, terminal):
    with Scripted(Status=WEB).serve(path):
        screen = terminal("status", columns=100)
        code, _ = screen.end()

    lines = screen.shown.replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"").decode().splitlines()
    assert code == 0
    assert [len(line) for line in lines if line.startswith("web")] == [100]


@pytest.mark.parametrize("words", [["status", "--watch"], ["top"]])
@pytest.mark.parametrize(("end", "code"), [(b"q", 0), (b"\x03", 130)])
def test_watching_leaves_the_terminal_as_it_was(path, terminal, words, end, code):
    with Scripted(Status=WEB).serve(path):
        screen = terminal(*words)
        screen.wait_for(b"1 service", times=2)
        screen.press(end)
        ended = screen.end()

    assert ended == (code, screen.before)
    assert b"pidfdctl: " not in screen.shown
    assert screen.shown.startswith(b"\x1b[?1049h\x1b[?25l\x1b[?7l")
    assert b"\x1b[?7h\x1b[?25h\x1b[?1049l" in screen.shown


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(path, terminal):
    with Scripted(Status=WEB).serve(path):
        screen = terminal("top")
        screen.wait_for(b"1 service")
        screen.process.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)
        while_stopped = screen.settings()
        screen.process.send_signal(signal.SIGCONT)
        screen.wait_for(b"1 service", times=2)
        screen.press(b"q")
        ended = screen.end()

    assert while_stopped == screen.before
    assert ended == (0, screen.before)
    assert screen.shown.count(b"\x1b[?1049h") == screen.shown.count(b"\x1b[?1049l") == 2


def test_more_services_than_rows_are_counted(path, terminal):
    many = status(*(service(f"s{n}") for n in range(100)))
    with Scripted(Status=many).serve(path):
        screen = terminal("status", "--watch", rows=10)
        screen.wait_for(b"94 more")
        screen.press(b"q")
        code, _ = screen.end()

    assert code == 0
