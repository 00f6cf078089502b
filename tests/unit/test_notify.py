"""What the parser of notify messages reads, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.notify import (
    LONGEST_S,
    MESSAGE_MAX_BYTES,
    NOTHING,
    STATUS_MAX_BYTES,
    MalformedError,
    Message,
    parse,
)


@pytest.mark.parametrize(
    ("datagram", "said"),
    [
        (b"READY=1", {"ready": True}),
        (b"READY=1\n", {"ready": True}),
        (
            b"RELOADING=1\nMONOTONIC_USEC=2500000",
            {"reloading": True, "monotonic": 2.5},
        ),
        (b"STOPPING=1", {"stopping": True}),
        (b"STATUS=serving 3", {"status": "serving 3"}),
        (b"STATUS=a=b", {"status": "a=b"}),
        (b"STATUS=", {"status": ""}),
        (b"ERRNO=2", {"errno": 2}),
        (b"EXIT_STATUS=3", {"exit_status": 3}),
        (b"MAINPID=4711", {"main_pid": 4711}),
        (b"WATCHDOG=1", {"watchdog": "ping"}),
        (b"WATCHDOG=trigger", {"watchdog": "trigger"}),
        (b"WATCHDOG_USEC=20000000", {"watchdog_s": 20.0}),
        (b"EXTEND_TIMEOUT_USEC=1500000", {"extend_timeout": 1.5}),
        (b"RESTART_RESET=1", {"restart_reset": True}),
        (b"BARRIER=1", {"barrier": True}),
        (b"FDSTORE=1\nFDNAME=web\nFDPOLL=0", {
            "store": True, "store_name": "web", "store_poll": False,
        }),
        (b"FDSTOREREMOVE=1\nFDNAME=web", {"store_remove": True, "store_name": "web"}),
        (b"READY=1\nSTATUS=first\nSTATUS=second", {"ready": True, "status": "first"}),
    ],
)  # fmt: skip
def test_each_key_is_read(datagram, said):
    assert parse(datagram) == Message(**said)


@pytest.mark.parametrize(
    "datagram",
    [
        b"READY=0", b"READY=yes", b"READY", b"ready=1", b" READY=1", b"X=1", b"\n\n", b"=1",
        b"MAINPID=0", b"MAINPID=-1", b"MAINPID=99999999", b"MAINPID= 1", b"MAINPID=1e3",
        b"MAINPID=" + b"9" * 4000, "MAINPID=٣".encode(), b"WATCHDOG=2", b"WATCHDOG_USEC=0",
        b"WATCHDOG_USEC=18446744073709551615", b"EXTEND_TIMEOUT_USEC=x", b"ERRNO=5000",
        b"EXIT_STATUS=256", b"FDNAME=a:b", b"FDNAME=", b"FDNAME=\x07", b"FDNAME=" + b"n" * 256,
        b"FDPOLL=1",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_passed_over(datagram):
    assert parse(datagram) == NOTHING


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "empty"),
        (b"READY=1\0", "nul_byte"),
        (b"READY=1\n" + b"x" * MESSAGE_MAX_BYTES, "too_long"),
    ],
)
def test_what_cannot_be_a_message_is_refused(datagram, reason):
    with pytest.raises(MalformedError) as refused:
        parse(datagram)

    assert str(refused.value) == reason


def test_a_status_cannot_pose_as_anything_else():
    said = parse(b"STATUS=\x1b[31mred\xff\x9b\r\t\xe2\x80\xa8x").status

    assert said is not None
    assert said.isprintable()
    assert "\x1b" not in said
    assert "\\x1b[31mred\\xff" in said


def test_a_long_status_is_cut():
    said = parse(b"STATUS=" + b"s" * 4000).status

    assert said == "s" * STATUS_MAX_BYTES


def test_a_length_beyond_all_reason_is_ten_years():
    assert parse(b"EXTEND_TIMEOUT_USEC=18446744073709551614").extend_timeout == LONGEST_S


@given(st.binary(max_size=5000))
def test_any_bytes_give_a_message_or_a_refusal(datagram):
    try:
        said = parse(datagram)
    except MalformedError:
        assert not datagram or len(datagram) > MESSAGE_MAX_BYTES or b"\0" in datagram
    else:
        assert said.status is None or said.status.isprintable()
        assert said.main_pid is None or said.main_pid > 0


@given(st.lists(st.sampled_from([b"READY=1", b"STATUS=x", b"MAINPID=7", b"NO=1", b"", b"="])))
def test_the_order_of_the_lines_does_not_matter(lines):
    one, other = b"\n".join([*lines, b"A=1"]), b"\n".join([b"A=1", *reversed(lines)])

    assert parse(one) == parse(other)
