"""Durations, sizes, signals, modes, addresses: text to value, and back."""

import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.units import (
    TEN_YEARS,
    NotAUnitError,
    format_duration,
    format_signal,
    parse_address,
    parse_cpus,
    parse_duration,
    parse_signal,
    parse_size,
    parse_umask,
    quoted,
)

ANYTHING = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()), st.integers(10**300, 10**400),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("5s", 5), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("1w", 604800),
        ("250us", 0.00025), ("1.5s", 1.5), (5, 5), (0.25, 0.25), (0, 0), ("7", 7), ("0s", 0),
        ("520w", 520 * 604800),
    ],
)  # fmt: skip
def test_duration(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("soon", "not a duration: 'soon'"),
        ("", "not a duration: ''"),
        ("5 s", "not a duration: '5 s'"),
        ("-5s", "not a duration: '-5s'"),
        ("1e3s", "not a duration: '1e3s'"),
        ("٣s", "not a duration: '٣s'"),
        (-1, "must not be negative: -1"),
        (-0.5, "must not be negative: -0.5"),
        (math.nan, "not a duration: nan"),
        (math.inf, "longer than 10 years: inf"),
        (10**400, "longer than 10 years: a number of more than 40 digits"),
        ("600w", "longer than 10 years: '600w'"),
        ("infinity", "must not be infinite"),
        (True, "not a duration: true"),
        (None, "not a duration: None"),
        ([5], "not a duration: a list"),
    ],
)
def test_no_duration(value, message):
    with pytest.raises(NotAUnitError) as caught:
        parse_duration(value)

    assert caught.value.message == message


def test_infinity_only_where_it_is_allowed():
    assert parse_duration("infinity", infinite=True) == math.inf


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (90, "1m30s"), (0.1, "100ms"), (0, "0s"), (math.inf, "infinity"), (0.000001, "1us"),
        (86400, "1d"), (604800 + 1.5, "1w1s500ms"),
    ],
)  # fmt: skip
def test_duration_in_its_shortest_form(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(0, TEN_YEARS))
def test_a_printed_duration_means_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(ANYTHING)
def test_a_duration_is_a_length_or_refused(value):
    try:
        seconds = parse_duration(value)
    except NotAUnitError:
        return

    assert 0 <= seconds <= TEN_YEARS


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0), (17, 17), ("17", 17), ("1B", 1), ("50MB", 50_000_000), ("64KiB", 65536),
        ("1K", 1024), ("2G", 2 << 30), ("1TB", 10**12), ("1.5GiB", 3 << 29), ("10 MB", 10**7),
        ("0.5K", 512),
    ],
)  # fmt: skip
def test_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "big", "5 years", "5kb", -1, 2**63, "9999999999TB", True, 1.5, None, "5Kib"]
)
def test_no_size(value):
    with pytest.raises(NotAUnitError):
        parse_size(value)


@given(ANYTHING)
def test_a_size_is_a_number_of_bytes_or_refused(value):
    try:
        size = parse_size(value)
    except NotAUnitError:
        return

    assert 0 <= size < 2**63


@pytest.mark.parametrize(
    ("text", "signum"),
    [
        ("TERM", 15), ("SIGTERM", 15), ("sigint", 2), (15, 15), ("RTMIN", signal.SIGRTMIN),
        ("RTMIN+3", signal.SIGRTMIN + 3), ("SIGRTMAX-1", signal.SIGRTMAX - 1), ("KILL", 9),
    ],
)  # fmt: skip
def test_signal(text, signum):
    assert parse_signal(text) == signum


@pytest.mark.parametrize(
    "value",
    ["", "FOO", "15", 0, 32, 65, -1, True, 1.0, None, "RTMIN+99", "RTMAX-40", "_IGN", "DFL"],
)
def test_no_signal(value):
    with pytest.raises(NotAUnitError):
        parse_signal(value)


@given(st.sampled_from(sorted(signal.valid_signals())))
def test_a_printed_signal_means_the_same(signum):
    assert parse_signal(format_signal(signum)) == signum


def test_a_number_without_a_name_is_printed_as_it_is():
    assert format_signal(99) == "99"


def test_real_time_signals_are_printed_from_the_first():
    assert format_signal(signal.SIGRTMIN + 3) == "SIGRTMIN+3"


@pytest.mark.parametrize(
    ("text", "bits"), [("022", 0o22), ("0077", 0o77), ("0", 0), ("777", 0o777)]
)
def test_umask(text, bits):
    assert parse_umask(text) == bits


@pytest.mark.parametrize("value", ["", "8", "1777", "0o22", 22, True, "rwx"])
def test_no_umask(value):
    with pytest.raises(NotAUnitError):
        parse_umask(value)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:9877", "0.0.0.0:0", "[::1]:80", "unix:/run/x.sock", "unix:x.sock"]
)
def test_address(text):
    assert parse_address(text) == text


@pytest.mark.parametrize(
    "value",
    ["", "localhost:80", ":80", "127.0.0.1", "1.2.3.4:70000", "::1:80", "[1.2.3.4]:80", "unix:",
     "1.2.3:80", 80, "unix:a\0b", "1.2.3.4:", "\0:80", "[::1]:x"],
)  # fmt: skip
def test_no_address(value):
    with pytest.raises(NotAUnitError):
        parse_address(value)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0-3,6", (0, 1, 2, 3, 6)), ("2, 1", (1, 2)), ("1,1-2", (1, 2))],
)
def test_processors(text, cpus):
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("value", ["", "3-1", "a", "0-9999", "1,", 3, "0," * 5000, "-1"])
def test_no_processors(value):
    with pytest.raises(NotAUnitError):
        parse_cpus(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1b[0m", "'a\\x1b[0m'"), (True, "true"), (False, "false"), ({}, "a table"),
        ([], "a list"), (3.5, "3.5"), (10**50, "a number of more than 40 digits"),
        ("x" * 100, "'" + "x" * 79 + "…"),
    ],
)  # fmt: skip
def test_a_value_in_a_message(value, text):
    assert quoted(value) == text


@given(ANYTHING)
def test_a_quoted_value_is_short_and_printable(value):
    assert len(quoted(value)) <= 400
    assert quoted(value).isprintable()
