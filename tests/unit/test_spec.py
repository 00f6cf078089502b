"""Specs travel as plain JSON data and come back the same."""

import enum
import json
import math
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.spec import (
    GatewaySpec,
    MetricsSpec,
    ServiceSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
    WebSpec,
    dump,
    load,
)
from tests.support.machine import web

TEXT = st.text(max_size=5)
LENGTH = st.floats(0, allow_nan=False)
NUMBER = st.integers(-2, 2**63)
PLAIN = {str: TEXT, float: LENGTH, int: NUMBER, bool: st.booleans()}


def drawn(hint):
    """Draw values of the type that a member is declared to have."""
    options = [option for option in get_args(hint) if option is not type(None)]
    if type(None) in get_args(hint):
        return st.none() | drawn(options[0])
    if hasattr(hint, "_fields"):
        return spec_of(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if Ellipsis in options:
        return st.lists(drawn(options[0]), max_size=2).map(tuple)
    return st.tuples(*map(drawn, options))


def spec_of(kind):
    """Build this tuple, each member at its default or drawn."""
    members = {}
    for name, hint in get_type_hints(kind).items():
        values = drawn(hint)
        if name in kind._field_defaults:
            values = st.just(kind._field_defaults[name]) | values
        members[name] = values
    return st.builds(kind, **members)


SERVICE, GATEWAY, SUPERVISOR = map(spec_of, (ServiceSpec, GatewaySpec, SupervisorSpec))


def over_the_wire(spec):
    return load(type(spec), json.loads(json.dumps(dump(spec))))


def kinds_in(value):
    """Name the type of every value in a tree, and so tell an enum from its text."""
    if isinstance(value, tuple):
        return (type(value), *(kinds_in(member) for member in value))
    return type(value)


@given(SERVICE | SUPERVISOR | GATEWAY)
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


@pytest.mark.parametrize(
    ("settings", "listens"),
    [
        (GatewaySpec(), False),
        (GatewaySpec(socket="/x"), False),
        (GatewaySpec(MetricsSpec(listen=("a",))), True),
        (GatewaySpec(web=WebSpec(listen=("a",))), True),
        (GatewaySpec(web=WebSpec(rpc_listen=("a",))), True),
    ],
)
def test_there_is_a_gateway_if_something_listens(settings, listens):
    assert settings.listens is listens


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        (WebSpec(), False), (WebSpec(control=True), True), (WebSpec(rpc="control"), True),
        (WebSpec(rpc="read"), False),
    ],
)  # fmt: skip
def test_who_may_change_things_through_the_gateway(settings, may):
    assert settings.may_control is may
