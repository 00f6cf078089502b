"""The HTTP API of a running daemon: what readers see, who may change what, how streams go on."""

import json
import os

import pytest

from tests.support.interface import INTERFACE
from tests.support.web import TOKENS, Web, roomy_daemon, token_file
from tests.system.helpers import kill, sh

pytestmark = pytest.mark.once

CONFIG = (
    "[service.web]\nlog.to = ['file']\nmetrics_port = 9100\n"
    + sh("echo one; echo two >&2; exec sleep 1000")
    + "[service.db]\ninstances = 2\nbackoff.delay = 0\ncommand = 'sleep 1000'\n"
    + "[service.late]\nready.delay = '1h'\ncommand = 'sleep 1000'\n"
    + "[service.idle]\nautostart = false\ncommand = 'sleep 1000'\n"
    + "[service.after]\nrequires = ['idle']\nautostart = false\ncommand = 'sleep 1000'\n"
)


def start(daemon, config):
    log = f"supervisor.log_dir={daemon.home / 'log'}"
    daemon.start(f"web.listen = '127.0.0.1:0'\n{config}{CONFIG}", "--set", log)
    web = Web(daemon.wait_for("gateway.listening", serves="web")["address"])
    for name in ("web", "db@0", "db@1"):
        daemon.wait_for("service.ready", service=name)
    return daemon, web


@pytest.fixture(scope="module")
def reading():
    """Give a daemon that is read without a token."""
    with roomy_daemon() as daemon:
        yield start(daemon, "")


@pytest.fixture(scope="module")
def controlled():
    """Give a daemon that is changed with the right token."""
    with roomy_daemon() as daemon:
        tokens = token_file(daemon.home / "tokens")
        yield start(daemon, f"web.control = true\nweb.token_file = '{tokens}'\n")


def service(daemon, name):
    """Look at a service, past the gateway."""
    with daemon.client() as client:
        (found,) = client.call("Status", names=[name])["services"]
    return found


def holds(method, answer):
    """Hold an answer against the interface of the control socket."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json"
    said = answer.said
    assert said.pop("format") == 1
    assert INTERFACE.wrong_in_reply(method, said) == []
    return said


# -- reading --------------------------------------------------------------------------------------


def test_the_status_is_that_of_the_control_socket(reading):
    daemon, web = reading

    said = holds("Status", web.get("/v1/status"))

    assert [one["name"] for one in said["services"]] == [
        "after", "db@0", "db@1", "idle", "late", "web"
    ]  # fmt: skip
    with daemon.client() as client:
        theirs = client.call("Status")
    assert said["supervisor"]["pid"] == theirs["supervisor"]["pid"] == daemon.pid
    assert {one["name"]: one["pid"] for one in said["services"]} == {
        one["name"]: one["pid"] for one in theirs["services"]
    }


def test_the_internal_services_are_shown_if_asked_for(reading):
    said = holds("Status", reading[1].get("/v1/status?all=1"))

    assert {":gateway", ":logger"} <= {one["name"] for one in said["services"]}


def test_one_service_and_all_its_instances(reading):
    _, web = reading

    one = holds("Status", web.get("/v1/services/web"))
    both = holds("Status", web.get("/v1/services/db"))
    second = holds("Status", web.get("/v1/services/db%401"))

    assert [service["name"] for service in one["services"]] == ["web"]
    assert [service["name"] for service in both["services"]] == ["db@0", "db@1"]
    assert [service["name"] for service in second["services"]] == ["db@1"]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/services/web/explain", "Explain"),
        ("/v1/services/web/history?last=1", "History"),
        ("/v1/services/after/deps", "Dependencies"),
        ("/v1/services/idle/deps?reverse=1", "Dependencies"),
        ("/v1/deps", "Dependencies"),
        ("/v1/services/web/config?origin=1", "Show"),
    ],
)
def test_what_a_reader_may_ask(reading, path, method):
    said = holds(method, reading[1].get(path))

    if method == "Dependencies":
        assert [(edge["from"], edge["to"]) for edge in said["edges"]] == [("after", "idle")]


def test_an_unknown_service_is_not_found_and_a_near_one_is_named(reading):
    for path in ("/v1/services/wbe", "/v1/services/wbe/history", "/v1/logs?service=wbe"):
        answer = reading[1].get(path)

        assert answer.status == 404
        error = answer.said["error"]
        assert (error["name"], error["parameters"]["name"]) == ("NoSuchService", "wbe")
        assert error["parameters"]["suggestion"] == "web"


def test_targets_of_the_services_are_those_of_http_sd(reading):
    answer = reading[1].get("/v1/sd", Host="sup.example:1")

    assert answer.status == 200
    labels = {"service": "web", "group": "web", "__metrics_path__": "/metrics"}
    assert answer.said == [{"targets": ["sup.example:9100"], "labels": labels}]
    assert reading[1].get("/v1/sd?host=h").said[0]["targets"] == ["h:9100"]


def test_nothing_changes_where_control_is_off(reading):
    daemon, web = reading
    pid = service(daemon, "web")["pid"]

    for path in ("/v1/services/web/stop", "/v1/apply"):
        answer = web.post(path)
        assert (answer.status, answer.said["error"]["name"]) == (403, "Forbidden")
    assert web.get("/v1/plan").status == 403

    assert service(daemon, "web")["pid"] == pid


def test_a_page_of_somebody_else_reads_nothing(reading):
    _, web = reading

    assert web.get("/v1/status", Host="evil.example").status == 421
    assert web.get("/v1/status", Origin="http://evil.example").status == 403
    assert web.get("/v1/status", Origin=f"http://127.0.0.1:{web.port}").status == 200
    assert web.ask("OPTIONS", "/v1/status", Origin="http://evil.example").status == 405


# -- streams --------------------------------------------------------------------------------------


def test_events_are_followed_and_resumed(reading):
    daemon, web = reading
    with web.stream("/v1/events?service=db@0&last=0") as stream:
        assert stream.status == 200
        kill(service(daemon, "db@0")["pid"])
        said, ident = stream.until(event="service.exited", service="db@0")
        ready, _ = stream.until(event="service.ready", service="db@0")
    assert int(ident) == said["seq"]

    with web.stream("/v1/events?service=db@0", Last_Event_ID=ident) as stream:
        events = stream.events()
        assert json.loads(next(events)["data"])["seq"] > said["seq"]
        assert stream.until(event="service.ready")[0] == ready


def test_events_as_json_lines_end(reading):
    answer = reading[1].get("/v1/events?service=web&last=3", Accept="application/x-ndjson")

    assert answer.headers["Content-Type"] == "application/x-ndjson"
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert {event["service"] for event in events} == {"web"}
    assert len(events) <= 3


def test_lines_are_followed_and_resumed(reading):
    _, web = reading
    with web.stream("/v1/logs?service=web&last=10") as stream:
        one, _ = stream.until(msg="one")
        _, ident = stream.until(msg="two")
    assert (one["service"], one["stream"], one["seq"]) == ("web", "stdout", 0)

    whole = web.get("/v1/logs?service=web&follow=0").body
    rest = web.get("/v1/logs?service=web&follow=0", Last_Event_ID=ident).body
    assert b"two" in whole
    assert b'data: {"' not in rest
    assert rest.endswith(b"event: end\ndata: {}\n\n")


def test_a_stream_that_its_client_leaves_is_left_by_the_gateway(reading):
    daemon, web = reading
    with daemon.client() as client:
        services = client.call("Status", all=True)["services"]
    (gateway,) = (one for one in services if one["name"] == ":gateway")

    def descriptors():
        return len(os.listdir(f"/proc/{gateway['pid']}/fd"))

    with web.stream("/v1/events") as stream:
        next(stream.events())
        one = descriptors()
    for _ in range(50):
        with web.stream("/v1/events") as stream:
            assert stream.status == 200

    with web.stream("/v1/events") as stream:
        next(stream.events())
        assert descriptors() <= one + 4


# -- control --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "codes"),
    [
        (None, (200, 401, 401, 401, 401)),
        ("nonsense", (200, 401, 401, 401, 401)),
        ("metrics", (200, 200, 200, 403, 403)),
        ("read", (200, 200, 200, 200, 403)),
        ("control", (200, 200, 200, 200, 200)),
    ],
)
def test_each_token_opens_its_level(controlled, role, codes):
    paths = ("/healthz", "/metrics", "/v1/sd", "/v1/status", "/v1/plan")

    answers = [controlled[1].get(path, token=role) for path in paths]

    assert tuple(answer.status for answer in answers) == codes
    assert all("WWW-Authenticate" in one.headers for one in answers if one.status == 401)


def test_a_service_is_stopped_started_and_restarted(controlled):
    daemon, web = controlled

    stopped = holds("Stop", web.post("/v1/services/db@0/stop", token="control"))
    assert [one["ok"] for one in stopped["outcomes"]] == [True]
    assert service(daemon, "db@0")["phase"] == "stopped"

    started = holds("Start", web.post("/v1/services/db@0/start", token="control"))
    assert started["outcomes"][0]["phase"] == "running"
    before = service(daemon, "db@0")["pid"]

    holds("Restart", web.post("/v1/services/db@0/restart", {"only": True}, token="control"))
    assert service(daemon, "db@0")["pid"] != before

    daemon.wait_for("control.called", method="Restart", names=["db@0"])


def test_a_signal_and_a_reset(controlled):
    daemon, web = controlled

    holds("Signal", web.post("/v1/services/db@1/signal?signal=CONT", token="control"))
    holds("Reset", web.post("/v1/services/db@1/reset", token="control"))

    daemon.wait_for("service.signaled", service="db@1")


def test_what_is_not_awaited_is_accepted_and_what_takes_too_long_times_out(controlled):
    _, web = controlled

    accepted = web.post("/v1/services/late/restart?wait=0", token="control")
    late = web.post("/v1/services/late/start?timeout_s=0.1", token="control")

    assert accepted.status == 202
    assert isinstance(accepted.said["change"], int)
    assert (late.status, late.said["error"]["name"]) == (504, "WaitTimedOut")
    assert INTERFACE.wrong_in_error("WaitTimedOut", late.said["error"]["parameters"]) == []


def test_what_the_core_refuses(controlled):
    _, web = controlled

    reload_ = web.post("/v1/services/db@0/reload", token="control")
    signal = web.post("/v1/services/db@0/signal?signal=NONSENSE", token="control")
    unknown = web.post("/v1/services/nothing/stop", token="control")

    assert (reload_.status, reload_.said["error"]["name"]) == (409, "Refused")
    assert signal.status == 400
    assert unknown.status == 404


def test_a_post_needs_its_header_and_no_foreign_page(controlled):
    daemon, web = controlled
    pid = service(daemon, "web")["pid"]
    path = "/v1/services/web/stop"

    assert web.post(path, token="control", X_Supervisord_Request="").status == 403
    assert web.post(path, token="control", Origin="http://evil.example").status == 403
    assert web.post(path, token="control", Host="evil.example").status == 421
    assert web.get(path, token="control").status == 405
    assert web.post(f"{path}?access_token={TOKENS['control']}").status == 401

    assert service(daemon, "web")["pid"] == pid


def test_a_plan_is_seen_and_carried_out(controlled):
    daemon, web = controlled
    config = daemon.write_config(daemon.home / "supervisord.toml").read_text()
    daemon.write_config(config + "[service.more]\ncommand = 'sleep 1000'\n")

    plan = holds("Plan", web.get("/v1/plan", token="control"))
    assert [(item["action"], item["service"]) for item in plan["items"]] == [("add", "more")]

    other = web.post("/v1/apply?expect=another", token="control")
    assert (other.status, other.said["error"]["parameters"]["reason"]) == (409, "plan_changed")

    done = holds("Apply", web.post(f"/v1/apply?expect={plan['digest']}", token="control"))
    assert done["outcomes"][0]["service"] == "more"
    assert service(daemon, "more")["phase"] == "running"

    daemon.write_config(config + "[service.more]\ncommnad = 'x'\n")
    invalid = web.post("/v1/apply", token="control")
    assert (invalid.status, invalid.said["error"]["name"]) == (422, "ConfigInvalid")
    assert service(daemon, "more")["phase"] == "running"

    daemon.write_config(config)  # as the others expect it
    assert holds("Apply", web.post("/v1/apply", token="control"))["problems"] == []
