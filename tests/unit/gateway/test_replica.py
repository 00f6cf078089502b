"""The gateway's copy of the state, and what it says about readiness."""

import pytest

from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway.replica import Replica, end_text
from tests.unit.gateway.records import plain


def replica(*records, **settings):
    made = Replica(MetricsSpec(**settings))
    for record in records:
        made.apply({"service": record})
    return made


def names(records):
    return [record.name for record in records]


def test_the_latest_record_counts():
    made = replica(plain("web", run=1), plain("web", run=2))

    assert [record.run for record in made.exported()] == [2]


def test_a_removed_service_is_gone():
    made = replica(plain("web"), plain("db"))
    made.apply({"removed": "web"})
    made.apply({"removed": "never-there"})

    assert names(made.exported()) == ["db"]


def test_it_is_complete_when_the_core_says_so():
    made = replica(plain("web"))
    assert not made.synced

    made.apply({"synced": True})

    assert made.synced


def test_every_message_is_a_new_revision():
    made = replica(plain("web"))
    before = made.revision
    made.apply({"removed": "web"})

    assert made.revision > before


def test_members_of_a_newer_core_are_left_out():
    made = replica(plain("web") | {"health": "none"})

    assert names(made.exported()) == ["web"]


def test_internal_services_are_kept_apart():
    made = replica(plain("web"), plain(":logger"))

    assert names(made.exported()) == ["web"]
    assert names(made.internal()) == [":logger"]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, ["db", "web", "web-2"]),
        ({"include": "web"}, ["web"]),
        ({"include": "web.*"}, ["web", "web-2"]),
        ({"exclude": ".*-2"}, ["db", "web"]),
        ({"include": "web.*", "exclude": "web"}, ["web-2"]),
    ],
)
def test_names_are_chosen_by_whole_matches(settings, shown):
    made = replica(plain("web"), plain("web-2"), plain("db"), **settings)

    assert names(made.exported()) == shown


BACKOFF = {"phase": "backoff", "ready": False, "pid": None}


def test_without_critical_services_all_that_are_wanted_must_be_ready():
    made = replica(
        plain("web"),
        plain("db", **BACKOFF),
        plain("old", phase="stopped", wanted="down", ready=False, pid=None),
        plain(":gateway", ready=False),
    )

    assert made.unready() == ["db: backoff"]


def test_critical_services_alone_count_where_there_are_any():
    end = {"cause": "signal", "exit_code": None, "signum": 11}
    made = replica(
        plain("web", **BACKOFF),
        plain("db", critical=True, last_exit=end, **BACKOFF),
        plain("api", critical=True, wanted="down", ready=False, phase="starting"),
    )

    assert made.unready() == ["api: starting", "db: backoff, signal SIGSEGV"]


def test_readiness_counts_services_that_are_not_exported():
    made = replica(plain("db", **BACKOFF), exclude="db")

    assert made.unready() == ["db: backoff"]


@pytest.mark.parametrize(
    ("cause", "exit_code", "signum", "text"),
    [
        ("exit_code", 1, None, "code 1"),
        ("success", 0, None, "code 0"),
        ("timeout", 3, None, "code 3 (timeout)"),
        ("signal", None, 15, "signal SIGTERM"),
        ("oom", None, 9, "signal SIGKILL (oom)"),
        ("core_dump", None, 11, "signal SIGSEGV, core dumped"),
        ("signal", None, 37, "signal SIGRTMIN+3"),
        ("signal", None, 99999, "signal SIGRTMIN+99965"),
        ("signal", None, 33, "signal 33"),
        ("spawn_error", None, None, "cannot start"),
        ("unknown", None, None, "status unknown"),
        ("operator", None, None, "status unknown (operator)"),
    ],
)
def test_how_an_end_is_written(cause, exit_code, signum, text):
    assert end_text({"cause": cause, "exit_code": exit_code, "signum": signum}) == text
