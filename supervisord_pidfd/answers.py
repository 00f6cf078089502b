"""How calls about services are answered: names looked up, refusals, waits for a change.

The answer of a call that waits comes when its change is over, from the loop; with `more`, each
service that is finished is a reply of its own before it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from supervisord_pidfd.changes import Change, Changes, Outcome, Waiter
from supervisord_pidfd.commands import (
    INVALID_PARAMETER,
    NO_SUCH_SERVICE,
    REFUSED,
    WAIT_TIMED_OUT,
    Call,
)
from supervisord_pidfd.core.naming import NoSuchNameError, TooManyGlobsError
from supervisord_pidfd.service import Service

EVERYTHING = "all"
"""What stands for all services; none can have this name."""

SHUTTING_DOWN = "the daemon is shutting down"


class Answers:
    """Answer what the handlers have in common.

    Args:
        services: The services by their full names.
        changes: The commands under way.
        resolve: Turns names as typed into full names, or raises as `naming.expand` does.
        record: Describes a service as `Status` does.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        changes: Changes,
        resolve: Callable[[Iterable[str]], tuple[str, ...]],
        record: Callable[[Service], Mapping[str, Any]],
    ) -> None:
        self.changes = changes
        self._services = services
        self._resolve = resolve
        self._record = record

    # -- names ------------------------------------------------------------------------------------

    def named(self, call: Call, names: list[str] | None = None) -> tuple[str, ...] | None:
        """Look all names up; answer the call if one of them stands for nothing."""
        given = names if names is not None else call.parameters["names"]
        if not given:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
            return None
        if given == [EVERYTHING]:
            return tuple(self._services)
        try:
            return self._resolve(given)
        except NoSuchNameError as error:
            no_such(call, error.name, error.suggestion)
        except TooManyGlobsError:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
        return None

    def one(self, call: Call) -> Service | None:
        """Look up a name that has to stand for one service alone."""
        name = call.parameters["name"]
        names = self.named(call, [name])
        if names is None:
            return None
        if len(names) > 1:  # such as `worker` with four instances
            no_such(call, name, names[0])
            return None
        return self._services[names[0]]

    # -- waiting ----------------------------------------------------------------------------------

    def answer(self, call: Call, change: Change, frame: Mapping[str, Any] | None = None) -> None:
        """Answer a call that began a change: at once if it does not wait.

        `frame` is what the reply has beside the outcomes; the number of the change by default.
        """
        frame = {"change": change.ident} if frame is None else frame
        self.changes.look(change)
        if call.parameters["wait"] is False:
            call.reply({**frame, "outcomes": []})
        else:
            self.wait(call, change, frame)

    def wait(self, call: Call, change: Change, frame: Mapping[str, Any]) -> None:
        """Answer a call when a change is over, or when the client wants to wait no longer."""

        def finished(outcome: Outcome) -> None:
            if call.more:
                call.reply({**frame, "outcomes": [outcome._asdict()]}, continues=True)

        def over(done: Change) -> None:
            call.reply({**frame, "outcomes": [one._asdict() for one in done.outcomes]})

        def timed_out(late: Change) -> None:
            unfinished = [self._placed(one) for one in self.changes.unfinished(late)]
            outcomes = [*late.outcomes, *unfinished]
            said = {"change": late.ident, "outcomes": [one._asdict() for one in outcomes]}
            call.error(WAIT_TIMED_OUT, said)

        waiter = Waiter(finished, over, timed_out, given(call, "timeout_s", math.inf))
        call.on_gone(lambda: self.changes.leave(change, waiter))
        self.changes.wait(change, waiter)

    def _placed(self, outcome: Outcome) -> Outcome:
        """Say what a service that is not there yet waits for, or what it is at."""
        service = self._services.get(outcome.service)
        if service is None:
            return outcome
        return outcome._replace(message=_place(self._record(service), outcome.phase))


def _place(record: Mapping[str, Any], phase: str) -> str:
    """Say where a service is, to somebody who waited for it to be elsewhere."""
    needs, detail = ", ".join(record["waiting_for"]), record["detail"]
    if needs:
        return f"waiting for {needs}"
    if phase == "running":
        return f"running, {'ready' if record['ready'] else 'not ready'}, {record['health']}"
    if phase in {"starting", "stopping"}:
        return detail or phase
    return f"{phase} ({detail})" if detail else phase


def given(call: Call, name: str, default: float) -> float:
    """Return a number that the client gave, or the default."""
    value = call.parameters[name]
    return default if value is None else float(value)


def refuse(call: Call, reason: str, message: str) -> None:
    """Answer that this is not done now, and why."""
    call.error(REFUSED, {"reason": reason, "message": message})


def no_such(call: Call, name: str, suggestion: str | None) -> None:
    """Answer that a name stands for nothing."""
    call.error(NO_SUCH_SERVICE, {"name": name, "suggestion": suggestion})
