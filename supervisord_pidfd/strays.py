"""Processes that fell to the daemon: found, told apart, and counted to the services they left.

An orphan is a child that nobody here spawned. Whose it is stands in its environment, which only a
child of ours may read: that memory can block whoever looks at it.
"""

import signal
from collections.abc import Callable

from supervisord_pidfd.core.exitstatus import Exited, ExitStatus, Signaled
from supervisord_pidfd.core.lifecycle import ServiceState
from supervisord_pidfd.core.notices import OrphanReaped, Told
from supervisord_pidfd.escapees import Identification
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.orphans import Owner
from supervisord_pidfd.service import Service


class Strays:
    """Follow the orphans. Borrows the services, and remembers which wait for an empty scope."""

    def __init__(
        self, hands: Hands, find: Callable[[str], Service | None], tell: Callable[[Told], None]
    ) -> None:
        self.ending = False
        self._hands = hands
        self._find = find
        self._tell = tell
        self._cleaning: set[str] = set()

    def changed(self, service: Service, before: ServiceState) -> None:
        """Follow a service: it waits for those that its main process left behind, or no more."""
        if service.state.ended is not None:
            self._cleaning.add(service.name)
        elif before.ended is not None:
            self._cleaning.discard(service.name)

    def look(self) -> None:
        """Find children that we did not spawn; called before a reap, while zombies are listed."""
        found = self._hands.orphans.look(self._hands.reaper.knows, len(self._hands.reaper))
        if found:
            Identification(self._hands.loop, self._hands.reaper, found, self._identified)

    def reaped(self, pid: int, status: ExitStatus) -> None:
        """Take note that an orphan is gone."""
        self._hands.orphans.forget(pid)
        code = status.code if isinstance(status, Exited) else None
        signum = status.signum if isinstance(status, Signaled) else None
        self._tell(Told(OrphanReaped(code, signum, pid)))
        if self._cleaning:
            self.look()  # it may have left children of its own, which are ours now
        self._recheck()

    def _identified(self, pid: int, owner: Owner) -> None:
        self._hands.orphans.identify(pid, owner)
        service = self._find(owner.service)
        if service is not None and not service.internal:
            service.orphan_identified(pid)
        if self.ending:
            self._hands.orphans.signal(pid, signal.SIGTERM)
        if not owner.service:  # it may be gone, which is why nobody knows; its children are ours
            self.look()
        self._recheck()

    def _recheck(self) -> None:
        for name in tuple(self._cleaning):
            service = self._find(name)
            if service is not None:
                service.recheck_scope()
