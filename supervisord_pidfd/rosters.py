"""Groups at work: what an automatic restart of a member does to the others, and their limit.

A member whose automatic restart concerns others is held before it starts again. Then the others
are stopped, the last one listed first, and all of them start in the order listed, each when the
one before it is ready or has given up. Everything is read off the services' states, so that a
newer command about a member needs no bookkeeping here.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from supervisord_pidfd.core.events import FailRequested, RestartRequested
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.gate import view_of
from supervisord_pidfd.core.group import at_stake, count, restarted_with
from supervisord_pidfd.core.lifecycle import Phase, ServiceState, Wanted
from supervisord_pidfd.core.notices import GroupGaveUp, Told
from supervisord_pidfd.core.spec import GroupSpec
from supervisord_pidfd.orders import WITH_PROCESSES
from supervisord_pidfd.service import Service


class _Restart:
    """Hold one restart of several members."""

    def __init__(self, by: str, stop: Iterable[str], start: Iterable[str]) -> None:
        self.by = by
        self.to_stop = list(stop)
        self.to_start = deque(start)
        self.asked: set[str] = set()
        self.cleared: set[str] = set()


class Rosters:
    """Follow all groups. Borrows the services; `wake` takes a member that may start now."""

    def __init__(
        self,
        services: Mapping[str, Service],
        tell: Callable[[Told], None],
        wake: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._services = services
        self._tell = tell
        self._wake = wake
        self._now = now
        self._of: dict[str, GroupSpec] = {}
        self._counted: dict[str, tuple[float, ...]] = {}
        self._restarts: dict[str, _Restart] = {}
        self._held: dict[str, None] = {}
        self._touched: dict[str, GroupSpec] = {}

    def use(self, groups: Iterable[GroupSpec]) -> None:
        """Take in the groups of a configuration; what was counted so far still counts."""
        given = tuple(groups)
        self._of = {member: group for group in given for member in group.members}
        names = {group.name for group in given}
        self._counted = {name: kept for name, kept in self._counted.items() if name in names}
        self._restarts = {name: kept for name, kept in self._restarts.items() if name in names}

    def holds(self, service: Service) -> str | None:
        """Name the group that has to be asked before a start of this service, if any."""
        group = self._of.get(service.name)
        if group is None:
            return None
        restart = self._restarts.get(group.name)
        if restart is not None and service.name in restart.to_start:
            return None if service.name in restart.cleared else f"@{group.name}"
        return f"@{group.name}" if self._concerns_others(group, service.state) else None

    def _concerns_others(self, group: GroupSpec, state: ServiceState) -> bool:
        """Tell whether a start now would be an automatic one that means more than the member."""
        automatic = state.phase is Phase.RUNNING or (
            state.phase in {Phase.BACKOFF, Phase.WAITING} and state.attempt > 0
        )
        return automatic and at_stake(group, self._counted.get(group.name, ()), self._now())

    def changed(self, service: Service, before: ServiceState) -> None:
        """Follow a member, and count its automatic restarts; `advance` does what follows."""
        group = self._of.get(service.name)
        if group is None:
            return
        state = service.state
        if state.run > before.run and state.attempt > 0:
            counted = count(group, self._counted.get(group.name, ()), self._now())
            self._counted[group.name] = counted.restarts
        if state.phase is Phase.WAITING:
            self._held[service.name] = None
        self._touched[group.name] = group

    def advance(self) -> None:
        """Begin and go on with the restarts of groups."""
        while self._held or self._touched:
            if self._held:
                name = next(iter(self._held))
                del self._held[name]
                self._ask(name)
            else:
                group = self._touched.pop(next(iter(self._touched)))
                self._go_on(group)

    def _ask(self, name: str) -> None:
        """Act on a member that waits; it may be for us."""
        group, member = self._of.get(name), self._services.get(name)
        if group is None or member is None or member.state.phase is not Phase.WAITING:
            return
        if self.holds(member) is None:
            self._wake(name)
            return
        restart = self._restarts.get(group.name)
        if restart is not None and name in restart.to_start:
            return
        if count(group, self._counted.get(group.name, ()), self._now()).exceeded:
            self._fail(group)
        else:
            self._begin(group, name)

    def _fail(self, group: GroupSpec) -> None:
        counted = self._counted.pop(group.name, ())
        self._restarts.pop(group.name, None)
        self._tell(Told(GroupGaveUp(group.name, len(counted), group.interval), None))
        for name in reversed(group.members):
            member = self._services.get(name)
            if member is not None and member.state.wanted is Wanted.UP:
                member.post(FailRequested("group_limit"))

    def _begin(self, group: GroupSpec, crashed: str) -> None:
        others = [
            name
            for name in restarted_with(group, crashed)
            if (member := self._services.get(name)) is not None
            and member.state.wanted is Wanted.UP
            and member.state.phase is not Phase.FAILED
        ]
        concerned = {crashed, *others}
        self._restarts[group.name] = _Restart(
            f"dependency:{crashed}", others, [one for one in group.members if one in concerned]
        )
        self._go_on(group)

    def _go_on(self, group: GroupSpec) -> None:
        restart = self._restarts.get(group.name)
        if restart is None or not self._all_stopped(restart):
            return
        while restart.to_start:
            name = restart.to_start[0]
            member = self._services.get(name)
            if member is not None and name not in restart.cleared:
                restart.cleared.add(name)
                self._wake(name)
            if member is not None and not self._is_settled(member):
                return
            restart.to_start.popleft()
        del self._restarts[group.name]

    def _all_stopped(self, restart: _Restart) -> bool:
        """Stop one after the other, the last listed first; tell whether all are down."""
        while restart.to_stop:
            name = restart.to_stop[-1]
            member = self._services.get(name)
            if member is not None and name not in restart.asked:
                restart.asked.add(name)
                member.post(RestartRequested(restart.by, Cause.DEPENDENCY))
            if member is not None and member.state.phase in WITH_PROCESSES:
                return False
            restart.to_stop.pop()
        return True

    @staticmethod
    def _is_settled(member: Service) -> bool:
        """Tell whether whoever is listed after this one may start."""
        view = view_of(member.spec, member.state)
        return view.ready or view.gone or member.state.phase is Phase.BACKOFF
