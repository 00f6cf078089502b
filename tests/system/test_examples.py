"""The examples do what their comments say."""

import socket
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "config/examples"


def when(daemon, event, service):
    """Return which of the events so far was the first of this kind about a service."""
    return next(
        index
        for index, told in enumerate(daemon.events)
        if (told["event"], told.get("service")) == (event, service)
    )


def test_services_of_the_example_start_in_order_and_stop_in_reverse(daemon):
    daemon.start((EXAMPLES / "dependencies.toml").read_text())
    for name in ("metrics", "worker@0", "worker@1", "web"):
        daemon.wait_for("service.ready", service=name)
    ready = {name: when(daemon, "service.ready", name) for name in ("db", "cache")}
    migrated = when(daemon, "service.exited", "migrate")
    spawned = {
        name: when(daemon, "service.spawned", name)
        for name in ("migrate", "web", "metrics", "worker@0", "worker@1")
    }

    assert ready["db"] < spawned["migrate"] < migrated < spawned["web"]
    assert ready["cache"] < min(spawned["web"], spawned["metrics"])
    assert spawned["web"] < min(spawned["worker@0"], spawned["worker@1"])
    assert daemon.stop() == 0
    stopped = {n: when(daemon, "service.stopped", n) for n in ("worker@0", "web", "metrics", "db")}
    assert stopped["worker@0"] < stopped["web"] < stopped["db"]
    assert stopped["metrics"] < stopped["db"]


def test_services_of_the_example_are_ready_by_what_it_says(daemon):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    daemon.start(
        (EXAMPLES / "health.toml").read_text(),
        "--set", f'service.web.environment.PORT="{port}"',
    )  # fmt: skip

    assert daemon.wait_for("service.ready", service="web")["way"] == "http"
    assert daemon.wait_for("service.ready", service="s6")["way"] == "fd"
    assert daemon.stop() == 0


def test_services_of_the_example_write_to_their_files(daemon, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = (EXAMPLES / "logs.toml").read_text().replace("8090", str(port))
    text = text.replace("/tmp/", f"{tmp_path}/")
    daemon.start(text, "--set", f"supervisor.log_dir={tmp_path}/log")
    assert daemon.wait_for("service.ready", service="web")["way"] == "log"
    assert daemon.stop() == 0

    assert (tmp_path / "log" / "worker.out").read_text() == "out\n"
    assert (tmp_path / "log" / "worker.err").read_text() == "err\n"
    assert " web      | Serving HTTP" in (tmp_path / "log" / "web.log").read_text()
    assert (tmp_path / "log" / "chatty.log").read_text().startswith("hello\n")
    assert (tmp_path / "supervisord-pidfd-own.log").read_text() == "own\n"


def test_tasks_of_the_example_run_with_their_commands(daemon):
    daemon.start((EXAMPLES / "tasks.toml").read_text())
    daemon.wait_for("service.ready", service="server")

    assert when(daemon, "service.exited", "prepare") < when(daemon, "service.spawned", "server")
    assert daemon.stop() == 0
    assert daemon.told("hook.failed") == []
    (ended,) = daemon.told("service.exited", "server")
    assert (ended["cause"], ended["signal"], ended["forced"]) == ("operator", "SIGTERM", False)
