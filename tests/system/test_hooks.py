"""Hooks as the file gives them, run by the daemon."""

import pytest

from tests.system.helpers import Board, reaping, sh

STOPPED = 'trap "exit 0" TERM; while :; do sleep 0.1; done'


@pytest.fixture
def board(tmp_path):
    it = Board(tmp_path / "board")
    yield it
    it.close()


def say(board, words):
    script = f"echo {words} >{board}"
    return f'["/bin/sh", "-c", "{script.replace("$", "$$")}"]'


def test_the_hooks_of_a_service_run_in_their_order(daemon, board, reaper_mode):
    names = ("pre_start", "post_start", "pre_stop", "post_stop")
    daemon.start(
        "[service.web]\n"
        + sh(STOPPED)
        + "".join(f"hooks.{name} = {say(board, '$SUPERVISORD_HOOK')}\n" for name in names),
        *reaping(reaper_mode),
    )
    daemon.wait_for("service.ready", service="web")
    before = [board.line(), board.line()]
    assert daemon.stop() == 0

    assert before == ["pre_start", "post_start"]
    assert [board.line(), board.line()] == ["pre_stop", "post_stop"]
    assert not daemon.running()


def test_a_first_hook_that_fails_is_told_and_is_the_cause(daemon, reaper_mode):
    daemon.start(
        '[service.web]\ncommand = "sleep 1000"\nrestart = "no"\nhooks.pre_start = "/bin/false"\n',
        *reaping(reaper_mode),
    )
    failed = daemon.wait_for("hook.failed", service="web")
    gave_up = daemon.wait_for("service.gave_up", service="web")

    assert (failed["hook"], failed["exit_code"], failed["timed_out"]) == ("pre_start", 1, False)
    assert (gave_up["cause"], gave_up["reason"]) == ("hook", "policy")
    daemon.stop()


def test_a_failure_runs_its_hook(daemon, board, reaper_mode):
    told = say(board, "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS")
    daemon.start(
        "[service.web]\n" + sh("exit 3") + f'restart = "no"\nhooks.on_failure = {told}\n',
        *reaping(reaper_mode),
    )

    assert board.line() == "exit_code exited 3"
    daemon.stop()


def test_a_failure_that_ends_the_daemon_lets_its_hook_tell_somebody(daemon, board, reaper_mode):
    told = f'["/bin/sh", "-c", "sleep 1; echo told >{board}"]'
    daemon.start(
        "[service.web]\n"
        + sh("exit 3")
        + f'restart = "no"\ncritical = true\nhooks.on_failure = {told}\n',
        *reaping(reaper_mode),
    )

    assert board.line() == "told"
    assert daemon.wait() == 3


def test_nothing_of_a_hook_outlives_the_daemon(daemon, board, reaper_mode):
    stay = f'["/bin/sh", "-c", "echo up >{board}; while :; do sleep 0.1; done"]'
    daemon.start(
        "[service.web]\n" + sh("exit 3") + f'restart = "no"\nhooks.on_failure = {stay}\n',
        "--set",
        "supervisor.shutdown_timeout=1s",
        *reaping(reaper_mode),
    )
    assert board.line() == "up"
    daemon.stop()

    assert not daemon.running()


def test_a_stop_command_ends_the_service(daemon, board, reaper_mode):
    main = f"trap 'exit 9' USR1; trap '' TERM; echo up >{board}; while :; do sleep 0.1; done"
    daemon.start(
        "[service.web]\n"
        + sh(main)
        + 'stop.command = ["/bin/sh", "-c", "kill -USR1 $$MAINPID"]\n',
        *reaping(reaper_mode),
    )
    assert board.line() == "up"
    daemon.stop()
    stopping = daemon.wait_for("service.stopping", service="web")
    exited = daemon.wait_for("service.exited", service="web")

    assert stopping["signal"] is None
    assert (exited["exit_code"], exited["forced"]) == (9, False)
