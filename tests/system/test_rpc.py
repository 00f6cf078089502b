"""XML-RPC by those who speak it: Python's own client, and the real supervisorctl."""

import hashlib
import http.client
import os
import socket
import stat
import subprocess
import sys
from xmlrpc import client

import pytest

from tests.system.helpers import alive, sh

pytestmark = pytest.mark.once

SERVICES = (
    "[service.web]\nlog.to = ['file']\nready.log = 'hello'\n"
    + sh("echo hello; exec sleep 1000")
    + "[service.worker]\ninstances = 2\ncommand = 'sleep 1000'\n"
    "[service.bad]\nautostart = false\nrestart = 'no'\ncommand = '/no/such/program'\n"
    "[group.backend]\nservices = ['web']\n"
)


class OverUnix(client.Transport):
    """Connect to a path, as supervisorctl does."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def make_connection(self, host):
        if self._connection[1]:
            return self._connection[1]
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        connection.sock.connect(str(self._path))
        self._connection = host, connection  # which is closed with the transport
        return connection


@pytest.fixture
def start(daemon):
    """Start a daemon with this [web] table; give where XML-RPC is."""

    def go(web, services=SERVICES):
        words = ("--set", f"supervisor.log_dir={daemon.home / 'log'}")
        daemon.start(web + services, *words)
        said = daemon.wait_for("gateway.listening", serves="rpc")
        for name in ("web", "worker@0", "worker@1"):
            daemon.wait_for("service.ready", name)
        return said["address"]

    return go


@pytest.fixture
def over_unix(daemon, start):
    """Give Python's client of a daemon whose XML-RPC may change things."""
    start("web.rpc = 'control'\n")
    with client.ServerProxy(
        "http://localhost", transport=OverUnix(daemon.home / "run" / "rpc.sock")
    ) as server:
        yield server


# -- supervisorctl --------------------------------------------------------------------------------


class Supervisorctl:
    """The real one."""

    def __init__(self, daemon, url, *words):
        self._daemon = daemon
        self._words = [sys.executable, "-m", "supervisor.supervisorctl", "-s", url, *words]

    def __call__(self, *words):
        """Run a command; return its exit code and what it printed."""
        done = subprocess.run(
            [*self._words, *words],
            env=self._daemon.environment(),
            cwd=self._daemon.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()


def test_supervisorctl_sees_and_changes_services(daemon, start):
    start("web.rpc = 'control'\n")
    ctl = Supervisorctl(daemon, f"unix://{daemon.home}/run/rpc.sock")

    code, lines = ctl("status")
    assert code == 3, "bad is not running"
    assert [line.split()[:2] for line in lines] == [
        ["bad", "STOPPED"], ["backend:web", "RUNNING"],
        ["worker:0", "RUNNING"], ["worker:1", "RUNNING"],
    ]  # fmt: skip
    assert ctl("pid") == (0, [str(daemon.pid)])
    assert ctl("stop", "backend:web") == (0, ["backend:web: stopped"])
    assert ctl("start", "backend:web") == (0, ["backend:web: started"])
    assert ctl("start", "backend:web") == (0, ["backend:web: ERROR (already started)"])
    assert ctl("start", "bad") == (1, ["bad: ERROR (no such file)"])
    assert ctl("stop", "worker:*") == (0, ["worker:0: stopped", "worker:1: stopped"])
    assert ctl("stop", "worker:0") == (0, ["worker:0: ERROR (not running)"])
    assert ctl("signal", "HUP", "nobody") == (1, ["nobody: ERROR (no such process)"])
    assert ctl("tail", "backend:web") == (0, ["hello", "hello", ""])
    code, lines = ctl("status", "worker:*")
    assert [line.split()[:2] for line in lines] == [
        ["worker:0", "STOPPED"],
        ["worker:1", "STOPPED"],
    ]
    assert daemon.stop() == 0


def test_supervisorctl_shows_a_token_as_its_password(daemon, start):
    digest = hashlib.sha256(b"hunter2").hexdigest()
    file = daemon.home / "tokens"
    file.write_text(f"control:{digest}\n")
    file.chmod(0o600)
    address = start(
        "web.rpc = 'control'\nweb.rpc_listen = '127.0.0.1:0'\nweb.token_file = 'tokens'\n"
    )
    url = f"http://{address}"

    with_token = Supervisorctl(daemon, url, "-u", "any", "-p", "hunter2")
    assert with_token("pid") == (0, [str(daemon.pid)])
    assert with_token("restart", "worker:1")[0] == 0
    code, lines = Supervisorctl(daemon, url)("pid")
    assert code != 0
    assert "requires authentication" in lines[0]


# -- any client -----------------------------------------------------------------------------------


def test_pythons_client_is_answered(daemon, over_unix):
    assert over_unix.supervisor.getState() == {"statecode": 1, "statename": "RUNNING"}
    info = over_unix.supervisor.getProcessInfo("worker:1")
    assert (info["group"], info["name"], info["statename"]) == ("worker", "1", "RUNNING")
    assert alive(info["pid"])
    pid, text = over_unix.system.multicall(
        [{"methodName": "supervisor.getPID", "params": []},
         {"methodName": "supervisor.readProcessStdoutLog", "params": ["web", 0, 0]}]
    )  # fmt: skip
    assert (pid, text) == ([daemon.pid], ["hello\n"])
    with pytest.raises(client.Fault, match="BAD_NAME: nobody") as caught:
        over_unix.supervisor.startProcess("nobody")
    assert caught.value.faultCode == 10


def test_who_changed_something_is_told(daemon, over_unix):
    assert over_unix.supervisor.stopProcess("worker:0") is True

    called = daemon.wait_for("control.called", method="Stop")
    gateway = daemon.told("service.spawned", ":gateway")[0]["pid"]
    assert (called["names"], called["sender_pid"]) == (["worker@0"], gateway)
    assert called["uid"] == (os.geteuid() or 65532) or called["uid"] > 0


def test_a_socket_that_needs_no_token_is_for_the_daemons_user_alone(daemon, start):
    start("web.rpc = 'control'\n")
    status = (daemon.home / "run" / "rpc.sock").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())

    start("web.rpc = 'read'\n")
    assert stat.S_IMODE((daemon.home / "run" / "rpc.sock").stat().st_mode) == 0o666


def test_what_may_only_read_changes_nothing(daemon, start):
    address = start("web.rpc = 'read'\nweb.rpc_listen = '127.0.0.1:0'\n")
    with client.ServerProxy(f"http://{address}") as server:
        assert server.supervisor.getPID() == daemon.pid
        with pytest.raises(client.Fault, match="not allowed"):
            server.supervisor.stopAllProcesses()

    assert daemon.told("control.called") == []


def test_no_page_of_a_browser_is_served(daemon, start):
    address = start("web.rpc = 'read'\nweb.rpc_listen = '127.0.0.1:0'\n")
    call = client.dumps((), "supervisor.getPID")

    def code_of(method="POST", path="/RPC2", **headers):
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            given = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, call, {"Content-Type": "text/xml", **given})
            return connection.getresponse().status
        finally:
            connection.close()

    assert code_of() == 200
    assert code_of(Origin="http://evil.example") == 403
    assert code_of(Host="evil.example") == 421
    assert code_of(Content_Type="text/plain") == 400
    assert code_of("GET") == 405
    assert [code_of("GET", path) for path in ("/", "/metrics", "/v1/status")] == [404] * 3


def test_a_bomb_of_entities_is_refused(daemon, over_unix):
    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 10}">' for n in range(12)
    )
    body = f"<!DOCTYPE x [{entities}]><methodCall><methodName>&e11;</methodName></methodCall>"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(daemon.home / "run" / "rpc.sock"))
        head = "POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert b" 400 " in sock.recv(4096)

    assert over_unix.supervisor.getPID() == daemon.pid
