"""A real Prometheus beside a real daemon: do the alerts and the dashboard tell what happened?"""

import os
import re
import select
import shutil
import signal
import subprocess

import pytest

from tests.integration.test_gateway import TOTALS, Gateway, record
from tests.support import grafana
from tests.support.prometheus import Prometheus
from tests.system.helpers import kill, sh
from tests.system.test_metrics import get

pytestmark = [
    pytest.mark.once,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("promtool") is None,
        reason="promtool is not installed",
    ),
]

RATE = "5s"
SERVICES = f"""
[service.calm]
command = "sleep 1000"
[service.victim]
command = "sleep 1000"
backoff.delay = 0
[service.loop]
{sh("exec sleep 0.3")}restart = "always"
start_limit.burst = 0
backoff.delay = "10ms"
backoff.max_delay = "10ms"
[service.sick]
command = "sleep 1000"
health.live = {{ exec = ["false"], period = "200ms", failures = 1, action = "none" }}
[service.broken]
{sh("exit 3")}start_limit.burst = 2
backoff.delay = "10ms"
[service.noisy]
{sh("while :; do echo line; done")}log.to = ["file"]
log.rate_limit = "10/1s"
"""


class Oom:
    """A core of which one service was killed for want of memory: as a gateway would be told.

    The daemon does not read memory.events yet; so this cause is played, and all after it is real.
    """

    def __init__(self, gateway):
        self.gateway = gateway
        self.kills = 0
        gateway.sync(self._record())
        host, port = gateway.listening()
        self.address = f"{host}:{port}"

    def _record(self):
        exits = {"exit_code": 3} | ({"oom": self.kills} if self.kills else {})
        return record("hungry", pid=1, totals=TOTALS | {"exits": exits})

    def kill(self):
        self.kills += 1
        self.gateway.send({"service": self._record()})

    def turn(self):
        """Answer what the gateway asks within a moment."""
        if select.select([self.gateway.channel], [], [], 0.05)[0]:
            self.gateway.reply()


@pytest.fixture
def oom():
    gateway = Gateway({"metrics": {"listen": ["127.0.0.1:0"]}, "web": {"user": str(os.geteuid())}})
    try:
        yield Oom(gateway)
    finally:
        gateway.end()


def filled(expr):
    """Fill in Grafana's variables: everything is shown."""
    expr = re.sub(r"\$(job|instance|group|service)\b", ".*", expr)
    expr = expr.replace("$__rate_interval", RATE)
    assert "$" not in expr
    return expr


def panel(title):
    """Return the query of a panel of the dashboard."""
    (found,) = [
        filled(grafana.filled(query.expr))
        for panels in grafana.ROWS.values()
        for one in panels
        for query in one.queries
        if one.title == title
    ]
    return found


def by(label, found):
    return {labels[label]: value for labels, value in found}


def test_alerts_and_dashboard_tell_what_happened(daemon, tmp_path, oom):
    base = (
        f'metrics = {{ listen = "127.0.0.1:0", sample_every = "1s", canary = "500ms" }}\n'
        f'supervisor.log_dir = "{tmp_path}/log"\n'
    )
    daemon.start(base + SERVICES)
    ours = daemon.wait_for("gateway.listening")["address"]
    victim = daemon.wait_for("service.ready", service="victim")["pid"]
    daemon.wait_for("service.gave_up", service="broken")
    with Prometheus(tmp_path / "prometheus", [ours, oom.address]) as prometheus:

        def until(holds, timeout=25):
            return prometheus.until(holds, timeout, oom.turn)

        until(lambda: prometheus.targets() == {ours: "up", oom.address: "up"})
        until(lambda: prometheus.query('supervisord_service_up{service="hungry"}'))
        assert not prometheus.query('supervisord_service_exits_total{service="victim"}')
        # -- it happens
        kill(victim)
        oom.kill()
        daemon.reload(base + SERVICES + "[service.calm]\nnonsense = 1\n")

        expected = {
            ("Flapping", "loop"),
            ("Unhealthy", "sick"),
            ("ServiceFailed", "broken"),
            ("ServiceDown", "broken"),
            ("LogsDropped", "noisy"),
            ("OomKills", "hungry"),
            ("ConfigReloadFailed", ""),
        }
        if fell_back(daemon):
            expected.add(("PidfdFallback", ""))
        until(lambda: prometheus.firing() >= expected)
        assert prometheus.firing() == expected
        assert (
            "pidfdctl explain broken" in prometheus.annotations("ServiceDown", "broken")["action"]
        )

        check_dashboard(prometheus, until)
        text = get(ours, "/metrics")[1]
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

        # -- the core hangs, then dies with its gateway
        daemon.signal(signal.SIGSTOP)
        until(lambda: prometheus.value(f'supervisord_up{{instance="{ours}"}}') == 0)
        until(lambda: ("CoreLost", "") in prometheus.firing())
        daemon.signal(signal.SIGCONT)
        until(lambda: ("CoreLost", "") not in prometheus.firing())
        daemon.kill()
        until(lambda: prometheus.value(f'up{{instance="{ours}"}}') == 0)
        until(lambda: ("CoreLost", "") in prometheus.firing())


def fell_back(daemon):
    """Tell whether exits are not seen through pidfds here."""
    return bool(daemon.told("reaper.fell_back"))


def check_dashboard(prometheus, until):
    """Compare what panels say with what happened; ask every query."""
    ends = 'sum by (service, cause) (supervisord_service_exits_total{service=~"victim|hungry"})'
    found = {(labels["service"], labels["cause"]): n for labels, n in prometheus.query(ends)}
    assert found == {("victim", "signal"): 1, ("hungry", "oom"): 1, ("hungry", "exit_code"): 3}
    assert prometheus.value(panel("Supervisors answer")) == 1
    assert prometheus.value(panel("Failed")) == 1
    assert prometheus.value(panel("Unhealthy")) == 1
    assert prometheus.value(panel("Last apply succeeded")) == 0
    unready = by("service", prometheus.query(panel("Wanted up and not ready")))
    assert unready.keys() - {"loop"} == {"broken", "sick"}
    life = by("service", prometheus.query(panel("Life of each service")))
    assert (life["calm"], life["sick"], life["broken"]) == (3, 2, 0)
    most = by("service", prometheus.query(panel("Most restarts in 15 minutes")))
    assert most["loop"] == max(most.values())
    assert most["victim"] == 1
    assert by("check", prometheus.query(panel("Checks"))) == {"live": 0}
    assert by("service", prometheus.query(panel("Memory")))["calm"] > 1e5
    until(lambda: not silent(prometheus), 10)


MAY_BE_EMPTY = {
    "Start limits reached, stops that took SIGKILL",
    "Lines dropped",
    "Time for which output was held back",
    "Processes that could not be created",
    "From stop request to nothing left",
    "Restarts, by service",
}
"""Panels of what did not happen, or is over by the time that they are asked."""


def silent(prometheus):
    """Name the panels that should show something and do not; a query that is wrong fails."""
    empty = set()
    for panels in grafana.ROWS.values():
        for one in panels:
            queries = [filled(grafana.filled(query.expr)) for query in one.queries]
            if not sum(len(prometheus.query(query)) for query in queries):
                empty.add(one.title)
    return empty - MAY_BE_EMPTY
