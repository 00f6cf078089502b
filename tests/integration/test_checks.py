"""Probes and checks of real services, by the core and by a real checker."""

import contextlib
import os
import socket
import sys

import pytest

from supervisord_pidfd.asker import SENT_A_TURN, TOLD_A_TURN, Probe
from supervisord_pidfd.checks import EXEC_AT_ONCE, needs_checker
from supervisord_pidfd.core.lifecycle import ServiceState, health_of, is_ready
from supervisord_pidfd.core.notices import (
    CheckFailed,
    CheckRecovered,
    CheckUnhealthy,
    ServiceReady,
)
from supervisord_pidfd.core.spec import (
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    ReadyKind,
    ReadySpec,
    ScheduleSpec,
    ServiceSpec,
)
from supervisord_pidfd.process import PASSED_FD
from tests.support.attended import Attended
from tests.support.lone import Lone, restarting
from tests.support.world import SH

SLEEP = ("/bin/sleep", "60")


@pytest.fixture
def attend(world, tmp_path):
    made = []

    def begin(*argv, called="web", **members):
        it = Attended(world, restarting(called, argv or SLEEP, **members), tmp_path)
        made.append(it)
        it.start()
        return it

    yield begin
    for it in made:
        if it.state.has_process:
            it.stop()
        it.close()
    # What is killed with a probe is reaped by the loop.
    world.turn_until(lambda: len(world.reaper) == 0)


@pytest.fixture
def with_checker(world):
    """Run a checker for an attended service, as the daemon does; return its service."""
    made = []

    def begin(attended):
        argv = (sys.executable, "-I", "-m", "supervisord_pidfd.checker", "--fd", str(PASSED_FD))
        alone = Lone(world, restarting(":checker", argv))
        alone.service.attend(lambda _service: (attended.asker,))
        made.append(alone)
        alone.start()
        return alone.service

    yield begin
    for alone in made:
        alone.stop()
        alone.service.close()


def command(text):
    return CommandSpec((SH, "-c", text), SH, fast=True)


def check(kind, **members):
    members = {"period": 0.02, "timeout": 5.0, "action": CheckAction.NONE, **members}
    return CheckSpec("live", kind, **members)


def health(attended):
    return health_of(attended.service.spec, attended.state)


# -- exec -----------------------------------------------------------------------------------------


def test_a_command_is_tried_until_it_succeeds(attend, tmp_path):
    there = tmp_path / "there"
    probe = ReadySpec(ReadyKind.EXEC, command=command(f"test -e {there}"), period=0.01)
    web = attend(ready=probe)
    web.world.turn_until(lambda: web.state.executed)
    assert web.found(ServiceReady) == []
    there.touch()

    assert web.wait_for(ServiceReady).way == "exec"


def test_a_failing_command_makes_it_unready_until_it_recovers(attend, tmp_path):
    bad = tmp_path / "bad"
    bad.touch()
    text = f"test ! -e {bad} || {{ echo it is bad; exit 4; }}"
    web = attend(checks=(check(CheckKind.EXEC, command=command(text), failures=2),))
    unhealthy = web.wait_for(CheckUnhealthy)

    assert unhealthy == CheckUnhealthy("live", "code 4: it is bad", "none")
    assert [failed.failures for failed in web.found(CheckFailed)] == [1, 2]
    assert (health(web), is_ready(web.service.spec, web.state)) == ("unhealthy", False)
    bad.unlink()
    web.wait_for(CheckRecovered)
    assert (health(web), is_ready(web.service.spec, web.state)) == ("healthy", True)
    assert web.service.checks["live"].runs["failure"] >= 2


def test_a_command_that_hangs_is_killed_with_its_group(attend, tmp_path):
    said = tmp_path / "pids"
    text = f"sleep 60 & echo $$ $! >> {said}; wait"
    web = attend(checks=(check(CheckKind.EXEC, command=command(text), timeout=0.2, failures=1),))
    unhealthy = web.wait_for(CheckUnhealthy)

    assert unhealthy.error == "no answer in time"
    assert web.service.checks["live"].runs == {"timeout": 1}
    for pid in said.read_text().splitlines()[0].split():
        web.world.turn_until(lambda one=pid: not alive(one))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_cannot_run_fails(attend):
    missing = CommandSpec(("/nonexistent",), None)
    web = attend(checks=(check(CheckKind.EXEC, command=missing, failures=1),))

    assert web.wait_for(CheckUnhealthy).error == "cannot run: ENOENT"


def test_only_so_many_commands_run_at_once(attend):
    slow = command("exec sleep 60")
    checks = tuple(
        check(CheckKind.EXEC, command=slow)._replace(name=f"c{number}", period=0.01)
        for number in range(EXEC_AT_ONCE + 8)
    )
    web = attend(checks=checks)
    web.wait_for(ServiceReady)
    commands = web.service.companions[-1]._tools.commands
    web.world.turn_until(lambda: len(commands._queue) == 8)

    assert len(commands._running) == EXEC_AT_ONCE
    web.stop()
    assert (len(commands._running), len(commands._queue)) == (0, 0)


def test_checks_end_with_the_run(attend):
    web = attend(checks=(check(CheckKind.EXEC, command=command("exit 1"), failures=1),))
    web.wait_for(CheckUnhealthy)
    web.stop()
    count = len(web.notices)

    assert web.service.checks["live"].health.ok is None
    assert web.service.companions[-1]._checks == {}
    web.world.loop.run_once(0.1)
    assert len(web.notices) == count


# -- memory ---------------------------------------------------------------------------------------


def test_memory_beyond_its_limit_is_unhealthy(attend):
    small = check(CheckKind.MEMORY, size=1 << 16, failures=2)
    web = attend(checks=(small,))
    unhealthy = web.wait_for(CheckUnhealthy)

    assert unhealthy.error.endswith("bytes, more than 65536")
    assert health(web) == "unhealthy"


def test_memory_within_its_limit_is_healthy(attend):
    web = attend(checks=(check(CheckKind.MEMORY, size=1 << 30),))
    web.world.turn_until(lambda: web.state.checked)

    assert health(web) == "healthy"
    assert web.found(CheckFailed) == []


# -- a change while it runs -----------------------------------------------------------------------


def test_a_check_that_is_taken_away_fails_no_more(attend):
    web = attend(checks=(check(CheckKind.EXEC, command=command("exit 1"), failures=1),))
    web.wait_for(CheckUnhealthy)
    web.service.use(web.service.spec._replace(checks=()))

    assert web.state.failing == ()
    assert web.service.companions == ()
    assert web.service.checks == {}


def test_a_check_that_is_added_begins_at_once(attend):
    web = attend()
    web.wait_for(ServiceReady)
    bad = check(CheckKind.EXEC, command=command("exit 1"), failures=1)
    web.service.use(web.service.spec._replace(checks=(bad,)))

    assert web.wait_for(CheckUnhealthy).check == "live"


# -- with the checker -----------------------------------------------------------------------------


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.slow
def test_a_port_that_opens_makes_it_ready(attend, with_checker):
    port = free_port()
    web = attend(ready=ReadySpec(ReadyKind.TCP, target=f"127.0.0.1:{port}", period=0.01))
    with_checker(web)
    web.world.turn_until(lambda: web.state.executed)
    with socket.create_server(("127.0.0.1", port)):
        assert web.wait_for(ServiceReady).way == "tcp"


@pytest.mark.slow
def test_a_file_that_appears_makes_it_ready(attend, with_checker):
    web = attend(ready=ReadySpec(ReadyKind.FILE, target="/etc/passwd", period=0.01))
    with_checker(web)

    assert web.wait_for(ServiceReady).way == "file"


@pytest.mark.slow
def test_the_death_of_the_checker_makes_health_unknown_and_the_next_one_knows_all(
    attend, with_checker
):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        live = check(CheckKind.TCP, target=f"127.0.0.1:{port}", failures=1)
        web = attend(checks=(live,))
        checker = with_checker(web)
        web.world.turn_until(lambda: health(web) == "healthy")
        run = checker.state.run
        checker.pass_on(9)
        web.world.turn_until(lambda: health(web) == "unknown")
        assert is_ready(web.service.spec, web.state)
        web.world.turn_until(lambda: health(web) == "healthy")

    assert checker.state.run > run
    assert web.found(CheckUnhealthy) == []


@pytest.mark.slow
def test_the_calendar_is_asked_and_asked_again_after_a_crash(attend, with_checker):
    web = attend()
    answers = []
    web.asker.ask_next("web", "0 0 1 1 *", "UTC", 1.7e9, lambda *answer: answers.append(answer))
    with_checker(web)
    web.world.turn_until(lambda: answers)
    web.asker.ask_next("web", "bad", None, 0.0, lambda *answer: answers.append(answer))
    web.world.turn_until(lambda: len(answers) == 2)

    assert answers[0] == (1_704_067_200.0, None)
    assert answers[1][0] is None
    assert "five fields" in answers[1][1]


def test_many_probes_are_dealt_with_over_several_turns(attend):
    web, told = attend(), []
    for _ in range(3 * SENT_A_TURN):
        web.asker.watch(Probe("tcp", "127.0.0.1:1", 10.0, 1.0), told.append)
    end = web.asker.prepare(1).descriptors[0][1]
    with contextlib.closing(socket.socket(fileno=os.dup(end))) as theirs:
        web.asker.handed_over()
        at_first = theirs.recv(1 << 20).count(b'"watch"')
        rest = []
        web.world.turn_until(lambda: _all_there(theirs, rest, 2 * SENT_A_TURN))
        web.asker.follow(ServiceState(pid=1), ServiceState())
        told_at_first = len(told)
        web.world.turn_until(lambda: len(told) >= 3 * SENT_A_TURN)

    assert (at_first, told_at_first) == (SENT_A_TURN, TOLD_A_TURN)
    assert set(told) == {None}


def _all_there(theirs, frames, count):
    with contextlib.suppress(BlockingIOError):
        frames.append(theirs.recv(1 << 20, socket.MSG_DONTWAIT))
    return b"".join(frames).count(b'"watch"') >= count


def test_what_makes_no_sense_on_the_channel_is_passed_over(attend):
    web = attend()
    end = web.asker.prepare(1).descriptors[0][1]
    theirs = socket.socket(fileno=os.dup(end))
    web.asker.handed_over()
    with contextlib.closing(theirs):
        theirs.sendall(b"\0{}\0[1]\0nonsense\0" + b'{"verdict":1}\0{"answer":[]}\0"x"\0')
        web.world.loop.run_once(1.0)
        assert theirs.recv(100).startswith(b"1\0")
    web.asker.close()
    web.world.loop.run_once(0)

    assert web.world.errors == []


@pytest.mark.parametrize(
    ("members", "needed"),
    [
        ({}, False),
        ({"ready": ReadySpec(ReadyKind.EXEC)}, False),
        ({"ready": ReadySpec(ReadyKind.FILE)}, True),
        ({"checks": (check(CheckKind.HTTP),)}, True),
        ({"checks": (check(CheckKind.MEMORY),)}, False),
        ({"schedule": ScheduleSpec(every=1.0)}, False),
        ({"schedule": ScheduleSpec(calendar="0 0 * * *")}, True),
    ],
)
def test_a_checker_is_needed_by_what_only_it_can_do(members, needed):
    assert needs_checker({"web": ServiceSpec("web", SLEEP, **members)}) is needed
