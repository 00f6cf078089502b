"""The core's end of the checker's channel: what to probe, and what was found.

All that is asked is kept here until it is taken back, so a checker that died is told everything
anew by the next one. What its socket does not take waits as a *set* of numbers whose asking
changed, not as a queue. While there is no checker nothing is known of its checks: whoever asked is
told so (None), and nothing else follows.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.health import Verdict
from supervisord_pidfd.core.lifecycle import ServiceState
from supervisord_pidfd.core.spec import ServiceSpec
from supervisord_pidfd.line import Line
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.process import Provision

SENT_A_TURN = 64
TOLD_A_TURN = 16
"""How many probes are dealt with before the loop goes on to others. A service that is told makes
its step and lets all who watch it know: a tenth of a millisecond on a busy machine.
"""

_ERROR_MAX = 256

Told = Callable[[Verdict | None], None]
Answered = Callable[[float | None, str | None], None]


class Probe(NamedTuple):
    """Hold what the checker is to probe: `kind` is tcp, http or file.

    `since` is the moment (CLOCK_MONOTONIC) from which a check may run; `once` says to stop when
    it passes.
    """

    kind: str
    target: str
    period: float
    timeout: float
    since: float = 0.0
    once: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    verify: bool = True


class Question(NamedTuple):
    """Hold a question about the calendar, and who waits for the answer."""

    service: str
    message: dict[str, Any]
    answered: Answered


class Asker:
    """Talk to one checker process after another, as its companion."""

    def __init__(self, loop: Loop) -> None:
        self.user: str | None = None
        self._loop = loop
        self._line = Line(loop, self._take, self._flush)
        self._probes: dict[int, tuple[Probe, Told]] = {}
        self._questions: dict[int, Question] = {}
        self._of_service: dict[str, int] = {}
        self._changed: dict[int, None] = {}
        self._unknown: dict[int, None] = {}
        self._more = loop.deadline(self._flush)
        self._lost = loop.deadline(self._tell_lost)
        self._last = 0

    # -- asking -----------------------------------------------------------------------------------

    def watch(self, probe: Probe, told: Told) -> int:
        """Have something probed over and over; return the number to take it back with."""
        self._last += 1
        self._probes[self._last] = (probe, told)
        self._touch(self._last)
        return self._last

    def unwatch(self, ident: int) -> None:
        """Have it probed no more; nothing is told of it from now on."""
        if self._probes.pop(ident, None) is not None:
            self._touch(ident)

    def ask_next(
        self,
        service: str,
        calendar: str,
        timezone: str | None,
        after: float,
        answered: Answered,
    ) -> None:
        """Ask for the first time of a calendar after `after` (Unix seconds).

        `answered(moment, error)` is called once; a later question for this service replaces one
        that is still open.
        """
        self.forget(service)
        self._last += 1
        message = {"ask": self._last, "calendar": calendar, "timezone": timezone, "after": after}
        self._questions[self._last] = Question(service, message, answered)
        self._of_service[service] = self._last
        self._touch(self._last)

    def forget(self, service: str) -> None:
        """Take back the question of a service, if one is open."""
        ident = self._of_service.pop(service, None)
        if ident is not None:
            self._questions.pop(ident, None)

    def _touch(self, ident: int) -> None:
        if self._line.is_open:
            self._changed[ident] = None
            self._flush()

    # -- as a companion of the checker ------------------------------------------------------------

    def prepare(self, _run: int) -> Provision:
        """Make a new pair and begin anew."""
        provision = self._line.open({"user": self.user})
        self._changed = dict.fromkeys((*self._probes, *self._questions))
        self._flush()
        return provision

    def handed_over(self) -> None:
        """Close the checker's end here: it has its own now."""
        self._line.handed_over()

    def catch_up(self) -> None:
        """Do nothing: what it found before it ended is old."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Say that nothing is known any more when the checker has gone."""
        if before.has_process and not after.has_process:
            self.close()
            self._unknown = dict.fromkeys(self._probes)
            self._tell_lost()

    def _tell_lost(self) -> None:
        """Say of some probes that nothing is known; the others have their turn."""
        for _ in range(TOLD_A_TURN):
            if not self._unknown:
                return
            ident = next(iter(self._unknown))
            del self._unknown[ident]
            watched = self._probes.get(ident)
            if watched is not None:
                watched[1](None)
        self._lost.arm(self._loop.clock.now())

    def use(self, spec: ServiceSpec) -> None:
        """Do nothing: the checker has no settings of its own."""

    def close(self) -> None:
        """End the conversation; what is asked is kept for the next one."""
        self._line.close()
        self._more.disarm()
        self._changed = {}

    # -- sending ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Encode what has changed and send it, as far as the socket takes it."""
        if not self._line.is_open:
            return
        for _ in range(SENT_A_TURN):
            if not (self._changed and self._line.has_room):
                break
            ident = next(iter(self._changed))
            del self._changed[ident]
            self._line.put(self._message(ident))
        self._line.send()
        if self._changed and self._line.is_idle:
            self._more.arm(self._loop.clock.now())

    def _message(self, ident: int) -> dict[str, Any]:
        asked = self._questions.get(ident)
        if asked is not None:
            return asked.message
        watched = self._probes.get(ident)
        if watched is None:
            return {"unwatch": ident}
        probe = watched[0]
        delay = max(0.0, probe.since - self._loop.clock.now())
        message = probe._asdict() | {"watch": ident, "delay": delay}
        del message["since"]
        return message

    # -- hearing ----------------------------------------------------------------------------------

    def _take(self, message: bytes) -> None:
        """Act on one message; whatever makes no sense is passed over."""
        act: Callable[[], None] | None = None
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads(message)
            act = self._verdict(said) if "verdict" in said else self._answer(said)
        if act is not None:
            act()

    def _verdict(self, said: dict[str, Any]) -> Callable[[], None] | None:
        watched = self._probes.get(said["verdict"])
        if watched is None:  # taken back meanwhile
            return None
        self._unknown.pop(said["verdict"], None)
        verdict = Verdict(
            ok=said["ok"] is True,
            took_s=float(said["took_s"]),
            error=str(said["error"])[:_ERROR_MAX],
            timed_out=said["timed_out"] is True,
        )
        return lambda: watched[1](verdict)

    def _answer(self, said: dict[str, Any]) -> Callable[[], None] | None:
        ident = said["answer"]
        moment = None if said["next"] is None else float(said["next"])
        error = None if said["error"] is None else str(said["error"])[:_ERROR_MAX]
        question = self._questions.pop(ident, None)
        if question is None:
            return None
        self._of_service.pop(question.service, None)
        return lambda: question.answered(moment, error)
