"""`top`, once."""

import json
import os

import pytest

from tests.support.scripted import Scripted, service, status


def daemon():
    return Scripted(Status=status(
        service("ours", pid=os.getpid(), restarts=1), service("gone", "failed", restarts=9),
    ))  # fmt: skip


def test_top_once(pidfdctl):
    ran = pidfdctl(daemon(), "top", "--once")

    assert ran.lines[0].split() == [
        "SERVICE", "PHASE", "PID", "CPU", "RSS", "FDS", "THREADS", "RESTARTS"
    ]  # fmt: skip
    assert ran.lines[1].split()[:3] == ["ours", "running", str(os.getpid())]
    assert ran.lines[2].split() == ["gone", "failed", "-", "-", "-", "-", "-", "9"]
    assert ran.lines[3].startswith("2 services: ")


@pytest.mark.parametrize(
    ("key", "first"), [("restarts", "gone"), ("rss", "ours"), ("cpu", "ours"), ("fds", "ours")]
)
def test_what_comes_first(pidfdctl, key, first):
    ran = pidfdctl(daemon(), "top", "--once", "--sort", key)

    assert ran.lines[1].split()[0] == first


def test_top_as_json_is_one_object_per_service(pidfdctl):
    ran = pidfdctl(daemon(), "top", "--once", "--json")
    ours, gone = map(json.loads, ran.lines)

    assert ours["service"] == "ours"
    assert ours["rss_bytes"] > 0
    assert ours["fds"] > 0
    assert gone == {
        "ts": "2026-11-23T14:02:14.000Z", "service": "gone", "phase": "failed", "pid": None,
        "cpu": None, "rss_bytes": None, "fds": None, "threads": None, "restarts": 9,
    }  # fmt: skip
