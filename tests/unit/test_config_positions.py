"""The scanner finds what tomli finds, and where it is written."""

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.config.positions import MAX_DEPTH, MAX_DOTS, LimitError, Places, Span

# -- documents made of known parts ----------------------------------------------------------------

WORDS = st.text("abcdefgh_-0123456789", min_size=1, max_size=6)
TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, blacklist_categories=("Cs", "Cc")),
    max_size=12,
)


def basic(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text):
    return "'" + text.replace("'", "") + "'"


KEYS = st.one_of(WORDS, TEXTS.map(basic), TEXTS.map(literal))
STRINGS = st.one_of(
    TEXTS.map(basic),
    TEXTS.map(literal),
    TEXTS.map(lambda text: '"""\n' + text.replace("\\", "").replace('"', '\\"') + '\n"x" ""y"""'),
    TEXTS.map(lambda text: "'''" + text.replace("'", "") + "\n'x' ''y'''"),
)
SCALARS = st.one_of(
    STRINGS,
    st.sampled_from(
        ["1", "-2", "3.5e-1", "true", "false", "inf", "nan", "0xff", "1979-05-27T07:32:00Z",
         "1979-05-27 07:32:00", "07:32:00", "1_000"]
    ),
)  # fmt: skip
GAPS = st.sampled_from(["", " ", "  ", "\t"])
BREAKS = st.sampled_from(["", " ", "\n", " # a, ] } comment\n", "\r\n"])


@st.composite
def arrays(draw, values):
    parts = draw(st.lists(values, max_size=3))
    text = "["
    for index, part in enumerate(parts):
        comma = "," if index < len(parts) - 1 or draw(st.booleans()) else ""
        text += draw(BREAKS) + part + draw(BREAKS) + comma
    return text + draw(BREAKS) + "]"


@st.composite
def inline_tables(draw, values):
    keys = draw(st.lists(WORDS, max_size=3, unique=True))
    gap = draw(GAPS)
    return "{" + ", ".join(f"{key}{gap}={gap}{draw(values)}" for key in keys) + gap + "}"


VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=5
)


@st.composite
def documents(draw):
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["header", "elements", "key", "comment"]))
        parts = draw(st.lists(KEYS, min_size=1, max_size=3))
        dotted = (draw(GAPS) + "." + draw(GAPS)).join(parts)
        if kind == "header":
            lines.append(f"{draw(GAPS)}[{draw(GAPS)}{dotted}{draw(GAPS)}]{draw(GAPS)}# c")
        elif kind == "elements":
            lines.append(f"[[{dotted}]]")
        elif kind == "key":
            lines.append(
                f"{draw(GAPS)}{dotted}{draw(GAPS)}={draw(GAPS)}{draw(VALUES)}{draw(GAPS)}"
            )
        else:
            lines.append("# x = 'y' [z]")
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def leaves(value, path=()):
    """Return the paths of what has a value in what tomli read; tables by header have none."""
    found = set()
    if isinstance(value, dict):
        for key, member in value.items():
            found |= leaves(member, (*path, key)) | {(*path, key)}
    elif isinstance(value, list):
        for index, member in enumerate(value):
            found |= leaves(member, (*path, index)) | {(*path, index)}
    return found


def is_plain(data, path):
    for part in path:
        data = data[part]
    return not isinstance(data, dict | list)


@given(documents())
def test_finds_the_values_that_tomli_finds(text):
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError:
        Places(text)
        return
    places = Places(text)

    assert places.duplicates == []
    assert places.paths() <= leaves(data)
    assert {path for path in leaves(data) if is_plain(data, path)} <= places.paths()


@given(documents())
def test_a_value_stands_where_it_is_said_to(text):
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    places = Places(text)
    for path, offset, length in places.all_values():
        expected = data
        for part in path:
            expected = expected[part]
        written = tomli.loads("x = " + text[offset : offset + length])["x"]

        assert repr(written) == repr(expected)


@given(st.text())
@settings(max_examples=100)
def test_no_text_stops_the_scanner(text):
    try:
        places = Places(text)
    except LimitError:
        return
    for path in places.paths():
        assert places.value(path) is not None
    for statement in places.statements:
        assert places.statement_at(statement.start) == statement


@given(st.text("[]{}\"'=.,#\\\n ab1", max_size=60))
@settings(max_examples=150)
def test_no_mix_of_marks_stops_the_scanner(text):
    places = Places(text)

    assert all(length >= 0 for _, _, length in places.all_values())


# -- places ---------------------------------------------------------------------------------------

TEXT = """\
top = 1
[service.web]
command = '''two
lines'''
backoff.delay = "1s"
environment = { A = "x", "B.c" = "y" }
[service.web.log]
to = ["stdout",
  "null"]
[[item]]
k = 1
[[item]]
k = 2
[item.sub]
z = 3
"""


@pytest.mark.parametrize(
    ("path", "key", "value", "header"),
    [
        (("top",), (1, 1, 3), (1, 7, 1), None),
        (("service", "web"), (2, 10, 3), None, (2, 1, 13)),
        (("service", "web", "command"), (3, 1, 7), (3, 11, 6), None),
        (("service", "web", "backoff"), (5, 1, 7), None, None),
        (("service", "web", "backoff", "delay"), (5, 9, 5), (5, 17, 4), None),
        (("service", "web", "environment", "A"), (6, 17, 1), (6, 21, 3), None),
        (("service", "web", "environment", "B.c"), (6, 26, 5), (6, 34, 3), None),
        (("service", "web", "log", "to", 1), None, (9, 3, 6), None),
        (("item", 1, "k"), (13, 1, 1), (13, 5, 1), None),
        (("item", 1, "sub", "z"), (15, 1, 1), (15, 5, 1), None),
        (("item", 0), None, None, (10, 1, 8)),
        (("nowhere",), None, None, None),
    ],
)
def test_places(path, key, value, header):
    places = Places(TEXT)

    assert places.key(path) == (Span(*key) if key else None)
    assert places.value(path) == (Span(*value) if value else None)
    assert places.header(path) == (Span(*header) if header else None)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("service", "web"), (2, 1, 13)),
        (("service",), (2, 2, 7)),
        (("service", "web", "environment"), (6, 1, 11)),
        (("item", 0), (10, 1, 8)),
        (("nowhere",), None),
    ],
)
def test_the_place_of_a_table(path, place):
    assert Places(TEXT).table(path) == (Span(*place) if place else None)


def test_the_place_of_a_table_known_by_what_is_inside():
    assert Places("[[a]]\n[a.b]\n").table(("a", 0, "b")) == Span(2, 1, 5)


def test_lines():
    places = Places("a = 1\r\nb = 2")

    assert (places.line(1), places.line(2), places.line(9)) == ("a = 1", "b = 2", "")


def test_a_statement_is_found_by_an_offset_inside_it():
    places = Places("\n\na = [\n1]\n")

    assert places.statement_at(7).path == ("a",)
    assert places.statement_at(0) is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (r'"a\u00e9\U0001F600\tb\"\\"', 'aé😀\tb"\\'),
        (r'"\UFFFFFFFF\q"', "\ufffdq"),
        ("'a.b\\c'", "a.b\\c"),
    ],
)
def test_quoted_keys(key, name):
    assert Places(f"{key} = 1").paths() == {(name,)}


@pytest.mark.parametrize(
    "text", ["x = {]\ny = 1", "x = {a\ny = 1", "x = [1 2\ny = 1", "x = {a=1 b}"]
)
def test_a_broken_value_ends_its_line_alone(text):
    places = Places(text)

    assert ("y",) in places.paths() or "\n" not in text


# -- duplicates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "first", "second"),
    [
        ("a = 1\na = 2\n", ("a",), (1, 1, 1), (2, 1, 1)),
        ("[a]\n[b]\n[a]\n", ("a",), (1, 1, 3), (3, 1, 3)),
        ("a = {}\n[a]\n", ("a",), (1, 1, 1), (2, 1, 3)),
        ("[a.b]\n[a]\nb = 1\n", ("a", "b"), (1, 1, 5), (3, 1, 1)),
        ("x = { a = 1, a = 2 }", ("x", "a"), (1, 7, 1), (1, 14, 1)),
        ("a = ['']\n[[a]]", ("a", 0), (1, 6, 2), (2, 1, 5)),
    ],
)
def test_a_duplicate_has_two_places(text, path, first, second):
    assert Places(text).duplicates == [(path, Span(*first), Span(*second))]


def test_the_second_header_goes_with_all_below_it():
    text = "[a]\nx = 1\n[a]\ny = 2\n[b]\nz = 3\n[b]\n"

    assert [text[start:end] for start, end in Places(text).repeated()] == ["[a]\ny = 2\n", "[b]\n"]


# -- limits ---------------------------------------------------------------------------------------


def test_as_many_dots_as_allowed():
    key = ".".join("a" * (MAX_DOTS + 1))

    assert len(Places(f"{key} = 1").paths()) == 1


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("x = 1\n" + ".".join("a" * (MAX_DOTS + 2)) + " = 1", 6),
        ("[" + ".".join("a" * (MAX_DOTS + 2)) + "]", 1),
        ("x = " + "[" * (MAX_DEPTH + 1), 4 + MAX_DEPTH),
        ("x = " + "{a=" * (MAX_DEPTH + 1), 4 + 3 * MAX_DEPTH),
        ("x = 1\ny = 0x" + "f" * 1001, 10),
    ],
)
def test_beyond_a_limit(text, offset):
    with pytest.raises(LimitError) as caught:
        Places(text)

    assert caught.value.offset == offset


def test_nesting_as_deep_as_allowed():
    assert len(Places("x = " + "[" * MAX_DEPTH + "]" * MAX_DEPTH).paths()) == MAX_DEPTH
