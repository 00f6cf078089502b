"""The hooks of a service with real processes: what they are told, their order, and their end."""

import os
import signal

import pytest

from supervisord_pidfd.core.events import (
    FailRequested,
    KillRequested,
    ReloadRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.spec import (
    CommandSpec,
    HooksSpec,
    ReloadSpec,
    RestartPolicy,
    StopSpec,
    StopStep,
)
from supervisord_pidfd.orphans import Owner
from tests.support.lone import Lone, restarting
from tests.support.world import SH

TOLD = (
    "$SUPERVISORD_HOOK run=$SUPERVISORD_RUN attempt=$SUPERVISORD_ATTEMPT"
    " delay=$SUPERVISORD_NEXT_DELAY main=$MAINPID result=$SERVICE_RESULT"
    " code=$EXIT_CODE status=$EXIT_STATUS"
)
STAY = "while :; do read line; kill -STOP $$; done"
NAMES = ("pre_start", "post_start", "pre_stop", "post_stop", "on_failure")


class Notebook:
    """Make services whose commands write down what they were told."""

    def __init__(self, world, path):
        self.world = world
        self.path = path
        path.touch()

    def hook(self, more="", *, fast=True):
        script = f'echo "{TOLD}" >>{self.path}; {more}'
        return CommandSpec((SH, "-c", script), SH, fast)

    def lone(self, *names, script="kill -STOP $$", hooks=None, **members):
        """Make a service; its main process notes its own start and stays until it is signalled."""
        members.setdefault("restart", RestartPolicy.NO)
        asked = {name: self.hook() for name in names} | (hooks or {})
        main = f"echo main run=$SUPERVISORD_RUN pid=$$ >>{self.path}; {script}"
        return Lone(
            self.world,
            restarting("web", (SH, "-c", main), hooks=HooksSpec(**asked), **members),
        )

    def lines(self):
        return [line.split() for line in self.path.read_text().splitlines()]

    def names(self):
        return [line[0] for line in self.lines()]

    def of(self, name, *, first=False):
        """Return what the last command of this name was told, or the first."""
        words = [line for line in self.lines() if line[0] == name][0 if first else -1]
        return dict(word.split("=", 1) for word in words[1:])


@pytest.fixture
def notes(world, tmp_path):
    return Notebook(world, tmp_path / "notes")


def until(lone, phase):
    lone.world.turn_until(lambda: lone.state.phase is phase)


def test_the_hooks_of_a_run_come_in_their_order(notes):
    lone = notes.lone(*NAMES)
    lone.start()
    assert (lone.state.phase, lone.state.pid) == (Phase.STARTING, None)
    until(lone, Phase.RUNNING)
    lone.world.turn_until(lambda: "main" in notes.names())
    lone.stop()

    names = notes.names()
    assert names[0] == "pre_start"
    assert set(names[1:3]) == {"main", "post_start"}
    assert names[3:] == ["pre_stop", "post_stop"]


def test_each_hook_is_told_what_it_needs_to_know(notes):
    lone = notes.lone(*NAMES)
    lone.start()
    until(lone, Phase.RUNNING)
    pid = lone.state.pid
    lone.stop()

    nothing = dict.fromkeys(("delay", "main", "result", "code", "status"), "")
    assert notes.of("pre_start") == {"run": "1", "attempt": "0"} | nothing
    assert notes.of("post_start")["main"] == str(pid)
    assert notes.of("pre_stop")["main"] == str(pid)
    assert notes.of("pre_stop")["result"] == "operator"
    assert notes.of("post_stop") == {
        "run": "1", "attempt": "0", "delay": "", "main": "", "result": "operator",
        "code": "killed", "status": "TERM",
    }  # fmt: skip


def test_the_last_hook_is_told_how_it_ended_and_what_follows(notes):
    lone = notes.lone("post_stop", "on_failure", script="exit 3", restart=RestartPolicy.ON_FAILURE)
    lone.start()
    lone.world.turn_until(lambda: lone.state.run >= 2)
    after = notes.of("post_stop", first=True)
    lone.service.post(FailRequested("group_limit"))
    lone.world.turn_until(lambda: "on_failure" in notes.names())

    assert (after["result"], after["code"], after["status"]) == ("exit_code", "exited", "3")
    assert (after["attempt"], after["delay"]) == ("0", "0.000")
    assert lone.state.phase is Phase.FAILED
    until_no_child(lone)


def identify(lone):
    """Know each orphan for one of this service, as the daemon finds out."""
    for pid in lone.world.look():
        lone.world.orphans.identify(pid, Owner("web", lone.state.run))
        lone.service.orphan_identified(pid)


def until_no_child(lone):
    lone.world.turn_until(lambda: not len(lone.world.reaper))


def test_a_service_that_failed_tells_its_hook_why(notes):
    lone = notes.lone("on_failure", script="kill -SEGV $$")
    lone.start()
    lone.world.turn_until(lambda: "on_failure" in notes.names())
    told = notes.of("on_failure")

    assert (told["status"], told["delay"]) == ("SEGV", "")
    assert (told["code"], told["result"]) in {("killed", "signal"), ("dumped", "core_dump")}
    until_no_child(lone)


@pytest.mark.parametrize("fast", [True, False], ids=["posix_spawn", "fork"])
def test_a_first_hook_that_fails_starts_no_process(notes, fast):
    lone = notes.lone("post_stop", hooks={"pre_start": notes.hook("exit 4", fast=fast)})
    lone.start()
    until(lone, Phase.FAILED)
    last = lone.state.last_exit

    assert notes.names() == ["pre_start", "post_stop"]
    assert notes.of("post_stop")["result"] == "hook"
    assert (last.cause, last.stage, last.subject, last.error) == (
        Cause.HOOK, "hook", "pre_start", "code 4",
    )  # fmt: skip
    assert "HookFailed" in lone.told


def test_a_hook_that_takes_too_long_is_killed(notes):
    lone = notes.lone(hooks={"pre_start": notes.hook(STAY), "timeout": 0.2})
    lone.start()
    until(lone, Phase.FAILED)

    assert lone.state.last_exit.error == "timed out"
    assert lone.told.count("HookFailed") == 1


def test_a_second_hook_that_fails_stops_the_service(notes):
    lone = notes.lone(hooks={"post_start": notes.hook("exit 1")})
    lone.start()
    until(lone, Phase.FAILED)

    assert lone.state.last_exit.cause is Cause.HOOK
    assert "ServiceReady" not in lone.told


@pytest.mark.parametrize("name", ["pre_stop", "post_stop"])
def test_the_failure_of_a_hook_of_the_end_is_only_told(notes, name):
    lone = notes.lone(hooks={name: notes.hook("exit 1")})
    lone.start()
    until(lone, Phase.RUNNING)
    lone.stop()

    assert lone.state.phase is Phase.STOPPED
    assert lone.told.count("HookFailed") == 1


def test_a_stop_ends_the_first_hook_in_its_own_way(notes):
    script = f"trap 'echo trapped >>{notes.path}; exit 0' TERM; echo up >>{notes.path};"
    lone = notes.lone(hooks={"pre_start": notes.hook(script + " while :; do sleep 1; done")})
    lone.start()
    lone.world.turn_until(lambda: "up" in notes.names())
    lone.stop()

    assert notes.names() == ["pre_start", "up", "trapped"]
    assert "HookFailed" not in lone.told


def test_a_second_hook_ends_with_its_run(notes):
    lone = notes.lone(hooks={"post_start": notes.hook(STAY)})
    lone.start()
    lone.world.turn_until(lambda: "post_start" in notes.names())
    lone.stop()
    until_no_child(lone)

    assert lone.state.phase is Phase.STOPPED
    assert "HookFailed" not in lone.told


def test_a_command_stops_the_service_instead_of_a_signal(notes):
    stop = StopSpec(command=notes.hook("kill -USR1 $MAINPID"))
    lone = notes.lone(script="trap 'exit 7' USR1; trap '' TERM; while :; do sleep 0.1; done",
                      stop=stop)  # fmt: skip
    lone.start()
    until(lone, Phase.RUNNING)
    lone.world.turn_until(lambda: "main" in notes.names())
    pid = lone.state.pid
    lone.stop()

    assert notes.of("stop")["main"] == str(pid)
    assert notes.of("stop")["result"] == "operator"
    assert lone.state.last_exit.status.code == 7


def test_a_stop_command_that_fails_is_followed_by_the_signal(notes):
    lone = notes.lone(stop=StopSpec(command=CommandSpec(("/nonexistent",), "/nonexistent")))
    lone.start()
    until(lone, Phase.RUNNING)
    lone.stop()

    assert lone.state.last_exit.status.signum == signal.SIGTERM
    assert "HookFailed" in lone.told


def test_a_stop_command_that_hangs_ends_with_its_step(notes):
    steps = (StopStep(signal.SIGTERM, 0.2),)
    lone = notes.lone(stop=StopSpec(steps, command=notes.hook(STAY)))
    lone.start()
    until(lone, Phase.RUNNING)
    lone.stop()
    until_no_child(lone)

    assert lone.state.last_exit.forced


def test_a_stop_command_finishes_when_the_service_is_quicker(notes):
    end = "kill -TERM $MAINPID; kill -CONT $MAINPID; while kill -0 $MAINPID; do :; done"
    stop = StopSpec(command=notes.hook(f"{end}; echo tidied >>{notes.path}"))
    lone = notes.lone(stop=stop)
    lone.start()
    until(lone, Phase.RUNNING)
    lone.stop()

    assert notes.names()[-1] == "tidied"


def test_a_hastened_shutdown_leaves_no_hook(notes):
    lone = notes.lone(hooks={"post_stop": notes.hook(STAY)})
    lone.start()
    until(lone, Phase.RUNNING)
    lone.service.post(StopRequested("shutdown"))
    lone.world.turn_until(lambda: "post_stop" in notes.names())
    lone.service.post(KillRequested())

    assert lone.state.phase is Phase.STOPPED
    until_no_child(lone)


def test_closing_a_service_ends_its_hooks(notes):
    lone = notes.lone(script="exit 1", hooks={"on_failure": notes.hook(STAY)})
    lone.start()
    lone.world.turn_until(lambda: "on_failure" in notes.names())
    lone.service.close()
    until_no_child(lone)

    assert lone.state.phase is Phase.FAILED


def test_hooks_change_live_and_the_next_ones_are_new(notes):
    lone = notes.lone("post_stop")
    lone.start()
    until(lone, Phase.RUNNING)
    new = HooksSpec(post_stop=notes.hook(f"echo new >>{notes.path}"))
    lone.service.use(lone.service.spec._replace(hooks=new))
    lone.stop()

    assert notes.names()[-1] == "new"


def test_a_changed_spec_waits_for_the_last_hook_of_the_old_run(notes, tmp_path):
    waiting = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done >>{notes.path}"
    lone = notes.lone(hooks={"post_stop": notes.hook(waiting)})
    lone.start()
    until(lone, Phase.RUNNING)
    old = lone.service.spec
    lone.service.use_after_run(old._replace(hooks=HooksSpec(), umask=0o077))
    lone.service.post(StopRequested("config"))
    lone.world.turn_until(lambda: "post_stop" in notes.names())
    assert lone.service.spec is old
    (tmp_path / "go").touch()
    until(lone, Phase.STOPPED)

    assert lone.service.spec.umask == 0o077
    assert notes.names()[-1] == "done"


def test_leftovers_are_gone_before_the_last_hook(notes):
    script = f"{SH} -c '{STAY}' & echo $! >>{notes.path}; kill -STOP $$"
    lone = notes.lone(script=script, hooks={"post_stop": notes.hook()})
    lone.world.before_reap = lambda: identify(lone)
    lone.start()
    lone.world.turn_until(lambda: len(notes.lines()) == 2)
    child = int(notes.names()[-1])
    os.kill(lone.state.pid, signal.SIGKILL)
    until(lone, Phase.FAILED)

    assert notes.names()[-1] == "post_stop"
    assert not os.path.exists(f"/proc/{child}")


# -- reloads --------------------------------------------------------------------------------------


def reload(lone):
    lone.service.post(ReloadRequested("operator:0"))


def test_a_service_is_reloaded_by_its_command_and_its_process_stays(notes):
    lone = notes.lone(reload=ReloadSpec(command=notes.hook()))
    lone.start()
    until(lone, Phase.RUNNING)
    pid = lone.state.pid
    reload(lone)
    assert lone.state.reloading
    lone.world.turn_until(lambda: not lone.state.reloading)

    assert notes.of("reload")["main"] == str(pid) == str(lone.state.pid)
    assert "ServiceReloaded" in lone.told
    lone.stop()


def test_a_service_is_reloaded_by_its_signal(notes):
    script = f"trap 'echo again >>{notes.path}' HUP; echo up >>{notes.path};"
    script += " while :; do sleep 0.1; done"
    lone = notes.lone(script=script, reload=ReloadSpec(signal.SIGHUP))
    lone.start()
    lone.world.turn_until(lambda: "up" in notes.names())
    reload(lone)
    lone.world.turn_until(lambda: "again" in notes.names())

    assert lone.state.phase is Phase.RUNNING
    lone.stop()


def test_a_reload_command_that_hangs_is_killed_and_its_process_stays(notes):
    lone = notes.lone(reload=ReloadSpec(command=notes.hook(STAY), timeout=0.2))
    lone.start()
    until(lone, Phase.RUNNING)
    pid = lone.state.pid
    reload(lone)
    lone.world.turn_until(lambda: not lone.state.reloading)
    lone.world.turn_until(lambda: len(lone.world.reaper) == 1)

    assert "ServiceReloadFailed" in lone.told
    assert lone.state.pid == pid
    lone.stop()


def test_a_reload_command_ends_with_the_run_that_it_reloads(notes):
    lone = notes.lone(reload=ReloadSpec(command=notes.hook(STAY)))
    lone.start()
    until(lone, Phase.RUNNING)
    reload(lone)
    lone.world.turn_until(lambda: "reload" in notes.names())
    os.kill(lone.state.pid, signal.SIGKILL)
    until(lone, Phase.FAILED)
    until_no_child(lone)

    assert "ServiceReloaded" not in lone.told
