"""The verbs that change something, and the waits for it."""

import os
import select
from collections.abc import Mapping, Sequence
from typing import Any

from supervisord_pidfd.cli import problems
from supervisord_pidfd.cli.screen import escape, length, plural
from supervisord_pidfd.cli.session import DONE, FAILED, TIMED_OUT, Failure, Session
from supervisord_pidfd.client import INTERFACE, Reply
from supervisord_pidfd.config.units import format_duration
from supervisord_pidfd.errors import ReplyError

TIMED_OUT_ERROR = f"{INTERFACE}.WaitTimedOut"
SETTLE_S = 1.0

Outcome = Mapping[str, Any]


class Outcomes:
    """Print each service once, when it has finished, and keep in mind how it went."""

    def __init__(self, session: Session) -> None:
        self._screen = session.screen
        self._told: set[str] = set()
        self.failed = False

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Print the outcomes that are new."""
        for outcome in outcomes:
            name = str(outcome["service"])
            if name in self._told:
                continue
            self._told.add(name)
            line = escape(f"{name}: {outcome['message'] or outcome['phase']}")
            if outcome["ok"]:
                self._screen.line(line)
                continue
            self.failed = True
            hint = "" if "pidfdctl" in line else f" (pidfdctl explain {escape(name)})"
            self._screen.warn(line + hint)

    def untold(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return those that have not finished: a time-out names them too."""
        return [one for one in outcomes if str(one["service"]) not in self._told and not one["ok"]]


def change(session: Session) -> int:
    """Start, stop, restart or reload services; wait, unless told not to."""
    words = session.words
    method = words.verb.method or ""
    parameters: dict[str, object] = {
        "names": words.names, "wait": not words.has("no_wait"),
        "timeout_s": words.number("timeout"), "only": words.has("only") or None,
        "rolling": words.has("rolling") or None,
    }  # fmt: skip
    if method in {"Start", "Restart"}:
        settle = words.number("settle")
        parameters["settle_s"] = SETTLE_S if settle is None else settle
    return _follow(session, method, parameters)


def wait(session: Session) -> int:
    """Wait for services, or for a change that goes on."""
    words = session.words
    number = words.values.get("change")
    goal = None if number is not None else words.text("for") or "ready"
    parameters = {
        "names": words.names, "condition": goal, "change": number,
        "timeout_s": words.number("timeout"),
    }  # fmt: skip
    timeout = words.number("timeout")
    seen = Outcomes(session)
    limit = None if timeout is None else timeout + 10.0
    try:
        # Not a method with `more`: one reply, when all are there.
        ((reply, _),) = session.client.stream("Wait", parameters, limit, more=False)
    except ReplyError as error:
        return _timed_out(session, error, seen, timeout)
    return _finish(session, reply, seen)


def apply(session: Session) -> int:
    """Load the configuration and act on it."""
    words = session.words
    parameters = {
        "only": words.values.get("only"), "no_restart": words.has("no_restart") or None,
        "expect": words.text("expect"), "wait": not words.has("no_wait"),
        "timeout_s": words.number("timeout"),
    }  # fmt: skip
    return _follow(session, "Apply", parameters)


def _follow(session: Session, method: str, parameters: Mapping[str, object]) -> int:
    """Print outcomes as they come, until the last reply has all."""
    timeout = session.words.number("timeout")
    waits = parameters["wait"]
    seen = Outcomes(session)
    reply: Reply = {}
    try:
        limit = timeout if waits else 0.0
        for reply, continues in session.stream(method, parameters, wait=limit):
            if continues:
                seen.tell(reply.get("outcomes") or [])
    except ReplyError as error:
        return _timed_out(session, error, seen, timeout)
    if reply.get("problems") and not session.screen.as_json:
        session.screen.warn(problems.render(reply["problems"]).rstrip("\n"))
    code = _finish(session, reply, seen)
    if not waits and "change" in reply:
        session.screen.line(
            f"change {reply['change']} goes on (pidfdctl wait --change {reply['change']})"
        )
    elif method == "Apply" and not reply.get("outcomes") and code == DONE:
        session.screen.line("nothing to do")
    return code


def _finish(session: Session, reply: Reply, seen: Outcomes) -> int:
    session.screen.frame(reply)
    seen.tell(reply.get("outcomes") or [])
    return FAILED if seen.failed else DONE


def _timed_out(session: Session, error: ReplyError, seen: Outcomes, timeout: float | None) -> int:
    """Tell what is not there yet; a service that failed before that wins."""
    if error.name != TIMED_OUT_ERROR:
        raise error
    outcomes: Any = error.parameters.get("outcomes") or []
    pending = (
        [one for one in outcomes if not one["ok"]] if not seen.failed else (seen.untold(outcomes))
    )
    seen.tell([one for one in outcomes if one["ok"]])
    change = error.parameters.get("change")
    text = f"cannot confirm {_waited_for(session, pending, timeout)}"
    only_waited = session.words.verb.name == "wait" and "change" not in session.words.values
    goes_on = f"; it goes on (pidfdctl wait --change {change})"
    goes_on = goes_on if change and not only_waited else ""
    code = FAILED if seen.failed else TIMED_OUT
    failure = Failure(code, "WaitTimedOut", text + goes_on, error.parameters)
    if session.screen.as_json:
        session.screen.object(failure.as_json())
    session.screen.error(failure.text)
    return code


def _waited_for(session: Session, pending: Sequence[Outcome], timeout: float | None) -> str:
    after = f"after {format_duration(timeout)}" if timeout is not None else "in time"
    if not pending:
        return f"{session.words.what}: not done {after}"
    named = [one for one in pending if _is_named(session.words.operands, str(one["service"]))]
    first, *others = named or pending
    more = f" (and {plural(len(others), 'other')})" if others else ""
    message = escape(str(first["message"] or first["phase"]))
    return f"'{escape(str(first['service']))}'{more}: {message} {after}"


def _is_named(names: Sequence[str], service: str) -> bool:
    """Tell whether a service was asked for by its name, and not only what it needs."""
    return service in names or service.partition("@")[0] in names


def act(session: Session) -> int:
    """Signal, reset, freeze or thaw: done at once."""
    words = session.words
    parameters = {
        "names": words.names, "signal": words.text("signal"), "group": words.has("group") or None,
    }  # fmt: skip
    return _finish(session, session.call(words.verb.method or "", parameters), Outcomes(session))


# -- the daemon itself ----------------------------------------------------------------------------


def shutdown(session: Session) -> int:
    """Tell the daemon to stop everything and end; wait for its end."""
    begun = session.clock.now()
    end = _end_of(session.client.peer.pid)
    try:
        reply = session.call("Shutdown")
        session.screen.frame(reply)
        if session.words.has("no_wait"):
            session.screen.line("the daemon is shutting down")
            return DONE
        if end is None:
            session.client.wait_for_end()
        else:
            poll = select.poll()
            poll.register(end, select.POLLIN)
            poll.poll()
    finally:
        if end is not None:
            os.close(end)
    session.screen.line(
        f"the daemon: ended (after {length(session.clock.now() - begun, fine=True)})"
    )
    return DONE


def _end_of(pid: int) -> int | None:
    """Open what becomes readable at the daemon's end; None where that cannot be."""
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None


def reexec(session: Session) -> int:
    """Have the daemon replace itself."""
    session.screen.frame(session.call("Reexec"))
    session.screen.line("the daemon was replaced by the installed version")
    return DONE
