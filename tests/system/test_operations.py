"""What operators do to services over the socket, and what they are told about it."""

import os
import signal

import pytest

from tests.support.varlink import Varlink, VarlinkError
from tests.system.helpers import alive, kill, python, reaping, sh

BY = f"operator:{os.geteuid()}"
UID = f"uid {os.geteuid()}"
SLEEPER = 'command = "sleep 1000"\n'
STUBBORN = python("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1000)")
NEVER = f'{SLEEPER}ready.exec = "false"\nstart_timeout = "1h"\n'


@pytest.fixture
def client(daemon):
    """Start the daemon, and give a client of it."""
    made = []

    def start(config, *args):
        daemon.start(config, *args)
        daemon.wait_for("daemon.ready")
        made.append(daemon.client())
        return made[-1]

    yield start
    for one in made:
        one.close()


def said(reply):
    return {one["service"]: (one["ok"], one["message"]) for one in reply["outcomes"]}


def phase(client: Varlink, name: str) -> str:
    (service,) = client.call("Status", names=[name])["services"]
    return service["phase"]


def refused(client: Varlink, method: str, **parameters):
    with pytest.raises(VarlinkError) as error:
        client.call(method, **parameters)
    return error.value.name, error.value.parameters


# -- start, stop, restart -------------------------------------------------------------------------


def test_a_start_while_stopping_is_queued(daemon, client, reaper_mode):
    it = client(f'[service.a]\n{STUBBORN}stop_timeout = "1s"\n', *reaping(reaper_mode))
    old = daemon.wait_for("service.ready", "a")["pid"]
    it.call("Stop", names=["a"], wait=False)
    daemon.wait_for("service.stopping", "a")
    ok, _ = said(it.call("Start", names=["a"], settle_s=0))["a"]

    assert ok
    assert not alive(old)
    assert daemon.wait_for("service.ready", "a", run=2)["pid"] != old
    assert daemon.told("service.exited", "a")[0]["forced"]


def test_a_stop_in_backoff_is_done_at_once(daemon, client):
    it = client('[service.a]\ncommand = "false"\nbackoff.delay = 600\nbackoff.max_delay = 600\n')
    daemon.wait_for("service.restart_scheduled", "a", attempt=2)
    assert phase(it, "a") == "backoff"

    assert said(it.call("Stop", names=["a"]))["a"][0]
    assert phase(it, "a") == "stopped"
    assert it.call("History", name="a")["runs"][0]["next"] == "stopped"


def test_a_stop_supersedes_the_wait_of_a_start(daemon, client):
    it = client(f"[service.a]\n{NEVER}autostart = false\n")
    it.send("Start", names=["a"])
    daemon.wait_for("service.spawned", "a")
    with daemon.client() as other:
        assert said(other.call("Stop", names=["a"]))["a"][0]

    assert said(it.receive()[0]) == {"a": (False, "superseded by change 2")}


def test_two_starts_of_the_same_wait_together(daemon, client):
    ready = daemon.home / "ready"
    it = client(f'[service.a]\n{SLEEPER}ready.exec = "test -e {ready}"\nautostart = false\n')
    with daemon.client() as other:
        for one in (it, other):
            one.send("Start", names=["a"])
        daemon.wait_for("service.spawned", "a")
        ready.touch()

        assert said(it.receive()[0])["a"][0]
        assert said(other.receive()[0])["a"][0]


def test_a_daemon_that_shuts_down_starts_nothing(daemon, client):
    it = client(
        f'[service.a]\n{STUBBORN}stop_timeout = "3s"\n[service.b]\nautostart = false\n{SLEEPER}'
    )
    daemon.wait_for("service.ready", "a")
    it.send("Wait", names=["b"], condition="running")
    with daemon.client() as other:
        daemon.signal(signal.SIGTERM)
        daemon.wait_for("service.stopping", "a")
        for method in ("Start", "Restart"):
            assert refused(other, method, names=["b"])[1]["reason"] == "shutting_down"
        assert refused(other, "Apply")[1]["reason"] == "shutting_down"
        assert refused(other, "Plan")[1]["reason"] == "shutting_down"
        assert refused(other, "Reload", names=["b"])[1]["reason"] == "shutting_down"
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_a_service_that_dies_soon_after_its_start_has_not_started(daemon, client):
    it = client("[service.a]\n" + sh("sleep 0.3; exit 4") + 'autostart = false\nrestart = "no"\n')

    ok, message = said(it.call("Start", names=["a"]))["a"]
    assert not ok
    assert message.startswith("cannot start: code 4 after 0.")
    assert message.endswith("; it stays failed (pidfdctl explain a)")
    assert said(it.call("Start", names=["a"], settle_s=0))["a"][0]


def test_a_wait_that_takes_too_long_names_its_change_which_goes_on(daemon, client):
    ready = daemon.home / "ready"
    it = client(f'[service.a]\n{SLEEPER}ready.exec = "test -e {ready}"\nautostart = false\n')

    name, parameters = refused(it, "Start", names=["a"], timeout_s=0.2)
    assert name == "WaitTimedOut"
    assert parameters["outcomes"][0]["phase"] == "starting"
    it.send("Wait", change=parameters["change"])
    ready.touch()
    assert said(it.receive()[0])["a"][0]


def test_a_client_that_leaves_does_not_end_its_change(daemon, client):
    it = client(f"[service.a]\n{SLEEPER}")
    old = daemon.wait_for("service.ready", "a")["pid"]
    with daemon.client() as other:
        other.send("Restart", names=["a"])
    assert daemon.wait_for("service.ready", "a", run=2)["pid"] != old

    assert said(it.call("Wait", change=1))["a"][0]


def test_one_unknown_name_is_enough_to_do_nothing(daemon, client):
    it = client(f"[service.web]\n{SLEEPER}")
    pid = daemon.wait_for("service.ready", "web")["pid"]

    assert refused(it, "Stop", names=["web", "wbe"]) == (
        "NoSuchService",
        {"name": "wbe", "suggestion": "web"},
    )
    assert alive(pid)


def test_a_failed_service_is_reset_and_nothing_is_started(daemon, client):
    it = client('[service.a]\ncommand = "false"\nrestart = "no"\n')
    daemon.wait_for("service.gave_up", "a")

    assert said(it.call("Reset", names=["a"]))["a"] == (True, "reset")
    assert phase(it, "a") == "stopped"
    assert len(it.call("History", name="a")["runs"]) == 1


# -- rolling --------------------------------------------------------------------------------------


def test_a_rolling_restart_has_each_ready_before_the_next(daemon, client):
    it = client(f'[service.w]\n{SLEEPER}instances = 3\nready.delay = "100ms"\n')
    for number in range(3):
        daemon.wait_for("service.ready", f"w@{number}")
    outcomes = said(it.call("Restart", names=["w"], rolling=True))
    daemon.wait_for("service.ready", "w@2", run=2)

    assert [ok for ok, _ in outcomes.values()] == [True] * 3
    steps = [
        (event["event"], event["service"])
        for event in daemon.events
        if (event["event"], event.get("run")) in {("service.stopping", 1), ("service.ready", 2)}
    ]
    assert steps == [
        (event, f"w@{number}")
        for number in range(3)
        for event in ("service.stopping", "service.ready")
    ]


def test_a_rolling_restart_ends_at_the_first_failure(daemon, client):
    mark = daemon.home / "bad"
    script = f'test "$SUPERVISORD_INSTANCE" = 1 -a -e {mark} && exit 3; exec sleep 1000'
    it = client(
        "[service.w]\n" + sh(script) + 'instances = 3\nready.delay = "200ms"\nrestart = "no"\n'
    )
    pids = [daemon.wait_for("service.ready", f"w@{number}")["pid"] for number in range(3)]
    mark.touch()
    outcomes = said(it.call("Restart", names=["w"], rolling=True))

    assert [ok for ok, _ in outcomes.values()] == [True, False, False]
    assert outcomes["w@2"][1] == "not restarted: w@1 failed"
    assert [alive(pid) for pid in pids] == [False, False, True]


# -- signals --------------------------------------------------------------------------------------


def test_a_signal_reaches_the_main_process_and_is_told(daemon, client, board):
    program = f"trap 'echo got >{board}' USR1; echo up >{board}; while :; do sleep 0.05; done"
    it = client("[service.a]\n" + sh(program))
    assert board.line() == "up"

    assert said(it.call("Signal", names=["a"], signal="USR1"))["a"] == (True, "SIGUSR1 sent")
    assert board.line() == "got"
    told = daemon.wait_for("service.signaled", "a")
    assert (told["signal"], told["by"]) == ("SIGUSR1", BY)
    assert phase(it, "a") == "running"


def test_a_signal_may_go_to_the_whole_group(daemon, client, board):
    loop = "trap 'echo {0} got >{1}' USR1; echo {0} up >{1}; while :; do sleep 0.05; done"
    child, main = loop.format("child", board), loop.format("main", board)
    it = client("[service.a]\n" + sh(f"({child}) & {main}"))
    assert {board.line(), board.line()} == {"child up", "main up"}

    assert said(it.call("Signal", names=["a"], signal="USR1"))["a"][0]
    assert board.line() == "main got"
    assert said(it.call("Signal", names=["a"], signal="USR1", group=True))["a"][0]
    assert {board.line(), board.line()} == {"child got", "main got"}


def test_no_process_gets_no_signal_and_a_wrong_one_goes_to_nobody(daemon, client):
    it = client(f"[service.a]\n{SLEEPER}autostart = false\n")

    assert said(it.call("Signal", names=["a"], signal="TERM")) == {
        "a": (False, "stopped: there is no process")
    }
    assert refused(it, "Signal", names=["a"], signal="TREM")[1] == {"parameter": "signal"}


TALKER = """
import os, signal, socket, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.sendto(text.encode(), os.environ["NOTIFY_SOCKET"].replace("@", chr(0)))
def hup(*_):
    say(f"RELOADING=1\\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    with open(sys.argv[1]) as file:
        text = file.read()
    if "ready" in text:
        say("READY=1")
signal.signal(signal.SIGHUP, hup)
say("READY=1")
while True:
    signal.pause()
"""


def test_a_reload_by_signal_is_done_when_it_is_sent(daemon, client, board):
    program = f"trap 'echo hup >{board}' HUP; echo up >{board}; while :; do sleep 0.05; done"
    it = client("[service.a]\n" + sh(program) + 'reload.signal = "HUP"\n')
    assert board.line() == "up"
    (before,) = it.call("Status", names=["a"])["services"]

    assert said(it.call("Reload", names=["a"]))["a"] == (True, "reloaded (in 0.0s)")
    assert board.line() == "hup"
    (after,) = it.call("Status", names=["a"])["services"]
    assert (after["pid"], after["run"]) == (before["pid"], 1)
    assert daemon.wait_for("service.reloading", "a")["by"] == BY
    daemon.wait_for("service.reloaded", "a")


def test_a_reload_by_command_is_done_when_it_ends(daemon, client):
    mark = daemon.home / "good"
    script = f'test -e {mark} && kill -0 "$MAINPID"'
    it = client(f'[service.a]\n{SLEEPER}reload.command = ["/bin/sh", "-c", \'{script}\']\n')
    daemon.wait_for("service.ready", "a")
    ok, message = said(it.call("Reload", names=["a"]))["a"]
    assert not ok
    assert message.startswith("cannot reload: ")
    assert message.endswith("; the old process stays")
    mark.touch()

    assert said(it.call("Reload", names=["a"]))["a"][0]
    assert len(it.call("History", name="a")["runs"]) == 1


def test_a_notify_service_reloads_until_it_says_so_and_not_for_ever(daemon, client):
    words = daemon.home / "words"
    words.write_text("ready")
    it = client(
        "[service.a]\n"
        + python(TALKER, words)
        + 'type = "notify"\nreload.signal = "HUP"\nreload.timeout = "500ms"\n'
    )
    daemon.wait_for("service.ready", "a")
    ok, message = said(it.call("Reload", names=["a"]))["a"]
    assert (ok, message.startswith("reloaded (in 0.")) == (True, True)
    words.write_text("not yet")

    assert said(it.call("Reload", names=["a"]))["a"] == (
        False,
        "cannot reload: timed out; the old process stays",
    )
    assert phase(it, "a") == "running"


def test_a_check_that_fails_refuses_a_reload(daemon, client, board):
    check = f'echo "$SUPERVISORD_HOOK $MAINPID" >{board}; exit 2'
    it = client(
        f'[service.a]\n{SLEEPER}reload.signal = "TERM"\n'
        f'reload.check = ["/bin/sh", "-c", \'{check}\']\n'
    )
    pid = daemon.wait_for("service.ready", "a")["pid"]
    _, parameters = refused(it, "Reload", names=["a"])

    assert parameters["reason"] == "reload_check_failed"
    assert board.line() == f"reload_check {pid}"
    assert alive(pid)
    assert daemon.wait_for("service.reload_refused", "a")["error"] == "code 2"


def test_a_service_without_a_way_to_reload_is_refused(daemon, client):
    it = client(f"[service.a]\n{SLEEPER}")

    assert refused(it, "Reload", names=["a"])[1]["reason"] == "no_reload_action"


# -- explain and history --------------------------------------------------------------------------

PHASES = f"""
[service.stopped]
autostart = false
{SLEEPER}
[service.waiting]
requires = ["starting"]
{SLEEPER}
[service.starting]
{NEVER}
[service.running]
{SLEEPER}
[service.stopping]
stop_timeout = "1h"
{STUBBORN}
[service.backoff]
command = "false"
backoff.delay = 600
backoff.max_delay = 600
[service.exited]
command = "true"
type = "oneshot"
[service.failed]
command = "false"
restart = "no"
"""

SUMMARIES = {
    "stopped": "stopped is stopped: it was never started",
    "waiting": "waiting is waiting: needs starting (starting)",
    "starting": "starting is starting: waiting for ready.exec; times out in 5",
    "running": "running is running and ready",
    "stopping": f"stopping is stopping, as asked by {UID}; the next signal comes in 5",
    "backoff": "backoff is in backoff; next start in ",
    "exited": "exited has ended cleanly and stays down",
    "failed": "failed has failed and stays down: its restart policy says so",
}


def in_every_phase(daemon, client):
    it = client(PHASES, "--set", "supervisor.shutdown_timeout=2s")
    daemon.wait_for("service.gave_up", "failed")
    daemon.wait_for("service.restart_scheduled", "backoff", attempt=2)
    daemon.wait_for("service.exited", "exited")
    daemon.wait_for("service.spawned", "starting")
    daemon.wait_for("service.ready", "stopping")
    it.call("Wait", names=["running"], condition="running")
    it.call("Stop", names=["stopping"], wait=False)
    assert {name: phase(it, name) for name in SUMMARIES} == {name: name for name in SUMMARIES}
    return it


def test_each_phase_is_explained(daemon, client):
    it = in_every_phase(daemon, client)
    for name, summary in SUMMARIES.items():
        told = it.call("Explain", name=name)
        assert told["summary"].startswith(summary)
        assert told["service"]["name"] == name
        assert told["last_lines"] == []
        assert all(line.startswith("pidfdctl ") for line in told["try"])
    facts = {
        name: {fact["label"]: fact["text"] for fact in it.call("Explain", name=name)["facts"]}
        for name in SUMMARIES
    }

    file = daemon.home / "supervisord.toml"
    for name, key in (
        ("waiting", "requires"),
        ("failed", "restart"),
        ("starting", "start_timeout"),
    ):
        told = it.call("Explain", name=name)["facts"]
        at = next(fact for fact in told if fact["line"] is not None)
        line = file.read_text().splitlines()[at["line"] - 1]
        assert (at["file"], line.partition(" ")[0]) == (str(file), key)
    assert facts["backoff"]["ended"].startswith("code 1 after ")
    assert facts["backoff"]["restarts"].startswith('restart = "on-failure" (default); start_limit')
    assert facts["waiting"]["needs"] == "starting to be ready; it is starting"
    assert facts["starting"]["blocks"] == "waiting (requires starting)"
    assert facts["exited"]["ended"].startswith("code 0 after ")
    assert facts["stopping"]["stop"] == "SIGTERM 1h, then SIGKILL"
    assert facts["starting"]["timeout"] == "start_timeout = 1h"
    assert facts["stopped"]["autostart"] == "autostart = false"


def test_each_phase_has_its_history(daemon, client):
    it = in_every_phase(daemon, client)
    runs = {name: it.call("History", name=name)["runs"] for name in SUMMARIES}

    assert runs["stopped"] == runs["waiting"] == []
    assert {len(runs[name]) for name in ("starting", "running", "stopping", "exited")} == {1}
    assert len(runs["backoff"]) == 2
    assert [runs[name][0]["ended_at"] for name in ("starting", "running", "stopping")] == [
        None
    ] * 3
    assert runs["starting"][0]["ready_at"] is None
    assert runs["running"][0]["ready_at"] is not None
    newest, oldest = runs["backoff"]
    assert (newest["run"], oldest["run"]) == (2, 1)
    assert (newest["exit"]["text"], newest["next"]) == ("code 1", "restart on-failure")
    assert (oldest["delay_s"], newest["delay_s"] >= 600) == (0, True)
    assert runs["exited"][0]["next"] == "exited"
    assert runs["failed"][0]["next"] == "failed"


def test_the_history_says_who_asked_and_what_a_run_used(daemon, client):
    burn = python("sum(range(3000000))\nimport time\ntime.sleep(1000)")
    it = client(f"[service.a]\n{burn}[service.b]\n{SLEEPER}")
    daemon.wait_for("service.ready", "a")
    it.call("Restart", names=["a"], settle_s=0)
    kill(daemon.wait_for("service.ready", "b")["pid"], signal.SIGSEGV)
    daemon.wait_for("service.ready", "b", run=2)
    (_, first), (_, crashed) = (it.call("History", name=name)["runs"] for name in "ab")

    assert (first["exit"]["cause"], first["stopped_by"]) == ("operator", BY)
    assert first["next"] == "restart"
    assert first["user_cpu_s"] is not None
    assert crashed["exit"]["signal"] == "SIGSEGV"
    assert crashed["next"] == "restart on-failure"


def test_the_history_is_bounded_and_the_newest_runs_are_kept(daemon, client):
    config = f"[supervisor]\nhistory_size = 3\n[service.a]\n{SLEEPER}"
    it = client(config)
    for _ in range(5):
        it.call("Restart", names=["a"], settle_s=0)
    assert [one["run"] for one in it.call("History", name="a")["runs"]] == [6, 5, 4]
    assert [one["run"] for one in it.call("History", name="a", last=1)["runs"]] == [6]
    daemon.write_config(config.replace("3", "2", 1))
    it.call("Apply")

    assert [one["run"] for one in it.call("History", name="a")["runs"]] == [6, 5]
