"""What people see of services' output: `pidfdctl logs`, `explain`, `status`, standard output."""

import json
import select
import subprocess
import time

import pytest

from tests.support import ctl
from tests.system.helpers import kill, sh

CAPTURED = 'log.to = ["file"]\n'
TALKS = "echo out $SUPERVISORD_RUN; echo err $SUPERVISORD_RUN >&2; exec sleep 1000"


@pytest.fixture
def two(daemon, tmp_path):
    """Give a daemon with two services that have written twice, once in each of two runs."""
    config = f"[service.web]\n{CAPTURED}{sh(TALKS)}[service.db]\n{CAPTURED}{sh(TALKS)}"
    daemon.start(config, "--set", f"supervisor.log_dir={tmp_path / 'log'}")
    for name in ("web", "db"):
        first = daemon.wait_for("service.ready", name)
        until(lambda name=name: len(lines(daemon, name)) == 2)
        kill(first["pid"])
        daemon.wait_for("service.ready", name, run=2)
        until(lambda name=name: len(lines(daemon, name)) == 4)
    return daemon


def until(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


def lines(daemon, *words):
    """Run `pidfdctl logs` with JSON; return the objects."""
    ran = ctl.pidfdctl(daemon.socket, "logs", *words, "--json")
    assert ran.returncode == 0, ran
    return [json.loads(line) for line in ran.stdout.splitlines()]


def texts(daemon, *words):
    return [(line["service"], line["stream"], line["msg"]) for line in lines(daemon, *words)]


def test_lines_of_services_are_merged_by_time(two):
    found = lines(two)

    assert [line["ts"] for line in found] == sorted(line["ts"] for line in found)
    assert {line["service"] for line in found} == {"web", "db"}
    assert len(found) == 8


def test_lines_are_chosen_by_stream_run_and_number(two):
    assert texts(two, "web", "--stdout") == [
        ("web", "stdout", "out 1"),
        ("web", "stdout", "out 2"),
    ]
    assert texts(two, "web", "--stderr", "--run", "1") == [("web", "stderr", "err 1")]
    assert texts(two, "--stderr", "--run", "-1", "db") == [("db", "stderr", "err 1")]
    assert len(texts(two, "-n", "3")) == 3
    assert len(texts(two, "--since", "1h")) == 8
    assert texts(two, "--since", "1us") == []


def test_lines_for_people_have_time_and_name(two):
    ran = ctl.pidfdctl(two.socket, "logs", "web", "--run", "2", "--stderr")
    clock, text = ran.stdout.split(" ", 1)

    assert text == "web     !| err 2\n"
    assert len(clock) == len("14:02:07.123")


def test_a_name_that_is_nobody_is_an_error_of_the_daemon(two):
    assert ctl.pidfdctl(two.socket, "logs", "nobody").returncode == 4


def test_explain_and_status_show_the_last_lines(two):
    explained = ctl.pidfdctl(two.socket, "explain", "web", "--json")
    last = json.loads(explained.stdout)["last_lines"]
    assert sorted(last) == ["err 2", "out 2"]
    assert "last-lines" in ctl.pidfdctl(two.socket, "explain", "web").stdout

    *_, shown = ctl.pidfdctl(two.socket, "status", "web").stdout.splitlines()
    assert shown in last


def test_a_follower_sees_what_is_written_and_what_happens_run_after_run(two):
    with subprocess.Popen(
        [ctl.COMMAND, "-s", str(two.socket), "logs", "-f", "-n", "1", "web"],
        env=ctl.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline().endswith(" 2\n")  # it is there, and follows
        for run in (3, 4):
            kill(two.wait_for("service.spawned", "web", run=run - 1)["pid"])
            two.wait_for("service.ready", "web", run=run)
            seen: set[str] = set()
            happened = set()
            while len(seen) < 2 or "service.ready" not in happened:
                line = follower.stdout.readline()
                if "| " in line:
                    seen.add(line.split("| ")[1])
                else:
                    _, dashes, event, name, *_ = line.split()
                    assert (dashes, name) == ("--", "web")
                    happened.add(event)
            assert seen == {f"out {run}\n", f"err {run}\n"}
            assert happened >= {"service.exited", "service.restart_scheduled", "service.spawned"}
        assert two.stop() == 0
        assert follower.wait(10) == 0


def test_logs_are_there_when_the_logger_was_started_again(two):
    kill(two.wait_for("service.spawned", service=":logger", run=1)["pid"])
    two.wait_for("service.ready", service=":logger", run=2, timeout=30)
    kill(two.wait_for("service.spawned", "web", run=2)["pid"])
    two.wait_for("service.ready", "web", run=3)
    until(lambda: len(lines(two, "web")) == 2)

    assert {line["msg"] for line in lines(two, "web")} == {"out 3", "err 3"}


def test_services_share_the_daemons_standard_output(daemon):
    text = 'log.to = ["stdout"]\nlog.format = "text"\n'
    config = f"[service.web]\n{text}{sh(TALKS)}[service.db]\n{text}{sh(TALKS)}"
    daemon.start(config)
    for name in ("web", "db"):
        daemon.wait_for("service.ready", name)
        until(lambda name=name: len(lines(daemon, name)) == 2)
    assert daemon.stop() == 0

    shown = sorted(line.split(" ", 1)[1] for line in daemon.output)
    assert shown == [
        "db       | out 1",
        "db      !| err 1",
        "web      | out 1",
        "web     !| err 1",
    ]


def test_in_a_container_services_share_it_unless_they_say_otherwise(daemon):
    daemon.start(f"[service.web]\n{sh('echo hello; exec sleep 1000')}", env={"container": "oci"})
    daemon.wait_for("service.ready", "web")
    until(lambda: lines(daemon, "web"))
    assert daemon.stop() == 0

    (told,) = map(json.loads, daemon.output)
    assert (told["service"], told["stream"], told["msg"]) == ("web", "stdout", "hello")


def test_restarts_and_commands_do_not_wait_for_a_standard_output_that_nobody_reads(daemon):
    flood = 'log.to = ["stdout"]\nlog.block_for = "1h"\n' + sh(
        "yes 012345678901234567890123456789"
    )
    daemon.start(f"[service.flood]\n{flood}[service.quiet]\n{sh('exec sleep 1000')}")
    until(daemon.socket.exists)
    with daemon.client() as client:

        def service(name):
            return next(one for one in client.call("Status")["services"] if one["name"] == name)

        until(lambda: lines(daemon, "flood", "-n", "1"))
        until(lambda: service("quiet")["phase"] == "running")
        for run in (2, 3, 4):
            began = time.monotonic()
            kill(service("quiet")["pid"])
            until(lambda run=run: service("quiet")["run"] == run)
            assert time.monotonic() - began < 2
        assert service("flood")["run"] == 1
    daemon.kill()


def test_the_daemons_own_events_go_where_it_is_told_and_elsewhere_after_a_reload(daemon, tmp_path):
    log_dir = ("--set", f"supervisor.log_dir={tmp_path / 'log'}")
    service = f"[service.web]\n{sh('exec sleep 1000')}"
    daemon.start(f'supervisor.log.to = ["file", "stdout"]\n{service}', *log_dir)
    daemon.wait_for("service.ready", "web")
    daemon.reload(f'supervisor.log.to = ["stdout"]\n{service}')
    assert daemon.stop() == 0
    written = [
        json.loads(line) for line in (tmp_path / "log/supervisord.log").read_text().splitlines()
    ]

    assert written == [one for one in daemon.events if one["seq"] <= written[-1]["seq"]]
    assert written[0]["seq"] == daemon.events[0]["seq"]
    assert "daemon.stopped" not in {one["event"] for one in written}


def test_the_end_is_in_the_file_of_the_daemons_own_events(daemon, tmp_path):
    log = tmp_path / "log" / "own.log"
    own = f'supervisor.log = {{ to = ["file"], path = "{log}", format = "text" }}\n'
    daemon.start(f"{own}[service.web]\n{sh('exec sleep 1000')}")
    until(lambda: log.exists() and " -- service.ready web " in log.read_text())
    assert daemon.stop() == 0

    assert daemon.events == []
    assert " -- daemon.stopped exit_code=0 " in log.read_text().splitlines()[-1]
