"""Bytes of XML-RPC from strangers, and to clients of any age."""

from xmlrpc import client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.gateway.xmlrpc import DEPTH_MAX, Call, UnreadableError, answer, fault, read

NAME = "supervisor.getPID"


def call(*params, name=NAME):
    return client.dumps(params, name).encode()


def wrapped(text):
    """Put a value into a call, as text."""
    return (
        f"<methodCall><methodName>a</methodName><params><param><value>{text}</value></param>"
        "</params></methodCall>"
    ).encode()


@pytest.mark.parametrize(
    "params",
    [(), ("web",), (1, -5, True), (["a", {"b": [2.5]}],), ("", "ä\U0001f600 <&>"), (b"\0\1",)],
)
def test_what_the_library_writes_is_read(params):
    assert read(call(*params)) == Call(NAME, params)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "us-ascii"])
def test_a_client_may_say_how_it_encodes(encoding):
    head = f"<?xml version='1.0' encoding='{encoding}'?>".encode()

    assert read(head + wrapped("<string>x</string>")) == Call("a", ("x",))


BOMB = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>' + wrapped(
    "<string>&c;</string>"
)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (BOMB, "declares nothing"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + wrapped("x"), "declares nothing"),
        (wrapped("<array><data><value>" * 20 + "x" + "</value></data></array>" * 20), "deeply"),
        (b"", "not an XML-RPC call"),
        (b"{}", "not an XML-RPC call"),
        (call()[:-5], "not an XML-RPC call"),
        (wrapped("<int>x</int>"), "not an XML-RPC call"),
        (wrapped(f"<int>{'9' * 5000}</int>"), "not an XML-RPC call"),
        (wrapped("&undefined;"), "not an XML-RPC call"),
        (client.dumps((1,), methodresponse=True).encode(), "names a method"),
        (client.dumps(client.Fault(1, "x"), methodresponse=True).encode(), "not an XML-RPC call"),
        (b"<methodCall><params></params></methodCall>", "names a method"),
        (b"<methodCall><methodName></methodName></methodCall>", "names a method"),
    ],
)
def test_whatever_is_no_call_is_refused(body, why):
    with pytest.raises(UnreadableError, match=why):
        read(body)


def test_a_call_may_be_as_deep_as_one_of_many_calls():
    nested = [{"methodName": "a", "params": [{"b": [["c"]]}]}]

    assert read(call(nested)).params == (nested,)
    assert DEPTH_MAX > 20


WORDS = (
    "methodCall methodName params param value int i8 double boolean string base64 array data"
    " struct member name nil fault dateTime.iso8601 biginteger bigdecimal ex:nil what"
)
TAGS = st.sampled_from(WORDS.split())


@given(
    st.lists(
        st.builds("<{}>".format, TAGS)
        | st.builds("</{}>".format, TAGS)
        | st.sampled_from(["1", "x", "true", "NaN", "AA==", "2000"]),
        max_size=30,
    ).map("".join)
)
def test_no_text_brings_the_reader_down(text):
    try:
        found = read(f"<methodCall>{text}</methodCall>".encode())
    except UnreadableError:
        return
    assert found.method


@given(st.binary(max_size=200))
def test_no_bytes_bring_the_reader_down(body):
    with pytest.raises(UnreadableError):
        read(b"<methodCall>" + body)


@given(st.text())
def test_every_text_can_be_answered(text):
    (back,), _ = client.loads(answer({"log": [text]}))

    assert len(back["log"][0]) == len(text.replace("\r\n", "\n"))


def test_what_xml_has_no_character_for_is_a_question_mark():
    (back,), _ = client.loads(answer("\x1b[31mred\0\ud800"))
    assert back == "?[31mred??"

    with pytest.raises(client.Fault, match="no \\?") as caught:
        client.loads(fault(10, "no \x07"))
    assert caught.value.faultCode == 10
