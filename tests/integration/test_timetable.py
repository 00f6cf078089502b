"""Tasks are started by their schedules: real children, the real clock, a scripted checker."""

import json
import os
import socket

import pytest

from supervisord_pidfd.core.events import StopRequested
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import ServiceExited, ServiceStarting
from supervisord_pidfd.core.spec import (
    Overlap,
    RestartPolicy,
    ScheduleSpec,
    ServiceType,
)
from tests.support.attended import Attended
from tests.support.lone import restarting
from tests.support.world import SH

EVERY = 0.05


@pytest.fixture
def task(world, tmp_path):
    made = []

    def begin(script, **schedule):
        members = {"type": ServiceType.ONESHOT, "restart": RestartPolicy.NO}
        members["schedule"] = ScheduleSpec(**schedule)
        it = Attended(world, restarting("job", (SH, "-c", script), **members), tmp_path)
        made.append(it)
        return it

    yield begin
    for it in made:
        if it.state.has_process:
            it.stop()
        it.close()
        it.asker.close()
    world.turn_until(lambda: len(world.reaper) == 0)


class Checker:
    """Play the checker: read what is asked, answer what the test says."""

    def __init__(self, attended):
        self._world = attended.world
        provision = attended.asker.prepare(1)
        self._socket = socket.socket(fileno=os.dup(provision.descriptors[0][1]))
        self._socket.setblocking(False)
        attended.asker.handed_over()
        self._rest = b""

    def asked(self):
        """Return the next question."""
        found = []

        def look():
            try:
                self._rest += self._socket.recv(1 << 16)
            except BlockingIOError:
                return False
            *frames, self._rest = self._rest.split(b"\0")
            found.extend(json.loads(frame) for frame in frames)
            return any("ask" in one for one in found if isinstance(one, dict))

        self._world.turn_until(look)
        return [one for one in found if isinstance(one, dict) and "ask" in one][-1]

    def answer(self, question, moment, error=None):
        """Say when it is next."""
        reply = {"answer": question["ask"], "next": moment, "error": error}
        self._socket.sendall(json.dumps(reply).encode() + b"\0")

    def close(self):
        self._socket.close()


@pytest.fixture
def checker_of():
    made = []

    def begin(attended):
        made.append(Checker(attended))
        return made[-1]

    yield begin
    for one in made:
        one.close()


# -- every so many seconds ------------------------------------------------------------------------


def test_it_runs_again_and_again_but_not_at_once(task):
    began = task("exit 0", every=60.0)
    assert began.state.phase is Phase.STOPPED
    assert began.service.due_wall == pytest.approx(began.world.loop.clock.wall() + 60, abs=1)

    job = task("exit 0", every=EVERY)
    job.wait_for(ServiceExited, 4)

    assert {exited.cause for exited in job.found(ServiceExited)} == {"success"}


def test_it_is_counted_from_start_to_start(task):
    job = task("exit 0", every=30.0)
    job.start()
    before = job.service.due_wall
    job.wait_for(ServiceExited)

    assert job.service.due_wall == before
    assert before == pytest.approx(job.service.started_wall + 30, abs=1)


def test_a_failed_run_is_followed_by_the_next_one(task):
    job = task("exit 3", every=EVERY)

    job.wait_for(ServiceExited, 3)


def test_what_finds_the_last_run_at_work_is_left_out(task):
    job = task("sleep 0.3", every=0.1)
    job.wait_for(ServiceExited, 2)

    starts = job.found(ServiceStarting)
    assert len(starts) == len(job.found(ServiceExited))  # none in between, none made up


def test_or_it_waits_for_its_end_and_runs_once(task):
    job = task("sleep 0.2", every=60.0, overlap=Overlap.QUEUE)
    job.start()
    job.world.turn_until(lambda: job.state.executed)
    for companion in job.service.companions:
        companion._comes_due()
        companion._comes_due()
    job.wait_for(ServiceExited, 2)
    job.world.loop.run_once(0)

    assert len(job.found(ServiceStarting)) == 2


def test_what_waits_for_the_end_is_dropped_by_a_stop(task):
    job = task("sleep 60", every=60.0, overlap=Overlap.QUEUE)
    job.start()
    job.world.turn_until(lambda: job.state.executed)
    job.service.companions[0]._comes_due()
    job.service.post(StopRequested("operator:0"))
    job.world.turn_until(lambda: job.state.phase is Phase.STOPPED)

    assert len(job.found(ServiceStarting)) == 1


def test_or_it_ends_the_last_run_first(task):
    job = task("sleep 60", every=60.0, overlap=Overlap.RESTART)
    job.start()
    job.world.turn_until(lambda: job.state.executed)
    job.service.companions[0]._comes_due()
    job.wait_for(ServiceStarting, 2)

    assert job.found(ServiceExited)[0].signal == 15


# -- by calendar ----------------------------------------------------------------------------------


def test_it_runs_when_the_checker_says(task, checker_of):
    job = task("exit 0", calendar="* * * * *", timezone="UTC")
    checker = checker_of(job)
    wall = job.world.loop.clock.wall
    first = checker.asked()
    moment = wall() + 0.1
    checker.answer(first, moment)
    job.wait_for(ServiceExited)
    second = checker.asked()

    assert (first["calendar"], first["timezone"]) == ("* * * * *", "UTC")
    assert first["after"] == pytest.approx(moment - 0.1, abs=2)
    assert wall() >= moment
    assert second["after"] >= moment
    assert job.service.due_wall is None  # until the answer


def test_what_never_comes_does_not_run(task, checker_of):
    job = task("exit 0", calendar="0 0 31 2 *")
    checker = checker_of(job)
    checker.answer(checker.asked(), None)
    job.world.loop.run_once(0.1)

    assert job.service.due_wall is None
    assert job.found(ServiceStarting) == []


def test_a_clock_that_is_set_makes_it_look_again(task, checker_of):
    job = task("exit 0", calendar="* * * * *")
    checker = checker_of(job)
    checker.answer(checker.asked(), job.world.loop.clock.wall() + 3600)
    job.world.turn_until(lambda: job.service.due_wall is not None)
    job.jumps._jumped(job.jumps._fd)
    again = checker.asked()

    assert again["after"] == pytest.approx(job.world.loop.clock.wall(), abs=2)
    assert job.service.due_wall is None


def test_another_schedule_is_asked_for_at_once_and_none_ends_it(task, checker_of):
    job = task("exit 0", calendar="* * * * *")
    checker = checker_of(job)
    checker.asked()
    spec = job.service.spec
    job.service.use(spec._replace(schedule=ScheduleSpec(calendar="5 5 * * *")))
    assert checker.asked()["calendar"] == "5 5 * * *"
    job.service.use(spec._replace(schedule=None))
    job.world.loop.run_once(0)

    assert job.service.companions == ()
    assert job.jumps._fd is None
