"""A service whose first process ends while the one it has named goes on (MAINPID)."""

import os
import signal

import pytest

from supervisord_pidfd.core.events import StopRequested
from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import ServiceExited
from supervisord_pidfd.core.spec import RestartPolicy, ServiceType
from supervisord_pidfd.orphans import Owner
from tests.support.attended import Attended
from tests.support.lone import restarting
from tests.support.world import program


@pytest.fixture
def handed(world, tmp_path):
    made = []

    def make(code=0, *how, **members):
        argv = program("hands_over", str(tmp_path / "pids"), str(code), *how)
        members.setdefault("restart", RestartPolicy.NO)
        spec = restarting("web", argv, type=ServiceType.NOTIFY, **members)
        made.append(Attended(world, spec, tmp_path))
        made[-1].pids = tmp_path / "pids"
        world.before_reap = lambda: identify(made[-1])
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def identify(one):
    """Know each orphan for one of this service, as the daemon finds out."""
    for pid in one.world.look():
        one.world.orphans.identify(pid, Owner("web", one.state.run))
        one.service.orphan_identified(pid)


def pids(one):
    return [int(line) for line in one.pids.read_text().split()] if one.pids.exists() else []


def goes_on(one, run=1):
    """Wait until the named process is the main one of this run."""
    one.world.turn_until(
        lambda: one.state.run == run and len(pids(one)) >= run and one.state.pid == pids(one)[-1]
    )
    return one.state.pid


@pytest.mark.parametrize("how", [(), ("double",)], ids=["a child", "a grandchild"])
def test_the_process_that_was_named_goes_on_as_the_main_one(handed, how):
    web = handed(0, *how)
    heir = goes_on(web)

    assert web.state.phase is Phase.RUNNING
    assert web.found(ServiceExited) == []
    assert not len(web.world.orphans), "it is a child that is watched, and no orphan"

    os.kill(heir, signal.SIGKILL)
    web.wait_for(ServiceExited)
    assert web.state.last_exit.status == Signaled(signal.SIGKILL)
    assert web.state.phase is Phase.FAILED


def test_it_goes_on_whatever_the_first_one_ends_with(handed):
    web = handed(3)
    goes_on(web)

    assert web.state.phase is Phase.RUNNING
    web.stop()


def test_a_stop_ends_the_process_that_went_on(handed):
    web = handed()
    heir = goes_on(web)
    web.stop()

    assert web.state.phase is Phase.STOPPED
    assert web.state.last_exit.status == Signaled(signal.SIGTERM)
    assert not os.path.exists(f"/proc/{heir}")


def test_until_the_first_one_ends_it_is_the_main_one_and_both_may_speak(handed):
    web = handed(0, "stay")
    web.world.turn_until(lambda: web.state.heir is not None)
    first, heir = web.state.pid, pids(web)[0]
    assert first != heir == web.state.heir
    assert web.service.is_main(first)
    assert web.service.is_main(heir)

    os.kill(first, signal.SIGUSR1)
    assert goes_on(web) == heir
    assert not web.service.is_main(first)
    web.stop()


def test_a_stop_before_the_first_one_ends_ends_both(handed):
    web = handed(0, "stay")
    web.world.turn_until(lambda: web.state.heir is not None)
    heir = web.state.heir
    web.stop()

    assert web.state.phase is Phase.STOPPED
    assert not os.path.exists(f"/proc/{heir}")


def test_one_that_has_ended_already_does_not_go_on(handed):
    web = handed(3, "dead")
    exited = web.wait_for(ServiceExited)

    assert exited.exit_code == 3
    assert web.state.last_exit.status == Exited(3)
    web.world.turn_until(lambda: web.state.phase is Phase.FAILED)


def test_each_run_is_handed_over_anew(handed):
    web = handed(restart=RestartPolicy.ALWAYS)
    first = goes_on(web)
    os.kill(first, signal.SIGKILL)
    second = goes_on(web, run=2)

    assert first != second
    web.stop()


@pytest.mark.parametrize("owner", ["web", "other"])
def test_the_end_waits_for_word_of_whose_the_named_process_is(handed, owner):
    web = handed(4, "double")
    web.world.before_reap = web.world.look
    web.world.turn_until(lambda: web.world.orphans.unidentified and web.service._late)
    (heir,) = web.world.orphans.unidentified
    assert web.state.phase is Phase.RUNNING
    assert web.found(ServiceExited) == []

    web.world.orphans.identify(heir, Owner(owner, 1))
    if owner == "web":
        web.service.orphan_identified(heir)
        assert web.state.pid == heir
        web.stop()
    else:
        assert web.wait_for(ServiceExited).exit_code == 4
        assert web.state.pid is None
        os.kill(heir, signal.SIGKILL)


def test_a_stop_meanwhile_ends_the_run_with_what_is_known_of_it(handed):
    web = handed(4, "double")
    web.world.before_reap = web.world.look
    web.world.turn_until(lambda: web.world.orphans.unidentified and web.service._late)
    (heir,) = web.world.orphans.unidentified
    web.service.post(StopRequested("operator:0"))
    assert web.wait_for(ServiceExited).exit_code == 4
    assert web.state.phase is Phase.STOPPING

    web.world.orphans.identify(heir, Owner("web", 1))
    web.service.orphan_identified(heir)
    web.world.turn_until(lambda: web.state.phase is Phase.STOPPED)
    assert not os.path.exists(f"/proc/{heir}")
