"""What is read from /proc, and how rarely."""

import pytest

from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway.procfs import (
    PAGE_BYTES,
    TICKS,
    Sampler,
    Usage,
    parse_peak,
    parse_stat,
)
from supervisord_pidfd.gateway.replica import Replica
from tests.unit.gateway.records import drive, plain

STAT = (
    "7 ({name}) {state} 99 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1200 10485760 300 "
    "18446744073709551615 1 1 0 0 0 0 0 4096 81920 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
CORE = 99


def usage(user=1.0, parent=CORE):
    return Usage(parent, user, 0.5, 1, 0.0, 1, 1, 1, 1)


@pytest.mark.parametrize("name", ["web", "a b", ") Z 1 (", "x)"])
def test_stat_is_read_whatever_the_name_of_the_program(name):
    found = parse_stat(STAT.format(name=name, state="S"))

    assert found is not None
    assert (found.parent, found.threads) == (99, 3)
    assert (found.user_cpu_s, found.system_cpu_s) == (250 / TICKS, 50 / TICKS)
    assert found.started_s == 1200 / TICKS
    assert (found.virtual_bytes, found.rss_bytes) == (10485760, 300 * PAGE_BYTES)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_process_that_has_ended_uses_nothing(state):
    assert parse_stat(STAT.format(name="web", state=state)) is None


@pytest.mark.parametrize("text", ["", "7 (web", "7 (web) S", "7 (web) S x"])
def test_what_is_no_stat_file_is_an_error(text):
    with pytest.raises((ValueError, IndexError)):
        parse_stat(text)


def test_the_peak_is_in_bytes():
    assert parse_peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 10 kB\n") == 2048 * 1024
    assert parse_peak("Name:\tkthreadd\n") is None


class Proc:
    """Be /proc: usage by pid, and the pids that were read."""

    def __init__(self, **processes):
        self.found = {int(key[1:]): value for key, value in processes.items()}
        self.read = []

    def __call__(self, pid):
        self.read.append(pid)
        return self.found.get(pid)


def records(*plains):
    replica = Replica(MetricsSpec())
    for record in plains:
        replica.apply({"service": record})
    return replica.exported()


def sample(sampler, found, now):
    return drive(sampler.sample(found, CORE, now))


@pytest.fixture
def proc():
    return Proc(p7=usage(1.0), p8=usage(2.0))


def test_proc_is_read_at_most_so_often(proc):
    sampler = Sampler(15.0, proc)
    found = records(plain("web", pid=7))
    for now in (100.0, 101.0, 114.9):
        assert sample(sampler, found, now) == {"web": usage(1.0)}
    assert proc.read == [7]

    sample(sampler, found, 115.0)

    assert proc.read == [7, 7]


def test_a_new_run_is_read_at_once(proc):
    sampler = Sampler(15.0, proc)
    sample(sampler, records(plain("web", pid=7, run=1)), 100.0)

    found = sample(sampler, records(plain("web", pid=8, run=2)), 101.0)

    assert found == {"web": usage(2.0)}


def test_a_service_without_a_process_is_not_read(proc):
    assert sample(Sampler(15.0, proc), records(plain("web", pid=None)), 100.0) == {}
    assert proc.read == []


def test_a_process_that_is_gone_or_somebody_elses_is_left_out():
    proc = Proc(p8=usage(parent=1))

    found = sample(Sampler(0.0, proc), records(plain("a", pid=7), plain("b", pid=8)), 100.0)

    assert found == {}


def test_many_processes_let_others_have_their_turn(proc):
    found = records(*[plain(f"w@{number}", pid=7) for number in range(200)])
    turns = []

    drive(Sampler(15.0, proc).sample(found, CORE, 100.0), lambda: turns.append(len(proc.read)))

    assert len(proc.read) == 200
    assert len(turns) >= 3
    assert turns == sorted(set(turns))
