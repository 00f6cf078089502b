"""Services are started, watched, started again by policy, and given up by their limits."""

import signal
from pathlib import Path

import pytest

from tests.system.helpers import (
    command,
    descriptors,
    environ,
    executed,
    kill,
    python,
    reaping,
    sh,
    status,
)

DEAD_AT_ONCE = sh("exit 3")
LIBRARYS_OWN = 0b11 << 31
"""Signals 32 and 33: posix_spawn(3) of glibc ignores them in the child."""
PATIENT = "backoff.delay = 0\nstart_limit.burst = 1\n"


# -- starting -------------------------------------------------------------------------------------


def test_services_start_in_the_order_of_the_file(daemon, reaper_mode):
    daemon.start(
        '[service.zebra]\ncommand = "sleep 1000"\n'
        '[service.ant]\ncommand = "sleep 1000"\n'
        '[service.bear]\ncommand = "sleep 1000"\nautostart = false\n',
        *reaping(reaper_mode),
    )
    daemon.wait_for("daemon.ready")
    seen = daemon.look("zebra", "ant", "bear")

    spawned = [e["service"] for e in daemon.events if e["event"] == "service.spawned"]
    assert [name for name in spawned if not name.startswith(":")] == ["zebra", "ant"]
    assert (seen["bear"]["phase"], seen["bear"]["wanted"]) == ("stopped", "down")
    assert seen["ant"]["phase"] == "running"
    assert seen["ant"]["ready"]
    assert daemon.stop() == 0
    assert daemon.events[-1]["event"] == "daemon.stopped"
    assert not daemon.running()


def test_a_killed_service_comes_back_at_once(daemon, reaper_mode):
    daemon.start('[service.web]\ncommand = "sleep 1000"\n', *reaping(reaper_mode))
    first = daemon.wait_for("service.ready", service="web")

    kill(first["pid"])

    ended = daemon.wait_for("service.exited", service="web")
    assert (ended["cause"], ended["signal"], ended["exit_code"]) == ("signal", "SIGKILL", None)
    assert daemon.wait_for("service.restart_scheduled", service="web")["delay_s"] == 0
    again = daemon.wait_for("service.ready", service="web")
    assert again["pid"] != first["pid"]
    assert again["run"] == first["run"] + 1
    assert daemon.stop() == 0


def test_a_stopping_group_signal_from_outside_is_told_as_it_was(daemon, reaper_mode):
    daemon.start(
        '[service.a]\ncommand = "sleep 1000"\nrestart = "always"\n'
        '[service.b]\ncommand = "sleep 1000"\n',
        *reaping(reaper_mode),
    )
    a = daemon.wait_for("service.ready", service="a")
    b = daemon.wait_for("service.ready", service="b")

    kill(a["pid"], signal.SIGTERM)
    kill(b["pid"], signal.SIGTERM)

    assert daemon.wait_for("service.exited", service="a")["cause"] == "success"
    assert daemon.wait_for("service.ready", service="a", run=2)
    clean = daemon.wait_for("service.exited", service="b")  # on-failure, and TERM is a clean end
    assert (clean["signal"], clean["phase_to"]) == ("SIGTERM", "exited")


def test_a_crash_loop_backs_off_visibly_and_gives_up(daemon, reaper_mode):
    daemon.start(
        f"[service.loop]\n{DEAD_AT_ONCE}backoff.delay = '20ms'\nbackoff.jitter = 0\n"
        "start_limit.burst = 5\n",
        *reaping(reaper_mode),
    )
    gave_up = daemon.wait_for("service.gave_up", service="loop")

    scheduled = [e for e in daemon.events if e["event"] == "service.restart_scheduled"]
    assert [e["delay_s"] for e in scheduled] == pytest.approx([0, 0.02, 0.04, 0.08, 0.16])
    assert [e["attempt"] for e in scheduled] == [1, 2, 3, 4, 5]
    assert {e["limit"] for e in scheduled} == {5}
    assert (gave_up["cause"], gave_up["reason"], gave_up["attempts"]) == ("exit_code", "limit", 5)
    seen = daemon.look("loop")["loop"]
    assert (seen["phase"], seen["wanted"], seen["restarts"]) == ("failed", "up", 5)
    assert daemon.stop() == 0


def test_oneshots_are_ready_by_ending_cleanly(daemon):
    daemon.start(
        f'[service.fine]\ntype = "oneshot"\n{sh("exit 0")}'
        f'[service.broken]\ntype = "oneshot"\n{DEAD_AT_ONCE}'
    )
    fine = daemon.wait_for("service.exited", service="fine")
    assert (fine["phase_from"], fine["phase_to"]) == ("starting", "exited")
    assert daemon.wait_for("service.gave_up", service="broken")["reason"] == "policy"

    seen = daemon.look("fine", "broken")
    assert seen["fine"]["ready"]
    assert seen["fine"]["wanted"] == "down"
    assert not seen["broken"]["ready"]


def test_start_concurrency_lets_the_others_wait_their_turn(daemon):
    one = command("sleep", "1000") + 'ready.delay = "100ms"\n'
    daemon.start(
        f"supervisor.start_concurrency = 1\n[service.a]\n{one}[service.b]\n{one}[service.c]\n{one}"
    )
    for name in ("b", "c"):
        waiting = daemon.wait_for("service.waiting", service=name)
        assert (waiting["on"], waiting["phase_to"]) == ("start_concurrency", "waiting")
    assert daemon.wait_for("service.ready", service="c")["way"] == "delay"

    steps = [
        (e["event"], e["service"])
        for e in daemon.events
        if e["event"] in {"service.spawned", "service.ready"} and e["service"] in {"a", "b", "c"}
    ]
    assert steps == [(f"service.{e}", name) for name in "abc" for e in ("spawned", "ready")]


def test_a_shutdown_starts_nothing_that_was_waiting(daemon):
    one = command("sleep", "1000") + 'ready.delay = "20s"\n'
    daemon.start(
        f"supervisor.start_concurrency = 1\n[service.again]\n{DEAD_AT_ONCE}"
        f"[service.a]\n{one}[service.b]\n{one}"
    )
    daemon.wait_for("service.waiting", service="again")  # in the file it stands before `a`
    daemon.wait_for("service.waiting", service="b")
    daemon.wait_for("daemon.ready")

    assert daemon.stop() == 0
    assert not daemon.told("service.spawned", service="again", run=2)
    assert not daemon.told("service.spawned", service="b")


def test_a_run_that_lasts_too_long_is_stopped(daemon, reaper_mode):
    daemon.start(
        '[service.long]\ncommand = "sleep 1000"\nruntime_max = "100ms"\nrestart = "no"\n',
        *reaping(reaper_mode),
    )
    assert daemon.wait_for("service.runtime_exceeded", service="long")["limit_s"] == 0.1
    ended = daemon.wait_for("service.exited", service="long")
    assert (ended["cause"], ended["signal"]) == ("timeout", "SIGTERM")
    assert daemon.wait_for("service.gave_up", service="long")["cause"] == "timeout"


def test_a_start_that_takes_too_long_is_stopped_and_tried_again(daemon):
    daemon.start(
        '[service.slow]\ncommand = "sleep 1000"\nready.delay = "20s"\nstart_timeout = "100ms"\n'
        + PATIENT
    )
    assert daemon.wait_for("service.start_timed_out", service="slow")["timeout_s"] == 0.1
    assert daemon.wait_for("service.exited", service="slow")["cause"] == "timeout"
    assert daemon.wait_for("service.restart_scheduled", service="slow")["attempt"] == 1
    assert daemon.wait_for("service.gave_up", service="slow")["reason"] == "limit"


# -- policies -------------------------------------------------------------------------------------

POLICIES = {  # name: restart, script, what follows
    "no-clean": ("no", "exit 0", "exited"),
    "no-bad": ("no", "exit 1", "failed"),
    "always-clean": ("always", "exit 0", "restarted"),
    "unless-stopped-bad": ("unless-stopped", "exit 1", "restarted"),
    "failure-clean": ("on-failure", "exit 0", "exited"),
    "failure-bad": ("on-failure", "exit 1", "restarted"),
    "success-clean": ("on-success", "exit 0", "restarted"),
    "success-bad": ("on-success", "exit 1", "failed"),
    "abnormal-bad": ("on-abnormal", "exit 1", "failed"),
    "abnormal-signal": ("on-abnormal", "kill -KILL $$", "restarted"),
    "watchdog-signal": ("on-watchdog", "kill -KILL $$", "failed"),
}


def test_the_policies_end_to_end(daemon, reaper_mode):
    services = "".join(
        f"[service.{name}]\nrestart = '{restart}'\n{PATIENT}{sh(script)}"
        for name, (restart, script, _) in POLICIES.items()
    )
    daemon.start(services, *reaping(reaper_mode))

    for name, (_, _, follows) in POLICIES.items():
        if follows == "restarted":
            assert daemon.wait_for("service.restart_scheduled", service=name)["attempt"] == 1
        elif follows == "exited":
            daemon.wait_for("service.exited", service=name, phase_to="exited")
        else:
            assert daemon.wait_for("service.gave_up", service=name)["reason"] == "policy"


def test_the_lists_of_codes_and_signals(daemon):
    daemon.start(
        f"[service.clean]\nsuccess_exit_codes = [0, 3]\n{DEAD_AT_ONCE}"
        f'[service.usr1]\nsuccess_signals = ["USR1"]\n{sh("kill -USR1 $$")}'
        f"[service.prevented]\nrestart = 'always'\nrestart_prevent = [3]\n{DEAD_AT_ONCE}"
        f"[service.both]\nrestart_force = [3]\nrestart_prevent = [3]\n{DEAD_AT_ONCE}"
        f"[service.forced]\nrestart = 'no'\nrestart_force = ['KILL']\n{PATIENT}"
        f"{sh('kill -KILL $$')}"
    )
    assert daemon.wait_for("service.exited", service="clean")["phase_to"] == "exited"
    assert daemon.wait_for("service.exited", service="usr1")["cause"] == "success"
    assert daemon.wait_for("service.gave_up", service="prevented")["reason"] == "prevented"
    assert daemon.wait_for("service.gave_up", service="both")["reason"] == "prevented"
    assert daemon.wait_for("service.restart_scheduled", service="forced")["cause"] == "signal"
    assert daemon.wait_for("service.gave_up", service="forced")["reason"] == "limit"


def test_beyond_the_limit_slow_retry_goes_on_slowly(daemon):
    daemon.start(
        f"[service.slow]\n{DEAD_AT_ONCE}backoff.delay = 0\n"
        "start_limit = { burst = 2, interval = '400ms', action = 'slow-retry' }\n"
    )
    delays = [
        daemon.wait_for("service.restart_scheduled", service="slow")["delay_s"] for _ in range(4)
    ]
    assert delays[:2] == [0, 0]
    assert delays[2] == pytest.approx(0.2)
    assert daemon.look("slow")["slow"]["phase"] in {"backoff", "running"}


# -- how the daemon ends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        pytest.param(f"main = true\nrestart = 'no'\n{sh('exit 42')}", 42, id="main-code"),
        pytest.param(f"main = true\nrestart = 'no'\n{sh('exit 0')}", 0, id="main-clean"),
        pytest.param(f"main = true\nrestart = 'no'\n{sh('kill -USR1 $$')}", 138, id="main-signal"),
        pytest.param(f"critical = true\n{PATIENT}{sh('exit 17')}", 17, id="critical"),
        pytest.param(f"critical = true\n{PATIENT}{command('/no/such')}", 127, id="not-found"),
        pytest.param(f"critical = true\n{PATIENT}{command('/dev/null')}", 126, id="no-program"),
        pytest.param(
            f"critical = true\ndirectory = '/no/such'\n{PATIENT}{command('true')}",
            125,
            id="no-directory",
        ),
        pytest.param(
            f"{PATIENT}start_limit.action = 'shutdown'\n{sh('exit 1')}",
            10,
            id="limit-shutdown",
        ),
    ],
)
def test_the_daemon_ends_with_the_code_of_what_ended_it(daemon, lines, code):
    daemon.start(f"[service.other]\ncommand = 'sleep 1000'\n[service.it]\n{lines}")

    stopping = daemon.wait_for("daemon.stopping")

    assert (stopping["by"], stopping["service"]) == ("policy", "it")
    assert daemon.wait() == code
    assert daemon.events[-1]["exit_code"] == code
    assert not daemon.running()


def test_a_critical_service_that_ends_cleanly_ends_nothing(daemon):
    daemon.start(f"[service.it]\ncritical = true\n{sh('exit 0')}")
    daemon.wait_for("service.exited", service="it", phase_to="exited")
    assert daemon.look("it")["it"]["phase"] == "exited"
    assert daemon.stop() == 0


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 5", 10)])
def test_exit_when_idle(daemon, script, code):
    daemon.start(
        "supervisor.exit_when_idle = true\n"
        f"[service.a]\ntype = 'oneshot'\n{sh('exit 0')}"
        f"[service.b]\nrestart = 'no'\n{sh(script)}"
        "[service.never]\nautostart = false\ncommand = 'true'\n"
    )
    assert daemon.wait() == code


def test_without_exit_when_idle_it_stays(daemon):
    daemon.start(f"[service.a]\ntype = 'oneshot'\n{sh('exit 0')}")
    daemon.wait_for("service.exited", service="a")
    assert daemon.look("a")["a"]["phase"] == "exited"
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    "words",
    [[], ["frobnicate"], ["run", "--frob"], ["run", "--"], ["run", "-c"], ["run", "--set", "x"]],
    ids=" ".join,
)
def test_wrong_words_are_a_usage_error(daemon, words):
    done = daemon.run(*words)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not done.stdout


def test_an_invalid_configuration_is_refused_with_6(daemon):
    daemon.start('[service.web]\ncomand = "true"\n')
    assert daemon.wait() == 6
    assert ":2:1: error: unknown key 'comand'" in daemon.stderr
    assert not daemon.events


def test_a_second_daemon_is_refused_with_7(daemon):
    daemon.start('[service.web]\ncommand = "sleep 1000"\n')
    daemon.wait_for("daemon.ready")

    where = f'supervisor.runtime_dir="{daemon.home}/run"'
    second = daemon.run("run", "-c", str(daemon.home / "supervisord.toml"), "--set", where)

    assert second.returncode == 7
    assert "another daemon runs" in second.stderr
    assert daemon.look("web")["web"]["phase"] == "running"
    assert daemon.stop() == 0


# -- what a service is given ----------------------------------------------------------------------


def test_the_environment_of_a_service(daemon):
    (daemon.home / "app.env").write_text(
        "# a comment\nexport FROM_FILE='a b'\nBOTH=file\nGONE=1\n"
    )
    daemon.start(
        "[defaults]\nenvironment = { DEFAULT = 'd', BOTH = 'default' }\n"
        "[service.worker]\ninstances = 2\ncommand = 'sleep 1000'\n"
        "environment_file = ['app.env', '-none.env']\nenvironment = { OWN = '${FROM_FILE}!' }\n"
        "unset_environment = ['GONE', 'TAKEN_*']\n"
        "[service.bare]\ncommand = 'sleep 1000'\ninherit_environment = ['PATH']\n",
        env={
            "INHERITED": "yes",
            "TAKEN_OUT": "x",
            "NOTIFY_SOCKET": "/run/none",
            "LISTEN_FDS": "1",
            "SUPERVISORD_RUN": "77",
        },
    )
    worker = environ(daemon.wait_for("service.ready", service="worker@1")["pid"])
    bare_pid = daemon.wait_for("service.ready", service="bare")["pid"]
    bare = environ(bare_pid)
    kill(bare_pid)  # it does not carry the mark by which it would be found again
    second = daemon.wait_for("service.ready", service="bare", run=2)["pid"]
    assert environ(second)["SUPERVISORD_RUN"] == "2"

    assert worker["INHERITED"] == "yes"
    assert worker["DEFAULT"] == "d"
    assert worker["FROM_FILE"] == "a b"
    assert worker["BOTH"] == "file"  # an env file is stronger than [defaults]
    assert worker["OWN"] == "a b!"
    assert worker["SUPERVISORD_SERVICE"] == "worker@1"
    assert worker["SUPERVISORD_INSTANCE"] == "1"
    assert worker["SUPERVISORD_RUN"] == "1"
    assert not {"GONE", "TAKEN_OUT", "NOTIFY_SOCKET", "LISTEN_FDS"} & set(worker)
    assert set(bare) == {"PATH", "DEFAULT", "BOTH", "SUPERVISORD_SERVICE", "SUPERVISORD_RUN"}
    assert daemon.stop() == 0


def test_a_clean_slate_for_every_service(daemon, reaper_mode):
    (daemon.home / "sub").mkdir()
    (daemon.home / "input").write_text("hello")
    daemon.start(
        "[service.plain]\ncommand = 'sleep 1000'\n"
        "[service.special]\ncommand = 'sleep 1000'\ndirectory = 'sub'\numask = '027'\n"
        "stdin = 'file:input'\nlimits.nofile = '100:200'\nlimits.core = 0\n"
        "scheduling.nice = 5\nscheduling.oom_score_adjust = 500\n"
        "sandbox.no_new_privileges = true\n",
        *reaping(reaper_mode),
    )
    plain = daemon.wait_for("service.ready", service="plain")["pid"]
    special = daemon.wait_for("service.ready", service="special")["pid"]

    for pid in (plain, special):
        said = status(executed(pid))
        for field in ("SigBlk", "SigIgn", "SigCgt"):
            assert int(said[field], 16) & ~LIBRARYS_OWN == 0
        assert int(said["PPid"]) == daemon.pid
        group, session = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[2:4]
        assert int(group) == int(session) == pid
        assert set(descriptors(pid)) == {0, 1, 2}
    assert descriptors(plain)[0] == "/dev/null"
    assert descriptors(special)[0] == str(daemon.home / "input")
    assert status(plain)["Umask"] == "0022"
    assert status(special)["Umask"] == "0027"
    assert Path(f"/proc/{plain}/cwd").readlink() == daemon.home
    assert Path(f"/proc/{special}/cwd").readlink() == daemon.home / "sub"
    limits = Path(f"/proc/{special}/limits").read_text()
    assert "Max open files            100                  200" in limits
    assert Path(f"/proc/{special}/oom_score_adj").read_text().strip() == "500"
    assert status(special)["NoNewPrivs"] == "1"
    nice = Path(f"/proc/{special}/stat").read_text().rsplit(")", 1)[1].split()[16]
    assert nice == "5"


@pytest.mark.root
def test_user_and_group(daemon):
    daemon.start(
        "[service.by-name]\ncommand = 'sleep 1000'\nuser = 'nobody'\n"
        "[service.by-number]\ncommand = 'sleep 1000'\nuser = '54321'\ngroup = '54322'\n"
        "supplementary_groups = ['54323']\nenvironment = { HOME = '/given' }\n"
    )
    nobody = daemon.wait_for("service.ready", service="by-name")["pid"]
    number = daemon.wait_for("service.ready", service="by-number")["pid"]

    assert status(executed(nobody))["Uid"].split() == ["65534"] * 4
    assert status(nobody)["Gid"].split() == ["65534"] * 4
    assert int(status(nobody)["CapEff"], 16) == 0
    said = environ(nobody)
    assert (said["USER"], said["LOGNAME"]) == ("nobody", "nobody")
    assert said["HOME"] == "/nonexistent"
    assert said["SHELL"].endswith("nologin")
    assert status(executed(number))["Uid"].split() == ["54321"] * 4
    assert status(number)["Gid"].split() == ["54322"] * 4
    assert status(number)["Groups"].split() == ["54323"]
    assert environ(number)["HOME"] == "/given"
    assert daemon.stop() == 0
    assert not daemon.running()


def test_a_user_that_needs_root_fails_its_own_start_only(ordinary):
    ordinary.start(
        "[service.other]\ncommand = 'sleep 1000'\n"
        f"[service.it]\ncommand = 'sleep 1000'\nuser = 'root'\n{PATIENT}"
    )
    failed = ordinary.wait_for("service.spawn_failed", service="it")
    assert failed["stage"] == "user"
    assert failed["error"] in {"EPERM", "EINVAL"}
    ordinary.wait_for("service.gave_up", service="it")
    assert ordinary.look("other", "it")["other"]["phase"] == "running"
    assert ordinary.stop() == 0


# -- many -----------------------------------------------------------------------------------------


def test_a_burst_of_deaths_loses_none(daemon, reaper_mode):
    daemon.start(
        "[service.w]\ninstances = 60\ncommand = 'sleep 1000'\nbackoff.delay = 0\n",
        *reaping(reaper_mode),
    )
    names = [f"w@{n}" for n in range(60)]
    pids = [daemon.wait_for("service.ready", service=name)["pid"] for name in names]

    for pid in pids:
        kill(pid)

    for name in names:
        daemon.wait_for("service.exited", service=name, signal="SIGKILL", run=1)
        daemon.wait_for("service.ready", service=name, run=2)
    assert daemon.stop() == 0
    assert not daemon.running()


def test_usage_of_an_ended_run_is_told(daemon, reaper_mode):
    burn = (
        "import time\nend = time.process_time() + .05\nmemory = bytearray(64 << 20)\n"
        "while time.process_time() < end: pass"
    )
    daemon.start(f"[service.it]\nrestart = 'no'\n{python(burn)}", *reaping(reaper_mode))
    ended = daemon.wait_for("service.exited", service="it")
    assert ended["user_cpu_s"] + ended["system_cpu_s"] >= 0.05
    assert ended["max_rss_bytes"] > 64 << 20
    assert ended["lasted_s"] > 0


def test_a_small_program_has_no_memory_of_the_daemons(daemon):
    """Its mark crosses the exec: what is not above the daemon's own is not the program's."""
    daemon.start(
        '[service.a]\ncommand = "true"\nrestart = "always"\nbackoff.delay = 0\n'
        "start_limit.burst = 20\n"
    )
    daemon.wait_for("service.gave_up", "a", timeout=20)

    assert {told["max_rss_bytes"] for told in daemon.told("service.exited", "a")} == {None}
