"""Specs travel as plain JSON data and come back the same."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    Identity,
    LimitAction,
    MetricsSpec,
    Output,
    ResourceLimit,
    RestartPolicy,
    Scope,
    ServiceSpec,
    ServiceType,
    StartFault,
    StartLimitSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
    dump,
    load,
)
from tests.support.machine import web

TEXT = st.text(max_size=5)
LENGTH = st.floats(0, allow_nan=False)
NUMBER = st.integers(-2, 2**63)
NUMBERS = st.lists(NUMBER, max_size=3).map(tuple)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)


def spec_of(kind, **members):
    """Build this tuple, each member at its default or drawn."""
    drawn = {
        name: st.just(kind._field_defaults[name]) | values
        if name in kind._field_defaults
        else values
        for name, values in members.items()
    }
    assert set(drawn) == set(kind._fields)
    return st.builds(kind, **drawn)


def some(values):
    return st.none() | values


def tuples_of(element):
    return st.lists(element, max_size=2).map(tuple)


ENDS = spec_of(Ends, codes=NUMBERS, signals=NUMBERS)
IDENTITY = spec_of(
    Identity, uid=NUMBER, gid=NUMBER, groups=NUMBERS, user=TEXT, home=TEXT, shell=TEXT
)
STOP = spec_of(
    StopSpec,
    steps=st.lists(st.builds(StopStep, NUMBER, LENGTH), min_size=1, max_size=2).map(tuple),
    scope=st.sampled_from(Scope),
    keep_leftovers=st.booleans(),
)
BACKOFF = spec_of(
    BackoffSpec,
    delay=LENGTH,
    factor=LENGTH,
    max_delay=LENGTH,
    jitter=LENGTH,
    reset_after=LENGTH,
)
START_LIMIT = spec_of(
    StartLimitSpec, burst=NUMBER, interval=LENGTH, action=st.sampled_from(LimitAction)
)
SERVICE = spec_of(
    ServiceSpec,
    name=TEXT,
    argv=TEXTS,
    program=TEXT,
    fast=st.booleans(),
    group=TEXT,
    type=st.sampled_from(ServiceType),
    description=TEXT,
    autostart=st.booleans(),
    restart=st.sampled_from(RestartPolicy),
    directory=TEXT,
    umask=NUMBER,
    identity=IDENTITY,
    environment=tuples_of(st.tuples(TEXT, TEXT)),
    inherit=TEXTS,
    unset=TEXTS,
    instance=TEXT,
    stdin=TEXT,
    output=st.sampled_from(Output),
    start_timeout=LENGTH,
    runtime_max=LENGTH,
    ready_delay=LENGTH,
    stop=STOP,
    success=ENDS,
    restart_prevent=ENDS,
    restart_force=ENDS,
    backoff=BACKOFF,
    start_limit=START_LIMIT,
    critical=st.booleans(),
    main=st.booleans(),
    limits=tuples_of(st.builds(ResourceLimit, TEXT, NUMBER, NUMBER)),
    nice=NUMBER,
    oom_score_adjust=NUMBER,
    cpu_affinity=NUMBERS,
    sched_policy=TEXT,
    sched_priority=NUMBER,
    no_new_privileges=st.booleans(),
    parent_death_signal=NUMBER,
    foreground=st.booleans(),
    fault=st.builds(StartFault, TEXT, TEXT, TEXT),
    origin=TEXT,
)
METRICS = spec_of(
    MetricsSpec,
    listen=TEXTS,
    include=TEXT,
    exclude=TEXT,
    phases=st.booleans(),
    resources=st.booleans(),
    sample_every=LENGTH,
    user=TEXT,
    identity=IDENTITY,
)
SUPERVISOR = spec_of(
    SupervisorSpec,
    runtime_dir=TEXT,
    reaper=TEXT,
    subreaper=st.booleans(),
    shutdown_timeout=LENGTH,
    exit_when_idle=st.booleans(),
    start_concurrency=NUMBER,
    signals=tuples_of(st.tuples(NUMBER, NUMBER)),
    log_level=TEXT,
    log_format=TEXT,
    metrics=METRICS,
)


def over_the_wire(spec):
    return load(type(spec), json.loads(json.dumps(dump(spec))))


def kinds_in(value):
    """Name the type of every value in a tree, and so tell an enum from its text."""
    if isinstance(value, tuple):
        return (type(value), *(kinds_in(member) for member in value))
    return type(value)


@given(SERVICE | SUPERVISOR | METRICS)
def test_a_spec_comes_back_the_same(spec):
    back = over_the_wire(spec)

    assert back == spec
    assert kinds_in(back) == kinds_in(spec)


def test_only_what_differs_from_its_default_travels():
    assert dump(web()) == {"name": "web", "argv": ["/srv/web"]}
    assert dump(SupervisorSpec()) == {}


def test_no_and_nothing_are_told_apart():
    spec = SupervisorSpec(exit_when_idle=False, shutdown_timeout=0.0)

    assert dump(spec) == {"exit_when_idle": False, "shutdown_timeout": 0.0}
    assert over_the_wire(spec) == spec


def test_a_length_without_end_travels():
    assert over_the_wire(web(start_timeout=math.inf)).start_timeout == math.inf


@pytest.mark.parametrize(
    ("plain", "error"),
    [
        ({"name": "web"}, TypeError),
        ({"name": "web", "argv": [], "colour": "red"}, KeyError),
        ({"name": "web", "argv": [], "restart": "sometimes"}, ValueError),
    ],
)
def test_what_does_not_fit_is_an_error(plain, error):
    with pytest.raises(error):
        load(ServiceSpec, plain)


def test_the_time_to_sigkill_is_that_of_all_steps():
    assert StopSpec((StopStep(15, 5), StopStep(2, 3))).timeout == 8
    assert StopSpec().timeout == 10
