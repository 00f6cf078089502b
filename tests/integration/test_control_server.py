"""The control server over real sockets: who may what, what it bounds, what clients do to it."""

import contextlib
import errno
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisord_pidfd import control, wire
from supervisord_pidfd.commands import INTERFACE, METHODS, More, Peer, Role
from supervisord_pidfd.core.notices import ControlCalled, ControlRefused
from tests.support.desk import Client, Desk

SOMEBODY = Peer(1000, 1000, 4117, full=False)
VALUES = {"string": "x", "[]string": ["x"], "bool": True, "int": 1, "float": 1.5}
CHOICES = {"stream": "stdout", "level": "ready", "condition": "running"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    it = Desk(tmp_path)
    yield it
    it.close()
    assert not it.crashes, it.crashes


def request(method, **parameters):
    return wire.call(method if "." in method else f"{INTERFACE}.{method}", parameters)


def parameters_of(method):
    return {
        param.name: CHOICES.get(param.name, VALUES[param.kind])
        for param in method.params
        if not param.optional
    }


# -- who may what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_asks_for_its_role(desk, method, role):
    client = desk.client(role, Peer(1000, 1000, 1, role is Role.FULL))
    more = True if method.more is More.MUST else None
    (answer,) = client.call(method.name, more=more, **parameters_of(method))
    if role >= method.role:
        assert answer == {"method": method.name}
        assert desk.count(method.name, "ok") == 1
    else:
        assert answer == ("PermissionDenied", {})
        assert desk.reasons == ["permission"]
    assert len(desk.handlers.calls) == (role >= method.role)
    assert client.is_closed is (role is Role.NONE)


@pytest.mark.parametrize("method", ["GetInfo", "GetInterfaceDescription"])
def test_whoever_has_no_role_learns_nothing(desk, method):
    client = desk.client(Role.NONE, SOMEBODY)
    assert client.call(f"org.varlink.service.{method}") == [("PermissionDenied", {})]
    assert client.is_closed


def test_changes_are_told_and_looks_are_not(desk):
    client = desk.client()
    client.call("Start", names=["a", "b" * 1000, *"x" * 100])
    client.call("Status")
    client.call("Plan")
    (called,) = (notice for notice in desk.told if isinstance(notice, ControlCalled))
    assert (called.method, called.uid, called.result) == ("Start", 0, "ok")
    assert (len(called.names), called.names[:2]) == (32, ("a", "b" * 160))


def test_a_connection_is_identified_by_the_kernel(desk):
    client = desk.connect()
    client.call("Status")
    peer = desk.handlers.calls[0].peer
    assert (peer.uid, peer.gid, peer.pid) == (os.geteuid(), os.getegid(), os.getpid())
    assert peer.full


def test_readers_have_to_come_again_when_others_may_read(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    reader, owner = desk.client(Role.READ, SOMEBODY), desk.client()
    for client in (reader, owner):
        client.send(request("Wait"))
    desk.server.let_in(desk.server.access)
    desk.turns()
    assert not reader.is_closed
    desk.server.let_in(desk.server.access._replace(read_uids=frozenset({7})))
    desk.turns()
    assert reader.is_closed
    assert [call.gone for call in held] == [True, False]
    assert not owner.is_closed


# -- what is not a call ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (f"{INTERFACE}.Nope", "MethodNotFound"),
        (f"{INTERFACE}.status", "MethodNotFound"),
        (f"{INTERFACE}.__init__", "MethodNotFound"),
        (f"{INTERFACE}.Status.__class__", "InterfaceNotFound"),
        (f"{INTERFACE}.\u0405tatus", "MethodNotFound"),
        (f"{INTERFACE}.Status\u0000", "MethodNotFound"),
        ("Status", "InterfaceNotFound"),
        ("", "InterfaceNotFound"),
        (".", "InterfaceNotFound"),
        ("org.varlink.service.Nope", "MethodNotFound"),
        ("org.varlink.resolver.Resolve", "InterfaceNotFound"),
        ("x" * 60_000, "InterfaceNotFound"),
    ],
)
def test_a_name_that_is_not_in_the_table_is_an_error(desk, name, error):
    client = desk.client()
    ((found, parameters),) = client.call(name) if "." in name else _raw(client, name)
    assert found == error
    assert all(len(str(value)) <= 160 for value in parameters.values())
    assert desk.count("unknown", "error") == 1
    assert client.call("Status") == [{"method": "Status"}]


def _raw(client, name):
    client.send(wire.call(name, {}))
    return client.answers()


@pytest.mark.parametrize(
    ("method", "parameters", "wrong"),
    [
        ("Start", {}, "names"),
        ("Start", {"names": ["a"], "only": 1}, "only"),
        ("Start", {"names": "a"}, "names"),
        ("Start", {"names": [None]}, "names"),
        ("Start", {"names": ["a"], "nope": 1}, "nope"),
        ("Start", {"names": ["a"], "timeout_s": -1}, "timeout_s"),
        ("History", {"name": "a", "last": True}, "last"),
        ("Health", {"level": "fine"}, "level"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(desk, method, parameters, wrong):
    client = desk.client()
    assert client.call(method, **parameters) == [("InvalidParameter", {"parameter": wrong})]
    assert not desk.handlers.calls


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"{}\0",
        b"[]\0",
        b"GET / HTTP/1.1\r\n\0",
        b'{"method":1}\0',
        b'{"method":"x","parameters":[]}\0',
        b'{"method":"x","more":1}\0',
        b'{"method":"x","method":"y"}\0',
        b'{"method":"x","parameters":{"a":NaN}}\0',
        b'{"method":"x","parameters":{"a":1e999}}\0',
        b'{"method":"\\ud800"}\0',
        b'\xef\xbb\xbf{"method":"x"}\0',
        b"\xff\xfe\0",
        b'{"method":"x","parameters":' + b"[" * 60_000 + b"\0",
    ],
)
def test_what_is_no_call_ends_the_conversation(desk, data):
    client = desk.client()
    with contextlib.suppress(BrokenPipeError):
        client.send(data)
    assert client.is_closed
    assert desk.reasons == ["malformed"]
    assert desk.client().call("Status") == [{"method": "Status"}]


def test_an_upgrade_is_refused(desk):
    client = desk.client()
    client.send(b'{"method":"%s.Status","upgrade":true}\0' % INTERFACE.encode())
    assert client.answers() == [("InvalidParameter", {"parameter": "upgrade"})]


def test_a_stream_has_to_be_asked_for_with_more(desk):
    assert desk.client().call("Watch") == [("ExpectedMore", {})]


def test_oneway_gets_no_answer_even_to_nonsense(desk):
    client = desk.client()
    for method in ("Start", "Status", "Nope", "Health"):
        message = {"method": f"{INTERFACE}.{method}", "oneway": True}
        if method == "Start":
            message["parameters"] = {"names": ["a"]}
        client.send(json.dumps(message).encode() + b"\0")
    client.send(wire.call("org.varlink.service.GetInfo", {}, oneway=True))
    assert client.answers() == []
    assert [call.method.name for call in desk.handlers.calls] == ["Start", "Status", "Health"]
    assert client.call("Status") == [{"method": "Status"}]


def test_oneway_does_not_get_pieces_either(desk):
    desk.handlers.own["status"] = lambda call: call.pull(iter([b"never"]))
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Status", {}, oneway=True))
    assert client.receive() == b""
    assert client.call("Health") == [{"method": "Health"}]


# -- one call after the other ---------------------------------------------------------------------


def test_calls_that_come_together_are_answered_in_order(desk):
    client = desk.client()
    client.send(request("Status") + request("Health") + request("Discovery")[:10])
    assert client.answers() == [{"method": "Status"}, {"method": "Health"}]
    client.send(request("Discovery")[10:])
    assert client.answers() == [{"method": "Discovery"}]


def test_a_call_waits_for_the_one_before_it(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    client = desk.client()
    client.send(request("Wait") + request("Status"))
    assert client.answers() == []
    assert [call.method.name for call in desk.handlers.calls] == ["Wait"]
    held[0].reply({"outcomes": []})
    desk.turns()
    assert client.answers() == [{"outcomes": []}, {"method": "Status"}]


def test_many_replies_come_only_with_more(desk):
    def answer(call):
        call.reply({"n": 1}, continues=True)
        call.reply({"n": 2})

    desk.handlers.own["start"] = answer
    client = desk.client()
    assert client.call("Start", names=["a"]) == [{"n": 2}]
    assert client.call("Start", names=["a"], more=True) == [{"n": 1}, {"n": 2}]


def test_who_hangs_up_while_waiting_is_missed(desk):
    held, gone = [], []
    desk.handlers.own["wait"] = held.append
    client = desk.client()
    client.send(request("Wait"))
    held[0].on_gone(lambda: gone.append("gone"))
    client.socket.close()
    desk.turns()
    assert gone == ["gone"]
    assert held[0].gone
    held[0].reply({"outcomes": []})  # which goes nowhere, and is no error
    held[0].error("x.y")
    held[0].wake()


def test_who_sends_no_more_is_answered_and_then_let_go(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    client = desk.client()
    client.send(request("Status") + request("Wait"))
    client.socket.shutdown(socket.SHUT_WR)
    desk.turns()
    assert client.answers() == [{"method": "Status"}]
    assert not client.closed
    held[0].reply({"outcomes": []})
    desk.turns()
    assert client.answers() == [{"outcomes": []}]
    assert client.is_closed


def test_a_handler_that_fails_costs_its_own_conversation_alone(desk):
    def crash(_call):
        raise ValueError("a bug")

    desk.handlers.own["start"] = crash
    client, other = desk.client(), desk.client()
    client.call("Start", names=["a"])
    assert client.is_closed
    assert [str(error) for error in desk.crashes] == ["a bug"]
    desk.crashes.clear()
    assert [one.result for one in desk.told if isinstance(one, ControlCalled)] == ["error"]
    assert other.call("Status") == [{"method": "Status"}]


def test_a_stream_that_fails_costs_its_own_conversation_alone(desk):
    def pieces():
        yield b"x"
        raise ValueError("a bug")

    gone = []

    def stream(call):
        call.on_gone(lambda: gone.append(True))
        call.pull(pieces())

    desk.handlers.own["watch"] = stream
    client = desk.client()
    client.call("Watch", more=True)
    assert client.is_closed
    assert gone == [True]
    assert [str(error) for error in desk.crashes] == ["a bug"]
    desk.crashes.clear()


# -- pieces ---------------------------------------------------------------------------------------


class Stream:
    """Make as many pieces as are taken."""

    def __init__(self, size=1000):
        self.made = 0
        self.open = True
        self.size = size

    def __call__(self, call):
        self.call = call
        call.pull(self.pieces())

    def pieces(self):
        while True:
            if self.open:
                self.made += 1
                yield b"x" * self.size
            else:
                yield b""


def test_pieces_are_made_only_as_they_are_read(desk):
    stream = desk.handlers.own["watch"] = Stream()
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Watch", {}, more=True))
    held_back = stream.made * stream.size
    assert held_back < 1 << 20
    read = client.receive(1 << 19)
    assert len(read) >= 1 << 19
    assert stream.made * stream.size <= held_back + len(read) + (64 << 10)


def test_a_stream_without_news_rests_until_it_is_woken(desk):
    stream = desk.handlers.own["watch"] = Stream()
    stream.open = False
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Watch", {}, more=True))
    assert client.receive() == b""
    stream.open = True
    desk.turns()
    assert stream.made == 0
    stream.call.wake()
    assert len(client.receive(5000)) == 0
    desk.turns()
    assert len(client.receive(5000)) >= 5000


def test_who_follows_in_silence_is_kept_for_ever(desk):
    stream = desk.handlers.own["watch"] = Stream()
    stream.open = False
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Watch", {}, more=True))
    desk.advance(100_000)
    assert not client.is_closed
    assert desk.loop.next_deadline() == float("inf")


# -- how long -------------------------------------------------------------------------------------


def test_who_says_nothing_for_five_seconds_is_let_go(desk):
    client = desk.client()
    desk.advance(4.9)
    assert not client.is_closed
    desk.advance(0.2)
    assert client.is_closed
    assert desk.reasons == ["request_timeout"]


def test_a_request_may_not_trickle_in(desk):
    client = desk.client()
    for byte in request("Status")[:10]:
        desk.advance(0.4)
        client.send(bytes([byte]))
    assert not client.is_closed
    desk.advance(1.1)
    assert client.is_closed
    assert desk.reasons == ["request_timeout"]


def test_a_second_request_may_not_trickle_in_either(desk):
    client = desk.client()
    client.send(request("Status") + request("Status")[:10])
    client.answers()
    desk.advance(5.1)
    assert client.is_closed
    assert desk.reasons == ["request_timeout"]


def test_who_is_idle_for_a_minute_is_let_go_without_a_word(desk):
    client = desk.client()
    client.call("Status")
    desk.advance(59)
    assert client.call("Status") == [{"method": "Status"}]
    desk.advance(59)
    assert not client.is_closed
    desk.advance(2)
    assert client.is_closed
    assert desk.reasons == []


def test_who_waits_for_an_answer_may_wait(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    client = desk.client()
    client.send(request("Wait"))
    desk.advance(100_000)
    held[0].reply({"outcomes": []})
    desk.turns()
    assert client.answers() == [{"outcomes": []}]


def test_who_does_not_read_for_a_minute_is_dropped(desk):
    desk.handlers.own["watch"] = Stream()
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Watch", {}, more=True))
    desk.advance(59)
    assert len(client.receive(200_000)) >= 200_000  # that counts as reading
    desk.advance(59)
    assert not desk.reasons
    desk.advance(2)
    assert desk.reasons == ["unread"]
    client.receive()
    assert client.closed


def test_answers_that_are_not_read_have_a_limit(desk):
    held = []
    desk.handlers.own["start"] = held.append
    client = desk.client()
    client.send(wire.call(f"{INTERFACE}.Start", {"names": ["a"]}, more=True))
    for _ in range(20):
        held[0].reply({"x": "x" * (1 << 20)}, continues=True)
    assert desk.reasons == ["unread"]
    assert held[0].gone


# -- how much -------------------------------------------------------------------------------------


def test_a_request_has_a_limit_whole_or_not(desk):
    for tail in (b"", b"\0"):
        client = desk.client()
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            client.send(b" " * (wire.MESSAGE_BYTES + 1) + tail)
        assert client.is_closed
    assert desk.reasons == ["too_large"] * 2


def test_sixty_four_conversations_at_most_and_one_is_kept_for_root(desk):
    desk.handlers.own["wait"] = lambda _call: None
    busy = []
    for uid in range(1000, 1004):
        for _ in range(16):
            client = desk.client(Role.READ, Peer(uid, uid, 1, full=False))
            if client.is_closed:
                break
            client.send(request("Wait"))
            busy.append(client)
    assert len(busy) == 63
    assert desk.client(Role.FULL).call("Status") == [{"method": "Status"}]
    assert not any(client.is_closed for client in busy)


def test_root_waits_for_room_and_nobody_behind_it_is_turned_away(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    for _ in range(64):
        desk.connect().send(request("Wait"))
    waiting = desk.connect()
    behind = [desk.connect() for _ in range(3)]
    for client in (waiting, *behind):
        client.send(request("Status"))
        assert client.answers() == []
        assert not client.closed
    held[0].reply({})
    desk.turns()
    # Each takes the place of the one before, which has nothing under way any more.
    assert [one.answers() for one in (waiting, *behind)] == [[{"method": "Status"}]] * 4


def test_who_left_without_a_word_costs_nothing(desk):
    desk.handlers.own["wait"] = lambda _call: None
    busy = [desk.client() for _ in range(64)]
    for client in busy:
        client.send(request("Wait"))
    for _ in range(100):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as passing:
            passing.connect(desk.listener.path)
    desk.turns()
    assert not any(client.is_closed for client in busy)
    assert desk.reasons == []


def test_sixteen_conversations_for_each_user_but_root(desk):
    desk.handlers.own["wait"] = lambda _call: None
    for _ in range(16):
        desk.client(Role.READ, SOMEBODY).send(request("Wait"))
    assert desk.client(Role.READ, SOMEBODY).is_closed
    assert desk.reasons == ["too_many"]
    assert not desk.client(Role.READ, Peer(1001, 1001, 1, full=False)).is_closed
    for _ in range(20):
        desk.client().send(request("Wait"))
    assert desk.client().call("Status") == [{"method": "Status"}]


def test_whose_daemon_it_is_has_no_share(desk):
    """An ordinary user's daemon: it is its user who would be shut out."""
    held = []
    desk.handlers.own["wait"] = held.append
    for _ in range(17):
        desk.client(Role.FULL, Peer(1000, 1000, 4117, full=True)).call("Wait")

    assert len(held) == 17
    assert desk.reasons == []


def test_who_has_nothing_under_way_makes_room_the_silent_first(desk):
    spoke = desk.client(Role.READ, SOMEBODY)
    spoke.call("Status")
    silent = [desk.client(Role.READ, SOMEBODY) for _ in range(15)]
    newest = desk.client(Role.READ, SOMEBODY)
    assert [client.is_closed for client in silent] == [True] + [False] * 14
    assert not spoke.is_closed
    assert newest.call("Status") == [{"method": "Status"}]


def test_refusals_are_told_within_bounds_and_all_counted(desk):
    for _ in range(50):
        desk.client(Role.NONE, SOMEBODY).call("Status")
    assert len([one for one in desk.told if isinstance(one, ControlRefused)]) == 20
    assert desk.count("unknown", "refused") == 50
    desk.advance(10)
    for _ in range(50):
        desk.client(Role.NONE, SOMEBODY).call("Status")
    assert len([one for one in desk.told if isinstance(one, ControlRefused)]) == 30


def test_without_descriptors_a_client_is_turned_away_and_nothing_spins(desk):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
    used = os.dup(0)
    os.close(used)
    try:
        for client in waiting:
            client.settimeout(10)
            client.connect(desk.listener.path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        desk.turns()
        assert waiting[0].recv(1) == b""  # turned away, not left waiting
        before = desk.loop.turn
        desk.turns()
        assert desk.loop.turn - before <= 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    desk.advance(control.PAUSE)
    waiting[1].sendall(request("Status"))
    desk.turns()
    assert waiting[1].recv(1000).startswith(b'{"parameters":')
    for client in waiting:
        client.close()


def test_no_room_in_epoll_is_the_clients_loss_alone(desk, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(desk.loop, "add", full)
        client = desk.client()
    assert client.is_closed
    assert desk.client().call("Status") == [{"method": "Status"}]


def test_descriptors_that_clients_send_are_not_kept(desk):
    client = desk.client()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        socket.send_fds(client.socket, [request("Status")], [0, 1, 2])
        desk.turns()
    assert len(client.answers()) == 20
    assert len(os.listdir("/proc/self/fd")) == before


def test_conversations_leave_no_descriptors_behind(desk):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        client = desk.client()
        client.call("Status")
        client.socket.close()
        desk.turns()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_the_server_says_what_is_ready_and_closes(desk):
    held = []
    desk.handlers.own["wait"] = held.append
    client = desk.client()
    client.send(request("Wait"))
    held[0].reply({"outcomes": []})
    desk.server.close()
    desk.turns()
    assert client.answers() == [{"outcomes": []}]
    assert client.is_closed


# -- anything -------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
_NAMES = st.sampled_from([f"{INTERFACE}.{method.name}" for method in METHODS]) | st.text(
    max_size=30
)
_PARAMETERS = st.dictionaries(
    st.sampled_from(sorted({param.name for method in METHODS for param in method.params}))
    | st.text(max_size=6),
    _JSON,
    max_size=4,
)
_CALLS = st.fixed_dictionaries(
    {},
    optional={
        "method": _NAMES | _JSON,
        "parameters": _PARAMETERS | _JSON,
        "more": st.booleans() | _JSON,
        "oneway": st.booleans() | _JSON,
        "upgrade": st.booleans(),
        "x": _JSON,
    },
)
_MESSAGES = st.one_of(
    _CALLS.map(lambda call: json.dumps(call).encode() + b"\0"),
    st.binary(max_size=200),
    st.binary(max_size=50).map(lambda data: data + b"\0"),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    messages=st.lists(_MESSAGES, max_size=6), cut=st.integers(0, 300), role=st.sampled_from(Role)
)
def test_whatever_is_sent_is_answered_or_ends_the_conversation(desk, messages, cut, role):
    data = b"".join(messages)
    client = desk.client(role)
    expected = _expected(data, role)
    for piece in (data[:cut], data[cut:]):
        if piece and not client.is_closed:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(piece)
    received = client.answers()
    assert not desk.crashes
    assert len(received) == len(expected) if not client.closed else len(received) <= len(expected)
    client.socket.close()
    desk.turns()


def _expected(data: bytes, role: Role) -> list[str]:
    """Read the calls that have to be answered; up to the first that is none."""
    found = []
    for message in data.split(b"\0")[:-1]:
        try:
            call = wire.request_of(message)
        except wire.WireError:
            break
        if not call.oneway:
            found.append(call.method)
        if role is Role.NONE:
            break
    return found


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_client_may_leave_at_any_byte(desk, size):
    data = request("Status") + request("Start", names=["a"])
    for length in range(0, len(data), size):
        client: Client = desk.client()
        client.send(data[:length])
        client.socket.close()
        desk.turns()
    assert desk.client().call("Status") == [{"method": "Status"}]


# -- handed over ----------------------------------------------------------------------------------


def test_a_client_can_be_handed_over_to_whoever_has_the_answer(desk):
    taken = []
    desk.handlers.own["logs"] = lambda call: taken.append((call.take_client(), call.gone))
    client = desk.client()
    assert client.call("Logs", more=True) == []
    ((fd, gone),) = taken

    assert gone
    assert desk.count("Logs", "ok") == 1
    with socket.socket(fileno=fd) as theirs:
        theirs.sendall(wire.reply({"line": 1}))
        assert client.answers() == [{"line": 1}]
    assert client.is_closed
    assert not desk.server._conversations


def test_a_client_is_handed_over_when_it_has_read_the_answers_before(desk):
    taken = []
    desk.handlers.own["status"] = lambda call: call.reply({"text": "x" * (1 << 20)})
    desk.handlers.own["logs"] = lambda call: taken.append(call.take_client())
    client = desk.client()
    client.send(request("Status") + wire.call(f"{INTERFACE}.Logs", {}, more=True))
    assert taken == []
    (answer,) = client.answers()

    assert len(answer["text"]) == 1 << 20
    os.close(taken[0])
