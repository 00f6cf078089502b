"""The logger's main thread: what the core says is done, whatever order it comes in."""

import os
import select
import socket
import time

import pytest

from supervisord_pidfd import logwire
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.spec import LogFormat, LogSpec, dump
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.logger.hub import PUMPS, VERSION_DIFFERS, Hub, Parts
from supervisord_pidfd.logger.journal import Lookup
from supervisord_pidfd.logger.making import directories_of
from supervisord_pidfd.logger.ring import Rings
from supervisord_pidfd.logwire import Counters

DEADLINE_S = 20


class Paper:
    """Be a sink that keeps what is written, as long as it has room."""

    form = LogFormat.RAW

    def __init__(self, device=None):
        self.device = device
        self.written, self.room, self.reopened, self.closed = b"", 1 << 20, 0, 0

    def write(self, data):
        taken = min(len(data), self.room)
        self.written, self.room = self.written + data[:taken], self.room - taken
        return taken

    def waits_on(self):
        return None

    def reopen(self):
        self.reopened += 1

    def close(self):
        self.closed += 1


class Core:
    """Be the core of a hub, in the same thread: say things, let it turn, hear what it says."""

    def __init__(self):
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.counters = Counters.create()
        self.counters.reserve(63)
        self.papers, self.settings, self.lookup = {}, [], Lookup()
        parts = Parts(
            SystemClock(), Rings(), self._sinks_of, directories_of, self.settings.append,
            lambda: 1, self.lookup,
        )  # fmt: skip
        self.hub = Hub(theirs, parts)
        self.heard = []
        self.ids = 0

    def _sinks_of(self, service, spec):
        paper = self.papers[service]
        return {stream: [(spec.path, paper)] for stream in ("stdout", "stderr", "hook")}

    def say(self, fds=(), **message):
        socket.send_fds(self.ours, [logwire.pack(message)], fds)
        self.hub.turn()

    def open(self):
        self.say([self.counters.fileno()], open=1, settings={"own": {}})

    def use(self, service, slot=0, directory="/one", **members):
        self.papers.setdefault(service, Paper())
        spec = LogSpec(("file",), path=f"{directory}/{service}", **members)
        self.say(service=service, slot=slot, log=dump(spec), group="sites")

    def run(self, service, run=1, **members):
        """Begin a run with one stream; return the end that it writes to."""
        self.ids += 1
        read_end, write_end = os.pipe()
        self.say([read_end], run=run, service=service, pipes=[[self.ids, "stdout"]], **members)
        os.close(read_end)
        return write_end

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.heard
            if select.select([self.hub.epoll], [], [], 0.01)[0]:
                self.hub.turn()
            while select.select([self.ours], [], [], 0)[0]:
                data = self.ours.recv(1 << 16)
                if not data:
                    return
                self.heard.append(logwire.unpack(data))

    def close(self):
        self.ours.close()
        self.hub._lose_core()
        for pump in self.hub._pumps.values():
            pump.stop()
            assert pump.join(DEADLINE_S)
            pump.close()
        if not self.hub.is_finishing:  # else it has done that itself
            self.hub._clients.close()
        self.hub.epoll.close()
        os.close(self.hub._wake)
        self.counters.close()
        os.close(self.counters.fileno())
        if self.hub._counters is not None:
            self.hub._counters.close()
            os.close(self.hub._counters.fileno())


@pytest.fixture
def core():
    made = Core()
    yield made
    made.close()


def test_a_core_of_another_version_is_refused(core):
    fd = os.dup(core.counters.fileno())
    with pytest.raises(StartupError, match=VERSION_DIFFERS.split(":")[0]):
        core.say([fd], open=2, settings={})
    os.close(fd)
    # What came with the message is left to the end of the process.
    for name in os.listdir("/proc/self/fd"):
        with_name = f"/proc/self/fd/{name}"
        if os.path.lexists(with_name) and "supervisord-pidfd-log" in os.readlink(with_name):
            number = int(name)
            if number != core.counters.fileno():
                os.close(number)


def test_a_run_of_a_service_that_was_never_named_is_not_read(core):
    core.open()
    end = core.run("nobody")

    with pytest.raises(BrokenPipeError):
        os.write(end, b"x")
    os.close(end)


def test_what_a_run_writes_is_written_and_its_end_is_told(core):
    core.open()
    core.use("web")
    end = core.run("web", run=7, pid=41)
    os.write(end, b"one\n")
    core.until(lambda: core.papers["web"].written == b"one\n")
    os.close(end)
    core.until(lambda: {"ended": [1]} in core.heard)

    assert core.counters.read(0).stdout_bytes == 4
    assert core.lookup.fields("web", "7", "stdout") == {
        "OBJECT_PID": 41, "SUPERVISORD_GROUP": "sites",
    }  # fmt: skip


def test_what_makes_no_sense_is_passed_over(core):
    core.open()
    core.say(tell="x")
    core.say(unknown=1)
    core.say()
    core.use("web")
    end = core.run("web")
    os.write(end, b"one\n")
    core.until(lambda: core.papers["web"].written == b"one\n")
    os.close(end)
    core.until(lambda: {"ended": [1]} in core.heard)


def test_directories_beyond_sixteen_share_threads(core):
    core.open()
    for number in range(PUMPS + 9):
        core.use(f"s{number}", slot=number, directory=f"/{number}")
    assert len(core.hub._pumps) == PUMPS
    ends = [core.run(f"s{number}") for number in range(PUMPS + 9)]
    for end in ends:
        os.write(end, b"x\n")
        os.close(end)
    core.until(lambda: sum(len(m.get("ended", ())) for m in core.heard) == PUMPS + 9)

    assert {paper.written for paper in core.papers.values()} == {b"x\n"}


def test_a_service_that_moves_to_another_directory_takes_its_pipes_along(core):
    core.open()
    core.use("web")
    end = core.run("web")
    os.write(end, b"one\n")
    core.until(lambda: core.papers["web"].written == b"one\n")
    core.use("web", directory="/other")
    os.write(end, b"two\n")
    core.until(lambda: core.papers["web"].written == b"one\ntwo\n")
    os.close(end)
    core.until(lambda: {"ended": [1]} in core.heard)

    assert core.papers["web"].closed == 1


def test_all_pumps_reopen_and_one_answer_is_given(core):
    core.open()
    for number in range(3):
        core.papers[f"s{number}"] = Paper(device=1)
        core.use(f"s{number}", slot=number, directory=f"/{number}")
    core.say(reopen=5)
    core.until(lambda: {"reopened": 4, "for": 5} in core.heard)  # with that of our own events

    assert [paper.reopened for paper in core.papers.values()] == [1, 1, 1]


def test_reopening_nothing_is_answered_too(core):
    core.open()
    core.say(reopen=6)
    core.until(lambda: {"reopened": 1, "for": 6} in core.heard)


def test_a_removed_service_is_forgotten_when_its_last_pipe_has_ended(core):
    core.open()
    core.use("web")
    end = core.run("web")
    core.say(removed="web")
    os.write(end, b"late\n")
    core.until(lambda: core.papers["web"].written == b"late\n")
    assert core.hub._parts.rings.find("web") is not None
    os.close(end)
    core.until(lambda: core.hub._parts.rings.find("web") is None)
    core.until(lambda: core.papers["web"].closed == 1)


def test_a_pipe_that_is_dropped_is_read_once_more_and_waited_for_no_longer(core):
    core.open()
    core.use("web")
    end = core.run("web")
    os.write(end, b"last")
    core.say(drop=[1])
    core.until(lambda: {"ended": [1]} in core.heard)
    os.close(end)

    assert core.papers["web"].written == b"last"


def test_without_a_core_it_goes_on_until_the_last_pipe_has_ended(core):
    core.open()
    core.use("web")
    end = core.run("web")
    core.ours.close()
    core.hub.turn()
    assert not core.hub.is_over()
    os.write(end, b"alone\n")
    os.close(end)
    deadline = time.monotonic() + DEADLINE_S
    while not core.hub.is_over():
        assert time.monotonic() < deadline
        core.hub.turn()

    assert core.papers["web"].written == b"alone\n"


def test_what_is_lost_at_the_end_is_kept_as_the_last_words(core):
    core.open()
    core.use("web", block_for=0.0)
    core.hub.turn()
    core.papers["web"].room = 0
    end = core.run("web")
    os.write(end, b"one\ntwo\n")
    core.until(lambda: core.counters.read(0).stdout_bytes == 8)
    os.close(end)
    core.say(finish=0.0)
    core.hub.run()
    (said,) = core.hub.last_words

    assert (said["tell"], said["service"], said["lines"], said["bytes"]) == (
        "log.dropped", "web", 2, 8,
    )  # fmt: skip
