"""A real Prometheus: with the shipped rules, only quicker, and asked by its HTTP API."""

import contextlib
import http.client
import json
import re
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.promql import RULES

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: supervisord
    static_configs: [{targets: TARGETS}]
"""

Labels = Mapping[str, str]


def quickly(rules: str) -> str:
    """Have the shipped rules look at seconds where they look at minutes."""
    rules = re.sub(r"^( +for: \d+)m$", r"\1s", rules, flags=re.MULTILINE)
    return re.sub(r"\[(\d+)[mh]\]", r"[\1s]", rules.replace("[1h]", "[60m]"))


class Prometheus:
    """Own one Prometheus that scrapes these addresses every second."""

    def __init__(self, home: Path, targets: list[str]) -> None:
        home.mkdir()
        (home / "rules.yml").write_text(quickly(RULES.read_text()))
        config = CONFIG.replace("TARGETS", json.dumps(targets))
        (home / "prometheus.yml").write_text(config)
        self._log = home / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                    "--web.listen-address=127.0.0.1:0",
                ],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._address = ""

    def __enter__(self) -> Self:
        try:
            self._address = self.until(self._listens, 30)
            self.until(lambda: "Server is ready" in self._log.read_text(), 30)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _listens(self) -> str:
        found = re.search(r'msg="Listening on" address=(\S+)', self._log.read_text())
        return found[1] if found else ""

    def until(
        self, holds: Callable[[], Any], timeout: float, meanwhile: Callable[[], None] | None = None
    ) -> Any:
        """Ask again and again until the answer is true; return it."""
        deadline = time.monotonic() + timeout
        while not (found := holds()):
            assert time.monotonic() < deadline, f"not within {timeout} s: {holds()!r}"
            if meanwhile is not None:
                meanwhile()
            else:
                select.select([], [], [], 0.05)
        return found

    # -- its API ----------------------------------------------------------------------------------

    def _get(self, path: str, **words: str) -> Any:
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=10)) as client:
            client.request("GET", f"/api/v1/{path}?{urlencode(words)}")
            answer = json.loads(client.getresponse().read())
        assert answer["status"] == "success", (path, words, answer)
        return answer["data"]

    def query(self, expr: str) -> list[tuple[Labels, float]]:
        """Evaluate a query now; an error in it fails the test."""
        found = self._get("query", query=expr)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def value(self, expr: str) -> float | None:
        """Evaluate a query that gives one number, or nothing."""
        found = self.query(expr)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def firing(self) -> set[tuple[str, str]]:
        """Return what fires: the alert, and its service if it has one."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("service", ""))
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def annotations(self, alert: str, service: str = "") -> Labels:
        """Return what an alert that fires says."""
        for one in self._get("alerts")["alerts"]:
            labels = one["labels"]
            if (labels["alertname"], labels.get("service", "")) == (alert, service):
                said: Labels = one["annotations"]
                return said
        raise AssertionError(f"{alert} of {service!r} does not fire")

    def targets(self) -> dict[str, str]:
        """Return the health of each target, by address."""
        found = self._get("targets")["activeTargets"]
        return {one["labels"]["instance"]: one["health"] for one in found}
