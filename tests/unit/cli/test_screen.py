"""What people see: safe text, tables that fit, moments and lengths in words."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.cli import screen
from supervisord_pidfd.cli.screen import Screen, ago, cut, escape, length, local, moment, size
from supervisord_pidfd.clock import rfc3339


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(environment=None, **options):
    return Screen(Terminal(), Terminal(), environment or {}, **options)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\x0alines"),
        ("büro", "büro"),
        ("\u202egnp", "\\xe2\\x80\\xaegnp"),
        ("\udcff", "\\xed\\xb3\\xbf"),
    ],
)
def test_text_that_would_move_the_cursor_is_escaped(text, safe):
    assert escape(text) == safe


@given(st.text())
def test_escaped_text_is_printable(text):
    assert escape(text).isprintable()


def test_columns_are_as_wide_as_their_widest_cell():
    lines = Screen(io.StringIO(), io.StringIO(), {}).table(("A", "B"), [("long cell", "x")])

    assert lines == ["A          B", "long cell  x"]


def test_a_table_is_cut_at_the_edge_of_the_terminal_and_nowhere_else():
    rows = [("web", "x" * 100)]
    (_, cut_line) = on_terminal().table(("A", "B"), rows)
    (_, whole_line) = Screen(io.StringIO(), io.StringIO(), {}).table(("A", "B"), rows)

    assert cut_line == "web  " + "x" * 74 + "…"
    assert whole_line == "web  " + "x" * 100


def test_wide_letters_take_two_columns():
    lines = on_terminal().table(None, [("日本", "a"), ("abcd", "b")])

    assert lines == ["日本  a", "abcd  b"]
    assert cut("日本語", 5) == "日本…"


@pytest.mark.parametrize(
    ("environment", "options", "coloured"),
    [({}, {}, True), ({"NO_COLOR": "1"}, {}, False), ({}, {"no_color": True}, False)],
)
def test_only_the_phase_is_coloured(environment, options, coloured):
    (line,) = on_terminal(environment, **options).table(None, [("web", "failed", "x")], phase=1)

    assert line == ("web  \x1b[31mfailed\x1b[0m  x" if coloured else "web  failed  x")


def test_a_pipe_gets_no_colour():
    (line,) = Screen(io.StringIO(), io.StringIO(), {}).table(None, [("failed", "x")], phase=0)

    assert line == "failed  x"


@given(st.integers(min_value=0, max_value=4102444800))
def test_moments_are_read_as_they_are_written(seconds):
    assert moment(rfc3339(seconds + 0.25)) == pytest.approx(seconds + 0.25)


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13", 5])
def test_what_is_no_moment_is_none(text):
    assert moment(text) is None
    assert local(text) == "-"


def test_moments_are_shown_in_local_time(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()

    assert local("2026-11-23T14:02:11.002Z") == "15:02:11"
    assert screen.clock_time("2026-11-23T14:02:11.002Z") == "15:02:11.002"


def test_a_moment_with_its_age():
    now = moment("2026-11-23T14:02:14.000Z")

    assert ago("2026-11-23T14:02:11.000Z", now) == "14:02:11 (3s ago)"
    assert ago("2026-11-20T14:02:11.000Z", now) == "2026-11-20 14:02:11 (3d 00h ago)"
    assert ago("2026-11-23T14:02:18.000Z", now) == "14:02:18 (in 4s)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (42, "42s"), (732, "12m 12s"), (16700, "4h 38m"), (273700, "3d 04h"), (None, "-")],
)
def test_lengths_in_two_units(seconds, text):
    assert length(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.41, "0.4s"), (9.96, "10s"), (61.6, "1m 02s")])
def test_fine_lengths(seconds, text):
    assert length(seconds, fine=True) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "-"), (0, "0 B"), (999, "999 B"), (212_000_000, "212 MB"), (1_200_000, "1.2 MB"),
        (1_250_000_000, "1.2 GB"), (5e15, "5000 TB"),
    ],
)  # fmt: skip
def test_amounts_of_bytes(amount, text):
    assert size(amount) == text
