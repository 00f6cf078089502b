"""A running gateway, asked whatever its OpenAPI document allows and what it does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.web import TOKENS, Web, roomy_daemon, token_file

CONFIG = (
    "web.listen = '127.0.0.1:0'\nweb.control = true\nweb.token_file = '{tokens}'\n"
    "[service.web]\nmetrics_port = 9100\ncommand = 'sleep 1000'\n"
    "[service.db]\ninstances = 2\nreload.signal = 'CONT'\ncommand = 'sleep 1000'\n"
)
SETTINGS = Path(__file__).parents[1] / "support" / "schemathesis.toml"
STREAMS = "/v1/(events|logs)$"
"""Left out: a stream that follows has no end. Their parameters are read as all others are."""
CASES_AT_LEAST = 300


@pytest.fixture
def fuzzed():
    with roomy_daemon() as daemon:
        daemon.start(CONFIG.format(tokens=token_file(daemon.home / "tokens")))
        yield daemon, Web(daemon.wait_for("gateway.listening")["address"])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_that_schemathesis_thinks_of_surprises_the_gateway(fuzzed, tmp_path):
    daemon, web = fuzzed
    before = pid_of_gateway(daemon)
    words = (
        *("--config-file", str(SETTINGS), "run", f"http://127.0.0.1:{web.port}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKENS['control']}"),
        *("--exclude-path-regex", STREAMS, "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "8", "--continue-on-failure", "--no-color", "--seed", "1"),
        *("--generation-database", "none", "--request-timeout", "20"),
    )

    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *words],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    story = "\n".join(line[:500] for line in done.stdout.splitlines()) + done.stderr[-2000:]
    assert done.returncode == 0, story
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > CASES_AT_LEAST, story
    assert web.get("/healthz").status == 200
    assert pid_of_gateway(daemon) == before


def pid_of_gateway(daemon):
    with daemon.client() as client:
        services = client.call("Status", all=True)["services"]
    return next(one["pid"] for one in services if one["name"] == ":gateway")
