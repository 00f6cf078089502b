"""gateway.sock: who is let in, as what, and that its clients and the others do not meet."""

import os
import socket
from pathlib import Path

import pytest

from supervisord_pidfd.commands import Role
from supervisord_pidfd.control import PER_UID, ControlServer, Outward
from supervisord_pidfd.core.spec import Identity
from supervisord_pidfd.door import CONVERSATIONS, Door
from supervisord_pidfd.errors import StartupError
from tests.support.desk import Client, Desk

NOT_THERE = [("PermissionDenied", {})]


class Gate:
    """A door beside a desk, with the same handlers: we are the gateway, unless a test says no."""

    def __init__(self, desk: Desk, place: Path) -> None:
        self.desk = desk
        self.place = place
        self.pid: int | None = os.getpid()
        self.servers = []
        self.door = Door(self._serve, lambda: self.pid)
        desk.loop.after_turn = self._work

    def _serve(self, listener, bounds):
        outward = Outward(
            self.desk._tell, self.desk.tally, lambda _, error: self.desk.crashes.append(error)
        )
        handlers = self.desk.server._handlers
        server = ControlServer(self.desk.loop, listener, handlers, outward, "", bounds=bounds)
        self.servers.append(server)
        return server

    def _work(self):
        more = self.desk.server.work()
        return self.door.work() or more

    def open(self, role=Role.READ, owner=None):
        return self.door.open(str(self.place), owner, role)

    def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.desk._clients.append(Client(self.desk, sock))
        sock.connect(str(self.place / "gateway.sock"))
        self.desk.turns()
        return self.desk._clients[-1]


@pytest.fixture
def gate(tmp_path):
    desk = Desk(tmp_path)
    it = Gate(desk, tmp_path)
    yield it
    it.door.close()
    desk.close()
    assert desk.crashes == []


def test_the_gateway_has_the_role_of_its_door_whoever_it_is(gate):
    gate.open(Role.READ)
    reader = gate.connect()

    assert reader.call("Status") == [{"method": "Status"}]
    assert reader.call("Stop", names=["web"]) == NOT_THERE

    gate.open(Role.FULL)
    assert gate.connect().call("Stop", names=["web"]) == [{"method": "Stop"}]


def test_even_a_gateway_that_may_change_things_never_sees_everything(gate):
    gate.open(Role.FULL)
    gate.connect().call("Show", name="web")

    assert gate.desk.handlers.calls[-1].peer.full is False


@pytest.mark.parametrize("pid", [1, None])
def test_nobody_but_the_gateways_own_process_is_let_in(gate, pid):
    gate.open(Role.FULL)
    gate.pid = pid
    stranger = gate.connect()

    assert stranger.call("Status") == NOT_THERE
    assert stranger.is_closed
    assert gate.desk.reasons == ["permission"]
    assert gate.desk.handlers.calls == []


def test_the_file_is_for_its_owner_alone_and_goes_with_the_door(gate):
    path = gate.open()
    status = os.stat(path)

    assert (status.st_mode & 0o7777, status.st_uid) == (0o600, os.geteuid())
    gate.door.close()
    assert not os.path.exists(path)


@pytest.mark.root
def test_the_file_belongs_to_the_gateways_user(gate):
    for uid in (65532, 65531):
        status = os.stat(gate.open(owner=Identity(uid, 65530)))
        assert (status.st_uid, status.st_gid) == (uid, 65530)
    assert len(gate.servers) == 1, "another owner is no other socket"


def test_a_file_that_was_removed_is_made_again(gate):
    os.unlink(gate.open())
    gate.open()

    assert gate.connect().call("Status") == [{"method": "Status"}]


def test_somebody_elses_socket_is_left_alone(gate):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(gate.place / "gateway.sock"))
        other.listen()
        with pytest.raises(StartupError, match="another process listens"):
            gate.open()


def test_a_gateway_that_holds_all_its_connections_takes_nobody_elses_room(gate):
    gate.open()
    crowd = [gate.connect() for _ in range(CONVERSATIONS)]
    for one in crowd:
        gate.desk.handlers.own["wait"] = lambda _call: None  # it is answered some day
        one.call("Wait", names=[])
    assert gate.connect().is_closed, "there is room for so many"

    assert gate.desk.connect().call("Status") == [{"method": "Status"}]
    assert not any(one.is_closed for one in crowd)


def test_others_who_hold_all_connections_leave_the_gateway_its_own(gate):
    gate.open()
    gate.desk.handlers.own["wait"] = lambda _call: None
    for _ in range(PER_UID if os.geteuid() else CONVERSATIONS):
        gate.desk.connect().call("Wait", names=[])

    assert gate.connect().call("Status") == [{"method": "Status"}]


def test_closing_the_door_ends_what_is_under_way(gate):
    gate.open()
    client = gate.connect()
    gate.desk.handlers.own["wait"] = lambda _call: None
    client.call("Wait", names=[])

    gate.door.close()
    gate.desk.turns()

    assert client.is_closed
