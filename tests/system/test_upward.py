"""A daemon that was started by somebody who wants to be told, as systemd does."""

import select
import socket

import pytest

from tests.system.helpers import kill, reaping

SLEEPER = 'command = "sleep 1000"\n'


class Boss:
    """Be the socket of whoever started the daemon; `states` are the assignments not looked at."""

    def __init__(self, path):
        self.path = path
        self.states: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.socket.settimeout(20)

    def until(self, state):
        """Wait until this is told; return what was told up to it."""
        while state not in self.states:
            self.states += self.socket.recv(4096).decode().split("\n")
        after = self.states.index(state) + 1
        heard, self.states = self.states[:after], self.states[after:]
        return heard

    def is_quiet(self, seconds):
        """Tell whether nothing comes for so long, after what is there already."""
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(4096)
        return not select.select([self.socket], [], [], seconds)[0]


@pytest.fixture
def boss(tmp_path):
    it = Boss(tmp_path / "notify.sock")
    yield it
    it.socket.close()


def started(daemon, boss, config, *args, **environ):
    daemon.start(config, *args, env={"NOTIFY_SOCKET": str(boss.path), **environ})


def test_a_life_is_told_from_its_beginning_to_its_end(daemon, boss, reaper_mode):
    config = f"[service.web]\n{SLEEPER}"
    started(daemon, boss, config, *reaping(reaper_mode))
    told = boss.until("READY=1")
    told += boss.until("STATUS=1 service: 1 running")

    daemon.reload(config + f"[service.db]\n{SLEEPER}")
    told += boss.until("RELOADING=1")
    told += boss.until("READY=1")
    told += boss.until("STATUS=2 services: 2 running")

    assert daemon.stop() == 0
    told += boss.until("STOPPING=1")
    told += boss.until("EXIT_STATUS=0")
    assert "WATCHDOG=1" not in told


def test_a_watchdog_is_fed_while_the_loop_moves_and_no_longer(daemon, boss):
    started(daemon, boss, f"[service.web]\n{SLEEPER}", WATCHDOG_USEC="400000")
    daemon.wait_for("daemon.ready")
    for _ in range(3):
        boss.until("WATCHDOG=1")

    kill(daemon.pid, 19)  # SIGSTOP
    assert boss.is_quiet(1.0)
    kill(daemon.pid, 18)
    boss.until("WATCHDOG=1")


def test_it_is_ready_when_critical_services_are_if_it_is_told_to_wait_for_them(daemon, boss):
    flag = daemon.home / "flag"
    config = (
        'supervisor.ready_when = "services"\n'
        f'[service.db]\n{SLEEPER}critical = true\nready.exec = "test -e {flag}"\n'
        f'[service.never]\n{SLEEPER}ready.exec = "false"\n'
    )
    started(daemon, boss, config)
    boss.until("STATUS=2 services: 2 starting")
    assert not daemon.told("daemon.ready")

    flag.touch()
    daemon.wait_for("service.ready", "db")
    daemon.wait_for("daemon.ready")
    boss.until("READY=1")


def test_the_variables_are_not_for_services(daemon, boss, tmp_path):
    seen = tmp_path / "seen"
    command = f"command = ['sh', '-c', 'env > {seen}.new && mv {seen}.new {seen}; sleep 1000']\n"
    started(daemon, boss, f"[service.web]\n{command}", WATCHDOG_USEC="60000000")
    boss.until("READY=1")
    daemon.wait_for("service.ready", "web")
    ended = (
        f"type = 'oneshot'\ncommand = ['sh', '-c', 'until test -e {seen}; do sleep 0.05; done']\n"
    )
    daemon.reload(f"[service.web]\n{command}[service.look]\n{ended}")
    daemon.wait_for("service.exited", "look")

    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
