"""Messages between core and logger, and the counters that both see."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd import logwire
from supervisord_pidfd.logwire import Counters, Slot


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_a_message_comes_back_as_it_was_sent(message):
    assert logwire.unpack(logwire.pack(message)) == message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 60000, b"1"])
def test_what_makes_no_sense_is_empty(data):
    assert logwire.unpack(data) == {}


def test_a_message_beyond_the_limit_is_a_bug():
    with pytest.raises(ValueError, match="a message of"):
        logwire.pack({"text": "x" * logwire.MESSAGE_BYTES})


def test_descriptors_ride_along_and_the_end_is_told():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    with ours, theirs:
        socket.send_fds(ours, [logwire.pack({"run": 1})], [read_end])
        message, (got,) = logwire.receive(theirs)
        os.write(write_end, b"x")

        assert message == {"run": 1}
        assert os.read(got, 10) == b"x"
        assert not os.get_inheritable(got)
        ours.close()
        assert logwire.receive(theirs) is None
    for fd in (read_end, write_end, got):
        os.close(fd)


@pytest.fixture
def counters():
    made = Counters.create()
    yield made
    made.close()
    os.close(made.fileno())


def test_a_slot_counts_and_can_be_cleared(counters):
    counters.reserve(3)
    counters.add(3, Slot._fields.index("lines"), 2)
    counters.add(3, Slot._fields.index("lines"), 3)
    counters.add(3, Slot._fields.index("blocked_us"), 7)

    assert counters.read(3) == Slot(lines=5, blocked_us=7)
    assert counters.read(2) == Slot()
    counters.clear(3)
    assert counters.read(3) == Slot()


def test_the_other_side_sees_slots_that_were_reserved_after_it_came(counters):
    counters.reserve(0)
    other = Counters(counters.fileno())
    counters.reserve(1000)
    other.add(1000, 0, 5)

    assert counters.read(1000).stdout_bytes == 5
    other.close()


def test_a_slot_has_room_for_more_words_than_it_has_names():
    assert len(Slot._fields) <= logwire.SLOT_WORDS
