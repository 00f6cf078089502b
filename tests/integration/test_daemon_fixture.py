"""The fixture `daemon` itself, over a stand-in for the daemon."""

import signal
import sys

import pytest

from tests.support.daemon import Daemon

STAND_IN = """
import itertools, json, os, signal, subprocess, sys
seq = itertools.count(1)
def tell(event, **fields):
    # os.write: print() may not be entered again from a signal handler.
    os.write(1, json.dumps({"event": event, "seq": next(seq), **fields}).encode() + b"\\n")
def leave(signum, frame):
    tell("daemon.stopped")
    os._exit(5)
signal.signal(signal.SIGTERM, leave)
web = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, start_new_session=True)
print("not an event", flush=True)
print('{"event": "log.dropped", "service": "web"}', flush=True)
tell("service.spawned", service="web", pid=web.pid)
tell("service.ready", service="db", run=1)
tell("service.ready", service="db", run=2)
subprocess.Popen(["sleep", "1001"], stdout=subprocess.DEVNULL, start_new_session=True)
signal.pause()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    it = Daemon(tmp_path)
    monkeypatch.setattr(it, "command", lambda *_verb: [sys.executable, "-I", "-c", STAND_IN])
    yield it.start("")
    it.close()


@pytest.mark.reaping
def test_events_are_taken_once_and_in_any_order_of_services(stand_in):
    last = stand_in.wait_for("service.ready", service="db", run=2)
    first = stand_in.wait_for("service.ready", service="db")
    spawned = stand_in.wait_for(service="web")

    assert (first["run"], last["run"], spawned["event"]) == (1, 2, "service.spawned")
    assert stand_in.output == ["not an event", '{"event": "log.dropped", "service": "web"}']


@pytest.mark.reaping
def test_an_event_that_does_not_come_fails_with_the_story(stand_in):
    stand_in.wait_for("service.spawned")

    with pytest.raises(AssertionError, match=r"(?s)no .*web.* within 0.05 s.*not an event"):
        stand_in.wait_for("service.ready", service="web", timeout=0.05)


@pytest.mark.reaping
def test_the_exit_code_and_the_last_events_are_read(stand_in):
    stand_in.wait_for("service.ready", service="db", run=2)

    stand_in.signal(signal.SIGTERM)
    code = stand_in.wait(timeout=10)

    assert code == 5
    assert stand_in.events[-1]["event"] == "daemon.stopped"


@pytest.mark.reaping
def test_what_outlives_a_killed_daemon_is_found_and_ended(stand_in):
    stand_in.wait_for("service.ready", service="db", run=2)
    stand_in.signal(signal.SIGSTOP)
    stand_in.kill()
    outlived = stand_in.running()
    stand_in.close()

    assert [sys.executable] not in outlived.values()
    assert ["sleep", "1000"] in outlived.values()
