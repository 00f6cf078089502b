"""A supervisor over real processes, without a daemon: what it tells is kept in order.

Every service has the world's announcements as its descriptor 3.
"""

from collections.abc import Callable
from typing import Any

from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import EVENTS, Told
from supervisord_pidfd.core.spec import ServiceSpec, SupervisorSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.supervisor import Outside, Supervisor
from tests.support.lone import Announcing
from tests.support.world import World

PATIENT = ("/bin/sleep", "1000")


def patient(name: str, **members: Any) -> ServiceSpec:
    """Describe a service that stays up until it is told to end."""
    members.setdefault("argv", PATIENT)
    argv = members.pop("argv")
    return ServiceSpec(name, argv, program=argv[0], fast=True, group=name, **members)


class Staff:
    """Own a supervisor and all services in a world."""

    def __init__(
        self,
        world: World,
        *specs: ServiceSpec,
        settings: SupervisorSpec | None = None,
    ) -> None:
        self.world = world
        self.told: list[Told] = []
        self.over = False
        hands = Hands(world.loop, world.reaper, world.orphans, world.host)
        outside = Outside(
            tell=self.told.append,
            touched=lambda _name: None,
            removed=lambda _name: None,
            exit_handled=lambda _seconds: None,
            finished=self._finished,
            roll=lambda: 0.0,
            companions_of=lambda _service: (Announcing(world),),
        )
        self.supervisor = Supervisor(hands, outside, settings or SupervisorSpec(), pid1=False)
        world.before_reap = self.supervisor.strays.look
        world.loop.after_turn = self._settle
        self.specs = {spec.name: spec for spec in specs}
        self.supervisor.start(self.specs)

    def _finished(self) -> None:
        self.over = True

    def _settle(self) -> bool:
        self.supervisor.settle()
        return False

    # -- looking ------------------------------------------------------------------------------

    def phase(self, name: str) -> Phase:
        """Return the phase of a service."""
        return self.supervisor.services[name].state.phase

    def pid(self, name: str) -> int:
        """Return the pid of a service's main process."""
        pid = self.supervisor.services[name].state.pid
        assert pid is not None, name
        return pid

    def phases(self) -> dict[str, str]:
        """Return all phases."""
        return {name: one.state.phase.value for name, one in self.supervisor.services.items()}

    def order_of(self, event: str, since: int = 0) -> list[str]:
        """Return the services of all events of this name, in the order they were told."""
        return [
            told.service or ""
            for told in self.told[since:]
            if EVENTS[type(told.notice)].event == event
        ]

    # -- doing --------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until the condition holds."""
        self.world.turn_until(condition)

    def until_phase(self, phase: Phase, *names: str) -> None:
        """Turn the loop until these (all, by default) are in a phase."""
        wanted = names or tuple(self.supervisor.services)
        self.until(lambda: all(self.phase(name) is phase for name in wanted))

    def start(self, *names: str, only: bool = False) -> None:
        """Start as an operator does."""
        every = self.supervisor.sets.names_for_start(names, only=only)
        self.supervisor.sets.start(every, "operator:0")
        self.supervisor.settle()

    def stop(self, *names: str, only: bool = False) -> None:
        """Stop as an operator does."""
        every = self.supervisor.sets.names_for_stop(names, only=only)
        self.supervisor.sets.stop(every, "operator:0", Cause.OPERATOR)
        self.supervisor.settle()

    def restart(self, *names: str, only: bool = False) -> None:
        """Restart as an operator does."""
        every = self.supervisor.sets.names_for_restart(names, only=only)
        self.supervisor.sets.restart(every, "operator:0", Cause.OPERATOR)
        self.supervisor.settle()

    def apply(self, *specs: ServiceSpec, without: tuple[str, ...] = ()) -> None:
        """Go over to a configuration that differs in these services."""
        self.specs |= {spec.name: spec for spec in specs}
        self.specs = {name: spec for name, spec in self.specs.items() if name not in without}
        self.supervisor.apply(self.specs, self.supervisor.spec)
        self.supervisor.settle()

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the services; the world ends their processes."""
        self.world.loop.after_turn = lambda: False
        for service in self.supervisor.services.values():
            service.close()
