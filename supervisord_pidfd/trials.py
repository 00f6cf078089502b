"""Try out: run the `reload.check` of services before something is done to them.

A check says by its exit code whether the service would take its own configuration. What is to be
done waits until all have answered; whatever they say, nobody has been touched yet.
"""

from collections import deque
from collections.abc import Callable, Iterable

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.notices import ServiceReloadRefused
from supervisord_pidfd.core.spec import Hook, ServiceSpec
from supervisord_pidfd.errands import Errand, Result
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.service import Service
from supervisord_pidfd.signals import name_of

AT_ONCE = 8
KEPT_OUTPUT = 4096
SHOWN = 200
"""Characters of a check's first line that a message has."""

Failures = dict[str, str]
"""What each check that failed said, by service."""

Tried = Callable[[Failures], None]


class Trials:
    """Run all trials. Owns the errands under way."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._running: set[Trial] = set()

    def run(self, candidates: Iterable[tuple[Service, ServiceSpec]], done: Tried) -> None:
        """Try these services out, each with the spec that it is to run with.

        `done` is called with what failed: now, if there is nothing to run, or else from the loop.
        """
        asked = [(service, spec) for service, spec in candidates if spec.reload.check is not None]
        if not asked:
            done({})
            return
        trial = Trial(self._hands, asked, lambda failures: self._over(trial, failures, done))
        self._running.add(trial)
        trial.begin()

    def close(self) -> None:
        """End all checks; nobody is told."""
        for trial in self._running:
            trial.cancel()
        self._running.clear()

    def _over(self, trial: "Trial", failures: Failures, done: Tried) -> None:
        self._running.discard(trial)
        done(failures)


class Trial:
    """Hold the checks of one command: some run, the others follow."""

    def __init__(
        self, hands: Hands, asked: Iterable[tuple[Service, ServiceSpec]], done: Tried
    ) -> None:
        self._hands = hands
        self._asked = deque(asked)
        self._done = done
        self._errands: dict[str, Errand] = {}
        self._failures: Failures = {}

    def begin(self) -> None:
        """Run as many as may run at once."""
        while self._asked and len(self._errands) < AT_ONCE:
            service, spec = self._asked.popleft()
            self._errands[spec.name] = self._errand(service, spec)

    def cancel(self) -> None:
        """Kill what runs."""
        for errand in self._errands.values():
            errand.cancel()

    def _errand(self, service: Service, spec: ServiceSpec) -> Errand:
        command, pid = spec.reload.check, service.main_pid
        assert command is not None  # noqa: S101 - asked by `run`
        environment = {"SUPERVISORD_HOOK": Hook.RELOAD_CHECK.value}
        if pid is not None:
            environment["MAINPID"] = str(pid)
        return Errand(
            self._hands,
            spec,
            command,
            spec.reload.timeout,
            environment,
            lambda result: self._ended(service, result),
            KEPT_OUTPUT,
            run=service.state.run,
        )

    def _ended(self, service: Service, result: Result) -> None:
        del self._errands[service.name]
        if not result.ok:
            said = _said(result)
            self._failures[service.name] = said
            service.tell(ServiceReloadRefused(said))
        self.begin()
        if not self._errands:
            self._done(self._failures)


def refusal(failures: Failures) -> str:
    """Say in one line whose check failed, and how."""
    (name, said), *others = failures.items()
    more = f" (and {len(others)} more)" if others else ""
    return f"{name}: reload.check: {said}{more}"


def _said(result: Result) -> str:
    """Write how a check failed, with the first line that it wrote."""
    match result.status:
        case Exited(code):
            how = f"code {code}"
        case Signaled(signum, _):
            how = f"signal {name_of(signum)}"
        case _:
            how = result.error or "status unknown"
    if result.timed_out:
        how = f"not over after {result.took_s:.3g}s"
    lines = result.output.decode("utf-8", "replace").split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    return f"{how}: {first[:SHOWN]}" if first else how
