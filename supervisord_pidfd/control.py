"""Serve the control socket: who may call, how many, how fast; a bad client costs only itself.

The kernel says who a client is, when the connection is accepted; nothing a client sends says more.
A connection has one call at a time: what it sends meanwhile stays in the kernel's buffer. Replies
are made piece by piece, only as the client reads, into a buffer of `OUT_BYTES`.

Work is done by `work`, at the end of a turn of the loop, connection after connection, for
`TURN_S` at most; what is left is taken up in the next turn, behind the exits that came since. A
descriptor in epoll only puts its connection in the queue, once (EPOLLONESHOT), so clients cannot
fill the turns of the loop however many they are. Every connection that owes us or is owed something
has one deadline; one that follows a stream in silence has none, so nothing wakes up for it.
"""

import contextlib
import errno
import os
import select
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd import __version__, wire
from supervisord_pidfd.commands import (
    BY_NAME,
    EXPECTED_MORE,
    INTERFACE,
    INTERFACE_NOT_FOUND,
    INVALID_PARAMETER,
    METHOD_NOT_FOUND,
    METHOD_NOT_IMPLEMENTED,
    PERMISSION_DENIED,
    REFUSED,
    SERVICE_INTERFACE,
    Access,
    Handler,
    InvalidParameterError,
    Method,
    More,
    Peer,
    Role,
    check_parameters,
    role_of,
)
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import (
    ControlCalled,
    ControlClientDropped,
    ControlRefused,
    Told,
)
from supervisord_pidfd.loop import Loop, Priority

CONNECTIONS = 64
PER_UID = 16
ACCEPTS_A_TURN = 16
TURN_S = 0.0005
"""Seconds of a turn given to clients; a single step may take a little longer."""

REQUEST_WITHIN = 5.0
IDLE_WITHIN = 60.0
READ_WITHIN = 60.0
PAUSE = 1.0
OUT_BYTES = 64 << 10
OUT_MAX_BYTES = 16 << 20
"""A handler that answers faster than its client reads ends here: the client is dropped."""

PIECES_A_STEP = 16
NAMES_TOLD, NAME_CHARS = 32, 160
SO_PEERGROUPS = 59
"""socket(7); Python 3.11 has no name for it."""
REFUSALS_BURST, REFUSALS_EVERY = 20, 1.0
"""Refusals told at once, and one more each so many seconds; all are counted."""

UNKNOWN = "unknown"
"""What a method without a row is called in metrics: no client chooses a label."""

_IN = select.EPOLLIN | select.EPOLLONESHOT
_OUT = select.EPOLLOUT | select.EPOLLONESHOT
_GONE = select.EPOLLHUP | select.EPOLLERR
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

SERVICE_DESCRIPTION = """\
# Introspection, as every Varlink service has it.
interface org.varlink.service

# Tell what this service is, and which interfaces it has.
method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

# Return the text of an interface.
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""  # noqa: E501 - a method is one line


class Outward(NamedTuple):
    """Hold whom the server tells what it saw."""

    tell: Callable[[Told], None]
    tally: Tally
    crashed: Callable[[str, BaseException], None]


class CallInFlight:
    """Be one call: its parameters are checked, its answers go to its connection."""

    def __init__(
        self,
        connection: "Connection",
        method: Method,
        parameters: dict[str, Any],
        request: wire.Request,
    ) -> None:
        self.method = method
        self.parameters = parameters
        self.peer = connection.peer
        self.more = request.more
        self._oneway = request.oneway
        self._connection: Connection | None = connection
        self._on_gone: list[Callable[[], None]] = []
        self.result: str | None = None
        self.pieces: Iterator[bytes] | None = None

    @property
    def gone(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        return self._connection is None

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back if the client leaves before the last answer."""
        self._on_gone.append(callback)

    def reply(self, parameters: dict[str, Any], *, continues: bool = False) -> None:
        """Answer; without `more` only the last reply is sent."""
        if continues:
            if self.more:
                self._put(wire.reply(parameters, continues=True))
            return
        self._put(wire.reply(parameters))
        self._over("ok")

    def error(self, name: str, parameters: dict[str, Any] | None = None) -> None:
        """Answer with an error, which is the last answer."""
        self._put(wire.error(name, parameters or {}))
        self._over("refused" if name in {PERMISSION_DENIED, REFUSED} else "error")

    def pull(self, pieces: Iterator[bytes]) -> None:
        """Answer with pieces, as the client reads."""
        self.pieces = pieces
        self.wake()

    def wake(self) -> None:
        """Have the pieces asked again."""
        if self._connection is not None:
            self._connection.wake()

    def leave(self) -> None:
        """Tell the handler that the client is gone."""
        self._connection, self.pieces = None, None
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()

    def finish(self) -> None:
        """Note that the pieces have come to their end."""
        self._over("ok")

    def _put(self, data: bytes) -> None:
        if self._connection is not None and not self._oneway:
            self._connection.put(data)

    def _over(self, result: str) -> None:
        self.result = self.result or result
        self.pieces = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.call_over(self)


class Connection:
    """Serve one client. Owns its socket."""

    def __init__(
        self, server: "ControlServer", sock: socket.socket, peer: Peer, role: Role
    ) -> None:
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
        self._deadline = server.loop.deadline(self._too_slow)
        self._waits_for_request(REQUEST_WITHIN)
        server.loop.add(sock.fileno(), Priority.CONTROL, self._ready, _IN)

    @property
    def idle(self) -> bool:
        """Tell whether nothing would be lost with this connection but a new one's trouble."""
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
            self.drop("backlog")
        else:
            self._server.enqueue(self)

    def call_over(self, call: CallInFlight) -> None:
        """Take note of the last answer to a call."""
        self.call = None
        self._server.count(call.method.name, call.result or "ok")
        self._server.enqueue(self)

    # -- one step ---------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & _GONE and not events & select.EPOLLIN:
            self.close()
        else:
            self._server.enqueue(self)

    def step(self) -> bool:
        """Do a little; return whether there is more to do at once."""
        if self._socket is None:
            return False
        if self._pull and self.call is not None and len(self._out) < OUT_BYTES:
            self._take_pieces(self.call)
        if self._out and not self._send(self._socket):
            return False
        if self._closing and not self._out:
            self.close()
            return False
        if self.call is None and not self._closing and self._next_request():
            return True
        if self._pull and self.call is not None:
            return True
        self._rest()
        return False

    def _take_pieces(self, call: CallInFlight) -> None:
        for _ in range(PIECES_A_STEP):
            if call.pieces is None or len(self._out) >= OUT_BYTES:
                break
            piece = next(call.pieces, None)
            if piece is None:
                call.finish()
                break
            if not piece:
                self._pull = False
                return
            self._out += piece
        self._pull = self.call is not None

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
        if self._deadline.when == float("inf"):
            self._deadline.arm(self._server.loop.clock.now() + READ_WITHIN)
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
        if not len(self._framer):
            self._waits_for_request(REQUEST_WITHIN)
        self._framer.feed(data)

    def _rest(self) -> None:
        """Wait for the client, or for whoever answers its call."""
        if self._socket is None:
            return
        if self._closing and self.call is None:
            self.close()
            return
        # With a call in flight the next request stays in the kernel; a hang-up is always told.
        events = _IN if self.call is None else select.EPOLLONESHOT
        self._server.loop.modify(self._socket.fileno(), events)
        if self.call is None and not len(self._framer) and self.served:
            self._waits_for_request(IDLE_WITHIN)
        elif self.call is not None:
            self._deadline.disarm()

    def _waits_for_request(self, seconds: float) -> None:
        self._deadline.arm(self._server.loop.clock.now() + seconds)

    def _too_slow(self) -> None:
        self.drop("unread" if self._out else "timeout" if len(self._framer) else "idle")

    # -- calls ------------------------------------------------------------------------------------

    def _begin(self, request: wire.Request) -> None:
        self.served += 1
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
        self.put(wire.error(name, parameters))

    def answer(self, method: str, parameters: dict[str, Any]) -> None:
        """Answer a call of the introspection."""
        self._server.count(method, "ok")
        self.put(wire.reply(parameters))

    # -- the end ----------------------------------------------------------------------------------

    def drop(self, reason: str) -> None:
        """Close for a reason that is told, within bounds."""
        self._server.dropped(reason, self.peer)
        self.close()

    def close(self) -> None:
        """End the conversation; whoever answers its call is told."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._deadline.disarm()
        self._server.loop.remove(sock.fileno())
        self._server.loop.close_later(sock.detach())
        self._server.forget(self)
        call, self.call = self.call, None
        if call is not None:
            call.leave()


class ControlServer:
    """Accept clients and hand their calls to the handlers. Owns the listening socket."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        handlers: Mapping[str, Handler],
        outward: Outward,
        description: str,
    ) -> None:
        self.loop = loop
        self.access = Access(os.geteuid())
        self._listener = listener
        self._handlers = handlers
        self._outward = outward
        self._description = description
        self._connections: dict[Connection, None] = {}
        self._queue: deque[Connection] = deque()
        self.counts: Counter[tuple[str, str]] = Counter()
        self._reserve = os.open("/", os.O_PATH | os.O_CLOEXEC)
        self._resume = loop.deadline(self._listen)
        self._refusals = float(REFUSALS_BURST)
        self._refused_at = loop.clock.now()
        listener.setblocking(False)
        self._listen()

    # -- turns ------------------------------------------------------------------------------------

    def enqueue(self, connection: Connection) -> None:
        """Have a connection do its next step; once in the queue is enough."""
        if not connection.queued:
            connection.queued = True
            self._queue.append(connection)

    def work(self) -> bool:
        """Do a turn's share; return whether there is more."""
        until = self.loop.clock.now() + TURN_S
        while self._queue:
            connection = self._queue.popleft()
            connection.queued = False
            try:
                if connection.step():
                    self.enqueue(connection)
            except Exception as error:  # noqa: BLE001 - a bug in one answer ends one conversation
                self._outward.crashed("control", error)
                connection.close()
            if self.loop.clock.now() >= until:
                break
        return bool(self._queue)

    # -- clients come and go ----------------------------------------------------------------------

    def _listen(self) -> None:
        self.loop.add(self._listener.fileno(), Priority.CONTROL, self._accept)

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._accept_without_room()
                return
            self._admit(sock)

    def _accept_without_room(self) -> None:
        """Turn one client away with the descriptor kept for this, else pause: never spin."""
        os.close(self._reserve)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        try:
            self._reserve = os.open("/", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1
        self.loop.remove(self._listener.fileno())
        self._resume.arm(self.loop.clock.now() + PAUSE)

    def _admit(self, sock: socket.socket) -> None:
        pid, uid, gid = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        role = role_of(self.access, uid, frozenset({gid}) | peer_groups(sock), pid)
        peer = Peer(uid, gid, pid, role is Role.FULL)
        if not self._has_room(uid):
            self.refused("too_many", None, peer)
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(self, sock, peer, role)
        self._connections[connection] = None
        self.enqueue(connection)

    def _has_room(self, uid: int) -> bool:
        """Make room for one more, by ending the oldest that has nothing under way."""
        limit = CONNECTIONS if uid == 0 else CONNECTIONS - 1
        mine = [one for one in self._connections if one.peer.uid == uid]
        if uid and len(mine) >= PER_UID:
            return self._evict(mine)
        return len(self._connections) < limit or self._evict(list(self._connections))

    @staticmethod
    def _evict(candidates: list[Connection]) -> bool:
        idle = sorted((one for one in candidates if one.idle), key=lambda one: one.served > 0)
        if idle:
            idle[0].close()
        return bool(idle)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has closed itself."""
        self._connections.pop(connection, None)

    # -- calls ------------------------------------------------------------------------------------

    def dispatch(self, connection: Connection, request: wire.Request) -> None:
        """Look the method up in the table, and nowhere else; then role, parameters, handler."""
        if request.upgrade:
            connection.refuse(INVALID_PARAMETER, {"parameter": "upgrade"}, "error")
            return
        if request.method.startswith(f"{SERVICE_INTERFACE}."):
            self._introspect(connection, request)
            return
        method = BY_NAME.get(request.method)
        if method is None:
            connection.refuse(*_not_found(request.method), "error")
            return
        if connection.role < method.role:
            self.refused("permission", method.name, connection.peer)
            connection.refuse(PERMISSION_DENIED, {}, "refused", method.name)
            return
        self._call(connection, method, request)

    def _call(self, connection: Connection, method: Method, request: wire.Request) -> None:
        try:
            parameters = check_parameters(method, request.parameters)
        except InvalidParameterError as error:
            wrong = {"parameter": error.parameter[:NAME_CHARS]}
            connection.refuse(INVALID_PARAMETER, wrong, "error", method.name)
            return
        handler = self._handlers.get(method.name)
        if handler is None:
            full_name = {"method": f"{INTERFACE}.{method.name}"}
            connection.refuse(METHOD_NOT_IMPLEMENTED, full_name, "error", method.name)
            return
        if method.more is More.MUST and not request.more:
            connection.refuse(EXPECTED_MORE, {}, "error", method.name)
            return
        call = connection.call = CallInFlight(connection, method, parameters, request)
        handler(call)
        if method.changes:
            self._tell_called(call)

    def _tell_called(self, call: CallInFlight) -> None:
        names = call.parameters.get("names") or call.parameters.get("only") or ()
        told = tuple(name[:NAME_CHARS] for name in names[:NAMES_TOLD])
        peer = call.peer
        result = call.result or "ok"
        notice = ControlCalled(call.method.name, told, peer.uid, peer.pid, result)
        self._outward.tell(Told(notice))

    def _introspect(self, connection: Connection, request: wire.Request) -> None:
        name = request.method.removeprefix(f"{SERVICE_INTERFACE}.")
        if name == "GetInfo":
            connection.answer(
                name,
                {
                    "vendor": "supervisord-pidfd",
                    "product": "supervisord-pidfd",
                    "version": __version__,
                    "url": "",
                    "interfaces": [SERVICE_INTERFACE, INTERFACE],
                },
            )
        elif name == "GetInterfaceDescription":
            self._describe(connection, request.parameters.get("interface"))
        else:
            connection.refuse(*_not_found(request.method), "error")

    def _describe(self, connection: Connection, interface: object) -> None:
        texts = {SERVICE_INTERFACE: SERVICE_DESCRIPTION, INTERFACE: self._description}
        if type(interface) is not str:
            connection.refuse(INVALID_PARAMETER, {"parameter": "interface"}, "error")
        elif interface not in texts:
            asked = {"interface": interface[:NAME_CHARS]}
            connection.refuse(INTERFACE_NOT_FOUND, asked, "error")
        else:
            connection.answer("GetInterfaceDescription", {"description": texts[interface]})

    # -- telling ----------------------------------------------------------------------------------

    def count(self, method: str, result: str) -> None:
        """Count an answered call."""
        self.counts[method, result] += 1

    def refused(self, reason: str, method: str | None, peer: Peer) -> None:
        """Tell of a refusal, unless there were too many of late."""
        if self._may_tell():
            self._outward.tell(Told(ControlRefused(reason, method, peer.uid, peer.pid)))

    def dropped(self, reason: str, _peer: Peer) -> None:
        """Tell of a client that was dropped, unless there were too many of late."""
        if self._may_tell():
            self._outward.tell(Told(ControlClientDropped(reason)))

    def _may_tell(self) -> bool:
        now = self.loop.clock.now()
        more = (now - self._refused_at) / REFUSALS_EVERY
        self._refusals = min(REFUSALS_BURST, self._refusals + more)
        self._refused_at = now
        if self._refusals < 1:
            return False
        self._refusals -= 1
        return True

    def close(self) -> None:
        """End all conversations and stop listening."""
        for connection in tuple(self._connections):
            connection.close()
        self._resume.disarm()
        self.loop.remove(self._listener.fileno())
        self._listener.close()
        if self._reserve >= 0:
            os.close(self._reserve)


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """Return a client's supplementary groups; none where the kernel cannot say."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
    except OSError:  # ERANGE: more than 256; whoever needs one of them is denied, not let in
        return frozenset()
    return frozenset(struct.unpack(f"{len(data) // 4}I", data))


def _not_found(method: str) -> tuple[str, dict[str, Any]]:
    interface, _, _ = method.rpartition(".")
    if interface in {INTERFACE, SERVICE_INTERFACE}:
        return METHOD_NOT_FOUND, {"method": method[:NAME_CHARS]}
    return INTERFACE_NOT_FOUND, {"interface": interface[:NAME_CHARS]}
