"""Twelve services that wait for each other in every way there is, and groups of them."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.ctl import pidfdctl as run_pidfdctl
from tests.system.helpers import alive, kill, reaping, sh

GRAPH = """
supervisor.log.level = "debug"
[service.root]
command = "sleep 1000"
backoff.delay = "300ms"
restart = "always"

[service.gate]
command = "sleep 1000"
ready.file = "{home}/gate.open"
requires = ["root"]

[service.on_started]
command = "sleep 1000"
requires = ["gate:started"]

[service.on_ready]
command = "sleep 1000"
requires = ["gate"]

[service.on_healthy]
command = "sleep 1000"
requires = ["checked:healthy"]

[service.checked]
command = "sleep 1000"
requires = ["gate"]
health.there = {{ exec = "test -e {home}/checked.ok", period = "100ms", action = "none" }}

[service.task]
type = "oneshot"
command = "true"
requires = ["gate"]

[service.on_exited_ok]
command = "sleep 1000"
requires = ["task"]

[service.breaks]
type = "oneshot"
command = "false"
requires = ["gate"]

[service.on_exited]
command = "sleep 1000"
requires = ["breaks:exited"]

[service.wanting]
command = "sleep 1000"
wants = ["breaks"]
after = ["on_ready"]

[service.last]
command = "sleep 1000"
requires = ["on_ready", "on_exited_ok", "wanting"]
part_of = ["root"]
"""

UP = (
    "root", "gate", "on_started", "on_ready", "on_healthy", "checked", "on_exited_ok",
    "on_exited", "wanting", "last",
)  # fmt: skip
EDGES = (
    ("root", "gate"), ("gate", "on_ready"), ("gate", "checked"), ("checked", "on_healthy"),
    ("gate", "task"), ("task", "on_exited_ok"), ("gate", "breaks"), ("breaks", "on_exited"),
    ("breaks", "wanting"), ("on_ready", "wanting"), ("on_ready", "last"),
    ("on_exited_ok", "last"), ("wanting", "last"),
)  # fmt: skip
"""Who comes up (or, a task, ends) before whom."""


def graph(home):
    return GRAPH.format(home=home)


def order(daemon, event, since=0):
    return [
        told["service"]
        for told in daemon.told(event)
        if told["seq"] > since and not told["service"].startswith(":")
    ]


def last_seq(daemon):
    return max(told["seq"] for told in daemon.events)


def pids(daemon, *names):
    with daemon.client() as client:
        services = client.call("Status", names=list(names))["services"]
    return {one["name"]: one["pid"] for one in services}


@pytest.fixture
def place():
    """Give a directory in which the checker's user may look."""
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def pidfdctl(daemon):
    """Give the installed command, for this daemon."""
    return lambda *words: run_pidfdctl(daemon.socket, *words)


@pytest.mark.slow
def test_twelve_services_start_in_order_survive_their_root_and_stop_in_reverse(
    daemon, pidfdctl, reaper_mode, place
):
    daemon.start(graph(place), *reaping(reaper_mode))
    daemon.wait_for("service.ready", "on_started")  # the gate has been executed, and is not ready

    # each waits, and both commands say for what
    for name, what in (
        ("on_ready", "gate (starting)"),
        ("on_exited_ok", "task (waiting)"),
        ("on_healthy", "checked (waiting)"),
        ("on_exited", "breaks (waiting)"),
        ("wanting", "breaks (waiting)"),
    ):
        assert f"needs {what}" in pidfdctl("explain", name).stdout
    tree = pidfdctl("deps", "last").stdout
    assert "gate" in tree
    assert "not met" in tree

    (place / "gate.open").touch()
    daemon.wait_for("service.ready", "last")
    assert "needs checked (running)" in pidfdctl("status", "on_healthy").stdout
    (place / "checked.ok").touch()
    daemon.wait_for("service.ready", "on_healthy")

    started = order(daemon, "service.starting")
    assert len(started) == 12
    for before, after in EDGES:
        assert started.index(before) < started.index(after)
    shown = pidfdctl("status", "--no-header").stdout
    assert shown.count("running") >= len(UP)
    assert pidfdctl("status", "--check", *UP).returncode == 0

    # the root crashes: who requires it stays, who is part of it is restarted once it can be
    had = pids(daemon, *UP)
    mark = last_seq(daemon)
    kill(had["root"])
    daemon.wait_for("service.ready", "last", run=2)
    assert [alive(had[name]) for name in ("gate", "on_ready", "wanting")] == [True] * 3
    assert not alive(had["last"])
    daemon.wait_for("service.ready", "root", run=2)
    assert set(order(daemon, "service.starting", mark)) == {"root", "last"}

    # and everything goes in reverse
    mark = last_seq(daemon)
    assert daemon.stop() == 0
    stopping, stopped = (
        order(daemon, "service.stopping", mark),
        order(daemon, "service.stopped", mark),
    )
    assert set(stopping) == set(UP)
    for before, after in EDGES:
        if before in UP and after in UP:
            assert stopping.index(after) < stopping.index(before)
    seqs = {
        (told["event"], told["service"]): told["seq"]
        for event in ("service.stopping", "service.stopped")
        for told in daemon.told(event)
    }
    for lower, upper in (("root", "gate"), ("gate", "on_ready"), ("on_ready", "last")):
        assert seqs["service.stopped", upper] < seqs["service.stopping", lower]
    assert set(stopped) == set(UP)


def test_who_waits_for_what_failed_starts_by_itself_when_that_recovers(daemon, pidfdctl, tmp_path):
    ok = tmp_path / "ok"
    daemon.start(
        "[service.db]\n"
        + sh(f"test -e {ok} || exit 1; exec sleep 1000")
        + 'ready.delay = "200ms"\nrestart = "no"\n'
        + '[service.web]\ncommand = "sleep 1000"\nrequires = ["db"]\n'
    )
    daemon.wait_for("service.gave_up", "db")
    assert "needs db (failed)" in pidfdctl("status", "web").stdout
    assert "needs       db to be ready; it is failed" in pidfdctl("explain", "web").stdout
    assert "blocks      web (requires db)" in pidfdctl("explain", "db").stdout

    ok.touch()
    assert pidfdctl("start", "db").returncode == 0
    daemon.wait_for("service.ready", "web")


def test_a_cycle_is_refused_and_its_path_printed(daemon):
    result = daemon.run(
        "check",
        daemon.write_config(
            '[service.a]\ncommand = "true"\nrequires = ["c"]\n'
            '[service.b]\ncommand = "true"\nafter = ["a"]\n'
            '[service.c]\ncommand = "true"\nwants = ["b"]\n'
        ),
    )

    assert result.returncode == 6
    assert any(
        " → ".join(path) in result.stderr
        for path in (("a", "c", "b", "a"), ("c", "b", "a", "c"), ("b", "a", "c", "b"))
    )


def test_a_group_restarts_the_members_after_the_one_that_ended(daemon, reaper_mode):
    members = "".join(
        f'[service.{name}]\ncommand = "sleep 1000"\nbackoff.delay = 0\n' for name in "abc"
    )
    daemon.start(
        members + '[group.crew]\nservices = ["a", "b", "c"]\nstrategy = "rest_for_one"\n',
        *reaping(reaper_mode),
    )
    had = {name: daemon.wait_for("service.ready", name)["pid"] for name in "abc"}

    kill(had["b"])
    daemon.wait_for("service.ready", "c", run=2)

    assert daemon.wait_for("service.ready", "b", run=2)
    assert alive(had["a"])
    assert not alive(had["c"])


def test_a_group_that_restarts_too_often_gives_up(daemon):
    daemon.start(
        '[service.a]\ncommand = "sleep 1000"\n'
        "[service.b]\n" + sh("sleep 0.05") + 'restart = "always"\nbackoff.delay = 0\n'
        '[group.crew]\nservices = ["a", "b"]\nlimit = "3/1m"\n'
    )
    gave_up = daemon.wait_for("group.gave_up")
    assert (gave_up["group"], gave_up["interval_s"]) == ("crew", 60.0)
    for name in "ab":
        assert daemon.wait_for("service.gave_up", name)["reason"] == "group_limit"
    assert {one["phase"] for one in daemon.look("a", "b").values()} == {"failed"}


@pytest.mark.once
@pytest.mark.slow
def test_two_thousand_services_start_in_order_and_no_more_than_allowed_at_once(daemon):
    many, step, most = 2000, 100, 50
    daemon.start(
        f"supervisor.start_concurrency = {most}\n"
        + "".join(
            f'[service.s{n}]\ncommand = "sleep 1000"\nready.delay = "20ms"\n'
            + (f'requires = ["s{n - step}"]\n' if n >= step else "")
            for n in range(many)
        )
    )
    for n in range(many - step, many):
        daemon.wait_for("service.ready", f"s{n}", timeout=60)

    seen = {"service.spawned": {}, "service.ready": {}}
    starting = highest = 0
    for told in daemon.events:
        if told["event"] in seen and told["service"].startswith("s"):
            seen[told["event"]][told["service"]] = told["seq"]
            starting += 1 if told["event"] == "service.spawned" else -1
            highest = max(highest, starting)
    assert [len(events) for events in seen.values()] == [many, many]
    assert highest == most
    for n in range(step, many):
        assert seen["service.ready"][f"s{n - step}"] < seen["service.spawned"][f"s{n}"]
    assert daemon.stop(timeout=60) == 0
