"""How notices appear in the log and on the channels: names, levels, fields."""

import json
import math

import pytest

from supervisord_pidfd.core import notices
from supervisord_pidfd.core.notices import (
    EVENTS,
    DaemonStopping,
    Level,
    OrphanReaped,
    ReaperChosen,
    ServiceExited,
    ServiceReady,
    ServiceStopping,
    Told,
    event_of,
    level_of,
)

PROMISED = """\
daemon.started I            version reaper pid1 config services
daemon.ready I              took_s
daemon.stopping I           by signal service timeout_s
daemon.hastened W           signal
daemon.stopped I            exit_code took_s left_alive
reaper.chosen I             reaper reason features
reaper.fell_back W          reason error
reaper.child_fell_back W    error
orphan.reaped D             exit_code signal pid
loop.lagged W               lag_s
loop.callback_crashed E     where error
config.applied I            generation digest added removed restarted updated by took_s
config.rejected E           errors warnings first
config.needs_restart W      key
config.unreadable W         service path error
control.unavailable W       path error
service.waiting I           on condition
service.starting D          attempt
service.spawned I           took_s
service.spawn_failed W      stage subject error
service.ready I             way took_s
service.start_timed_out W   timeout_s
service.runtime_exceeded W  limit_s
service.status_unknown W    reason
service.stopping I          by signal timeout_s
service.kill_escalated W    scope after_s
service.unkillable E        after_s
service.exited I/W          cause exit_code signal core forced wanted lasted_s max_rss_bytes \
                            user_cpu_s system_cpu_s
service.leftovers_killed W  scope
service.restart_scheduled I cause attempt limit delay_s
service.gave_up E           cause reason attempts
service.stopped I           by took_s
service.reset I             by
service.status_changed D    text
service.reloading I         by
service.reloaded I          took_s
service.reload_failed W     error
service.reload_refused W    error
service.watchdog_missed W   timeout_s
hook.failed W               hook exit_code signal timed_out took_s error
check.failed D              check error failures threshold took_s
check.unhealthy W           check error action
check.recovered I           check
notify.refused W            reason sender_pid
group.gave_up E             group restarts interval_s
control.called I            method names uid sender_pid result
control.refused W           reason method uid sender_pid
control.client_dropped W    reason
service.signaled I          signal by
service.dumped I            phase wanted ready restarts
log.dropped W               stream lines bytes reason from to
log.rotated I               path
log.reopened I              files
log.write_failed E          path error
log.resumed I               path blocked_s
gateway.listening I         address serves
gateway.listen_failed E     address error
"""
LETTERS = {Level.DEBUG: "D", Level.INFO: "I", Level.WARNING: "W", Level.ERROR: "E"}
KINDS = sorted(EVENTS, key=lambda kind: kind.__name__)


def promised():
    lines = (line.split() for line in PROMISED.strip().splitlines())
    return {event: (level, tuple(fields)) for event, level, *fields in lines}


def named(kind):
    return tuple(field.rstrip("_") for field in kind._fields)


def exited(cause="exit_code", lasted_s=2.0, signal=None):
    return ServiceExited(cause, 1, signal, False, False, "up", lasted_s, 1024, 0.1, 0.2)


def shown(told):
    return event_of(told, 7, "2026-11-23T14:02:11.002Z", lambda signum: f"SIG{signum}")


def test_names_levels_and_fields_are_those_that_were_promised():
    actual = {
        row.event: (LETTERS[row.level] if isinstance(row.level, Level) else "I/W", named(kind))
        for kind, row in EVENTS.items()
    }

    assert actual == promised()


def test_every_notice_has_its_row():
    named = {
        kind
        for name, kind in vars(notices).items()
        if name.startswith(("Daemon", "Reaper", "Loop", "Config", "Control", "Service", "Gateway"))
    }

    assert named <= set(EVENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_its_head_first_and_then_the_fields_of_its_notice(kind):
    notice = kind(*range(1, len(kind._fields) + 1))

    event = shown(Told(notice))

    assert list(event) == ["ts", "level", "event", "seq", *named(kind)]
    assert (event["ts"], event["event"], event["seq"]) == (
        "2026-11-23T14:02:11.002Z",
        EVENTS[kind].event,
        7,
    )


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if EVENTS[kind].event.startswith("service.")]
)
def test_an_event_of_a_service_names_it_its_run_and_its_process(kind):
    notice = kind(*range(1, len(kind._fields) + 1))

    event = shown(Told(notice, "web", "front", 3, 4117))

    head = ["ts", "level", "event", "seq", "service", "group", "run", "pid"]
    assert list(event) == [*head, *kind._fields]
    assert [event[name] for name in head[4:]] == ["web", "front", 3, 4117]


def test_the_notice_that_tells_a_change_of_phase_says_from_where_and_to_where():
    event = shown(Told(ServiceReady("executed", 0.1), "web", None, 1, 2, "starting", "running"))

    assert (event["phase_from"], event["phase_to"]) == ("starting", "running")


def test_any_other_notice_has_no_phases():
    event = shown(Told(ServiceReady("executed", 0.1), "web", None, 1, 2))

    assert not {"phase_from", "phase_to"} & set(event)


@pytest.mark.parametrize(
    ("notice", "name"),
    [
        (ServiceStopping("signal", 15, 10.0), "SIG15"),
        (exited(signal=9), "SIG9"),
        (exited(signal=None), None),
        (DaemonStopping("policy", None, "web", 8.0), None),
        (OrphanReaped(None, 11, 99), "SIG11"),
    ],
)
def test_a_signal_is_shown_by_its_name(notice, name):
    assert shown(Told(notice))["signal"] == name


def test_lengths_are_rounded_to_the_microsecond():
    assert shown(Told(exited(lasted_s=1 / 3)))["lasted_s"] == 0.333333


def test_a_length_without_end_is_null():
    event = shown(Told(ServiceStopping("signal", 15, math.inf)))

    assert event["timeout_s"] is None


def test_lists_are_lists():
    event = shown(Told(ReaperChosen("pidfd", None, ("pidfs", "exit_info"))))

    assert event["features"] == ["pidfs", "exit_info"]
    assert json.loads(json.dumps(event, allow_nan=False)) == event


@pytest.mark.parametrize(
    ("cause", "level"),
    [
        ("success", Level.INFO),
        ("operator", Level.INFO),
        ("config", Level.INFO),
        ("dependency", Level.INFO),
        ("exit_code", Level.WARNING),
        ("signal", Level.WARNING),
        ("timeout", Level.WARNING),
        ("unknown", Level.WARNING),
    ],
)
def test_an_end_is_a_warning_unless_it_was_clean_or_asked_for(cause, level):
    assert level_of(exited(cause)) is level
    assert shown(Told(exited(cause)))["level"] == level.name.lower()
