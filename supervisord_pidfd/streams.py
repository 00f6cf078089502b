"""Streams of the control socket: `Watch`, which lists and then follows, and `Events`.

A watcher's backlog is the *set* of services whose record changed and was not sent yet: whoever
reads slowly gets the latest record of each. Its revision says up to where nothing is missing, so
that another `Watch` can go on from there. Events come from one ring for all followers, kept only
while there are any; who falls out of it is told how many were lost. Nothing is made before the
client takes it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from supervisord_pidfd import wire
from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.commands import INVALID_PARAMETER, TOO_OLD, Call, age_of
from supervisord_pidfd.core.notices import Told, event_of
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.publisher import Publisher
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of

RING_BYTES = 1 << 20
A_FRAME = 4
"""Records in one reply of `Watch`."""

REMOVALS = 1000
"""Removals that are remembered for those who come back with `since`."""

A_SECOND = 1_000_000
"""Revisions that a second has room for: each life of the daemon begins above the one before."""

NOTHING = b""


class Sources(NamedTuple):
    """Hold where the streams come from.

    `services` are those there are; `record` describes one with its totals; `named` looks names up,
    or answers the call.
    """

    loop: Loop
    publisher: Publisher
    services: dict[str, Service]
    record: Callable[[Service], dict[str, Any]]
    named: Callable[[Call, list[str]], tuple[str, ...] | None]


class Follower:
    """Be one client that follows events; `at` is the number of the next one it has not got."""

    def __init__(self, call: Call, at: int) -> None:
        self.call = call
        self.at = at


class Watcher(Follower):
    """Be one client of `Watch`: what it has not got yet, by the revision it has been due since."""

    def __init__(self, call: Call, at: int) -> None:
        super().__init__(call, at)
        self.changed: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        self.synced = False

    def touch(self, name: str, revision: int) -> None:
        """Note a changed record."""
        self.removed.pop(name, None)
        self.changed.setdefault(name, revision)

    def remove(self, name: str, revision: int) -> None:
        """Note that a service is gone."""
        self.changed.pop(name, None)
        self.removed.pop(name, None)
        self.removed[name] = revision

    def has_all_up_to(self, revision: int) -> int:
        """Return the last revision from which nothing is missing; `revision` if nothing at all."""
        pending = (next(iter(one.values()), revision + 1) for one in (self.changed, self.removed))
        return min(pending) - 1


class Streams:
    """Keep revisions and followers, and answer the methods that stream."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._floor = int(sources.loop.clock.wall()) * A_SECOND
        self._revision = self._floor
        self._changed_at: dict[str, int] = {}
        self._removals: deque[tuple[str, int]] = deque()
        self._dirty: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._watchers: dict[Watcher, None] = {}
        self._followers: dict[Follower, None] = {}
        self._ring: deque[tuple[int, str | None, bytes]] = deque()
        self._ring_bytes = 0
        self._news = False

    # -- what happens -----------------------------------------------------------------------------

    def touched(self, name: str) -> None:
        """Note that a service's record changed; runs for every exit, so it does no more."""
        self._dirty[name] = None

    def told(self, _wall: float, told: Told) -> None:
        """Note a notice: the totals of its service have changed."""
        if told.service is not None:
            self._dirty[told.service] = None

    def removed(self, name: str) -> None:
        """Note that a service is gone."""
        self._dirty.pop(name, None)
        self._gone[name] = None

    def spread(self) -> bool:
        """Hand a turn's changes to those who follow; return whether there is anything to send."""
        if not (self._dirty or self._gone or self._news):
            return False
        for name in self._gone:
            self._remove(name)
        self._gone.clear()
        for name in self._dirty:
            if name in self._sources.services:
                self._touch(name)
        self._dirty.clear()
        self._news = False
        for follower in self._followers:
            follower.call.wake()
        return bool(self._followers)

    def _touch(self, name: str) -> None:
        self._revision += 1
        self._changed_at.pop(name, None)  # the latest change stands last
        self._changed_at[name] = self._revision
        for watcher in self._watchers:
            watcher.touch(name, self._revision)

    def _remove(self, name: str) -> None:
        self._revision += 1
        self._changed_at.pop(name, None)
        self._removals.append((name, self._revision))
        if len(self._removals) > REMOVALS:
            self._floor = self._removals.popleft()[1]
        for watcher in self._watchers:
            watcher.remove(name, self._revision)

    def _take(self, seq: int, service: str | None, event: dict[str, Any]) -> None:
        """Keep an event for those who follow."""
        data = wire.plain(event)
        self._ring.append((seq, service, data))
        self._ring_bytes += len(data)
        while self._ring_bytes > RING_BYTES:
            self._ring_bytes -= len(self._ring.popleft()[2])
        self._news = True

    # -- followers --------------------------------------------------------------------------------

    def _join(self, follower: Follower) -> None:
        self._followers[follower] = None
        if isinstance(follower, Watcher):
            self._watchers[follower] = None
        self._sources.publisher.follow = self._take
        follower.call.on_gone(lambda: self._leave(follower))

    def _leave(self, follower: Follower) -> None:
        self._followers.pop(follower, None)
        if isinstance(follower, Watcher):
            self._watchers.pop(follower, None)
        if not self._followers:
            self._sources.publisher.follow = None
            self._ring.clear()
            self._ring_bytes = 0

    def _next_event(self, follower: Follower, names: Collection[str] | None) -> bytes:
        """Return the next event that a follower wants, a gap in its place, or nothing."""
        while self._ring and follower.at <= self._ring[-1][0]:
            oldest = self._ring[0][0]
            if follower.at < oldest:
                lost, follower.at = oldest - follower.at, oldest
                return wire.plain({"event": "gap", "lost": lost})
            _, service, data = self._ring[follower.at - oldest]
            follower.at += 1
            if names is None or service in names:
                return data
        return NOTHING

    # -- Watch ------------------------------------------------------------------------------------

    def watch(self, call: Call) -> None:
        """List the services, or what changed since a revision; then send what changes."""
        self.spread()
        since = call.parameters["since"]
        if since is not None and not self._floor <= since <= self._revision:
            call.error(TOO_OLD, {"oldest": self._floor})
            return
        watcher = Watcher(call, self._sources.publisher.seq + 1)
        if since is None:
            watcher.changed = dict.fromkeys(sorted(self._sources.services), self._revision)
        else:
            watcher.changed = {name: at for name, at in self._changed_at.items() if at > since}
            services = self._sources.services
            for name, at in self._removals:
                if at > since and name not in services:
                    watcher.remove(name, at)
        self._join(watcher)
        call.pull(self._watch(watcher))

    def _watch(self, watcher: Watcher) -> Iterator[bytes]:
        while True:
            if watcher.removed:
                names = list(watcher.removed)
                watcher.removed.clear()
                yield self._frame(watcher, removed=names)
            elif watcher.changed:
                yield self._frame(watcher, services=self._records(watcher))
            elif not watcher.synced:
                watcher.synced = True
                yield self._frame(watcher)
            else:
                event = self._next_event(watcher, None)
                yield self._event_frame(watcher, event) if event else NOTHING

    def _records(self, watcher: Watcher) -> list[dict[str, Any]]:
        """Take some of what changed; what has been removed meanwhile is told as that."""
        found: list[dict[str, Any]] = []
        while watcher.changed and len(found) < A_FRAME:
            name = next(iter(watcher.changed))
            del watcher.changed[name]
            service = self._sources.services.get(name)
            if service is not None:
                found.append(self._sources.record(service))
        return found

    def _frame(self, watcher: Watcher, **members: Any) -> bytes:
        revision = watcher.has_all_up_to(self._revision)
        said = {"revision": revision, **members, "synced": watcher.synced}
        return wire.reply(said, continues=True)

    def _event_frame(self, watcher: Watcher, event: bytes) -> bytes:
        revision = watcher.has_all_up_to(self._revision)
        head = b'{"parameters":{"revision":%d,"synced":true,"event":' % revision
        return head + event + b'},"continues":true}\0'

    # -- Events -----------------------------------------------------------------------------------

    def events(self, call: Call) -> None:
        """Send what happened, of the last thousand events; with `follow` also what happens."""
        asked = call.parameters
        names: Collection[str] | None = None
        if asked["names"] is not None:
            found = self._sources.named(call, asked["names"])
            if found is None:
                return
            names = frozenset(found)
        publisher = self._sources.publisher
        since = None if asked["since"] is None else self._since(asked["since"])
        if asked["since"] is not None and since is None:
            call.error(INVALID_PARAMETER, {"parameter": "since"})
            return
        past = [
            one
            for one in publisher.kept
            if (names is None or one.told.service in names)
            and (since is None or (one.seq > since[0] and one.wall >= since[1]))
        ]
        if asked["last"] is not None:
            past = past[max(0, len(past) - asked["last"]) :]
        events = (
            wire.plain(event_of(one.told, one.seq, rfc3339(one.wall), name_of)) for one in past
        )
        follower = Follower(call, publisher.seq + 1) if asked["follow"] else None
        if follower is not None:
            self._join(follower)
        call.pull(self._events(events, follower, names))

    def _since(self, text: str) -> tuple[int, float] | None:
        """Read a number, which events come after, or an age, which they are younger than."""
        if text.isascii() and text.isdecimal() and len(text) < 20:
            return int(text), 0.0
        age = age_of(text)
        return None if age is None else (0, self._sources.loop.clock.wall() - age)

    def _events(
        self, past: Iterable[bytes], follower: Follower | None, names: Collection[str] | None
    ) -> Iterator[bytes]:
        for event in past:
            yield _reply(event)
        while follower is not None:
            event = self._next_event(follower, names)
            yield _reply(event) if event else NOTHING
        yield wire.reply({"event": None})


def _reply(event: bytes) -> bytes:
    return b'{"parameters":{"event":' + event + b'},"continues":true}\0'
