"""Tasks run by their schedules, with the daemon and a file."""

import datetime as dt

import pytest

from tests.system.helpers import command, reaping, sh

pytestmark = pytest.mark.once

TASK = "[service.job]\ntype = 'oneshot'\n"


def status_when(daemon, holds):
    """Return the first status of the task for which this holds, as it is streamed."""
    with daemon.client() as client:
        client.send("Watch", more=True)
        while True:
            reply, _ = client.receive()
            for one in reply.get("services") or ():
                if one["name"] == "job" and holds(one):
                    return one


def test_a_task_runs_every_so_often_and_keeps_the_daemon(daemon, reaper_mode):
    config = f"supervisor.exit_when_idle = true\n{TASK}schedule.every = '200ms'\n{sh('exit 0')}"
    daemon.start(config, *reaping(reaper_mode))
    exited = [daemon.wait_for("service.exited", "job") for _ in range(4)]

    assert [one["run"] for one in exited] == [1, 2, 3, 4]
    assert {one["cause"] for one in exited} == {"success"}
    assert daemon.told("service.spawned", ":checker") == []
    assert daemon.stop() == 0


def test_it_does_not_run_at_once_unless_asked_to(daemon):
    config = f"{TASK}schedule.every = '1h'\n{sh('exit 0')}"
    daemon.start(config)
    daemon.wait_for("daemon.ready")
    assert daemon.look("job")["job"]["phase"] == "stopped"
    daemon.close()
    daemon.start(config + "autostart = true\n")

    daemon.wait_for("service.exited", "job")
    assert status_when(daemon, lambda one: one["phase"] == "exited")["next_start_at"] is not None


@pytest.mark.slow
def test_a_run_that_is_too_long_is_ended_by_the_next(daemon):
    schedule = "schedule = {every = '1s', overlap = 'restart'}\n"
    daemon.start(f"{TASK}{schedule}{command('sleep', '1000')}autostart = true\n")

    assert daemon.wait_for("service.stopping", "job")["by"] == "schedule"
    assert daemon.wait_for("service.exited", "job")["signal"] == "SIGTERM"
    assert daemon.wait_for("service.spawned", "job", run=2)
    assert daemon.stop() == 0


@pytest.mark.slow
def test_the_calendar_is_read_in_its_zone(daemon):
    schedule = "schedule = {calendar = '0 12 1 1 *', timezone = 'Asia/Tokyo'}\n"
    daemon.start(f"{TASK}{schedule}{sh('exit 0')}")
    daemon.wait_for("daemon.ready")
    due = status_when(daemon, lambda one: one["next_start_at"])["next_start_at"]
    now = dt.datetime.now(dt.UTC)
    moment = dt.datetime.fromisoformat(due)

    assert due.endswith("-01-01T03:00:00.000Z")
    assert now < moment < now + dt.timedelta(days=367)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_task_runs_by_the_calendar(daemon):
    daemon.start(f"{TASK}schedule.calendar = '* * * * *'\n{sh('exit 0')}")
    daemon.wait_for("daemon.ready")
    due = status_when(daemon, lambda one: one["next_start_at"])["next_start_at"]
    spawned = daemon.wait_for("service.spawned", "job", timeout=70)
    again = status_when(daemon, lambda one: one["next_start_at"] not in {None, due})
    late = dt.datetime.fromisoformat(spawned["ts"]) - dt.datetime.fromisoformat(due)

    assert dt.timedelta(0) <= late < dt.timedelta(seconds=5)
    assert again["next_start_at"][:17] == minute_after(due)


def minute_after(due):
    following = dt.datetime.fromisoformat(due) + dt.timedelta(minutes=1)
    return following.strftime("%Y-%m-%dT%H:%M:")


def test_another_file_changes_the_schedule_without_a_run(daemon):
    daemon.start(f"{TASK}schedule.every = '1h'\n{sh('exit 0')}")
    daemon.wait_for("daemon.ready")
    daemon.reload(f"{TASK}schedule.every = '100ms'\n{sh('exit 0')}")
    daemon.wait_for("service.exited", "job")
    daemon.reload(f"{TASK}{sh('exit 0')}autostart = false\n")

    due = status_when(daemon, lambda one: one["next_start_at"] is None)
    assert due["phase"] in {"exited", "starting", "running", "stopped"}
    assert daemon.stop() == 0
