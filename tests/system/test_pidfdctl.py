"""Every verb of the installed `pidfdctl` with a real daemon, as text and as JSON."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from supervisord_pidfd import __version__
from supervisord_pidfd.cli.verbs import VERBS
from tests.conftest import WITHOUT_PIDFD
from tests.support import ctl
from tests.support.interface import INTERFACE
from tests.system.helpers import alive

CONFIG = """
[service.db]
command = "sleep 1000"
[service.web]
command = "sleep 1000"
requires = ["db"]
metrics_port = 9100
[service.worker]
command = "sleep 1000"
instances = 2
[service.migrate]
type = "oneshot"
command = "true"
[service.fails]
command = "sh -c 'exit 3'"
restart = "no"
autostart = false
[service.never]
command = "sleep 1000"
ready.file = "/nonexistent/ready"
autostart = false
[service.report]
command = "sleep 1000"
requires = ["never"]
autostart = false
[group.backend]
services = ["web", "worker"]
"""
UID = os.geteuid()
OURS = {"rss_bytes", "cpu_s"}
"""Members that the client adds to each service."""


class Ctl:
    """Run `pidfdctl` with the socket of a daemon."""

    def __init__(self, daemon):
        self.daemon = daemon

    def __call__(self, *words, code=0, err=""):
        """Run a command, hold its exit code and errors to what is expected; return its lines."""
        ran = ctl.pidfdctl(self.daemon.socket, *words)
        assert (ran.returncode, ran.stderr) == (code, err and f"{err}\n"), ran.stdout
        return ran.stdout.splitlines()

    def json(self, *words, code=0):
        """Run a command with `--json`; return the one object it printed."""
        ran = ctl.pidfdctl(self.daemon.socket, *words, "--json")
        assert ran.returncode == code, ran
        (line,) = ran.stdout.splitlines()
        return json.loads(line)

    def reply(self, method, *words, code=0):
        """Run a command with `--json`, and hold the frame to what the method declares."""
        frame = self.json(*words, code=code)
        assert frame.pop("format") == 1
        for service in frame.get("services", []):
            assert service.keys() >= OURS
            for member in OURS:
                del service[member]
        assert INTERFACE.wrong_in_reply(method, frame) == []
        return frame

    def error(self, *words, code):
        """Run a command with `--json` that fails; return the error."""
        ran = ctl.pidfdctl(self.daemon.socket, *words, "--json")
        frame = json.loads(ran.stdout)
        assert (ran.returncode, frame["format"]) == (code, 1)
        assert ran.stderr == f"pidfdctl: {frame['error']['message']}\n"
        return frame["error"]


@pytest.fixture
def pidfdctl(daemon):
    daemon.start(CONFIG)
    daemon.wait_for("service.ready", "web")
    daemon.wait_for("service.ready", "worker@1")
    daemon.wait_for("service.exited", "migrate")
    return Ctl(daemon)


def columns(lines):
    """Take a table apart: rows by their first word, words by their title."""
    titles, *rows = [re.split(r"  +", line) for line in lines]
    return {row[0]: dict(zip(titles, row, strict=False)) for row in rows}


# -- looking --------------------------------------------------------------------------------------


def test_status_is_a_table(pidfdctl):
    lines = pidfdctl()

    table = columns(lines)
    assert list(table)[:-1] == [
        "db", "fails", "migrate", "never", "report", "web", "worker@0", "worker@1"
    ]  # fmt: skip
    counts, _, note = lines[-1].partition("         ")
    assert counts == "8 services: 4 running, 1 exited, 3 stopped"
    assert note.startswith("reaper sigchld (" if WITHOUT_PIDFD else "")
    assert (table["web"]["PHASE"], table["web"]["READY"]) == ("running", "yes")
    assert alive(int(table["web"]["PID"]))
    assert re.fullmatch(r"[\d.]+ [KM]B", table["web"]["RSS"])
    assert table["migrate"]["PHASE"] == "exited"


def test_status_as_json_has_figures_of_the_processes(pidfdctl):
    services = pidfdctl.json("status")["services"]

    assert pidfdctl.reply("Status", "status")
    by_name = {one["name"]: one for one in services}
    assert by_name["web"]["rss_bytes"] > 100_000
    assert by_name["web"]["cpu_s"] >= 0
    assert by_name["fails"]["rss_bytes"] is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["worker"], ["worker@0", "worker@1"]),
        (["worker@1"], ["worker@1"]),
        (["w*"], ["web", "worker@0", "worker@1"]),
        (["@backend"], ["web", "worker@0", "worker@1"]),
        (["db", "web"], ["db", "web"]),
    ],
)
def test_names(pidfdctl, names, found):
    assert pidfdctl("status", *names, "--names") == found


def test_status_of_one_service_is_long(pidfdctl):
    shown = dict(re.split("  +", line, maxsplit=1) for line in pidfdctl("status", "web"))

    assert shown["phase"] == "running"
    assert shown["group"] == "backend"
    assert int(shown["pid"]) > 1


def test_status_with_the_helpers(pidfdctl):
    assert pidfdctl("status", "--all", "--names")[0] == ":checker"


def test_status_with_chosen_columns(pidfdctl):
    lines = pidfdctl("status", "web", "db", "--columns", "service,phase", "--no-header")

    assert lines == ["db   running", "web  running"]


def test_status_check(pidfdctl):
    pidfdctl("status", "--check", "-q")
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")

    assert pidfdctl("status", "--check", "-q", code=3) == []


def test_predicates(pidfdctl):
    pidfdctl("is-running", "web", "worker")
    pidfdctl("is-ready", "@backend", "migrate")
    pidfdctl("is-running", "migrate", code=3)
    pidfdctl("is-failed", "web", "fails", code=3)
    assert pidfdctl.reply("Status", "is-ready", "never", code=3)["services"][0]["name"] == "never"
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")
    pidfdctl("is-failed", "web", "fails")


def test_health(pidfdctl):
    assert pidfdctl("health") == ["ok"]
    assert pidfdctl("health", "--level", "alive") == ["ok"]
    assert pidfdctl.reply("Health", "health") == {"ok": True, "reasons": []}
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")
    pidfdctl("health", code=1, err="fails: failed, code 3")


def test_explain(pidfdctl):
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")
    lines = pidfdctl("explain", "fails")

    assert re.match(r"fails has failed .* since \d\d:\d\d:\d\d \(\ds ago\): ", lines[0])
    labels = [line.split()[0] for line in lines[1:]]
    assert labels[0] == "ended"
    assert {"restarts", "try"} <= set(labels)
    reply = pidfdctl.reply("Explain", "why", "fails")
    assert reply["service"]["phase"] == "failed"


def test_history(pidfdctl):
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")
    (row,) = columns(pidfdctl("history", "fails")).values()

    assert (row["RUN"], row["ENDED"]) == ("1", "code 3")
    (run,) = pidfdctl.reply("History", "history", "fails", "-n", "5")["runs"]
    assert run["exit"]["exit_code"] == 3
    assert pidfdctl("history", "never") == ["no run to show"]


def test_deps(pidfdctl):
    assert pidfdctl("deps", "web") == [
        "web    running",
        "└─ db  running  requires, ready  met",
    ]
    assert pidfdctl("deps", "db", "--reverse") == [
        "db      running",
        "└─ web  running  requires, ready  met",
    ]
    assert pidfdctl("deps", "worker") == ["worker@0  running", "worker@1  running"]
    (edge,) = pidfdctl.reply("Dependencies", "graph", "report")["edges"]
    assert edge == {
        "from": "report", "to": "never", "kind": "requires", "condition": "ready", "met": False
    }  # fmt: skip
    assert pidfdctl("deps", "web", "--format", "mermaid")[0] == "graph TD"


def test_show(pidfdctl):
    assert pidfdctl("show", "web")[:2] == ["[service.web]", 'command = "sleep 1000"']
    with_places = pidfdctl("show", "web", "--origin")
    assert with_places[1].endswith(f"# {pidfdctl.daemon.home}/supervisord.toml:5")
    assert set(pidfdctl.reply("Show", "cat", "web")) == {"toml"}


def test_targets(pidfdctl):
    assert json.loads(pidfdctl("sd", "--host", "box")[0]) == [
        {"targets": ["box:9100"],
         "labels": {"service": "web", "group": "backend", "__metrics_path__": "/metrics"}}
    ]  # fmt: skip
    assert len(pidfdctl.json("sd")["groups"]) == 1


def test_top_once(pidfdctl):
    table = columns(pidfdctl("top", "--once")[:-1])

    assert table["web"]["THREADS"] == "1"
    lines = ctl.pidfdctl(pidfdctl.daemon.socket, "top", "--once", "--json").stdout.splitlines()
    assert {json.loads(line)["service"] for line in lines} == set(table)


def test_events(pidfdctl):
    lines = pidfdctl("events", "web")

    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} -- service\.ready web way=executed .*", lines[-1])
    ran = ctl.pidfdctl(pidfdctl.daemon.socket, "events", "-n", "3", "--json")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [one["seq"] for one in events] == sorted(one["seq"] for one in events)
    assert len(events) == 3
    since = events[0]["seq"]
    again = ctl.pidfdctl(pidfdctl.daemon.socket, "events", "--since", str(since), "--json")
    assert [json.loads(line) for line in again.stdout.splitlines()][:2] == events[1:]


def test_events_are_followed(pidfdctl):
    with subprocess.Popen(
        [ctl.COMMAND, "-s", pidfdctl.daemon.socket, "events", "-f", "-n1", "worker@0"],
        env=ctl.environment(), stdout=subprocess.PIPE, text=True,
    ) as follower:  # fmt: skip
        assert "service.ready worker@0" in follower.stdout.readline()
        pidfdctl("stop", "worker@0", "-q")
        lines = [follower.stdout.readline() for _ in range(3)]
        follower.send_signal(signal.SIGINT)

    assert [line.split()[2] for line in lines] == [
        "service.stopping", "service.exited", "service.stopped"
    ]  # fmt: skip
    assert follower.returncode == 130


def test_version_tells_both_sides(pidfdctl):
    ours, theirs = pidfdctl("version")

    assert ours.startswith(f"pidfdctl {__version__} (python ")
    assert theirs == f"supervisord-pidfd {__version__} at {pidfdctl.daemon.socket}"
    assert pidfdctl.json("version")["client_version"] == __version__


def test_help_and_completion_need_no_daemon(pidfdctl):
    assert pidfdctl("--help")[0].startswith("usage: pidfdctl")
    for shell in ("bash", "zsh", "fish"):
        assert any("pidfdctl" in line for line in pidfdctl("completion", shell))


# -- changing -------------------------------------------------------------------------------------


def outcomes(lines):
    return {line.partition(":")[0]: line.partition(": ")[2] for line in lines}


def test_stop_and_start_say_how_it_went(pidfdctl):
    stopped = pidfdctl("stop", "db")
    assert [re.sub(r"\d+\.\ds", "0.0s", line) for line in stopped] == [
        "web: stopped (after 0.0s)", "db: stopped (after 0.0s)"
    ]  # fmt: skip
    started = pidfdctl("start", "web", "--settle", "0")
    assert [re.sub(r"\d+\.\ds", "0.0s", line) for line in started] == [
        "db: running (ready in 0.0s)", "web: running (ready in 0.0s)"
    ]  # fmt: skip
    reply = pidfdctl.reply("Start", "start", "web")
    assert [(one["service"], one["ok"]) for one in reply["outcomes"]] == [
        ("db", True), ("web", True)
    ]  # fmt: skip
    reply = pidfdctl.reply("Stop", "stop", "worker", "--only")
    assert {one["phase"] for one in reply["outcomes"]} == {"stopped"}


def test_starting_what_runs_and_stopping_what_is_down_is_done(pidfdctl):
    assert outcomes(pidfdctl("start", "worker")) == {
        "worker@0": "running (already)", "worker@1": "running (already)"
    }  # fmt: skip
    assert outcomes(pidfdctl("stop", "never")).keys() == {"report", "never"}


def test_a_start_that_fails(pidfdctl):
    ran = ctl.pidfdctl(pidfdctl.daemon.socket, "start", "fails", "worker")

    assert ran.returncode == 1
    assert re.fullmatch(
        r"fails: cannot start: code 3 after \d\.\ds; .*\(pidfdctl explain fails\)\n", ran.stderr
    )
    reply = pidfdctl.reply("Start", "start", "fails", code=1)
    assert [one["ok"] for one in reply["outcomes"]] == [False]


def test_a_wait_that_times_out_names_what_is_missing(pidfdctl):
    ran = ctl.pidfdctl(pidfdctl.daemon.socket, "start", "report", "--timeout", "300ms")

    told = re.fullmatch(
        r"pidfdctl: cannot confirm '(report)': waiting for never after 300ms;"
        r" it goes on \(pidfdctl wait --change (\d+)\)\n",
        ran.stderr,
    )
    assert ran.returncode == 5
    assert told, ran.stderr
    error = pidfdctl.error("wait", "--change", told[2], "--timeout", "10ms", code=5)
    assert error["name"] == "WaitTimedOut"
    assert error["parameters"]["change"] == int(told[2])


def test_restart_gives_new_processes(pidfdctl):
    before = {one["name"]: one["pid"] for one in pidfdctl.json("status", "worker")["services"]}
    lines = pidfdctl("restart", "worker", "--rolling", "--settle", "0")
    after = {one["name"]: one["pid"] for one in pidfdctl.json("status", "worker")["services"]}

    assert list(outcomes(lines)) == ["worker@0", "worker@1"]
    assert before.keys() == after.keys()
    assert set(before.values()).isdisjoint(after.values())
    assert pidfdctl.reply("Restart", "restart", "db", "--only", "--settle", "0")["outcomes"]


def test_all_services(pidfdctl):
    lines = pidfdctl("stop", "--all")

    assert len(outcomes(lines)) == 8
    assert {one["phase"] for one in pidfdctl.json("status")["services"]} <= {"stopped", "exited"}


def test_no_wait_and_wait(pidfdctl):
    pidfdctl("stop", "worker", "-q")
    (line,) = pidfdctl("start", "worker", "--no-wait")
    change = re.fullmatch(r"change (\d+) goes on \(pidfdctl wait --change \1\)", line)[1]

    assert outcomes(pidfdctl("wait", "--change", change)).keys() == {"worker@0", "worker@1"}
    assert outcomes(pidfdctl("wait", "web", "worker", "--for", "running")).keys() == {
        "web", "worker@0", "worker@1"
    }  # fmt: skip
    assert pidfdctl.reply("Wait", "wait", "web")["outcomes"][0]["ok"]
    pidfdctl(
        "wait", "--change", "99999", code=1, err="pidfdctl: cannot wait: there is no change 99999"
    )


def test_waiting_for_a_stop(pidfdctl):
    pidfdctl("wait", "migrate", "--for", "stopped")
    ran = ctl.pidfdctl(
        pidfdctl.daemon.socket, "wait", "web", "--for", "stopped", "--timeout", "0.1"
    )

    assert ran.returncode == 5
    assert ran.stderr.startswith("pidfdctl: cannot confirm 'web': ")


def test_reset(pidfdctl):
    pidfdctl("start", "fails", "--no-wait", "-q")
    pidfdctl.daemon.wait_for("service.gave_up", "fails")
    pidfdctl("reset", "fails")

    assert pidfdctl.json("status", "fails")["services"][0]["phase"] == "stopped"
    assert pidfdctl.reply("Reset", "reset", "web")["outcomes"][0]["ok"]


def test_signals_reach_the_main_process(pidfdctl):
    daemon = pidfdctl.daemon
    (outcome,) = pidfdctl.reply("Signal", "signal", "--group", "cont", "worker@1")["outcomes"]
    assert outcome["ok"]
    first = pidfdctl.json("status", "web")["services"][0]["pid"]
    assert outcomes(pidfdctl("signal", "KILL", "web")).keys() == {"web"}
    ended = daemon.wait_for("service.exited", "web")
    assert (ended["pid"], ended["signal"]) == (first, "SIGKILL")

    assert len(outcomes(pidfdctl("kill", "worker"))) == 2
    assert daemon.wait_for("service.exited", "worker@0")["signal"] == "SIGTERM"
    pidfdctl("kill", "-9", "db", "-q")
    assert daemon.wait_for("service.exited", "db")["signal"] == "SIGKILL"


def test_a_signal_to_what_is_down_fails(pidfdctl):
    ran = ctl.pidfdctl(pidfdctl.daemon.socket, "kill", "never")

    assert ran.returncode == 1
    assert ran.stderr.startswith("never: ")


CHECKED = """
[service.hears]
command = "sh -c 'trap : HUP; echo >&3; while :; do sleep 0.1; done'"
ready.fd = 3
reload.signal = "HUP"
health.live = { exec = "true", period = "100ms" }
health.cold = { exec = "sh -c 'echo too cold; exit 4'", period = "100ms", action = "none" }
"""


def test_a_reload_that_is_done(pidfdctl):
    pidfdctl.daemon.start(CHECKED)
    pidfdctl.daemon.wait_for("service.ready", "hears")
    before = pidfdctl.json("status", "hears")["services"][0]["pid"]
    (line,) = pidfdctl("reload", "hears")

    assert re.fullmatch(r"hears: reloaded \(in \d\.\ds\)", line)
    assert pidfdctl.reply("Reload", "reload", "hears")["outcomes"][0]["ok"]
    assert pidfdctl.json("status", "hears")["services"][0]["pid"] == before


def test_checks_are_shown_and_waited_for(pidfdctl):
    pidfdctl.daemon.start(CHECKED)
    pidfdctl.daemon.wait_for("check.unhealthy", "hears")
    checks = [line for line in pidfdctl("status", "hears") if line.startswith("checks ")]

    assert re.search(r" live \(exec\): passes, last \d\d:", checks[0])
    assert re.search(r" cold \(exec\): fails, \d+ failures in a row, .*too cold$", checks[1])
    error = pidfdctl.error("wait", "hears", "--for", "healthy", "--timeout", "50ms", code=5)
    assert error["message"] == "cannot confirm 'hears': running, not ready, unhealthy after 50ms"
    assert any("cold fails" in line for line in pidfdctl("explain", "hears"))


def test_a_reload_is_refused_where_there_is_no_way_to_do_it(pidfdctl):
    error = pidfdctl.error("reload", "web", code=1)

    assert error["name"] == "Refused"
    assert error["parameters"]["reason"] == "no_reload_action"
    assert error["message"].startswith("cannot reload 'web': ")


# -- the configuration ----------------------------------------------------------------------------


def rewrite(daemon, old, new):
    path = daemon.home / "supervisord.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_plan_and_apply(pidfdctl):
    daemon = pidfdctl.daemon
    assert pidfdctl("plan") == ["nothing to do"]
    assert pidfdctl("apply") == ["nothing to do"]

    rewrite(daemon, 'requires = ["db"]', 'stop_timeout = "20s"')
    rewrite(daemon, '[service.db]\ncommand = "sleep 1000"', '[service.db]\ncommand = "sleep 999"')
    rewrite(daemon, "[service.never]", '[service.new]\ncommand = "sleep 1000"\n[service.never]')
    *rows, last = pidfdctl("reread")
    kinds = {tuple(row.split()[:3]) for row in rows if row[0] in "~+-"}
    assert kinds == {("~", "db", "restart"), ("~", "web", "update"), ("+", "new", "add")}
    assert f"{daemon.home}/supervisord.toml:3" in "".join(rows)
    digest = re.fullmatch(
        r"1 to restart, 1 to update live, 1 to add\.  Plan (\w+)\.  Do it: pidfdctl apply", last
    )[1]
    assert pidfdctl.reply("Plan", "plan")["digest"] == digest
    assert "config changed on disk since" in pidfdctl()[-1]

    error = pidfdctl.error("apply", "--expect", "00000000", code=1)
    assert error["parameters"]["reason"] == "plan_changed"
    told = outcomes(pidfdctl("apply", "--expect", digest))
    assert told.keys() == {"db", "web", "new"}
    assert told["web"] == "updated"
    assert pidfdctl("plan") == ["nothing to do"]
    assert "config changed" not in pidfdctl()[-1]

    rewrite(daemon, '[service.new]\ncommand = "sleep 1000"\n', "")
    assert outcomes(pidfdctl("update")) == {"new": "removed"}
    assert pidfdctl.reply("Apply", "apply")["outcomes"] == []


def test_a_broken_file_changes_nothing(pidfdctl):
    rewrite(pidfdctl.daemon, 'command = "true"', 'comand = "true"')
    file = pidfdctl.daemon.home / "supervisord.toml"
    for verb in ("plan", "apply"):
        ran = ctl.pidfdctl(pidfdctl.daemon.socket, verb)
        assert (ran.returncode, ran.stdout) == (6, "")
        assert f"{file}:11:1: error: service 'migrate' has no 'command'" in ran.stderr
        assert "(did you mean 'command'?) [unknown-key]" in ran.stderr
        assert "2 errors, 0 warnings in 1 file" in ran.stderr

    problems = pidfdctl.json("apply", code=6)["error"]["parameters"]["problems"]
    assert {one["code"] for one in problems} == {"missing-key", "unknown-key"}
    assert pidfdctl()[-1].startswith("8 services: 4 running")


def test_apply_may_take_some_services_or_leave_restarts_pending(pidfdctl):
    rewrite(
        pidfdctl.daemon,
        '[service.db]\ncommand = "sleep 1000"',
        '[service.db]\ncommand = "sleep 9"',
    )
    pidfdctl("apply", "--no-restart")

    assert pidfdctl.json("status", "db")["services"][0]["pending"]
    rewrite(pidfdctl.daemon, "metrics_port = 9100", "metrics_port = 9101")
    assert outcomes(pidfdctl("apply", "--only", "web")).keys() == {"web"}


# -- what this version does not have --------------------------------------------------------------


def test_a_later_version_will_reexec(pidfdctl):
    said = "pidfdctl: cannot reexec: not available in this version of the daemon"
    pidfdctl("reexec", code=1, err=said)

    assert pidfdctl.error("reexec", code=1)["name"] == "MethodNotImplemented"


@pytest.mark.parametrize("words", ["logs", "logs web -n 3"])
def test_output_that_nobody_captures_is_not_there_to_be_shown(daemon, words):
    daemon.start('[service.web]\ncommand = "sleep 1000"\nlog.to = ["null"]\n')
    daemon.wait_for("service.ready", "web")
    error = Ctl(daemon).error(*words.split(), code=1)

    assert error["parameters"]["reason"] == "not_captured"


def test_there_may_be_no_files_to_reopen(pidfdctl):
    assert pidfdctl.json("logs", "--reopen")["files"] == 0


@pytest.mark.parametrize("verb", ["freeze", "thaw"])
def test_holding_a_service_needs_a_cgroup(pidfdctl, verb):
    error = pidfdctl.error(verb, "web", code=1)

    assert error["parameters"]["reason"] == "no_cgroup"
    assert error["message"].startswith(f"cannot {verb} 'web': ")


# -- the daemon -----------------------------------------------------------------------------------


def test_shutdown_waits_for_the_end(pidfdctl):
    (line,) = pidfdctl("shutdown")

    assert re.fullmatch(r"the daemon: ended \(after \d+\.\ds\)", line)
    assert pidfdctl.daemon.wait() == 0
    pidfdctl(
        code=7,
        err=f"pidfdctl: cannot reach the daemon at {pidfdctl.daemon.socket}: no such file\n"
        "          is it running?  (another socket: pidfdctl -s PATH, or PIDFDCTL_SOCKET)",
    )


def test_shutdown_without_waiting(pidfdctl):
    assert pidfdctl("quit", "--no-wait") == ["the daemon is shutting down"]
    assert pidfdctl.daemon.wait() == 0


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("start wb", "cannot start 'wb': no such service (did you mean 'web'?)"),
        ("stop web zzz", "cannot stop 'zzz': no such service (pidfdctl status lists them)"),
        ("restart z*", "cannot restart 'z*': no such service (pidfdctl status lists them)"),
        ("status @nope", "cannot show '@nope': no such service (pidfdctl status lists them)"),
        ("explain worker", "cannot explain 'worker': no such service (did you mean 'worker@0'?)"),
        ("is-ready nope", "cannot look at 'nope': no such service (pidfdctl status lists them)"),
    ],
)  # fmt: skip
def test_unknown_names_change_nothing(pidfdctl, words, said):
    pidfdctl(*words.split(), code=4, err=f"pidfdctl: {said}")
    assert pidfdctl.error(*words.split(), code=4)["name"] == "NoSuchService"
    assert pidfdctl.daemon.told("service.stopping") == []


def test_whoever_may_not_connect_is_told_who_may(pidfdctl):
    if UID != 0:
        pytest.skip("needs root")
    ran = subprocess.run(
        ["setpriv", "--reuid", "1000", "--clear-groups", ctl.COMMAND, "-s", pidfdctl.daemon.socket,
         "restart", "web"],
        env=ctl.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 8
    assert ran.stderr == (
        "pidfdctl: cannot restart 'web': permission denied (needs root; you are uid 1000)\n"
    )


def test_every_verb_is_exercised_here():
    tests = Path(__file__).read_text(encoding="utf-8")
    missing = [
        verb.name
        for verb in VERBS
        if not any(re.search(rf'"{word}[" ]', tests) for word in (verb.name, *verb.aliases))
    ]

    assert missing == []
