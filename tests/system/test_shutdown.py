"""The daemon stops everything inside its budget, once, and leaves nothing behind."""

import fcntl
import os
import signal
import termios

import pytest

from tests.system.helpers import Board, alive, command, gone, python, reaping, sh

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGRTMIN + 3]


def stubborn(board: Board, ignored: str = "TERM") -> str:
    """Give the line of a program that ignores its stop signal."""
    return sh(f"trap '' {ignored}; echo ready $$ > {board}; while :; do sleep 1; done")


def after(seconds: float) -> str:
    """Give the line of a program that takes so long to end when asked to."""
    return sh(f"trap 'sleep {seconds}; exit 0' TERM; while :; do sleep 0.1; done")


# -- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=["TERM", "INT", "QUIT", "RTMIN+3"])
def test_each_stop_signal_stops_gracefully(daemon, reaper_mode, signum):
    daemon.start('[service.web]\ncommand = "sleep 1000"\n', *reaping(reaper_mode))
    pid = daemon.wait_for("service.ready", service="web")["pid"]
    daemon.wait_for("daemon.ready")

    daemon.signal(signum)

    name = "SIGRTMIN+3" if signum > signal.SIGSYS else signal.Signals(signum).name
    stopping = daemon.wait_for("daemon.stopping")
    assert (stopping["by"], stopping["signal"], stopping["timeout_s"]) == ("signal", name, 80)
    ended = daemon.wait_for("service.exited", service="web")
    assert (ended["cause"], ended["signal"], ended["wanted"]) == ("operator", "SIGTERM", "down")
    assert daemon.wait() == 0
    assert daemon.told("daemon.stopped", exit_code=0, left_alive=0)
    assert not alive(pid)
    assert not daemon.running()


def test_other_signals_do_nothing(daemon):
    daemon.start('[service.web]\ncommand = "sleep 1000"\n')
    daemon.wait_for("daemon.ready")
    others = ["PIPE", "WINCH", "TTIN", "TTOU", "TSTP", "URG", "CONT", "CHLD", "USR2"]
    for signum in [*(getattr(signal, f"SIG{name}") for name in others), signal.SIGRTMIN + 7]:
        daemon.signal(signum)
        assert daemon.look("web")["web"]["phase"] == "running"
    assert not daemon.told("daemon.stopping")
    assert not daemon.told("loop.callback_crashed")
    assert daemon.stop() == 0


def test_signals_can_be_rewritten(daemon):
    daemon.start(
        "[supervisor.signals]\nHUP = 'TERM'\nQUIT = 'ignore'\n"
        '[service.web]\ncommand = "sleep 1000"\n'
    )
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGQUIT)
    assert daemon.look("web")["web"]["phase"] == "running"
    daemon.signal(signal.SIGHUP)
    assert daemon.wait_for("daemon.stopping")["signal"] == "SIGTERM"
    assert daemon.wait() == 0


# -- how long it takes ----------------------------------------------------------------------------


def test_what_ignores_the_signal_is_killed_at_its_timeout(daemon, board, reaper_mode):
    daemon.start(
        f'[service.web]\n{stubborn(board)}stop_timeout = "200ms"\n', *reaping(reaper_mode)
    )
    pid = board.pid()
    assert daemon.stop() == 0
    escalated = daemon.told("service.kill_escalated", service="web")
    assert len(escalated) == 1
    assert escalated[0]["after_s"] >= 0.2
    ended = daemon.told("service.exited", service="web")[0]
    assert (ended["signal"], ended["forced"], ended["cause"]) == ("SIGKILL", True, "operator")
    assert not alive(pid)
    assert not daemon.running()


def test_the_steps_of_a_stop_sequence(daemon, board):
    daemon.start(
        "[service.web]\n"
        + python(
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "def leave(*_): print('int', file=open(sys.argv[1], 'w')); sys.exit(0)\n"
            "signal.signal(signal.SIGINT, leave)\n"
            "print('ready', file=open(sys.argv[1], 'w'), flush=True)\n"
            "while True: signal.pause()",
            board.path,
        )
        + 'stop.sequence = ["TERM 100ms", "INT 20s"]\n'
    )
    assert board.line() == "ready"
    assert daemon.stop() == 0
    assert board.line() == "int"
    assert daemon.told("service.exited", service="web")[0]["forced"] is False


def test_all_of_it_ends_within_the_budget(daemon, board, reaper_mode):
    daemon.start(
        f'supervisor.shutdown_timeout = "1s"\n[service.a]\n{stubborn(board)}stop_timeout = "60s"\n'
        f'[service.b]\n{stubborn(board)}stop_timeout = "infinity"\n'
        f"[service.c]\n{stubborn(board)}autostart = false\n",
        *reaping(reaper_mode),
    )
    board.line()
    board.line()
    assert daemon.stop() == 0
    stopping = {e["service"]: e for e in daemon.told("service.stopping")}
    assert stopping["a"]["timeout_s"] == pytest.approx(
        0.8, abs=0.01
    )  # the last fifth is for SIGKILL
    for name in "ab":
        ended = daemon.told("service.exited", service=name)[0]
        assert (ended["signal"], ended["forced"]) == ("SIGKILL", True)
    assert daemon.told("daemon.stopped", left_alive=0)
    assert not daemon.running()


def test_a_second_signal_hastens_and_an_echo_does_not(daemon, board, reaper_mode):
    daemon.start(
        f'[service.web]\n{stubborn(board)}stop_timeout = "60s"\n[service.slow]\n{after(0.7)}',
        *reaping(reaper_mode),
    )
    board.line()
    daemon.wait_for("daemon.ready")

    daemon.signal(signal.SIGINT)
    daemon.wait_for("daemon.stopping")
    daemon.signal(signal.SIGINT)  # the same Ctrl-C, seen twice
    assert daemon.look("web", "slow")["web"]["phase"] == "stopping"
    assert not daemon.told("daemon.hastened")

    daemon.wait_for("service.exited", service="slow")  # it takes more than half a second
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_for("daemon.hastened")["signal"] == "SIGTERM"
    assert daemon.wait() == 0
    assert daemon.told("service.exited", service="web")[0]["forced"]
    assert not daemon.running()


def test_a_reload_during_shutdown_is_ignored(daemon, board):
    daemon.start(f'[service.web]\n{stubborn(board)}stop_timeout = "500ms"\n')
    board.line()
    daemon.wait_for("daemon.ready")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("daemon.stopping")

    daemon.write_config('[service.other]\ncommand = "sleep 1000"\n')
    daemon.signal(signal.SIGHUP)

    assert daemon.look("web")["web"]["phase"] == "stopping"
    assert daemon.wait() == 0
    assert len(daemon.told("config.applied")) == 1
    assert not daemon.told("service.spawned", service="other")


def test_a_stop_in_the_middle_of_a_reload(daemon):
    config = '[service.web]\ncommand = "sleep 1000"\n'
    daemon.start(config)
    daemon.wait_for("daemon.ready")
    daemon.write_config(config.replace("1000", "2000"))
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not daemon.running()


def test_every_phase_ends_at_once(daemon, reaper_mode):
    daemon.start(
        f"[service.backing-off]\n{sh('exit 1')}backoff.delay = '50s'\n"
        f"[service.done]\n{sh('exit 0')}"
        f"[service.failed]\nrestart = 'no'\n{sh('exit 1')}"
        f"[service.starting]\n{command('sleep', '1000')}ready.delay = '50s'\n",
        *reaping(reaper_mode),
    )
    for _ in range(2):
        daemon.wait_for("service.restart_scheduled", service="backing-off")
    daemon.wait_for("service.gave_up", service="failed")
    seen = daemon.look("backing-off", "done", "failed", "starting")
    assert [one["phase"] for one in seen.values()] == ["backoff", "exited", "failed", "starting"]
    assert daemon.stop() == 0
    assert not daemon.told("service.spawned", service="backing-off", run=3)
    assert not daemon.running()


# -- nothing stays --------------------------------------------------------------------------------

FAMILY = """
echo main $$ > BOARD
sh -c 'echo child $$ > BOARD; exec sleep 1000' &
setsid sh -c 'echo escaped $$ > BOARD; exec sleep 1000' &
setsid sh -c 'trap "" TERM; echo stubborn $$ > BOARD; while :; do sleep 1; done' &
(setsid sh -c 'echo orphan $$ > BOARD; exec sleep 1000' &)
wait
"""


def test_grandchildren_escapees_and_orphans_are_gone(daemon, board, reaper_mode):
    daemon.start(
        f'[service.web]\n{sh(FAMILY.replace("BOARD", str(board)))}stop_timeout = "500ms"\n',
        *reaping(reaper_mode),
    )
    pids = dict(board.line().split() for _ in range(5))
    daemon.wait_for("daemon.ready")
    assert daemon.stop() == 0
    assert daemon.told("daemon.stopped", left_alive=0)
    assert not [name for name, pid in pids.items() if alive(int(pid))]
    assert not daemon.running()


def test_an_orphan_of_a_service_that_is_done_is_ended(daemon, board, reaper_mode):
    script = f"setsid sh -c 'echo orphan $$ > {board}; exec sleep 1000' & exit 0"
    daemon.start(
        f"[service.once]\ntype = 'oneshot'\nstop.leftovers = 'keep'\n{sh(script)}",
        *reaping(reaper_mode),
    )
    daemon.wait_for("service.exited", service="once", phase_to="exited")
    pid = board.pid()
    assert alive(pid)
    assert daemon.stop() == 0
    assert not alive(pid)
    assert not daemon.running()


@pytest.mark.parametrize("scope", ["group", "mixed", "process"])
def test_who_gets_the_signals(daemon, board, scope):
    child = (
        f"trap 'echo child > {board}; exit 0' TERM; echo ready > {board};"
        " while :; do sleep 0.1; done"
    )
    script = f'sh -c "{child}" & trap "exit 0" TERM; wait'
    daemon.start(f'[service.web]\nstop.scope = "{scope}"\nstop_timeout = "30s"\n{sh(script)}')
    board.line()
    daemon.wait_for("daemon.ready")
    assert daemon.stop() == 0
    if scope == "mixed":
        assert board.is_empty()  # SIGKILL does not ask
    else:
        assert board.line() == "child"  # by the group; as an orphan when its parent was gone
    assert not daemon.running()


# -- a terminal -----------------------------------------------------------------------------------


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    yield master, slave
    for fd in (master, slave):
        try:
            os.close(fd)
        except OSError:
            continue


def on(terminal: int) -> dict[str, object]:
    """Make this the controlling terminal of the daemon's session."""
    return {
        "stdin": terminal,
        "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    }


def test_ctrl_c_reaches_the_daemon_alone(daemon, board, terminal, reaper_mode):
    master, slave = terminal
    script = (
        f"trap 'echo interrupted > {board}' INT; echo ready > {board}; while :; do sleep 0.1; done"
    )
    daemon.start(f"[service.web]\n{sh(script)}", *reaping(reaper_mode), **on(slave))
    board.line()
    daemon.wait_for("daemon.ready")

    os.write(master, b"\x03")

    assert daemon.wait_for("daemon.stopping")["signal"] == "SIGINT"
    assert daemon.wait() == 0
    assert daemon.told("service.exited", service="web")[0]["signal"] == "SIGTERM"
    assert daemon.told("daemon.stopped")  # the logger was not hit either
    assert board.is_empty()
    assert not daemon.running()


def test_a_terminal_that_hangs_up_ends_nothing(daemon, terminal):
    master, slave = terminal
    daemon.start('[service.web]\ncommand = "sleep 1000"\n', **on(slave))
    daemon.wait_for("daemon.ready")
    os.close(slave)
    os.close(master)
    assert daemon.wait_for("config.applied", by="signal")  # the kernel sends SIGHUP
    assert daemon.look("web")["web"]["phase"] == "running"
    assert daemon.stop() == 0


def test_a_killed_daemon_leaves_its_services_alone(daemon):
    daemon.start(
        '[service.web]\ncommand = "sleep 1000"\n'
        '[service.tied]\ncommand = "sleep 1000"\nparent_death_signal = "KILL"\n'
    )
    web = daemon.wait_for("service.ready", service="web")["pid"]
    tied = daemon.wait_for("service.ready", service="tied")["pid"]
    daemon.kill()
    assert gone(tied)
    assert alive(web)
