"""SIGHUP goes over to the file as it is now, and to nothing if it is broken."""

import signal

import pytest

from tests.system.helpers import alive, descriptors, kill, reaping, sh

A = '[service.a]\ncommand = "sleep 1000"\n'
B = '[service.b]\ncommand = "sleep 1000"\n'


def counts(event):
    return {key: event[key] for key in ("added", "removed", "restarted", "updated")}


NOTHING = {"added": 0, "removed": 0, "restarted": 0, "updated": 0}


def test_only_what_changed_is_restarted(daemon, reaper_mode):
    daemon.start(A + B, *reaping(reaper_mode))
    a = daemon.wait_for("service.ready", service="a")
    b = daemon.wait_for("service.ready", service="b")

    applied = daemon.reload(A + B.replace("1000", "2000"))

    assert counts(applied) == NOTHING | {"restarted": 1}
    assert (applied["by"], applied["generation"]) == ("signal", 2)
    ended = daemon.wait_for("service.exited", service="b")
    assert (ended["cause"], ended["wanted"]) == ("config", "up")
    again = daemon.wait_for("service.ready", service="b", run=2)
    assert again["pid"] != b["pid"]
    seen = daemon.look("a", "b")
    assert (seen["a"]["pid"], seen["a"]["run"]) == (a["pid"], 1)
    assert seen["b"]["phase"] == "running"
    assert daemon.stop() == 0


def test_a_live_key_takes_effect_without_a_restart(daemon):
    daemon.start(A)
    a = daemon.wait_for("service.ready", service="a")
    applied = daemon.reload(A + 'stop_signal = "INT"\nrestart = "no"\ndescription = "new"\n')
    assert counts(applied) == NOTHING | {"updated": 1}
    assert daemon.look("a")["a"]["pid"] == a["pid"]

    kill(a["pid"])

    assert daemon.wait_for("service.gave_up", service="a")["reason"] == "policy"
    assert daemon.reload(A)["updated"] == 1  # nothing but what the file says: it stays failed
    assert daemon.look("a")["a"]["phase"] == "failed"


def test_a_live_stop_signal(daemon):
    daemon.start(A)
    daemon.wait_for("service.ready", service="a")
    daemon.reload(A + 'stop_signal = "INT"\n')
    assert daemon.stop() == 0
    assert daemon.told("service.exited", service="a")[0]["signal"] == "SIGINT"


def test_the_same_file_changes_nothing(daemon):
    daemon.start(A)
    daemon.wait_for("service.ready", service="a")
    first = daemon.wait_for("config.applied", by="start")
    again = daemon.reload(A + "# a remark\n")
    assert counts(again) == NOTHING
    assert again["digest"] == first["digest"]


def test_a_service_whose_lines_moved_is_not_changed(daemon):
    daemon.start(A)
    a = daemon.wait_for("service.ready", service="a")

    assert counts(daemon.reload("# a remark\n\n" + A)) == NOTHING
    assert daemon.look("a")["a"]["pid"] == a["pid"]


def test_services_come_and_go(daemon, reaper_mode):
    daemon.start(A, *reaping(reaper_mode))
    daemon.wait_for("service.ready", service="a")

    assert counts(daemon.reload(A + B)) == NOTHING | {"added": 1}
    b = daemon.wait_for("service.ready", service="b")["pid"]

    assert counts(daemon.reload(A)) == NOTHING | {"removed": 1}
    assert daemon.wait_for("service.exited", service="b")["cause"] == "config"
    assert daemon.wait_for("service.stopped", service="b")["by"] == "config"
    assert not alive(b)
    assert daemon.look("a")["a"]["run"] == 1
    assert not daemon.told("service.dumped", service="b")

    assert counts(daemon.reload(A + B)) == NOTHING | {"added": 1}  # it may come back
    assert daemon.wait_for("service.ready", service="b")["run"] == 1
    assert daemon.stop() == 0


def test_one_that_is_leaving_may_be_taken_back(daemon, board):
    stubborn = f"""[service.a]
{sh(f"trap '' TERM; echo ready $$ > {board}; while :; do sleep 0.1; done")}stop_timeout = "1s"
"""
    daemon.start(stubborn + B)
    first = board.pid()
    daemon.reload(B)
    daemon.wait_for("service.stopping", service="a")
    assert daemon.reload(stubborn + B)["added"] == 1
    assert board.pid() != first
    assert not alive(first)
    seen = daemon.look("b", "a")
    assert (seen["a"]["phase"], seen["a"]["wanted"]) == ("running", "up")


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ("[service.a\n", ":1:"),
        (A + "comand = 1\n", ":3:1: unknown key 'comand'"),
        (A + "stop_timeout = 'soon'\n", ":3:16: "),
        (A + "environment = 3\n", ":3:15: "),
        ("", ""),
    ],
    ids=["syntax", "unknown key", "bad value", "wrong type", "removed"],
)
def test_a_broken_file_changes_nothing(daemon, broken, place):
    daemon.start(A)
    pid = daemon.wait_for("service.ready", service="a")["pid"]
    if broken:
        rejected = daemon.reload(broken)
    else:
        (daemon.home / "supervisord.toml").unlink()
        rejected = daemon.reload()
    assert rejected["event"] == "config.rejected"
    assert rejected["errors"] >= 1
    assert rejected["first"].startswith(f"{daemon.home}/supervisord.toml{place}")
    assert daemon.look("a")["a"]["pid"] == pid

    assert daemon.reload(A + B)["added"] == 1  # and it can be mended
    assert daemon.look("a", "b")["a"]["pid"] == pid
    assert daemon.stop() == 0


def test_a_flood_of_signals_is_coalesced(daemon):
    daemon.start(A)
    pid = daemon.wait_for("service.ready", service="a")["pid"]
    daemon.wait_for("daemon.ready")
    for _ in range(500):
        daemon.signal(signal.SIGHUP)
    daemon.write_config(A + B)
    daemon.signal(signal.SIGHUP)
    # The last signal counts, however many were thrown together.
    daemon.wait_for("service.ready", service="b")
    assert daemon.look("a", "b")["a"]["pid"] == pid
    assert len(daemon.told("config.applied", by="signal")) < 50
    assert daemon.stop() == 0


def test_a_restart_key_starts_what_is_in_backoff_at_once(daemon):
    looping = f"[service.a]\n{sh('exit 1')}backoff.delay = '60s'\nbackoff.max_delay = '60s'\n"
    daemon.start(looping)
    daemon.wait_for("service.restart_scheduled", service="a", attempt=2)
    assert daemon.reload(looping.replace("exit 1", "exec sleep 1000"))["restarted"] == 1
    daemon.wait_for("service.ready", service="a", run=3)
    assert daemon.look("a")["a"]["phase"] == "running"
    assert daemon.stop() == 0


def test_a_restart_key_restarts_what_is_starting(daemon, reaper_mode):
    slow = '[service.a]\ncommand = "sleep 1000"\nready.delay = "60s"\n'
    daemon.start(slow, *reaping(reaper_mode))
    first = daemon.wait_for("service.spawned", service="a")["pid"]
    daemon.wait_for("daemon.ready")
    daemon.reload(slow.replace("1000", "2000"))
    assert daemon.wait_for("service.exited", service="a")["cause"] == "config"
    assert daemon.wait_for("service.spawned", service="a", run=2)["pid"] != first
    assert not alive(first)
    assert daemon.look("a")["a"]["phase"] == "starting"


def test_while_stopping_the_newest_file_wins(daemon, board):
    def config(number):
        return (
            "[service.a]\n"
            + sh(f"trap '' TERM; echo {number} $$ > {board}; while :; do sleep 0.1; done")
            + 'stop_timeout = "1s"\n'
        )

    daemon.start(config(1))
    first = board.pid()
    daemon.reload(config(2))
    daemon.wait_for("service.stopping", service="a")
    daemon.reload(config(3))
    word, pid = board.line().split()
    assert word == "3"
    assert int(pid) == daemon.wait_for("service.ready", service="a", run=2)["pid"]
    assert not alive(first)
    assert daemon.look("a")["a"]["run"] == 2
    assert daemon.stop() == 0


def test_what_was_changed_back_while_stopping_still_comes_up(daemon, board):
    def config(number):
        return (
            "[service.a]\n"
            + sh(f"trap '' TERM; echo {number} $$ > {board}; while :; do sleep 0.1; done")
            + 'stop_timeout = "3s"\n'
        )

    daemon.start(config(1))
    board.line()
    daemon.reload(config(2))
    daemon.wait_for("service.stopping", service="a")
    daemon.reload(config(1))
    assert board.line().startswith("1 ")
    assert daemon.look("a")["a"]["wanted"] == "up"


def test_instances_are_scaled(daemon, reaper_mode):
    def config(count):
        return f'[service.w]\ninstances = {count}\ncommand = "sleep 1000"\n'

    daemon.start(config(3), *reaping(reaper_mode))
    pids = {n: daemon.wait_for("service.ready", service=f"w@{n}")["pid"] for n in range(3)}

    assert counts(daemon.reload(config(5))) == NOTHING | {"added": 2}
    for n in (3, 4):
        daemon.wait_for("service.ready", service=f"w@{n}")
    seen = daemon.look(*(f"w@{n}" for n in range(5)))
    assert {n: seen[f"w@{n}"]["pid"] for n in range(3)} == pids

    assert counts(daemon.reload(config(1))) == NOTHING | {"removed": 4}
    for n in range(1, 5):
        daemon.wait_for("service.stopped", service=f"w@{n}")
    assert daemon.look("w@0")["w@0"]["pid"] == pids[0]
    assert daemon.stop() == 0


def test_a_faulty_service_is_mended_by_apply(daemon):
    missing = daemon.home / "app.env"
    config = A + f"environment_file = ['{missing}']\nstart_limit.burst = 1\nbackoff.delay = 0\n"
    daemon.start(config + B)
    failed = daemon.wait_for("service.spawn_failed", service="a")
    assert (failed["stage"], failed["error"]) == ("environment", "ENOENT")
    daemon.wait_for("service.gave_up", service="a")

    missing.write_text("X=1\n")
    assert daemon.reload()["restarted"] == 1

    daemon.wait_for("service.ready", service="a")
    seen = daemon.look("a", "b")
    assert (seen["a"]["phase"], seen["b"]["run"]) == ("running", 1)
    assert daemon.stop() == 0


def test_a_missing_user_is_mended_by_apply(daemon):
    config = A + "user = 'no-such-user'\nstart_limit.burst = 1\nbackoff.delay = 0\n"
    daemon.start(config)
    assert daemon.wait_for("service.spawn_failed", service="a")["stage"] == "resolve"
    daemon.wait_for("service.gave_up", service="a")
    daemon.reload(A)
    daemon.wait_for("service.ready", service="a")


def test_an_env_file_that_changed_restarts(daemon):
    env_file = daemon.home / "app.env"
    env_file.write_text("X=1\n")
    daemon.start(A + f"environment_file = ['{env_file}']\n" + B)
    daemon.wait_for("service.ready", service="a")
    env_file.write_text("X=2\n")
    assert counts(daemon.reload()) == NOTHING | {"restarted": 1}
    daemon.wait_for("service.ready", service="a", run=2)


def test_what_nobody_wanted_up_stays_down(daemon):
    down = A + "autostart = false\n"
    daemon.start(down + B)
    daemon.wait_for("daemon.ready")
    daemon.reload(down.replace("1000", "2000") + B)
    assert daemon.look("a", "b")["a"]["phase"] == "stopped"


@pytest.mark.once
@pytest.mark.slow
def test_a_hundred_reloads_leak_nothing(daemon, reaper_mode):
    daemon.start(A + B, *reaping(reaper_mode))
    daemon.wait_for("daemon.ready")
    pid = daemon.wait_for("service.ready", service="a")["pid"]
    for number in range(2):  # what is opened once is open now
        daemon.reload(A + B.replace("1000", f"100{number}"))
    daemon.wait_for("service.ready", service="b", run=2)
    daemon.look("a", "b")
    before = descriptors(daemon.pid)
    children = len(daemon.running())

    for number in range(100):
        if number % 10 == 5:
            daemon.reload("broken =")
        else:
            daemon.reload(A + B.replace("1000", f"{number}999"))
    run = 1 + 1 + 90 + 1
    daemon.wait_for("service.ready", service="b", run=run - 1)
    daemon.look("a", "b")

    after = descriptors(daemon.pid)
    assert len(after) == len(before), (before, after)
    assert len(daemon.running()) == children
    assert daemon.look("a", "b")["a"]["pid"] == pid
    assert not daemon.told("loop.callback_crashed")
    assert daemon.stop() == 0


def test_the_config_child_is_gone_after_a_reload(daemon):
    daemon.start(A)
    daemon.wait_for("daemon.ready")
    daemon.reload()
    daemon.look("a")
    assert len(daemon.running()) == 2  # the service, the logger
