"""Nothing wakes up when there is nothing to do."""

import select

import pytest

from tests.system.helpers import kill, reaping, switches

CONFIG = """
metrics.listen = "127.0.0.1:0"
[service.w]
instances = 5
command = "sleep 1000"
[service.failed]
restart = "no"
command = "false"
[service.done]
type = "oneshot"
command = "true"
"""

SILENCE_S = 3.0


@pytest.mark.slow
@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
def test_no_process_of_ours_wakes_up(daemon, reaper_mode, followed):
    daemon.start(CONFIG, *reaping(reaper_mode))
    daemon.wait_for("gateway.listening")
    first = daemon.wait_for("service.ready", service="w@0")["pid"]
    kill(first)  # what a restart armed must be gone, too
    daemon.wait_for("service.ready", service="w@0", run=2)
    daemon.look("w@0", "w@1", "w@2", "w@3", "w@4", "failed", "done")
    ours = {
        "core": daemon.pid,
        "logger": daemon.told("service.spawned", ":logger")[-1]["pid"],
        "gateway": daemon.told("service.spawned", ":gateway")[-1]["pid"],
    }
    watcher, listener = daemon.client(), daemon.client()
    if followed:
        listener.send("Events", more=True, follow=True, last=0)
        watcher.send("Watch", more=True)
        while not watcher.receive()[0]["synced"]:
            pass
    else:
        watcher.close()
        listener.close()
    assert daemon.process.stdout is not None
    stdout = [daemon.process.stdout.fileno()]
    # What the last events and lines set off settles first: the logger looks twice, a second apart,
    # at pumps that were at work.
    assert not select.select(stdout, [], [], 3)[0]

    before = {name: switches(pid) for name, pid in ours.items()}
    assert not select.select(stdout, [], [], SILENCE_S)[0]
    after = {name: switches(pid) for name, pid in ours.items()}

    grown = {name: after[name] - before[name] for name in ours}
    allowed = {"core": 0 if reaper_mode == "pidfd" else 1, "logger": 0, "gateway": 0}
    assert all(grown[name] <= allowed[name] for name in ours), grown
    assert daemon.stop() == 0
    watcher.close()
    listener.close()
