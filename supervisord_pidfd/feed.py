"""What the core tells the gateway: list, then watch, and one question that it answers.

What the gateway has not read yet is a *set* of names whose record changed, not a queue: a slow
gateway gets the latest record of each, and costs the core one buffer.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, health_of, is_ready
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import GatewayListenFailed, GatewayListening, Told
from supervisord_pidfd.core.spec import GatewaySpec, ServiceSpec, dump
from supervisord_pidfd.line import Line
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.process import (
    CHANNEL_FD,
    PASSED_FD,
    Provision,
    SpawnError,
    Stage,
    errno_name,
)
from supervisord_pidfd.service import Service
from supervisord_pidfd.taps import Taps

RECORDS_A_TURN = 64


class Sources(NamedTuple):
    """Hold where the feed gets what it tells."""

    find: Callable[[str], Service | None]
    names: Callable[[], list[str]]
    counters: Callable[[], dict[str, Any]]
    tell: Callable[[Told], None]
    tally: Tally
    taps: Taps | None = None


class Feed:
    """Talk to one gateway process after another, as its companion."""

    def __init__(self, loop: Loop, settings: GatewaySpec, sources: Sources) -> None:
        self.settings = settings
        self._sources = sources
        self._line = Line(loop, self._answer, self.flush)
        self._changed: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._synced = False

    # -- the companion of the gateway -------------------------------------------------------------

    def prepare(self, run: int) -> Provision:  # noqa: ARG002 - each run begins anew
        """Make a new pair and begin anew; give the gateway its end."""
        provision = self._line.open(dump(self.settings))
        taps = self._sources.taps
        if taps is not None and taps.readable is not None:
            counters = (CHANNEL_FD, taps.readable)
            provision = Provision(descriptors=(*provision.descriptors, counters))
        self._changed = dict.fromkeys(self._sources.names())
        self._removed = {}
        self._synced = False
        return provision

    def catch_up(self) -> None:
        """Leave what a gateway said before its end to its next reader."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Nothing depends on the gateway's state."""

    def use(self, spec: ServiceSpec) -> None:
        """Nothing depends on the gateway's spec."""

    def handed_over(self) -> None:
        """Close the gateway's end here: it has its own now."""
        self._line.handed_over()

    def close(self) -> None:
        """End the conversation."""
        self._line.close()

    # -- watch ------------------------------------------------------------------------------------

    def touched(self, name: str) -> None:
        """Note that a service's record changed."""
        if self._line.is_open:
            self._changed[name] = None
            self._removed.pop(name, None)

    def removed(self, name: str) -> None:
        """Note that a service is gone."""
        if self._line.is_open:
            self._removed[name] = None
            self._changed.pop(name, None)

    def flush(self) -> bool:
        """Send what has changed, as far as the socket takes it; return whether a turn was full."""
        if not self._line.is_open:
            return False
        for _ in range(RECORDS_A_TURN):
            if not (self._line.has_room and self._fill_one()):
                break
        self._line.send()
        return self._line.is_idle and bool(self._changed or self._removed)

    def _fill_one(self) -> bool:
        if self._removed:
            name = next(iter(self._removed))
            del self._removed[name]
            self._line.put({"removed": name})
        elif self._changed:
            name = next(iter(self._changed))
            del self._changed[name]
            service = self._sources.find(name)
            if service is not None:
                taps = self._sources.taps
                record = record_of(service, self._sources.tally)
                record["log_slot"] = None if taps is None else taps.slot(name)
                self._line.put({"service": record})
        elif not self._synced:
            self._synced = True
            self._line.put({"synced": True})
        else:
            return False
        return True

    # -- calls ------------------------------------------------------------------------------------

    def _answer(self, message: bytes) -> None:
        """Answer one message; whatever makes no sense is passed over."""
        try:
            said = json.loads(message)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        if said.get("call") == "Counters":
            self._count(said.get("http"))
            self._line.put({"reply": said.get("id"), "counters": self._sources.counters()})
        notice = said.get("notice")
        if isinstance(notice, dict):
            self._pass_on(notice)

    def _count(self, answers: object) -> None:
        """Take over what the gateway has answered since it last asked."""
        for row in answers if isinstance(answers, list) else ():
            match row:
                case [str(handler), int(code), int(number)] if number > 0:
                    self._sources.tally.count_http(handler[:32], code, number)

    def _pass_on(self, notice: dict[str, Any]) -> None:
        address = str(notice.get("address"))[:256]
        if notice.get("type") == "listening":
            serves = str(notice.get("serves"))[:64]
            self._sources.tell(Told(GatewayListening(address, serves)))
        elif notice.get("type") == "listen_failed":
            error = str(notice.get("error"))[:64]
            self._sources.tell(Told(GatewayListenFailed(address, error)))


class LogChannel:
    """Lend each logger the read end of the log pipe, and give it a channel of its own.

    Borrows the pipe and the taps.
    """

    def __init__(self, lend: Callable[[], int], taps: Taps | None) -> None:
        self._lend = lend
        self._taps = taps

    def prepare(self, run: int) -> Provision:  # noqa: ARG002 - the same for each
        """Give the read end, and the other end of the channel."""
        try:
            given = [(PASSED_FD, self._lend())]
            if self._taps is not None:
                given.append((CHANNEL_FD, self._taps.connect()))
        except OSError as error:
            raise SpawnError(Stage.STDIO, "channel", errno_name(error)) from None
        return Provision(descriptors=tuple(given))

    def handed_over(self) -> None:
        """Keep our copy of the pipe: what is in it outlives this logger."""
        if self._taps is not None:
            self._taps.line.handed_over()

    def catch_up(self) -> None:
        """A logger only reads."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Nothing depends on the logger's state."""

    def use(self, spec: ServiceSpec) -> None:
        """Nothing depends on the logger's spec."""

    def close(self) -> None:
        """The pipe is borrowed."""


def record_of(service: Service, tally: Tally) -> dict[str, Any]:
    """Describe a service as plain data, with its totals."""
    spec, state = service.spec, service.state
    return {
        "name": spec.name,
        "group": spec.group,
        "type": spec.type.value,
        "restart": spec.restart.value,
        "critical": spec.critical,
        "phase": state.phase.value,
        "wanted": state.wanted.value,
        "ready": is_ready(spec, state),
        "health": health_of(spec, state),
        "checks": [record.plain() for record in service.checks.values()],
        "pid": state.pid,
        "run": state.run,
        "since_ts": service.since_wall,
        "started_ts": service.started_wall if state.has_process else None,
        "attempt": 0 if state.phase is Phase.STOPPED else state.attempt,
        "last_exit": _exit_of(state.last_exit),
        "internal": service.internal,
        "totals": tally.totals(spec.name),
        "max_rss_bytes": service.last_usage.max_rss_bytes,
    }


def _exit_of(end: End | None) -> dict[str, Any] | None:
    if end is None:
        return None
    status = end.status
    return {
        "cause": end.cause.value,
        "exit_code": status.code if isinstance(status, Exited) else None,
        "signum": status.signum if isinstance(status, Signaled) else None,
    }
