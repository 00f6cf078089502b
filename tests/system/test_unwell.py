"""What the daemon does about services that are not well: checks, their actions, the watchdog."""

import pytest

from tests.support.world import program
from tests.system.helpers import command, kill, python, reaping, sh

NOTIFIER = """
import os, signal, socket, sys
address = os.environ["NOTIFY_SOCKET"]
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect("\\0" + address[1:] if address[0] == "@" else address)
for word in sys.argv[1:]:
    sender.send(word.encode())
while True:
    signal.pause()
"""
QUICK = 'period = "100ms", failures = 2'


def test_a_service_whose_check_fails_is_started_again(daemon, tmp_path, reaper_mode):
    """The check asks for a file that the first run takes away and the second leaves."""
    well = tmp_path / "well"
    well.touch()
    daemon.start(
        "[service.web]\n"
        + sh(f'[ "$SUPERVISORD_RUN" = 1 ] && rm {well} || : >{well}; exec sleep 1000')
        + f'health.live = {{ exec = ["/usr/bin/test", "-e", "{well}"], {QUICK} }}\n',
        *reaping(reaper_mode),
    )
    unhealthy = daemon.wait_for("check.unhealthy", service="web")
    stopping = daemon.wait_for("service.stopping", service="web")
    exited = daemon.wait_for("service.exited", service="web")
    again = daemon.wait_for("service.ready", service="web", run=2)

    assert (unhealthy["check"], unhealthy["action"]) == ("live", "restart")
    assert stopping["by"] == "health:live"
    assert exited["cause"] == "health"
    assert again["run"] == 2
    daemon.stop()


def test_a_check_may_stop_its_service(daemon, reaper_mode):
    daemon.start(
        '[service.web]\ncommand = "sleep 1000"\n'
        f'health.live = {{ exec = "/bin/false", action = "stop", {QUICK} }}\n',
        *reaping(reaper_mode),
    )
    stopped = daemon.wait_for("service.stopped", service="web")

    assert (stopped["by"], stopped["phase_to"]) == ("health:live", "stopped")
    daemon.stop()


def test_a_check_may_end_the_daemon(daemon, reaper_mode):
    daemon.start(
        '[service.web]\ncommand = "sleep 1000"\n'
        f'health.live = {{ exec = "/bin/false", action = "shutdown", {QUICK} }}\n',
        *reaping(reaper_mode),
    )

    assert daemon.wait() == 10


def test_a_check_that_takes_readiness_alone_leaves_the_service(daemon, reaper_mode):
    daemon.start(
        '[service.web]\ncommand = "sleep 1000"\n'
        f'health.live = {{ tcp = "127.0.0.1:1", action = "none", {QUICK} }}\n',
        *reaping(reaper_mode),
    )
    daemon.wait_for("check.unhealthy", service="web")
    seen = daemon.look("web")["web"]

    assert (seen["phase"], seen["ready"]) == ("running", False)
    daemon.stop()


def test_a_service_that_falls_silent_is_ended_with_sigabrt(daemon, reaper_mode):
    daemon.start(
        "[service.web]\n"
        + python(NOTIFIER, "READY=1", "WATCHDOG=1")
        + 'type = "notify"\nrestart = "no"\nhealth.dog = { watchdog = "300ms" }\n',
        *reaping(reaper_mode),
    )
    missed = daemon.wait_for("service.watchdog_missed", service="web")
    exited = daemon.wait_for("service.exited", service="web")
    gave_up = daemon.wait_for("service.gave_up", service="web")

    assert missed["timeout_s"] == pytest.approx(0.3)
    assert (exited["cause"], exited["signal"]) == ("watchdog", "SIGABRT")
    assert gave_up["cause"] == "watchdog"
    daemon.stop()


def test_a_notify_service_that_ends_before_it_is_ready_has_failed(daemon, reaper_mode):
    daemon.start(
        "[service.web]\n" + command("/bin/true") + 'type = "notify"\nrestart = "no"\n',
        *reaping(reaper_mode),
    )
    exited = daemon.wait_for("service.exited", service="web")
    gave_up = daemon.wait_for("service.gave_up", service="web")

    assert (exited["exit_code"], gave_up["cause"]) == (0, "exit_code")
    daemon.stop()


def test_a_service_may_ask_for_more_time_to_start(daemon, reaper_mode):
    daemon.start(
        "[service.web]\n"
        + python(NOTIFIER, "EXTEND_TIMEOUT_USEC=1500000")
        + 'type = "notify"\nrestart = "no"\nstart_timeout = "500ms"\n',
        *reaping(reaper_mode),
    )
    timed_out = daemon.wait_for("service.start_timed_out", service="web")

    assert timed_out["timeout_s"] > 1.4
    daemon.stop()


def test_a_service_goes_on_in_the_process_that_it_has_named(daemon, tmp_path, reaper_mode):
    daemon.start(
        "[service.web]\n"
        + command(*program("hands_over", str(tmp_path / "pids"), "0", "double"))
        + 'type = "notify"\nrestart = "no"\n',
        *reaping(reaper_mode),
    )
    first = daemon.wait_for("service.ready", service="web")
    heir = int((tmp_path / "pids").read_text())
    assert heir != first["pid"]
    assert any(daemon.look("web")["web"]["pid"] == heir for _ in range(1000))
    kill(heir)
    exited = daemon.wait_for("service.exited", service="web")

    assert (exited["pid"], exited["signal"]) == (heir, "SIGKILL")
    daemon.stop()
