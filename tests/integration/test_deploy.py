"""What is shipped for Prometheus: its tools find nothing to say, it names what there is."""

import re
import shutil
import subprocess

import pytest

from tests.support.promql import DEPLOY, exported, expression, metrics_in, recorded, rules

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
