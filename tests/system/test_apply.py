"""Plan and apply over the socket: as a whole or not at all, whatever goes on meanwhile."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

import supervisord_pidfd
from tests.support.varlink import VarlinkError
from tests.system.helpers import alive, command, descriptors, kill, python, reaping, sh

A = '[service.a]\ncommand = "sleep 1000"\n'
B = '[service.b]\ncommand = "sleep 1000"\n'
PIPES_OF_OLD_RUNS = 8
BY = f"operator:{os.geteuid()}"


@pytest.fixture
def client(daemon):
    """Give the daemon's client once it has been started by the test."""
    made = []

    def start(config, *args):
        daemon.start(config, *args)
        daemon.wait_for("daemon.ready")
        made.append(daemon.client())
        return made[-1]

    yield start
    for one in made:
        one.close()


def phases(client):
    return {one["name"]: one["phase"] for one in client.call("Status")["services"]}


def pids(client):
    return {one["name"]: one["pid"] for one in client.call("Status")["services"]}


def said(reply):
    return {one["service"]: (one["ok"], one["message"]) for one in reply["outcomes"]}


def up(daemon, *names):
    return {name: daemon.wait_for("service.ready", name)["pid"] for name in names}


def refused(client, method="Apply", **parameters):
    with pytest.raises(VarlinkError) as error:
        client.call(method, **parameters)
    return error.value.name, error.value.parameters


# -- plan -----------------------------------------------------------------------------------------


def test_a_plan_says_what_an_apply_would_do_and_does_nothing(daemon, client):
    it = client(A + B)
    before = up(daemon, "a", "b")
    daemon.write_config(A.replace("1000", "2000") + '[service.c]\ncommand = "sleep 1000"\n')
    plan = it.call("Plan")

    actions = {one["service"]: one["action"] for one in plan["items"]}
    assert actions == {"a": "restart", "b": "remove", "c": "add"}
    (changed,) = next(one for one in plan["items"] if one["service"] == "a")["changes"]
    assert changed["key"] == "command"
    assert pids(it) == before
    assert it.call("Plan")["digest"] == plan["digest"]


def test_a_plan_of_another_file_leaves_the_daemons_own_alone(daemon, client):
    it = client(A)
    up(daemon, "a")
    other = daemon.home / "other.toml"
    other.write_text(A + B)
    other.chmod(0o644)

    assert [one["service"] for one in it.call("Plan", file=str(other))["items"]] == ["b"]
    assert it.call("Plan")["items"] == []
    assert phases(it) == {"a": "running"}


def test_a_plan_that_was_not_the_one_seen_is_refused(daemon, client):
    it = client(A)
    up(daemon, "a")
    daemon.write_config(A + B)
    digest = it.call("Plan")["digest"]
    daemon.write_config(A + B.replace("1000", "2000"))

    name, parameters = refused(it, expect=digest)
    assert (name, parameters["reason"]) == ("Refused", "plan_changed")
    assert phases(it) == {"a": "running"}
    again = it.call("Plan")["digest"]
    assert said(it.call("Apply", expect=again))["b"][0]


def test_a_plan_names_keys_values_and_lines(daemon, client):
    it = client(A + 'environment = { PORT = "8080" }\nstop_timeout = "10s"\n')
    up(daemon, "a")
    daemon.write_config(
        "# a remark\n"
        + A
        + 'environment = { PORT = "8081" }\nstop_timeout = "10s"\numask = "027"\n'
    )

    (item,) = it.call("Plan")["items"]
    file = str(daemon.home / "supervisord.toml")
    assert {one["key"]: one for one in item["changes"]} == {
        "environment.PORT": {
            "key": "environment.PORT", "old": '"8080"', "new": '"8081"', "file": file, "line": 4,
        },
        "umask": {"key": "umask", "old": None, "new": '"027"', "file": file, "line": 6},
    }  # fmt: skip


def test_a_moved_line_is_no_plan(daemon, client):
    it = client(A)
    daemon.write_config("\n\n\n" + A)

    assert it.call("Plan")["items"] == []
    assert it.call("Apply")["outcomes"] == []
    assert "supervisord.toml:5" in it.call("Show", name="a", origin=True)["toml"]


def test_a_changed_secret_is_a_change_that_nobody_sees(daemon, client):
    secret = daemon.home / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o600)
    it = client(A + f'secrets = {{ DB_PASSWORD = "file:{secret}" }}\n')
    old = up(daemon, "a")["a"]
    secret.write_text("hunter3")
    plan = it.call("Plan")

    (change,) = plan["items"][0]["changes"]
    assert change["key"] == "secrets.DB_PASSWORD"
    assert "hunter" not in str(plan)
    assert "hunter" not in str(it.call("Show", name="a", origin=True))
    assert said(it.call("Apply"))["a"][0]
    assert not alive(old)


def test_another_installed_version_refuses_plan_and_apply(daemon, client, tmp_path, monkeypatch):
    package = tmp_path / "site" / "supervisord_pidfd"
    source, compiled = (
        Path(supervisord_pidfd.__file__).parent,
        shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(source, package, ignore=compiled)  # somebody else's bytecode may be private
    start = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r}); "
        "from supervisord_pidfd.entry import main; sys.exit(main())"
    )
    monkeypatch.setattr(
        daemon, "command", lambda *words: [sys.executable, "-I", "-c", start, *words]
    )
    it = client(A)
    before = up(daemon, "a")
    assert it.call("Plan")["items"] == []
    init = package / "__init__.py"
    init.write_text(init.read_text().replace(supervisord_pidfd.__version__, "99.0.0"))
    daemon.write_config(A.replace("1000", "2000"))

    for method in ("Plan", "Apply"):
        name, parameters = refused(it, method)
        assert (name, parameters["reason"]) == ("Refused", "version_changed")
        assert parameters["message"] == (
            "the installed version differs from the running one: pidfdctl reexec"
        )
    assert pids(it) == before


# -- apply ----------------------------------------------------------------------------------------


def test_an_apply_answers_when_all_of_it_is_there(daemon, client, reaper_mode):
    it = client(A + B + '[service.old]\ncommand = "sleep 1000"\n', *reaping(reaper_mode))
    before = up(daemon, "a", "b", "old")
    daemon.write_config(
        A.replace("1000", "2000") + B + 'stop_timeout = "3s"\n[service.new]\ncommand = "sleep 9"\n'
    )
    replies = it.stream("Apply")

    outcomes = said(replies[-1])
    assert outcomes["b"] == (True, "updated")
    assert outcomes["old"] == (True, "removed")
    assert outcomes["a"][1].startswith("running (ready in ")
    assert outcomes["new"][0]
    assert len(replies) == len(outcomes) + 1
    assert {one["outcomes"][0]["service"] for one in replies[:-1]} == set(outcomes)
    now = pids(it)
    assert now["b"] == before["b"]
    assert now["a"] != before["a"]
    assert not alive(before["old"])
    applied = daemon.wait_for("config.applied", by=BY)
    assert [applied[key] for key in ("added", "removed", "restarted", "updated")] == [1, 1, 1, 1]
    assert daemon.stop() == 0


def test_what_requires_a_restarted_service_is_restarted_after_it_and_waited_for(daemon, client):
    front = '[service.front]\ncommand = "sleep 1000"\nrequires = ["a"]\n'
    it = client(A + front)
    before = up(daemon, "a", "front")
    daemon.write_config(A.replace("1000", "2000") + front)
    outcomes = said(it.call("Apply"))

    assert {name: ok for name, (ok, _) in outcomes.items()} == {"a": True, "front": True}
    assert set(pids(it).values()).isdisjoint(before.values())
    assert daemon.wait_for("service.exited", "front")["cause"] == "dependency"


def test_a_cycle_changes_nothing(daemon, client):
    it = client(A + B)
    before = up(daemon, "a", "b")
    daemon.write_config(
        A.replace("1000", "2000") + 'requires = ["b"]\n' + B + 'requires = ["a"]\n'
    )

    name, parameters = refused(it)
    assert name == "ConfigInvalid"
    assert {one["code"] for one in parameters["problems"]} == {"cycle"}
    assert pids(it) == before


def test_a_broken_file_changes_nothing_and_says_where(daemon, client):
    it = client(A)
    before = up(daemon, "a")
    daemon.write_config(A.replace("1000", "2000") + "[service.b]\n")

    name, parameters = refused(it)
    assert name == "ConfigInvalid"
    (problem,) = parameters["problems"]
    assert (problem["code"], problem["line"], problem["severity"]) == ("missing-key", 3, "error")
    assert pids(it) == before
    assert daemon.wait_for("config.rejected")["errors"] == 1
    assert it.call("Status")["supervisor"]["config"]["last_error"]
    daemon.write_config(A)
    assert it.call("Apply")["outcomes"] == []
    assert it.call("Status")["supervisor"]["config"]["last_error"] is None


def test_a_failing_check_keeps_the_old_process_of_everybody(daemon, client):
    mark = daemon.home / "good"
    check = f'reload.check = ["/bin/sh", "-c", "test -e {mark} || {{ echo no mark; exit 3; }}"]\n'
    it = client(A + check + B)
    before = up(daemon, "a", "b")
    daemon.write_config(A.replace("1000", "2000") + check + B.replace("1000", "2000"))

    name, parameters = refused(it)
    assert (name, parameters["reason"]) == ("Refused", "reload_check_failed")
    assert parameters["message"] == "a: reload.check: code 3: no mark"
    assert pids(it) == before
    assert daemon.wait_for("service.reload_refused", "a")["error"] == "code 3: no mark"
    assert daemon.wait_for("config.rejected")["first"] == "a: reload.check: code 3: no mark"
    assert refused(it, "Restart", names=["a"])[1]["reason"] == "reload_check_failed"
    assert pids(it) == before
    mark.touch()
    assert {ok for ok, _ in said(it.call("Apply")).values()} == {True}
    assert set(pids(it).values()).isdisjoint(before.values())


def test_a_check_that_hangs_is_killed_and_counts_as_failed(daemon, client):
    it = client(A + 'reload.check = ["sleep", "1000"]\nreload.timeout = "300ms"\n')
    before = up(daemon, "a")

    _, parameters = refused(it, "Restart", names=["a"])
    assert parameters["message"].startswith("a: reload.check: not over after 0.3")
    assert pids(it) == before
    assert [words for words in daemon.running().values() if words[0] == "sleep"] == [
        ["sleep", "1000"]
    ]


def test_a_signal_goes_over_by_the_same_way(daemon, client):
    mark = daemon.home / "good"
    check = f'reload.check = ["test", "-e", "{mark}"]\n'
    it = client(A + check)
    before = up(daemon, "a")

    rejected = daemon.reload(A.replace("1000", "2000") + check)
    assert rejected["event"] == "config.rejected"
    assert pids(it) == before
    mark.touch()
    assert daemon.reload()["by"] == "signal"
    daemon.wait_for("service.ready", "a", run=2)


def test_only_some_services_are_gone_over_to(daemon, client):
    it = client(A + B)
    before = up(daemon, "a", "b")
    daemon.write_config(
        A.replace("1000", "2000")
        + B.replace("1000", "2000")
        + '[service.c]\ncommand = "sleep 9"\n'
    )
    digest = it.call("Plan")["digest"]

    assert refused(it, only=["x"])[0] == "NoSuchService"
    outcomes = said(it.call("Apply", only=["a"], expect=digest))
    assert list(outcomes) == ["a"]
    now = pids(it)
    assert (now["a"] != before["a"], now["b"]) == (True, before["b"])
    assert {one["service"] for one in it.call("Plan")["items"]} == {"b", "c"}
    assert set(said(it.call("Apply"))) == {"b", "c"}
    assert it.call("Plan")["items"] == []


def test_a_restart_can_be_left_pending_and_comes_with_the_next_run(daemon, client):
    it = client(A)
    before = up(daemon, "a")
    daemon.write_config(A.replace("1000", "2000"))

    assert said(it.call("Apply", no_restart=True)) == {
        "a": (True, "updated; the restart is pending")
    }
    (a,) = it.call("Status")["services"]
    assert (a["pid"], a["pending"]) == (before["a"], True)
    assert [one["action"] for one in it.call("Plan")["items"]] == ["restart"]
    assert any(
        "waits for a restart" in one["text"] for one in it.call("Explain", name="a")["facts"]
    )
    assert said(it.call("Restart", names=["a"]))["a"][0]
    (a,) = it.call("Status")["services"]
    assert not a["pending"]
    assert daemon.running()[a["pid"]] == ["sleep", "2000"]
    assert it.call("Plan")["items"] == []


def test_a_pending_restart_that_the_file_takes_back_is_forgotten(daemon, client):
    it = client(A)
    before = up(daemon, "a")
    daemon.write_config(A.replace("1000", "2000"))
    it.call("Apply", no_restart=True)
    daemon.write_config(A)
    it.call("Apply")
    assert pids(it) == before
    kill(before["a"])

    again = daemon.wait_for("service.ready", "a", run=2)["pid"]
    assert daemon.running()[again] == ["sleep", "1000"]


def test_what_the_daemon_reads_once_says_that_it_waits(daemon, client):
    it = client(A)
    up(daemon, "a")
    daemon.write_config("[supervisor]\nstart_concurrency = 3\nsubreaper = false\n" + A)
    plan = it.call("Plan")

    (item,) = plan["items"]
    assert (item["service"], item["action"]) == (":supervisor", "update")
    file = str(daemon.home / "supervisord.toml")
    places = {one["key"]: (one["new"], one["file"], one["line"]) for one in item["changes"]}
    assert places == {
        "supervisor.start_concurrency": ("3", file, 2),
        "supervisor.subreaper": ("false", file, 3),
    }
    (problem,) = plan["problems"]
    assert (problem["severity"], problem["code"]) == ("warning", "needs-restart")
    assert (problem["key"], problem["line"]) == ("supervisor.subreaper", 3)
    assert it.call("Apply")["problems"] == [problem]
    assert daemon.wait_for("config.needs_restart")["key"] == "supervisor.subreaper"


def test_a_service_that_dies_of_its_new_command_fails_the_apply(daemon, client):
    it = client(A + "backoff.delay = 60\n")
    up(daemon, "a")
    daemon.write_config(A.replace("sleep 1000", "false") + "backoff.delay = 60\n")

    ok, message = said(it.call("Apply"))["a"]
    assert not ok
    assert message.startswith("cannot start: code 1")


def test_an_apply_starts_what_is_in_backoff_at_once(daemon, client):
    it = client('[service.a]\ncommand = "false"\nbackoff.delay = 600\nbackoff.max_delay = 600\n')
    daemon.wait_for("service.restart_scheduled", "a", attempt=2)
    daemon.write_config(A)

    assert said(it.call("Apply"))["a"][0]
    assert phases(it) == {"a": "running"}


def test_instances_come_and_go_without_touching_their_siblings(daemon, client, reaper_mode):
    worker = '[service.w]\ncommand = "sleep 1000"\ninstances = {}\n'
    it = client(worker.format(1), *reaping(reaper_mode))
    first = up(daemon, "w@0")["w@0"]
    daemon.write_config(worker.format(4))
    assert set(said(it.call("Apply"))) == {"w@1", "w@2", "w@3"}
    four = pids(it)
    assert four["w@0"] == first
    daemon.write_config(worker.format(2))

    assert said(it.call("Apply")) == {"w@2": (True, "removed"), "w@3": (True, "removed")}
    assert pids(it) == {name: four[name] for name in ("w@0", "w@1")}
    assert not alive(four["w@2"])
    assert not alive(four["w@3"])
    assert daemon.stop() == 0


def test_a_newer_apply_ends_the_wait_of_an_older_one(daemon, client):
    stubborn = python("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1000)")
    config = f'[service.a]\n{stubborn}stop_timeout = "1s"\n'
    it = client(config)
    up(daemon, "a")
    daemon.write_config(config + 'umask = "027"\n')
    it.send("Apply")
    daemon.wait_for("service.stopping", "a")
    daemon.write_config(config + 'umask = "077"\n')
    with daemon.client() as other:
        newer = said(other.call("Apply"))

    (outcome,) = it.receive()[0]["outcomes"]
    assert (outcome["ok"], outcome["message"]) == (False, "superseded by change 2")
    assert newer["a"][0]


def test_applies_at_the_same_time_are_carried_out_one_after_the_other(daemon, client):
    it = client(A)
    up(daemon, "a")
    daemon.write_config(A + B)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(daemon.client()) for _ in range(5)]
        for one in others:
            one.send("Apply", wait=False)
        changes = [one.receive()[0]["change"] for one in others]

    assert sorted(changes) == list(range(1, 6))
    applied = [daemon.wait_for("config.applied", by=BY)["added"] for _ in range(5)]
    assert sorted(applied) == [0, 0, 0, 0, 1]
    assert it.call("Plan")["items"] == []


def test_an_apply_under_way_is_refused_when_the_daemon_shuts_down(daemon, client, board):
    check = f'reload.check = ["/bin/sh", "-c", "echo checking >{board}; sleep 1000"]\n'
    it = client(A + check)
    up(daemon, "a")
    daemon.write_config(A.replace("1000", "2000") + check)
    it.send("Apply")
    assert board.line() == "checking"
    with daemon.client() as other:
        other.send("Plan")
        daemon.wait_for("control.called", method="Apply")
        daemon.signal(signal.SIGTERM)
        for waiting in (it, other):
            with pytest.raises(VarlinkError) as error:
                waiting.receive()
            assert error.value.parameters["reason"] == "shutting_down"
    assert daemon.wait() == 0
    assert daemon.running() == {}


@pytest.mark.once
def test_a_hundred_applies_while_services_crash_lose_nothing(daemon, client):
    crash = (
        "[service.crash]\n"
        + sh("sleep 0.05; exit 1")
        + "backoff.delay = 0\nstart_limit.burst = 0\n"
    )
    it = client(A + B + crash)
    a = up(daemon, "a")["a"]
    before = None
    for number in range(100):
        daemon.write_config(
            A
            + B.replace("1000", str(1000 + number))
            + crash
            + f"[service.n{number}]\n"
            + command("sleep", 1000)
        )
        it.call("Apply", wait=number % 10 == 9)
        if number == 9:
            before = len(descriptors(daemon.pid))
    it.call("Wait", names=["all"], condition="running", timeout_s=20)

    now = pids(it)
    assert set(now) == {"a", "b", "crash", "n99"}
    assert now["a"] == a
    assert daemon.running()[now["b"]] == ["sleep", "1099"]
    daemon.look(*now)
    assert len(daemon.told("config.applied", by=BY)) == 100
    # The pipes of some runs of the one that crashes may be there until the logger has read them.
    assert len(descriptors(daemon.pid)) <= before + 1 + PIPES_OF_OLD_RUNS
    assert daemon.stop() == 0
    assert daemon.running() == {}
