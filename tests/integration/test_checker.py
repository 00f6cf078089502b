"""The checker as a process: what it is asked, what it finds, what it bears."""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

DEADLINE_S = 10.0


class Checker:
    """Own a checker and the core's end of its channel."""

    def __init__(self, opening=1, user=None):
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-I", "-m", "supervisord_pidfd.checker"]
            self.process = subprocess.Popen(
                [*argv, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.channel = ours
        self.rest = b""
        ours.sendall(b"%d\0" % opening)
        self.send({"settings": {"user": user}})

    def send(self, message):
        self.channel.sendall(json.dumps(message).encode() + b"\0")

    def watch(self, ident, kind, target, **more):
        asked = {"watch": ident, "kind": kind, "target": target, "period": 0.05, "timeout": 5.0}
        self.send(asked | {"once": True} | more)

    def next(self, within=DEADLINE_S):
        """Return the next message, None if there is none in time."""
        until = time.monotonic() + within
        while b"\0" not in self.rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.channel], [], [], left)[0]:
                return None
            chunk = self.channel.recv(65536)
            assert chunk, "the checker is gone"
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def probe(self, kind, target, **more):
        """Probe until the first verdict."""
        self.watch(1, kind, target, **more)
        said = self.next()
        assert said["verdict"] == 1
        self.send({"unwatch": 1})
        return said

    def close(self):
        self.channel.close()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def begin(**how):
            checker = Checker(**how)
            stack.callback(checker.close)
            return checker

        yield begin


@pytest.fixture
def checker(start):
    return start()


class Server:
    """Answer each connection with the same bytes, in a thread; or only accept."""

    def __init__(self, answer=None, family=socket.AF_INET, secure=None):
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.listener = socket.create_server((host, 0), family=family)
        self.port = self.listener.getsockname()[1]
        self.asked = []
        self._answer = answer
        self._secure = secure
        self._held = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self._held.append(client)
            if self._answer is None:
                continue
            with contextlib.suppress(OSError):
                if self._secure is not None:
                    client = self._secure.wrap_socket(client, server_side=True)
                    self._held.append(client)
                self.asked.append(client.recv(65536))
                for part in self._answer:
                    client.sendall(part)
                client.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self._held:
            client.close()
        self._thread.join(DEADLINE_S)


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def begin(*answer, **how):
            server = Server(answer or None, **how)
            stack.callback(server.close)
            return server

        yield begin


def reply(code, *headers, body=b"ok"):
    head = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


# -- tcp ------------------------------------------------------------------------------------------


def test_a_port_that_listens_passes(checker, serve):
    said = checker.probe("tcp", f"127.0.0.1:{serve().port}")

    assert (said["ok"], said["error"]) == (True, "")
    assert 0 <= said["took_s"] < DEADLINE_S


def test_a_port_that_refuses_fails_once_and_then_passes(checker):
    port = free_port()
    checker.watch(1, "tcp", f"127.0.0.1:{port}", period=0.01)
    failed = checker.next()
    assert (failed["ok"], failed["error"]) == (False, "ECONNREFUSED")
    with socket.create_server(("127.0.0.1", port)):
        passed = checker.next()

    assert passed["ok"] is True


def test_an_ipv6_address_and_a_name_are_reached(checker, serve):
    six = serve(family=socket.AF_INET6)

    assert checker.probe("tcp", f"[::1]:{six.port}")["ok"]
    assert checker.probe("tcp", f"localhost:{serve().port}")["ok"]


def test_a_unix_socket_passes(checker, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        if os.geteuid() == 0:  # the checker is not root, and pytest's directories are
            path.chmod(0o777)
            for directory in (tmp_path, *list(tmp_path.parents)[:2]):
                directory.chmod(0o755)  # where all may write, no log file is opened

        assert checker.probe("tcp", f"unix:{path}")["ok"]


# -- http -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "ok"), [(200, True), (204, True), (399, True), (404, False)])
def test_the_code_decides(checker, serve, code, ok):
    said = checker.probe("http", f"http://127.0.0.1:{serve(reply(code)).port}/ready")

    assert said["ok"] is ok
    assert said["error"] == ("" if ok else f"HTTP {code}")


def test_other_codes_can_be_good_ones(checker, serve):
    server = serve(reply(503))
    url = f"http://127.0.0.1:{server.port}/"

    assert checker.probe("http", url, status=[[500, 503]])["ok"]
    assert not checker.probe("http", url, status=[[200, 200], [204, 204]])["ok"]


def test_a_redirect_is_an_answer_and_is_not_followed(checker, serve):
    there = serve(reply(500))
    here = serve(reply(302, f"Location: http://127.0.0.1:{there.port}/"))

    assert checker.probe("http", f"http://127.0.0.1:{here.port}/")["ok"]
    assert there.asked == []


def test_what_is_asked_is_a_plain_get(checker, serve):
    server = serve(reply(200))
    headers = [["X-Probe", "yes"], ["Host", "app.example"]]
    checker.probe("http", f"http://127.0.0.1:{server.port}/a?b=c", headers=headers)

    line, *rest = server.asked[0].decode().splitlines()
    assert line == "GET /a?b=c HTTP/1.1"
    lower = [header.lower() for header in rest]
    assert "x-probe: yes" in lower
    assert "host: app.example" in lower
    assert any(header.startswith("user-agent: supervisord-pidfd/") for header in lower)


def test_a_header_cannot_smuggle_another_one(checker, serve):
    server = serve(reply(200))
    headers = [["X-A", "1\r\nX-B: 2"]]
    said = checker.probe("http", f"http://127.0.0.1:{server.port}/", headers=headers)

    assert said["ok"] is False
    assert not b"".join(server.asked)  # it may have connected, and hung up


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH_9\r\n", b"\0" * 100],
)
def test_what_is_not_http_fails(checker, serve, answer):
    said = checker.probe("http", f"http://127.0.0.1:{serve(answer).port}/")

    assert said["ok"] is False
    assert said["timed_out"] is False
    assert said["error"]


def test_a_server_that_is_silent_times_out(checker, serve):
    said = checker.probe("http", f"http://127.0.0.1:{serve().port}/", timeout=0.1)

    assert (said["ok"], said["timed_out"]) == (False, True)
    assert said["took_s"] >= 0.1


def test_a_body_without_end_is_read_to_the_cap(checker, serve):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
    endless = [head, *[b"x" * 8192] * 64]

    assert checker.probe("http", f"http://127.0.0.1:{serve(*endless).port}/")["ok"]


def test_a_head_without_end_fails(checker, serve):
    head = [b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * 64]
    said = checker.probe("http", f"http://127.0.0.1:{serve(*head).port}/")

    assert said["ok"] is False


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "http://[::1", "http://x:99999999/"])
def test_a_url_that_is_none_fails_and_harms_nobody(checker, serve, url):
    assert checker.probe("http", url)["ok"] is False
    assert checker.probe("tcp", f"127.0.0.1:{serve().port}")["ok"]


@pytest.fixture
def certificate(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key),
         "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.slow
def test_a_certificate_nobody_knows_fails_unless_it_is_not_looked_at(checker, serve, certificate):
    url = f"https://localhost:{serve(reply(200), secure=certificate).port}/"
    said = checker.probe("http", url)

    assert said["ok"] is False
    assert said["error"].startswith("certificate: ")
    assert checker.probe("http", url, verify=False)["ok"]


# -- file -----------------------------------------------------------------------------------------


def test_a_file_passes_when_it_is_there(checker):
    assert checker.probe("file", "/etc/passwd")["ok"]
    assert checker.probe("file", "/nonexistent/file")["error"] == "ENOENT"


# -- over and over --------------------------------------------------------------------------------


def test_a_readiness_probe_ends_when_it_passes(checker, serve):
    checker.watch(1, "tcp", f"127.0.0.1:{serve().port}", period=0.001)
    assert checker.next()["ok"]
    checker.watch(2, "tcp", f"127.0.0.1:{serve().port}", period=0.001)

    assert checker.next()["verdict"] == 2
    assert checker.next(within=0.05) is None


def test_a_check_is_told_each_time_until_it_is_not_watched(checker, serve):
    port = serve().port
    checker.watch(1, "tcp", f"127.0.0.1:{port}", period=0.01, once=False)
    assert all(checker.next()["ok"] for _ in range(5))
    checker.send({"unwatch": 1})
    checker.watch(2, "tcp", f"127.0.0.1:{port}")
    while checker.next()["verdict"] != 2:
        pass

    assert checker.next(within=0.05) is None


def test_a_check_waits_for_its_initial_delay(checker, serve):
    began = time.monotonic()
    target = f"127.0.0.1:{serve().port}"
    checker.watch(1, "tcp", target, period=0.01, delay=0.3, once=False)
    checker.next()

    assert time.monotonic() - began >= 0.3


def test_a_check_does_not_overlap_itself(checker, serve):
    server = serve()
    target = f"http://127.0.0.1:{server.port}/"
    checker.watch(1, "http", target, period=0.01, timeout=0.2, once=False)
    for _ in range(3):
        assert checker.next()["timed_out"]

    assert len(server._held) <= 4


# -- the calendar ---------------------------------------------------------------------------------


def test_the_calendar_is_read(checker):
    checker.send({"ask": 5, "calendar": "0 0 1 1 *", "timezone": "UTC", "after": 1_700_000_000})
    checker.send({"ask": 6, "calendar": "never", "timezone": None, "after": 0})

    assert checker.next() == {"answer": 5, "next": 1_704_067_200.0, "error": None}
    refused = checker.next()
    assert (refused["answer"], refused["next"]) == (6, None)
    assert "five fields" in refused["error"]


# -- the process ----------------------------------------------------------------------------------


def test_it_ends_with_the_core(checker):
    checker.watch(1, "tcp", f"127.0.0.1:{free_port()}")
    checker.next()
    checker.channel.shutdown(socket.SHUT_RDWR)

    assert checker.process.wait(DEADLINE_S) == 0
    assert checker.process.stderr.read() == b""


def test_sigterm_ends_it_and_sigint_does_not(checker):
    assert checker.probe("file", "/etc/passwd")["ok"]
    checker.process.send_signal(signal.SIGINT)
    assert checker.probe("file", "/etc/passwd")["ok"]
    checker.process.terminate()

    assert checker.process.wait(DEADLINE_S) == 0


def test_another_version_of_the_channel_is_refused(start):
    checker = start(opening=2)

    assert checker.process.wait(DEADLINE_S) == 1
    said = checker.process.stderr.read()
    assert said == b"the installed version differs from the running one: pidfdctl reexec\n"


def test_it_gives_up_its_privileges(checker):
    checker.probe("file", "/etc/passwd")
    with open(f"/proc/{checker.process.pid}/status", encoding="utf-8") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    assert status["NoNewPrivs"] == "1"
    assert "0" not in status["Uid"].split() or os.geteuid() != 0
    assert int(status["CapEff"], 16) == 0 or os.geteuid() != 0
