"""What followers get: a list, then changes; events, and how many were lost."""

import json
from types import SimpleNamespace

import pytest

from supervisord_pidfd import streams
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import ServiceReady, ServiceReset, Told
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.publisher import Publisher
from supervisord_pidfd.streams import Sources, Streams
from tests.fakes import FakeClock

NOTHING = {"names": None, "since": None, "last": None, "follow": None}


class FakeCall:
    """Be a client that takes what it wants, when it wants."""

    def __init__(self, **parameters):
        self.parameters = parameters
        self.pieces = iter(())
        self.woken = 0
        self.failed = None
        self.leave = lambda: None

    def pull(self, pieces):
        self.pieces = pieces

    def wake(self):
        self.woken += 1

    def on_gone(self, callback):
        self.leave = callback

    def error(self, name, parameters):
        self.failed = (name.rpartition(".")[2], parameters)

    def next(self):
        """Take one reply; None if there is nothing, or nothing more."""
        piece = next(self.pieces, b"")
        assert piece.endswith(b"\0") or not piece
        return json.loads(piece[:-1])["parameters"] if piece else None

    def take(self):
        """Take all there is."""
        found = []
        while (reply := self.next()) is not None:
            found.append(reply)
        return found


class Bench:
    """The streams of some services, and a publisher."""

    def __init__(self, *names):
        self.clock = FakeClock()
        self.loop = Loop(self.clock, lambda *_: None)
        self.publisher = Publisher(self.loop, Tally(), lambda _line: None)
        self.services = {name: SimpleNamespace(name=name, phase="running") for name in names}
        self.streams = Streams(
            Sources(
                self.loop,
                self.publisher,
                self.services,
                lambda service: {"name": service.name, "phase": service.phase},
                lambda _call, given: tuple(given) if "nope" not in given else None,
            )
        )
        self.publisher.observers.append(self.streams.told)
        for name in names:
            self.streams.touched(name)

    def change(self, name, phase):
        self.services[name].phase = phase
        self.streams.touched(name)

    def remove(self, name):
        del self.services[name]
        self.streams.removed(name)

    def add(self, name):
        self.services[name] = SimpleNamespace(name=name, phase="stopped")
        self.streams.touched(name)

    def tell(self, *names, notice=ServiceReset):
        for name in names:
            self.publisher.tell(Told(notice("operator:0"), name, "g", 1, None))
        self.publisher.publish_all()
        self.streams.spread()

    def watch(self, since=None):
        call = FakeCall(since=since)
        self.streams.watch(call)
        return call

    def events(self, **parameters):
        call = FakeCall(**NOTHING | parameters)
        self.streams.events(call)
        return call


@pytest.fixture
def bench():
    made = []

    def make(*names):
        made.append(Bench(*names))
        return made[-1]

    yield make
    for one in made:
        one.loop.close()


def seen(replies):
    """Return each service's phase as the client knows it now, and None for a removed one."""
    known = {}
    for reply in replies:
        known |= {one["name"]: one["phase"] for one in reply.get("services", ())}
        known |= dict.fromkeys(reply.get("removed", ()))
    return known


# -- Watch ----------------------------------------------------------------------------------------


def test_a_watcher_gets_all_services_in_batches_then_synced(bench):
    call = bench(*"fedcba").watch()
    replies = call.take()
    assert [[one["name"] for one in reply.get("services", ())] for reply in replies] == [
        ["a", "b", "c", "d"],
        ["e", "f"],
        [],
    ]
    assert [reply["synced"] for reply in replies] == [False, False, True]
    assert call.next() is None


def test_a_change_is_sent_once_and_in_its_latest_shape(bench):
    it = bench("a", "b")
    call = it.watch()
    call.take()
    it.change("a", "stopping")
    it.streams.spread()
    it.change("b", "stopping")
    it.change("a", "stopped")
    it.streams.spread()
    assert call.woken == 2
    (reply,) = call.take()
    assert reply["services"] == [
        {"name": "a", "phase": "stopped"},
        {"name": "b", "phase": "stopping"},
    ]
    assert reply["synced"]


def test_a_removed_service_is_told_as_removed(bench):
    it = bench("a", "b")
    call = it.watch()
    call.take()
    it.change("a", "stopping")
    it.remove("a")
    it.streams.spread()
    assert [reply.get("removed") for reply in call.take()] == [["a"]]


def test_a_service_that_came_back_is_there(bench):
    it = bench("a")
    call = it.watch()
    call.take()
    it.remove("a")
    it.streams.spread()
    it.add("a")
    it.streams.spread()
    assert seen(call.take()) == {"a": "stopped"}


def test_a_service_removed_during_the_list_is_told_as_removed(bench):
    it = bench(*"abcdef")
    call = it.watch()
    known = [call.next()]
    it.remove("f")
    it.remove("a")
    it.streams.spread()
    assert seen(known + call.take()) == dict.fromkeys("af") | dict.fromkeys("bcde", "running")


def test_a_name_that_is_gone_before_it_was_spread_is_left_out(bench):
    it = bench("a", "b")
    call = it.watch()
    del it.services["a"]  # the news of it come later
    assert seen(call.take()) == {"b": "running"}


def test_nothing_is_missing_below_the_revision_of_a_reply(bench):
    it = bench(*"abcdefgh")
    call = it.watch()
    known = call.take()
    for round_ in range(12):
        for name in "abcdefgh"[round_ % 3 :: 2]:
            it.change(name, f"phase {round_}")
        it.streams.spread()
        known += [reply for reply in [call.next()] if reply]
        later = it.watch(since=known[-1]["revision"])
        assert seen(known + later.take()) == {name: one.phase for name, one in it.services.items()}
        later.leave()


def test_with_since_only_later_changes_come(bench):
    it = bench("a", "b", "c", "d")
    revision = it.watch().take()[-1]["revision"]
    it.change("b", "stopping")
    it.remove("c")
    it.remove("d")
    it.streams.spread()
    it.add("d")
    it.streams.spread()
    replies = it.watch(since=revision).take()
    assert seen(replies) == {"b": "stopping", "c": None, "d": "stopped"}
    assert replies[-1]["synced"]
    assert seen(it.watch(since=replies[-1]["revision"]).take()) == {}


@pytest.mark.parametrize("wrong", [0, -1, 1])
def test_a_revision_of_another_life_is_too_old(bench, wrong):
    it = bench("a")
    revision = it.watch().take()[-1]["revision"]
    since = {0: 0, -1: 1_600_000_000 * streams.A_SECOND, 1: revision + 1}[wrong]
    name, parameters = it.watch(since=since).failed
    assert name == "TooOld"
    assert parameters["oldest"] <= revision


def test_a_revision_is_too_old_when_removals_have_been_forgotten(bench, monkeypatch):
    monkeypatch.setattr(streams, "REMOVALS", 2)
    it = bench("a", "b", "c", "d")
    first = it.watch().take()[-1]["revision"]
    for name in "abc":
        it.remove(name)
        it.streams.spread()
    name, parameters = it.watch(since=first).failed
    assert name == "TooOld"
    assert seen(it.watch(since=parameters["oldest"]).take()) == {"b": None, "c": None}


def test_events_come_after_the_list_and_the_changes(bench):
    it = bench("a")
    call = it.watch()
    it.tell("a")
    replies = call.take()
    assert [reply["synced"] for reply in replies] == [False, True, True]
    assert replies[-1]["event"]["event"] == "service.reset"
    it.change("a", "stopped")
    it.tell("a")
    assert [reply.get("event", {}).get("seq") for reply in call.take()] == [None, 2]


def test_a_service_is_sent_again_when_its_totals_were_counted(bench):
    it = bench("a")
    call = it.watch()
    call.take()
    it.tell("a")
    assert seen(call.take()) == {"a": "running"}


def test_nobody_is_woken_for_nothing(bench):
    it = bench("a")
    it.streams.spread()
    call = it.watch()
    call.take()
    assert not it.streams.spread()
    assert call.woken == 0
    call.leave()
    it.change("a", "stopped")
    assert not it.streams.spread()
    assert call.woken == 0


# -- Events ---------------------------------------------------------------------------------------


def numbers(replies):
    return [reply["event"] and reply["event"].get("seq") for reply in replies]


def test_events_without_follow_end_with_null(bench):
    it = bench("a")
    assert numbers(it.events().take()) == [None]
    it.tell("a", "a", "a")
    assert numbers(it.events().take()) == [1, 2, 3, None]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"last": 2}, [4, 5]),
        ({"last": 0}, []),
        ({"last": 9}, [1, 2, 3, 4, 5]),
        ({"names": ["b"]}, [2, 5]),
        ({"names": ["b"], "last": 1}, [5]),
        ({"since": "3"}, [4, 5]),
        ({"since": "99"}, []),
        ({"since": "30s"}, [4, 5]),
        ({"since": "1m30s"}, [1, 2, 3, 4, 5]),
        ({"since": "1m", "last": 1}, [5]),
    ],
)
def test_events_are_chosen_by_name_number_age_and_count(bench, parameters, found):
    it = bench("a", "b", "c")
    it.tell("a", "b", "c")
    it.clock.advance(45)
    it.tell("a", "b")
    assert numbers(it.events(**parameters).take()) == [*found, None]


@pytest.mark.parametrize("since", ["", "x", "1y", "-1", "5 s", "1" * 20, "1s" * 40, "٣"])
def test_a_since_that_makes_no_sense_is_refused(bench, since):
    assert bench("a").events(since=since).failed == ("InvalidParameter", {"parameter": "since"})


def test_an_unknown_name_was_answered_already(bench):
    assert bench("a").events(names=["nope"]).take() == []


def test_followers_get_each_event_once_and_only_what_they_asked_for(bench):
    it = bench("a", "b")
    it.tell("a", "b")
    every, some = it.events(follow=True, last=1), it.events(follow=True, names=["b"])
    it.tell("a", "b")
    assert numbers(every.take()) == [2, 3, 4]
    assert numbers(some.take()) == [2, 4]
    it.tell("a")
    assert numbers(every.take()) == [5]
    assert numbers(some.take()) == []


def test_who_reads_too_slowly_is_told_how_many_are_lost(bench, monkeypatch):
    it = bench("a")
    monkeypatch.setattr(streams, "RING_BYTES", 1000)
    call, quick = it.events(follow=True), it.events(follow=True)
    received = []
    for _ in range(20):
        it.tell("a")
        received += quick.take()
    assert numbers(received) == list(range(1, 21))
    gap, *rest = (reply["event"] for reply in call.take())
    assert gap == {"event": "gap", "lost": 20 - len(rest)}
    assert 0 < len(rest) < 10
    assert [event["seq"] for event in rest] == list(range(gap["lost"] + 1, 21))


def test_the_ring_is_kept_only_while_somebody_follows(bench):
    it = bench("a")
    call = it.events(follow=True)
    it.tell("a")
    assert it.streams._ring
    call.leave()
    assert not it.streams._ring
    assert it.publisher.follow is None
    it.tell("a")
    assert not it.streams._ring


def test_debug_events_are_streamed_too(bench):
    it = bench("a")
    call = it.events(follow=True)
    it.publisher.level = 40
    it.publisher.tell(Told(ServiceReady("executed", 0.1), "a", None, 1, 1))
    it.tell("a")
    assert [reply["event"]["event"] for reply in call.take()] == ["service.ready", "service.reset"]
