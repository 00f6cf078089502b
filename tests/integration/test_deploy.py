"""What is shipped for Prometheus: its tools find nothing to say, it names what there is."""

import re
import shutil
import subprocess

import pytest

from tests.support import grafana
from tests.support.promql import DEPLOY, exported, expression, metrics_in, recorded, rules

DASHBOARD = DEPLOY / "grafana/supervisord.json"

ALERTS = {
    "ServiceDown", "ServiceFailed", "Flapping", "Unhealthy", "OomKills", "LogsDropped",
    "ConfigReloadFailed", "LoopLagHigh", "PidfdFallback", "CoreLost",
}  # fmt: skip

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@promtool
@pytest.mark.parametrize(
    ("what", "file"),
    [
        (("check", "rules"), "supervisord.rules.yml"),
        (("check", "config"), "prometheus.yml"),
        (("test", "rules"), "supervisord.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_what_is_shipped(what, file):
    ran = subprocess.run(
        ["promtool", *what, file],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, "FAILED" in ran.stdout) == (0, False), ran.stdout + ran.stderr


def test_the_alerts_are_those_that_are_promised():
    assert {name for name in rules() if name not in recorded()} == ALERTS


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_is_and_what_to_do(name):
    rule = rules()[name]

    for key in ("severity", "summary", "description", "action"):
        assert re.search(rf"^ +{key}: \S", rule, re.MULTILINE)
    assert f"alertname: {name}" in (DEPLOY / "prometheus/supervisord.rules.test.yml").read_text()


@pytest.mark.parametrize("name", rules())
def test_a_rule_names_metrics_that_exist(name):
    named = metrics_in(expression(rules()[name]))

    assert named
    assert named <= exported() | recorded()


def test_what_is_recorded_is_named_after_what_it_is_made_of():
    for name in recorded():
        _level, metric, operations = name.split(":")
        (made_of,) = metrics_in(expression(rules()[name])) - {"supervisord_service_up"}
        assert made_of.startswith(metric)
        assert re.fullmatch(r"increase15m|p99_5m", operations)


# -- the dashboard --------------------------------------------------------------------------------


def test_the_dashboard_is_in_step_with_its_table():
    assert DASHBOARD.read_text() == grafana.text(), "run: make docs"


@pytest.mark.parametrize("query", list(grafana.queries()))
def test_a_query_names_metrics_and_variables_that_exist(query):
    variables = {one["name"] for one in grafana.dashboard()["templating"]["list"]}

    named = metrics_in(query.replace("$__rate_interval", "5m"))

    assert named
    assert named <= exported() | recorded()
    assert set(re.findall(r"\$(\w+)", query)) <= variables | {"__rate_interval"}


def test_panels_do_not_lie_on_each_other_and_each_asks_the_chosen_source():
    taken = set()
    for panel in grafana.dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        sources = [one["datasource"]["uid"] for one in panel.get("targets", ())]
        assert set(sources) <= {"${datasource}"}
