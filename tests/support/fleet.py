"""Some machines that are commanded together, and the changes that follow them."""

from supervisord_pidfd.changes import Changes, Waiter
from supervisord_pidfd.core.events import RestartRequested, StartRequested, StopRequested
from supervisord_pidfd.core.goals import Asked, Goal, ask_restart, ask_start
from supervisord_pidfd.loop import Loop
from tests.fakes import FakeClock
from tests.support.machine import Machine, web


class Fleet:
    """Some machines, and the changes that follow them; time is moved by hand."""

    def __init__(self, *names, **members):
        self.clock = FakeClock()
        self.errors = []
        self.loop = Loop(self.clock, lambda *error: self.errors.append(error))
        self.machines = {}
        for name in names or ("web",):
            machine = Machine(web(**members)._replace(name=name))
            machine.name = name
            machine.pending = None
            self.machines[name] = machine
        self.changes = Changes(self.loop, self.machines)
        self.said = []

    def post(self, name, *events):
        machine = self.machines[name]
        machine.now = self.clock.now()
        before = machine.state
        machine.post(*events)
        self.changes.changed(machine, before)
        return self

    def up(self, name="web"):
        machine = self.machines[name]
        machine.now = self.clock.now()
        before = machine.state
        machine.executed()
        self.changes.changed(machine, before)
        return self

    def start(self, *names, settle=0.0):
        now = self.clock.now()
        asked = {name: ask_start(self.machines[name].state, now, settle) for name in names}
        change = self.changes.begin("start", asked)
        for name in names:
            self.post(name, StartRequested("operator:0"))
        self.changes.look(change)
        return change

    def stop(self, *names):
        change = self.changes.begin(
            "stop", {name: Asked(Goal.DOWN, self.clock.now()) for name in names}
        )
        for name in names:
            self.post(name, StopRequested("operator:0"))
        self.changes.look(change)
        return change

    def restart(self, name, settle=0.0):
        asked = ask_restart(self.machines[name].state, self.clock.now(), settle)
        self.post(name, RestartRequested("operator:0"))
        return asked

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.loop.run_once(0.0)

    def wait(self, change, timeout=float("inf")):
        waiter = Waiter(
            lambda outcome: self.said.append((outcome.service, outcome.ok, outcome.message)),
            lambda _change: self.said.append("over"),
            lambda _change: self.said.append("timed out"),
            timeout,
        )
        self.changes.wait(change, waiter)
        return waiter
