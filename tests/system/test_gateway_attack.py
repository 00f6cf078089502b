"""What strangers can do to the gateway, and what it does not cost anybody else."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import time

import pytest

from supervisord_pidfd.gateway.api import ROWS
from tests.support.web import TOKENS, Web, roomy_daemon, token_file
from tests.system.helpers import kill, sh

pytestmark = pytest.mark.once

CANARIES = {
    "environment": "canary-value-of-the-environment",
    "secret": "canary-content-of-a-secret",
    "password": "canary-of-a-password",
}
CONFIG = (
    f"""\
web.listen = '127.0.0.1:0'
web.control = true
web.token_file = '@HOME@/tokens'
[service.web]
log.to = ['file']
metrics_port = 9100
environment = {{ MODE = '{CANARIES["environment"]}', DB_PASSWORD = '{CANARIES["password"]}' }}
secrets = {{ API_KEY = 'file:@HOME@/secret' }}
"""
    + sh("echo one; exec sleep 1000")
    + "[service.loud]\nlog.to = ['file']\n"
    + sh("yes line of somebody loud | head -c 2000000; exec sleep 1000")
)


def config_of(daemon):
    return CONFIG.replace("@HOME@", str(daemon.home))


CLIENTS = 1000
KILLS = 300
RSS_MAX = 150 << 20
"""Far more than a gateway needs for two services, far less than its clients could make it hold."""


@pytest.fixture(scope="module")
def attacked():
    with roomy_daemon() as daemon:
        token_file(daemon.home / "tokens")
        (daemon.home / "secret").write_text(CANARIES["secret"] + "\n")
        (daemon.home / "secret").chmod(0o600)
        log = f"supervisor.log_dir={daemon.home / 'log'}"
        daemon.start(config_of(daemon), "--set", log)
        web = Web(daemon.wait_for("gateway.listening")["address"])
        daemon.wait_for("service.ready", service="web")
        yield daemon, web


def gateway(daemon):
    """Look at the gateway's record, by the control socket."""
    with daemon.client() as client:
        services = client.call("Status", all=True)["services"]
    return next(one for one in services if one["name"] == ":gateway")


def figures(pid):
    """Return how much memory a process has, and how many descriptors."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        rss = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) << 10
    return rss, len(os.listdir(f"/proc/{pid}/fd"))


def until(condition, within=20.0):
    """Try again, each time after an answer of the daemon, until it holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline


def exchange(web, data):
    """Send bytes, say that this was all, and read until the end."""
    with web.connect() as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65536):
                answer += piece
    return answer


# -- nothing is disclosed -------------------------------------------------------------------------


def paths():
    yield from ("/", "/metrics", "/healthz", "/readyz", "/nothing", "/service/web", "/config")
    yield from (
        "/v1/openapi.json",
        "/v1/resources",
        "/v1/status?all=1",
        "/v1/services/web/config?origin=1",
    )
    for row in ROWS:
        if row.method == "GET":
            yield row.path.replace("{name}", "web") + (
                "?follow=0" if row.answer == "stream" else ""
            )


def hidden(daemon):
    """List what must never be seen: values, and the hashes of tokens."""
    hashes = re.findall(r"[0-9a-f]{64}", (daemon.home / "tokens").read_text())
    assert len(hashes) == 3
    return [*CANARIES.values(), *hashes, *TOKENS.values()]


def test_no_route_shows_a_value_of_the_environment_a_secret_or_a_token(attacked):
    daemon, web = attacked
    seen = {path: web.get(path, token="control") for path in paths()}

    assert seen["/v1/services/web/config"].status == 200
    assert "DB_PASSWORD" in seen["/v1/services/web/config"].said["toml"]
    for path, answer in seen.items():
        text = answer.body + str(answer.headers).encode()
        assert [what for what in hidden(daemon) if what.encode() in text] == [], path


def test_no_plan_no_problem_and_no_log_shows_them_either(attacked):
    daemon, web = attacked
    config = config_of(daemon)
    changed = config.replace(CANARIES["environment"], "canary-value-of-another-day")
    broken = config.replace("metrics_port", "metrics_prot")

    daemon.write_config(changed)
    plan = web.get("/v1/plan", token="control")
    daemon.write_config(broken)
    invalid = web.post("/v1/apply", token="control")
    daemon.write_config(config)

    assert [item["service"] for item in plan.said["items"]] == ["web"]
    assert invalid.status == 422
    told = json.dumps(daemon.events) + daemon.stderr + "".join(daemon.output)
    for text in (plan.body.decode(), invalid.body.decode(), told):
        secrets = [*hidden(daemon), "canary-value-of-another-day"]
        assert [what for what in secrets if what in text] == []


@pytest.mark.parametrize(
    "path",
    [
        *("/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"),
        *(
            "/static/../../../../etc/passwd",
            "/static/%2e%2e/%2e%2e/http.py",
            "/static//etc/passwd",
        ),
        *("/static/..%5c..%5chttp.py", "/static/http.py", "/static/app.js%00.html"),
        *("/v1/services/..%2fstatus", "/v1/services/../status", "/v1//status", "/v1/status/."),
        *(
            "/v1/services/web%2fconfig",
            "/v1/services/web;config",
            "/v1/status%00",
            "/v1/status%20",
        ),
        *("/v1/services/web%0d%0aX-Evil:%201/config", "/v1/services/%ff", "/v1/services/%c0%ae"),
        *("/v1/plan?file=/etc/passwd", "/v1/logs?file=/etc/passwd", "/RPC2", "/.git/config"),
    ],
)
def test_a_path_leads_nowhere_else(attacked, path):
    with attacked[1].connect() as client:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        client.sendall(f"{head}Authorization: Bearer {TOKENS['control']}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert int(answer.split(b" ", 2)[1]) in {400, 404, 405}
    assert b"root:" not in answer
    assert b"def " not in answer
    assert b"\r\nX-Evil" not in answer


# -- one request is one request -------------------------------------------------------------------

AUTH = b"Authorization: Bearer " + TOKENS["control"].encode() + b"\r\n"
INNER = (
    b"POST /v1/services/web/stop HTTP/1.1\r\nHost: localhost\r\nX-Supervisord-Request: 1\r\n"
    + AUTH
    + b"\r\n"
)
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\tchunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(CHUNK),
        b"Content-Length: +0\r\n",
        b"Content-Length: 0x10\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length : 0\r\n",
        b"Host: localhost\r\n",
        b"X\x00Y: z\r\n",
        b"X: a\x00b\r\n",
        b": empty\r\n",
    ],
)  # fmt: skip
def test_no_request_hides_in_another(attacked, head):
    daemon, web = attacked
    data = (
        b"POST /v1/services/web/explain HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n" + CHUNK
    )

    answer = exchange(web, data)

    codes = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]
    assert codes in ([], [400], [405, 400])  # what is no header any more is no request either
    assert not daemon.told("control.called", method="Stop")


def test_a_body_is_a_body_whatever_it_looks_like(attacked):
    daemon, web = attacked
    length = b"Content-Length: %d\r\nConnection: close\r\n" % len(INNER)

    answer = exchange(
        web, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n" + INNER
    )

    assert answer.count(b"HTTP/1.1 ") == 1
    assert not daemon.told("control.called", method="Stop")


def test_garbage_is_refused_and_costs_nothing(attacked):
    daemon, web = attacked
    before = gateway(daemon)["pid"]
    dice = random.Random(7)
    words = (
        *(b"GET ", b"POST ", b"/v1/status", b" HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"),
        *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\0", b"\xff", b":"),
        *(b"%", b"\r", b"\n", b"A" * 3000),
    )
    for _ in range(300):
        answer = exchange(web, b"".join(dice.choices(words, k=dice.randrange(1, 12))))
        if answer:
            assert int(answer.split(b" ", 2)[1]) in {200, 400, 401, 403, 404, 405, 421, 431}

    assert gateway(daemon)["pid"] == before
    assert web.get("/healthz").status == 200


# -- too much -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_clients_that_say_nothing_keep_nobody_out(attacked):
    daemon, web = attacked
    pid = gateway(daemon)["pid"]
    with contextlib.ExitStack() as stack:
        for number in range(CLIENTS):
            client = stack.enter_context(web.connect())
            client.sendall((b"", b"GET /v1/st", b"POST /v1/apply HTTP/1.1\r\n")[number % 3])
            if number % 40 == 0:
                assert web.get("/healthz").status == 200

        begun = time.monotonic()
        assert web.get("/healthz").status == 200
        assert web.get("/v1/status", token="read").status == 200
        with daemon.client() as client:
            client.call("Status")
        assert time.monotonic() - begun < 5
        rss, descriptors = figures(pid)

    assert rss < RSS_MAX
    assert descriptors < 150
    assert gateway(daemon)["pid"] == pid


@pytest.mark.slow
def test_readers_that_do_not_read_hold_little_and_leave_room(attacked):
    daemon, web = attacked
    pid = gateway(daemon)["pid"]
    asked = [b"/v1/logs?last=100000", b"/metrics", b"/v1/events?last=1000", b"/v1/watch"]
    with contextlib.ExitStack() as stack:
        for number in range(40):
            client = stack.enter_context(web.connect())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            path = asked[number % len(asked)]
            client.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, AUTH))

        assert web.get("/healthz").status == 200
        assert web.get("/metrics", token="metrics").status == 200
        with daemon.client() as client:
            client.call("Status")
        rss, _ = figures(pid)

    assert rss < RSS_MAX
    assert gateway(daemon)["pid"] == pid


# -- the process itself ---------------------------------------------------------------------------


def test_a_gateway_that_is_killed_is_told_and_comes_back_whole(daemon_of_its_own):
    daemon, web = daemon_of_its_own
    before = gateway(daemon)
    services = pids(daemon)

    kill(before["pid"])

    ended = daemon.wait_for("service.exited", service=":gateway")
    assert (ended["cause"], ended["signal"]) == ("signal", "SIGKILL")
    until(lambda: gateway(daemon)["run"] > before["run"] and gateway(daemon)["phase"] == "running")
    address = daemon.wait_for("gateway.listening", timeout=20)["address"]
    web = Web(address)
    assert {one["name"] for one in web.get("/v1/status").said["services"]} == services.keys()
    scraped = web.get("/metrics").body
    assert all(b'service="%s"' % name.encode() in scraped for name in services)
    assert b'supervisord_internal_restarts_total{name="gateway"} 1.0' in scraped
    assert pids(daemon) == services


def test_a_gateway_that_stands_still_holds_nobody_up_and_goes_on_whole(daemon_of_its_own):
    daemon, web = daemon_of_its_own
    stopped, pid = gateway(daemon), pids(daemon)["worker"]
    kill(stopped["pid"], signal.SIGSTOP)
    try:
        for run in range(2, KILLS + 2):  # each changes a record that the gateway does not take
            kill(pid)
            pid = daemon.wait_for("service.ready", service="worker", run=run)["pid"]
        with daemon.client() as client:
            assert client.call("Health", level="alive")["ok"]
        grown, _ = figures(daemon.pid)
    finally:
        kill(stopped["pid"], signal.SIGCONT)

    scraped = web.get("/metrics").body
    name = rb'supervisord_service_restarts_total\{cause="signal",[^}]*service="worker"\} ([\d.]+)'
    assert [float(count) for count in re.findall(name, scraped)] == [KILLS]
    assert gateway(daemon)["pid"] == stopped["pid"]
    assert grown < 60 << 20


@pytest.fixture
def daemon_of_its_own():
    with roomy_daemon() as daemon:
        services = "".join(f"[service.s{n}]\ncommand = 'sleep 1000'\n" for n in range(5))
        worker = (
            "[service.worker]\ncommand = 'sleep 1000'\nbackoff.delay = 0\nstart_limit.burst = 0\n"
        )
        daemon.start("web.listen = '127.0.0.1:0'\n" + services + worker)
        web = Web(daemon.wait_for("gateway.listening")["address"])
        for name in ("worker", *(f"s{n}" for n in range(5))):
            daemon.wait_for("service.ready", service=name)
        yield daemon, web


def pids(daemon):
    with daemon.client() as client:
        return {one["name"]: one["pid"] for one in client.call("Status")["services"]}
