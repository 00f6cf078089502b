"""What a scrape says, from plain data."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.metrics import BY_NAME, METRICS, Kind, Part, Tally
from supervisord_pidfd.core.notices import ConfigApplied, ServiceSpawnFailed, ServiceStarting, Told
from supervisord_pidfd.gateway.exposition import (
    OPENMETRICS,
    SLICE,
    TEXT,
    encode,
    family_of,
    generate,
    negotiate,
)
from supervisord_pidfd.gateway.procfs import Usage
from supervisord_pidfd.gateway.replica import record_of
from supervisord_pidfd.gateway.samples import Core, CpuClock, Scrape, Subject, reader_of
from supervisord_pidfd.logwire import Slot
from tests.unit.gateway.records import plain, totals

USAGE = Usage(99, 3.0, 1.0, 4, 12.0, 1 << 24, 1 << 20, 1 << 21, 9)
LOG = Slot(stdout_bytes=7, rate_limit_lines=2, blocked_us=1_500_000)


CHECK = {
    "name": "live",
    "kind": "http",
    "ok": False,
    "failures": 3,
    "runs": {"success": 4, "timeout": 3},
    "last_ts": 1764000000.0,
    "last_duration_s": 3.0,
    "error": "no answer in time",
}


def record(name, **changed):
    return record_of(plain(name) | changed)


def tally():
    made = Tally()
    made.count(Told(ServiceSpawnFailed("exec", "/bin/x", "ENOENT"), "web"))
    made.count(Told(ServiceSpawnFailed("exec", "/bin/x", "ENOENT"), ":checker"))
    made.count(Told(ServiceStarting(1), ":checker"))
    made.count(Told(ConfigApplied(1, "d", 0, 0, 0, 0, "signal", 0.1)))
    made.config_applied_at = 1764000000.0
    made.heard("accepted")
    for lag in (0.00001, 0.0001, 0.3, 100.0):
        made.loop_lag.observe(lag)
    made.exit_detection.observe(0.0002)
    return made


def core():
    counted = tally()
    counted.count_control("Status", "ok")
    counted.count_http("metrics", 200, 5)
    answer = {
        "info": {"version": "0.1.0", "python": "3.11.7", "kernel": "6.18.0"},
        "reaper": {"kind": "sigchld", "reason": "ENOSYS"},
        "features": {"pidfs": True},
        "phases": {"running": 2, "failed": 1},
        "stopping": True,
        "pid": 99,
        "families": counted.families(),
    }
    return Core(answer, USAGE, 1024, 1764000000.0)


def full(**changed):
    """Make a scrape in which every family has a sample."""
    web = record(
        "web",
        group="a",
        health="unhealthy",
        checks=[CHECK],
        last_exit={"cause": "signal", "exit_code": None, "signum": 9},
        totals=totals(restarts={"signal": 1}, exits={"signal": 2}, kill_escalations=3),
    )
    made = {
        "core": core(),
        "services": [Subject(web, USAGE, (3.0, 1.0), LOG)],
        "internal": [Subject(record(":logger"), USAGE)],
    }
    return Scrape(**made | changed)


def about(name="web", usage=USAGE, **changed):
    """Make a scrape with one service."""
    return full(services=[Subject(record(name, **changed), usage)])


def text(scrape, form=TEXT):
    return b"".join(encode(scrape, form)).decode()


def samples(scrape, name, form=TEXT):
    """Return the samples of one name: labels without service and group, and the value."""
    parse = parse_open if form == OPENMETRICS else parse_text
    return [
        (
            {k: v for k, v in sample.labels.items() if k not in ("service", "group")},
            sample.value,
        )
        for family in parse(text(scrape, form))
        for sample in family.samples
        if sample.name == name
    ]


def one(scrape, name):
    ((_, value),) = samples(scrape, name)
    return value


# -- the formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "parse"), [(TEXT, parse_text), (OPENMETRICS, parse_open)])
def test_every_row_is_rendered_and_parses(form, parse):
    found = {family.name: family for family in parse(text(full(), form))}

    for row in METRICS:
        name = row.name.removesuffix("_total") if row.kind is Kind.COUNTER else row.name
        assert found[name].type == row.kind.value
        assert found[name].documentation == row.help
    assert len(found) == len(METRICS)


def test_the_labels_are_the_rows():
    found = {family.name: family for family in parse_text(text(full()))}

    for row in METRICS:
        name = row.name.removesuffix("_total") if row.kind is Kind.COUNTER else row.name
        assert set(found[name].samples[0].labels) - {"le"} == set(row.labels)


def by_the_library(scrape, form):
    """Encode what is about services with prometheus-client, a family at a time."""
    rows = [row for row in METRICS if row.part in scrape.parts - {Part.DAEMON}]
    for row in rows:
        read = reader_of(row, scrape)
        if read is not None:
            values = [
                ((it.record.name, it.record.group, *extra), value)
                for it in scrape.services
                for extra, value in read(it)
            ]
            if values:
                yield generate(family_of(row, values), form)


NUMBERS = st.one_of(st.integers(0, 1 << 63), st.floats(0), st.just(math.nan))
ANY_RECORD = st.builds(
    lambda name, group, cause, code, since, up: record(
        name,
        group=group,
        pid=7 if up else None,
        since_ts=since,
        attempt=code,
        totals=totals(restarts={cause: code}, exits={cause: code, "signal": 1}),
        last_exit={"cause": cause, "exit_code": code, "signum": None},
        health="healthy",
        checks=[CHECK | {"name": cause}],
    ),
    st.text(max_size=8),
    st.text(max_size=8),
    st.text(max_size=8),
    NUMBERS,
    NUMBERS,
    st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.builds(Subject, ANY_RECORD, st.just(USAGE), st.tuples(NUMBERS, NUMBERS))))
@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
def test_services_are_told_as_the_library_would(form, subjects):
    scrape = full(services=subjects, parts=frozenset(Part) - {Part.DAEMON})

    expected = b"".join(by_the_library(scrape, form))
    assert b"".join(encode(scrape, form)).removesuffix(b"# EOF\n") == expected


def test_many_services_are_told_in_small_pieces_under_one_head():
    many = [Subject(record(f"w{number}"), USAGE) for number in range(2 * SLICE + 1)]
    scrape = full(services=many, parts=frozenset({Part.SERVICES}))

    pieces = list(encode(scrape, OPENMETRICS))

    assert max(piece.count(b"\n") for piece in pieces) <= SLICE * len(Phase) + 2
    assert b"".join(pieces) == b"".join(by_the_library(scrape, OPENMETRICS)) + b"# EOF\n"


def test_a_histogram_is_cumulative_and_ends_with_all():
    buckets = samples(full(), "supervisord_loop_lag_seconds_bucket")

    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[0] == ({"le": "5e-05"}, 1)
    assert buckets[1] == ({"le": "0.0001"}, 2)
    assert buckets[-1] == ({"le": "+Inf"}, 4)
    assert one(full(), "supervisord_loop_lag_seconds_count") == 4


@given(st.text(max_size=30))
def test_any_label_value_reads_back(reason):
    answer = dict(core().counters) | {"reaper": {"kind": "sigchld", "reason": reason}}
    scrape = Scrape(Core(answer), parts=frozenset({Part.DAEMON}))

    for form in (TEXT, OPENMETRICS):
        ((labels, _),) = samples(scrape, "supervisord_reaper_info", form)
        assert labels["reason"] == reason


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.3", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5",
            OPENMETRICS,
        ),
        (";;;,,,=", TEXT),
    ],
)
def test_the_format_is_negotiated(accept, form):
    assert negotiate(accept) == form


# -- what is told ---------------------------------------------------------------------------------


def test_without_the_core_only_what_is_certain_is_told():
    found = {family.name for family in parse_text(text(full(core=None)))}

    assert found == {"supervisord_up"}
    assert one(full(core=None), "supervisord_up") == 0


def test_what_the_logger_counted_is_told_by_stream_and_reason():
    prefix = "supervisord_service_log"
    streams = {labels["stream"]: n for labels, n in samples(full(), f"{prefix}_bytes_total")}
    reasons = {
        labels["reason"]: n for labels, n in samples(full(), f"{prefix}_dropped_lines_total")
    }

    assert streams == {"stdout": 7, "stderr": 0, "hook": 0}
    assert reasons == {"overflow": 0, "rate_limit": 2, "write_error": 0}
    assert one(full(), f"{prefix}_blocked_seconds_total") == 1.5


def test_parts_limit_the_answer():
    for part in Part:
        found = {family.name for family in parse_text(text(full(parts=frozenset({part}))))}
        rows = {row.name.removesuffix("_total") for row in METRICS if row.part is part}

        assert found == rows


def test_all_phases_are_there_and_the_counts_are_the_cores():
    counts = {labels["phase"]: n for labels, n in samples(full(), "supervisord_services")}

    assert len(counts) == 8
    assert (counts["running"], counts["failed"], counts["waiting"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("phases", "services", "exported"),
    [(None, 1000, True), (None, 1001, False), (True, 1001, True), (False, 1, False)],
)
def test_the_phase_set_is_for_the_few(phases, services, exported):
    subject = Subject(record("web"))
    scrape = full(services=[subject] * services, phases=phases)

    found = reader_of(BY_NAME["supervisord_service_phase"], scrape)

    assert (found is not None) is exported


@pytest.mark.parametrize(
    ("last_exit", "code", "signum"),
    [
        ({"cause": "exit_code", "exit_code": 3, "signum": None}, [3], [0]),
        ({"cause": "signal", "exit_code": None, "signum": 9}, [-1], [9]),
        ({"cause": "unknown", "exit_code": None, "signum": None}, [-1], [0]),
        (None, [], []),
    ],
)
def test_the_last_exit(last_exit, code, signum):
    scrape = about(last_exit=last_exit)

    assert [n for _, n in samples(scrape, "supervisord_service_last_exit_code")] == code
    assert [n for _, n in samples(scrape, "supervisord_service_last_exit_signal")] == signum


def test_a_service_that_is_down_has_no_start_time_and_its_last_peak():
    scrape = about(usage=None, pid=None, phase="exited", started_ts=5.0, max_rss_bytes=4096)

    assert samples(scrape, "supervisord_service_start_time_seconds") == []
    assert one(scrape, "supervisord_service_up") == 0
    assert one(scrape, "supervisord_service_memory_peak_bytes") == 4096
    assert samples(scrape, "supervisord_service_memory_rss_bytes") == []


def test_a_running_service_has_the_peak_of_this_run():
    scrape = about(max_rss_bytes=1 << 40)

    assert one(scrape, "supervisord_service_memory_peak_bytes") == USAGE.peak_bytes


def test_a_check_is_told_as_far_as_it_is_known():
    new = CHECK | {"ok": None, "runs": {}, "last_duration_s": None}
    known, unknown = (about(health="unknown", checks=[check]) for check in (CHECK, new))

    assert samples(known, "supervisord_check_up") == [({"check": "live"}, 0)]
    assert samples(known, "supervisord_check_runs_total") == [
        ({"check": "live", "result": "success"}, 4),
        ({"check": "live", "result": "timeout"}, 3),
    ]
    assert one(known, "supervisord_check_last_duration_seconds") == 3.0
    assert samples(unknown, "supervisord_check_up") == []
    assert samples(unknown, "supervisord_check_last_duration_seconds") == []


@pytest.mark.parametrize(
    ("health", "expected"),
    [("none", []), ("unknown", [({}, 1)]), ("healthy", [({}, 1)]), ("unhealthy", [({}, 0)])],
)
def test_a_service_is_healthy_unless_a_check_fails(health, expected):
    scrape = about(health=health)

    assert samples(scrape, "supervisord_service_healthy") == expected


def test_what_could_not_be_read_is_absent():
    hidden = Usage(99, 3.0, 1.0, 4, 12.0, 1, 1, None, None)
    scrape = Scrape(
        Core(core().counters), [Subject(record("web"), hidden)], [Subject(record(":logger"))]
    )

    for name in ("service_open_fds", "service_memory_peak_bytes", "internal_memory_rss_bytes"):
        assert samples(scrape, f"supervisord_{name}") == []
    assert samples(scrape, "process_start_time_seconds") == []
    assert samples(scrape, "process_cpu_seconds_total") == []


# -- CPU time -------------------------------------------------------------------------------------


def cpu_of(clock, user_s, usage):
    web = record("web", totals=totals(user_cpu_s=user_s))
    found = clock.add_up(web, usage)
    clock.settle()
    return found


def test_cpu_time_is_that_of_ended_runs_and_the_present_one():
    assert cpu_of(CpuClock(), 10.0, USAGE) == (13.0, 1.0)


def test_cpu_time_never_goes_back():
    clock = CpuClock()
    assert cpu_of(clock, 10.0, USAGE) == (13.0, 1.0)

    assert cpu_of(clock, 10.0, None) == (13.0, 1.0)
    assert cpu_of(clock, 14.0, None) == (14.0, 1.0)


def test_cpu_time_of_a_removed_service_is_forgotten():
    clock = CpuClock()
    cpu_of(clock, 10.0, None)
    clock.settle()

    assert cpu_of(clock, 1.0, None) == (1.0, 0.0)
