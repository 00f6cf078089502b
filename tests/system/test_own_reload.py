"""A service reads its own configuration again: by signal, by command, by its own word."""

import contextlib

import pytest

from tests.system.helpers import Board, python, reaping, sh

TRAPS = "trap 'echo again >{board}' HUP; echo up >{board}; while :; do sleep 0.1; done"
NOTIFIER = """
SILENT = False
import os, signal, socket
address = os.environ["NOTIFY_SOCKET"]
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect("\\0" + address[1:] if address[0] == "@" else address)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
sender.send(b"READY=1")
while True:
    signal.sigwait({signal.SIGHUP})
    sender.send(b"RELOADING=1")
    if not SILENT:
        sender.send(b"READY=1")
"""


@pytest.fixture
def board(tmp_path):
    it = Board(tmp_path / "board")
    yield it
    it.close()


@pytest.fixture
def reload(daemon, reaper_mode):
    """Start the daemon, and have the service reload when it is up."""
    with contextlib.ExitStack() as stack:

        def start_and_reload(config, up):
            daemon.start(f"[service.a]\n{config}", *reaping(reaper_mode))
            daemon.wait_for("daemon.ready")
            client = stack.enter_context(daemon.client())
            up()
            (outcome,) = client.call("Reload", names=["a"])["outcomes"]
            return outcome

        yield start_and_reload


def test_a_service_reloads_by_its_signal(daemon, reload, board):
    outcome = reload(sh(TRAPS.format(board=board)) + 'reload.signal = "HUP"\n', board.line)

    assert outcome["ok"], outcome
    assert board.line() == "again"
    daemon.stop()


def test_a_service_reloads_by_its_command(daemon, reload, board):
    script = f"kill -HUP $$MAINPID; echo $$SUPERVISORD_HOOK >{board}"
    outcome = reload(
        sh(TRAPS.format(board=board)) + f'reload.command = ["/bin/sh", "-c", "{script}"]\n',
        board.line,
    )

    assert outcome["ok"], outcome
    assert {board.line(), board.line()} == {"reload", "again"}
    daemon.stop()


def test_a_reload_whose_command_fails_is_told_and_the_process_stays(daemon, reload):
    outcome = reload(
        'command = "sleep 1000"\nreload.command = ["/bin/sh", "-c", "exit 3"]\n',
        lambda: daemon.wait_for("service.ready", "a"),
    )

    assert (outcome["ok"], outcome["phase"]) == (False, "running")
    assert daemon.wait_for("service.reload_failed", "a")["error"] == "code 3"
    assert daemon.wait_for("hook.failed", "a")["hook"] == "reload"
    daemon.stop()


def test_a_notify_service_says_itself_when_it_has_reloaded(daemon, reload):
    outcome = reload(
        python(NOTIFIER) + 'type = "notify"\nreload.signal = "HUP"\n',
        lambda: daemon.wait_for("service.ready", "a"),
    )

    assert outcome["ok"], outcome
    assert daemon.wait_for("service.reloaded", "a")["took_s"] > 0
    daemon.stop()


def test_a_notify_service_that_never_says_so_is_too_slow(daemon, reload):
    outcome = reload(
        python(NOTIFIER.replace("False", "True"))
        + 'type = "notify"\nreload.signal = "HUP"\nreload.timeout = "200ms"\n',
        lambda: daemon.wait_for("service.ready", "a"),
    )

    assert not outcome["ok"]
    assert daemon.wait_for("service.reload_failed", "a")["error"] == "timed out"
    assert daemon.look("a")["a"]["ready"]
    daemon.stop()
