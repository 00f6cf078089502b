"""The gateway as a process: we are the core at the other end of its channel, and its clients."""

import contextlib
import gzip
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import ServiceExited, ServiceReady, ServiceStarting, Told

DEADLINE_S = 20.0
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TOTALS = {
    "restarts": {"exit_code": 2},
    "exits": {"exit_code": 3},
    "start_limit_hits": 0,
    "kill_escalations": 0,
    "user_cpu_s": 1.5,
    "system_cpu_s": 0.5,
}


def record(name, **changed):
    return {
        "name": name,
        "group": "backend",
        "type": "simple",
        "restart": "on-failure",
        "critical": False,
        "phase": "running",
        "wanted": "up",
        "ready": True,
        "health": "none",
        "checks": [],
        "pid": None,
        "run": 3,
        "since_ts": 1764000000.25,
        "started_ts": 1764000000.0,
        "attempt": 0,
        "last_exit": {"cause": "exit_code", "exit_code": 1, "signum": None},
        "internal": False,
        "totals": TOTALS,
        "max_rss_bytes": None,
    } | changed


def counters(tally=None, **changed):
    return {
        "info": {"version": "0.1.0", "python": "3.11.7", "kernel": "6.18.0"},
        "reaper": {"kind": "pidfd", "reason": None},
        "features": {"pidfs": True, "exit_info": False},
        "phases": {"running": 1},
        "stopping": False,
        "pid": os.getpid(),
        "families": (tally or Tally()).families(),
    } | changed


class Gateway:
    """Hold the process and the core's end of its channel."""

    def __init__(self, settings, opening=1):
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(DEADLINE_S)
        self.received = b""
        self.told = []
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "supervisord_pidfd.gateway"),
                    *("--fd", str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        finally:
            theirs.close()
        self.clients = []
        self.send(opening)
        self.send({"settings": settings})

    def send(self, message):
        self.channel.sendall(json.dumps(message).encode() + b"\0")

    def sync(self, *records):
        for plain in records:
            self.send({"service": plain})
        self.send({"synced": True})

    def receive(self):
        while b"\0" not in self.received:
            data = self.channel.recv(65536)
            assert data, "the gateway closed the channel"
            self.received += data
        frame, _, self.received = self.received.partition(b"\0")
        return json.loads(frame)

    def notice(self):
        return self.receive()["notice"]

    def reply(self, answer=None):
        call = self.receive()
        assert call["call"] == "Counters"
        self.told += call["http"]
        self.send({"reply": call["id"], "counters": answer or counters()})

    def listening(self):
        """Wait for the first listener; return its host and port."""
        notice = self.notice()
        assert notice["type"] == "listening", notice
        host, _, port = notice["address"].rpartition(":")
        return host.strip("[]"), int(port)

    def client(self, address):
        client = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
        self.clients.append(client)
        return client

    def get(self, address, path="/metrics", answer=None, **headers):
        """Send a request, answer the gateway's question, return the response."""
        client = self.client(address)
        client.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.reply(answer)
        response = client.getresponse()
        response.text = response.read()
        return response

    def finish(self):
        """Close the channel; return the exit code and what it said."""
        self.channel.close()
        _, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err

    def end(self):
        for client in self.clients:
            client.close()
        self.channel.close()
        try:
            with contextlib.suppress(ValueError):
                self.process.communicate(timeout=DEADLINE_S)
        finally:
            self.process.kill()  # does nothing to one that has ended
            self.process.wait()


@pytest.fixture
def start():
    started = []

    def make(settings=None, web=None, **kwargs):
        # As ourselves, so that coverage may write its file; whom it becomes has its own tests.
        metrics = {"listen": ["127.0.0.1:0"]} | (settings or {})
        user = metrics.pop("user", str(os.geteuid()))
        settings = {"metrics": metrics, "web": {"user": user, **(web or {})}}
        started.append(Gateway(settings, **kwargs))
        return started[-1]

    yield make
    for gateway in started:
        gateway.end()


@pytest.fixture
def served(start):
    """Give a gateway that listens and knows one service that is this process' child."""
    gateway = start()
    gateway.sync(record("web", pid=gateway.process.pid), record(":gateway", internal=True))
    return gateway, gateway.listening()


def memory_of(pid):
    """Return the resident memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def exchange(address, data):
    """Send bytes, and read until the end of the stream."""
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


def ask(client, data):
    """Send bytes on a connection that stays open; return the status of the one answer."""
    client.sendall(data)
    with http.client.HTTPResponse(client) as response:
        response.begin()
        response.read()
        return response.status


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def samples(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


# -- the formats ----------------------------------------------------------------------------------


def test_the_text_format_parses_and_tells_what_is_there(served):
    gateway, address = served
    tally = Tally()
    tally.count(Told(ServiceReady("simple", 1.5), "web"))

    response = gateway.get(address, answer=counters(tally))

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    found = samples(parse_text(response.text.decode()))
    web = (("group", "backend"), ("service", "web"))
    assert found["supervisord_up", ()] == 1
    assert found["supervisord_services", (("phase", "running"),)] == 1
    assert found["supervisord_services", (("phase", "failed"),)] == 0
    assert found["supervisord_service_up", web] == 1
    assert found["supervisord_service_restarts_total", (("cause", "exit_code"), *web)] == 2
    assert found["supervisord_service_last_exit_code", web] == 1
    assert found["supervisord_start_duration_seconds_bucket", (("le", "1.0"),)] == 0
    assert found["supervisord_start_duration_seconds_bucket", (("le", "2.5"),)] == 1
    assert found["supervisord_start_duration_seconds_sum", ()] == 1.5
    assert found["supervisord_internal_up", (("name", "gateway"),)] == 0
    assert found["process_resident_memory_bytes", ()] > 1 << 20
    assert found["supervisord_service_memory_rss_bytes", web] > 1 << 20
    assert found["supervisord_service_cpu_seconds_total", (*web[:1], ("mode", "user"), web[1])] > 1


def test_openmetrics_parses_and_tells_the_same(served):
    gateway, address = served

    response = gateway.get(address, Accept=f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5")

    wanted = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.headers["Content-Type"] == wanted
    assert response.text.endswith(b"# EOF\n")
    found = samples(parse_open(response.text.decode()))
    plain = samples(parse_text(gateway.get(address).text.decode()))
    moving = ("process_", "supervisord_http", "supervisord_service_cpu", "supervisord_service_mem")
    assert {key for key in found if "_created" not in key[0]} <= set(plain)
    assert {k: v for k, v in found.items() if not k[0].startswith(moving)}.items() <= plain.items()


def test_gzip_is_the_same_text(served):
    gateway, address = served

    response = gateway.get(address, Accept_Encoding="gzip")

    assert response.headers["Content-Encoding"] == "gzip"
    assert b"supervisord_up 1.0" in gzip.decompress(response.text)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(served):
    gateway, address = served
    text = gateway.get(address).text

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_collect_limits_the_answer(served):
    gateway, address = served

    text = gateway.get(address, "/metrics?collect[]=services").text.decode()

    names = {family.name for family in parse_text(text)}
    assert "supervisord_service_up" in names
    assert "supervisord_service_threads" not in names
    assert "supervisord_up" not in names


def test_an_unknown_part_is_refused(served):
    gateway, address = served
    client = gateway.client(address)
    client.request("GET", "/metrics?collect[]=everything")

    assert client.getresponse().status == 400


def test_the_replica_follows_changes_and_removals(served):
    gateway, address = served
    gateway.send({"service": record("db", phase="backoff", ready=False)})
    gateway.send({"removed": "web"})

    text = gateway.get(address).text

    assert b'supervisord_service_phase{group="backend",phase="backoff",service="db"} 1.0' in text
    assert b'service="web"' not in text


def test_names_can_be_left_out(start):
    gateway = start({"include": "w.*", "exclude": "web-test"})
    gateway.sync(record("web"), record("web-test"), record("db"))

    text = gateway.get(gateway.listening()).text

    assert b'supervisord_service_up{group="backend",service="web"}' in text
    assert b"web-test" not in text
    assert b'"db"' not in text


def test_label_values_are_escaped(served):
    gateway, address = served
    reason = 'forbidden by "seccomp"\n\\o/'

    response = gateway.get(address, answer=counters(reaper={"kind": "sigchld", "reason": reason}))

    found = samples(parse_text(response.text.decode()))
    assert found["supervisord_reaper_info", (("kind", "sigchld"), ("reason", reason))] == 1


def test_cpu_time_does_not_fall_when_the_end_of_a_run_could_not_be_read(served):
    gateway, address = served
    key = ("supervisord_service_cpu_seconds_total",)
    labels = (("group", "backend"), ("mode", "user"), ("service", "web"))
    before = samples(parse_text(gateway.get(address).text.decode()))[(*key, labels)]

    gateway.send({"service": record("web", totals=TOTALS | {"user_cpu_s": 0.0})})
    after = samples(parse_text(gateway.get(address).text.decode()))[(*key, labels)]

    assert after == before


def test_a_pid_that_is_no_child_of_the_core_is_not_believed(served):
    gateway, address = served
    gateway.send({"service": record("web", pid=1, run=4)})

    text = gateway.get(address).text

    assert b"supervisord_service_up" in text
    assert b"supervisord_service_memory_rss_bytes" not in text


@pytest.mark.slow
def test_a_thousand_services_are_one_question(start):
    gateway = start({"resources": False})
    gateway.sync(*[record(f"worker@{number}") for number in range(1000)])

    text = gateway.get(gateway.listening(), Accept=OPENMETRICS).text

    assert text.count(b"supervisord_service_up{") == 1000
    assert text.count(b"supervisord_service_phase{") == 8000


@pytest.mark.slow
def test_a_large_scrape_delays_nobody(start):
    gateway = start()
    gateway.sync(*[record(f"worker@{number}") for number in range(3000)])
    address = gateway.listening()
    large = gateway.client(address)
    large.request("GET", "/metrics", headers={"Accept": OPENMETRICS})
    gateway.reply()

    healthy = gateway.get(address, "/healthz")

    assert healthy.status == 200
    assert not select.select([large.sock], [], [], 0)[0], "the scrape was over before"
    assert large.getresponse().read().count(b"supervisord_service_up{") == 3000


@pytest.mark.slow
def test_slow_readers_of_large_scrapes_hold_little(start):
    gateway = start({"resources": False})
    gateway.sync(*[record(f"worker@{number}") for number in range(3000)])
    address = gateway.listening()
    gateway.get(address)
    before = memory_of(gateway.process.pid)
    for number in range(12):
        gateway.send({"service": record("worker@1", run=number)})  # so that each is another answer
        client = gateway.client(address)
        client.request("GET", "/metrics")
        gateway.reply()
        assert client.sock.recv(1) == b"H"
    assert gateway.get(address, "/healthz").status == 200

    grown = memory_of(gateway.process.pid) - before
    assert grown < 30 << 20, f"{grown >> 20} MiB for answers of 9 MB each"


# -- a core that does not answer ------------------------------------------------------------------


def test_a_silent_core_is_not_up_and_nothing_else_is_claimed(served):
    gateway, address = served
    client = gateway.client(address)
    client.request("GET", "/metrics")
    response = client.getresponse()

    families = {family.name: family for family in parse_text(response.read().decode())}
    assert response.status == 200
    assert families["supervisord_up"].samples[0].value == 0
    assert set(families) == {"supervisord_up"}


def test_a_silent_core_finds_one_question_when_it_comes_back(served):
    gateway, address = served
    clients = [gateway.client(address) for _ in range(5)]
    for client in clients:
        client.request("GET", "/healthz")
    for client in clients:
        response = client.getresponse()
        assert response.status == 503
        assert json.loads(response.read()) == {
            "ok": False,
            "reasons": ["supervisor: no answer within 1s"],
        }

    gateway.reply()
    assert gateway.get(address, "/healthz").status == 200


# -- health ---------------------------------------------------------------------------------------


def test_healthz_is_ok_when_the_core_answers(served):
    gateway, address = served

    response = gateway.get(address, "/healthz")

    assert (response.status, response.text) == (200, b'{"ok":true}\n')
    assert response.headers["Content-Type"] == "application/json"


def test_readyz_waits_for_every_wanted_service_if_none_is_critical(served):
    gateway, address = served
    gateway.send({"service": record("db", phase="backoff", ready=False)})
    gateway.send({"service": record("old", phase="stopped", ready=False, wanted="down")})

    response = gateway.get(address, "/readyz")

    assert response.status == 503
    assert json.loads(response.text) == {"ok": False, "reasons": ["db: backoff, code 1"]}


def test_readyz_looks_at_the_critical_ones_alone(served):
    gateway, address = served
    gateway.send({"service": record("db", phase="backoff", ready=False)})
    gateway.send({"service": record("api", critical=True)})

    assert gateway.get(address, "/readyz").status == 200


def test_readyz_is_not_ready_during_a_shutdown(served):
    gateway, address = served

    response = gateway.get(address, "/readyz", counters(stopping=True))

    assert json.loads(response.text)["reasons"] == ["supervisor: shutting down"]


# -- HTTP and its bounds --------------------------------------------------------------------------


def test_a_connection_serves_many_requests(served):
    gateway, address = served
    client = gateway.client(address)
    for _ in range(99):
        client.request("GET", "/nothing")
        response = client.getresponse()
        response.read()
        assert (response.status, response.headers["Connection"]) == (404, None)
    client.request("GET", "/nothing")

    assert client.getresponse().headers["Connection"] == "close"


def test_head_has_no_body_and_the_same_length(served):
    gateway, address = served
    client = gateway.client(address)
    client.request("HEAD", "/healthz")
    gateway.reply()
    response = client.getresponse()

    assert (response.status, response.read()) == (200, b"")
    assert response.headers["Content-Length"] == str(len(b'{"ok":true}\n'))


def test_the_core_is_told_once_of_each_request(served):
    gateway, address = served
    exchange(address, b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    gateway.get(address, "/healthz")
    gateway.get(address, "/healthz")
    gateway.get(address)

    assert sorted(gateway.told) == [["healthz", 200, 1], ["healthz", 200, 1], ["other", 405, 1]]


def test_requests_are_those_that_the_core_has_added_up(served):
    gateway, address = served
    tally = Tally()
    tally.count_http("healthz", 200, 7)

    found = samples(parse_text(gateway.get(address, answer=counters(tally)).text.decode()))

    assert found["supervisord_http_requests_total", (("code", "200"), ("handler", "healthz"))] == 7


HOST = b"Host: x\r\n"


@pytest.mark.parametrize(
    ("code", "request_bytes"),
    [
        (400, b"GARBAGE\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/9.1\r\n" + HOST + b"\r\n"),
        (400, b"GET http://x/metrics HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /metrics?" + b"a=1&" * 64 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\n" + b"x" * 99999),
        (400, b"GET //metrics HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /v1%2fstatus HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /metrics%00 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /..%5cetc HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /metrics?a=%ff HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n"),
        (404, b"GET /../etc/passwd HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"),
        (404, b"GET /%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 8200 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 1_000_000),
        (431, b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 64 + b"\r\n"),
    ],
)
def test_what_is_not_served_is_refused_and_closed(served, code, request_bytes):
    answer = exchange(served[1], request_bytes)

    assert status_of(answer) == code
    assert b"connection: close" in answer.lower()
    assert b"x-content-type-options: nosniff" in answer.lower()


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_told_which_there_are(served, method):
    client = served[0].client(served[1])
    client.request(method, "/metrics", body=b"abc")
    response = client.getresponse()
    response.read()

    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert response.headers["Access-Control-Allow-Origin"] is None


def test_every_answer_has_the_headers_that_keep_browsers_careful(served):
    client = served[0].client(served[1])
    client.request("GET", "/nothing")
    headers = client.getresponse().headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] is None


def test_a_small_body_is_read_and_ignored(served):
    gateway, address = served
    client = gateway.client(address)
    for _ in range(2):
        client.request("GET", "/nothing", body=b"x" * 1000)
        response = client.getresponse()
        response.read()
        assert response.status == 404


def test_pipelined_requests_are_answered_in_order(served):
    request = b"%s /nothing HTTP/1.1\r\nHost: x\r\n\r\n"

    bad = b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = exchange(served[1], request % b"GET" * 3 + bad)

    assert answer.count(b"HTTP/1.1 404 ") == 3
    assert answer.count(b"HTTP/1.1 400 ") == 1


def test_an_old_client_is_answered(served):
    assert status_of(exchange(served[1], b"GET /nothing HTTP/1.0\r\n\r\n")) == 404


@pytest.mark.slow
def test_a_head_that_does_not_come_in_time_is_refused(served):
    with socket.create_connection(served[1], timeout=DEADLINE_S) as client:
        client.sendall(b"GET / HT")

        assert status_of(client.recv(4096)) == 408
        assert client.recv(4096) == b""


GET_NOTHING = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"


def test_who_says_nothing_makes_room(served):
    with contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(socket.create_connection(served[1], timeout=DEADLINE_S))

        idle = connect()
        assert ask(idle, GET_NOTHING) == 404
        slow = [connect() for _ in range(31)]
        for client in slow:
            client.sendall(b"GET /not")
        assert ask(connect(), GET_NOTHING) == 404
        assert idle.recv(4096) == b""

        for _ in range(3):  # each takes the place of the one before, which is idle then
            assert ask(connect(), GET_NOTHING) == 404
        assert ask(slow[-1], b"hing HTTP/1.1\r\nHost: x\r\n\r\n") == 404


def test_a_crowd_that_says_nothing_does_not_keep_anybody_out(served):
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(200):
            client = socket.create_connection(served[1], timeout=DEADLINE_S)
            crowd.append(stack.enter_context(client))
            client.sendall(b"GET /heal")

        last = socket.create_connection(served[1], timeout=DEADLINE_S)
        assert ask(stack.enter_context(last), GET_NOTHING) == 404


# -- the process ----------------------------------------------------------------------------------


def test_a_unix_socket_is_served_and_a_stale_one_replaced(start, tmp_path):
    os.chmod(tmp_path, 0o711)
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    gateway = start({"listen": [f"unix:{path}"]})

    assert gateway.notice()["address"] == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(path))
        client.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(client.recv(4096)) == 404


@pytest.mark.slow
def test_an_address_in_use_is_told_once_and_taken_when_it_is_free(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        text = f"127.0.0.1:{address[1]}"
        gateway = start({"listen": [text, "127.0.0.1:0"]})
        failed = gateway.notice()
        other = gateway.notice()

    assert failed == {"type": "listen_failed", "address": text, "error": "EADDRINUSE"}
    assert other["type"] == "listening"
    assert gateway.notice() == {"type": "listening", "address": text, "serves": "metrics"}
    assert status_of(exchange(address, b"GET /nothing HTTP/1.0\r\n\r\n")) == 404


def test_it_ends_with_the_core(served):
    assert served[0].finish() == (0, b"")


def test_it_ends_before_its_settings_came(start):
    gateway = start()

    assert gateway.finish() == (0, b"")


def test_sigterm_ends_it_and_nothing_else_does(served):
    gateway, address = served
    gateway.process.send_signal(signal.SIGINT)
    gateway.process.send_signal(signal.SIGHUP)
    assert gateway.get(address, "/healthz").status == 200

    gateway.process.send_signal(signal.SIGTERM)

    assert gateway.process.wait(DEADLINE_S) == 0


def test_another_version_of_the_channel_is_refused(start):
    gateway = start(opening=2)

    _, err = gateway.process.communicate(timeout=DEADLINE_S)
    assert gateway.process.returncode == 1
    assert err == b"the installed version differs from the running one: pidfdctl reexec\n"


@pytest.mark.parametrize("listen", ["localhost:1", "127.0.0.1", "127.0.0.1:x", "[1.2.3.4]:1"])
def test_an_address_it_cannot_read_is_fatal(start, listen):
    gateway = start({"listen": [listen]})

    _, err = gateway.process.communicate(timeout=DEADLINE_S)
    assert gateway.process.returncode == 1
    assert err.startswith(f"cannot listen on {listen!r}".encode())


def status_fields(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_it_can_gain_no_privileges(served):
    assert status_fields(served[0].process.pid)["NoNewPrivs"] == "1"


@pytest.mark.root
def test_without_root_it_still_sees_what_services_use(start):
    gateway = start({"user": None})
    gateway.sync(record("web", pid=gateway.process.pid))

    found = samples(parse_text(gateway.get(gateway.listening()).text.decode()))

    web = (("group", "backend"), ("service", "web"))
    assert found["supervisord_service_memory_rss_bytes", web] > 1 << 20
    assert found["supervisord_service_threads", web] == 1
    assert found["process_resident_memory_bytes", ()] > 1 << 20


@pytest.mark.root
def test_it_gives_up_root_for_good(start):
    gateway = start({"user": "65532"})
    gateway.listening()

    fields = status_fields(gateway.process.pid)
    assert fields["Uid"].split() == ["65532"] * 4
    assert fields["Gid"].split() == ["65532"] * 4
    assert fields["Groups"].strip() == ""
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0


@pytest.mark.root
@pytest.mark.parametrize("user", ["65534", "no-such-user-here", "4294967295"])
def test_it_does_not_run_as_somebody_unknown(start, user):
    gateway = start({"user": user})

    _, err = gateway.process.communicate(timeout=DEADLINE_S)
    assert gateway.process.returncode == 1
    assert err.startswith(b"cannot run")


@pytest.mark.slow
def test_an_idle_gateway_does_not_wake(served):
    gateway, address = served
    client = gateway.client(address)
    client.request("GET", "/healthz")
    gateway.reply()
    client.getresponse().read()

    def switches_of_a_moment():
        before = status_fields(gateway.process.pid)["voluntary_ctxt_switches"]
        assert not select.select([gateway.channel], [], [], 0.3)[0]
        return int(status_fields(gateway.process.pid)["voluntary_ctxt_switches"]) - int(before)

    # The first moments may see the end of the request; anything periodic shows in all of them.
    assert 0 in (switches_of_a_moment() for _ in range(5))


def test_counters_of_the_core_survive_a_restart_of_the_gateway(start):
    tally = Tally()
    ended = ServiceExited("signal", None, 9, False, False, "up", 1.0, None, 0.1, 0.1)
    tally.count(Told(ended, ":gateway"))
    tally.count(Told(ServiceStarting(1), ":gateway"))
    for _ in range(2):
        gateway = start()
        gateway.sync(record(":gateway", internal=True))
        text = gateway.get(gateway.listening(), answer=counters(tally)).text
        gateway.finish()

        assert b'supervisord_internal_restarts_total{name="gateway"} 1.0' in text
