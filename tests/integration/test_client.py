"""The blocking client on a real socket: frames in pieces, answers that make no sense, silence."""

import contextlib
import json
import os
import select
import socket
import threading

import pytest

from supervisord_pidfd.client import MAX_REPLY, Client
from supervisord_pidfd.errors import NoAnswerError, ReplyError, UnreachableError, UsageError
from tests.support.scripted import Scripted, error, outcome, service, status


@contextlib.contextmanager
def answering(path, *chunks):
    """Answer the first call with these bytes, each in a write of its own; then hang up."""

    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.recv(1 << 16)
            for chunk in chunks:
                connection.sendall(chunk)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with Client(str(path)) as client:
                yield client
        finally:
            thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


def test_a_call_has_one_reply(path):
    daemon = Scripted(Status=status(service("web")))
    with daemon.serve(path), Client(str(path)) as client:
        reply = client.call("Status", {"names": ["web"], "all": None})

    assert reply == status(service("web"))
    assert daemon.calls == [("Status", {"names": ["web"]})]


def test_something_else_is_done_while_the_answer_is_awaited(path):
    """Step by step until it is done, or until the answer is there: not a step more than that."""
    done, go = [], threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            go.wait(10)
            connection.sendall(b'{"parameters":{"x":1}}\0')

    def steps():
        for number in range(1000):
            done.append(number)
            if number == 4:
                go.set()
                select.select([client], [], [], 10)
            yield

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with Client(str(path)) as client:
            assert client.call("Status", meanwhile=steps()) == {"x": 1}
        thread.join()
    assert done == [0, 1, 2, 3, 4]


def test_when_nothing_else_is_left_to_do_the_answer_is_awaited(path):
    daemon = Scripted(Status=status(service("web")))
    with daemon.serve(path), Client(str(path)) as client:
        assert client.call("Status", meanwhile=iter(())) == status(service("web"))


def test_a_method_with_dots_is_called_as_it_is(path):
    daemon = Scripted()
    with daemon.serve(path), Client(str(path)) as client:
        assert client.call("org.varlink.service.GetInfo")["product"] == "supervisord-pidfd"


def test_a_stream_tells_whether_more_follows(path):
    each = [{"change": 1, "outcomes": [outcome(name, "running")]} for name in ("a", "b")]
    with Scripted(Start=each).serve(path), Client(str(path)) as client:
        assert list(client.stream("Start", {})) == [(each[0], True), (each[1], False)]


def test_an_error_has_its_name_and_parameters(path):
    unknown = error("NoSuchService", name="wb", suggestion="web")
    served = Scripted(Start=[unknown]).serve(path)
    with served, Client(str(path)) as client, pytest.raises(ReplyError) as caught:
        client.call("Start", {"names": ["wb"]})

    assert caught.value.name == "io.supervisordpidfd.Control.NoSuchService"
    assert caught.value.parameters == {"name": "wb", "suggestion": "web"}


def test_who_listens_is_known(path):
    with Scripted().serve(path), Client(str(path)) as client:
        assert client.peer == (os.getpid(), os.geteuid())


def test_a_reply_in_pieces_and_two_in_one(path):
    one = json.dumps({"parameters": {"n": 1}, "continues": True}).encode() + b"\0"
    two = json.dumps({"parameters": {"n": 2}}).encode() + b"\0"
    with answering(path, one[:5], one[5:-1], one[-1:] + two) as client:
        assert [reply["n"] for reply, _ in client.stream("Start")] == [1, 2]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the daemon hung up"),
        (b'{"parameters":{}}', "the daemon hung up"),
        (b"no\0", "the answer is not JSON"),
        (b"[" * 100_000 + b"\0", "the answer is not JSON"),
        (b"\xff\0", "the answer is not JSON"),
        (b"[]\0", "the answer is not an object"),
        (b'{"parameters":[]}\0', "the answer's parameters are not an object"),
    ],
)
def test_an_answer_that_makes_no_sense(path, answer, said):
    with answering(path, answer) as client, pytest.raises(NoAnswerError, match=said):
        client.call("Status")


def test_an_answer_without_an_end(path):
    endless = answering(path, b"x" * (MAX_REPLY + (1 << 20)))
    with endless as client, pytest.raises(NoAnswerError, match="the answer is longer than"):
        client.call("Status")


def test_no_answer_in_time(path):
    late = pytest.raises(NoAnswerError, match=r"no answer within 0\.05s")
    with Scripted(Status=[]).serve(path), Client(str(path)) as client, late:
        client.call("Status", timeout=0.05)


def test_a_call_that_the_daemon_would_not_read_is_not_sent(path):
    daemon = Scripted()
    with daemon.serve(path), Client(str(path)) as client, pytest.raises(UsageError):
        client.call("Start", {"names": ["x"] * 20_000})

    assert daemon.calls == []


def test_nobody_listens(path):
    with pytest.raises(UnreachableError) as caught:
        Client(str(path))

    assert (caught.value.path, caught.value.errno) == (str(path), 2)


@pytest.mark.parametrize("wrong", ["x" * 200, "a\0b", ""])
def test_a_path_that_no_socket_can_have(wrong):
    with pytest.raises(UnreachableError):
        Client(wrong)
