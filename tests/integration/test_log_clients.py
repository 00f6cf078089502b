"""Clients of `logs` on real sockets: however they read, and whenever they leave."""

import json
import os
import select
import socket
import threading

import pytest

from supervisord_pidfd.logger.clients import CLIENTS, READ_WITHIN, SLOW, Clients
from supervisord_pidfd.logger.lines import Batch
from supervisord_pidfd.logger.ring import Rings
from tests.fakes import FakeClock
from tests.support.loggers import Logging, write_all

DEADLINE_S = 10.0


class Poll:
    """Be the epoll of the logger's main thread."""

    def __init__(self):
        self.epoll = select.epoll()
        self.callbacks = {}

    def watch(self, fd, callback, events=select.EPOLLIN):
        self.epoll.register(fd, events)
        self.callbacks[fd] = callback

    def unwatch(self, fd):
        self.epoll.unregister(fd)
        del self.callbacks[fd]

    def turn(self, timeout=0.0):
        found = self.epoll.poll(timeout)
        for fd, events in found:
            if fd in self.callbacks:
                self.callbacks[fd](events)
        return len(found)


class Desk:
    """Own rings, clients of them, and our ends of their sockets."""

    def __init__(self):
        self.clock = FakeClock()
        self.poll, self.rings = Poll(), Rings()
        self.clients = Clients(self.poll, self.rings, self.clock)
        self.ours = []

    def write(self, data, service="web", **members):
        place = {"stream": "stdout", "run": 1, "seq": 1, "wall": self.clock.wall()} | members
        self.rings.ring(service).add(Batch(service=service, data=data, **place))

    def ask(self, **asked):
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        self.ours.append(ours)
        self.clients.serve(theirs.detach(), asked)
        return ours

    def close(self):
        for ours in self.ours:
            ours.close()
        self.clients.close()
        self.poll.epoll.close()


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.close()


def read(client, messages=None):
    """Read so many messages, or all of them up to the end."""
    data = b""
    while messages is None or data.count(b"\0") < messages:
        some = client.recv(1 << 16)
        if not some:
            break
        data += some
    return [json.loads(message) for message in data.split(b"\0")[:-1]]


def texts(messages):
    return [
        line["msg"] for message in messages if (line := message["parameters"]["line"]) is not None
    ]


def test_a_client_gets_the_lines_and_then_the_end(desk):
    desk.write(b"one\ntwo\n")
    messages = read(desk.ask())

    assert texts(messages) == ["one", "two"]
    assert [message.get("continues", False) for message in messages] == [True, True, False]
    assert messages[-1] == {"parameters": {"line": None}}
    assert len(desk.clients) == 0


def test_with_nothing_to_tell_the_end_comes_at_once(desk):
    assert read(desk.ask()) == [{"parameters": {"line": None}}]


def test_a_follower_gets_what_another_thread_adds(desk):
    desk.write(b"before\n")
    client = desk.ask(follow=True)
    assert texts(read(client, 1)) == ["before"]

    thread = threading.Thread(target=desk.write, args=(b"after\n",))
    thread.start()
    thread.join()
    assert desk.poll.turn(DEADLINE_S)
    assert texts(read(client, 1)) == ["after"]


def test_a_follower_with_nothing_to_read_wakes_nobody(desk):
    desk.write(b"before\n")
    desk.ask(follow=True)
    while desk.poll.turn():
        pass

    desk.write(b"other\n", service="unwatched")  # a new service, which is followed too
    assert desk.poll.turn()
    assert not desk.poll.turn(0.0)
    assert desk.clients.due() == float("inf")


def test_services_that_nobody_follows_wake_nobody(desk):
    desk.write(b"x\n", service="db")
    client = desk.ask(names=["web"], follow=True)
    while desk.poll.turn():
        pass

    desk.write(b"y\n", service="db")
    assert not desk.poll.turn()
    client.close()
    assert desk.poll.turn()
    desk.write(b"z\n")
    assert not desk.poll.turn()


def test_a_large_answer_arrives_whole_through_a_small_buffer(desk):
    desk.rings.ring("web").resize(1 << 20)
    lines = [f"line {number:060}" for number in range(5000)]
    desk.write("".join(f"{line}\n" for line in lines).encode())
    client = desk.ask()

    found = []
    reader = threading.Thread(target=lambda: found.extend(read(client)))
    reader.start()
    while len(desk.clients):
        assert desk.poll.turn(DEADLINE_S)
    reader.join()
    assert texts(found) == lines


def test_a_client_that_leaves_is_forgotten(desk):
    client = desk.ask(follow=True)
    client.close()

    assert desk.poll.turn(DEADLINE_S)
    assert len(desk.clients) == 0


def stall(desk, **asked):
    """Have a client that never reads, and more to tell it than its socket takes."""
    client = desk.ask(**asked)
    while desk.poll.turn():
        pass
    return client


def test_who_reads_nothing_is_dropped_after_a_while(desk):
    desk.write(b"x" * 1000 + b"\n", service="first")
    desk.rings.ring("web").resize(4 << 20)
    desk.write((b"y" * 1000 + b"\n") * 2000)
    client = stall(desk)
    assert desk.clients.due() == desk.clock.now() + READ_WITHIN

    desk.clients.act(desk.clock.now() + READ_WITHIN - 0.1)
    assert len(desk.clients) == 1
    desk.clients.act(desk.clock.now() + READ_WITHIN)
    assert len(desk.clients) == 0
    assert read(client)[-1].get("continues")  # cut off: no end was told


def test_what_a_slow_follower_missed_is_counted_to_the_byte(desk):
    line = b"z" * 999 + b"\n"
    client = stall(desk, follow=True)
    for _ in range(3000):
        desk.write(line)
        desk.poll.turn()

    read_bytes = 0
    client.settimeout(0.5)
    data = b""
    try:
        while True:
            data += client.recv(1 << 16)
            desk.poll.turn()
    except TimeoutError:
        pass
    for message in data.split(b"\0")[:-1]:
        told = json.loads(message)["parameters"]["line"]
        read_bytes += len(told["msg"]) + 1 + told.get("missed_bytes", 0)
    assert read_bytes == 3000 * len(line)
    assert b"missed_bytes" in data


def test_there_are_only_so_many_and_one_more_is_refused(desk):
    for _ in range(CLIENTS):
        desk.ask(follow=True)
    (refusal,) = read(desk.ask(follow=True))

    assert refusal["error"].endswith(".Refused")
    assert refusal["parameters"]["reason"] == "busy"
    assert len(desk.clients) == CLIENTS


def test_who_has_stalled_for_the_longest_time_makes_room(desk):
    desk.rings.ring("web").resize(4 << 20)
    desk.write((b"y" * 1000 + b"\n") * 2000)
    slow = stall(desk)
    for _ in range(CLIENTS - 1):
        desk.ask(follow=True, last=0)
    desk.clock.advance(SLOW)

    assert read(desk.ask(names=[])) == [{"parameters": {"line": None}}]
    assert read(slow)[-1].get("continues")
    assert len(desk.clients) == CLIENTS - 1


@pytest.mark.parametrize("asked", [{"since": "soon"}, {"last": -1}])
def test_parameters_that_make_no_sense_are_refused(desk, asked):
    (refusal,) = read(desk.ask(**asked))

    assert refusal == {
        "error": "org.varlink.service.InvalidParameter",
        "parameters": {"parameter": next(iter(asked))},
    }


def test_followers_are_told_the_end_when_the_logger_ends():
    desk = Desk()
    desk.write(b"one\n")
    client = desk.ask(follow=True)
    desk.write(b"two\n")
    desk.clients.close()

    messages = read(client)
    assert texts(messages) == ["one", "two"]
    assert messages[-1] == {"parameters": {"line": None}}
    client.close()
    desk.poll.epoll.close()


def test_nothing_stays_open(desk):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        read(desk.ask())
    for client in desk.ours:
        client.close()
    desk.ours.clear()

    assert len(os.listdir("/proc/self/fd")) == before


def test_ages_are_counted_back_from_now(desk):
    desk.write(b"old\n", wall=desk.clock.wall() - 61)
    desk.write(b"new\n", wall=desk.clock.wall() - 59)

    assert texts(read(desk.ask(since="1m"))) == ["new"]


def test_a_logger_answers_clients_that_the_core_hands_over():
    logging = Logging()
    logging.start()
    logging.use("web", "", to=())
    outlet = logging.open("web", run=7)
    write_all(outlet.ends[0], b"one\ntwo\n")
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    logging.taps.hand_client({"names": ["web"], "follow": True}, theirs.detach())
    logging.turns()
    assert texts(read(ours, 2)) == ["one", "two"]

    write_all(outlet.ends[1], b"no end")
    outlet.let_go()
    logging.drained()
    (message,) = read(ours, 1)
    line = message["parameters"]["line"]
    assert (line["msg"], line["stream"], line["run"]) == ("no end", "stderr", 7)
    assert line["partial"] is False

    assert logging.finish() == 0
    assert read(ours) == [{"parameters": {"line": None}}]
    ours.close()
    logging.close()
