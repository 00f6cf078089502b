"""Health checks with the daemon: what is seen, what is told, and what follows."""

import os
import signal

import pytest

from tests.system.helpers import command, kill, python, reaping, sh
from tests.system.test_readiness import free_port, saying

QUICK = "period = '20ms', timeout = '5s', failures = 2"

SERVER = """
import signal, socket, sys
bad = False
def turn(*_):
    global bad
    bad = not bad
signal.signal(signal.SIGUSR1, turn)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = server.accept()
    with peer:
        peer.recv(1000)
        code = b"503 No" if bad else b"200 OK"
        peer.sendall(b"HTTP/1.1 " + code + b"\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


def web(action, port):
    """Give a service that answers 200, and after SIGUSR1 503, and a check of it."""
    check = f"{{http = 'http://127.0.0.1:{port}/', action = '{action}', {QUICK}}}"
    ready = f"ready.tcp = '127.0.0.1:{port}'\nready.period = '20ms'\n"
    return f"[service.web]\n{python(SERVER, str(port))}{ready}health.live = {check}\n"


def status(daemon, name="web"):
    with daemon.client() as client:
        return client.call("Status", names=[name])["services"][0]


def status_when(daemon, **wanted):
    """Return the first status that is like this, as `watch` sees it."""
    with daemon.client() as client:
        client.send("Watch", more=True)
        while True:
            reply, _ = client.receive()
            for one in reply.get("services") or ():
                if one["name"] == "web" and wanted.items() <= one.items():
                    return one


# -- what follows ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failing_liveness_check_restarts_the_service(daemon, reaper_mode):
    daemon.start(web("restart", free_port()), *reaping(reaper_mode))
    first = daemon.wait_for("service.ready", "web")
    status_when(daemon, health="healthy")
    os.kill(first["pid"], signal.SIGUSR1)

    unhealthy = daemon.wait_for("check.unhealthy", "web")
    assert (unhealthy["check"], unhealthy["action"]) == ("live", "restart")
    assert "503" in unhealthy["error"]
    assert daemon.wait_for("service.stopping", "web")["by"] == "health:live"
    assert daemon.wait_for("service.exited", "web")["cause"] == "health"
    assert daemon.wait_for("service.ready", "web")["run"] == first["run"] + 1
    assert status_when(daemon, health="healthy")["last_exit"]["cause"] == "health"


@pytest.mark.slow
def test_a_readiness_check_takes_ready_away_and_gives_it_back(daemon):
    daemon.start(web("none", free_port()))
    pid = daemon.wait_for("service.ready", "web")["pid"]
    assert status_when(daemon, health="healthy")["ready"]
    os.kill(pid, signal.SIGUSR1)
    daemon.wait_for("check.unhealthy", "web")
    failing = status(daemon)
    with daemon.client() as client:
        summary = client.call("Explain", name="web")["summary"]
    os.kill(pid, signal.SIGUSR1)
    daemon.wait_for("check.recovered", "web")
    passing = status(daemon)

    assert (failing["phase"], failing["ready"], failing["health"]) == (
        "running", False, "unhealthy",
    )  # fmt: skip
    check = failing["checks"][0]
    assert (check["name"], check["kind"], check["ok"]) == ("live", "http", False)
    assert check["failures"] >= 2
    assert check["runs"]["failure"] >= 2
    assert check["last_at"] is not None
    assert "503" in check["error"]
    assert summary == "web is running but not ready: health check live fails"
    assert (passing["ready"], passing["health"], passing["pid"]) == (True, "healthy", pid)
    assert daemon.told("service.stopping", "web") == []


@pytest.mark.slow
def test_a_check_may_stop_its_service(daemon):
    daemon.start(web("stop", free_port()))
    pid = daemon.wait_for("service.ready", "web")["pid"]
    os.kill(pid, signal.SIGUSR1)

    assert daemon.wait_for("service.stopped", "web")["by"] == "health:live"
    ended = status(daemon)
    assert (ended["phase"], ended["wanted"]) == ("stopped", "down")


@pytest.mark.slow
def test_a_check_may_end_the_daemon(daemon):
    daemon.start(web("shutdown", free_port()))
    pid = daemon.wait_for("service.ready", "web")["pid"]
    os.kill(pid, signal.SIGUSR1)

    assert daemon.wait() == 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exec", "tcp"])
def test_other_kinds_restart_as_well(daemon, kind):
    flag = daemon.home / "well"
    port = free_port()
    probe = f"exec = ['test', '-e', '{flag}']" if kind == "exec" else f"tcp = '127.0.0.1:{port}'"
    # It is well for as long as its first run makes it so.
    text = (
        "import os, signal, socket, sys\n"
        "here = open(sys.argv[1], 'w')\n"
        "server = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "def end(*_): os.unlink(sys.argv[1]); server.close()\n"
        "signal.signal(signal.SIGUSR1, end)\n"
        "while True: signal.pause()"
    )
    daemon.start(
        f"[service.web]\n{python(text, flag, str(port))}"
        f"ready = {{{probe}, period = '20ms'}}\nhealth.live = {{{probe}, {QUICK}}}\n"
    )
    pid = daemon.wait_for("service.ready", "web")["pid"]
    status_when(daemon, health="healthy")
    os.kill(pid, signal.SIGUSR1)

    assert daemon.wait_for("service.exited", "web")["cause"] == "health"
    assert daemon.wait_for("service.ready", "web")["run"] == 2


@pytest.mark.slow
def test_too_much_memory_restarts_the_service(daemon):
    text = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "signal.sigwait({signal.SIGUSR1})\n"
        "much = b'x' * (128 << 20)\n"
        "signal.pause()"
    )
    check = f"{{memory = '100MiB', {QUICK}}}"
    daemon.start(f"[service.web]\n{python(text)}health.size = {check}\n")
    pid = daemon.wait_for("service.ready", "web")["pid"]
    status_when(daemon, health="healthy")
    os.kill(pid, signal.SIGUSR1)

    unhealthy = daemon.wait_for("check.unhealthy", "web")
    assert unhealthy["check"] == "size"
    assert daemon.wait_for("service.exited", "web")["cause"] == "health"


# -- the watchdog ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_service_that_stops_pinging_is_aborted_and_restarted(daemon, reaper_mode):
    daemon.start(
        "[service.web]\ntype = 'notify'\nhealth.dog = {watchdog = '300ms'}\n"
        + saying("READY=1", "WATCHDOG=1", "stay"),
        *reaping(reaper_mode),
    )
    daemon.wait_for("service.ready", "web")

    exited = daemon.wait_for("service.exited", "web")
    assert (exited["cause"], exited["signal"]) == ("watchdog", "SIGABRT")
    assert daemon.wait_for("service.ready", "web")["run"] == 2


@pytest.mark.slow
def test_a_service_that_pings_in_time_is_left_alone(daemon, board):
    text = (
        "import os, signal, socket, sys, time\n"
        "usec = int(os.environ['WATCHDOG_USEC'])\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.connect(os.environ['NOTIFY_SOCKET'])\n"
        "s.send(b'READY=1')\n"
        "for n in range(8):\n"
        "    s.send(b'WATCHDOG=1'); signal.sigtimedwait([], usec / 4e6)\n"
        "s.send(b'STOPPING=1')\n"
        f"print('pinged', os.getpid(), file=open({str(board)!r}, 'w'))\n"
    )
    daemon.start(
        "[service.web]\ntype = 'notify'\nrestart = 'no'\nhealth.dog = {watchdog = '1s'}\n"
        + python(text)
    )
    board.pid()

    exited = daemon.wait_for("service.exited", "web")
    assert exited["cause"] == "success"
    assert daemon.told("check.unhealthy", "web") == []


@pytest.mark.slow
def test_a_watchdog_may_take_ready_away_alone(daemon):
    daemon.start(
        "[service.web]\ntype = 'notify'\nhealth.dog = {watchdog = '200ms', action = 'none'}\n"
        + saying("READY=1", "WATCHDOG=1", "wait", "WATCHDOG=1", "stay")
    )
    pid = daemon.wait_for("service.ready", "web")["pid"]
    daemon.wait_for("check.unhealthy", "web")
    silent = status(daemon)
    os.kill(pid, signal.SIGUSR1)
    daemon.wait_for("check.recovered", "web")
    heard = status_when(daemon, ready=True)

    assert (silent["ready"], silent["health"], silent["checks"][0]["ok"]) == (
        False, "unhealthy", False,
    )  # fmt: skip
    assert silent["checks"][0]["runs"] == {"success": 1, "timeout": 1}
    assert (heard["health"], heard["checks"][0]["ok"], heard["pid"]) == ("healthy", True, pid)
    assert len(daemon.told("check.recovered", "web")) == 1


# -- the checker ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_its_checker_health_is_unknown_and_nothing_follows(daemon):
    config = web("restart", free_port()).replace(
        "period = '20ms', timeout", "period = '1s', timeout"
    )
    daemon.start(config)
    pid = daemon.wait_for("service.ready", "web")["pid"]
    checker = daemon.wait_for("service.ready", ":checker")["pid"]
    status_when(daemon, health="healthy")
    kill(checker)
    daemon.wait_for("service.exited", ":checker")
    unknown = status(daemon)
    daemon.wait_for("service.ready", ":checker")
    again = status_when(daemon, health="healthy")

    assert (unknown["health"], unknown["ready"], unknown["pid"]) == ("unknown", True, pid)
    assert again["pid"] == pid
    assert daemon.told("check.unhealthy") == []
    assert daemon.told("service.stopping", "web") == []


@pytest.mark.slow
def test_a_check_comes_and_goes_without_a_restart(daemon):
    plain = "[service.web]\n" + command("sleep", "1000")
    daemon.start(plain)
    pid = daemon.wait_for("service.ready", "web")["pid"]
    assert status(daemon)["health"] == "none"
    daemon.reload(plain + f"health.live = {{exec = ['false'], action = 'none', {QUICK}}}\n")
    daemon.wait_for("check.unhealthy", "web")
    failing = status(daemon)
    daemon.reload(plain)
    passing = status(daemon)

    assert (failing["health"], failing["ready"], failing["pid"]) == ("unhealthy", False, pid)
    assert (passing["health"], passing["ready"], passing["pid"]) == ("none", True, pid)
    assert passing["checks"] == []


@pytest.mark.slow
def test_checks_run_from_ready_on(daemon):
    daemon.start(
        "[service.web]\ntype = 'notify'\n"
        f"health.live = {{exec = ['false'], {QUICK}, action = 'none'}}\n"
        + saying("wait", "READY=1", "stay")
    )
    pid = daemon.wait_for("service.spawned", "web")["pid"]
    checks = status(daemon)["checks"]
    os.kill(pid, signal.SIGUSR1)
    daemon.wait_for("check.unhealthy", "web")

    events = [one["event"] for one in daemon.events if one.get("service") == "web"]
    assert checks[0]["runs"] == {}
    assert events.index("service.ready") < events.index("check.unhealthy")


@pytest.mark.slow
def test_a_command_that_hangs_is_a_failure_and_is_killed(daemon, board):
    hangs = sh(f"echo $$ > {board}; exec sleep 1000").partition(" = ")[2].strip()
    check = f"{{exec = {hangs}, period = '10s', timeout = '200ms', failures = 1, action = 'none'}}"
    daemon.start("[service.web]\n" + command("sleep", "1000") + f"health.live = {check}\n")
    pid = board.pid()
    unhealthy = daemon.wait_for("check.unhealthy", "web")

    assert unhealthy["error"] == "no answer in time"
    assert status(daemon)["checks"][0]["runs"] == {"timeout": 1}
    assert pid not in daemon.running()
