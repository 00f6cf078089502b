"""Whose an orphan is: every one gets an answer, whatever it does to whoever asks."""

import os
import resource
import signal

import pytest

from supervisord_pidfd import escapees
from supervisord_pidfd.escapees import NOBODY, Identification
from supervisord_pidfd.orphans import Owner
from tests.support.world import program, wait_dead


@pytest.fixture
def answers(world):
    return {}


def ask(world, pids, answers):
    return Identification(world.loop, world.reaper, pids, answers.__setitem__)


def leave(world, service, run=1, script="sh -c 'echo \"left $$\" >&3; kill -STOP $$' & exit 0"):
    environment = (("SUPERVISORD_SERVICE", service), ("SUPERVISORD_RUN", str(run)))
    # set by a shell: the spawn itself sets its own
    names = " ".join(f"export {name}='{value}';" for name, value in environment)
    child = world.sh(names + script)
    pid = int(world.heard()[1])
    wait_dead(child.pid)
    world.exit_of(child)
    world.look()
    return pid


def test_each_is_traced_back_to_its_run(world, answers):
    one, two = leave(world, "web", 3), leave(world, "db", 12)
    ask(world, [one, two], answers)
    world.turn_until(lambda: len(answers) == 2)

    assert answers == {one: Owner("web", 3), two: Owner("db", 12)}
    world.turn_until(lambda: not len(world.reaper))


def test_one_that_is_gone_does_not_spoil_the_answer_for_the_rest(world, answers):
    gone, here = leave(world, "web"), leave(world, "db")
    os.kill(gone, signal.SIGKILL)
    world.turn_until(lambda: gone in world.orphans_reaped)
    ask(world, [gone, here], answers)
    world.turn_until(lambda: len(answers) == 2)

    assert answers == {gone: NOBODY, here: Owner("db", 1)}


def test_one_cannot_answer_for_another(world, answers):
    victim = leave(world, "db", 5)
    liar = leave(world, f"x 1\n{victim} web", 9)
    ask(world, [liar, victim], answers)
    world.turn_until(lambda: len(answers) == 2)

    assert answers == {liar: NOBODY, victim: Owner("db", 5)}


@pytest.mark.slow
def test_one_that_blocks_its_reader_is_nobodys_and_the_rest_are_asked_anew(
    world, answers, monkeypatch
):
    """A stopped reader stands for one that hangs in the kernel."""
    monkeypatch.setattr(escapees, "WITHIN", 0.1)
    ask_owners, asked = escapees.ask_owners, []

    def hold_up(pids):
        it = ask_owners(pids)
        asked.append(pids)
        if len(asked) == 1:
            os.kill(it.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, it.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return it

    monkeypatch.setattr(escapees, "ask_owners", hold_up)
    one, two = leave(world, "web"), leave(world, "db")
    ask(world, [one, two], answers)
    world.turn_until(lambda: len(answers) == 2)
    world.turn_until(lambda: not len(world.reaper))

    # the reader may have been quicker than the stop
    assert answers[one] in {NOBODY, Owner("web", 1)}
    assert answers[two] == Owner("db", 1)


def test_without_a_descriptor_they_belong_to_nobody(world, answers):
    pid = leave(world, "web")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        ask(world, [pid], answers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert answers == {}  # not while the asker looks for orphans
    world.turn_until(lambda: answers)

    assert answers == {pid: NOBODY}


def test_the_environment_a_program_was_started_with_counts(world, answers):
    child = world.spawn(*program("double_fork"))
    pid = int(world.heard()[1])
    world.exit_of(child)
    ask(world, [pid], answers)
    world.turn_until(lambda: answers)

    assert answers == {pid: Owner("test", 1)}
