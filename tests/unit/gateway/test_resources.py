"""Figures for those who draw them: read when asked, and once a second however many ask."""

import json

import pytest

from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway.http import Request
from supervisord_pidfd.gateway.procfs import Usage
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.resources import Resources
from tests.fakes import FakeClock
from tests.unit.gateway.records import drive, plain

CORE = 4242


class FakeProc:
    """Give every process the same figures; remember who was read."""

    def __init__(self):
        self.read = []
        self.parent = CORE

    def __call__(self, pid):
        self.read.append(pid)
        return Usage(self.parent, 1.25, 0.5, 3, 0.0, 0, 1_000_000, None, 9)


@pytest.fixture
def proc():
    return FakeProc()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def replica():
    it = Replica(MetricsSpec(exclude="db"))
    for name, pid in (("web", 7), ("db", 8), ("off", None), (":logger", 9)):
        it.apply({"service": plain(name, pid=pid)})
    return it


@pytest.fixture
def resources(replica, clock, proc):
    return Resources(replica, clock, lambda: CORE, proc)


def ask(resources, **query):
    request = Request("/v1/resources", {name: [text] for name, text in query.items()})
    answer = drive(resources.answer(request))
    return json.loads(answer.body)["services"]


def test_nothing_is_read_before_somebody_asks(resources, proc):
    assert proc.read == []


def test_each_service_with_a_process_has_its_figures(resources):
    found = ask(resources)

    assert set(found) == {"web", "db"}
    assert found["web"] == {
        "ts": "2023-11-14T22:13:20.000Z",
        "run": 1,
        "cpu_s": 1.75,
        "rss_bytes": 1_000_000,
        "fds": 9,
        "threads": 3,
    }


def test_only_those_asked_for_are_read(resources, proc):
    found = ask(resources, services="db,nobody,off")

    assert set(found) == {"db"}
    assert proc.read == [8]


def test_many_who_ask_read_a_process_once_a_second(resources, proc, clock):
    for _ in range(10):
        ask(resources)
    assert sorted(proc.read) == [7, 8]

    clock.advance(1)
    ask(resources)
    assert sorted(proc.read) == [7, 7, 8, 8]


def test_another_run_is_read_at_once(resources, replica, proc):
    ask(resources)
    replica.apply({"service": plain("web", pid=70, run=2)})

    assert ask(resources)["web"]["run"] == 2
    assert 70 in proc.read


def test_a_number_that_is_not_a_child_of_the_core_is_not_believed(resources, proc):
    proc.parent = 1

    assert ask(resources) == {}


def test_what_is_remembered_does_not_grow_with_the_services_that_were(resources, replica):
    for number in range(200):
        replica.apply({"service": plain(f"job{number}", pid=1000 + number)})
        ask(resources)
        replica.apply({"removed": f"job{number}"})

    assert len(resources._samples) <= 2 * len(replica.services()) + 1
