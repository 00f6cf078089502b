"""The core's end of the gateway's channel: list, then watch, over an inherited socket pair.

What the gateway has not read yet is a *set* of names whose record changed, not a queue: a slow
gateway gets the latest record of each, and costs the core one buffer of at most `BUFFER_BYTES`.
"""

import contextlib
import errno
import json
import select
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, health_of, is_ready
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import GatewayListenFailed, GatewayListening, Told
from supervisord_pidfd.core.spec import MetricsSpec, ServiceSpec, dump
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.process import PASSED_FD, Provision, SpawnError, Stage
from supervisord_pidfd.service import Service

BUFFER_BYTES = 64 << 10
REQUEST_MAX_BYTES = 64 << 10
RECORDS_A_TURN = 64
OPENING = b"1\0"

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Sources(NamedTuple):
    """Hold where the feed gets what it tells."""

    find: Callable[[str], Service | None]
    names: Callable[[], list[str]]
    counters: Callable[[], dict[str, Any]]
    tell: Callable[[Told], None]
    tally: Tally


class Feed:
    """Talk to one gateway process after another. Owns the core's end of the socket pair."""

    def __init__(self, loop: Loop, settings: MetricsSpec, sources: Sources) -> None:
        self.settings = settings
        self._loop = loop
        self._sources = sources
        self._socket: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._buffer = b""
        self._received = b""
        self._changed: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._synced = False
        self._waiting = False

    # -- the companion of the gateway -------------------------------------------------------------

    def prepare(self, run: int) -> Provision:  # noqa: ARG002 - each run begins anew
        """Make a new pair and begin anew; give the gateway its end."""
        self.close()
        try:
            ours, self._theirs = socket.socketpair()
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            raise SpawnError(Stage.STDIO, "channel", name) from None
        ours.setblocking(False)
        self._socket = ours
        self._loop.add(ours.fileno(), Priority.CONTROL, self._ready)
        settings = _encode({"settings": dump(self.settings)}).encode()
        self._buffer = OPENING + settings + b"\0"
        self._received = b""
        self._changed = dict.fromkeys(self._sources.names())
        self._removed = {}
        self._synced = False
        return Provision(descriptors=((PASSED_FD, self._theirs.fileno()),))

    def catch_up(self) -> None:
        """Leave what a gateway said before its end to its next reader."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Nothing depends on the gateway's state."""

    def use(self, spec: ServiceSpec) -> None:
        """Nothing depends on the gateway's spec."""

    def handed_over(self) -> None:
        """Close the gateway's end here: it has its own now."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def close(self) -> None:
        """End the conversation."""
        self.handed_over()
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._loop.close_later(self._socket.detach())
            self._socket = None
        self._waiting = False

    # -- watch ------------------------------------------------------------------------------------

    def touched(self, name: str) -> None:
        """Note that a service's record changed."""
        if self._socket is not None:
            self._changed[name] = None
            self._removed.pop(name, None)

    def removed(self, name: str) -> None:
        """Note that a service is gone."""
        if self._socket is not None:
            self._removed[name] = None
            self._changed.pop(name, None)

    def flush(self) -> bool:
        """Send what has changed, as far as the socket takes it; return whether a turn was full."""
        if self._socket is None:
            return False
        for _ in range(RECORDS_A_TURN):
            if len(self._buffer) >= BUFFER_BYTES or not self._fill_one():
                break
        self._send()
        return not self._buffer and bool(self._changed or self._removed)

    def _fill_one(self) -> bool:
        if self._removed:
            name = next(iter(self._removed))
            del self._removed[name]
            self._put({"removed": name})
        elif self._changed:
            name = next(iter(self._changed))
            del self._changed[name]
            service = self._sources.find(name)
            if service is not None:
                self._put({"service": record_of(service, self._sources.tally)})
        elif not self._synced:
            self._synced = True
            self._put({"synced": True})
        else:
            return False
        return True

    def _put(self, message: dict[str, Any]) -> None:
        self._buffer += _encode(message).encode() + b"\0"

    def _send(self) -> None:
        if self._socket is None:
            return
        try:
            while self._buffer:
                self._buffer = self._buffer[self._socket.send(self._buffer) :]
        except BlockingIOError:
            pass
        except OSError:  # it is gone; its end is seen by the reaper and it is started again
            self.close()
            return
        if bool(self._buffer) is not self._waiting:
            self._waiting = bool(self._buffer)
            events = select.EPOLLIN | (select.EPOLLOUT if self._waiting else 0)
            self._loop.modify(self._socket.fileno(), events)

    # -- calls ------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush()
        if events & ~select.EPOLLOUT and self._socket is not None:
            self._receive(self._socket)

    def _receive(self, channel: socket.socket) -> None:
        data = None
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            data = channel.recv(REQUEST_MAX_BYTES)
        if data is None:
            return
        self._received += data
        if not data or len(self._received) > REQUEST_MAX_BYTES:
            self.close()
            return
        *messages, self._received = self._received.split(b"\0")
        for message in messages:
            self._answer(message)
        self._send()

    def _answer(self, message: bytes) -> None:
        """Answer one message; whatever makes no sense is passed over."""
        try:
            said = json.loads(message)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        if said.get("call") == "Counters":
            self._put({"reply": said.get("id"), "counters": self._sources.counters()})
        notice = said.get("notice")
        if isinstance(notice, dict):
            self._pass_on(notice)

    def _pass_on(self, notice: dict[str, Any]) -> None:
        address = str(notice.get("address"))[:256]
        if notice.get("type") == "listening":
            serves = str(notice.get("serves"))[:64]
            self._sources.tell(Told(GatewayListening(address, serves)))
        elif notice.get("type") == "listen_failed":
            error = str(notice.get("error"))[:64]
            self._sources.tell(Told(GatewayListenFailed(address, error)))


class LogChannel:
    """Lend each logger the read end of the log pipe. Borrows the descriptor."""

    def __init__(self, lend: Callable[[], int]) -> None:
        self._lend = lend

    def prepare(self, run: int) -> Provision:  # noqa: ARG002 - the same pipe for each
        """Give the read end."""
        return Provision(descriptors=((PASSED_FD, self._lend()),))

    def handed_over(self) -> None:
        """Keep our copy: what is in the pipe outlives this logger."""

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
