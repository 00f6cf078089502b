"""Messages of the control socket: cut whole, read strictly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd import wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def messages_of(framer):
    found = []
    while (message := framer.next()) is not None:
        found.append(message)
    return found


@given(
    st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"")), max_size=8), st.data()
)
def test_messages_come_out_whole_however_they_are_cut(messages, data):
    stream = b"".join(message + b"\0" for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer = wire.Framer(20)
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        framer.feed(stream[begin:end])
        found += messages_of(framer)

    assert found == messages
    assert len(framer) == 0


@pytest.mark.parametrize("tail", [b"", b"\0"])
def test_a_message_longer_than_the_limit_is_refused_whole_or_not(tail):
    framer = wire.Framer(10)
    framer.feed(b"x" * 11 + tail)

    with pytest.raises(wire.TooLargeError):
        framer.next()


def test_a_message_as_long_as_the_limit_is_taken():
    framer = wire.Framer(10)
    framer.feed(b"x" * 10)
    assert framer.next() is None
    framer.feed(b"\0")

    assert framer.next() == b"x" * 10


@pytest.mark.parametrize(
    "message",
    [
        b"", b"[]", b"1", b'"x"', b"null", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":-Infinity}', b'{"a":1e9999}', b'{"a":9223372036854775808}', b'{"a":"\\ud800"}',
        b'{"\\udfff":1}', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b"{}{}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 17 + b"]" * 17 + b"}", b"[" * 30000, b'{"a":' * 10000,
    ],
)  # fmt: skip
def test_what_is_no_strict_json_object_is_refused(message):
    with pytest.raises(wire.WireError):
        wire.decode(message)


def test_sixteen_levels_are_not_too_deep():
    message = b'{"a":' + b"[" * 15 + b"]" * 15 + b"}"

    assert "a" in wire.decode(message)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_what_is_written_is_read_back(parameters):
    written = wire.call("a.B", parameters, more=True)

    assert wire.request_of(written[:-1]) == wire.Request("a.B", parameters, more=True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_refused(data):
    try:
        request = wire.request_of(data)
    except wire.WireError:
        return

    assert type(request.method) is str
    assert type(request.parameters) is dict


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        b'{"a":' * 18 + b"1" + b"}" * 18,
        b'{"method":1}',
        b'{"method":"a","parameters":[]}',
        b'{"method":"a","more":1}',
    ],
)
def test_what_is_no_call_is_refused(message):
    with pytest.raises(wire.WireError):
        wire.request_of(message)


def test_replies_and_errors_have_their_shape():
    assert wire.reply({"a": 1}) == b'{"parameters":{"a":1}}\0'
    assert json.loads(wire.reply({}, continues=True)[:-1])["continues"] is True
    assert wire.error("x.Y", {"a": None}) == b'{"error":"x.Y","parameters":{"a":null}}\0'
    assert wire.call("m", {}, oneway=True) == b'{"method":"m","parameters":{},"oneway":true}\0'


def test_text_that_no_encoding_has_becomes_question_marks():
    assert wire.plain({"a": "\udc80"}) == b'{"a":"?"}'


def test_an_ordinary_fraction_is_read_as_one():
    assert wire.decode(b'{"a":2.5}') == {"a": 2.5}
