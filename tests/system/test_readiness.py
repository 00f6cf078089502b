"""Services say, or are asked, when they are ready: the daemon with a file and real programs."""

import os
import pwd
import shutil
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.world import CHILDREN
from tests.system.helpers import command, descriptors, kill, python, reaping, sh

NOTIFIER = CHILDREN / "notifier.py"
NOTIFY = 'type = "notify"\n'
TALKATIVE = ("--set", "supervisor.log.level=debug")
"""Changes of the status are told at this level."""

PATIENT = "backoff.delay = 0\nstart_limit.burst = 0\n"


def saying(*words):
    """Give the line of a program that says these words on its notify socket."""
    return command(sys.executable, "-I", "-S", NOTIFIER, *words)


@pytest.fixture
def in_the_open():
    """Give a daemon whose runtime directory others may enter, as /run is."""
    with tempfile.TemporaryDirectory(prefix="readiness-") as place:
        os.chmod(place, 0o755)
        it = Daemon(Path(place))
        try:
            yield it
        finally:
            it.close()


@pytest.fixture
def made():
    """Give the path of a file that is not there yet, where the checker's user may look."""
    with tempfile.TemporaryDirectory(prefix="readiness-") as place:
        os.chmod(place, 0o755)
        yield Path(place) / "made"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


# -- the notify socket ----------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="systemd-notify is not installed")
def test_the_real_systemd_notify_makes_a_shell_ready(daemon):
    script = "systemd-notify --ready --status='serving 3'; exec sleep 1000"
    daemon.start(f"[service.web]\n{NOTIFY}notify_access = 'all'\n{sh(script)}", *TALKATIVE)

    assert daemon.wait_for("service.ready", "web")["way"] == "notify"
    assert daemon.wait_for("service.status_changed", "web")["text"] == "serving 3"
    assert daemon.stop() == 0


def test_the_sdnotify_package_makes_a_program_ready(daemon):
    text = (
        "import sdnotify, signal; n = sdnotify.SystemdNotifier(debug=True);"
        "n.notify('STATUS=up'); n.notify('READY=1'); signal.pause()"
    )
    daemon.start(f"[service.web]\n{NOTIFY}{command(sys.executable, '-I', '-c', text)}", *TALKATIVE)

    assert daemon.wait_for("service.status_changed", "web")["text"] == "up"
    assert daemon.wait_for("service.ready", "web")["way"] == "notify"


def test_without_ready_it_is_starting(daemon):
    daemon.start(f"[service.web]\n{NOTIFY}{saying('STATUS=not yet', 'stay')}", *TALKATIVE)
    daemon.wait_for("service.status_changed", "web")
    seen = daemon.look("web")["web"]

    assert (seen["phase"], seen["ready"]) == ("starting", False)
    assert daemon.stop() == 0


@pytest.mark.slow
def test_ready_just_before_the_end_is_never_lost(daemon, reaper_mode):
    web = f"[service.web]\n{NOTIFY}restart = 'always'\n{PATIENT}{saying('READY=1', 'exit:0')}"
    daemon.start(web, *reaping(reaper_mode))
    daemon.wait_for("service.exited", "web", run=60, timeout=60)
    told = [(one["event"], one["run"]) for one in daemon.events if one.get("service") == "web"]

    for run in range(1, 61):
        assert [event for event, its in told if its == run and event == "service.ready"], run
    assert daemon.told("service.exited", "web", cause="exit_code") == []


@pytest.mark.slow
def test_a_flood_of_messages_does_not_hold_up_another(daemon):
    flood = (
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        "s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'READY=1')\n"
        "for n in range(300000): s.send(b'WATCHDOG=1')\n"
        "s.send(b'STATUS=done'); import signal; signal.pause()"
    )
    loud = f"[service.loud]\n{NOTIFY}{python(flood)}"
    daemon.start(loud, *TALKATIVE)
    daemon.wait_for("service.ready", "loud")
    daemon.reload(f"{loud}[service.calm]\n{NOTIFY}{saying('READY=1', 'stay')}")
    ready = daemon.wait_for("service.ready", "calm")
    done = daemon.told("service.status_changed", "loud")

    assert ready["took_s"] < 5
    assert done == []  # the flood went on meanwhile


def test_fifty_messages_with_three_descriptors_each_leave_none(daemon):
    words = ["fds:3", "STATUS=x"] * 50
    config = f"[service.web]\n{NOTIFY}{saying('READY=1', 'wait', *words, 'barrier', 'STATUS=end')}"
    daemon.start(config, *TALKATIVE)
    pid = daemon.wait_for("service.ready", "web")["pid"]
    daemon.look("web")
    before = descriptors(daemon.pid)
    os.kill(pid, signal.SIGUSR1)
    daemon.wait_for("service.status_changed", "web", text="end")

    assert descriptors(daemon.pid).keys() <= before.keys()
    refused = daemon.told("notify.refused", "web")
    assert [one["reason"] for one in refused] == ["descriptors"]


def test_a_socket_of_a_run_goes_with_it(daemon):
    daemon.start(f"[service.web]\n{NOTIFY}{saying('READY=1', 'stay')}")
    pid = daemon.wait_for("service.ready", "web")["pid"]
    notify = daemon.home / "run" / "notify"
    assert stat.S_IMODE(notify.stat().st_mode) == 0o711
    assert [path.name for path in notify.iterdir()] == ["web.1"]
    kill(pid)
    daemon.wait_for("service.ready", "web")

    assert [path.name for path in notify.iterdir()] == ["web.2"]
    assert daemon.stop() == 0
    assert not notify.exists() or list(notify.iterdir()) == []


@pytest.mark.root
def test_a_service_of_another_user_reaches_its_socket_and_owns_it(in_the_open):
    daemon, nobody = in_the_open, pwd.getpwnam("nobody")
    script = f"""exec {sys.executable} -I -S -c "
import os, signal, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
signal.pause()" """
    daemon.start(f"[service.web]\n{NOTIFY}user = 'nobody'\n{sh(script)}")
    daemon.wait_for("service.ready", "web")
    owned = (daemon.home / "run" / "notify" / "web.1").stat()

    assert owned.st_uid == nobody.pw_uid
    assert stat.S_IMODE(owned.st_mode) == 0o600


def test_one_service_alone_may_notify_as_well(daemon):
    words = [sys.executable, "-I", "-S", str(NOTIFIER), "READY=1", "exit:0"]
    daemon.start(None, "--set", "service.main.type=notify", "--", *words)

    assert daemon.wait() == 0


# -- descriptors ----------------------------------------------------------------------------------

STORE = """
import os, signal, socket
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ["NOTIFY_SOCKET"])
count = int(os.environ.get("LISTEN_FDS", "0"))
if count:
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    said = socket.socket(fileno=3).recv(10).decode()
    sender.send(f"STATUS={os.environ['LISTEN_FDNAMES']} {said}\\nREADY=1".encode())
else:
    ours, theirs = socket.socketpair()
    theirs.send(b"kept")
    socket.send_fds(sender, [b"FDSTORE=1\\nFDNAME=pair"], [ours.fileno(), theirs.fileno()])
    sender.send(b"STATUS=stored\\nREADY=1")
signal.pause()
"""


def test_stored_descriptors_come_back_after_a_crash(daemon, reaper_mode):
    web = f"[service.web]\n{NOTIFY}fdstore.max = 4\n{python(STORE)}"
    daemon.start(web, *reaping(reaper_mode), *TALKATIVE)
    pid = daemon.wait_for("service.ready", "web")["pid"]
    assert daemon.wait_for("service.status_changed", "web")["text"] == "stored"
    kill(pid)
    daemon.wait_for("service.ready", "web")

    assert daemon.wait_for("service.status_changed", "web")["text"] == "pair:pair kept"


def test_a_newline_on_the_descriptor_makes_it_ready(daemon):
    daemon.start(f"[service.web]\nready.fd = 7\n{sh('echo >&7; exec sleep 1000')}")

    assert daemon.wait_for("service.ready", "web")["way"] == "fd"


# -- asked from outside ---------------------------------------------------------------------------

LISTENER = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = server.accept()
    if sys.argv[2] == "http":
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
    peer.close()
"""


@pytest.mark.parametrize("way", ["tcp", "http"])
def test_a_port_or_url_that_answers_makes_it_ready(daemon, way):
    port = free_port()
    target = f"127.0.0.1:{port}" if way == "tcp" else f"http://127.0.0.1:{port}/health"
    ready = f"ready.{way} = '{target}'\nready.period = '50ms'\n"
    daemon.start(f"[service.web]\n{ready}{python(LISTENER, str(port), way)}")

    assert daemon.wait_for("service.ready", "web")["way"] == way


def test_a_port_where_nobody_listens_does_not(daemon):
    port = free_port()
    config = f"[service.web]\nready.tcp = '127.0.0.1:{port}'\nstart_timeout = '1s'\n"
    daemon.start(config + "restart = 'no'\n" + sh("exec sleep 1000"))

    daemon.wait_for("service.start_timed_out", "web")
    assert daemon.wait_for("service.exited", "web")["cause"] == "timeout"
    assert daemon.told("service.ready", "web") == []


def test_a_file_that_appears_makes_it_ready(daemon, made):
    config = f"[service.web]\nready.file = '{made}'\nready.period = '50ms'\n"
    script = f"echo > {made}; exec sleep 1000"
    daemon.start(config + sh(script))

    assert daemon.wait_for("service.ready", "web")["way"] == "file"


def test_a_command_that_succeeds_makes_it_ready(daemon, reaper_mode, made):
    config = f"[service.web]\nready.exec = ['test', '-e', '{made}']\nready.period = '50ms'\n"
    daemon.start(config + sh(f"echo > {made}; exec sleep 1000"), *reaping(reaper_mode))

    assert daemon.wait_for("service.ready", "web")["way"] == "exec"


def test_a_delay_makes_it_ready(daemon):
    daemon.start(f"[service.web]\nready.delay = '200ms'\n{sh('exec sleep 1000')}")
    ready = daemon.wait_for("service.ready", "web")

    assert ready["way"] == "delay"
    assert ready["took_s"] >= 0.2


# -- the checker ----------------------------------------------------------------------------------


def test_the_checker_runs_only_while_something_needs_it(daemon):
    plain = "[service.web]\ncommand = 'sleep 1000'\n"
    daemon.start(plain)
    daemon.wait_for("daemon.ready")
    assert daemon.told("service.spawned", ":checker") == []
    daemon.reload(plain + "[service.etc]\nready.file = '/etc/passwd'\ncommand = 'sleep 1000'\n")
    daemon.wait_for("service.ready", ":checker")
    daemon.wait_for("service.ready", "etc")
    daemon.reload(plain)

    daemon.wait_for("service.stopped", ":checker")
    assert daemon.stop() == 0


def test_a_killed_checker_is_started_again_and_told_all_anew(daemon, made):
    daemon.start(f"[service.web]\nready.file = '{made}'\ncommand = 'sleep 1000'\n")
    pid = daemon.wait_for("service.ready", ":checker")["pid"]
    kill(pid)
    daemon.wait_for("service.ready", ":checker")
    assert daemon.told("service.ready", "web") == []
    made.touch(0o644)

    assert daemon.wait_for("service.ready", "web")["way"] == "file"
    assert daemon.told("service.exited", "web") == []
