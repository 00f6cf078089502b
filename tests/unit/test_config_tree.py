"""Merging tables, taking parts of them out, and places of what is written nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.positions import Places, Span
from supervisord_pidfd.config.sources import Place, Report, Source
from supervisord_pidfd.config.tree import Tree, merged, without

TABLES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers() | st.lists(st.integers())),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers()),
)


@pytest.mark.parametrize(
    ("weak", "strong", "result"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2}}, {"a": {"x": 2, "y": 1}}),
        ({"a": {"x": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_merging(weak, strong, result):
    assert merged(weak, strong) == result


@given(TABLES, TABLES)
def test_merging_changes_neither(weak, strong):
    before = repr((weak, strong))
    merged(weak, strong)

    assert repr((weak, strong)) == before


@given(TABLES)
def test_merging_with_itself_is_itself(table):
    assert merged(table, table) == table


@pytest.mark.parametrize(
    ("path", "result"),
    [
        (("a",), {"b": {"c": {"d": 1}, "e": [1]}}),
        (("b", "c", "d"), {"a": 1, "b": {"c": {}, "e": [1]}}),
        (("b", "e", 0), {"a": 1, "b": {"c": {"d": 1}}}),
        (("b", "x"), {"a": 1}),
        (("b", "c", "x", "y"), {"a": 1, "b": {"e": [1]}}),
        (("x",), {"a": 1, "b": {"c": {"d": 1}, "e": [1]}}),
        (("a", "x"), {"b": {"c": {"d": 1}, "e": [1]}}),
    ],
)
def test_leaving_out(path, result):
    assert without({"a": 1, "b": {"c": {"d": 1}, "e": [1]}}, [path]) == result


def test_the_place_of_a_table_made_by_dots_is_its_key():
    first, second = Source("1", "/", Places("x = 1")), Source("2", "/", Places("y = 1\na.b = 1"))
    tree = Tree(Report(), [first, second], [])

    assert tree.value(("a", "c")) == Place(second, Span(2, 1, 1))
    assert tree.key(("a", "b")) == Place(second, Span(2, 3, 1))
    assert tree.key(("nowhere",)) == Place(first, Span(1, 1, 1))


def test_what_is_written_nowhere_is_at_the_start():
    source = Source("x.toml", "/", Places("[a]\n"))
    tree = Tree(Report(), [source], [Source("--set", "/", Places(""))])

    assert tree.value(("nowhere", "x")) == Place(source, Span(1, 1, 1))
    assert tree.table(("nowhere",)) == Place(source, Span(1, 1, 1))
    assert tree.key(("a",)) == Place(source, Span(1, 2, 1))
    assert str(tree.start()) == "x.toml:1:1"
