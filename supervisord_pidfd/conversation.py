"""One client of the control socket: its requests in, its answers out, within bounds.

A conversation has one call at a time: what its client sends meanwhile stays in the kernel's
buffer. Answers are made piece by piece, only as the client reads, into a buffer of `OUT_BYTES`.
Whoever owes us bytes, or does not take ours, has one deadline; who waits for an answer has none.
"""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from supervisord_pidfd import wire
from supervisord_pidfd.commands import PERMISSION_DENIED, REFUSED, Method, Peer, Role
from supervisord_pidfd.loop import Loop, Priority

REQUEST_WITHIN = 5.0
"""Seconds for a request to arrive, the first one from the moment of the connection."""

IDLE_WITHIN = 60.0
READ_WITHIN = 60.0
OUT_BYTES = 64 << 10
OUT_MAX_BYTES = 16 << 20
"""A handler that answers faster than its client reads ends here: the client is dropped."""

UNKNOWN = "unknown"
"""What a method without a row is called in metrics: no client chooses a label."""

_IN = select.EPOLLIN | select.EPOLLONESHOT
_OUT = select.EPOLLOUT | select.EPOLLONESHOT
_GONE = select.EPOLLHUP | select.EPOLLERR
_NEVER = float("inf")


class Server(Protocol):
    """Be who serves all conversations."""

    loop: Loop

    def enqueue(self, conversation: "Conversation") -> None:
        """Have a conversation do its next step in this turn or a later one."""
        ...

    def dispatch(self, conversation: "Conversation", request: wire.Request) -> None:
        """Answer a request, or begin to."""
        ...

    def count(self, method: str, result: str) -> None:
        """Count an answered call."""
        ...

    def refused(self, reason: str, method: str | None, peer: Peer) -> None:
        """Tell of a refusal."""
        ...

    def dropped(self, reason: str) -> None:
        """Tell of a client that was dropped."""
        ...

    def forget(self, conversation: "Conversation") -> None:
        """Take note that a conversation is over."""
        ...


class CallInFlight:
    """Be one call: its parameters are checked, its answers go to its conversation."""

    def __init__(
        self,
        conversation: "Conversation",
        method: Method,
        parameters: dict[str, Any],
        request: wire.Request,
    ) -> None:
        self.method = method
        self.parameters = parameters
        self.peer = conversation.peer
        self.more = request.more
        self.result: str | None = None
        self.pieces: Iterator[bytes] | None = None
        self._oneway = request.oneway
        self._conversation: Conversation | None = conversation
        self._on_gone: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        return self._conversation is None

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back if the client leaves before the last answer."""
        self._on_gone.append(callback)

    def reply(self, parameters: dict[str, Any], *, continues: bool = False) -> None:
        """Answer; without `more` only the last reply is sent."""
        if not continues:
            self._put(wire.reply(parameters))
            self._over("ok")
        elif self.more:
            self._put(wire.reply(parameters, continues=True))

    def error(self, name: str, parameters: dict[str, Any] | None = None) -> None:
        """Answer with an error, which is the last answer."""
        self._put(wire.error(name, parameters or {}))
        self._over("refused" if name in {PERMISSION_DENIED, REFUSED} else "error")

    def pull(self, pieces: Iterator[bytes]) -> None:
        """Answer with pieces, as the client reads."""
        if self._oneway:
            self._over("ok")
            return
        self.pieces = pieces
        self.wake()

    def wake(self) -> None:
        """Have the pieces asked again."""
        if self._conversation is not None:
            self._conversation.wake()

    def leave(self) -> None:
        """Tell the handler that the client is gone."""
        self._conversation, self.pieces = None, None
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()

    def finish(self) -> None:
        """Note that the pieces have come to their end."""
        self._over("ok")

    def take_client(self) -> int | None:
        """Take the client's socket away for somebody else to answer; it is the caller's then.

        None if the client has gone, or has not read the answer to an earlier call yet.
        """
        conversation = self._conversation
        client = None if conversation is None else conversation.give_away()
        if client is not None:
            self._conversation, self.result = None, "ok"
        return client

    def _put(self, data: bytes) -> None:
        if self._conversation is not None and not self._oneway:
            self._conversation.put(data)

    def _over(self, result: str) -> None:
        self.result = self.result or result
        self.pieces = None
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.call_over(self)


class Conversation:
    """Serve one client. Owns its socket."""

    def __init__(self, server: Server, sock: socket.socket, peer: Peer, role: Role) -> None:
        self.peer = peer
        self.role = role
        self.call: CallInFlight | None = None
        self.served = 0
        self.queued = False
        self._server = server
        self._socket: socket.socket | None = sock
        self._framer = wire.Framer()
        self._out = bytearray()
        self._ended = False
        self._closing = False
        self._pull = False
        self._quiet = False
        self._deadline = server.loop.deadline(self._too_slow)
        self._wait_within(REQUEST_WITHIN)
        server.loop.add(sock.fileno(), Priority.CONTROL, self._ready, _IN)

    @property
    def idle(self) -> bool:
        """Tell whether nothing is under way that its end would cut off."""
        return self.call is None and not self._out

    def wake(self) -> None:
        """Have the call's pieces asked for, in this turn or a later one."""
        self._pull = True
        self._server.enqueue(self)

    def put(self, data: bytes) -> None:
        """Buffer an answer; a client that lets too much of it pile up is dropped."""
        if self._socket is None:
            return
        self._out += data
        if len(self._out) > OUT_MAX_BYTES:
            self.drop("unread")
        else:
            self._server.enqueue(self)

    def call_over(self, call: CallInFlight) -> None:
        """Take note of the last answer to a call."""
        self.call, self._pull = None, False
        self._server.count(call.method.name, call.result or "ok")
        self._server.enqueue(self)

    # -- one step ---------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & _GONE and not events & select.EPOLLIN:
            self.close()
        else:
            self._server.enqueue(self)

    def step(self, until: float) -> bool:
        """Do a little, no longer than `until`; return whether there is more to do at once."""
        if self._pull and self.call is not None:
            self._take_pieces(self.call, until)
        if self._socket is None or (self._out and not self._send(self._socket)):
            return False
        if self._close_when_done():
            return False
        if self.call is None and not self._closing and self._next_request():
            return True
        if self._pull and self.call is not None:
            return True
        self._rest()
        return False

    def _take_pieces(self, call: CallInFlight, until: float) -> None:
        now = self._server.loop.clock.now
        while call.pieces is not None and len(self._out) < OUT_BYTES:
            piece = next(call.pieces, None)
            if piece is None:
                call.finish()
                break
            if not piece:
                self._pull = False
                return
            self._out += piece
            if now() >= until:
                break
        self._pull = self._pull and self.call is not None

    def _send(self, sock: socket.socket) -> bool:
        """Send what the client takes; False if the rest has to wait for it."""
        try:
            sent = sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone
            self.close()
            return False
        del self._out[:sent]
        if sent:
            self._deadline.disarm()
        if not self._out:
            return True
        if self._deadline.when == _NEVER:
            self._wait_within(READ_WITHIN)
        self._server.loop.modify(sock.fileno(), _OUT)
        return False

    def _next_request(self) -> bool:
        """Read, and begin the next call; False if there is none yet."""
        try:
            message = self._framer.next()
            if message is None and not self._ended:
                self._receive()
                message = self._framer.next()
            if message is None:
                return False
            self._begin(wire.request_of(message))
        except wire.TooLargeError:
            self.drop("too_large")
            return False
        except wire.WireError:
            self.drop("malformed")
            return False
        return True

    def _receive(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(wire.MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended = self._closing = True
            return
        if self.served and not len(self._framer):
            self._wait_within(REQUEST_WITHIN)
        self._framer.feed(data)

    def _rest(self) -> None:
        """Wait for the client, or for whoever answers its call."""
        if self._socket is None or self._close_when_done():
            return
        # With a call in flight the next request stays in the kernel; a hang-up is always told.
        events = _IN if self.call is None else select.EPOLLONESHOT
        self._server.loop.modify(self._socket.fileno(), events)
        if self.call is not None:
            self._deadline.disarm()
        elif len(self._framer):
            if self._deadline.when == _NEVER:  # it came together with a request before it
                self._wait_within(REQUEST_WITHIN)
        elif self.served:
            self._wait_within(IDLE_WITHIN)

    def _close_when_done(self) -> bool:
        """Close if nothing more comes and nothing more is owed; return whether it did."""
        if not self._closing or self.call is not None or self._out:
            return False
        self.close()
        return True

    def _wait_within(self, seconds: float) -> None:
        self._deadline.arm(self._server.loop.clock.now() + seconds)

    def _too_slow(self) -> None:
        if self._out:
            self.drop("unread")
        elif len(self._framer) or not self.served:
            self.drop("request_timeout")
        else:
            self.close()  # it was idle, which is nobody's fault

    # -- calls ------------------------------------------------------------------------------------

    def _begin(self, request: wire.Request) -> None:
        self.served += 1
        self._quiet = request.oneway
        self._deadline.disarm()
        if self.role is Role.NONE:
            self._server.refused("permission", None, self.peer)
            self.refuse(PERMISSION_DENIED, {}, "refused")
            self._closing = True
            return
        self._server.dispatch(self, request)

    def refuse(
        self, name: str, parameters: dict[str, Any], result: str, method: str = UNKNOWN
    ) -> None:
        """Answer a call that never reached its handler."""
        self._server.count(method, result)
        if not self._quiet:
            self.put(wire.error(name, parameters))

    def answer(self, method: str, parameters: dict[str, Any]) -> None:
        """Answer a call of the introspection."""
        self._server.count(method, "ok")
        if not self._quiet:
            self.put(wire.reply(parameters))

    # -- the end ----------------------------------------------------------------------------------

    def say_goodbye(self) -> None:
        """Send what is ready and fits, and close: the daemon ends."""
        if self._socket is not None and self._out:
            with contextlib.suppress(OSError):
                self._socket.send(self._out)
        self.close()

    def drop(self, reason: str) -> None:
        """Close for a reason that is told, within bounds."""
        self._server.dropped(reason)
        self.close()

    def give_away(self) -> int | None:
        """End the conversation here and return its socket; None while something is to be sent."""
        if self._socket is None or self._out:
            return None
        call, self.call = self.call, None
        if call is not None:
            self._server.count(call.method.name, "ok")
        return self._leave(self._socket)

    def close(self) -> None:
        """End the conversation; whoever answers its call is told."""
        if self._socket is None:
            return
        self._server.loop.close_later(self._leave(self._socket))
        call, self.call = self.call, None
        if call is not None:
            call.leave()

    def _leave(self, sock: socket.socket) -> int:
        self._socket = None
        self._deadline.disarm()
        self._server.loop.remove(sock.fileno())
        self._server.forget(self)
        return sock.detach()
