"""A command beside a service: how it runs, how long, and that nothing of it is left."""

import contextlib
import os
import signal

import pytest

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.spec import CommandSpec, Identity
from supervisord_pidfd.errands import Errand, exit_words
from supervisord_pidfd.hands import Hands
from tests.support.world import SH, specify

FOREVER = 60.0
STAY = "while :; do read line; kill -STOP $$; done"


class Runner:
    """Runs commands in a world and keeps what they came to."""

    def __init__(self, world):
        self.world = world
        self.results = []
        self.hands = Hands(world.loop, world.reaper, world.orphans, world.host)

    def start(self, *argv, timeout=FOREVER, env=None, keep=0, fast=True, run=0, **members):
        spec = specify("/bin/false", **members)
        command = CommandSpec(argv, argv[0], fast)
        return Errand(
            self.hands, spec, command, timeout, env or {}, self.results.append, keep, run
        )

    def sh(self, script, **options):
        """Run a line of shell; say what came of it."""
        self.start(SH, "-c", script, **options)
        return self.result()

    def result(self):
        self.world.turn_until(lambda: self.results)
        return self.results.pop()


@pytest.fixture
def runner(world):
    return Runner(world)


both_paths = pytest.mark.parametrize("fast", [True, False], ids=["posix_spawn", "fork"])


@both_paths
def test_how_a_command_ended_is_told(runner, fast):
    good = runner.sh("exit 0", fast=fast)
    assert (good.ok, good.status, good.error, good.timed_out) == (True, Exited(0), None, False)

    bad = runner.sh("exit 3", fast=fast)
    assert (bad.ok, bad.status) == (False, Exited(3))

    killed = runner.sh("kill -KILL $$", fast=fast)
    assert (killed.ok, killed.status) == (False, Signaled(signal.SIGKILL))


@both_paths
def test_a_command_that_is_not_there_is_told_as_such(runner, fast):
    runner.start("/nonexistent/hook", fast=fast)
    assert runner.results == [], "it answers from the loop, never from inside"

    result = runner.result()
    assert (result.ok, result.status, result.error) == (False, None, "ENOENT")


@both_paths
def test_a_command_is_killed_at_its_timeout_with_its_group(runner, fast):
    """The child of the command holds the output open for as long as it lives."""
    runner.start(SH, "-c", f"{SH} -c '{STAY}' & echo $!; {STAY}", timeout=0.2, keep=99, fast=fast)
    result = runner.result()

    assert result.timed_out
    assert not result.ok
    assert result.status == Signaled(signal.SIGKILL)
    assert result.took_s >= 0.2
    child = int(result.output)
    runner.world.turn_until(lambda: child in runner.world.orphans_reaped)


def test_what_a_command_left_behind_is_killed(runner):
    result = runner.sh(f"{SH} -c '{STAY}' & echo $!", keep=99)

    child = int(result.output)
    runner.world.turn_until(lambda: child in runner.world.orphans_reaped)
    assert result.ok


def test_of_the_output_the_beginning_is_kept_and_all_is_read(runner):
    """More than a pipe holds: the command would never end if nobody read it."""
    result = runner.sh("echo begin >&2; head -c 300000 /dev/zero; echo end", keep=4096)

    assert result.ok
    assert result.output[:6] == b"begin\n"
    assert len(result.output) == 4096


def test_without_a_limit_the_output_goes_where_that_of_the_service_goes(runner, capfd):
    assert runner.sh("echo from a hook").output == b""

    assert capfd.readouterr().out == "from a hook\n"


@both_paths
def test_a_command_has_the_environment_and_place_of_the_service_and_its_own(
    runner, fast, tmp_path
):
    runner.start(
        SH, "-c", 'echo "$PWD $OF_SERVICE $SUPERVISORD_HOOK $SUPERVISORD_SERVICE'
        ' $SUPERVISORD_RUN $(cat)"',
        env={"SUPERVISORD_HOOK": "pre_start", "OF_SERVICE": "changed"},
        keep=999, fast=fast, run=7, directory=str(tmp_path), environment=(("OF_SERVICE", "x"),),
    )  # fmt: skip

    assert runner.result().output.decode() == f"{tmp_path} changed pre_start test 7 \n"


def test_a_command_leads_a_session_of_its_own(runner):
    result = runner.sh('read pid name state parent group session rest </proc/self/stat;'
                       ' echo "$$ $group $session"', keep=99)  # fmt: skip
    pid, group, session = result.output.split()

    assert pid == group == session


@pytest.mark.root
def test_a_command_runs_as_the_user_of_the_service(runner):
    nobody = Identity(65534, 65533, (), "nobody", "/nonexistent", "/bin/false")
    result = runner.sh('echo "$(id -u):$(id -g) $HOME"', keep=99, identity=nobody)

    assert result.output == b"65534:65533 /nonexistent\n"


@both_paths
def test_a_command_that_is_cancelled_is_killed_and_never_answers(runner, fast):
    errand = runner.start(SH, "-c", f"echo up; {STAY}", keep=99, fast=fast)
    runner.world.turn_until(lambda: errand._output == b"up\n")
    pid = errand._child.pid
    errand.cancel()
    runner.world.turn_until(lambda: not len(runner.world.reaper))

    assert runner.results == []
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "reaped already, by whoever watches it"


def test_a_cancelled_command_may_be_cancelled_again(runner):
    errand = runner.start(SH, "-c", "exit 0")
    runner.result()
    errand.cancel()
    errand.signal(signal.SIGTERM)

    assert runner.results == []


def test_a_command_that_is_signalled_may_end_in_its_own_way(runner):
    errand = runner.start(
        SH, "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 1; done", keep=9
    )
    runner.world.turn_until(lambda: errand._output == b"up\n")
    errand.signal(signal.SIGTERM)

    assert runner.result().status == Exited(5)


def test_many_commands_leave_no_descriptor(runner):
    runner.sh("exit 0", keep=9)
    runner.world.loop.run_once(0)
    before = len(os.listdir("/proc/self/fd"))
    for fast in (True, False) * 10:
        runner.sh("exit 0", keep=9, fast=fast)
        runner.start("/nonexistent/hook", keep=9, fast=fast)
        runner.result()
    runner.world.loop.run_once(0)

    assert len(os.listdir("/proc/self/fd")) <= before


def test_code_and_signal_of_an_end_are_told_apart():
    assert exit_words(Exited(3)) == (3, None)
    assert exit_words(Signaled(9)) == (None, 9)
    assert exit_words(None) == (None, None)
