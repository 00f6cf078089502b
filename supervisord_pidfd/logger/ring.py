"""The latest output of each service, in memory: for `logs` and `explain`, whatever the sinks are.

A ring holds the bytes objects that were read or written anyway, so that it costs nothing per line.
All rings together are bounded; when there are too many services each gets an equal share. A pump
adds, the main thread reads: a lock for each ring, held for a moment.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING

from supervisord_pidfd.logger.lines import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL_BYTES = 64 << 20


class Ring:
    """Keep the newest batches of one service that fit in `size` bytes, and the newest of all.

    `followed` is called after each batch while somebody follows, by whoever adds.
    """

    def __init__(self, size: int) -> None:
        self.followed: Callable[[], None] | None = None
        self._wanted = self._size = self._most = size
        self._lock = threading.Lock()
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._added = 0

    def add(self, batch: Batch) -> None:
        """Take some lines; the oldest leave when there are too many."""
        with self._lock:
            self._batches.append(batch)
            self._added += 1
            self._bytes += len(batch.data)
            self._trim()
        if self.followed is not None:
            self.followed()

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
        while self._bytes > self._size and len(self._batches) > 1:
            self._bytes -= len(self._batches.popleft().data)

    def read(self, after: int = 0) -> tuple[list[Batch], int]:
        """Return the batches that came after so many, as far as they are here, and their number.

        The number is what `after` is to be next time.
        """
        with self._lock:
            new = min(self._added - after, len(self._batches))
            if new <= 0:
                return [], self._added
            batches = list(self._batches)
            return batches[-new:], self._added

    @property
    def held(self) -> int:
        """Say how many bytes are held."""
        return self._bytes


class Rings:
    """Own the rings of all services."""

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self._total = total
        self._rings: dict[str, Ring] = {}

    def ring(self, service: str) -> Ring:
        """Return the ring of a service, which may be new."""
        ring = self._rings.get(service)
        if ring is None:
            ring = self._rings[service] = Ring(64 << 10)
            self._share()
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
