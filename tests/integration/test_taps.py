"""What services write reaches the logger, and the next logger, and nothing piles up meanwhile."""

import os
import select
import socket

import pytest

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.spec import CommandSpec, HooksSpec, LogSpec, Output, dump
from supervisord_pidfd.taps import ENDED_KEPT, Taps, Told
from tests.support.hearer import Hearer
from tests.support.lone import Lone, restarting
from tests.support.world import DEADLINE_S, SH

TO_FILE = LogSpec(("file",), path="/var/log/it.log", stderr_path="/var/log/it.log")


class Listener:
    """Keep what the taps tell."""

    def __init__(self):
        self.news = []

    def told(self):
        return Told(
            lambda *about: self.news.append(("ready", *about)),
            lambda *about: self.news.append(("reopened", *about)),
            lambda *about: self.news.append(("tell", *about)),
            lambda *about: self.news.append(("lost", *about)),
        )


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def taps(world, listener):
    made = Taps(world.loop, listener.told())
    yield made
    made.close()
    world.loop.run_once(0.0)  # closes what was left for the end of a turn


@pytest.fixture
def logger(taps):
    hearer = Hearer(taps)
    yield hearer
    hearer.die()


def sent(world, taps, logger):
    """Let the taps send all they have to say, and return it."""
    new = logger.take()
    while taps.line.flush() or world.loop.run_once(0.0) or taps.line._queue:
        new += logger.take()
    return new + logger.take()


def shell(script, **members):
    return restarting("it", (SH, "-c", script), output=Output.CAPTURED, log=TO_FILE, **members)


def run_of(message):
    return {stream: pipe for pipe, stream in message["pipes"]}


def test_the_first_message_opens_and_carries_the_counters(world, taps, logger):
    taps.use_settings({"directory": "/var/log"})
    (opening, *_) = sent(world, taps, logger)

    assert opening["open"] == 1
    assert logger.counters is not None


@pytest.mark.reaping
@pytest.mark.parametrize("fast", [True, False], ids=["posix_spawn", "fork"])
def test_a_run_writes_into_pipes_that_the_logger_reads_to_their_end(world, taps, logger, fast):
    spec = shell("echo out; echo err >&2; exec sleep 1000", fast=fast, group="sites")
    lone = Lone(world, spec, taps=taps)
    lone.start()
    world.turn_until(lambda: lone.state.phase is Phase.RUNNING)
    pid = lone.state.pid
    _opening, service, run = sent(world, taps, logger)
    assert select.select([logger.pipes[run_of(run)["stderr"]]], [], [], DEADLINE_S)[0]
    lone.stop()

    assert service == {"service": "it", "slot": 0, "log": dump(TO_FILE), "group": "sites"}
    assert (run["service"], run["run"], run["again"], run["pid"]) == ("it", 1, False, pid)
    pipes = run_of(run)
    assert logger.read(pipes["stdout"]) == b"out\n"
    assert logger.read(pipes["stderr"]) == b"err\n"


@pytest.mark.reaping
def test_each_run_has_pipes_of_its_own_also_one_started_ahead(world, taps, logger):
    lone = Lone(world, shell("echo $SUPERVISORD_RUN"), taps=taps)
    lone.start()
    world.turn_until(lambda: lone.state.run >= 4)
    lone.stop()
    runs = [message for message in sent(world, taps, logger) if "run" in message]
    ended = runs[:3]

    # Of many runs in one turn only the latest are kept; each has written its own number.
    assert [logger.read(run_of(run)["stdout"]) for run in ended] == [
        b"%d\n" % run["run"] for run in ended
    ]
    assert len({run["run"] for run in ended}) == 3


@pytest.mark.reaping
def test_a_hook_writes_into_a_pipe_of_its_own(world, taps, logger):
    hook = CommandSpec((SH, "-c", "echo hooked; echo too >&2"), SH, fast=True)
    spec = shell("exec sleep 1000", hooks=HooksSpec(pre_start=hook))
    lone = Lone(world, spec, taps=taps)
    lone.start()
    world.turn_until(lambda: lone.state.phase is Phase.RUNNING)
    lone.stop()
    (hooked,) = [
        message
        for message in sent(world, taps, logger)
        if "run" in message and "hook" in run_of(message)
    ]

    assert logger.read(run_of(hooked)["hook"]) == b"hooked\ntoo\n"
    assert (hooked["run"], hooked["pid"]) == (1, None)


def test_the_copies_are_closed_when_the_logger_has_come_to_the_end(world, taps, logger):
    before = len(os.listdir("/proc/self/fd"))
    outlet = taps.open("it", 1)
    outlet.let_go()
    run = next(message for message in sent(world, taps, logger) if "run" in message)
    logger.say(ended=[pipe for pipe, _ in run["pipes"]])
    world.turn_until(lambda: not taps._runs)
    for fd in logger.pipes.values():
        os.close(fd)
    logger.pipes.clear()

    assert len(os.listdir("/proc/self/fd")) == before + 1  # the memory of the counters


def test_the_next_logger_is_told_everything_and_reads_on_where_the_last_one_was(world, taps):
    first = Hearer(taps)
    taps.use("it", TO_FILE)
    outlet = taps.open("it", 7)
    sent(world, taps, first)
    os.write(outlet.ends[0], b"read nothing of it")
    first.die()
    world.turn_until(lambda: not taps.line.is_open)
    taps.open("other", 1).let_go()
    second = Hearer(taps)
    opening, service, run, other = sent(world, taps, second)
    outlet.let_go()

    assert (opening["open"], service["service"]) == (1, "it")
    assert (run["run"], run["again"], other["again"]) == (7, True, False)
    assert second.read(run_of(run)["stdout"]) == b"read nothing of it"
    second.die()


def test_what_outlives_its_process_holds_a_bounded_number_of_pipes(world, taps, logger):
    outlets = []
    for run in range(ENDED_KEPT + 3):
        outlets.append(taps.open("it", run))
        sent(world, taps, logger)
        taps.over(outlets[-1].key)
    sent(world, taps, logger)
    dropped = [message["drop"] for message in logger.heard if "drop" in message]
    for outlet in outlets:
        outlet.let_go()

    assert dropped == [[1, 2], [3, 4], [5, 6]]
    assert len(taps._runs) == ENDED_KEPT


def test_pipes_of_living_processes_are_never_dropped(world, taps, logger):
    outlets = [taps.open("it", 1) for _ in range(2 * ENDED_KEPT)]
    messages = sent(world, taps, logger)
    for outlet in outlets:
        outlet.let_go()

    assert not [message for message in messages if "drop" in message]


def test_bytes_that_no_logger_was_ever_given_are_told(world, taps, listener):
    for run in range(ENDED_KEPT + 1):
        outlet = taps.open("it", run)
        os.write(outlet.ends[0], b"12345")
        outlet.let_go()
        taps.over(outlet.key)

    assert listener.news == [("lost", "it", "stdout", 5)]


def test_a_logger_that_reads_nothing_costs_a_bounded_amount(world, taps, logger):
    taps.use("it", TO_FILE)
    for run in range(20_000):
        outlet = taps.open("it", run)
        outlet.let_go()
        taps.over(outlet.key)
        if run % 100 == 0:
            taps.line.flush()

    assert len(taps.line._queue) < 5000
    assert len(taps._runs) == ENDED_KEPT


def test_slots_are_used_again_when_nothing_of_a_service_is_left(world, taps, logger):
    taps.use("a", TO_FILE)
    taps.use("b", TO_FILE)
    taps.counters.add(taps.slot("a"), 0, 5)
    outlet = taps.open("a", 1)
    taps.forget("a")
    assert taps.counters.read(taps.slot("a")).stdout_bytes == 5  # its pipes are still read
    outlet.let_go()
    run = next(message for message in sent(world, taps, logger) if "run" in message)
    logger.say(ended=[pipe for pipe, _ in run["pipes"]])
    world.turn_until(lambda: taps.slot("a") is None)
    taps.use("c", TO_FILE)

    assert (taps.slot("c"), taps.slot("b")) == (0, 1)
    assert taps.counters.read(taps.slot("c")).stdout_bytes == 0


def test_news_are_passed_on_and_nonsense_is_passed_over(world, taps, logger, listener):
    logger.say(ready="it", run=3)
    logger.say(reopened=4, **{"for": 9})
    logger.say(tell="log.rotated", path="/x")
    for nonsense in ({"ended": "x"}, {"ended": [None, "1", 99]}, {"ready": 1}, {"who": 1}, {}):
        logger.say(**nonsense)
    logger.channel.send(b"[")
    world.turn_until(lambda: len(listener.news) == 3)
    world.loop.run_once(0.0)

    assert listener.news == [
        ("ready", "it", 3),
        ("reopened", 4, 9),
        ("tell", "log.rotated", {"path": "/x"}),
    ]


def test_a_client_is_handed_over_with_what_it_asked_for(world, taps, logger):
    ours, theirs = socket.socketpair()
    taps.hand_client({"names": ["it"], "last": 5}, theirs.detach())
    message = sent(world, taps, logger)[-1]

    assert message == {"logs": {"names": ["it"], "last": 5}}
    os.write(logger.clients[0], b"here")
    assert ours.recv(10) == b"here"
    ours.close()


def test_a_client_that_nobody_can_answer_sees_the_end(world, taps):
    ours, theirs = socket.socketpair()
    taps.hand_client({}, theirs.detach())

    assert ours.recv(10) == b""
    ours.close()


@pytest.mark.reaping
def test_without_descriptors_a_start_fails_at_its_stage(world, taps, monkeypatch):
    def no_room(_flags):
        raise OSError(24, "Too many open files")

    lone = Lone(world, shell("exec sleep 1000", start_limit=None), taps=taps)
    monkeypatch.setattr(os, "pipe2", no_room)
    with pytest.raises(OSError, match="Too many"):
        taps.open("it", 1)
    outcome = lone.service._launch(1).outcome

    assert (outcome.stage, outcome.subject, outcome.error) == ("stdio", "log pipe", "EMFILE")
