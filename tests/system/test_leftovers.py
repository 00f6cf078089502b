"""What a main process leaves behind is gone before the next one starts."""

import pytest

from tests.system.helpers import Board, alive, kill, python, reaping, sh


def leaving(board: Board, what: str) -> str:
    """Give the line of a program whose first run leaves something behind when it is killed."""
    return sh(
        f"echo main $$ > {board}\n"
        f"if mkdir {board}.once 2>/dev/null; then {what} & fi\n"
        "while :; do sleep 0.1; done"
    )


IGNORANT = """sh -c 'trap "" TERM; echo left $$ > BOARD; while :; do sleep 0.1; done'"""
POLITE = """sh -c 'echo left $$ > BOARD; exec sleep 1000'"""


def start(daemon, board, what, lines="", *args):
    daemon.start(
        f"[service.web]\n{leaving(board, what.replace('BOARD', str(board)))}{lines}", *args
    )
    said = dict(board.line().split() for _ in range(2))
    return int(said["main"]), int(said["left"])


def test_members_of_the_group_are_ended_before_the_next_start(daemon, board, reaper_mode):
    main, left = start(daemon, board, IGNORANT, "stop_timeout = '2s'\n", *reaping(reaper_mode))

    kill(main)

    ended = daemon.wait_for("service.exited", service="web")
    assert (ended["cause"], ended["wanted"]) == ("signal", "up")
    stopping = daemon.wait_for("service.stopping", service="web")
    assert (stopping["by"], stopping["phase_from"]) == ("policy", "running")
    assert daemon.wait_for("service.leftovers_killed", service="web")["scope"] == "group"
    seen = daemon.look("web")["web"]
    assert (seen["phase"], seen["wanted"], seen["pid"]) == ("stopping", "up", None)
    assert alive(left)

    assert daemon.wait_for("service.kill_escalated", service="web")["after_s"] >= 2
    again = daemon.wait_for("service.restart_scheduled", service="web")
    assert (again["cause"], again["delay_s"]) == ("signal", 0)
    assert board.pid() == daemon.wait_for("service.ready", service="web", run=2)["pid"]
    assert not alive(left)
    assert daemon.stop() == 0
    assert not daemon.running()


@pytest.mark.parametrize("how", ["{}", "setsid {}"], ids=["in the group", "escaped"])
def test_what_ends_when_asked_is_not_waited_for_longer(daemon, board, reaper_mode, how):
    lines = "stop_timeout = '60s'\n"
    main, left = start(daemon, board, how.format(POLITE), lines, *reaping(reaper_mode))
    kill(main)
    again = daemon.wait_for("service.ready", service="web", run=2)
    assert board.pid() == again["pid"]
    assert not alive(left)
    assert daemon.stop() == 0


def test_an_escapee_that_ignores_the_signal_is_killed(daemon, board, reaper_mode):
    lines = "stop_timeout = '400ms'\n"
    main, left = start(daemon, board, f"setsid {IGNORANT}", lines, *reaping(reaper_mode))
    kill(main)
    daemon.wait_for("service.kill_escalated", service="web")
    daemon.wait_for("service.ready", service="web", run=2)
    board.line()
    assert not alive(left)
    assert daemon.stop() == 0
    assert not daemon.running()


def test_an_escapee_goes_with_a_service_that_is_restarted_by_apply(daemon, board):
    _, left = start(daemon, board, f"setsid {POLITE}")
    daemon.wait_for("daemon.ready")
    config = (daemon.home / "supervisord.toml").read_text()
    assert daemon.reload(config + "environment = { NEW = '1' }\n")["restarted"] == 1
    daemon.wait_for("service.ready", service="web", run=2)
    assert not alive(left)


@pytest.mark.parametrize("how", ["{}", "setsid {}"], ids=["in the group", "escaped"])
def test_what_is_to_be_kept_is_kept(daemon, board, reaper_mode, how):
    lines = "stop.leftovers = 'keep'\n"
    main, left = start(daemon, board, how.format(POLITE), lines, *reaping(reaper_mode))
    kill(main)
    daemon.wait_for("service.ready", service="web", run=2)
    board.line()
    assert alive(left)
    assert not daemon.told("service.leftovers_killed")
    assert daemon.stop() == 0  # but not beyond the daemon's own end
    assert not alive(left)
    assert not daemon.running()


DAEMONIZER = """
import fcntl, os, sys, time
lock, board, hurry = sys.argv[1:]
middle = os.fork()
if middle:
    if not int(hurry):
        os.waitpid(middle, 0)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
out = os.open(board, os.O_WRONLY)
try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    os.write(out, b"two\\n")
else:
    os.write(out, b"one %d\\n" % os.getpid())
while True:
    time.sleep(1000)
"""


@pytest.mark.parametrize("hurry", ["0", "1"], ids=["waits for its child", "leaves at once"])
def test_a_program_that_daemonizes_itself_is_never_there_twice(daemon, board, reaper_mode, hurry):
    daemon.start(
        "[service.web]\nrestart = 'always'\nbackoff.delay = 0\nstart_limit.burst = 5\n"
        f"stop_timeout = '30s'\n{python(DAEMONIZER, daemon.home / 'lock', board.path, hurry)}",
        *reaping(reaper_mode),
    )
    daemon.wait_for("service.gave_up", service="web", timeout=20)
    assert daemon.look("web")["web"]["restarts"] == 5
    # A copy may be ended before it can say a word; none may say that it is the second.
    while not board.is_empty():
        assert board.line().startswith("one ")
    assert daemon.stop() == 0
    assert not daemon.running()


def test_orphans_of_nobody_do_not_hold_up_a_start(daemon, board, reaper_mode):
    """An orphan without the mark of a service belongs to nobody, and no service waits for it."""
    clean = (
        f"""env -u SUPERVISORD_SERVICE setsid sh -c 'echo left $$ > {board}; exec sleep 1000'"""
    )
    main, left = start(daemon, board, clean, "stop_timeout = '60s'\n", *reaping(reaper_mode))
    kill(main)
    daemon.wait_for("service.ready", service="web", run=2)
    board.line()
    assert alive(left)
    assert daemon.stop() == 0
    assert not alive(left)
