"""Clients of the control socket: somebody else's program, somebody else, or up to no good."""

import contextlib
import json
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisord_pidfd import control, wire
from tests.support.varlink import INTERFACE, Varlink
from tests.system.helpers import kill, status

pytestmark = pytest.mark.once

CONFIG = "[service.web]\ncommand = 'sleep 1000'\nbackoff.delay = 0\n"
MANY = 1000
IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
ANSWER_S = 1.0
"""How long an honest client may have to wait, whatever others do."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory that every user may pass."""
    it = Path(tempfile.mkdtemp(prefix="control-"))
    it.chmod(0o755)
    yield it
    shutil.rmtree(it)


def started(daemon, *args, config=CONFIG, **kwargs):
    daemon.start(config, *args, **kwargs)
    daemon.wait_for("service.ready", "web")
    return daemon


# -- somebody else's program ----------------------------------------------------------------------


class Reference:
    """The command line of the `varlink` package."""

    def __init__(self, daemon):
        self.address = f"unix:{daemon.socket}"

    def command(self, verb, *words):
        *flags, last = words or (None,)
        target = self.address if last is None else f"{self.address}/{INTERFACE}{last}"
        return [sys.executable, "-m", "varlink.cli", verb, *flags, target]

    def run(self, verb, *words, parameters=None):
        argv = self.command(verb, *words) + ([json.dumps(parameters)] if parameters else [])
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout


def test_the_reference_client_introspects_the_socket(daemon):
    reference = Reference(started(daemon))
    assert f"   {INTERFACE}\n" in reference.run("info")
    assert "method Status(" in reference.run("help", "")


def test_the_reference_client_calls_methods(daemon):
    reference = Reference(started(daemon))
    assert json.loads(reference.run("call", ".Health")) == {"ok": True, "reasons": []}
    stopped = json.loads(reference.run("call", ".Stop", parameters={"names": ["web"]}))
    assert [one["phase"] for one in stopped["outcomes"]] == ["stopped"]
    (web,) = json.loads(reference.run("call", ".Status"))["services"]
    assert (web["name"], web["phase"]) == ("web", "stopped")


def test_the_reference_client_follows_the_events(daemon):
    reference = Reference(started(daemon))
    argv = [*reference.command("call", "-m", ".Events"), '{"follow":true,"last":0}']
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as following:
        assert following.stdout is not None
        try:
            deadline = time.monotonic() + 20
            with daemon.client() as client:
                while not select.select([following.stdout], [], [], 0.05)[0]:
                    client.call("Reset", names=["web"])  # which is an event
                    assert time.monotonic() < deadline
            event = json.loads(_one_object(following.stdout))["event"]
            assert event["event"] in {"service.reset", "control.called"}
        finally:
            following.kill()


def _one_object(lines):
    """Read an object that was printed over several lines."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            break
    return text


# -- somebody else --------------------------------------------------------------------------------


def as_somebody(path, uid, gids, *methods):
    """Call methods as another user; return for each the reply, or the name of the error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(gids[1:])
            os.setresgid(gids[0], gids[0], gids[0])
            os.setresuid(uid, uid, uid)
            os.write(writing, json.dumps(_answers(path, methods)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        said = answers.read()
    os.waitpid(pid, 0)
    return json.loads(said)


def _answers(path, methods):
    found = []
    for method in methods:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            try:
                sock.connect(str(path))
            except PermissionError:
                found.append("cannot connect")
                continue
            parameters = {"names": ["web"]} if method == "Stop" else {}
            sock.sendall(wire.call(f"{INTERFACE}.{method}", parameters))
            data = b""
            while not data.endswith(b"\0"):
                data += sock.recv(65536)
            answer = json.loads(data[:-1])
            found.append(answer.get("error", "").rpartition(".")[2] or "ok")
    return found


READER, MEMBER, OTHER, NOBODY = 4001, 4002, 4003, 65534


@pytest.mark.root
@pytest.mark.parametrize(
    ("uid", "gids", "answers"),
    [
        (READER, [4001], ["ok", "PermissionDenied"]),
        (MEMBER, [4100], ["ok", "PermissionDenied"]),
        (MEMBER, [4002, 4003, 4100], ["ok", "PermissionDenied"]),
        (OTHER, [4003, 4004], ["PermissionDenied", "PermissionDenied"]),
        (NOBODY, [4100], ["PermissionDenied", "PermissionDenied"]),
    ],
)
def test_readers_may_read_and_others_nothing(daemon, place, uid, gids, answers):
    path = place / "control.sock"
    readers = f'supervisor.read_users = ["{READER}"]\nsupervisor.read_groups = ["4100"]\n'
    started(daemon, "--socket", str(path), config=readers + CONFIG)
    assert path.stat().st_mode & 0o777 == 0o666
    assert as_somebody(path, uid, gids, "Status", "Stop") == answers
    if uid == OTHER:
        refused = daemon.wait_for("control.refused", reason="permission")
        assert refused["uid"] == OTHER


@pytest.mark.root
def test_without_readers_others_cannot_even_connect(daemon, place):
    path = place / "control.sock"
    started(daemon, "--socket", str(path))
    assert as_somebody(path, OTHER, [OTHER], "Status") == ["cannot connect"]


@pytest.mark.root
def test_readers_come_and_go_with_the_configuration(daemon, place):
    path = place / "control.sock"
    started(daemon, "--socket", str(path))
    daemon.reload(f'supervisor.read_users = ["{READER}"]\n{CONFIG}')
    assert as_somebody(path, READER, [READER], "Status") == ["ok"]
    daemon.reload(CONFIG)
    assert as_somebody(path, READER, [READER], "Status") == ["cannot connect"]


@pytest.mark.root
def test_whoever_has_no_number_here_may_do_nothing(ordinary, place):
    """The daemon is in a user namespace of its own, where the client's user has no number."""
    path = place / "control.sock"
    readers = f'supervisor.read_users = ["1001"]\nsupervisor.read_groups = ["{NOBODY}"]\n'
    started(ordinary, "--socket", str(path), config=readers + CONFIG)
    assert as_somebody(path, OTHER, [OTHER], "Status", "Stop") == ["PermissionDenied"] * 2
    assert ordinary.wait_for("control.refused")["uid"] == NOBODY


@pytest.mark.root
def test_whoever_has_no_pid_here_may_do_nothing(daemon):
    """The daemon is in a pid namespace of its own; we are root, but outside."""
    if subprocess.run([*IN_A_NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    started(daemon, prefix=IN_A_NAMESPACE)
    assert _answers(daemon.socket, ["Status", "Shutdown"]) == ["PermissionDenied"] * 2
    assert daemon.wait_for("control.refused")["sender_pid"] == 0


# -- up to no good --------------------------------------------------------------------------------


class Attack:
    """Own the sockets of clients that mean no good, and watch what they cost."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.sockets: list[socket.socket] = []
        self.descriptors = self.count_descriptors()
        self.rss = self.read_rss()

    def count_descriptors(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def read_rss(self):
        return int(status(self.daemon.pid)["VmRSS"].split()[0]) << 10

    def connect(self, data=b""):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        self.sockets.append(sock)
        with contextlib.suppress(ConnectionError):
            sock.connect(str(self.daemon.socket))
            sock.sendall(data)
        return sock

    def close(self):
        for sock in self.sockets:
            sock.close()

    def check(self):
        """Check that the next honest client is served, and that supervision goes on."""
        begun = time.monotonic()
        with self.daemon.client() as client:
            (web,) = client.call("Status")["services"]
            assert time.monotonic() - begun < ANSWER_S
            kill(web["pid"])
            self.daemon.wait_for("service.ready", "web", run=web["run"] + 1, timeout=ANSWER_S)
            self.close()
            client.call("Status")
            # All that the attackers had is closed when they are; our own connection is one.
            deadline = time.monotonic() + 10
            while (found := self.count_descriptors()) > self.descriptors + 1:
                assert time.monotonic() < deadline, (found, self.descriptors)
                client.call("Health")
        assert self.read_rss() - self.rss < 8 << 20


@pytest.fixture
def attack(daemon):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * MANY)), hard))
    it = Attack(started(daemon))
    yield it
    it.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections(attack):
    for _ in range(MANY):
        attack.connect()
    attack.check()


def test_a_thousand_half_sent_messages(attack):
    for _ in range(MANY):
        attack.connect(b'{"method":"io.supervisordpidfd.Control.Status","parame')
    attack.check()


STORM = """
import socket, sys
while True:
    with socket.socket(socket.AF_UNIX) as one:
        one.setblocking(False)
        try:
            one.connect(sys.argv[1])
            one.send(sys.argv[2].encode())
        except OSError:
            pass
"""


@pytest.mark.parametrize("said", ["", '{"half":', '{"method":"x.Y"}'])
def test_a_storm_of_clients_that_come_and_go(attack, said):
    argv = [sys.executable, "-I", "-S", "-c", STORM, str(attack.daemon.socket), said]
    with subprocess.Popen(argv) as storm:
        try:
            for _ in range(5):
                begun = time.monotonic()
                with attack.daemon.client() as client:
                    client.call("Status")
                assert time.monotonic() - begun < 5 * ANSWER_S  # the queue may be long
        finally:
            storm.kill()
    attack.check()


def test_a_message_of_a_hundred_megabytes(attack):
    sock = attack.connect()
    sent, chunk = 0, b'{"a":"' + b"x" * (1 << 20)
    with contextlib.suppress(ConnectionError):
        while sent < 100 << 20:
            sent += sock.send(chunk)
    assert sent < 4 << 20
    attack.daemon.wait_for("control.client_dropped", reason="too_large")
    attack.check()


def test_clients_that_never_read_their_stream(attack):
    for method in ("Watch", "Events") * 16:
        parameters = {"follow": True} if method == "Events" else {}
        attack.connect(wire.call(f"{INTERFACE}.{method}", parameters, more=True))
    with attack.daemon.client() as client:
        for _ in range(300):
            client.call("Restart", names=["web"], wait=False)
        client.call("Restart", names=["web"])
    attack.check()


def test_calls_without_end_that_nobody_reads(attack):
    call = wire.call(f"{INTERFACE}.Status", {})
    for _ in range(32):
        sock = attack.connect()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock.send(call * 100)
    attack.check()


@pytest.mark.parametrize(
    "name",
    [
        "Status.__init__", "__class__", "_call", "close", "St\x00atus", "\u0405tatus", "status",
        "../Status", "Status ", "x" * 60_000,
    ],
)  # fmt: skip
def test_names_that_are_none(attack, name):
    sock = attack.connect(wire.call(f"{INTERFACE}.{name}", {}))
    answer = sock.recv(65536)
    assert b'"error":"org.varlink.service.' in answer
    assert len(answer) < 1000
    attack.check()


def test_descriptors_in_messages_are_not_kept(attack):
    sock = attack.connect()
    for _ in range(200):
        socket.send_fds(sock, [b" "], [0, 1, 2])
    attack.check()


def test_more_clients_than_there_is_room_for_do_not_end_those_at_work(attack):
    assert control.CONVERSATIONS == 64
    with Varlink(attack.daemon.socket) as waiting:
        waiting.send("Wait", names=["web"], condition="stopped")
        for _ in range(200):
            attack.connect()
        with attack.daemon.client() as client:
            client.call("Stop", names=["web"])
        assert waiting.receive()[0]["outcomes"][0]["ok"]
