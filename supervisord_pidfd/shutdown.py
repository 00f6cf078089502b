"""The end of everything: a one-way latch with a budget.

Gateway and checker end first; services are asked in reverse order of their dependencies, each with
SIGKILL no later than its share of the budget allows; orphans follow. When nothing is left, or the
budget is spent, the daemon is done. A hook that nobody else waits for, `on_failure`, has until the
reserve of the budget: it may be what tells somebody. A second request only hastens it.
"""

import math
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.events import KillRequested, StopRequested
from supervisord_pidfd.core.lifecycle import EXIT_LIMIT
from supervisord_pidfd.core.notices import DaemonHastened, DaemonStopping, Told
from supervisord_pidfd.core.planner import Graph
from supervisord_pidfd.core.shares import shares
from supervisord_pidfd.core.spec import ServiceSpec, StopStep
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.orders import WITH_PROCESSES, Orders
from supervisord_pidfd.service import Service

HASTEN_AFTER = 0.5
"""A second signal sooner than this is the same Ctrl-C, seen twice."""

LOOK_EVERY = 0.5
ORPHAN_PATIENCE = 10.0
"""How long orphans may take to end by themselves at shutdown: as long as a service by default."""

KILL_RESERVE = 2.0
LOGGER = ":logger"
"""The helper that stays to the last: it writes down how the others ended."""


class Everybody(NamedTuple):
    """Hold who is to be ended, and the orders that are under way about them."""

    services: Mapping[str, Service]
    internals: Mapping[str, Service]
    orders: Orders


class Request(NamedTuple):
    """Hold who wants the end: in the words of the log, the signal, the service whose end it was.

    `code` is the exit code; None where it is that of the `main` service, however it ends.
    """

    by: str
    signum: int | None = None
    service: str | None = None
    code: int | None = 0


class Shutdown:
    """End all services once. Borrows them; `finished` is called when nothing is left to stop."""

    def __init__(
        self,
        hands: Hands,
        everybody: Everybody,
        tell: Callable[[Told], None],
        look_for_orphans: Callable[[], None],
        finished: Callable[[], None],
    ) -> None:
        self.begun = False
        self.began_at = 0.0
        self.exit_code = 0
        self._code_of_main = False
        self._hands = hands
        self._services, self._internals, self._orders = everybody
        self._tell = tell
        self._look_for_orphans = look_for_orphans
        self._finished = finished
        self._is_over = False
        self._budget = math.inf
        self._reserve = 0.0
        self._ask_by: list[tuple[float, str]] = []
        self._progress = hands.loop.deadline(self._look)

    def begin(self, graph: Graph, timeout: float, request: Request) -> None:
        """Stop everything within `timeout` seconds; a later request changes nothing."""
        if self.begun:
            return
        now = self._hands.loop.clock.now()
        self.begun = True
        self.exit_code = request.code or 0
        self._code_of_main = request.code is None
        self.began_at = now
        self._budget = now + timeout
        self._reserve = min(KILL_RESERVE, timeout / 5)
        self._tell(Told(DaemonStopping(request.by, request.signum, request.service, timeout)))
        self._look_for_orphans()
        for name, helper in self._internals.items():
            if name != LOGGER:
                helper.post(StopRequested("shutdown", kill_by=self._budget - self._reserve))
        self._stop_services(graph, now, timeout - self._reserve)
        self._end_orphans(signal.SIGTERM)
        self._progress.arm(now)

    def main_ended(self, code: int) -> None:
        """Take over the code of the `main` service, if that is what the daemon ends with."""
        if self._code_of_main:
            self.exit_code = code

    def _stop_services(self, graph: Graph, now: float, budget: float) -> None:
        timeouts = {name: time_to_stop(one.spec) for name, one in self._services.items()}
        parts = shares(graph, timeouts, budget)
        self._ask_by = sorted((now + part.ask_by, name) for name, part in parts.items())
        asked = {
            name: StopRequested("shutdown", kill_by=now + parts[name].kill_by)
            for name in reversed(tuple(self._services))
        }
        self._orders.begin(graph, asked)

    def hasten(self, signum: int) -> None:
        """Kill all that is left; a repeat within `HASTEN_AFTER` is the same request."""
        if self._hands.loop.clock.now() - self.began_at < HASTEN_AFTER:
            return
        self._tell(Told(DaemonHastened(signum)))
        for service in self.alive():
            service.post(KillRequested())
        for service in self._services.values():
            service.end_hooks()
        self._end_orphans(signal.SIGKILL)

    def stop_with(self, signum: int) -> None:
        """Let this be the stop signal of every service, for the shutdown that follows."""
        for service in self._services.values():
            stop = service.spec.stop
            steps = (StopStep(signum, stop.timeout),)
            service.spec = service.spec._replace(stop=stop._replace(steps=steps))

    def left_alive(self) -> int:
        """Count services that still have processes, and orphans."""
        return sum(1 for service in self.alive() if not service.internal) + len(
            self._hands.orphans
        )

    def alive(self) -> list[Service]:
        """Return who still has processes; of the helpers all but the logger count."""
        helpers = [helper for name, helper in self._internals.items() if name != LOGGER]
        candidates = (*self._services.values(), *helpers)
        return [service for service in candidates if service.state.phase in WITH_PROCESSES]

    def look_again(self) -> None:
        """Have another look soon: somebody is gone."""
        self._progress.arm(self._hands.loop.clock.now())

    def settle(self) -> None:
        """Be done at once when nobody is left."""
        if not self._is_over and not self.alive():
            self._look()

    def _end_orphans(self, signum: int) -> None:
        for pid in self._hands.orphans.all:
            self._hands.orphans.signal(pid, signum)
            self._hands.orphans.signal(pid, signal.SIGCONT)

    def _look(self) -> None:
        """Finish when nothing is left; kill orphans when the time for asking is over."""
        if self._is_over:
            return
        now = self._hands.loop.clock.now()
        self._force(now - LOOK_EVERY)
        alive = self.alive()
        if not alive:
            self._look_for_orphans()
        if not alive and now < self._budget - self._reserve and self._is_hook_under_way():
            self._progress.arm(now + LOOK_EVERY)
            return
        if (not alive and not len(self._hands.orphans)) or now >= self._budget:
            if self.left_alive():
                self.exit_code = EXIT_LIMIT
            self._is_over = True
            self._finished()
            return
        if not alive:
            soon = now >= self._budget - self._reserve
            patient = now - self.began_at < ORPHAN_PATIENCE
            self._end_orphans(signal.SIGTERM if patient and not soon else signal.SIGKILL)
        self._progress.arm(min(self._budget, now + LOOK_EVERY))

    def _is_hook_under_way(self) -> bool:
        return any(service.has_hook for service in self._services.values())

    def _force(self, moment: float) -> None:
        """Ask those whose turn should have come by then; what they wait for cannot be killed."""
        due = [name for ask_by, name in self._ask_by if ask_by <= moment]
        if due:
            self._ask_by = self._ask_by[len(due) :]
            self._orders.force(due)
            self._orders.advance()


def time_to_stop(spec: ServiceSpec) -> float:
    """Return the longest that an ordinary stop of a service takes, in seconds."""
    hooks = (spec.hooks.pre_stop, spec.hooks.post_stop)
    return spec.stop.timeout + spec.hooks.timeout * sum(1 for hook in hooks if hook is not None)
