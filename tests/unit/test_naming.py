"""Names of clients: what they stand for, and what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.naming import (
    GLOBS,
    NoSuchNameError,
    TooManyGlobsError,
    expand,
    suggest,
)

SERVICES = dict.fromkeys(["web", "db", "worker@0", "worker@1", "web2"])
GROUPS = {"backend": ("db", "web"), "empty": ()}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], ()),
        (["web"], ("web",)),
        (["worker"], ("worker@0", "worker@1")),
        (["worker@1"], ("worker@1",)),
        (["@backend"], ("db", "web")),
        (["web*"], ("web", "web2")),
        (["web?"], ("web2",)),
        (["w[eo]*@[0-9]"], ("worker@0", "worker@1")),
        (["db", "@backend", "db"], ("db", "web")),
    ],
)
def test_what_names_stand_for(names, found):
    assert expand(names, SERVICES, GROUPS) == found


@pytest.mark.parametrize("name", ["", "wob", "x*", "@none", "@empty", "web@0", "*" + "x" * 1000])
def test_a_name_that_stands_for_nothing_is_an_error(name):
    with pytest.raises(NoSuchNameError) as caught:
        expand(["web", name], SERVICES, GROUPS)

    assert name.startswith(caught.value.name)


def test_globs_are_bounded():
    with pytest.raises(TooManyGlobsError):
        expand(["w*"] * (GLOBS + 1), SERVICES, GROUPS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("wb", "web"), ("weeb", "web"), ("ewb", "web"), ("wob", "web"), ("WEB", "web"),
        ("workr", "worker"), ("@backendd", "@backend"), ("backend", "@backend"),
        ("postgres", None), ("", None), ("x" * 500, None),
    ],
)  # fmt: skip
def test_what_was_meant(name, meant):
    assert suggest(name, SERVICES, GROUPS) == meant


@given(st.lists(st.text(max_size=8), max_size=5))
def test_any_names_are_found_or_refused(names):
    try:
        found = expand(names, SERVICES, GROUPS)
    except (NoSuchNameError, TooManyGlobsError):
        return

    assert set(found) <= set(SERVICES)
