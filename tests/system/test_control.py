"""The control socket of the installed daemon: where it is, and what it answers."""

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from tests.support.varlink import INTERFACE, Varlink, VarlinkError
from tests.system.helpers import alive, kill, python

CONFIG = """
[service.web]
command = "sleep 1000"
[service.idle]
command = "sleep 1000"
autostart = false
[service.fails]
command = "false"
restart = "no"
"""


def started(daemon, config=CONFIG, *args, **kwargs):
    daemon.start(config, *args, **kwargs)
    daemon.wait_for("daemon.ready")
    return daemon


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


# -- what it answers ------------------------------------------------------------------------------


def test_a_service_is_started_and_stopped_through_the_socket(daemon):
    with started(daemon).client() as client:
        reply = client.call("Start", names=["idle"], settle_s=0)
        assert [(one["service"], one["ok"], one["phase"]) for one in reply["outcomes"]] == [
            ("idle", True, "running")
        ]
        (idle,) = client.call("Status", names=["idle"])["services"]
        assert idle["ready"]
        assert idle["wanted"] == "up"
        assert alive(idle["pid"])

        reply = client.call("Stop", names=["idle"])
        assert [(one["ok"], one["phase"]) for one in reply["outcomes"]] == [(True, "stopped")]
        assert not alive(idle["pid"])
        (idle,) = client.call("Status", names=["idle"])["services"]
        assert idle["detail"] == f"by uid {os.geteuid()}, 0s ago"
    stopping = daemon.wait_for("service.stopping", "idle")
    assert stopping["by"] == f"operator:{os.geteuid()}"


def test_status_tells_the_daemon_and_its_services(daemon):
    started(daemon).wait_for("service.gave_up", "fails")
    with daemon.client() as client:
        status = client.call("Status")
        supervisor = status["supervisor"]
        assert supervisor["pid"] == daemon.pid
        assert supervisor["phase"] == "running"
        assert supervisor["config"]["file"] == str(daemon.home / "supervisord.toml")
        assert supervisor["config"]["generation"] == 1
        assert supervisor["counts"]["running"] == 1
        by_name = {one["name"]: one for one in status["services"]}
        assert list(by_name) == ["fails", "idle", "web"]
        assert by_name["fails"]["phase"] == "failed"
        assert by_name["fails"]["last_exit"]["text"] == "code 1"
        assert by_name["fails"]["detail"] == "code 1; not restarted"
        assert client.call("Health") == {"ok": False, "reasons": ["fails: failed, code 1"]}
        assert client.call("Health", level="alive") == {"ok": True, "reasons": []}


def test_restarts_are_counted_and_the_last_exit_is_told(daemon):
    started(daemon, "[service.web]\ncommand = 'sleep 1000'\nbackoff.delay = 0\n")
    kill(daemon.wait_for("service.ready", "web")["pid"])
    daemon.wait_for("service.ready", "web", run=2)
    with daemon.client() as client:
        (web,) = client.call("Status")["services"]
    assert (web["run"], web["restarts"], web["restarts_1h"]) == (2, 1, 1)
    assert web["last_exit"]["signal"] == "SIGKILL"
    assert web["detail"] == "last exit: signal SIGKILL, 0s ago"


def test_a_run_is_in_the_history_and_in_the_explanation(daemon):
    started(daemon).wait_for("service.gave_up", "fails")
    with daemon.client() as client:
        (run,) = client.call("History", name="fails")["runs"]
        assert (run["run"], run["exit"]["text"], run["next"]) == (1, "code 1", "failed")
        assert client.call("Explain", name="fails")["summary"].startswith("fails has failed")


def test_who_waits_is_answered_when_it_is_over(daemon):
    with started(daemon).client() as waiting, daemon.client() as acting:
        waiting.send("Wait", names=["idle"], condition="running", timeout_s=20)
        acting.call("Start", names=["idle"], wait=False)
        assert waiting.receive()[0]["outcomes"][0]["ok"]


def test_an_unknown_name_is_refused_before_anything_is_done(daemon):
    with started(daemon).client() as client:
        with pytest.raises(VarlinkError, match="NoSuchService") as caught:
            client.call("Start", names=["idle", "wep"])
        assert caught.value.parameters == {"name": "wep", "suggestion": "web"}
        assert client.call("Status", names=["idle"])["services"][0]["phase"] == "stopped"


def test_a_change_is_told_and_counted(daemon):
    with started(daemon).client() as client:
        client.call("Stop", names=["web"])
        called = daemon.wait_for("control.called", method="Stop")
        assert (called["names"], called["uid"], called["result"]) == (["web"], os.geteuid(), "ok")
        assert called["sender_pid"] == os.getpid()
        families = {one["name"]: one for one in client.call("Counters")["families"]}
    labels = [one["labels"] for one in families["supervisord_control_requests_total"]["samples"]]
    assert {"method": "Stop", "result": "ok"} in labels


def test_what_a_later_version_has_is_not_implemented(daemon):
    with started(daemon).client() as client:
        client.send("Reexec", more=True)
        with pytest.raises(VarlinkError, match=r"org\.varlink\.service\.MethodNotImplemented"):
            client.receive()


def test_the_interface_describes_itself(daemon):
    with started(daemon).client() as client:
        info = client.call("org.varlink.service.GetInfo")
        assert info["interfaces"] == ["org.varlink.service", INTERFACE]
        for interface in info["interfaces"]:
            text = client.call("org.varlink.service.GetInterfaceDescription", interface=interface)[
                "description"
            ]
            assert f"interface {interface}\n" in text
        with pytest.raises(VarlinkError, match="InterfaceNotFound"):
            client.call("org.varlink.service.GetInterfaceDescription", interface="a.b")


def test_shutdown_ends_the_daemon_and_the_connection(daemon):
    with started(daemon).client() as client:
        assert client.call("Shutdown") == {}
        assert client.is_closed()
    assert daemon.wait() == 0
    assert daemon.told("daemon.stopping")[0]["by"] == f"operator:{os.geteuid()}"
    assert not daemon.socket.exists()


STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("ignores\\n")
signal.pause()
"""


def test_nothing_is_started_while_everything_is_stopped(daemon, board):
    stubborn = "[service.stubborn]\n" + python(STUBBORN, board.path) + "stop_timeout = 30\n"
    started(daemon, stubborn + CONFIG)
    assert board.line() == "ignores"
    with daemon.client() as client, daemon.client() as waiting:
        waiting.call("Status")  # it is being served
        waiting.send("Wait", names=["idle"], condition="running")
        client.call("Status")  # by now the other call has begun
        client.call("Shutdown")
        with pytest.raises(VarlinkError, match="Refused") as caught:
            client.call("Start", names=["idle"])
        assert caught.value.parameters["reason"] == "shutting_down"
        with pytest.raises(VarlinkError, match="Refused"):
            client.call("Wait", names=["idle"], condition="ready")
        (outcome,) = waiting.receive()[0]["outcomes"]
        assert (outcome["ok"], outcome["message"]) == (False, "superseded by shutdown")
        assert client.call("Status")["supervisor"]["phase"] == "stopping"


# -- where it is ----------------------------------------------------------------------------------


def test_the_socket_is_for_us_alone(daemon):
    started(daemon)
    assert mode(daemon.socket) == 0o600
    assert mode(daemon.socket.parent) == 0o755


@pytest.mark.parametrize("how", ["option", "key"])
def test_the_socket_may_be_elsewhere(daemon, tmp_path, how):
    path = tmp_path / "here.sock"
    words = (
        ["--socket", str(path)] if how == "option" else ["--set", f'supervisor.socket="{path}"']
    )
    started(daemon, CONFIG, *words)
    with Varlink(path) as client:
        assert client.call("Health", level="alive")["ok"]
    assert not daemon.socket.exists()
    assert daemon.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("how", ["option", "key"])
def test_there_may_be_no_socket(daemon, how):
    words = ["--socket", "none"] if how == "option" else ["--set", 'supervisor.socket="none"']
    started(daemon, CONFIG, *words)
    assert not daemon.socket.exists()
    assert daemon.stop() == 0


LONE = """
import socket, sys
with socket.socket(socket.AF_UNIX) as it:
    it.connect(sys.argv[1])
    it.recv(1)
"""


def test_a_single_service_has_a_socket_only_when_asked(daemon, tmp_path):
    path = tmp_path / "one.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ready:
        ready.bind(str(tmp_path / "ready"))
        ready.listen()
        ready.settimeout(10)
        lone = [sys.executable, "-c", LONE, str(tmp_path / "ready")]
        daemon.start(None, "--socket", str(path), "--", *lone)
        service, _ = ready.accept()
    with service, Varlink(path) as client:
        assert [one["name"] for one in client.call("Status")["services"]] == ["main"]
    assert daemon.wait() == 0
    assert not path.exists()


def test_a_socket_that_was_left_behind_is_taken_over(daemon):
    started(daemon).kill()
    assert daemon.socket.is_socket()
    daemon.sweep()
    with started(daemon).client() as client:
        assert client.call("Health", level="alive")["ok"]


def test_a_socket_that_somebody_listens_on_is_left_alone(daemon, tmp_path):
    path = tmp_path / "theirs.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(path))
        theirs.listen()
        daemon.start(CONFIG, "--socket", str(path))
        assert daemon.wait() == 7
        assert "another process listens" in daemon.stderr
        assert path.is_socket()


@pytest.mark.parametrize("what", ["file", "link", "directory", "no directory", "too long"])
def test_what_cannot_be_a_socket_costs_only_the_socket(daemon, tmp_path, what):
    path = tmp_path / "place"
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "directory":
        path.mkdir()
    elif what == "no directory":
        path = path / "deep"
    else:
        path = Path(f"{path}{'x' * 120}")
    started(daemon, CONFIG, "--socket", str(path))
    unavailable = daemon.wait_for("control.unavailable")
    assert unavailable["path"] == str(path)
    expected = {"no directory": "ENOENT", "too long": "ENAMETOOLONG"}
    assert unavailable["error"] == expected.get(what, "EADDRINUSE")
    assert not (tmp_path / "elsewhere").exists()
    assert daemon.stop() == 0
    if what == "file":
        assert path.read_text() == "mine"


def test_a_socket_that_was_removed_is_made_again_with_the_next_configuration(daemon):
    with started(daemon).client() as before:
        daemon.socket.unlink()
        daemon.reload(CONFIG)
        with daemon.client() as client:
            assert client.call("Health", level="alive")["ok"]
        assert before.call("Health", level="alive")["ok"]
    assert mode(daemon.socket) == 0o600
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_a_socket_that_somebody_else_has_put_there_is_told_of(daemon):
    started(daemon).socket.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(daemon.socket))
        theirs.listen()
        daemon.reload(CONFIG)
        assert daemon.wait_for("control.unavailable")["error"] == "EADDRINUSE"
        assert daemon.stop() == 0
    assert daemon.socket.is_socket()
