"""Problems as a person sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.problems import (
    WINDOW,
    Problem,
    as_json,
    has_errors,
    in_order,
    render,
    shown,
)


def problem(line=1, column=1, *, file="a.toml", severity="error", **members):
    return Problem(file, line, column, severity, "bad-value", "k", "k: wrong", **members)


def test_text_form():
    first = problem(3, 16, hint='write "10s"', source='timeout = "soon"', caret=11, width=6)
    second = problem(4, 1, severity="warning", see_also=("b.toml:4:1",), file="c.toml")

    assert render([first, second]) == (
        'a.toml:3:16: error: k: wrong (write "10s") [bad-value]\n'
        '    3 | timeout = "soon"\n'
        "      |           ^^^^^^\n"
        "c.toml:4:1: warning: k: wrong [bad-value]\n"
        "see also b.toml:4:1\n"
        "1 error, 1 warning in 2 files\n"
    )


def test_tabs_stay_tabs_so_that_carets_stand_below():
    text = render([problem(1, 3, source="\ta\tb", caret=4)])

    assert "\n      | \t \t^\n" in text


def test_control_characters_of_names_are_written_out():
    text = render([problem(file="a\x1b[2J\udcff", see_also=("\x07:1:1",))])

    assert text.startswith("a\\x1b[2J\\udcff:1:1: error")
    assert "see also \\x07:1:1\n" in text


def test_json_has_the_members_of_the_interface():
    assert list(as_json(problem(see_also=("b:1:1",)))) == [
        "file", "line", "column", "severity", "code", "key", "message", "hint", "source",
        "see_also",
    ]  # fmt: skip


def test_order_is_file_line_column_and_nothing_twice():
    mixed = [problem(2, 5), problem(10, 1), problem(2, 1), problem(2, 5), problem(1, 9, file="0")]

    assert [(p.file, p.line, p.column) for p in in_order(mixed)] == [
        ("0", 1, 9), ("a.toml", 2, 1), ("a.toml", 2, 5), ("a.toml", 10, 1),
    ]  # fmt: skip


def test_warnings_are_no_errors():
    assert not has_errors([problem(severity="warning")])
    assert has_errors([problem(severity="warning"), problem()])


def test_a_masked_value_moves_what_is_after_it():
    line = 'PASSWORD = "hunter2", b = 3'

    assert shown(line, 27, 1, [(12, 9)]) == ('PASSWORD = "…", b = 3', 21, 1)


def test_carets_on_a_masked_value_cover_the_mask():
    assert shown('KEY = "hunter2"', 7, 9, [(7, 9)]) == ('KEY = "…"', 7, 3)


def test_control_characters_are_written_out():
    assert shown("a\x1b[0m\u2028b", 12, 1)[0] == "a\\x1b[0m\\u2028b"


def test_carets_after_a_control_character_move_with_it():
    assert shown("\x00b", 2, 1) == ("\\x00b", 5, 1)


def test_a_long_line_is_cut_around_the_place():
    text, caret, width = shown("a" * 500 + "HERE" + "b" * 500, 501, 4)

    assert text[caret - 1 :][:width] == "HERE"
    assert text.startswith("…")
    assert text.endswith("…")
    assert len(text) == WINDOW + 2


def test_a_long_line_is_not_cut_before_its_start():
    text, caret, width = shown("HERE" + "b" * 500, 1, 4)

    assert (text[:4], caret, width) == ("HERE", 1, 4)


def test_a_long_line_is_not_cut_after_its_end():
    text, caret, width = shown("a" * 500 + "HERE", 501, 9)

    assert (text[-4:], text[caret - 1 :], width) == ("HERE", "HERE", 4)


@given(
    st.text(max_size=400), st.integers(1, 500), st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 50)), max_size=3),
)  # fmt: skip
def test_carets_stay_on_the_line(line, column, width, masks):
    text, caret, carets = shown(line, column, width, masks)

    assert 1 <= caret <= len(text) + 1
    assert carets >= 1
    assert caret + carets <= len(text) + 2
    assert text.replace("\t", "").isprintable()


@pytest.mark.parametrize("column", [1, 9, 40])
def test_a_masked_text_is_never_seen(column):
    assert "hunter" not in shown('KEY = "hunter2" # x', column, 3, [(7, 9)])[0]
