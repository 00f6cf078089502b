"""What every reaper promises: the same script of children gives the same records in both modes."""

import os
import signal

import pytest

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from tests.support.world import wait_dead


def test_each_end_is_delivered_once_with_its_status(world):
    scripts = {
        "exit 0": Exited(0),
        "exit 255": Exited(255),
        "kill -TERM $$": Signaled(signal.SIGTERM),
        "kill -KILL $$": Signaled(signal.SIGKILL),
    }
    children = {world.sh(script): status for script, status in scripts.items()}
    world.turn_until(lambda: not len(world.reaper))
    for _ in range(3):
        world.reaper.on_sigchld()
        world.loop.run_once(0)

    assert {exited.child: exited.status for exited in world.exits} == children
    assert len(world.exits) == len(children)


def test_a_child_is_known_from_watch_to_delivery(world):
    child = world.sh("kill -STOP $$")
    assert world.reaper.knows(child.pid)
    assert len(world.reaper) == 1
    world.reaper.signal(child, signal.SIGKILL, whole_group=False)
    world.exit_of(child)

    assert child.reaped
    assert not world.reaper.knows(child.pid)
    assert len(world.reaper) == 0


def test_a_delivered_child_is_no_zombie(world):
    child = world.sh("exit 0")
    world.exit_of(child)

    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_the_callback_may_start_and_watch_the_next_child(world):
    runs = []

    def again(child, status, _usage):
        runs.append(status)
        world.reaper.release(child)
        if len(runs) < 20:
            start()

    def start():
        launched = world.launch("/bin/sh", "-c", f"exit {len(runs)}")
        world.reaper.watch(launched.pid, again, leads_group=True)

    start()
    world.turn_until(lambda: len(runs) == 20)

    assert runs == [Exited(code) for code in range(20)]


def test_nothing_is_signalled_once_it_was_delivered(world):
    child = world.sh("exit 0")
    world.exit_of(child)

    assert not world.reaper.signal(child, signal.SIGKILL, whole_group=False)
    assert world.reaper.group_is_empty(child)


def test_the_look_comes_before_the_reap(make_world):
    seen = []

    def look():
        for pid in list(world.reaper._children):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # not reaped yet
            seen.append(pid)

    world = make_world(before_reap=look)
    child = world.sh("exit 0")
    wait_dead(child.pid)
    world.exit_of(child)

    assert seen == [child.pid]


@pytest.mark.parametrize("by_handler", [True, False], ids=["handler", "signalfd"])
def test_children_that_nobody_watches_are_orphans_where_that_is_our_task(make_world, by_handler):
    world = make_world(by_handler=by_handler)
    stranger = world.launch("/bin/sh", "-c", "exit 3").pid
    world.turn_until(lambda: world.orphans_reaped)

    assert world.orphans_reaped == {stranger: Exited(3)}


def test_children_that_nobody_watches_are_left_alone_where_it_is_not(make_world):
    world = make_world(subreaper=False)
    stranger = world.launch("/bin/sh", "-c", "exit 3").pid
    wait_dead(stranger)
    world.exit_of(world.sh("exit 0"))
    world.reaper.on_sigchld()

    assert world.orphans_reaped == {}
    assert os.waitpid(stranger, 0) == (stranger, 3 << 8)
