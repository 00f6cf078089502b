"""Find out whether services are ready and healthy: check types, and who carries each out.

tcp, http and file probes are the checker's; exec probes are errands of the core, at most
`EXEC_AT_ONCE` of them at the same time; memory is one small read. All end in a `Verdict`, and from
there on they are alike: a readiness probe that passes makes the run ready, a health check goes
through its thresholds, and the machine is told where one is crossed.

Checks run while the service is up, from ready on; a service that is stopping, or says that it is
(STOPPING=1), is left alone.
"""

import itertools
import resource
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from supervisord_pidfd.asker import Asker, Probe
from supervisord_pidfd.core.events import BecameReady, CheckChanged
from supervisord_pidfd.core.exitstatus import Cause, Exited
from supervisord_pidfd.core.health import (
    UNKNOWN,
    CheckRecord,
    Health,
    Verdict,
    first_run,
    next_run,
    observe,
)
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.notices import CheckFailed, CheckRecovered, CheckUnhealthy
from supervisord_pidfd.core.notify import printable
from supervisord_pidfd.core.spec import (
    CheckKind,
    CheckSpec,
    CommandSpec,
    ReadyKind,
    ServiceSpec,
)
from supervisord_pidfd.errands import Errand, Result
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.process import Provision
from supervisord_pidfd.signals import name_of

if TYPE_CHECKING:
    from supervisord_pidfd.service import Service

EXEC_AT_ONCE = 32
OUTPUT_KEPT = 4096
_WORDS_KEPT = 120
_RESIDENT = 1
"""Which field of /proc/PID/statm is the resident size, in pages."""

_PROBED = {ReadyKind.TCP: "tcp", ReadyKind.HTTP: "http", ReadyKind.FILE: "file"}

Told = Callable[[Verdict | None], None]
_NUMBERS = itertools.count(1)


def needs_checker(specs: Mapping[str, ServiceSpec]) -> bool:
    """Tell whether any of these services has something that only the checker can do."""
    return any(
        spec.ready.kind in _PROBED
        or any(check.kind in {CheckKind.TCP, CheckKind.HTTP} for check in spec.checks)
        or (spec.schedule is not None and spec.schedule.calendar is not None)
        for spec in specs.values()
    )


# -- errands, a bounded number of them ------------------------------------------------------------


class Ask:
    """Hold one command that is to be asked once."""

    # A NamedTuple would have the name of the class, which cannot be imported here, compiled: the
    # compiler's own tables for that cost 200 KB.
    __slots__ = ("command", "done", "service", "timeout")

    def __init__(
        self,
        service: "Service",
        command: CommandSpec,
        timeout: float,
        done: Callable[[Result], None],
    ) -> None:
        self.service = service
        self.command = command
        self.timeout = timeout
        self.done = done


class Commands:
    """Run exec probes, at most `EXEC_AT_ONCE` at a time; the rest waits in order."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self._last = 0
        self._running: dict[int, Errand] = {}
        self._queue: deque[tuple[int, Ask]] = deque()

    def ask(self, ask: Ask) -> int:
        """Run it when its turn comes; return the number to take it back with."""
        self._last += 1
        self._queue.append((self._last, ask))
        self._go_on()
        return self._last

    def take_back(self, number: int) -> None:
        """Kill it, or never start it; it does not answer."""
        errand = self._running.pop(number, None)
        if errand is None:
            self._queue = deque(entry for entry in self._queue if entry[0] != number)
        else:
            errand.cancel()
            self._go_on()

    def _go_on(self) -> None:
        while self._queue and len(self._running) < EXEC_AT_ONCE:
            number, ask = self._queue.popleft()
            self._start(number, ask)

    def _start(self, number: int, ask: Ask) -> None:
        def done(result: Result) -> None:
            self._running.pop(number, None)
            ask.done(result)
            self._go_on()

        state = ask.service.state
        extra = {} if state.pid is None else {"MAINPID": str(state.pid)}
        self._running[number] = Errand(
            self.hands,
            ask.service.spec,
            ask.command,
            ask.timeout,
            extra,
            done,
            keep_output=OUTPUT_KEPT,
            run=state.run,
        )


def verdict_of(result: Result) -> Verdict:
    """Judge how a command went: 0 is good, all else is not."""
    if result.timed_out:
        return Verdict(ok=False, took_s=result.took_s, error="no answer in time", timed_out=True)
    if result.status is None:
        return Verdict(ok=False, took_s=result.took_s, error=f"cannot run: {result.error}")
    if result.status == Exited(0):
        return Verdict(ok=True, took_s=result.took_s)
    match result.status:
        case Exited(code):
            error = f"code {code}"
        case status:
            error = f"signal {name_of(getattr(status, 'signum', 0))}"
    said = printable(result.output.strip().partition(b"\n")[0], _WORDS_KEPT)
    return Verdict(ok=False, took_s=result.took_s, error=f"{error}: {said}" if said else error)


# -- what is under way ----------------------------------------------------------------------------


class Running(Protocol):
    """Be a probe or check that is under way."""

    def stop(self) -> None:
        """End it; nothing is told of it any more."""
        ...


class Remote:
    """Have the checker do it."""

    def __init__(self, asker: Asker, probe: Probe, told: Told) -> None:
        self._asker = asker
        self._ident = asker.watch(probe, told)

    def stop(self) -> None:
        """Take it back."""
        self._asker.unwatch(self._ident)


class Rhythm:
    """Call `look` when it is time: soon, and again when its answer was taken.

    A check (`period` with a place of its own on the grid) or a readiness probe (a period after
    each answer).
    """

    def __init__(
        self, hands: Hands, period: float, look: Callable[[], None], since: float | None
    ) -> None:
        self._clock = hands.loop.clock
        self._period = period
        self._since = since
        self._ident = next(_NUMBERS)
        self._deadline = hands.loop.deadline(look)
        first = self._clock.now() if since is None else first_run(since, self._ident, period)
        self._deadline.arm(first)

    def answered(self) -> None:
        """Look again in its time."""
        now = self._clock.now()
        if self._since is None:
            self._deadline.arm(now + self._period)
        else:
            self._deadline.arm(next_run(self._since, self._ident, self._period, now))

    def stop(self) -> None:
        """Look no more."""
        self._deadline.disarm()


class Command:
    """Run a command over and over, as the service's user; it never overlaps itself."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a repeated command is made of
        self,
        service: "Service",
        commands: Commands,
        command: CommandSpec,
        timeout: float,
        period: float,
        since: float | None,
        told: Told,
    ) -> None:
        self._commands = commands
        self._ask = Ask(service, command, timeout, self._answered)
        self._told = told
        self._number: int | None = None
        self._rhythm = Rhythm(commands.hands, period, self._look, since)

    def _look(self) -> None:
        self._number = self._commands.ask(self._ask)

    def _answered(self, result: Result) -> None:
        self._number = None
        self._rhythm.answered()
        self._told(verdict_of(result))

    def stop(self) -> None:
        """Kill what runs."""
        self._rhythm.stop()
        if self._number is not None:
            self._commands.take_back(self._number)
            self._number = None


class Memory:
    """Compare the resident size of the main process with its limit.

    The kernel fills /proc/PID/statm from counters of its own: no page of the process is touched
    and no lock of its memory taken, so the read cannot be held up by it. The main process is our
    child and not reaped, so the number is its own.
    """

    def __init__(self, service: "Service", hands: Hands, check: CheckSpec, told: Told) -> None:
        self._service = service
        self._check = check
        self._told = told
        since = hands.loop.clock.now() + check.initial_delay
        self._clock = hands.loop.clock
        self._rhythm = Rhythm(hands, check.period, self._look, since)

    def _look(self) -> None:
        began = self._clock.now()
        resident = _resident_bytes(self._service.main_pid)
        self._rhythm.answered()
        took = self._clock.now() - began
        if resident is None:  # it is just ending, or /proc is not there: nothing is known
            return
        too_much = resident > self._check.size
        error = f"{resident} bytes, more than {self._check.size}" if too_much else ""
        self._told(Verdict(ok=not too_much, took_s=took, error=error))

    def stop(self) -> None:
        """Look no more."""
        self._rhythm.stop()


def _resident_bytes(pid: int | None) -> int | None:
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[_RESIDENT]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


class Tools(NamedTuple):
    """Hold what probes are carried out with."""

    hands: Hands
    asker: Asker
    commands: Commands


def start_probe(service: "Service", tools: Tools, told: Told) -> Running | None:
    """Begin to ask whether a run is ready; None if that is learnt in another way."""
    ready = service.spec.ready
    kind = _PROBED.get(ready.kind)
    if kind is not None:
        probe = Probe(kind, ready.target, ready.period, ready.timeout, once=True)
        return Remote(tools.asker, probe, told)
    if ready.kind is ReadyKind.EXEC and ready.command is not None:
        asked = (ready.command, ready.timeout, ready.period, None)
        return Command(service, tools.commands, *asked, told)
    return None


def _remote_check(_service: "Service", tools: Tools, check: CheckSpec, told: Told) -> Running:
    since = tools.hands.loop.clock.now() + check.initial_delay
    probe = Probe(
        check.kind.value,
        check.target,
        check.period,
        check.timeout,
        since,
        headers=check.headers,
        status=check.status,
        verify=check.verify,
    )
    return Remote(tools.asker, probe, told)


def _exec_check(service: "Service", tools: Tools, check: CheckSpec, told: Told) -> Running:
    since = tools.hands.loop.clock.now() + check.initial_delay
    command = check.command or CommandSpec(())
    asked = (command, check.timeout, check.period, since)
    return Command(service, tools.commands, *asked, told)


def _memory_check(service: "Service", tools: Tools, check: CheckSpec, told: Told) -> Running:
    return Memory(service, tools.hands, check, told)


CHECK_TYPES: dict[CheckKind, Callable[["Service", Tools, CheckSpec, Told], Running]] = {
    CheckKind.TCP: _remote_check,
    CheckKind.HTTP: _remote_check,
    CheckKind.EXEC: _exec_check,
    CheckKind.MEMORY: _memory_check,
}
"""How each kind is carried out. A watchdog is heard, not asked: see `Prober.pinged`."""


# -- the companion --------------------------------------------------------------------------------


class Prober:
    """Be the companion that asks whether a service is ready and healthy."""

    def __init__(self, service: "Service", tools: Tools) -> None:
        self._service = service
        self._tools = tools
        self._probe: Running | None = None
        self._checks: dict[str, Running] = {}
        self._specs: dict[str, CheckSpec] = {}
        self._up = False
        self._make_records(service.spec)
        self.follow(service.state, service.state)  # it may be up already

    @staticmethod
    def is_wanted(spec: ServiceSpec) -> bool:
        """Tell whether there is anything to ask."""
        return bool(spec.checks) or spec.ready.kind in _PROBED or spec.ready.kind is ReadyKind.EXEC

    def _make_records(self, spec: ServiceSpec) -> None:
        """Have one record for each check, keeping what was counted."""
        self._specs = {check.name: check for check in spec.checks}
        before = self._service.checks
        self._service.checks = {
            check.name: before[check.name]
            if check.name in before and before[check.name].kind == check.kind.value
            else CheckRecord(check.name, check.kind.value)
            for check in spec.checks
        }

    # -- as a companion ---------------------------------------------------------------------------

    def prepare(self, _run: int) -> Provision:
        """Give nothing: probes come from outside."""
        return Provision()

    def handed_over(self) -> None:
        """Do nothing."""

    def catch_up(self) -> None:
        """Do nothing: what was not asked in time is not asked any more."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Begin and end with the run, and with being ready."""
        starting = after.phase is Phase.STARTING and after.executed and after.pid is not None
        if starting and self._probe is None:
            self._probe = start_probe(self._service, self._tools, self._probed)
        elif not starting and self._probe is not None:
            self._probe.stop()
            self._probe = None
        if before.failing != after.failing:
            self._follow_watchdog(before, after)
        up = after.phase is Phase.RUNNING
        if up and not self._up:
            self._up = True
            for name in self._specs:
                self._begin(name)
        elif not up and self._up:
            self._leave(after)

    def _begin(self, name: str) -> None:
        check = self._specs[name]
        self._service.checks[name].health = UNKNOWN
        kind = CHECK_TYPES.get(check.kind)
        if kind is not None:
            self._checks[name] = kind(
                self._service, self._tools, check, lambda verdict: self._checked(name, verdict)
            )

    def _leave(self, after: ServiceState) -> None:
        """The service is not up any more: end its checks, and know nothing of it."""
        self._up = False
        if after.stop_cause is Cause.WATCHDOG:
            self._missed()
        self._end_checks()
        for record in self._service.checks.values():
            record.health = UNKNOWN

    def _end_checks(self) -> None:
        for running in self._checks.values():
            running.stop()
        self._checks = {}

    def use(self, spec: ServiceSpec) -> None:
        """Begin with new and changed checks, end with those that are gone."""
        old = self._specs
        self._make_records(spec)
        for name, check in old.items():
            if self._specs.get(name) != check:
                running = self._checks.pop(name, None)
                if running is not None:
                    running.stop()
                if self._up:
                    self._service.post(CheckChanged(name, None, check.action))
        if self._up:
            for name, check in self._specs.items():
                if old.get(name) != check:
                    self._begin(name)

    def close(self) -> None:
        """End everything."""
        if self._probe is not None:
            self._probe.stop()
            self._probe = None
        self._end_checks()
        self._up = False

    # -- what the notify socket hears -------------------------------------------------------------

    def pinged(self) -> None:
        """Take a WATCHDOG=1 for a run of the watchdog check that passed."""
        for name, check in self._specs.items():
            if check.kind is CheckKind.WATCHDOG and self._up:
                self._checked(name, Verdict(ok=True))

    def _missed(self) -> None:
        for name, check in self._specs.items():
            if check.kind is CheckKind.WATCHDOG:
                late = Verdict(ok=False, took_s=check.period, error="no answer", timed_out=True)
                self._count(name, late)

    def _follow_watchdog(self, before: ServiceState, after: ServiceState) -> None:
        """Take over what the machine decides by itself: that a watchdog was missed, or is back."""
        for name, check in self._specs.items():
            if check.kind is not CheckKind.WATCHDOG:
                continue
            failed, fails = name in before.failing, name in after.failing
            if fails and not failed:
                self._service.checks[name].health = Health(ok=False, failures=check.failures)
                self._missed()
            elif failed and name in after.checked and not fails:
                self._service.checks[name].health = Health(ok=True)

    def leaving(self) -> None:
        """Leave a service alone that ends by itself."""
        self._end_checks()

    # -- verdicts ---------------------------------------------------------------------------------

    def _probed(self, verdict: Verdict | None) -> None:
        service = self._service
        if verdict is None:
            return
        if verdict.ok:
            service.post(BecameReady(service.spec.ready.kind.value))
        elif verdict.error != service.probe_error:
            service.probe_error = verdict.error
            service.touched()

    def _count(self, name: str, verdict: Verdict) -> None:
        self._service.checks[name].count(verdict, self._tools.hands.loop.clock.wall())
        self._service.touched()

    def _checked(self, name: str, verdict: Verdict | None) -> None:
        """Take a verdict through the thresholds; None is that nothing is known any more."""
        service, check, record = self._service, self._specs[name], self._service.checks[name]
        if verdict is None:
            record.health = UNKNOWN
            service.post(CheckChanged(name, None, check.action))
            return
        failed_before = record.health.ok is False
        record.health, crossed = observe(check, record.health, verdict)
        self._count(name, verdict)
        if not verdict.ok:
            failures = record.health.failures
            service.tell(
                CheckFailed(name, verdict.error, failures, check.failures, verdict.took_s)
            )
        if crossed is None:
            return
        if not crossed:
            service.tell(CheckUnhealthy(name, verdict.error, check.action.value))
        elif failed_before:
            service.tell(CheckRecovered(name))
        service.post(CheckChanged(name, crossed, check.action))
