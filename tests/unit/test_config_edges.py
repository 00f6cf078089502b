"""References of services to each other: who is meant, cycles, and how many there may be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from supervisord_pidfd.config import edges, references
from supervisord_pidfd.config.references import Ref
from supervisord_pidfd.core.spec import Condition, Dependency, Tie
from tests.support.config import load_text

LETTERS = "abcde"
KEYS = ("requires", "wants", "after", "before")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
TARGETS = NAMES | NAMES.map("@{}".format) | st.tuples(NAMES, NAMES).map("@".join)


def services(*lines):
    """Write services `NAME: KEY = VALUE` with a command, in order."""
    text = {}
    for line in lines:
        name, _, rest = line.partition(":")
        text.setdefault(name, []).append(rest)
    return "".join(
        f"[service.{name}]\ncommand = '/bin/sh'\n" + "".join(f"{rest.strip()}\n" for rest in rests)
        for name, rests in text.items()
    )


def problems_of(folder, *lines):
    reply = load_text(folder, services(*lines), all_keys=True)
    return [(p.code, p.message, p.line, p.see_also) for p in reply.problems]


# -- references -----------------------------------------------------------------------------------


@given(TARGETS, st.none() | st.sampled_from(Condition))
def test_a_reference_is_read_back(target, condition):
    text = target if condition is None else f"{target}:{condition}"

    assert references.check_reference(text) == Ref(target, condition)


@given(st.text(max_size=20) | st.from_regex(r"@?[a-z]*@?[a-z]*:?[a-z]*", fullmatch=True))
def test_any_text_is_a_reference_or_refused(text):
    name = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
    well_formed = re.fullmatch(
        rf"(@?{name}|{name}@{name})(:(started|ready|healthy|exited|exited_ok))?", text
    )
    try:
        read = references.check_reference(text)
    except PydanticCustomError:
        assert not well_formed
    else:
        assert well_formed
        assert text == read.target + (f":{read.condition}" if read.condition else "")


# -- cycles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "shown", "line", "see_also"),
    [
        (["a: requires = ['b']", "b: after = ['a']"], "requires: waits for itself: a → b → a",
         3, ["6"]),
        (["a: requires = ['a']"], "requires: waits for itself: a → a", 3, []),
        (["a: wants = ['b']", "b: wants = ['c:started']", "c: requires = ['a:exited']"],
         "wants: waits for itself: a → b → c → a", 3, ["6", "9"]),
        (["a: before = ['b']", "b: before = ['a']"], "before: waits for itself: a → b → a",
         6, ["3"]),
        (["a: before = ['b']", "a: after = ['b']", "b:"], "after: waits for itself: a → b → a",
         4, ["3"]),
        (["a: part_of = ['a']"], "part_of: waits for itself: a → a", 3, []),
        (["a: instances = 2", "a: after = ['a@1']"], "after: waits for itself: a@1 → a@1", 4, []),
        (["a: after = ['@a']"], "after: waits for itself: a → a", 3, []),
    ],
)  # fmt: skip
def test_a_cycle_is_told_at_the_places_that_make_it(tmp_path, lines, shown, line, see_also):
    ((code, message, at, others),) = problems_of(tmp_path, *lines)

    assert (code, message, at) == ("cycle", shown, line)
    assert [place.split(":")[-2] for place in others] == see_also


def test_each_reference_makes_one_cycle(tmp_path):
    found = problems_of(tmp_path, "a: instances = 9", "a: after = ['a']", "b: wants = ['b']")

    assert [(code, line) for code, _, line, _ in found] == [("cycle", 4), ("cycle", 7)]


def test_a_long_cycle_is_cut(tmp_path):
    lines = [f"s{i}: after = ['s{(i + 1) % 50}']" for i in range(50)]
    ((_, message, _, others),) = problems_of(tmp_path, *lines)

    assert message.endswith("s10 → s11 → … → s0")
    assert len(others) == edges.MAX_SHOWN - 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(LETTERS), st.sampled_from(KEYS), st.sampled_from(LETTERS)),
        unique=True, max_size=7,
    )
)  # fmt: skip
def test_cycles_are_those_that_every_path_would_show(tmp_path_factory, triples):
    told = [
        f"{name}: {key} = {[other for one, k, other in triples if (one, k) == (name, key)]}"
        for name, key in dict.fromkeys((one, k) for one, k, _ in triples)
    ]
    lines = [*told, *(f"{name}:" for name in LETTERS)]
    reach = {(o, n) if key == "before" else (n, o) for n, key, o in triples}
    for _ in LETTERS:
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    found = problems_of(tmp_path_factory.mktemp("cycle"), *lines)

    assert bool(found) == any(one == other for one, other in reach)
    assert {code for code, *_ in found} <= {"cycle"}


# -- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["b: after = ['a']", "b: before = ['a']", "b: part_of = ['a']"])
def test_there_is_a_bound_on_dependencies(tmp_path, line):
    ((code, message, at, _),) = problems_of(
        tmp_path, "a: instances = 1000", "b: instances = 1000", line
    )

    assert (code, at) == ("too-large", 7)
    assert message.endswith(": more than 200000 dependencies of all services together")


def test_many_services_may_wait_for_one(tmp_path):
    text = services("b: instances = 3000", "b: after = ['a']", "a:")
    reply = load_text(tmp_path, text, all_keys=True)

    assert reply.ok
    assert {spec.dependencies for spec in reply.services[:3000]} == {(Dependency("a", Tie.AFTER),)}
