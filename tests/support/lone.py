"""One service without a supervisor: what it tells is kept, what it asks for is granted."""

from typing import Any

from supervisord_pidfd.core.events import StartRequested, StopRequested
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.spec import BackoffSpec, RestartPolicy, ServiceSpec, StartLimitSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.process import PASSED_FD, Provision
from supervisord_pidfd.service import Service
from supervisord_pidfd.taps import Taps
from tests.support.world import World

AT_ONCE = BackoffSpec(delay=0.0, jitter=0.0)
NO_LIMIT = StartLimitSpec(burst=0)


def restarting(name: str, argv: tuple[str, ...], **members: Any) -> ServiceSpec:
    """Describe a service that is restarted at once and for ever."""
    members.setdefault("program", argv[0])
    members.setdefault("fast", True)
    members.setdefault("restart", RestartPolicy.ALWAYS)
    members.setdefault("backoff", AT_ONCE)
    members.setdefault("start_limit", NO_LIMIT)
    return ServiceSpec(name, argv, **members)


class Announcing:
    """Give each run the world's announcements as its descriptor 3."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self, run: int) -> Provision:  # noqa: ARG002
        """Give the write end."""
        return Provision(descriptors=((PASSED_FD, self._world.announce),))

    def handed_over(self) -> None:
        """Keep the descriptor: it is the world's."""

    def catch_up(self) -> None:
        """Tests read what is announced themselves."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Nothing depends on the state."""

    def use(self, spec: ServiceSpec) -> None:
        """Nothing depends on the spec."""

    def close(self) -> None:
        """Nothing is owned."""


class Lone:
    """Own one service in a world; `told` are the names of its notices, newest last, if kept."""

    def __init__(
        self,
        world: World,
        spec: ServiceSpec,
        *,
        keep: bool = True,
        announces: bool = False,
        taps: Taps | None = None,
    ) -> None:
        self.world = world
        self.told: list[str] = []
        self._keep = keep
        hands = Hands(world.loop, world.reaper, world.orphans, world.host, taps)
        self.service = Service(spec, hands, self, (Announcing(world),) if announces else ())

    @property
    def state(self) -> ServiceState:
        """Return the state the service is in."""
        return self.service.state

    def start(self) -> None:
        """Ask for a start."""
        self.service.post(StartRequested("operator"))

    def stop(self) -> None:
        """Ask for a stop and wait until nothing is left."""
        self.service.post(StopRequested("operator"))
        self.world.turn_until(lambda: self.state.phase in {Phase.STOPPED, Phase.FAILED})

    # -- what the service needs ---------------------------------------------------------------

    def tell(self, told: Any) -> None:
        """Take a notice."""
        if self._keep:
            self.told.append(type(told.notice).__name__)

    def held(self, _service: Service) -> None:
        """Let every start go ahead."""
        return

    def changed(self, service: Service, before: ServiceState) -> None:
        """Take note of a new state."""

    def exit_handled(self, seconds: float) -> None:
        """Take how long it took to act on an exit."""

    def end_daemon(self, _service: Service, code: int) -> None:
        """Refuse: there is no daemon."""
        raise AssertionError(code)

    def roll(self) -> float:
        """Return no chance at all."""
        return 0.0
