"""Serve the control socket: who may call, how many, how fast; a bad client costs only itself.

The kernel says who a client is, when a connection is accepted; nothing a client sends says more.

Work is done by `work`, at the end of a turn of the loop, conversation after conversation, for
`TURN_S` at most; what is left is taken up in the next turn, behind the exits that came since. A
descriptor in epoll only puts its conversation in the queue, once (EPOLLONESHOT), so clients cannot
fill the turns of the loop however many they are.
"""

import contextlib
import errno
import math
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
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
from supervisord_pidfd.conversation import CallInFlight, Conversation
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import (
    ControlCalled,
    ControlClientDropped,
    ControlRefused,
    Told,
)
from supervisord_pidfd.loop import Loop, Priority

CONVERSATIONS = 64
PER_UID = 16
TURN_S, LONE_TURN_S, ACCEPT_S = 0.0003, 0.001, 0.0002
"""Seconds of a turn given to clients, to a single one that nobody waits behind, and to newcomers.

A single step may take a little longer.
"""

PAUSE = 1.0
"""Seconds without accepting, after the descriptors have run out."""

NAMES_TOLD, NAME_CHARS = 32, 160
SO_PEERGROUPS = 59
"""socket(7); Python 3.11 has no name for it."""
REFUSALS_BURST, REFUSALS_EVERY = 20, 1.0
"""Refusals told at once, and one more each so many seconds; all are counted."""

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


class Bounds(NamedTuple):
    """Hold how many clients a socket serves, of all users and of one; and who they can be.

    `role_of_pid` decides by the process alone, for a socket that is meant for one of ours; without
    it users and groups do. A client that is let in by it is never more than its role.
    """

    conversations: int = CONVERSATIONS
    per_uid: int = PER_UID
    role_of_pid: Callable[[int], Role] | None = None


class Outward(NamedTuple):
    """Hold whom the server tells what it saw."""

    tell: Callable[[Told], None]
    tally: Tally
    crashed: Callable[[str, BaseException], None]


class ControlServer:
    """Accept clients and hand their calls to the handlers. Owns the listening socket."""

    def __init__(  # noqa: PLR0913 - what a server stands between
        self,
        loop: Loop,
        listener: socket.socket,
        handlers: Mapping[str, Handler],
        outward: Outward,
        description: str,
        *,
        bounds: Bounds = Bounds(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self.loop = loop
        self.access = Access(os.geteuid())
        self._listener = listener
        self._handlers = handlers
        self._outward = outward
        self._description = description
        self._bounds = bounds
        self._conversations: dict[Conversation, None] = {}
        self._queue: deque[Conversation] = deque()
        self._waiting: tuple[socket.socket, Peer, Role] | None = None
        self._reserve = os.open("/", os.O_PATH | os.O_CLOEXEC)
        self._listens = False
        self._resume = loop.deadline(self._listen)
        self._refusals = float(REFUSALS_BURST)
        self._refused_at = loop.clock.now()
        listener.setblocking(False)
        self._listen()

    # -- turns ------------------------------------------------------------------------------------

    def enqueue(self, conversation: Conversation) -> None:
        """Have a conversation do its next step; once in the queue is enough."""
        if not conversation.queued:
            conversation.queued = True
            self._queue.append(conversation)

    @property
    def has_work(self) -> bool:
        """Tell whether there is anything to send, such as an answer to what was just told."""
        return bool(self._queue)

    def work(self) -> bool:
        """Do a turn's share; return whether there is more."""
        until = self.loop.clock.now() + (TURN_S if len(self._queue) > 1 else LONE_TURN_S)
        while self._queue:
            conversation = self._queue.popleft()
            conversation.queued = False
            try:
                if conversation.step(until):
                    self.enqueue(conversation)
            except Exception as error:  # noqa: BLE001 - a bug in one answer ends one conversation
                self._outward.crashed("control", error)
                conversation.close()
            if self.loop.clock.now() >= until:
                break
        self._let_wait_no_longer()
        return bool(self._queue)

    # -- clients come and go ----------------------------------------------------------------------

    def let_in(self, access: Access) -> None:
        """Go over to other readers; those who are here have to come again."""
        if access == self.access:
            return
        self.access = access
        for conversation in tuple(self._conversations):
            if conversation.role is Role.READ:
                conversation.close()

    def listen_on(self, listener: socket.socket) -> None:
        """Take another listening socket in place of the one before, which its owner closes."""
        if self._listens:
            self._rest()
        listener.setblocking(False)
        self._listener = listener
        self._listen()

    def _listen(self) -> None:
        """Accept, unless somebody waits for room or the descriptors have run out."""
        if not self._listens and self._waiting is None and self._resume.when == math.inf:
            self._listens = True
            self.loop.add(self._listener.fileno(), Priority.CONTROL, self._accept)

    def _rest(self) -> None:
        """Accept nobody; whoever connects waits in the kernel's queue."""
        self._listens = False
        self.loop.remove(self._listener.fileno())

    def _accept(self, _events: int) -> None:
        until = self.loop.clock.now() + ACCEPT_S
        while self._listens and self.loop.clock.now() < until:
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._accept_without_room()
                return
            self._identify(sock)

    def _accept_without_room(self) -> None:
        """Turn one client away with the descriptor kept for this, else pause: never spin."""
        if self._reserve >= 0:
            os.close(self._reserve)
            with contextlib.suppress(OSError):
                self._listener.accept()[0].close()
        try:
            self._reserve = os.open("/", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1
        self._rest()
        self._resume.arm(self.loop.clock.now() + PAUSE)

    def _identify(self, sock: socket.socket) -> None:
        if _has_left(sock):  # nothing more is spent on it
            sock.close()
            return
        pid, uid, gid = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if self._bounds.role_of_pid is not None:
            self.admit(sock, Peer(uid, gid, pid, full=False), self._bounds.role_of_pid(pid))
            return
        role = role_of(self.access, uid, frozenset({gid}) | peer_groups(sock), pid)
        self.admit(sock, Peer(uid, gid, pid, role is Role.FULL), role)

    def admit(self, sock: socket.socket, peer: Peer, role: Role) -> None:
        """Begin a conversation, if there is room for one more; whoever may do all waits for it."""
        if self._has_room(peer):
            self._begin(sock, peer, role)
        elif not peer.full or self._waiting is not None:
            self.refused("too_many", None, peer)
            sock.close()
        else:
            self._waiting = (sock, peer, role)
            self._rest()

    def _begin(self, sock: socket.socket, peer: Peer, role: Role) -> None:
        sock.setblocking(False)
        try:
            conversation = Conversation(self, sock, peer, role)
        except OSError:  # no room in epoll
            sock.close()
            return
        self._conversations[conversation] = None
        self.enqueue(conversation)

    def _let_wait_no_longer(self) -> None:
        """Begin with whoever waits for room, now that there is some."""
        if self._waiting is not None and self._has_room(self._waiting[1]):
            waited, self._waiting = self._waiting, None
            self._begin(*waited)
            self._listen()

    def _has_room(self, peer: Peer) -> bool:
        """Make room for one more, by ending the oldest that has nothing under way.

        Users have a share, but for those who could end the daemon anyway.
        """
        most = self._bounds.conversations
        kept_for_root = self._bounds.role_of_pid is None and peer.uid != 0
        limit = most - 1 if kept_for_root else most
        mine = [one for one in self._conversations if one.peer.uid == peer.uid]
        if not peer.full and len(mine) >= self._bounds.per_uid:
            return self._evict(mine)
        return len(self._conversations) < limit or self._evict(list(self._conversations))

    @staticmethod
    def _evict(candidates: list[Conversation]) -> bool:
        """End one that waits for its client, if possible one that never said anything.

        Not one whose turn has yet to come: its request may lie there already.
        """
        idle = [one for one in candidates if one.idle and not one.queued]
        if not idle:
            return False
        next((one for one in idle if not one.served), idle[0]).close()
        return True

    def forget(self, conversation: Conversation) -> None:
        """Drop a conversation that has closed itself."""
        self._conversations.pop(conversation, None)

    # -- calls ------------------------------------------------------------------------------------

    def dispatch(self, conversation: Conversation, request: wire.Request) -> None:
        """Look the method up in the table, and nowhere else; then role, parameters, handler."""
        if request.upgrade:
            conversation.refuse(INVALID_PARAMETER, {"parameter": "upgrade"}, "error")
            return
        if request.method.startswith(f"{SERVICE_INTERFACE}."):
            self._introspect(conversation, request)
            return
        method = BY_NAME.get(request.method)
        if method is None:
            conversation.refuse(*_not_found(request.method), "error")
            return
        if conversation.role < method.role:
            self.refused("permission", method.name, conversation.peer)
            conversation.refuse(PERMISSION_DENIED, {}, "refused", method.name)
            return
        self._call(conversation, method, request)

    def _call(self, conversation: Conversation, method: Method, request: wire.Request) -> None:
        try:
            parameters = check_parameters(method, request.parameters)
        except InvalidParameterError as error:
            wrong = {"parameter": error.parameter[:NAME_CHARS]}
            conversation.refuse(INVALID_PARAMETER, wrong, "error", method.name)
            return
        handler = self._handlers.get(method.name)
        if handler is None:
            full_name = {"method": f"{INTERFACE}.{method.name}"}
            conversation.refuse(METHOD_NOT_IMPLEMENTED, full_name, "error", method.name)
            return
        if method.more is More.MUST and not request.more:
            conversation.refuse(EXPECTED_MORE, {}, "error", method.name)
            return
        call = conversation.call = CallInFlight(conversation, method, parameters, request)
        try:
            handler(call)
        except Exception:
            call.result = "error"
            raise
        finally:
            if method.changes:
                self._tell_called(call)

    def _tell_called(self, call: CallInFlight) -> None:
        names = call.parameters.get("names") or call.parameters.get("only") or ()
        told = tuple(name[:NAME_CHARS] for name in names[:NAMES_TOLD])
        peer = call.peer
        result = call.result or "ok"
        notice = ControlCalled(call.method.name, told, peer.uid, peer.pid, result)
        self._outward.tell(Told(notice))

    def _introspect(self, conversation: Conversation, request: wire.Request) -> None:
        name = request.method.removeprefix(f"{SERVICE_INTERFACE}.")
        if name == "GetInfo":
            conversation.answer(
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
            self._describe(conversation, request.parameters.get("interface"))
        else:
            conversation.refuse(*_not_found(request.method), "error")

    def _describe(self, conversation: Conversation, interface: object) -> None:
        texts = {SERVICE_INTERFACE: SERVICE_DESCRIPTION, INTERFACE: self._description}
        if type(interface) is not str:
            conversation.refuse(INVALID_PARAMETER, {"parameter": "interface"}, "error")
        elif interface not in texts:
            asked = {"interface": interface[:NAME_CHARS]}
            conversation.refuse(INTERFACE_NOT_FOUND, asked, "error")
        else:
            conversation.answer("GetInterfaceDescription", {"description": texts[interface]})

    # -- telling ----------------------------------------------------------------------------------

    def count(self, method: str, result: str) -> None:
        """Count an answered call."""
        self._outward.tally.count_control(method, result)

    def refused(self, reason: str, method: str | None, peer: Peer) -> None:
        """Tell of a refusal, unless there were too many of late."""
        if self._may_tell():
            self._outward.tell(Told(ControlRefused(reason, method, peer.uid, peer.pid)))

    def dropped(self, reason: str) -> None:
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
        self._queue.clear()
        for conversation in tuple(self._conversations):
            conversation.say_goodbye()
        self._resume.disarm()
        if self._waiting is not None:
            self._waiting[0].close()
            self._waiting = None
        self.loop.remove(self._listener.fileno())
        self._listener.close()
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1


def _has_left(sock: socket.socket) -> bool:
    """Tell whether a client has hung up without a word."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


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
