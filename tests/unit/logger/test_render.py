"""What lines look like in each form, and that none can pose as another."""

import base64
import json
import os
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisord_pidfd.core.spec import LogFormat
from supervisord_pidfd.logger.lines import Batch
from supervisord_pidfd.logger.render import Dropped, Interrupted, escape, mark, render

WALL = 1795874527.123  # 2026-11-28T14:02:07.123Z


@pytest.fixture(autouse=True, scope="module")
def utc():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def batch(data, *, stream="stdout", partial=False, torn=False):
    return Batch("web", stream, 41, 1873, WALL, data, partial=partial, torn=torn)


def text(data, **options):
    return render(batch(data, **options), LogFormat.TEXT)


def objects(data, **options):
    lines = render(batch(data, **options), LogFormat.JSON).split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line.decode("utf-8")) for line in lines]


def test_text_is_the_example_of_the_reference():
    assert text(b"GET /health 200\n") == b"14:02:07.123 web      | GET /health 200\n"


def test_each_stream_has_its_own_bar():
    assert text(b"x\n", stream="stderr") == b"14:02:07.123 web     !| x\n"
    assert text(b"x\n", stream="hook") == b"14:02:07.123 web     #| x\n"


def test_text_puts_time_and_name_before_every_line():
    assert text(b"a\n\nb\n") == (
        b"14:02:07.123 web      | a\n14:02:07.123 web      | \n14:02:07.123 web      | b\n"
    )


def test_text_says_that_a_line_goes_on():
    assert text(b"a\nb\n", partial=True).endswith(b"| a\n14:02:07.123 web      | b\\\n")
    assert text(b"a\n", torn=True).endswith(b"| a\n")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"tab\tand \\ stay\n", b"tab\tand \\ stay\n"),
        ("é € 😀\n".encode(), "é € 😀\n".encode()),
        (b"a\x00b\x1b[31m\r\x7f\n", rb"a\x00b\x1b[31m\x0d\x7f" + b"\n"),
        ("c1 \u0085 \u009b.\n".encode(), rb"c1 \xc2\x85 \xc2\x9b." + b"\n"),
        ("ends \u2028\u2029\n".encode(), rb"ends \xe2\x80\xa8\xe2\x80\xa9" + b"\n"),
        ("nbsp \u00a0é\u2030\n".encode(), "nbsp \u00a0é\u2030\n".encode()),
        (
            b"bad \xff\xc3 \xed\xa0\x80 \x01 \xc3\xa9\n",
            rb"bad \xff\xc3 \xed\xa0\x80 \x01 " + b"\xc3\xa9\n",
        ),
    ],
)
def test_text_escapes_what_is_not_to_be_printed(written, shown):
    assert escape(written) == shown


@given(st.binary() | st.text().map(str.encode))
@example(b"\xc2\x80\xc2")
@example(b"\x1b?")
def test_escaped_text_is_printable_and_says_every_byte(data):
    shown = escape(data)
    back = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), shown)

    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", shown.decode("utf-8"))
    assert shown.count(b"\n") == data.count(b"\n")
    if b"\\x" not in data:
        assert back == data


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), min_size=1))
def test_no_line_of_text_is_without_its_prefix(lines):
    shown = text(b"".join(line + b"\n" for line in lines)).decode().split("\n")

    assert shown.pop() == ""
    assert [line[:24] for line in shown] == ["14:02:07.123 web      | "] * len(lines)


def test_raw_is_what_the_service_wrote():
    assert render(batch(b"\x00\xff\x1b\n"), LogFormat.RAW) == b"\x00\xff\x1b\n"
    assert render(batch(b"half\n", partial=True), LogFormat.RAW) == b"half"
    assert render(batch(b"end\n", torn=True), LogFormat.RAW) == b"end"


def test_json_is_the_example_of_the_reference():
    assert render(batch(b"GET /health 200\n"), LogFormat.JSON) == (
        b'{"ts":"2026-11-28T14:02:07.123Z","service":"web","stream":"stdout","run":41,'
        b'"seq":1873,"msg":"GET /health 200"}\n'
    )


def test_json_numbers_each_line():
    assert [(one["seq"], one["msg"]) for one in objects(b"a\n\nb\n")] == [
        (1873, "a"),
        (1874, ""),
        (1875, "b"),
    ]


def test_json_says_which_line_is_split():
    assert [one.get("partial") for one in objects(b"a\nb\n", partial=True)] == [None, True]
    assert objects(b'{"a":1}\n', partial=True)[0]["partial"] is True
    assert "partial" not in objects(b"a\n", torn=True)[0]


def test_a_line_that_is_an_object_is_not_wrapped():
    (one,) = objects(b'{"level":"info","msg":"hi","n":1.50}\n')

    assert one == {
        "ts": "2026-11-28T14:02:07.123Z",
        "service": "web",
        "stream": "stdout",
        "run": 41,
        "seq": 1873,
        "level": "info",
        "msg": "hi",
        "n": 1.5,
    }


def test_the_numbers_of_an_object_stay_as_written():
    shown = render(batch(b'{"n":1.50,"big":123456789012345678901234567890.10}\n'), LogFormat.JSON)

    assert b'"n":1.50,"big":123456789012345678901234567890.10}' in shown


@pytest.mark.parametrize("name", ["ts", "time", "timestamp"])
def test_an_object_with_a_time_keeps_its_own(name):
    (one,) = objects(b'{"%s":5}\n' % name.encode())

    assert {key: one[key] for key in ("ts", "time", "timestamp") if key in one} == {name: 5}


def test_a_member_called_like_ours_is_renamed():
    (one,) = objects(b'{ "service" : "x" , "a":[{"run":1}],"seq":{"b":2} , "app_seq":3}\n')

    assert (one["service"], one["run"], one["seq"]) == ("web", 41, 1873)
    assert (one["app_service"], one["a"]) == ("x", [{"run": 1}])
    assert (one["app_seq"], one["app_app_seq"]) == (3, {"b": 2})


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}x",
        b'{"a":NaN}',
        b'{"a":1,}',
        b"[1]",
        b"{'a':1}",
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_for_everybody_is_a_message(line):
    (one,) = objects(line + b"\n")

    assert one["msg"].encode() == line


def test_an_empty_object_and_one_with_spaces_are_objects():
    assert [one.get("msg") for one in objects(b'{}\n  {"a":1} \r\nx\n')] == [None, None, "x"]


def test_bytes_that_are_no_text_are_shown_and_kept():
    bad, good = objects(b"caf\xe9\nplain\n")

    assert (bad["msg"], base64.b64decode(bad["raw"])) == ("caf\ufffd", b"caf\xe9")
    assert (good["msg"], "raw" in good) == ("plain", False)


@given(
    st.lists(
        st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")), min_size=1
    ).map(lambda lines: [line.replace(b"\n", b"") for line in lines])
)
@example([b'"', b"\\", b"\t", b"\x7f"])
@example([b"{", "\u2028".encode()])
def test_every_line_comes_back_from_json(lines):
    shown = render(batch(b"".join(line + b"\n" for line in lines)), LogFormat.JSON)

    assert len(shown.decode().splitlines()) == len(lines)
    for line, one in zip(lines, map(json.loads, shown.splitlines()), strict=True):
        back = base64.b64decode(one["raw"]) if "raw" in one else one.get("msg", "").encode()
        assert back == line or line.strip(b" \t\r").startswith(b"{")


@given(
    st.dictionaries(
        st.sampled_from(["service", "run", "ts", "msg", "raw", "partial", "a", "é"]),
        st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5),
    ),
    st.booleans(),
)
def test_no_member_of_an_object_is_lost(members, ascii_only):
    line = json.dumps(members, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    (one,) = objects(line + b"\n")

    for name, value in members.items():
        ours = name in {"service", "run", "partial"}
        assert one[f"app_{name}" if ours else name] == value
    assert (one["service"], one["run"], one["seq"]) == ("web", 41, 1873)


DROPPED = Dropped("web", "stdout", 41, 1204, 88112, "overflow", WALL + 4, WALL + 12)


def test_the_mark_is_the_one_of_the_reference():
    assert mark(DROPPED, LogFormat.RAW) == (
        b"-- 1204 lines (88112 bytes) dropped: overflow, 14:02:11 to 14:02:19 --\n"
    )


def test_a_mark_in_text_cannot_be_written_by_a_service():
    assert mark(DROPPED, LogFormat.TEXT) == (
        b"14:02:19.123 web      -- 1204 lines (88112 bytes) dropped: overflow, "
        b"14:02:11 to 14:02:19 --\n"
    )


def test_a_mark_in_json_is_an_event():
    assert json.loads(mark(DROPPED, LogFormat.JSON)) == {
        "ts": "2026-11-28T14:02:19.123Z",
        "level": "warning",
        "event": "log.dropped",
        "service": "web",
        "stream": "stdout",
        "run": 41,
        "lines": 1204,
        "bytes": 88112,
        "reason": "overflow",
        "from": "2026-11-28T14:02:11.123Z",
        "to": "2026-11-28T14:02:19.123Z",
    }


@pytest.mark.parametrize("form", LogFormat)
def test_the_next_logger_marks_where_it_goes_on(form):
    shown = mark(Interrupted("web", "stdout", 41, 65536, WALL), form)

    assert shown.count(b"\n") == 1
    assert b"65536" in shown
