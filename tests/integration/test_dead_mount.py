"""A program on a filesystem that does not answer hangs itself, and nobody else."""

import os
import signal
import sys

import pytest

from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.spec import StopSpec, StopStep
from tests.support.fuse import dead_filesystem
from tests.support.lone import Lone, restarting
from tests.support.world import program

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def dead(tmp_path):
    with dead_filesystem(tmp_path / "dead") as path:
        yield path


def what_hangs(dead):
    return {
        "program": {"argv": (f"{dead}/program",), "fast": False},
        "interpreter": {"argv": (f"{dead.parent}/script",), "fast": False},
        "directory": {"argv": ("/bin/true",), "directory": str(dead)},
        "standard input": {"argv": ("/bin/true",), "stdin": f"file:{dead}/input"},
        "PATH": {
            "argv": ("nowhere",),
            "program": None,
            "environment": (("PATH", f"{dead}/bin:/bin"),),
        },
    }


@pytest.fixture(params=["program", "interpreter", "directory", "standard input", "PATH"])
def hanging(request, dead):
    script = dead.parent / "script"
    script.write_text(f"#!{dead}/interpreter\n")
    script.chmod(0o755)
    return what_hangs(dead)[request.param]


def test_it_hangs_alone_while_others_are_restarted(dead, hanging, world):
    members = dict(hanging)
    quick = StopSpec((StopStep(signal.SIGTERM, 0.1),))
    stuck = Lone(
        world,
        restarting("stuck", members.pop("argv"), start_timeout=0.5, stop=quick, **members),
    )
    live = Lone(world, restarting("live", program("linger")), announces=True)
    live.start()
    stuck.start()
    assert stuck.state.phase is Phase.STARTING
    for run in (1, 2, 3):
        world.turn_until(lambda run=run: live.state.run == run and live.state.has_process)
        assert world.heard() == ["ready", str(live.state.pid)]
        if run < 3:
            os.kill(live.state.pid, signal.SIGKILL)
    assert stuck.state.phase is Phase.STARTING
    assert stuck.state.run == 1

    world.turn_until(lambda: stuck.state.run == 2)  # the start timed out, SIGKILL ended it

    assert "ServiceStartTimedOut" in stuck.told
    assert "ServiceReady" not in stuck.told
    assert stuck.state.last_exit.cause == "timeout"
    stuck.service.spec = stuck.service.spec._replace(restart="no")
    stuck.stop()
    live.stop()


def test_sigkill_ends_a_program_that_hangs_in_exec(dead, world):
    child = world.spawn(f"{dead}/program", fast=False)
    assert world.exit_of(world.sh("exit 3")).status == Exited(3)
    world.reaper.signal(child, signal.SIGKILL, whole_group=False)

    assert world.exit_of(child).status == Signaled(signal.SIGKILL)


CONFIG = """
[service.stuck]
command = ["{dead}/program"]
start_timeout = "1s"
stop_timeout = "0.2s"
restart = "always"
backoff.delay = 0

[service.elsewhere]
command = ["{python}", "-c", "import signal; signal.pause()"]
directory = "{dead}/somewhere"
start_timeout = "1s"
stop_timeout = "0.2s"
restart = "always"
backoff.delay = 0

[service.live]
command = ["{python}", "-c", "import signal; signal.pause()"]
restart = "always"
backoff.delay = 0
"""


def test_the_daemon_loads_starts_restarts_and_stops_beside_it(dead, daemon, reaper_mode):
    """The config child finds out, under its deadline, that it cannot find out."""
    daemon.start(
        CONFIG.format(dead=dead, python=sys.executable),
        "--set",
        f'supervisor.reaper="{reaper_mode}"',
    )
    stuck = daemon.wait_for("service.spawned", service="stuck", timeout=30)
    daemon.wait_for("service.spawned", service="elsewhere")
    first = daemon.wait_for("service.ready", service="live")
    os.kill(first["pid"], signal.SIGKILL)
    second = daemon.wait_for("service.ready", service="live")
    assert second["run"] == first["run"] + 1
    assert second["seq"] < daemon.wait_for("service.start_timed_out", service="stuck")["seq"]
    daemon.wait_for("service.start_timed_out", service="elsewhere")
    again = daemon.wait_for("service.spawned", service="stuck")
    assert again["run"] == stuck["run"] + 1

    assert daemon.stop() == 0
    assert daemon.running() == {}
