"""The service machine without a shell: events in, time moved by hand, what it said kept."""

from typing import Any

from supervisord_pidfd.core.events import DeadlinePassed, Event, Executed, Spawned, StartRequested
from supervisord_pidfd.core.lifecycle import Held, Phase, ServiceState, step
from supervisord_pidfd.core.spec import ServiceSpec

PID = 4117
MANY = 1000


def web(**changes: Any) -> ServiceSpec:
    """Describe a service with every default, but for what a test is about."""
    return ServiceSpec("web", ("/srv/web",), **changes)


class Machine:
    """Drive one service's machine.

    Attributes:
        actions: What the events of the last `post`, `wait` or `up` demanded.
        notices: What they told.
        phases: Every phase so far, one entry for each change.
    """

    def __init__(self, spec: ServiceSpec | None = None, roll: float = 0.0) -> None:
        self.spec = spec or web()
        self.state = ServiceState()
        self.now = 1000.0
        self.roll = roll
        self.held: Held | None = None
        self.actions: list[Any] = []
        self.notices: list[Any] = []
        self.phases = [Phase.STOPPED]

    @property
    def phase(self) -> Phase:
        """Return the present phase."""
        return self.state.phase

    def post(self, *events: Event) -> "Machine":
        """Apply events, one after the other, at the present moment."""
        self.actions, self.notices = [], []
        for event in events:
            self._take(event)
        return self

    def _take(self, event: Event) -> None:
        done = step(self.spec, self.state, event, self.now, self.roll, self.held)
        if done.state.phase is not self.state.phase:
            self.phases.append(done.state.phase)
        self.state = done.state
        self.actions += done.actions
        self.notices += done.notices

    def wait(self, seconds: float) -> "Machine":
        """Let time pass; every moment that comes is an event, at its moment."""
        self.actions, self.notices = [], []
        until = self.now + seconds
        for _ in range(MANY):
            if self.state.deadline > until:
                break
            self.now = max(self.now, self.state.deadline)
            self._take(DeadlinePassed())
        else:
            raise AssertionError("the machine spins")
        self.now = until
        return self

    def next_start(self) -> "Machine":
        """Let the backoff pass, and give the program its process."""
        self.wait(self.state.next_start_at - self.now)
        return self.executed()

    def executed(self) -> "Machine":
        """Answer a spawn as the shell does when all goes well."""
        return self.post(Spawned(PID, 0.001), Executed())

    def up(self) -> "Machine":
        """Start by command and execute."""
        self.post(StartRequested("config"))
        return self.executed()

    def told(self, kind: type) -> list[Any]:
        """Return the notices of this class among the last ones."""
        return [notice for notice in self.notices if type(notice) is kind]
