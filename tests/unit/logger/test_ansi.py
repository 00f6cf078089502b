"""Colours go, words stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.logger.ansi import strip


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (b"plain\n", b"plain\n"),
        (b"\x1b[1;31mred\x1b[0m\n", b"red\n"),
        (b"\x1b[38;2;1;2;3mrgb\x1b[m\n", b"rgb\n"),
        (b"\x1b[2K\x1b[?25lspin\n", b"spin\n"),
        (b"\x1b]0;title\x07text\n", b"text\n"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", b"link\n"),
        (b"\x1b(Bcharset\x1b7\x1bM\n", b"charset\n"),
        (b"no end: \x1b]0;title\nnext\n", b"no end: \nnext\n"),
        (b"\x1b\ncut\x1b[1\n", b"\x1b\ncut\x1b[1\n"),
        ("\x1b[32mé\x1b[0m\n".encode(), "é\n".encode()),
    ],
)
def test_sequences_are_removed(written, left):
    assert strip(written) == left


@given(st.binary())
def test_no_newline_is_ever_removed(data):
    assert strip(data).count(b"\n") == data.count(b"\n")
