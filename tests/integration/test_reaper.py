"""Both reapers over real children: every end exactly as it was, once, and nothing left of it."""

import os
import resource
import signal
import threading
from contextlib import contextmanager

import pytest

from supervisord_pidfd import sysabi
from supervisord_pidfd.core.exitstatus import Exited, Signaled, Unknown, Usage
from supervisord_pidfd.core.spec import ResourceLimit
from supervisord_pidfd.loop import BATCH, Priority
from supervisord_pidfd.reaper import PidfdReaper, SigchldReaper
from tests.support.world import SH, World, program, wait_dead

IGNORED = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
ENDING = sorted(int(signum) for signum in signal.valid_signals() - IGNORED - STOPPING)


def ends(world):
    return {exited.child.pid: exited.status for exited in world.exits}


# -- how a child ended ----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_exit_code_is_reported_exactly(world):
    children = {world.sh(f"exit {code}").pid: code for code in range(256)}

    world.turn_until(lambda: len(world.exits) >= 256)

    assert ends(world) == {pid: Exited(code) for pid, code in children.items()}


@pytest.mark.slow
@pytest.mark.parametrize("cores", [0, resource.RLIM_INFINITY], ids=["no core", "core"])
def test_every_ending_signal_is_reported_exactly(world, cores, tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = ResourceLimit("core", cores if hard == resource.RLIM_INFINITY else 0, hard)
    children, dumped = {}, {}
    for signum in ENDING:
        child = world.sh(
            f"kill -{signum} $$; exit 99", fast=False, directory=str(tmp_path), limits=(limit,)
        )
        children[child.pid] = signum
    for pid in children:  # what the kernel says, before the reaper asks
        wait_dead(pid)
        raw = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        dumped[pid] = raw.si_code == sysabi.CLD_DUMPED

    world.turn_until(lambda: len(world.exits) >= len(children))

    expected = {pid: Signaled(signum, dumped[pid]) for pid, signum in children.items()}
    assert ends(world) == expected
    assert signal.SIGRTMAX in children.values()


def test_the_usage_is_what_the_kernel_says(world):
    child = world.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3")
    wait_dead(child.pid)
    raw = sysabi.waitid_nohang(sysabi.P_PID, child.pid, keep=True)

    usage = world.exit_of(child).usage

    assert raw is not None
    assert usage == Usage(raw.user_s, raw.system_s, raw.max_rss_bytes)
    assert usage.user_cpu_s + usage.system_cpu_s > 0


def test_a_high_water_mark_that_may_be_ours_is_left_out(world):
    child = world.watch(world.launch(SH, "-c", "exit 0").pid, floor_rss=1 << 60)

    assert world.exit_of(child).usage.max_rss_bytes is None


def test_a_stopped_or_continued_child_has_not_ended(world):
    child = world.spawn(*program("linger"))
    world.heard()
    for signum in (signal.SIGSTOP, signal.SIGCONT):
        world.reaper.signal(child, signum, whole_group=False)
        world.loop.run_once(0)
    marker = world.sh("exit 0")
    world.exit_of(marker)

    assert len(world.exits) == 1
    assert world.reaper.knows(child.pid)


@pytest.mark.slow
def test_a_leader_that_ends_before_its_threads_is_no_end(world):
    child = world.spawn(*program("leader_first"))
    assert world.heard() == ["ready", str(child.pid)]
    world.exit_of(world.sh("exit 0"))
    assert len(world.exits) == 1

    world.reaper.signal(child, signal.SIGUSR1, whole_group=False)

    assert world.exit_of(child).status == Exited(17)


@pytest.mark.slow
def test_an_exec_by_another_thread_is_no_end(world):
    child = world.spawn(*program("exec_by_thread"))
    assert world.heard() == ["ready", str(child.pid)]
    world.exit_of(world.sh("exit 0"))
    assert len(world.exits) == 1

    world.reaper.signal(child, signal.SIGUSR1, whole_group=False)
    world.reaper.signal(child, signal.SIGCONT, whole_group=False)

    assert world.exit_of(child).status == Exited(23)


def test_a_child_that_died_before_it_was_watched_is_not_lost(world):
    launched = world.launch(SH, "-c", "exit 5")
    wait_dead(launched.pid)

    assert world.exit_of(world.watch(launched.pid)).status == Exited(5)


def test_a_child_that_dies_while_another_is_spawned_is_not_lost(world):
    first = world.sh("exit 6")
    wait_dead(first.pid)
    second = world.sh("exit 7")

    assert world.exit_of(second).status == Exited(7)
    assert world.exit_of(first).status == Exited(6)


@pytest.mark.slow
def test_a_tracer_delays_the_end_and_costs_no_turns(world):
    child = world.spawn(*program("linger"))
    world.heard()
    tracer = world.spawn(*program("tracer", str(child.pid)))
    assert world.heard() == ["tracing", str(child.pid)]
    world.reaper.signal(child, signal.SIGKILL, whole_group=False)
    assert world.heard() == ["dead", str(child.pid)]
    for _ in range(4):
        world.loop.run_once(0)
    assert world.reaper.knows(child.pid)
    assert world.loop._epoll.poll(0.05) == []

    world.reaper.signal(tracer, signal.SIGKILL, whole_group=False)

    assert world.exit_of(child).status == Signaled(signal.SIGKILL)


# -- many at once ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_ends_at_once_are_all_reaped(world):
    pids = {world.spawn("/bin/true").pid for _ in range(1000)}
    for pid in pids:
        wait_dead(pid)
    assert not world.exits

    world.turn_until(lambda: len(world.exits) >= 1000)

    assert ends(world) == dict.fromkeys(pids, Exited(0))
    assert len(world.exits) == 1000
    assert len(world.reaper) == 0


@pytest.mark.slow
@pytest.mark.parametrize("subreaper", [True, False], ids=["orphans are ours", "not ours"])
def test_two_hundred_ends_behind_one_signal_are_all_reaped(make_world, subreaper):
    world = make_world(subreaper=subreaper, by_handler=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        pids = {world.spawn("/bin/true").pid for _ in range(200)}
        for pid in pids:
            wait_dead(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    world.turn_until(lambda: len(world.exits) >= 200)

    assert ends(world) == dict.fromkeys(pids, Exited(0))


def test_work_of_one_turn_is_bounded(world):
    for _ in range(3 * BATCH):
        wait_dead(world.spawn("/bin/true").pid)
    world.loop.run_once(0)

    assert len(world.exits) <= 2 * BATCH  # a batch and a sweep


def test_one_crash_in_a_callback_does_not_lose_the_ends_behind_it(world):
    world.may_crash = True

    def crash(child, _status, _usage):
        world.reaper.release(child)
        raise RuntimeError

    launched = [world.launch("/bin/true") for _ in range(10)]
    for index, one in enumerate(launched):
        wait_dead(one.pid)
        if index == 0:
            world.reaper.watch(one.pid, crash, leads_group=True)
        else:
            world.watch(one.pid)

    world.turn_until(lambda: len(world.exits) == 9)

    assert len(world.reaper) == 0
    assert [type(error) for _, error in world.errors] == [RuntimeError]
    world.errors.clear()


# -- a status that somebody else took -------------------------------------------------------------


def stolen(world):
    return world.features.pidfd and world.features.exit_info


def test_a_status_taken_by_a_wait_is_exact_or_unknown_and_never_zero(world):
    child = world.sh("exit 0")
    os.waitpid(child.pid, 0)
    if not world.features.pidfd:
        world.loop.deadline(world.reaper._look_through).arm(0)  # what the safety sweep does

    exited = world.exit_of(child)

    expected = Exited(0) if stolen(world) else Unknown("waited for by somebody else")
    assert exited.status == expected
    assert exited.usage == Usage()


def test_a_thread_that_waits_for_anything_cannot_turn_an_end_into_success(world):
    child = world.sh("exit 9")
    thief = threading.Thread(target=os.waitpid, args=(child.pid, 0))
    thief.start()
    thief.join()
    if not world.features.pidfd:
        world.loop.deadline(world.reaper._look_through).arm(0)

    assert world.exit_of(child).status == (
        Exited(9) if stolen(world) else Unknown("waited for by somebody else")
    )


def test_a_status_taken_before_the_child_is_watched_is_unknown(world):
    launched = world.launch(SH, "-c", "exit 0")
    os.waitpid(launched.pid, 0)
    child = world.watch(launched.pid)
    if not world.features.pidfd:
        world.loop.deadline(world.reaper._look_through).arm(0)

    assert world.exit_of(child).status == Unknown("waited for by somebody else")
    assert world.fell_back == (["unexpected ESRCH"] if world.features.pidfd else [])


@pytest.mark.slow
def test_the_safety_sweep_finds_what_a_lost_wake_up_hid(make_world, monkeypatch):
    monkeypatch.setattr("supervisord_pidfd.reaper.SWEEP_EVERY", 0.05)
    world = make_world()
    world.loop.remove(world.inbox.fd)  # no SIGCHLD reaches us any more
    try:
        child = world.sh("exit 4")

        assert world.exit_of(child).status == Exited(4)
    finally:
        world.loop.add(world.inbox.fd, Priority.CONTROL, world.inbox.read)


# -- zombies that are not registered --------------------------------------------------------------


@pytest.mark.parametrize("subreaper", [True, False], ids=["orphans are ours", "not ours"])
def test_an_unknown_zombie_at_the_head_hides_nobody(make_world, subreaper):
    world = make_world(subreaper=subreaper)
    stranger = world.launch(SH, "-c", "exit 8").pid
    wait_dead(stranger)
    children = [world.sh("exit 1") for _ in range(3)]

    for child in children:
        assert world.exit_of(child).status == Exited(1)

    if subreaper:
        world.turn_until(lambda: world.orphans_reaped)
        assert world.orphans_reaped == {stranger: Exited(8)}
    else:  # where orphans are not our task, somebody else waits for it
        assert os.waitpid(stranger, 0) == (stranger, 8 << 8)


# -- descriptors that run out ---------------------------------------------------------------------


@contextmanager
def no_free_descriptor():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    filled = []
    try:
        while True:
            try:
                filled.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filled:
            os.close(fd)


@pytest.mark.parametrize("subreaper", [True, False], ids=["orphans are ours", "not ours"])
def test_without_a_descriptor_a_child_is_tracked_by_sigchld(make_world, subreaper):
    world = make_world(subreaper=subreaper)
    with no_free_descriptor():
        child = world.sh("read x < /dev/null; exit 12")  # posix_spawn needs no descriptor

    assert world.fell_back == (["EMFILE"] if world.features.pidfd else [])
    assert child.pidfd is None
    assert world.exit_of(child).status == Exited(12)
    if world.features.pidfd:
        assert world.reaper.without_pidfd == 0
    later = world.sh("exit 13")
    assert (later.pidfd is not None) == world.features.pidfd
    assert world.exit_of(later).status == Exited(13)


def test_a_child_without_a_pidfd_can_be_signalled_and_stolen(world):
    with no_free_descriptor():
        first = world.spawn(*program("linger"))
        second = world.spawn("/bin/true")
    assert world.heard() == ["ready", str(first.pid)]
    os.waitpid(second.pid, 0)
    assert world.reaper.signal(first, signal.SIGTERM, whole_group=True)

    assert world.exit_of(first).status == Signaled(signal.SIGTERM)
    if not world.features.pidfd:
        world.loop.deadline(world.reaper._look_through).arm(0)
    assert world.exit_of(second).status == Unknown("waited for by somebody else")
    assert not world.reaper.signal(first, signal.SIGTERM, whole_group=True)


@pytest.mark.pidfd
def test_a_child_that_epoll_does_not_take_is_tracked_by_sigchld(make_world, reaper_mode):
    if reaper_mode == "sigchld":
        return  # nothing is added to epoll there
    world = make_world()
    launched = world.launch(SH, "-c", "exit 14")
    number = world.loop._epoll.fileno()
    epoll = os.dup(number)
    os.dup2(world.announce, number)  # so that epoll_ctl(2) fails
    child = world.watch(launched.pid)
    os.dup2(epoll, number, inheritable=False)
    os.close(epoll)

    assert world.fell_back == ["unexpected EINVAL"]
    assert child.pidfd is None
    assert world.exit_of(child).status == Exited(14)


# -- signals --------------------------------------------------------------------------------------


def test_a_signal_reaches_the_process_or_its_whole_group(world):
    child = world.sh("sh -c 'echo \"member $$\" >&3; kill -STOP $$' & wait")
    word, member = world.heard()
    assert word == "member"
    assert world.reaper.signal(child, signal.SIGTERM, whole_group=False)
    assert world.exit_of(child).status == Signaled(signal.SIGTERM)

    assert not world.reaper.group_is_empty(child)
    if world.features.pidfd and world.features.group_signal:
        assert world.reaper.signal(child, signal.SIGKILL, whole_group=True)
        world.turn_until(lambda: int(member) in world.orphans_reaped)
        assert world.reaper.group_is_empty(child)
    else:  # the number may be somebody else's by now
        assert not world.reaper.signal(child, signal.SIGKILL, whole_group=True)


@pytest.mark.parametrize("group_signal", [True, False])
def test_the_rest_of_a_group_gets_its_signal_where_it_can_still_be_named(make_world, group_signal):
    world = make_world(group_signal=group_signal)
    child = world.sh('sh -c \'echo "member $$" >&3; kill -STOP $$\' & read line; exit 3',
                     stdin="null")  # fmt: skip
    child.leftover_signal = signal.SIGKILL
    member = int(world.heard()[1])

    assert world.exit_of(child).status == Exited(3)

    if world.features.pidfd and group_signal:  # by the pidfd, when the machine decides so
        assert world.reaper.signal(child, signal.SIGKILL, whole_group=True)
    world.turn_until(lambda: member in world.orphans_reaped)
    assert world.orphans_reaped[member] == Signaled(signal.SIGKILL)


def test_before_it_leads_a_group_only_the_child_is_signalled(world):
    # as the pytest process does, a child of ours may still be in *our* group
    launched = os.posix_spawn(SH, [SH, "-c", "kill -STOP $$"], {})
    child = world.watch(launched, leads_group=False)

    assert world.reaper.signal(child, signal.SIGKILL, whole_group=True)
    assert world.exit_of(child).status == Signaled(signal.SIGKILL)
    assert world.reaper.group_is_empty(child)


def test_a_zombie_takes_a_signal_and_a_reaped_child_does_not(world):
    child = world.sh("exit 0")
    wait_dead(child.pid)

    assert world.reaper.signal(child, signal.SIGTERM, whole_group=False)
    assert world.exit_of(child).status == Exited(0)
    assert not world.reaper.signal(child, signal.SIGTERM, whole_group=False)
    assert not world.reaper.signal(child, signal.SIGTERM, whole_group=True)


# -- handles --------------------------------------------------------------------------------------


def test_a_handle_is_released_once_and_closed_at_the_end_of_the_turn(world):
    child = world.sh("exit 0")
    world.exit_of(child)
    pidfd = child.pidfd
    world.reaper.release(child)
    world.reaper.release(child)

    if world.features.pidfd:
        os.fstat(pidfd)  # still open, so its number cannot become another file's in this batch
        world.loop.run_once(0)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(pidfd)
    assert child.pidfd is None
    assert not world.reaper.signal(child, signal.SIGTERM, whole_group=False)


def test_a_number_is_not_given_anew_within_a_batch(world):
    """Each end releases its handle and starts another child, as a restart does."""
    generations = []

    def again(child, status, _usage):
        world.reaper.release(child)
        generations.append(status)
        if len(generations) < 40:
            start()

    def start():
        launched = world.launch("/bin/true")
        world.reaper.watch(launched.pid, again, leads_group=True)

    for _ in range(10):
        start()
    world.turn_until(lambda: not len(world.reaper))

    assert len(generations) == 49
    assert set(generations) == {Exited(0)}


def test_a_descriptor_that_a_child_still_holds_causes_no_ghost(world):
    child = world.sh("exit 0")
    copy = os.dup(child.pidfd) if child.pidfd is not None else None
    world.exit_of(child)
    world.reaper.release(child)
    world.loop.run_once(0)
    world.loop.run_once(0)

    assert world.loop._epoll.poll(0) == []
    if copy is not None:
        os.close(copy)


def test_closing_the_reaper_lets_children_live(world):
    child = world.spawn(*program("linger"))
    world.heard()
    world.reaper.close()
    assert len(world.reaper) == 0

    os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_reaper_that_was_closed_reaps_no_more(world):
    """The daemon replaces its first reaper from within an exit; what follows is the next one's."""
    ended = [world.sh("exit 3"), world.sh("exit 4")]
    for child in ended:
        wait_dead(child.pid)
    ended[0].on_exit = lambda *_: world.reaper.close()
    ended[1].on_exit = lambda *_: world.reaper.close()

    world.reaper.on_sigchld()
    world.turn_until(lambda: len(world.reaper) == 0)

    left = [child.pid for child in ended if not child.reaped]
    assert len(left) == 1
    os.waitpid(left[0], 0)


def test_the_mode_is_what_was_proved(world):
    assert isinstance(world.reaper, PidfdReaper if world.features.pidfd else SigchldReaper)
    assert world.reaper.kind == ("pidfd" if world.features.pidfd else "sigchld")


def test_nothing_wakes_a_world_at_rest(world):
    child = world.spawn(*program("linger"))
    world.heard()
    world.loop.run_once(0)
    world.loop.run_once(0)

    assert world.loop._epoll.poll(0.05) == []
    next_one = world.loop.next_deadline() - world.loop.clock.now()
    assert next_one == float("inf") if world.features.pidfd else 4 < next_one <= 5
    world.reaper.signal(child, signal.SIGKILL, whole_group=True)


def test_worlds_of_both_modes_may_follow_each_other(reaper_mode):
    for _ in range(3):
        one = World(reaper_mode)
        child = one.sh("exit 2")
        assert one.exit_of(child).status == Exited(2)
        one.close()
