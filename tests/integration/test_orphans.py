"""Children that became ours: found, whoever else came and went, and reaped."""

import os
import random
import signal

import pytest

from supervisord_pidfd.core.exitstatus import Signaled
from supervisord_pidfd.orphans import Orphans, Owner, owner_from_environ
from tests.support.world import program, wait_dead


def leave_orphans(world, count=1):
    """Have a child leave daemons behind; it stays a zombie. Return it and their pids."""
    child = world.spawn(*program("double_fork", str(count)))
    pids = [int(world.heard()[1]) for _ in range(count)]
    wait_dead(child.pid)
    return child, pids


@pytest.mark.slow
def test_a_daemon_that_left_its_group_is_found_and_reaped(world):
    child, pids = leave_orphans(world)
    assert world.look() == pids
    assert world.look() == []
    assert world.orphans.all == tuple(pids)
    assert os.getsid(pids[0]) != child.pid
    world.exit_of(child)

    world.orphans.signal(pids[0], signal.SIGTERM)
    world.turn_until(lambda: world.orphans_reaped)

    assert world.orphans_reaped == {pids[0]: Signaled(signal.SIGTERM)}
    assert len(world.orphans) == 0


@pytest.mark.slow
def test_it_is_found_before_its_child_is_delivered(world):
    """What left the group must be known when the service's end is judged."""
    child, pids = leave_orphans(world)
    known_at_end = []
    child.on_exit = lambda *_: known_at_end.append(world.orphans.all)
    world.turn_until(lambda: known_at_end)

    assert known_at_end == [tuple(pids)]


@pytest.mark.slow
def test_it_is_found_before_the_end_even_if_it_was_met_in_a_sweep(world):
    """The second child dies after the look for the first one, in the same turn."""
    known_at_end = []

    def first_ended(child, *_):
        second, pids = leave_orphans(world)
        second.on_exit = lambda *_: known_at_end.append((world.orphans.all, tuple(pids)))
        world.reaper.on_sigchld()

    child = world.spawn("/bin/true")
    child.on_exit = first_ended
    world.turn_until(lambda: known_at_end)

    ((known, left),) = known_at_end
    assert known == left


@pytest.mark.slow
def test_a_thousand_orphans_are_found_reaped_and_counted(world):
    child, pids = leave_orphans(world, 1000)
    world.exit_of(child)
    assert set(world.orphans.all) == set(pids)
    for pid in pids:
        world.orphans.signal(pid, signal.SIGKILL)

    world.turn_until(lambda: len(world.orphans_reaped) == 1000)

    assert set(world.orphans_reaped.values()) == {Signaled(signal.SIGKILL)}
    assert set(world.orphans_reaped) == set(pids)
    assert len(world.orphans) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_no_orphan_is_missed_whoever_came_and_went_before(world, seed):
    """The list is read on from its end, so what stands before that must be noticed by number."""
    chance = random.Random(seed)
    alive, orphans = [], set()
    for _ in range(40):
        match chance.choice(["spawn", "spawn", "end", "orphan", "orphan ends", "look"]):
            case "spawn":
                alive.append(world.sh("kill -STOP $$"))
            case "end" if alive:
                child = alive.pop(chance.randrange(len(alive)))
                world.reaper.signal(child, signal.SIGKILL, whole_group=False)
                world.exit_of(child)
            case "orphan":  # the shell in between ends at once, so the other one becomes ours
                middle = world.sh("sh -c 'echo \"left $$\" >&3; kill -STOP $$' & exit 0")
                orphans.add(int(world.heard()[1]))
                wait_dead(middle.pid)
                if chance.random() < 0.5:
                    world.exit_of(middle)
            case "orphan ends" if orphans:
                pid = chance.choice(sorted(orphans))
                os.kill(pid, signal.SIGKILL)
                orphans.discard(pid)
                world.turn_until(lambda pid=pid: pid in world.orphans_reaped)
            case "look":
                world.look()
                assert set(world.orphans.all) == orphans
    world.look()

    assert set(world.orphans.all) == orphans


@pytest.mark.slow
def test_orphans_have_owners(world):
    child, (one, two) = leave_orphans(world, 2)
    world.look()
    assert set(world.orphans.unidentified) == {one, two}
    assert world.orphans.may_belong_to("web")
    world.orphans.identify(one, Owner("web", 3))
    world.orphans.identify(two, Owner("", 0))
    world.orphans.identify(1, Owner("web", 1))  # not ours: stays unknown

    assert world.orphans.of("web") == (one,)
    assert world.orphans.unidentified == ()
    assert not world.orphans.may_belong_to("db")
    assert one in world.orphans
    assert 1 not in world.orphans
    world.exit_of(child)


def test_only_orphans_are_signalled(world):
    child = world.spawn(*program("linger"))
    world.heard()
    world.orphans.signal(child.pid, signal.SIGKILL)
    world.reaper.signal(child, signal.SIGTERM, whole_group=False)

    assert world.exit_of(child).status == Signaled(signal.SIGTERM)


def test_without_the_list_there_are_no_orphans():
    orphans = Orphans()
    orphans.close()
    orphans.close()

    assert orphans.look(lambda _pid: False, 0) == []


@pytest.mark.parametrize(
    ("environ", "owner"),
    [
        (b"SUPERVISORD_SERVICE=web\0SUPERVISORD_RUN=7\0", Owner("web", 7)),
        (b"A=1\0SUPERVISORD_RUN=7\0SUPERVISORD_SERVICE=a@b.c_d:e\0", Owner("a@b.c_d:e", 7)),
        (b"", Owner("", 0)),
        (b"SUPERVISORD_SERVICE=web\0", Owner("", 0)),
        (b"SUPERVISORD_RUN=7\0", Owner("", 0)),
        (b"SUPERVISORD_SERVICE=web\0SUPERVISORD_RUN=-7\0", Owner("", 0)),
        (b"SUPERVISORD_SERVICE=web\0SUPERVISORD_RUN=" + b"9" * 5000, Owner("", 0)),
        (b"SUPERVISORD_SERVICE=x 1\n4242 web\0SUPERVISORD_RUN=3\0", Owner("", 0)),
        (b"SUPERVISORD_SERVICE=\xff\0SUPERVISORD_RUN=3\0", Owner("", 0)),
        (b"\0\0=\0SUPERVISORD_SERVICE", Owner("", 0)),
    ],
)
def test_an_environment_is_believed_only_where_it_makes_sense(environ, owner):
    assert owner_from_environ(environ) == owner
