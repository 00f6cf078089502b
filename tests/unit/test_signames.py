"""Signals as people write them."""

import signal

import pytest

from supervisord_pidfd.signames import number_of

RTMIN, RTMAX = signal.SIGRTMIN, signal.SIGRTMAX


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        ("15", 15),
        ("RTMIN", RTMIN),
        ("SIGRTMIN+3", RTMIN + 3),
        ("RTMAX-1", RTMAX - 1),
    ],
)
def test_a_signal_is_known_by_its_name_or_number(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "32", "99999999999", "²", "SIG15", "DFL", "_DFL", "RTMIN-1", "RTMIN+31",
     "NSIG", "TERM ", "x\0"],
)  # fmt: skip
def test_what_names_no_signal_is_none(text):
    assert number_of(text) is None
