"""The completion scripts in the shells they are for: typed, TAB, and what the line is then."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from supervisord_pidfd.cli.verbs import VERBS
from tests.support.ctl import COMMAND, environment, pidfdctl
from tests.support.scripted import Scripted, service, status

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
BEFORE = {
    "bash": "bind 'set enable-bracketed-paste off'",
    "zsh": "unsetopt prompt_cr prompt_sp; autoload -U compinit; compinit -D -u",
}
NAMES = status(
    service("web", group="backend"), service("db"), service("cache-1"),
    *(service(f"worker@{n}", group="backend") for n in range(2)),
)  # fmt: skip


class Fish:
    """Ask fish for what it would offer; the only candidate is taken, as its TAB does."""

    def __init__(self, script, socket):
        self._script, self._socket = script, socket

    def complete(self, line):
        run = subprocess.run(
            ["fish", "--no-config", "-c", f'source {self._script}; complete -C "{line}"'],
            env=environment(**variables(self._socket)), cwd=self._socket.parent,
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        *words, last = line.split()
        offered = [text.partition("\t")[0] for text in run.stdout.splitlines()]
        return [*words, offered[0] if len(offered) == 1 else last]

    def close(self):
        pass


def variables(socket):
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    return {"PIDFDCTL_SOCKET": str(socket), "HOME": str(socket.parent), "PATH": path}


class Shell:
    """Run a shell on a terminal, with the script loaded."""

    def __init__(self, name, script, socket):
        self._master, slave = pty.openpty()
        env = environment(**variables(socket), TERM="dumb", PS1="> ")
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *SHELLS[name]], env=env, cwd=socket.parent, **streams
        )
        os.close(slave)
        self._shown = b""
        self._type(f"{BEFORE[name]}; source {script}; echo read''y\r")
        self._wait_for(rb"ready\r?\n")

    def complete(self, line):
        """Type a line and TAB; return its words then."""
        self._shown = b""
        # To the front of the line, where a command is put that prints every word.
        self._type(f"{line}\t\x01printf '<%s>' \r")
        shown = self._wait_for(rb"(?:<[^<>%]*>)+(?=[\r\n>~]|\x1b|$)")
        return re.findall(r"<(.*?)>", shown.decode())

    def _type(self, text):
        os.write(self._master, text.encode())

    def _wait_for(self, pattern):
        deadline = time.monotonic() + 30
        while not (found := re.search(pattern, self._shown)):
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, self._shown
            self._shown += os.read(self._master, 1 << 16)
        return found[0]

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture(params=[*SHELLS, "fish"])
def shell(request, tmp_path):
    name = request.param
    if shutil.which(name) is None:
        pytest.skip("this shell or formatter is not installed")
    script = tmp_path / f"completion.{name}"
    script.write_text(pidfdctl("/nonexistent", "completion", name).stdout)
    with Scripted(Status=NAMES).serve(tmp_path / "control.sock") as socket:
        one = Shell(name, script, socket) if name in SHELLS else Fish(script, socket)
        try:
            yield one
        finally:
            one.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pidfdctl hist", "pidfdctl history"),
        ("pidfdctl restart --rol", "pidfdctl restart --rolling"),
        ("pidfdctl wait web --for heal", "pidfdctl wait web --for healthy"),
        ("pidfdctl stop d", "pidfdctl stop db"),
        ("pidfdctl stop web cac", "pidfdctl stop web cache-1"),
        ("pidfdctl explain worker@1", "pidfdctl explain worker@1"),
        ("pidfdctl stop @back", "pidfdctl stop @backend"),
        ("pidfdctl completion fi", "pidfdctl completion fish"),
        ("pidfdctl --json hist", "pidfdctl --json history"),
    ],
)
def test_what_was_begun_is_completed(shell, line, words):
    assert shell.complete(line) == words.split()


def test_files_are_completed_where_a_file_is_meant(shell, tmp_path):
    (tmp_path / "new-one.toml").touch()

    assert shell.complete("pidfdctl plan new-o") == ["pidfdctl", "plan", "new-one.toml"]


def test_a_daemon_that_is_down_only_has_no_names(shell, tmp_path):
    (tmp_path / "control.sock").unlink()

    assert shell.complete("pidfdctl stop d") == ["pidfdctl", "stop", "d"]


def words_offered(line, script, tmp_path):
    """Ask bash's function itself, for what a terminal would only list."""
    program = (
        f'source {script}; COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _pidfdctl;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    run = subprocess.run(
        ["bash", "--norc", "-c", program], env=environment(HOME=str(tmp_path)), cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(run.stdout.split())


def test_every_verb_and_every_option_is_offered(tmp_path):
    script = tmp_path / "completion.bash"
    script.write_text(pidfdctl("/nonexistent", "completion", "bash").stdout)

    verbs = words_offered("pidfdctl ", script, tmp_path)
    assert {word for verb in VERBS for word in (verb.name, *verb.aliases)} <= verbs
    for verb in VERBS:
        offered = words_offered(f"pidfdctl {verb.name} -", script, tmp_path)
        assert {flag for option in verb.options for flag in option.flags} <= offered
