"""The last runs of a service, folded from what its machine told."""

import tracemalloc

import pytest

from supervisord_pidfd.core.events import (
    DeadlinePassed,
    ProcessExited,
    ResetRequested,
    RestartRequested,
    ScopeEmptied,
    SpawnFailed,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause, Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.history import SHARED_MAX, History
from supervisord_pidfd.core.lifecycle import End, phase_told
from supervisord_pidfd.core.notices import (
    DaemonReady,
    HookFailed,
    ServiceExited,
    ServiceReady,
    ServiceRestartScheduled,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    Told,
)
from supervisord_pidfd.core.spec import RestartPolicy, StartLimitSpec
from tests.support.machine import Machine, web

BAD = ProcessExited(Exited(1), Usage(1.0, 0.5, 1 << 20))
USED = Usage(1.0, 0.5, 1 << 20)


class Teller:
    """Hand a machine's notices to a history as the shell does."""

    def __init__(self, spec=None, size=10):
        self.machine = Machine(spec or web())
        self.history = History(size, lambda _name: self.machine.spec.restart.value)

    def post(self, *events):
        for event in events:
            self._tell(lambda event=event: self.machine.post(event))
        return self

    def wait(self, seconds):
        self._tell(lambda: self.machine.wait(seconds))
        return self

    def up(self):
        self.post(StartRequested("config"))
        self._tell(self.machine.executed)
        return self

    def _tell(self, act):
        before = self.machine.state
        act()
        after = self.machine.state
        teller = None
        if before.phase is not after.phase:
            teller = phase_told(tuple(self.machine.notices))
        for notice in self.machine.notices:
            name = type(notice).__name__
            about = before if name in {"ServiceExited", "ServiceSpawnFailed"} else after
            moved = (before.phase.value, after.phase.value) if notice is teller else (None, None)
            told = Told(notice, "web", None, about.run or None, about.pid, *moved)
            self.history.take(self.machine.now, told)

    @property
    def last(self):
        return self.history.runs("web")[-1]


def test_a_run_under_way_has_no_end():
    run = Teller().up().last

    assert (run.run, run.pid, run.ready_at) == (1, 4117, 1000.0)
    assert run.ended_at is run.end is run.next is run.max_rss_bytes is None


def test_another_size_keeps_the_newest_and_the_same_one_changes_nothing():
    teller = Teller(size=2).up()
    before = teller.history.runs("web")
    teller.history.resize(2)
    assert teller.history.runs("web") == before
    teller.history.resize(1)

    assert teller.history.runs("web") == before[-1:]


def test_news_of_a_run_that_nobody_saw_begin_are_passed_over():
    history = History(10, lambda _name: "always")
    history.take(1.0, Told(ServiceSpawned(0.1), "web", None, 4, 4117))

    assert history.runs("web") == ()


def test_a_run_is_ready_since_the_first_time_it_was():
    teller = Teller().up()
    teller.history.take(2000.0, Told(ServiceReady("notify", 1.0), "web", None, 1, 4117))

    assert teller.last.ready_at == 1000.0


def test_a_stop_of_leftovers_does_not_say_who_stopped_the_run():
    left = ProcessExited(Exited(1), Usage(), scope_empty=False)
    run = Teller().up().post(left).last

    assert run.ended_at is not None
    assert run.stopped_by is None


def test_an_end_has_its_status_its_usage_and_what_followed():
    run = Teller().up().wait(3).post(BAD).last

    assert run.end.status == Exited(1)
    assert (run.ended_at, run.lasted_s) == (1003.0, 3.0)
    assert (run.user_cpu_s, run.system_cpu_s, run.max_rss_bytes) == (1.0, 0.5, 1 << 20)
    assert (run.next, run.delay_s) == ("restart on-failure", 0.0)


@pytest.mark.parametrize("status", [Signaled(11, core=True), Unknown("lost")])
def test_other_ends_keep_their_kind(status):
    assert Teller().up().post(ProcessExited(status, USED)).last.end.status == status


def test_a_start_that_failed_has_its_stage():
    teller = Teller().post(StartRequested("config"))
    run = teller.post(SpawnFailed("exec", "/srv/web", "ENOENT")).last

    assert (run.end.stage, run.end.subject, run.end.error) == ("exec", "/srv/web", "ENOENT")
    assert run.ended_at is not None


def test_a_stop_names_who_asked_and_is_followed_by_nothing():
    run = Teller().up().post(StopRequested("operator:7"), BAD).last

    assert run.stopped_by == "operator:7"
    assert (run.next, run.delay_s) == ("stopped", None)


def test_a_stop_in_backoff_takes_the_planned_restart_back():
    assert Teller().up().post(BAD, StopRequested("operator:7")).last.next == "stopped"


def test_a_restart_by_command_is_told_from_one_by_policy():
    first, second = Teller().up().post(RestartRequested("operator:0"), BAD).history.runs("web")

    assert (first.next, first.delay_s, first.stopped_by) == ("restart", 0.0, "operator:0")
    assert second.run == 2


def test_a_clean_end_stays_exited_also_after_a_clean_up():
    clean = ProcessExited(Exited(0), USED)

    assert Teller().up().post(clean).last.next == "exited"
    left = ProcessExited(Exited(0), USED, scope_empty=False)
    assert Teller().up().post(left, ScopeEmptied()).last.next == "exited"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (web(restart=RestartPolicy.NO), "failed"),
        (web(start_limit=StartLimitSpec(burst=1)), "failed (limit)"),
    ],
)
def test_giving_up_is_told_with_its_reason(spec, said):
    teller = Teller(spec).up().post(BAD)
    if teller.machine.state.phase.value == "backoff":
        teller.post(DeadlinePassed())
        teller._tell(teller.machine.executed)
        teller.post(BAD)

    assert teller.last.next == said


def test_a_reset_of_what_failed_does_not_rewrite_its_run():
    teller = Teller(web(restart=RestartPolicy.NO)).up().post(BAD, ResetRequested("operator:0"))

    assert teller.last.next == "failed"


def test_only_the_last_runs_are_kept():
    teller = Teller(size=3).up()
    for _ in range(5):
        teller.post(RestartRequested("operator:0"), BAD)
        teller._tell(teller.machine.executed)

    assert [run.run for run in teller.history.runs("web")] == [4, 5, 6]
    teller.history.resize(2)
    assert [run.run for run in teller.history.runs("web")] == [5, 6]


def as_plain(run):
    return {name: getattr(run, name) for name in run.__slots__}


@pytest.mark.parametrize(
    "end",
    [
        BAD,
        ProcessExited(Exited(0), USED),
        ProcessExited(Signaled(11, core=True), Usage()),
        ProcessExited(Signaled(9), USED),
        ProcessExited(Unknown("lost"), USED),
    ],
)
def test_a_run_that_others_followed_is_told_as_it_was(end):
    teller = Teller(web(restart=RestartPolicy.ALWAYS)).up().wait(3).post(end)
    before = as_plain(teller.last)
    teller.post(DeadlinePassed())

    assert as_plain(teller.history.runs("web")[0]) == before
    assert len(teller.history.runs("web")) == 2


def test_a_start_that_failed_is_told_as_it_was_after_the_next():
    failed = SpawnFailed("exec", "/srv/web", "ENOENT")
    teller = Teller().post(StartRequested("config")).post(failed)
    before = as_plain(teller.last)
    teller.post(DeadlinePassed())

    assert as_plain(teller.history.runs("web")[0]) == before
    assert len(teller.history.runs("web")) == 2


def test_a_run_whose_end_nobody_told_keeps_what_is_known_of_it():
    history = History(10, str)
    for run in (1, 2):
        history.take(float(run), Told(ServiceStarting(run), "web", None, run, None))
    first, second = history.runs("web")

    assert (first.run, first.end, first.pid, first.next) == (1, None, None, "restart")
    assert second.next is None


def test_the_run_under_way_is_known_even_where_none_are_to_be_kept():
    teller = Teller(size=0).up().post(RestartRequested("operator:0"), BAD)

    assert [run.run for run in teller.history.runs("web")] == [2]
    teller.history.resize(1)
    assert [run.run for run in teller.history.runs("web")] == [2]


def crash(history, service, run):
    """Tell one whole run as a crashing service has it."""
    about = (service, None, run, 4000 + run)
    history.take(run + 0.1, Told(ServiceStarting(1), *about))
    history.take(run + 0.2, Told(ServiceSpawned(0.1), *about))
    history.take(run + 0.3, Told(ServiceReady("executed", 0.1), *about))
    exited = ServiceExited("exit_code", 1, None, False, False, "up", 0.5, 1 << 20, 0.1, 0.2)
    history.take(run + 0.8, Told(exited, *about))
    history.take(run + 0.8, Told(ServiceRestartScheduled("exit_code", 1, 10, 0.1), *about))


def test_full_rings_of_a_hundred_services_take_less_than_a_megabyte():
    history = History(100, lambda _name: "on-failure")
    tracemalloc.start()
    for service in range(100):
        for run in range(130):
            crash(history, f"s{service}", run)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 1e6
    assert [run.run for run in history.runs("s7")] == list(range(30, 130))


def test_what_runs_share_is_bounded_however_many_errors_there_were():
    history = History(3, str)
    for run in range(3000):
        failed = ServiceSpawnFailed("exec", f"/srv/{run}", "ENOENT")
        history.take(1.0, Told(ServiceStarting(1), "web", None, run, None))
        history.take(1.0, Told(failed, "web", None, run, None))

    assert len(history._shared) <= SHARED_MAX + 1
    assert [run.end.subject for run in history.runs("web")] == [
        "/srv/2997",
        "/srv/2998",
        "/srv/2999",
    ]


def test_a_service_that_is_gone_leaves_nothing():
    history = Teller().up().history
    history.forget("web")

    assert history.runs("web") == ()


def test_what_says_nothing_of_a_run_passes_by():
    history = History(3, str)
    history.take(1.0, Told(DaemonReady(0.1)))
    history.take(1.0, Told(BAD, "web"))

    assert history.runs("web") == ()


@pytest.mark.parametrize(
    ("failed", "error"),
    [
        (HookFailed("pre_start", 3, None, timed_out=False, took_s=0.1), "code 3"),
        (HookFailed("pre_start", None, 9, timed_out=False, took_s=0.1), "signal 9"),
        (HookFailed("pre_start", None, 9, timed_out=True, took_s=30.0), "timed out"),
        (HookFailed("pre_start", None, None, False, 0.1, "ENOENT"), "ENOENT"),
    ],
)
def test_a_first_hook_that_failed_ends_its_run(failed, error):
    teller = Teller().post(StartRequested("config"))
    teller.history.take(1007.0, Told(failed, "web", None, 1))

    run = teller.history.runs("web")[-1]
    assert run.end == End(Cause.HOOK, None, False, "hook", "pre_start", error)
    assert run.ended_at == 1007.0


def test_any_other_hook_that_failed_ends_nothing():
    teller = Teller().up()
    failed = HookFailed("post_start", 3, None, timed_out=False, took_s=0.1)
    teller.history.take(1007.0, Told(failed, "web", None, 1))

    assert teller.history.runs("web")[-1].ended_at is None
