"""Restart after restart: the same service comes back each time, and nothing piles up."""

import gc
import os
import resource
import signal

import pytest

from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.orphans import Owner
from tests.support.lone import Lone, restarting
from tests.support.world import DEADLINE_S, SH, program

RESTARTS = 10_000
WARM_UP = 1_000
GROWTH = 1 << 20


def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def zombies_and_children():
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return len(children.read().split())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_restarts_leave_nothing(world):
    lone = Lone(world, restarting("brief", ("/bin/true",)), keep=False)
    lone.start()
    world.turn_until(lambda: lone.state.run >= WARM_UP, timeout=60)
    before = resident(), descriptors()
    world.turn_until(lambda: lone.state.run >= WARM_UP + RESTARTS, timeout=200)
    after = resident(), descriptors()
    children = zombies_and_children()
    lone.stop()

    assert after[0] - before[0] <= GROWTH
    assert abs(after[1] - before[1]) <= 1  # the pidfd of the run under way
    assert children <= 1
    assert zombies_and_children() == 0
    assert world.fell_back == []


@pytest.mark.slow
def test_a_thousand_restarts_on_the_second_path_leave_nothing(world):
    spec = restarting("brief", ("/bin/true",), fast=False, nice=1)
    lone = Lone(world, spec, keep=False)
    lone.start()
    world.turn_until(lambda: lone.state.run >= 100)
    before = resident(), descriptors()
    world.turn_until(lambda: lone.state.run >= 1100, timeout=100)
    after = resident(), descriptors()
    lone.stop()

    assert after[0] - before[0] <= GROWTH
    assert abs(after[1] - before[1]) <= 2  # a pidfd and an error pipe
    assert zombies_and_children() == 0


@pytest.mark.parametrize("fast", [True, False], ids=["posix_spawn", "fork"])
def test_a_killed_service_comes_back_with_the_next_run(world, fast):
    lone = Lone(world, restarting("web", program("linger"), fast=fast), announces=True)
    lone.start()
    first = int(world.heard()[1])
    world.turn_until(lambda: lone.state.phase is Phase.RUNNING)
    assert lone.state.pid == first
    os.kill(first, signal.SIGKILL)
    world.turn_until(lambda: lone.state.run == 2 and lone.state.phase is Phase.RUNNING)
    second = int(world.heard()[1])

    assert lone.state.pid == second != first
    lone.stop()
    assert lone.state.phase is Phase.STOPPED


def test_the_error_pipe_is_no_start_before_the_program_is_executed(world):
    """The child says that it is about to execute; only the end of the pipe says that it has."""
    lone = Lone(world, restarting("web", program("linger"), fast=False), announces=True)
    lone.start()
    assert lone.state.phase is Phase.STARTING
    world.turn_until(lambda: lone.state.phase is not Phase.STARTING)

    assert lone.state.phase is Phase.RUNNING
    world.heard()
    lone.stop()


@pytest.mark.parametrize("fast", [True, False], ids=["posix_spawn", "fork"])
def test_a_program_that_is_not_there_is_tried_again_by_policy(world, fast):
    lone = Lone(world, restarting("web", ("/nonexistent",), fast=fast))
    lone.start()
    world.turn_until(lambda: lone.state.run >= 5)
    last = lone.state.last_exit

    assert (last.stage, last.subject, last.error) == ("exec", "/nonexistent", "ENOENT")
    lone.stop()


def test_leftovers_are_gone_before_the_next_run_begins(world):
    """A member of the group lives on; so does one that left it."""
    script = (
        'echo "start $SUPERVISORD_RUN" >&3;'
        " sh -c 'kill -STOP $$' &"
        " setsid sh -c 'echo \"left $$\" >&3; kill -STOP $$' &"
        " read line; kill -STOP $$"
    )
    lone = Lone(world, restarting("web", (SH, "-c", script)), announces=True)
    world.before_reap = lambda: identify(world, lone)
    lone.start()
    assert world.heard() == ["start", "1"]
    left = int(world.heard()[1])
    os.kill(lone.state.pid, signal.SIGKILL)
    world.turn_until(lambda: lone.state.run == 2, DEADLINE_S)

    assert left in world.orphans_reaped
    assert "ServiceLeftoversKilled" in lone.told
    lone.service.spec = lone.service.spec._replace(restart="no")
    lone.stop()  # the second run may have left one behind as well: it is identified, and ended


def identify(world, lone):
    for pid in world.look():
        world.orphans.identify(pid, Owner(lone.service.name, lone.state.run))
        lone.service.orphan_identified(pid)
