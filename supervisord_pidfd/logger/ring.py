"""The latest output of each service, in memory: for `logs` and `explain`, whatever the sinks are.

A ring holds the bytes objects that were read or written anyway, so that it costs nothing per line.
All rings together are bounded; when there are too many services each gets an equal share. A pump
adds, the main thread reads: a lock for each ring, held for a moment.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from supervisord_pidfd.logger.lines import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL_BYTES = 64 << 20
RING_BYTES = 64 << 10
BATCH_BYTES = 200
"""What a batch costs beside its bytes: without it, short lines would hold many times the size."""


class Place(NamedTuple):
    """Say how far a reader has come: the batches before it, and their bytes."""

    batches: int = 0
    size: int = 0


class Ring:
    """Keep the newest batches of one service that fit in `size` bytes, and the newest of all.

    `followed` is called after each batch while somebody follows, by whoever adds. `newest_run` is
    the latest run that has written, or of which `begin` was told.
    """

    def __init__(self, size: int) -> None:
        self.followed: Callable[[], None] | None = None
        self.newest_run = 0
        self._wanted = self._size = self._most = size
        self._lock = threading.Lock()
        self._batches: deque[Batch] = deque()
        self._held = 0
        self._gone = Place()

    def begin(self, run: int) -> None:
        """Take note of a run that has written nothing yet."""
        self.newest_run = max(self.newest_run, run)

    def add(self, batch: Batch) -> None:
        """Take some lines; the oldest leave when there are too many."""
        with self._lock:
            self._batches.append(batch)
            self._held += len(batch.data)
            self.newest_run = max(self.newest_run, batch.run)
            self._trim()
        followed = self.followed  # the main thread may take it away at any time
        if followed is not None:
            followed()

    def resize(self, size: int) -> None:
        """Have room for so many bytes, as far as all rings together have it."""
        with self._lock:
            self._wanted = size
            self._size = min(self._most, size)
            self._trim()

    def share(self, most: int) -> None:
        """Have room for no more than this, whatever is wanted."""
        with self._lock:
            self._most = most
            self._size = min(self._wanted, most)
            self._trim()

    def _trim(self) -> None:
        batches = self._batches
        while len(batches) > 1 and self._held + len(batches) * BATCH_BYTES > self._size:
            size = len(batches.popleft().data)
            self._held -= size
            self._gone = Place(self._gone.batches + 1, self._gone.size + size)

    @property
    def held(self) -> int:
        """Say how many bytes of output are held."""
        return self._held

    # -- reading ----------------------------------------------------------------------------------

    def all(self) -> tuple[list[Batch], Place]:
        """Return all batches, and the place of the first. Let go of them soon."""
        with self._lock:
            return list(self._batches), self._gone

    def end(self) -> Place:
        """Return the place after the newest batch."""
        with self._lock:
            return Place(self._gone.batches + len(self._batches), self._gone.size + self._held)

    def next(self, place: Place) -> tuple[Batch, Place, int] | None:
        """Return the batch at a place, the place after it, and the bytes that have left before.

        None if there is none yet.
        """
        with self._lock:
            begun = max(place, self._gone)
            index = begun.batches - self._gone.batches
            if index >= len(self._batches):
                return None
            batch = self._batches[index]
        after = Place(begun.batches + 1, begun.size + len(batch.data))
        return batch, after, begun.size - place.size


class Rings:
    """Own the rings of all services; the main thread's, but for what pumps add to a ring.

    `appeared` is told when there is a ring for a service that had none.
    """

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self.appeared: Callable[[str, Ring], None] | None = None
        self._total = total
        self._rings: dict[str, Ring] = {}

    def ring(self, service: str) -> Ring:
        """Return the ring of a service, which may be new."""
        ring = self._rings.get(service)
        if ring is None:
            ring = self._rings[service] = Ring(RING_BYTES)
            self._share()
            if self.appeared is not None:
                self.appeared(service, ring)
        return ring

    def find(self, service: str) -> Ring | None:
        """Return the ring of a service, if there is one."""
        return self._rings.get(service)

    def names(self) -> list[str]:
        """Name the services that have rings."""
        return list(self._rings)

    def forget(self, service: str) -> None:
        """Drop the ring of a service that is gone."""
        if self._rings.pop(service, None) is not None:
            self._share()

    def use_total(self, total: int) -> None:
        """Let all rings together have so many bytes."""
        if total != self._total:
            self._total = total
            self._share()

    def _share(self) -> None:
        most = self._total // max(1, len(self._rings))
        for ring in self._rings.values():
            ring.share(most)
