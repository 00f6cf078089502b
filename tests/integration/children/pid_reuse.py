"""Force a pid to be used again, and see whom an old record signals. We are PID 1 of a namespace.

Arguments: the reaper's mode, whether it may signal groups by pidfd, where the packages lie. Says
`ok` on standard output, or what went wrong.
"""

import os
import signal
import sys

sys.path.insert(0, sys.argv[3])

from tests.support.world import World, wait_dead


def next_pid(world, wanted):
    """Spawn a child that gets this number, and wait until it runs and leads a group."""
    for _ in range(50):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(wanted - 1))
        child = world.sh('echo "here $$" >&3; kill -STOP $$')
        world.heard()
        if child.pid == wanted:
            return child
        world.reaper.signal(child, signal.SIGKILL, whole_group=True)
        world.exit_of(child)
    raise AssertionError("the number was not given again")


def must_live(child):
    with open(f"/proc/{child.pid}/stat") as stat:
        state = stat.read().rpartition(")")[2].split()[0]
    assert state in "STRt", f"the newcomer was hit: {state}"
    with open(f"/proc/{child.pid}/status") as status:
        pending = [line for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    assert all(int(line.split()[1], 16) == 0 for line in pending), pending


def use_again(world):
    old = world.sh("exit 0")
    world.exit_of(old)
    new = next_pid(world, old.pid)
    assert new.pid == old.pid
    assert new is not old
    for whole_group in (False, True):
        for signum in (signal.SIGTERM, signal.SIGKILL):
            assert not world.reaper.signal(old, signum, whole_group=whole_group)
    world.orphans.signal(old.pid, signal.SIGKILL)
    world.loop.run_once(0)
    must_live(new)
    assert world.reaper.knows(new.pid)
    world.reaper.release(old)
    assert not world.reaper.signal(old, signal.SIGKILL, whole_group=True)
    must_live(new)
    assert world.reaper.signal(new, signal.SIGKILL, whole_group=True)
    assert world.exit_of(new).status.signum == signal.SIGKILL


def use_a_group_again(world):
    """The leader is reaped while a member lives; then the member goes, and the number returns."""
    leader = world.sh("sh -c 'echo \"member $$\" >&3; kill -STOP $$' & exit 0")
    member = int(world.heard()[1])
    world.exit_of(leader)
    named = world.features.pidfd and world.features.group_signal
    assert world.reaper.group_is_empty(leader) is False
    assert world.reaper.signal(leader, signal.SIGKILL, whole_group=True) is named
    if not named:
        os.kill(member, signal.SIGKILL)
    world.turn_until(lambda: member in world.orphans_reaped)
    assert world.reaper.group_is_empty(leader)

    new = next_pid(world, leader.pid)
    assert os.getpgid(new.pid) == leader.pid
    assert not world.reaper.signal(leader, signal.SIGKILL, whole_group=True)
    must_live(new)
    if named:
        assert world.reaper.group_is_empty(leader)
    world.reaper.signal(new, signal.SIGKILL, whole_group=True)
    world.exit_of(new)


def stolen(world):
    """Somebody else reaped the child and its number is in use before we have looked."""
    old = world.sh("exit 0")
    wait_dead(old.pid)
    os.waitpid(old.pid, 0)
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(old.pid - 1))
    new = os.fork()
    if new == 0:
        os.setsid()
        os.write(world.announce, b"here\n")
        while True:
            signal.pause()
    world.heard()
    assert new == old.pid
    if world.features.pidfd:  # the pidfd knows better; a number alone cannot
        assert not world.reaper.signal(old, signal.SIGKILL, whole_group=False)
        os.kill(new, 0)
        assert type(world.exit_of(old).status).__name__ in {"Exited", "Unknown"}
    os.kill(new, signal.SIGKILL)
    world.turn_until(lambda: new in world.orphans_reaped or old.reaped)


world = World(sys.argv[1], **({} if sys.argv[2] == "groups" else {"group_signal": False}))
use_again(world)
use_a_group_again(world)
if sys.argv[1] == "pidfd":
    stolen(world)
world.close()
print("ok")
