"""What the core counts from its notices."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.metrics import METRICS, QUICK, Histogram, Kind, Tally
from supervisord_pidfd.core.notices import (
    EVENTS,
    CallbackCrashed,
    ConfigApplied,
    ConfigRejected,
    OrphanReaped,
    ServiceExited,
    ServiceGaveUp,
    ServiceKillEscalated,
    ServiceReady,
    ServiceRestartScheduled,
    ServiceSpawned,
    ServiceSpawnFailed,
    ServiceStarting,
    ServiceStopped,
    Told,
)


@pytest.fixture
def tally():
    return Tally()


def ended(cause, user_s=0.0, system_s=0.0):
    return ServiceExited(cause, 1, None, False, False, "up", 2.0, None, user_s, system_s)


def tell(tally, *notices, service="web"):
    for notice in notices:
        tally.count(Told(notice, service, "backend", 1, 10))


def samples(tally, name):
    for family in tally.families():
        if family["name"] == name:
            return family["samples"]
    return []


def value(tally, name):
    return [sample["value"] for sample in samples(tally, name)]


def observed(tally, name):
    (sample,) = samples(tally, name)
    return sum(sample["buckets"]), sample["sum"]


# -- the table ------------------------------------------------------------------------------------


def test_every_name_is_declared_once():
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_row_follows_the_rules_of_naming(metric):
    assert re.fullmatch(r"(supervisord|process)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    assert bool(metric.bounds) is (metric.kind is Kind.HISTOGRAM)
    assert metric.help.endswith(".")
    assert not {"instance", "pid", "run", "path", "command", "message"} & set(metric.labels)
    assert all(on.notice in EVENTS for on in metric.on)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_bounds_rise(metric):
    assert list(metric.bounds) == sorted(set(metric.bounds))


# -- histograms -----------------------------------------------------------------------------------


def test_an_observation_on_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for x in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(x)

    assert histogram.plain() == {"labels": {}, "buckets": [2, 2, 1], "sum": 14.0}


@given(st.lists(st.floats(0, 1e6)))
def test_every_observation_is_in_one_bucket(observations):
    histogram = Histogram(QUICK)
    for x in observations:
        histogram.observe(x)

    assert sum(histogram.counts) == len(observations)
    assert histogram.sum == pytest.approx(sum(observations))


def test_plain_data_does_not_change_afterwards():
    histogram = Histogram((1.0,))
    before = histogram.plain()
    histogram.observe(0.5)

    assert before["buckets"] == [0, 0]


# -- the daemon's families ------------------------------------------------------------------------


def test_counters_without_labels_are_there_from_the_start(tally):
    for name in ("orphans_reaped_total", "callback_errors_total", "loop_busy_seconds_total"):
        assert value(tally, f"supervisord_{name}") == [0.0]
    assert observed(tally, "supervisord_spawn_duration_seconds") == (0, 0.0)


def test_counters_with_labels_appear_when_they_first_happen(tally):
    assert samples(tally, "supervisord_spawn_errors_total") == []

    tell(tally, *[ServiceSpawnFailed("exec", "/bin/x", "ENOENT")] * 2)

    assert samples(tally, "supervisord_spawn_errors_total") == [
        {"labels": {"stage": "exec", "error": "ENOENT"}, "value": 2}
    ]


def test_notices_of_the_daemon_are_counted(tally):
    tell(tally, OrphanReaped(0, None, 7), CallbackCrashed("loop", "KeyError"), service=None)

    assert value(tally, "supervisord_orphans_reaped_total") == [1]
    assert value(tally, "supervisord_callback_errors_total") == [1]


def test_durations_come_from_the_notices(tally):
    tell(tally, ServiceSpawned(0.25), ServiceReady("simple", 1.5), ServiceStopped("config", 3.0))

    assert observed(tally, "supervisord_spawn_duration_seconds") == (1, 0.25)
    assert observed(tally, "supervisord_start_duration_seconds") == (1, 1.5)
    assert observed(tally, "supervisord_stop_duration_seconds") == (1, 3.0)


def test_what_was_no_stop_of_a_process_is_not_observed(tally):
    tell(tally, ServiceStopped("operator:0", 0.0), ServiceStopped("policy", 3.0))

    assert observed(tally, "supervisord_stop_duration_seconds") == (0, 0.0)


def test_internal_services_do_not_count_as_services(tally):
    tell(tally, ServiceSpawned(0.25), ServiceReady("simple", 1.5), service=":logger")

    assert observed(tally, "supervisord_start_duration_seconds") == (0, 0.0)
    assert observed(tally, "supervisord_spawn_duration_seconds") == (1, 0.25)


def test_restarts_of_internal_services_are_a_family_of_the_daemon(tally):
    tell(tally, ended("signal"), ServiceStarting(1), service=":gateway")
    tell(tally, ended("signal"), ServiceStarting(1), service="web")

    assert samples(tally, "supervisord_internal_restarts_total") == [
        {"labels": {"name": "gateway"}, "value": 1}
    ]


def test_the_last_apply_is_remembered(tally):
    name = "supervisord_config_last_reload_successful"
    assert value(tally, name) == []
    tell(tally, ConfigApplied(1, "d", 0, 0, 0, 0, "operator:0", 0.1), service=None)
    assert value(tally, name) == [1]
    tell(tally, ConfigRejected(1, 0, "x"), service=None)
    assert value(tally, name) == [0]


def test_the_loop_reports_its_own_figures(tally):
    tally.loop_lag.observe(0.002)
    tally.exit_handling.observe(0.001)
    tally.add_busy(0.5)
    tally.add_busy(0.25)
    tally.sigchld_children = 3
    tally.config_applied_at = 1764000000.5

    assert observed(tally, "supervisord_loop_lag_seconds") == (1, 0.002)
    assert observed(tally, "supervisord_exit_handling_seconds") == (1, 0.001)
    assert value(tally, "supervisord_loop_busy_seconds_total") == [0.75]
    assert value(tally, "supervisord_sigchld_children") == [3]
    assert value(tally, "supervisord_config_last_reload_success_timestamp_seconds") == [
        1764000000.5
    ]


def test_without_a_canary_nothing_is_told_of_it(tally):
    name = "supervisord_exit_detection_seconds"
    assert samples(tally, name) == []
    tally.exit_detection.observe(0.0002)
    assert observed(tally, name) == (1, 0.0002)


def test_the_answer_does_not_grow_with_the_services(tally):
    before = len(str(tally.families()))
    for number in range(100):
        tell(tally, ended("success"), ServiceStarting(1), service=f"s{number}")

    assert len(str(tally.families())) == before


# -- a service's totals ---------------------------------------------------------------------------


def test_a_service_that_did_nothing_has_all_zero(tally):
    assert tally.totals("web") == {
        "restarts": {},
        "exits": {},
        "start_limit_hits": 0,
        "kill_escalations": 0,
        "user_cpu_s": 0.0,
        "system_cpu_s": 0.0,
    }


def test_ends_are_counted_by_cause_with_what_they_used(tally):
    tell(tally, ended("exit_code", 1.0, 0.5), ended("exit_code", 2.0, 0.25), ended("signal"))

    totals = tally.totals("web")
    assert totals["exits"] == {"exit_code": 2, "signal": 1}
    assert (totals["user_cpu_s"], totals["system_cpu_s"]) == (3.0, 0.75)


def test_a_restart_is_a_start_after_an_end(tally):
    tell(tally, ServiceStarting(0))
    assert tally.totals("web")["restarts"] == {}

    tell(tally, ended("exit_code"), ServiceRestartScheduled("exit_code", 1, 10, 0.0))
    assert tally.totals("web")["restarts"] == {}

    tell(tally, ServiceStarting(1))
    assert tally.totals("web")["restarts"] == {"exit_code": 1}


def test_a_start_after_a_failed_start_is_a_restart(tally):
    failed = ServiceSpawnFailed("exec", "/bin/x", "ENOENT")
    tell(tally, ServiceStarting(0), failed, ServiceStarting(1), failed, ServiceStarting(2))

    totals = tally.totals("web")
    assert totals["restarts"] == {"spawn_error": 2}
    assert totals["exits"] == {}


def test_only_the_limit_counts_as_a_limit_hit(tally):
    tell(tally, ServiceGaveUp("exit_code", "limit", 10), ServiceGaveUp("exit_code", "policy", 0))

    assert tally.totals("web")["start_limit_hits"] == 1


def test_kill_escalations_are_counted(tally):
    tell(tally, ServiceKillEscalated("group", 10.0))

    assert tally.totals("web")["kill_escalations"] == 1


def test_answers_of_the_gateway_add_up_in_a_bounded_number_of_kinds(tally):
    tally.count_http("metrics", 200, 2)
    tally.count_http("metrics", 200, 3)
    for code in range(1000):
        tally.count_http("other", code, 1)

    found = samples(tally, "supervisord_http_requests_total")
    assert found[0] == {"labels": {"handler": "metrics", "code": "200"}, "value": 5}
    assert len(found) == 256


def test_a_forgotten_service_begins_at_zero(tally):
    tell(tally, ended("signal"), service=":gateway")
    tell(tally, ended("signal"))
    tally.forget("web")
    tally.forget(":gateway")
    tally.forget("never-there")

    assert tally.totals("web")["exits"] == {}
    assert samples(tally, "supervisord_internal_restarts_total") == []
