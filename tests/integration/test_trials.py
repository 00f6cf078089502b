"""The `reload.check` of real services: run as they would, bounded, and told."""

import os

import pytest

from supervisord_pidfd.core.notices import ServiceReloadRefused
from supervisord_pidfd.core.spec import CommandSpec, ReloadSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.trials import AT_ONCE, Trials, refusal
from tests.support.lone import Lone, restarting
from tests.support.world import SH

pytestmark = pytest.mark.reaping


class Tried(Lone):
    """A service that does not run, with a check; its notices are kept."""

    def __init__(self, world, name, script, timeout=10.0):
        check = CommandSpec((SH, "-c", script), SH, fast=True) if script else None
        spec = restarting(name, (SH,), reload=ReloadSpec(check=check, timeout=timeout))
        super().__init__(world, spec)
        self.refused = []

    def tell(self, told):
        super().tell(told)
        if isinstance(told.notice, ServiceReloadRefused):
            self.refused.append(told.notice.error)


@pytest.fixture
def trials(world):
    made = Trials(Hands(world.loop, world.reaper, world.orphans, world.host))
    yield made
    made.close()
    world.turn_until(lambda: len(world.reaper) == 0)


def run(world, trials, *tried):
    """Run the checks of these to their end."""
    answers = []
    trials.run([(one.service, one.service.spec) for one in tried], answers.append)
    world.turn_until(lambda: bool(answers))
    return answers[0]


def test_without_a_check_there_is_nothing_to_wait_for(world, trials):
    answers = []
    one = Tried(world, "web", None)
    trials.run([(one.service, one.service.spec)], answers.append)

    assert answers == [{}]


def test_a_check_that_ends_well_says_nothing(world, trials):
    one = Tried(world, "web", "echo fine; exit 0")

    assert run(world, trials, one) == {}
    assert one.refused == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "code 3"),
        ("echo; echo 'line 4: bad' >&2; echo more; exit 1", "code 1: line 4: bad"),
        ("kill -9 $$", "signal SIGKILL"),
    ],
)
def test_a_check_that_fails_says_how_and_its_first_line(world, trials, script, said):
    one = Tried(world, "web", script)

    assert run(world, trials, one) == {"web": said}
    assert one.refused == [said]
    assert refusal({"web": said}) == f"web: reload.check: {said}"


def test_a_check_that_cannot_be_executed_says_why(world, trials):
    one = Tried(world, "web", "true")
    nothing = CommandSpec(("/nowhere",), "/nowhere", fast=True)
    one.service.spec = one.service.spec._replace(reload=ReloadSpec(check=nothing))

    assert run(world, trials, one) == {"web": "ENOENT"}


def test_a_check_that_takes_too_long_is_killed_with_its_group(world, trials):
    one = Tried(world, "web", "sleep 60 & sleep 60", timeout=0.1)

    assert run(world, trials, one)["web"].startswith("not over after ")


def test_a_flood_of_output_is_bounded(world, trials):
    one = Tried(world, "web", "yes 0123456789 | head -c 3000000; exit 1")

    assert run(world, trials, one) == {"web": "code 1: 0123456789"}


def test_many_checks_run_a_few_at_a_time_and_all_are_heard(world, trials, tmp_path):
    script = f'echo >>{tmp_path}/$SUPERVISORD_SERVICE; test "$SUPERVISORD_SERVICE" != s7'
    many = [Tried(world, f"s{number}", script) for number in range(3 * AT_ONCE)]
    answers = []
    trials.run([(one.service, one.service.spec) for one in many], answers.append)
    most = len(world.reaper)
    world.turn_until(lambda: bool(answers))

    assert most <= AT_ONCE
    assert answers == [{"s7": "code 1"}]
    assert len(os.listdir(tmp_path)) == len(many)


def test_a_trial_that_is_called_off_never_answers(world, trials):
    one = Tried(world, "web", "sleep 60")
    answers = []
    trials.run([(one.service, one.service.spec)], answers.append)
    trials.close()
    world.turn_until(lambda: len(world.reaper) == 0)

    assert answers == []
