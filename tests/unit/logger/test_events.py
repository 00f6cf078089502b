"""What an event looks like on a terminal and in JSON."""

import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.logger.events import (
    Format,
    Lost,
    escape,
    json_of,
    log_record,
    make_log,
    text_of,
)

EXITED = {
    "ts": "2026-11-23T14:02:11.002Z",
    "level": "warning",
    "event": "service.exited",
    "seq": 918,
    "service": "web",
    "group": "backend",
    "run": 41,
    "pid": 4117,
    "cause": "exit_code",
    "exit_code": 1,
    "signal": None,
    "core": False,
    "forced": False,
    "wanted": "up",
    "lasted_s": 2.0,
    "max_rss_bytes": None,
    "user_cpu_s": 0.25,
    "system_cpu_s": 0.0,
}


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def render(line, form=Format.JSON, *, colour=False):
    written = []
    log = make_log(written.append, form, colour=colour)
    log_record(log, line, lambda: "2026-11-23T14:02:12.000Z")
    return b"".join(written)


def test_text_is_the_example_of_the_reference():
    assert text_of(EXITED) == (
        "14:02:11.002 -- service.exited web cause=exit_code exit_code=1 lasted_s=2.0"
    )


def test_text_tells_the_local_time(monkeypatch):
    monkeypatch.setitem(os.environ, "TZ", "EST5")
    time.tzset()

    assert text_of(EXITED).startswith("09:02:11.002 ")


def test_text_shows_flags_only_when_they_are_true():
    assert "forced=true" in text_of(EXITED | {"forced": True})
    assert "forced" not in text_of(EXITED)


def test_text_leaves_out_the_change_of_phase():
    event = {**EXITED, "event": "service.restart_scheduled", "attempt": 8}

    line = text_of(event | {"phase_from": "running", "phase_to": "backoff"})

    assert "attempt=8" in line
    assert "phase" not in line


def test_text_of_a_daemon_event_shows_service_and_pid_as_fields():
    stopping = {"ts": EXITED["ts"], "level": "info", "event": "daemon.stopping", "seq": 1}

    line = text_of(stopping | {"by": "service", "service": "db", "pid": 7})

    assert line == "14:02:11.002 -- daemon.stopping by=service service=db pid=7"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/etc/x.toml", "/etc/x.toml"),
        ("operator:0", "operator:0"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"', r'"say \"x\""'),
        ("a=b", '"a=b"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("a\nb", r'"a\x0ab"'),
        (os.fsdecode(b"caf\xe9"), r'"caf\xe9"'),
        ("\u2028", r'"\xe2\x80\xa8"'),
        ("\u202e", r'"\xe2\x80\xae"'),
        ("\ud800", r'"\xed\xa0\x80"'),
        ("é", '"é"'),
        (["pidfs", "cgroup"], "pidfs,cgroup"),
        ({"a": 1}, r'"{\"a\": 1}"'),
        (True, "true"),
        (0.1 + 0.2, "0.3"),
        (7, "7"),
    ],
)
def test_text_value(value, shown):
    assert text_of(EXITED | {"cause": value}).partition("cause=")[2].startswith(shown)


def test_text_survives_an_event_with_nothing_in_it():
    assert text_of({}) == "--:--:--.--- -- ?"


@given(st.text())
def test_escape_leaves_only_what_can_be_printed(text):
    assert escape(text).isprintable()


def test_only_the_level_is_coloured():
    line = text_of(EXITED, colour=True)

    assert line.startswith("14:02:11.002 -- \x1b[33mservice.exited\x1b[0m web ")
    assert "\x1b" not in text_of(EXITED | {"level": "info"}, colour=True)


def test_json_is_the_event_object_in_its_order():
    line = json.dumps(EXITED).encode()

    rendered = render(line)

    assert list(json.loads(rendered).items()) == list(EXITED.items())
    assert rendered.startswith(b'{"ts":"2026-11-23T14:02:11.002Z","level":"warning","event":"ser')
    assert rendered.endswith(b"}\n")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_json_is_one_line_of_valid_utf8_that_reads_back(event):
    line = json_of(event)

    assert line.encode().count(b"\n") == 0
    assert len(line.splitlines()) == 1
    assert json.loads(line) == event


def test_json_turns_what_is_no_unicode_into_the_replacement_character():
    assert json.loads(json_of({"path": "caf\udce9"})) == {"path": "caf\ufffd"}


def test_members_named_like_our_parameters_are_kept():
    event = {"level": "info", "event": "x.y", "self": 1, "record": 2, "exc_info": True}

    assert json.loads(render(json.dumps(event).encode())) == event


def test_an_endless_length_is_null_in_json_and_absent_in_text():
    line = b'{"event":"service.stopping","service":"web","run":1,"timeout_s":Infinity}'

    assert json.loads(render(line))["timeout_s"] is None
    assert render(line, Format.TEXT).endswith(b"service.stopping web\n")


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"", b"[1]", b"null", b"\xff\xfe", b'{"a":1e999}', b"[" * 100_000],
)
def test_a_record_that_cannot_be_read_is_shown_not_fatal(line):
    shown = json.loads(render(line))

    assert shown["event"] == "log.unreadable"
    assert shown["text"] == line.decode(errors="replace")


def test_a_record_that_cannot_be_read_is_escaped_in_text():
    assert render(b"bad\xff\x07", Format.TEXT) == (
        b'14:02:12.000 -- log.unreadable text="bad\\xff\\x07"\n'
    )


def test_an_unknown_level_is_shown_all_the_same():
    assert json.loads(render(b'{"level":"loud","event":"x"}'))["level"] == "loud"


def test_lost_lines_leave_a_mark_that_counts_them():
    lost = Lost()
    lost.add(1200, 88000, "2026-11-23T14:02:11.002Z")
    lost.add(4, 112, "2026-11-23T14:02:19.900Z")

    assert lost.mark(Format.TEXT) == (
        b"-- 1204 lines (88112 bytes) dropped: write_error, 14:02:11 to 14:02:19 --\n"
    )
    told = json.loads(lost.mark(Format.JSON))
    assert (told["event"], told["lines"], told["bytes"]) == ("log.dropped", 1204, 88112)
