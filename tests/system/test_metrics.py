"""The gateway beside the daemon: what Prometheus and a load balancer ask for."""

import http.client
import json
import signal
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.helpers import kill, reaping, sh
from tests.system.test_readiness import saying

LISTEN = 'metrics.listen = "127.0.0.1:0"\n'
WEB = "[service.web]\ncommand = 'sleep 1000'\nbackoff.delay = 0\n"


OF_A_PROCESS = {
    "supervisord_check_up",
    "supervisord_service_memory_peak_bytes",
    "supervisord_service_memory_rss_bytes",
    "supervisord_service_open_fds",
    "supervisord_service_start_time_seconds",
    "supervisord_service_threads",
}
"""What is absent while a service has no process."""
COUNTERS = {
    f"supervisord_{name}_total"
    for name in (
        "service_restarts", "service_exits", "service_start_limit_hits",
        "service_kill_escalations", "service_cpu_seconds", "service_log_bytes",
        "service_log_dropped_lines",
        "service_log_blocked_seconds", "check_runs",
    )
}  # fmt: skip


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(address):
    """Scrape, and give every sample by its name and its labels."""
    status, text = get(address, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counters(samples):
    """Give the counters of services, and what the gateway counts."""
    return {
        key: its_value
        for key, its_value in samples.items()
        if key[0].endswith("_total") and not key[0].startswith("process_")
    }


def value(samples, name, **labels):
    """Add up the samples of this name that have these labels."""
    found = [
        sample
        for (its_name, its_labels), sample in samples.items()
        if its_name == name and labels.items() <= dict(its_labels).items()
    ]
    assert found, (name, labels, sorted({its_name for its_name, _ in samples}))
    return sum(found)


@pytest.fixture
def serving(daemon):
    def start(config, *words):
        daemon.start(LISTEN + config, *words)
        said = daemon.wait_for("gateway.listening")
        assert said["serves"] == "metrics"
        return said["address"]

    return start


def test_a_scrape_follows_what_happens(daemon, serving, reaper_mode):
    address = serving(
        WEB + f"[service.bad]\nrestart = 'no'\n{sh('exit 3')}", *reaping(reaper_mode)
    )
    pid = daemon.wait_for("service.ready", service="web")["pid"]
    daemon.wait_for("service.gave_up", service="bad")
    before = scrape(address)
    assert value(before, "supervisord_services", phase="running") == 1
    assert value(before, "supervisord_services", phase="failed") == 1
    assert value(before, "supervisord_service_exits_total", service="bad", cause="exit_code") == 1

    for run in (2, 3, 4):
        kill(pid)
        pid = daemon.wait_for("service.ready", service="web", run=run)["pid"]

    after = scrape(address)
    assert value(after, "supervisord_service_restarts_total", service="web") == 3
    assert value(after, "supervisord_service_exits_total", service="web", cause="signal") == 3
    assert value(after, "supervisord_service_restarts_total", service="web", cause="signal") == 3
    assert not [key for key in after if dict(key[1]).get("service", "").startswith(":")]
    assert daemon.stop() == 0


def test_a_reload_is_seen(daemon, serving):
    address = serving(WEB)
    daemon.reload(LISTEN + WEB + "[service.more]\ncommand = 'sleep 1000'\n")
    daemon.wait_for("service.ready", service="more")
    assert value(scrape(address), "supervisord_services", phase="running") == 2
    daemon.reload(LISTEN + WEB)
    daemon.wait_for("service.stopped", service="more")
    daemon.look("web")
    samples = scrape(address)
    assert value(samples, "supervisord_services", phase="running") == 1
    assert not [key for key in samples if ("service", "more") in key[1]]


def test_health_and_readiness(daemon, serving):
    critical = (
        f"[service.late]\ncritical = true\ncommand = 'sleep 1000'\nready.delay = '60s'\n{WEB}"
    )
    address = serving(critical)
    status, text = get(address, "/healthz")
    assert (status, json.loads(text)) == (200, {"ok": True})
    status, text = get(address, "/readyz")
    assert status == 503
    said = json.loads(text)
    assert said["ok"] is False
    assert any("late" in reason for reason in said["reasons"])

    daemon.reload(LISTEN + critical.replace("'60s'", "'10ms'").replace("1000", "2000"))
    daemon.wait_for("service.ready", service="late")
    daemon.look("late", "web")
    assert get(address, "/readyz")[0] == 200
    assert get(address, "/none")[0] == 404


def test_a_stopped_core_is_not_healthy(daemon, serving):
    address = serving(WEB)
    daemon.signal(signal.SIGSTOP)
    try:
        assert get(address, "/healthz")[0] == 503
    finally:
        daemon.signal(signal.SIGCONT)
    daemon.look("web")
    assert get(address, "/healthz")[0] == 200


def test_a_gateway_that_was_killed_knows_everything_again(daemon, serving):
    address = serving(WEB)
    first = daemon.wait_for("service.ready", service="web")
    kill(first["pid"])
    daemon.wait_for("service.ready", service="web", run=2)
    assert get(address, "/healthz")[0] == 200
    before = scrape(address)
    kill(daemon.told("service.spawned", ":gateway")[0]["pid"])
    address = daemon.wait_for("gateway.listening")["address"]
    samples = scrape(address)
    assert value(samples, "supervisord_service_restarts_total", service="web") == 1
    assert [key for key in counters(before) if samples.get(key, -1) < before[key]] == []
    assert value(samples, "supervisord_http_requests_total", handler="healthz") == 1


def test_a_service_keeps_its_series_until_it_is_removed(daemon, serving):
    log = f'supervisor.log_dir = "{daemon.home}/log"\n'
    web = (
        "[service.web]\nbackoff.delay = 0\nlog.to = ['file']\n"
        "health.live = {exec = ['true'], period = '20ms'}\n"
    )
    address = serving(log + web + sh("echo out; echo err >&2; exec sleep 1000"))
    kill(daemon.wait_for("service.ready", service="web")["pid"])
    daemon.wait_for("service.ready", service="web", run=2)
    with daemon.client() as client:
        up = scrape(address)
        client.call("Stop", names=["web"], wait=True)
        stopped = scrape(address)
        client.call("Start", names=["web"], wait=True)
    gone = {name for name, labels in up.keys() - stopped.keys() if ("service", "web") in labels}
    assert gone <= OF_A_PROCESS
    assert {name for name, _ in counters(up)} >= COUNTERS
    assert [key for key in counters(up) if stopped.get(key, -1) < up[key]] == []

    daemon.reload(LISTEN + log + web + sh("echo out; exec sleep 2000"))
    daemon.wait_for("service.ready", service="web", run=4)
    again = scrape(address)
    assert [key for key in counters(up) if again.get(key, -1) < up[key]] == []

    daemon.reload(LISTEN + log)
    daemon.wait_for("service.stopped", service="web", by="config")
    daemon.look()
    assert not [labels for _, labels in scrape(address) if ("service", "web") in labels]
    daemon.reload(LISTEN + log + web + sh("exec sleep 1000"))
    daemon.wait_for("service.ready", service="web", run=1)
    ends = ("exits_total", "restarts_total")
    anew = [labels for name, labels in scrape(address) if name.endswith(ends)]
    assert not [labels for labels in anew if ("service", "web") in labels]


def test_listeners_come_and_go_by_reload(daemon):
    daemon.start(WEB)
    daemon.wait_for("daemon.ready")
    daemon.reload(LISTEN + WEB)
    address = daemon.wait_for("gateway.listening")["address"]
    assert get(address, "/healthz")[0] == 200
    daemon.reload(WEB)
    daemon.wait_for("service.stopped", service=":gateway")
    with pytest.raises(OSError):  # noqa: PT011
        get(address, "/healthz")
    assert daemon.look("web")["web"]["run"] == 1
    assert daemon.stop() == 0


def test_a_unix_socket(daemon):
    path = daemon.home / "m.sock"
    daemon.start(f'metrics.listen = "unix:{path}"\n' + WEB)
    assert daemon.wait_for("gateway.listening")["address"] == f"unix:{path}"
    assert daemon.stop() == 0


def test_checks_and_what_services_say_are_counted(daemon, serving):
    check = "period = '20ms', failures = 2, action = 'none'"
    address = serving(
        "[service.web]\ntype = 'notify'\n"
        f"health.good = {{exec = ['true'], {check}}}\nhealth.bad = {{exec = ['false'], {check}}}\n"
        + saying("", "NOTHING=1", "READY=1", "stay")
    )
    daemon.wait_for("check.unhealthy", "web")
    samples = scrape(address)

    def of_check(name, check, **labels):
        return value(samples, f"supervisord_check_{name}", service="web", check=check, **labels)

    assert value(samples, "supervisord_service_healthy", service="web") == 0
    assert value(samples, "supervisord_service_ready", service="web") == 0
    assert of_check("up", "bad") == 0
    assert of_check("runs_total", "bad", result="failure") >= 2
    assert of_check("last_duration_seconds", "bad") > 0
    assert of_check("runs_total", "good", result="success") >= 0
    said = {
        result: value(samples, "supervisord_notify_messages_total", result=result)
        for result in ("accepted", "ignored", "refused")
    }
    assert said == {"accepted": 1, "ignored": 1, "refused": 1}


def test_the_canary_measures_how_late_ends_are_seen(daemon, serving, reaper_mode):
    canary = 'metrics.canary = "100ms"\n'
    address = serving(canary + WEB, *reaping(reaper_mode))
    name = "supervisord_exit_detection_seconds"
    deadline = time.monotonic() + 20
    samples = {}
    while (f"{name}_count", ()) not in samples or samples[f"{name}_count", ()] < 3:
        assert time.monotonic() < deadline, samples.get((f"{name}_count", ()))
        samples = scrape(address)
    # Less than the 50 ms that it lives: what is measured is its end, not its life.
    assert samples[f"{name}_sum", ()] / samples[f"{name}_count", ()] < 0.04
    assert value(samples, "supervisord_orphans_reaped_total") == 0

    daemon.reload(LISTEN + WEB)
    daemon.look("web")
    assert not [words for words in daemon.running().values() if words[:1] == ["sleep"]][1:]
    assert len(daemon.told("service.spawned", ":gateway")) == 1
    assert daemon.stop() == 0
