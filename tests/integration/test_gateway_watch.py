"""What dashboards follow: everything, then changes; one `Watch` of the core for all of them."""

import asyncio
import json

import pytest

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway import watch
from supervisord_pidfd.gateway.access import Policy
from supervisord_pidfd.gateway.http import Request
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.watch import Hub
from tests.unit.gateway.records import plain

WITHIN_S = 10
SUPERVISOR = {"version": "1", "pid": 1, "config": {"generation": 1}}


class FakeCore:
    """Be a core whose streams give what the test puts in."""

    def __init__(self):
        self.streams = []
        self.answers = True
        self.generation = 1
        self.asked = 0
        self.moved = asyncio.Condition()
        self.over = asyncio.Event()

    async def call(self, method, **parameters):
        assert (method, parameters) == ("Status", {"names": []})
        self.asked += 1
        if not self.answers:
            raise TimeoutError
        return {"supervisor": {**SUPERVISOR, "config": {"generation": self.generation}}}

    async def stream(self, method, **parameters):
        assert (method, parameters) == ("Watch", {})
        mine = asyncio.Queue()
        self.streams.append(mine)
        async with self.moved:
            self.moved.notify_all()
        try:
            while (reply := await mine.get()) is not None:
                yield reply
            raise ConnectionError
        finally:
            self.over.set()

    async def opened(self, number=1):
        async with asyncio.timeout(WITHIN_S), self.moved:
            await self.moved.wait_for(lambda: len(self.streams) >= number)
        return self.streams[number - 1]


class Reader:
    """Read a stream as a browser does."""

    def __init__(self, hub, level="read"):
        self.stream = hub.follow(level)
        self.got = []

    async def until(self, kind, count=1):
        """Read until there are so many events of a kind; return the last one's data."""
        async with asyncio.timeout(WITHIN_S):
            while sum(1 for one, _ in self.got if one == kind) < count:
                self.got += parsed(await anext(self.stream))
        return [data for one, data in self.got if one == kind][count - 1]

    def all(self, kind):
        return [data for one, data in self.got if one == kind]

    def names(self):
        return [record["name"] for batch in self.all("services") for record in batch]


def parsed(piece):
    for block in piece.decode().split("\n\n"):
        if block:
            kind, data = block.split("\n")
            yield kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def record(name, **changed):
    return {
        "name": name, "group": "", "phase": "running", "wanted": "up", "ready": True, "pid": 7,
        "restarts": 0, "detail": "", "last_exit": None, "checks": [], "totals": {"much": 1},
        "critical": False,
    } | changed  # fmt: skip


@pytest.fixture
def core():
    return FakeCore()


@pytest.fixture
def replica():
    return Replica(MetricsSpec())


@pytest.fixture
def hub(core, replica):
    return Hub(core, SystemClock(), Policy(), replica)


def test_all_services_come_and_then_what_changes(core, hub):
    async def look():
        reader = Reader(hub)
        await reader.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [record("a"), record("b")], "synced": False})
        feed.put_nowait({"synced": True})
        await reader.until("synced")
        assert sorted(reader.names()) == ["a", "b"]

        feed.put_nowait({"services": [record("b", phase="backoff", ready=False)], "synced": True})
        [changed] = await reader.until("services", len(reader.all("services")) + 1)
        assert (changed["name"], changed["phase"], changed["ready"]) == ("b", "backoff", False)

        feed.put_nowait({"removed": ["a"], "synced": True})
        assert await reader.until("removed") == ["a"]
        hub.close()

    asyncio.run(look())


def test_a_record_holds_what_is_drawn_and_no_more():
    end = {"text": "code 1", "cause": "exit_code"}
    checks = [
        {"name": "port", "ok": True, "error": None},
        {"name": "disk", "ok": False, "error": "it is full"},
    ]
    small = json.loads(watch.slim(record("a", last_exit=end, limit=10, checks=checks), "now"))

    assert small == {
        "name": "a", "group": "", "phase": "running", "wanted": "up", "ready": True, "pid": 7,
        "restarts": 0, "detail": "", "exit": "code 1", "limit": 10, "at": "now",
        "failing": "disk: it is full",
    }  # fmt: skip


def test_a_record_tells_whether_there_is_a_log_to_follow(core, hub, replica):
    async def look():
        replica.apply({"service": plain("a", log_slot=3)})
        replica.apply({"service": plain("b", log_slot=None)})
        reader = Reader(hub)
        await reader.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [record(name) for name in "abc"], "synced": True})
        await reader.until("synced")
        found = [one for batch in reader.all("services") for one in batch]

        assert [one["name"] for one in found if one.get("captured")] == ["a"]
        hub.close()

    asyncio.run(look())


def test_however_many_look_the_core_is_watched_once(core, hub):
    async def look():
        readers = [Reader(hub) for _ in range(5)]
        for reader in readers:
            await reader.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [record("a")], "synced": True})
        for reader in readers:
            await reader.until("synced")
            assert reader.names() == ["a"]
        assert len(core.streams) == 1

        late = Reader(hub)
        await late.until("synced")
        assert late.names() == ["a"]
        assert len(core.streams) == 1
        hub.close()

    asyncio.run(look())


def test_when_the_last_has_left_the_core_is_left_alone(core, hub, monkeypatch):
    monkeypatch.setattr(watch, "LINGER_S", 0)

    async def look():
        reader = Reader(hub)
        await reader.until("contact")
        await core.opened()
        await reader.stream.aclose()
        await asyncio.wait_for(core.over.wait(), WITHIN_S)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(look())


def test_a_client_that_does_not_read_gets_the_latest_of_each(core, hub):
    async def look():
        slow, quick = Reader(hub), Reader(hub)
        await slow.until("hello")
        await quick.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [record("a")], "synced": True})
        await slow.until("synced")
        await quick.until("synced")
        for number in range(500):
            feed.put_nowait({"services": [record("a", restarts=number)], "synced": True})
        for number in range(watch.EVENTS_MAX + 10):
            feed.put_nowait({"event": {"event": "x", "seq": number}, "synced": True})
        feed.put_nowait({"services": [record("last")], "synced": True})
        async with asyncio.timeout(WITHIN_S):
            while "last" not in quick.names():
                await quick.until("services", len(quick.all("services")) + 1)
        events = await slow.until("event")

        assert slow.all("services")[-1][0]["restarts"] == 499
        assert events[0] == {"event": "gap", "lost": 10}
        assert [event["seq"] for event in events[1:]] == list(range(10, watch.EVENTS_MAX + 10))
        hub.close()

    asyncio.run(look())


def test_a_core_that_hung_up_is_followed_again_and_what_is_gone_is_taken_away(
    core, hub, monkeypatch
):
    monkeypatch.setattr(watch, "RETRY_S", 0)

    async def look():
        reader = Reader(hub)
        await reader.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [record("a"), record("b")], "synced": True})
        await reader.until("synced")
        feed.put_nowait(None)
        feed = await core.opened(2)
        feed.put_nowait({"services": [record("b")], "synced": True})

        assert await reader.until("removed") == ["a"]
        hub.close()

    asyncio.run(look())


def test_a_core_that_does_not_answer_is_told_with_the_moment_it_last_did(core, hub, monkeypatch):
    monkeypatch.setattr(watch, "PING_S", 0.01)

    async def look():
        reader = Reader(hub)
        assert await reader.until("contact") == {"ok": True}
        core.answers = False
        told = await reader.until("contact", 2)
        assert told["ok"] is False
        assert told["since"].endswith("Z")

        core.answers = True
        assert await reader.until("contact", 3) == {"ok": True}
        hub.close()

    asyncio.run(look())


def test_news_of_the_configuration_are_looked_up_at_once(core, hub):
    async def look():
        reader = Reader(hub)
        await reader.until("hello")
        feed = await core.opened()
        feed.put_nowait({"services": [], "synced": True})
        first = await reader.until("supervisor")
        assert first["config"] == {"generation": 1}
        core.generation = 2
        feed.put_nowait({"event": {"event": "config.applied"}, "synced": True})

        assert (await reader.until("supervisor", 2))["config"] == {"generation": 2}
        hub.close()

    asyncio.run(look())


@pytest.mark.parametrize(("control", "level"), [(True, "control"), (False, "read")])
def test_a_client_is_told_what_its_token_allows(core, control, level):
    token = "secret"
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    policy = Policy(guarded=True, tokens=(("control", digest),), control=control)

    async def look():
        hub = Hub(core, SystemClock(), policy, Replica(MetricsSpec()))
        headers = {"host": "localhost", "authorization": f"Bearer {token}"}
        answer = await hub.answer(Request("/v1/watch", headers=headers))
        [(kind, data)] = parsed(await anext(answer.stream))
        assert (kind, data["level"]) == ("hello", level)
        await answer.stream.aclose()
        hub.close()

    asyncio.run(look())
