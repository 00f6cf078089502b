"""The verbs that change something: what they send, what they print, how they end."""

import pytest

from tests.support.scripted import Scripted, error, outcome

RUNNING = outcome("web", "running (ready in 0.4s)")
FAILED = outcome("db", "cannot start: code 1 after 0.2s; next try at once", "backoff", ok=False)
LATE = outcome("report", "waiting for worker@0", "waiting", ok=False)


def replies(*outcomes, change=17, **more):
    """Make what a call with `more` gets: each outcome as it comes, then all."""
    each = [{"change": change, "outcomes": [one], **more} for one in outcomes]
    return [*each, {"change": change, "outcomes": list(outcomes), **more}]


def test_each_service_has_a_line_when_it_has_finished(pidfdctl):
    daemon = Scripted(Start=replies(RUNNING, outcome("db", "running (ready in 1.2s)")))
    ran = pidfdctl(daemon, "start", "web", "db")

    assert ran == (0, "web: running (ready in 0.4s)\ndb: running (ready in 1.2s)\n", "")


def test_a_service_that_did_not_get_there_fails_the_command(pidfdctl):
    ran = pidfdctl(Scripted(Start=replies(RUNNING, FAILED)), "start", "web", "db")

    assert ran.code == 1
    assert ran.out == "web: running (ready in 0.4s)\n"
    assert ran.err == (
        "db: cannot start: code 1 after 0.2s; next try at once (pidfdctl explain db)\n"
    )


@pytest.mark.parametrize(
    ("line", "method", "sent"),
    [
        ("start web", "Start", {"wait": True, "settle_s": 1.0}),
        ("start web --only", "Start", {"wait": True, "settle_s": 1.0, "only": True}),
        ("start web --settle 0", "Start", {"wait": True, "settle_s": 0.0}),
        ("start web --timeout 5s", "Start", {"wait": True, "settle_s": 1.0, "timeout_s": 5.0}),
        ("start web --no-wait", "Start", {"wait": False, "settle_s": 1.0}),
        ("stop web", "Stop", {"wait": True}),
        ("stop web --only --timeout 1m30s", "Stop", {"wait": True, "only": True, "timeout_s": 90}),
        ("restart web --rolling", "Restart", {"wait": True, "settle_s": 1.0, "rolling": True}),
        ("reload web", "Reload", {"wait": True}),
    ],
)
def test_options_become_parameters(pidfdctl, line, method, sent):
    daemon = Scripted(**{method: replies(RUNNING)})
    pidfdctl(daemon, *line.split())

    assert daemon.calls == [(method, {"names": ["web"], **sent})]


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload"])
def test_all_services(pidfdctl, verb):
    daemon = Scripted(**{verb.capitalize(): replies(RUNNING)})
    pidfdctl(daemon, verb, "--all")

    assert daemon.last["names"] == ["all"]


def test_without_waiting_the_number_of_the_change_is_told(pidfdctl):
    daemon = Scripted(Stop={"change": 17, "outcomes": []})
    ran = pidfdctl(daemon, "stop", "web", "--no-wait")

    assert ran == (0, "change 17 goes on (pidfdctl wait --change 17)\n", "")


def test_json_is_the_last_reply(pidfdctl):
    ran = pidfdctl(Scripted(Start=replies(RUNNING, FAILED)), "start", "web", "db", "--json")

    assert ran.json == {"format": 1, "change": 17, "outcomes": [RUNNING, FAILED]}
    assert (ran.code, ran.err) == (1, "")


def test_quiet_prints_failures_only(pidfdctl):
    ran = pidfdctl(Scripted(Start=replies(RUNNING, FAILED)), "-q", "start", "web", "db")

    assert ran.out == ""
    assert ran.err.startswith("db: cannot start")


def test_a_wait_that_takes_too_long_names_what_is_missing(pidfdctl):
    late = error("WaitTimedOut", change=17, outcomes=[LATE])
    ran = pidfdctl(Scripted(Start=[late]), "start", "report", "--timeout", "5s")

    assert (ran.code, ran.out) == (5, "")
    assert ran.err == (
        "pidfdctl: cannot confirm 'report': waiting for worker@0 after 5s;"
        " it goes on (pidfdctl wait --change 17)\n"
    )


def test_what_was_asked_for_is_named_before_what_it_needs(pidfdctl):
    needed = outcome("worker@0", "code 1; try 2 of 10 in 4s", "backoff", ok=False)
    late = error("WaitTimedOut", change=17, outcomes=[needed, LATE])
    named = pidfdctl(Scripted(Start=[late]), "start", "report", "--timeout", "5s")
    globbed = pidfdctl(Scripted(Start=[late]), "start", "re*", "--timeout", "5s")

    assert "cannot confirm 'report': waiting for worker@0 after 5s" in named.err
    assert (
        "cannot confirm 'worker@0' (and 1 other): code 1; try 2 of 10 in 4s after" in globbed.err
    )


def test_a_failure_wins_over_a_time_out(pidfdctl):
    first = {"change": 17, "outcomes": [FAILED]}
    late = error("WaitTimedOut", change=17, outcomes=[FAILED, LATE])
    ran = pidfdctl(Scripted(Start=[first, late]), "start", "db", "report", "--timeout", "5s")

    assert ran.code == 1
    assert ran.err.splitlines() == [
        "db: cannot start: code 1 after 0.2s; next try at once (pidfdctl explain db)",
        (
            "pidfdctl: cannot confirm 'report': waiting for worker@0 after 5s;"
            " it goes on (pidfdctl wait --change 17)"
        ),
    ]


def test_a_time_out_as_json(pidfdctl):
    late = error("WaitTimedOut", change=17, outcomes=[LATE])
    ran = pidfdctl(Scripted(Start=[late]), "start", "report", "--timeout", "5s", "--json")

    assert ran.json["error"]["name"] == "WaitTimedOut"
    assert ran.json["error"]["parameters"] == {"change": 17, "outcomes": [LATE]}


def test_ctrl_c_ends_the_wait_and_not_the_change(pidfdctl):
    daemon = Scripted(Start=[{"change": 17, "outcomes": [RUNNING]}, KeyboardInterrupt()])
    daemon.answers = lambda *_: daemon.script["Start"]
    ran = pidfdctl(daemon, "start", "web", "db")

    assert ran.code == 130
    assert ran.err == (
        "pidfdctl: interrupted: cannot confirm 'web', 'db'; it goes on"
        " (pidfdctl wait --change 17)\n"
    )


def test_messages_of_services_are_escaped(pidfdctl):
    ran = pidfdctl(Scripted(Start=replies(outcome("web", "\x1b[2J", ok=False))), "start", "web")

    assert ran.err == "web: \\x1b[2J (pidfdctl explain web)\n"


def test_wait_for_services(pidfdctl):
    daemon = Scripted(Wait={"outcomes": [RUNNING]})
    ran = pidfdctl(daemon, "wait", "web", "--for", "healthy", "--timeout", "1s")

    assert ran == (0, "web: running (ready in 0.4s)\n", "")
    assert daemon.last == {"names": ["web"], "condition": "healthy", "timeout_s": 1.0}


def test_wait_is_for_ready_unless_told_otherwise(pidfdctl):
    daemon = Scripted(Wait={"outcomes": [FAILED]})
    ran = pidfdctl(daemon, "wait", "db")

    assert daemon.last == {"names": ["db"], "condition": "ready"}
    assert ran.code == 1


def test_wait_for_a_change(pidfdctl):
    daemon = Scripted(Wait={"outcomes": [RUNNING]})
    pidfdctl(daemon, "wait", "--change", "17")

    assert daemon.last == {"change": 17}


def test_wait_for_an_unknown_change(pidfdctl):
    gone = error("Refused", reason="no_such_change", message="there is no change 99")
    ran = pidfdctl(Scripted(Wait=[gone]), "wait", "--change", "99")

    assert ran.code == 1
    assert ran.err == "pidfdctl: cannot wait: there is no change 99\n"


def test_wait_times_out(pidfdctl):
    late = error("WaitTimedOut", change=3, outcomes=[LATE])
    ran = pidfdctl(Scripted(Wait=[late]), "wait", "report", "--timeout", "1")

    # Nothing goes on: the wait was all there was.
    assert ran.code == 5
    assert ran.err == "pidfdctl: cannot confirm 'report': waiting for worker@0 after 1s\n"


@pytest.mark.parametrize(
    ("line", "method", "sent"),
    [
        ("signal HUP web", "Signal", {"signal": "HUP"}),
        ("signal --group usr1 web", "Signal", {"signal": "USR1", "group": True}),
        ("kill web", "Signal", {"signal": "TERM"}),
        ("reset web", "Reset", {}),
        ("freeze web", "Freeze", {}),
        ("thaw web", "Thaw", {}),
    ],
)
def test_acts_are_over_at_once(pidfdctl, line, method, sent):
    daemon = Scripted(**{method: {"outcomes": [outcome("web", "done")]}})
    ran = pidfdctl(daemon, *line.split())

    assert daemon.calls == [(method, {"names": ["web"], **sent})]
    assert ran == (0, "web: done\n", "")


def test_freezing_without_a_cgroup_is_refused(pidfdctl):
    refused = error("Refused", reason="no_cgroup", message="web has no cgroup of its own")
    ran = pidfdctl(Scripted(Freeze=[refused]), "freeze", "web")

    assert ran == (1, "", "pidfdctl: cannot freeze 'web': web has no cgroup of its own\n")


def test_a_refusal_without_words_says_its_reason(pidfdctl):
    refused = error("Refused", reason="shutting_down", message="")
    ran = pidfdctl(Scripted(Start=[refused]), "start", "web")

    assert ran.err == "pidfdctl: cannot start 'web': shutting_down\n"


# -- apply ----------------------------------------------------------------------------------------


def applied(*outcomes, problems=()):
    return replies(*outcomes, digest="7f3a91c2", problems=list(problems))


def test_apply_tells_each_service(pidfdctl):
    daemon = Scripted(
        Apply=applied(outcome("db", "updated"), outcome("legacy", "removed", "stopped"))
    )
    ran = pidfdctl(daemon, "apply")

    assert ran == (0, "db: updated\nlegacy: removed\n", "")
    assert daemon.last == {"wait": True}


def test_apply_with_nothing_to_do(pidfdctl):
    assert pidfdctl(Scripted(Apply=applied()), "apply").out == "nothing to do\n"


def test_options_of_apply(pidfdctl):
    daemon = Scripted(Apply=applied())
    line = "apply --only web --only db --no-restart --expect 7f3a --timeout 1s"
    pidfdctl(daemon, *line.split())

    assert daemon.last == {
        "only": ["web", "db"], "no_restart": True, "expect": "7f3a", "wait": True,
        "timeout_s": 1.0,
    }  # fmt: skip


PROBLEM = {
    "file": "/etc/x.toml", "line": 2, "column": 1, "severity": "error", "code": "unknown-key",
    "key": "comand", "message": "unknown key 'comand' in service 'web'",
    "hint": "did you mean 'command'?", "source": 'comand = "/bin/web"', "see_also": [],
}  # fmt: skip


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_an_invalid_configuration_is_shown_as_check_shows_it(pidfdctl, verb):
    invalid = error("ConfigInvalid", problems=[PROBLEM])
    ran = pidfdctl(Scripted(**{verb.capitalize(): [invalid]}), verb)

    assert (ran.code, ran.out) == (6, "")
    assert ran.err.splitlines()[:2] == [
        (
            "/etc/x.toml:2:1: error: unknown key 'comand' in service 'web'"
            " (did you mean 'command'?) [unknown-key]"
        ),
        '    2 | comand = "/bin/web"',
    ]
    assert "1 error, 0 warnings in 1 file" in ran.err


def test_another_plan_than_the_one_seen_is_refused(pidfdctl):
    refused = error("Refused", reason="plan_changed", message="the plan is now 11aa22bb")
    ran = pidfdctl(Scripted(Apply=[refused]), "apply", "--expect", "7f3a91c2")

    assert ran == (1, "", "pidfdctl: cannot apply the configuration: the plan is now 11aa22bb\n")


# -- the daemon -----------------------------------------------------------------------------------


def test_shutdown_waits_for_the_end(pidfdctl):
    daemon = Scripted(Shutdown={})
    daemon.peer = daemon.peer._replace(pid=0)  # not to be seen from here: the hang-up tells
    ran = pidfdctl(daemon, "shutdown")

    assert ran == (0, "the daemon: ended (after 0.0s)\n", "")


def test_shutdown_without_waiting(pidfdctl):
    ran = pidfdctl(Scripted(Shutdown={}), "shutdown", "--no-wait")

    assert ran == (0, "the daemon is shutting down\n", "")


def test_reexec_that_is_not_there_yet(pidfdctl):
    ran = pidfdctl(Scripted(), "reexec")

    assert ran.code == 1
    assert ran.err == "pidfdctl: cannot reexec: not available in this version of the daemon\n"
