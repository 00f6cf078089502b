"""What clients of `logs` are told of the lines in a ring, and which lines are chosen for them."""

import base64
import json
import math

import pytest

from supervisord_pidfd.logger.clients import Selection, Wanted, wanted_of
from supervisord_pidfd.logger.lines import Batch
from supervisord_pidfd.logger.replies import LINE_BYTES, lines_in, replies
from supervisord_pidfd.logger.ring import BATCH_BYTES, Rings
from tests.support.interface import INTERFACE

EVERYTHING = Wanted(None, None, -math.inf, None, None, follow=False)


def batch(data, **members):
    return Batch(
        **{"service": "web", "stream": "stdout", "run": 3, "seq": 7, "wall": 0.0, "data": data}
        | members
    )


def told(found):
    """Read replies, each of which is as declared and says that more follow."""
    lines = []
    for reply in found:
        assert reply.endswith(b"\0")
        message = json.loads(reply[:-1])
        assert message["continues"] is True
        assert not INTERFACE.wrong_in_reply("Logs", message["parameters"])
        lines.append(message["parameters"]["line"])
    return lines


def of(batch, skip=0, missed=0):
    return told(replies(batch, skip, missed))


def test_each_line_is_a_reply_with_its_number():
    assert of(batch(b"one\n\nthree\n", wall=1.5)) == [
        {
            "ts": "1970-01-01T00:00:01.500Z", "service": "web", "stream": "stdout", "run": 3,
            "seq": seq, "msg": msg, "partial": False,
        }
        for seq, msg in ((7, "one"), (8, ""), (9, "three"))
    ]  # fmt: skip


def test_control_characters_arrive_as_they_were_written():
    assert of(batch(b'\x1b[31m"\\\t\x00\r\n'))[0]["msg"] == '\x1b[31m"\\\t\x00\r'


def test_a_line_that_is_no_utf8_is_repeated_as_it_is():
    (line,) = of(batch(b"caf\xe9\n"))

    assert line["msg"] == "caf\ufffd"
    assert base64.b64decode(line["raw"]) == b"caf\xe9"


@pytest.mark.parametrize(
    ("found", "partial"),
    [
        (batch(b"a\nb\n"), False),
        (batch(b"a\nb\n", partial=True), True),
        (batch(b"a\nb\n", torn=True), False),
        (batch(b"a\nb"), True),  # raw output, in the middle of a line
        (batch(b"a\nb", torn=True), False),
    ],
)
def test_the_last_line_alone_goes_on_in_the_next(found, partial):
    first, last = of(found)

    assert (first["partial"], last["partial"]) == (False, partial)
    assert last["msg"] == "b"
    assert lines_in(found) == 2


def test_a_line_without_end_is_split_between_characters():
    data = "€".encode() * 20_000
    lines = of(batch(data + b"\n"))

    assert len(lines) == 4
    assert "".join(line["msg"] for line in lines) == data.decode()
    assert all(len(line["msg"].encode()) <= LINE_BYTES for line in lines)
    assert [line["partial"] for line in lines] == [True, True, True, False]


def test_what_was_missed_is_told_once():
    lines = of(batch(b"a\nb\n"), missed=50)

    assert [line.get("missed_bytes") for line in lines] == [50, None]


def test_the_first_lines_can_be_left_out():
    assert [(line["seq"], line["msg"]) for line in of(batch(b"a\nb\nc\n"), skip=2)] == [(9, "c")]


# -- which lines ----------------------------------------------------------------------------------


def rings_of(*batches):
    rings = Rings()
    for one in batches:
        rings.ring(one.service).add(one)
    return rings


def selected(rings, **wanted):
    selection = Selection(rings, EVERYTHING._replace(**wanted))
    return texts(selection)


def texts(selection):
    found = []
    while (some := selection.next()) is not None:
        found += [line["msg"] for line in told(some)]
    return found


TWO = (
    batch(b"w1\nw2\n", wall=1), batch(b"w3\n", wall=4, stream="stderr"),
    batch(b"d1\n", service="db", wall=2), batch(b"d2\nd3\n", service="db", wall=3),
)  # fmt: skip


def test_services_are_merged_by_time():
    assert selected(rings_of(*TWO)) == ["w1", "w2", "d1", "d2", "d3", "w3"]


@pytest.mark.parametrize("last", range(8))
def test_the_last_lines_are_the_newest_of_all(last):
    every = ["w1", "w2", "d1", "d2", "d3", "w3"]

    assert selected(rings_of(*TWO), last=last) == every[max(0, 6 - last) :]


def test_last_counts_only_what_is_wanted():
    assert selected(rings_of(*TWO), last=2, stream="stdout") == ["d2", "d3"]
    assert selected(rings_of(*TWO), last=1, names=frozenset({"web"})) == ["w3"]


def test_names_stream_and_age_choose():
    rings = rings_of(*TWO)

    assert selected(rings, names=frozenset({"db", "other"})) == ["d1", "d2", "d3"]
    assert selected(rings, stream="stderr") == ["w3"]
    assert selected(rings, since=2.5) == ["d2", "d3", "w3"]


def test_a_run_is_chosen_by_number_or_counted_back_from_the_newest():
    rings = rings_of(*(batch(b"run %d\n" % run, run=run, wall=run) for run in (1, 2, 3)))
    assert selected(rings, run=2) == ["run 2"]
    assert selected(rings, run=-1) == ["run 2"]
    assert selected(rings, run=0) == ["run 3"]

    rings.ring("web").begin(4)
    assert selected(rings, run=-1) == ["run 3"]


def test_a_clock_that_was_set_back_does_not_change_the_order_of_a_service():
    assert selected(rings_of(batch(b"a\n", wall=9), batch(b"b\n", wall=1))) == ["a", "b"]


def test_who_does_not_follow_gets_what_there_was():
    rings = rings_of(batch(b"a\n"))
    selection = Selection(rings, EVERYTHING)
    rings.ring("web").add(batch(b"b\n"))

    assert texts(selection) == ["a"]


def test_who_follows_gets_what_comes_also_from_services_that_appear():
    rings = rings_of(batch(b"a\n"))
    selection = Selection(rings, EVERYTHING._replace(follow=True, last=0))
    assert texts(selection) == []

    rings.appeared = selection.join
    rings.ring("new").add(batch(b"n\n", service="new", wall=2))
    rings.ring("web").add(batch(b"b\n", wall=1))
    selection.look()
    assert texts(selection) == ["b", "n"]


def test_a_service_that_was_removed_and_came_back_is_followed_on():
    rings = rings_of(batch(b"a\n"))
    selection = Selection(rings, EVERYTHING._replace(follow=True))
    assert texts(selection) == ["a"]

    rings.appeared = selection.join
    rings.forget("web")
    rings.ring("web").add(batch(b"b\n"))
    selection.look()
    assert texts(selection) == ["b"]


def test_what_left_the_ring_meanwhile_is_a_number_of_bytes():
    rings = rings_of(batch(b"0\n"))
    rings.ring("web").resize(BATCH_BYTES + 2)
    selection = Selection(rings, EVERYTHING._replace(follow=True))
    assert texts(selection) == ["0"]
    for number in range(1, 5):
        rings.ring("web").add(batch(b"%d\n" % number))
    selection.look()

    (line,) = told(selection.next())
    assert (line["msg"], line["missed_bytes"]) == ("4", 6)


def test_parameters_become_what_is_wanted():
    asked = {
        "names": ["a"], "last": 5, "since": "1m", "stream": "stderr", "run": -1, "follow": True,
    }  # fmt: skip

    assert wanted_of(asked, 100.0) == Wanted(frozenset({"a"}), 5, 40.0, "stderr", -1, follow=True)
    assert wanted_of(dict.fromkeys(asked), 100.0) == EVERYTHING


@pytest.mark.parametrize(("key", "value"), [("since", "yesterday"), ("since", ""), ("last", -1)])
def test_what_makes_no_sense_is_named(key, value):
    with pytest.raises(ValueError, match=key):
        wanted_of({key: value}, 0.0)
