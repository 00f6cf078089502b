"""Services and the daemon as the plain data that clients get."""

from types import SimpleNamespace

import pytest

from supervisord_pidfd.core.exitstatus import Cause, Exited, Signaled, Unknown
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, Wanted
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.spec import ServiceSpec, StartLimitSpec
from supervisord_pidfd.records import HOUR, ConfigRecord, Daemon, Lately, Records, exit_record
from tests.fakes import FakeClock
from tests.support.interface import INTERFACE


class Check:
    """Be one health check."""

    def plain(self):
        return {
            "name": "alive", "kind": "tcp", "ok": None, "failures": 0, "runs": {},
            "last_ts": 0.0, "last_duration_s": None, "error": None,
        }  # fmt: skip


class Fleet:
    """Records about one service."""

    def __init__(self, needs=(), **state):
        self.clock = FakeClock(wall=1_000_000.0)
        self.records = Records(self.clock, Tally(), lambda _service: list(needs))
        daemon = self.records.daemon
        self.records.daemon = daemon._replace(reaper="pidfd")
        self.service = SimpleNamespace(
            name="web",
            spec=ServiceSpec("web", ("x",), group="sites", start_limit=StartLimitSpec(burst=4)),
            state=ServiceState(**state),
            since_wall=self.clock.wall(),
            started_wall=self.clock.wall(),
            due_wall=None,
            checks={},
            status_text=None,
            probe_error="",
            pending=None,
        )

    def record(self, **options):
        found = self.records.service(self.service, **options)
        reply = {"supervisor": self.supervisor(), "services": [found]}
        assert INTERFACE.wrong_in_reply("Status", reply) == []
        return found

    def supervisor(self):
        return self.records.supervisor(stopping=False, counts={"running": 1})


def test_a_service_without_a_process_has_no_moments_of_one():
    fleet = Fleet(phase=Phase.STOPPED)
    record = fleet.record()

    assert (record["phase"], record["wanted"], record["group"]) == ("stopped", "down", "sites")
    moments = ("pid", "started_at", "ready_at", "next_start_at", "last_exit", "totals")
    assert [record[name] for name in moments] == [None] * 6
    assert record["limit"] == 4


def test_moments_of_the_cores_clock_become_utc():
    fleet = Fleet(phase=Phase.RUNNING, wanted=Wanted.UP, pid=41, run=3)
    fleet.service.state = fleet.service.state._replace(ready_at=fleet.clock.now() - 2.5)
    record = fleet.record(totals=True)

    assert record["ready_at"] == "1970-01-12T13:46:37.500Z"
    assert record["started_at"] == "1970-01-12T13:46:40.000Z"
    assert record["totals"]["restarts"] == {}


def test_a_pause_and_a_schedule_say_when_they_end():
    fleet = Fleet(phase=Phase.BACKOFF, wanted=Wanted.UP)
    fleet.service.state = fleet.service.state._replace(next_start_at=fleet.clock.now() + 7)
    assert fleet.record()["next_start_at"] == "1970-01-12T13:46:47.000Z"
    fleet.service.state, fleet.service.due_wall = ServiceState(phase=Phase.EXITED), 1_000_060.0
    assert fleet.record()["next_start_at"] == "1970-01-12T13:47:40.000Z"


def test_only_who_waits_says_what_for():
    needs = [("db", "db (backoff)")]

    assert Fleet(needs, phase=Phase.WAITING, wanted=Wanted.UP).record()["waiting_for"] == ["db"]
    assert Fleet(needs, phase=Phase.STOPPED).record()["waiting_for"] == []


def test_no_limit_of_starts_is_null_and_a_check_has_its_time():
    fleet = Fleet(phase=Phase.STOPPED)
    fleet.service.spec = fleet.service.spec._replace(start_limit=StartLimitSpec(burst=0))
    fleet.service.checks = {"alive": Check()}
    record = fleet.record()

    assert record["limit"] is None
    assert record["checks"][0]["last_at"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("status", "members"),
    [
        (Exited(3), {"exit_code": 3, "signal": None, "core": False}),
        (Signaled(11, core=True), {"exit_code": None, "signal": "SIGSEGV", "core": True}),
        (Unknown(), {"exit_code": None, "signal": None, "core": False}),
        (None, {"exit_code": None, "signal": None, "core": False}),
    ],
)
def test_how_a_run_ended_is_never_guessed(status, members):
    record = exit_record(End(Cause.EXIT_CODE, status))

    assert {key: record[key] for key in members} == members
    assert record["text"]


def test_before_the_first_end_there_is_none():
    assert exit_record(None) is None


def test_restarts_of_the_last_hour_are_forgotten_by_the_minute():
    lately, state = Lately(), ServiceState()
    for minute in range(90):
        state = state._replace(restarts=state.restarts + 2)
        lately.follow(state, minute * 60.0)
        assert lately.restarts(minute * 60.0) == min(minute + 1, 61) * 2

    assert lately.restarts(89 * 60.0 + HOUR / 2) == 62
    assert lately.restarts(89 * 60.0 + 2 * HOUR) == 0


def test_restarts_that_were_set_back_are_no_restarts():
    lately = Lately()
    lately.follow(ServiceState(restarts=5), 0.0)
    lately.follow(ServiceState(restarts=0), 1.0)
    lately.follow(ServiceState(restarts=1), 2.0)

    assert lately.restarts(2.0) == 6


def test_the_same_end_is_of_one_moment():
    lately, end = Lately(), End(Cause.SUCCESS, Exited(0))
    lately.follow(ServiceState(last_exit=end), 5.0)
    lately.follow(ServiceState(last_exit=end), 9.0)
    assert lately.ended_at == 5.0
    lately.follow(ServiceState(last_exit=End(Cause.SUCCESS, Exited(0))), 9.0)
    assert lately.ended_at == 9.0


def test_a_service_that_was_removed_begins_anew():
    fleet = Fleet(restarts=3)
    fleet.records.follow(fleet.service)
    assert fleet.record()["restarts_1h"] == 3
    fleet.records.forget("web")

    assert fleet.record()["restarts_1h"] == 0


def test_the_daemon_describes_itself_and_its_configuration():
    fleet = Fleet()
    fleet.records.daemon = Daemon(
        pid1=True, reaper="sigchld", reaper_reason="pidfd_open: ENOSYS", features=("pidfs",),
        started=0.0,
    )  # fmt: skip
    fleet.records.config = ConfigRecord("/f.toml", ("/f.toml", "/d.toml"), 3, "7f3a91c2", 60.0)
    fleet.records.config.last_error = "broken"
    fleet.record()
    said = fleet.supervisor()

    assert (said["pid1"], said["reaper"], said["phase"]) == (True, "sigchld", "running")
    assert said["started_at"] == "1970-01-01T00:00:00.000Z"
    assert said["config"]["files"] == ["/f.toml", "/d.toml"]
    assert (said["config"]["applied_at"], said["config"]["last_error"]) == (
        "1970-01-01T00:01:00.000Z", "broken",
    )  # fmt: skip
    assert fleet.records.supervisor(stopping=True, counts={})["phase"] == "stopping"
