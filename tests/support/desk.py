"""A control server without a daemon: clients over socket pairs, time moved by hand."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisord_pidfd.commands import INTERFACE, METHODS, Call, Peer, Role, bind
from supervisord_pidfd.control import ControlServer, Outward
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import Told
from supervisord_pidfd.listening import FOR_US, Listener
from supervisord_pidfd.loop import Loop
from tests.fakes import FakeClock

OWNER = Peer(0, 0, 1, full=True)


class Handlers:
    """Answer every method with its name, but for those that a test answers itself."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.own: dict[str, Callable[[Call], None]] = {}

    def __getattr__(self, name: str) -> Callable[[Call], None]:
        if name not in {method.handler for method in METHODS}:
            raise AttributeError(name)
        return lambda call: self._answer(name, call)

    def _answer(self, name: str, call: Call) -> None:
        self.calls.append(call)
        if name in self.own:
            self.own[name](call)
        else:
            call.reply({"method": call.method.name})


class Client:
    """Be the other end of a conversation; reading takes what is there."""

    def __init__(self, desk: "Desk", sock: socket.socket) -> None:
        self.socket = sock
        self.closed = False
        self._desk = desk
        self._rest = b""
        sock.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send bytes, and let the server have its turns."""
        self.socket.sendall(data)
        self._desk.turns()

    def call(self, method: str, *, more: bool | None = None, **parameters: Any) -> list[Any]:
        """Call a method; return what was answered so far."""
        name = method if "." in method else f"{INTERFACE}.{method}"
        flags = {} if more is None else {"more": more}
        message = {"method": name, "parameters": parameters, **flags}
        self.send(json.dumps(message).encode() + b"\0")
        return self.answers()

    def receive(self, most: int = 1 << 24) -> bytes:
        """Take bytes, and let the server have its turns, until nothing comes or enough has."""
        found = b""
        while len(found) < most:
            try:
                data = self.socket.recv(min(1 << 16, most))
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                break
            found += data
            self._desk.turns()
        return found

    def answers(self) -> list[Any]:
        """Take what was answered: parameters of replies, and errors as (name, parameters)."""
        *messages, self._rest = (self._rest + self.receive()).split(b"\0")
        found = []
        for message in messages:
            said = json.loads(message)
            if "error" in said:
                found.append((said["error"].rpartition(".")[2], said["parameters"]))
            else:
                found.append(said["parameters"])
        return found

    @property
    def is_closed(self) -> bool:
        """Tell whether the server has hung up, after all it said."""
        self.receive()
        return self.closed


class Desk:
    """Own a loop, a server and its clients."""

    def __init__(self, place: Path) -> None:
        self.clock = FakeClock()
        self.crashes: list[BaseException] = []
        self.told: list[Any] = []
        self.tally = Tally()
        self.handlers = Handlers()
        self.loop = Loop(self.clock, lambda _where, error: self.crashes.append(error))
        self.listener = Listener(str(place / "control.sock"), FOR_US)
        outward = Outward(self._tell, self.tally, lambda _where, error: self.crashes.append(error))
        self.server = ControlServer(
            self.loop, self.listener.socket, bind(self.handlers), outward, "interface x\n"
        )
        self.loop.after_turn = self.server.work
        self._clients: list[Client] = []

    def _tell(self, told: Told) -> None:
        self.told.append(told.notice)

    def client(self, role: Role = Role.FULL, peer: Peer = OWNER) -> Client:
        """Begin a conversation with somebody."""
        ours, theirs = socket.socketpair()
        self._clients.append(Client(self, theirs))
        self.server.admit(ours, peer, role)
        self.turns()
        return self._clients[-1]

    def connect(self) -> Client:
        """Connect as any process would."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._clients.append(Client(self, sock))
        sock.connect(self.listener.path)
        self.turns()
        return self._clients[-1]

    def turns(self) -> None:
        """Turn until there is nothing to do at this moment."""
        quiet = 0
        while quiet < 2:
            quiet = 0 if self.loop.run_once(0.0) or self.loop.batch else quiet + 1

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.turns()

    @property
    def reasons(self) -> list[str]:
        """Return why clients were refused and dropped so far."""
        return [notice.reason for notice in self.told if hasattr(notice, "reason")]

    def count(self, method: str, result: str) -> float:
        """Return how often a method had this result."""
        for family in self.tally.families():
            if family["name"] == "supervisord_control_requests_total":
                for sample in family["samples"]:
                    if sample["labels"] == {"method": method, "result": result}:
                        return float(sample["value"])
        return 0.0

    def close(self) -> None:
        """Close everything."""
        self.server.close()
        self.listener.close()
        self.loop.close()
        for client in self._clients:
            client.socket.close()
