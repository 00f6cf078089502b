"""`${NAME}`: what it means, and what it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.interpolate import (
    MAX_RESULT,
    RingError,
    UndefinedError,
    Variables,
    fill_in,
)

KNOWN = {"A": "1", "EMPTY": "", "service.name": "web@3", "DOLLAR": "${A}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${service.name}", "web@3"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$$$", "$$"),
        ("$A $( ${A", "$A $( ${A"),
        ("${NO:-x}", "x"),
        ("${NO:-}", ""),
        ("${A:-x}", "1"),
        ("${EMPTY:-x}", ""),
        ("${NO:-a b:-c}", "a b:-c"),
        ("${DOLLAR}", "${A}"),
        ("$$${A}", "$1"),
    ],
)
def test_fill_in(text, filled):
    assert fill_in(text, KNOWN.get) == filled


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("${NO}", ("NO",)),
        ("${NO} ${A} ${NEITHER} ${NO}", ("NO", "NEITHER")),
        ("${}", ("",)),
        ("${1a}", ("1a",)),
        ("${a b}", ("a b",)),
    ],
)
def test_undefined(text, names):
    with pytest.raises(UndefinedError) as caught:
        fill_in(text, KNOWN.get)

    assert caught.value.names == names


def test_a_result_that_explodes_is_refused():
    with pytest.raises(ValueError, match="longer than 1 MiB"):
        fill_in("${A}" * 2, {"A": "x" * (MAX_RESULT // 2 + 1)}.get)


@given(st.text())
def test_text_without_a_dollar_stays(text):
    text = text.replace("$", "")

    assert fill_in(text, KNOWN.get) == text


@given(st.text())
def test_doubled_dollars_give_the_text_itself(text):
    assert fill_in(text.replace("$", "$$"), KNOWN.get) == text


# -- where a name is looked up --------------------------------------------------------------------


def variables(written=(), weaker=(), inherited=(), own=()):
    return Variables(dict(own), dict(written), dict(weaker), dict(inherited))


def test_the_order_of_places():
    everywhere = [("X", "here")]
    own = variables(everywhere, everywhere, everywhere, own=[("X", "own")])
    written = variables([("X", "written")], everywhere, everywhere)
    weaker = variables([], [("X", "weaker")], everywhere)
    inherited = variables([], [], [("X", "inherited")])

    found = [place.lookup("X") for place in (own, written, weaker, inherited, variables())]

    assert found == ["own", "written", "weaker", "inherited", None]


def test_a_variable_may_name_another():
    assert variables([("A", "${B}/x"), ("B", "${C}"), ("C", "1")]).written("A") == "1/x"


def test_a_variable_that_names_itself_gets_the_weaker_one():
    path = variables([("PATH", "/opt/bin:${PATH}")], [], [("PATH", "/bin")])

    assert path.written("PATH") == "/opt/bin:/bin"


@pytest.mark.parametrize("first", ["A", "B", "C"])
def test_a_ring_of_names_is_told_whichever_is_asked_first(first):
    ring = variables([("A", "${B}"), ("B", "${C}"), ("C", "${A}")], [], [("A", "0"), ("B", "9")])

    with pytest.raises(RingError, match=f"{first} -> . -> . -> {first}"):
        ring.written(first)


def test_a_value_that_many_name_is_filled_in_once():
    doubling = [(f"V{n}", f"${{V{n - 1}}}" * 2) for n in range(1, 64)]

    assert variables([*doubling, ("V0", "")]).written("V63") == ""


def test_a_chain_that_is_too_long_is_refused():
    chain = [(f"V{n}", f"${{V{n - 1}}}") for n in range(1, 5000)]

    with pytest.raises(ValueError, match="more than 100 deep"):
        variables([*chain, ("V0", "")]).written("V4999")


def test_growing_values_end_at_the_limit():
    doubling = [(f"V{n}", f"${{V{n - 1}}}" * 2) for n in range(1, 64)]

    with pytest.raises(ValueError, match="longer than 1 MiB"):
        variables([*doubling, ("V0", "x" * 1000)]).written("V63")
