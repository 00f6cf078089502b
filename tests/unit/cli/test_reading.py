"""The verbs that tell: explain, history, plan, show, sd, health, events, logs, version."""

import json

import pytest

from supervisord_pidfd import __version__
from tests.support.scripted import INFO, Scripted, an_exit, service


def fact(label, text, **more):
    return {"label": label, "text": text, "at": None, "file": None, "line": None, **more}


def explained(*facts, last_lines=(), tries=()):
    return {
        "service": service("worker@0", "backoff"),
        "summary": "worker@0 is in backoff; next start in 4s (try 8 of 10, then failed)",
        "facts": list(facts), "last_lines": list(last_lines), "try": list(tries),
    }  # fmt: skip


def test_explain_writes_a_fact_on_each_line(pidfdctl):
    reply = explained(
        fact("ended", "cannot start: exec /srv/worker: ENOENT"),
        fact("restarts", 'restart = "on-failure" (default)', file="conf.d/worker.toml", line=6),
        fact("changed", "config applied by uid 0: command", at="2026-11-23T14:01:58.000Z"),
        tries=["pidfdctl show worker@0 --origin", "pidfdctl history worker@0"],
    )
    ran = pidfdctl(Scripted(Explain=reply), "explain", "worker@0")

    assert ran.lines == [
        (
            "worker@0 is in backoff since 13:50:03 (12m 11s ago);"
            " next start in 4s (try 8 of 10, then failed)"
        ),
        "  ended       cannot start: exec /srv/worker: ENOENT",
        '  restarts    restart = "on-failure" (default) (conf.d/worker.toml:6)',
        "  changed     14:01:58 config applied by uid 0: command",
        "  last-lines  (none in this run)",
        "  try         pidfdctl show worker@0 --origin | pidfdctl history worker@0",
    ]


def test_explain_shows_the_last_lines_below_each_other(pidfdctl):
    ran = pidfdctl(Scripted(Explain=explained(last_lines=["one", "\x07two"])), "why", "worker@0")

    assert ran.lines[1:] == ["  last-lines  one", "              \\x07two"]


def test_explain_as_json(pidfdctl):
    reply = explained(fact("ended", "code 1"))
    ran = pidfdctl(Scripted(Explain=reply), "explain", "worker@0", "--json")

    assert ran.json == {"format": 1, **reply}


def a_run(number, **changes):
    run = {
        "run": number, "pid": 41, "started_at": "2026-11-23T13:50:02.000Z", "ready_at": None,
        "ended_at": None, "lasted_s": None, "exit": None, "next": None, "delay_s": None,
        "max_rss_bytes": None, "user_cpu_s": None, "system_cpu_s": None, "last_lines": [],
    }  # fmt: skip
    return {**run, **changes}


def test_history_has_a_row_for_each_run(pidfdctl):
    ended = {
        "started_at": "2026-11-23T09:11:40.000Z", "ended_at": "2026-11-23T13:50:01.000Z",
        "lasted_s": 16700.0, "exit": an_exit(), "next": "restart on-failure", "delay_s": 0.0,
        "max_rss_bytes": 214_000_000, "user_cpu_s": 500.0, "system_cpu_s": 51.0,
    }  # fmt: skip
    later = {**ended, "exit": an_exit("signal SIGKILL (oom)"), "delay_s": 1.6}
    runs = [a_run(41), a_run(40, **ended), a_run(39, **later)]
    daemon = Scripted(History={"runs": runs})
    ran = pidfdctl(daemon, "history", "web", "-n", "3")

    assert daemon.last == {"name": "web", "last": 3}
    assert ran.lines == [
        (
            "RUN  STARTED              LASTED   ENDED                 NEXT"
            "                           MAX RSS  CPU"
        ),
        (
            "41   2026-11-23 13:50:02  12m 12s  running               -"
            "                              -        -"
        ),
        (
            "40   2026-11-23 09:11:40  4h 38m   code 1                restart on-failure at once"
            "     214 MB   9m 11s"
        ),
        (
            "39   2026-11-23 09:11:40  4h 38m   signal SIGKILL (oom)"
            "  restart on-failure after 1.6s  214 MB   9m 11s"
        ),
    ]


def test_history_before_the_first_run(pidfdctl):
    assert pidfdctl(Scripted(History={"runs": []}), "history", "web").out == "no run to show\n"


def change(key, old, new, file="conf.d/web.toml", line=9):
    return {"key": key, "old": old, "new": new, "file": file, "line": line}


def test_a_plan_has_a_row_for_each_change(pidfdctl):
    items = [
        {"action": "restart", "service": "web", "changes": [
            change("environment.PORT", '"8080"', '"8081"'),
            change("umask", None, '"077"', line=10),
        ]},
        {"action": "update", "service": "db", "changes": [
            change("stop_timeout", "10s", "30s", "conf.d/db.toml", 5)]},
        {"action": "add", "service": "cache", "changes": [
            change("command", None, "x", "conf.d/cache.toml", 1)]},
        {"action": "remove", "service": "legacy", "changes": [
            change("command", "x", None, "conf.d/legacy.toml", 1)]},
    ]  # fmt: skip
    daemon = Scripted(Plan={"digest": "7f3a91c2", "items": items, "problems": []})
    ran = pidfdctl(daemon, "plan")

    assert ran.lines == [
        '~ web     restart  environment.PORT "8080" → "8081"  conf.d/web.toml:9',
        '                   umask (none) → "077"              conf.d/web.toml:10',
        "~ db      update   stop_timeout 10s → 30s            conf.d/db.toml:5",
        "+ cache   add      new                               conf.d/cache.toml:1",
        "- legacy  remove   was conf.d/legacy.toml:1",
        (
            "1 to restart, 1 to update live, 1 to add, 1 to remove."
            "  Plan 7f3a91c2.  Do it: pidfdctl apply"
        ),
    ]
    assert (ran.code, daemon.last) == (0, {})


def test_long_values_of_a_plan_are_cut_on_a_terminal_only(pidfdctl):
    items = [{"action": "update", "service": "db", "changes": [change("x", "a" * 90, "b")]}]
    daemon = Scripted(Plan={"digest": "7f3a91c2", "items": items, "problems": []})

    assert "a" * 90 in pidfdctl(daemon, "plan").out
    assert "a" * 29 + "… → b  conf.d/web.toml:9" in pidfdctl(daemon, "plan", terminal=True).out


def test_nothing_to_plan(pidfdctl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daemon = Scripted(Plan={"digest": "7f3a91c2", "items": [], "problems": []})
    ran = pidfdctl(daemon, "reread", "new.toml")

    assert (ran.code, ran.out) == (0, "nothing to do\n")
    assert daemon.last == {"file": str(tmp_path / "new.toml")}


def test_a_plan_with_errors_fails_and_one_with_warnings_does_not(pidfdctl):
    problem = {
        "file": "a.toml", "line": 1, "column": 1, "code": "needs-root", "key": None,
        "message": "oh", "hint": None, "source": None, "see_also": ["b.toml:4:1"],
    }  # fmt: skip
    codes = {}
    for severity in ("warning", "error"):
        found = [{**problem, "severity": severity}]
        ran = pidfdctl(Scripted(Plan={"digest": "7", "items": [], "problems": found}), "plan")
        codes[severity] = ran.code
        assert ran.err.startswith(
            f"a.toml:1:1: {severity}: oh [needs-root]\nsee also b.toml:4:1\n"
        )

    assert codes == {"warning": 0, "error": 6}


def test_show_prints_toml(pidfdctl):
    daemon = Scripted(Show={"toml": '[service.web]\ncommand = "x"\n'})
    ran = pidfdctl(daemon, "show", "web", "--origin")

    assert ran.out == '[service.web]\ncommand = "x"\n'
    assert daemon.last == {"name": "web", "origin": True}


def test_show_is_safe_on_a_terminal_and_exact_in_a_pipe(pidfdctl):
    daemon = Scripted(Show={"toml": 'a = "\x1b[2J"\n'})

    assert pidfdctl(daemon, "show", "web", terminal=True).out == 'a = "\\x1b[2J"\n'
    assert pidfdctl(daemon, "show", "web").out == 'a = "\x1b[2J"\n'


GROUPS = [{"targets": ["127.0.0.1:9100"], "labels": {"service": "web", "group": "backend"}}]


@pytest.mark.parametrize(
    ("host", "target"), [("box", "box:9100"), ("::1", "[::1]:9100"), ("[::1]", "[::1]:9100")]
)
def test_targets_have_the_host_that_was_asked_for(pidfdctl, host, target):
    ran = pidfdctl(Scripted(Discovery={"groups": GROUPS}), "sd", "--host", host)

    assert ran.json == [{"targets": [target], "labels": GROUPS[0]["labels"]}]


def test_targets_in_a_frame(pidfdctl):
    ran = pidfdctl(Scripted(Discovery={"groups": []}), "sd", "--json")

    assert ran.json == {"format": 1, "groups": []}


def test_health(pidfdctl):
    well = pidfdctl(Scripted(Health={"ok": True, "reasons": []}), "health")
    ill = pidfdctl(Scripted(Health={"ok": False, "reasons": ["db: backoff, code 1"]}), "health")

    assert well == (0, "ok\n", "")
    assert ill == (1, "", "db: backoff, code 1\n")


def test_levels_of_health(pidfdctl):
    daemon = Scripted(Health={"ok": True, "reasons": []})
    pidfdctl(daemon, "health")
    pidfdctl(daemon, "health", "--level", "alive")

    assert [call for _, call in daemon.calls] == [{"level": "ready"}, {"level": "alive"}]


def test_version_tells_both_sides(pidfdctl):
    same = pidfdctl(Scripted(), "version")
    other = pidfdctl(Scripted(GetInfo={**INFO, "version": "9.0"}), "version")

    assert same.lines[0].startswith(f"pidfdctl {__version__} (python ")
    assert same.lines[1] == (
        f"supervisord-pidfd {__version__} at /run/supervisord-pidfd/control.sock"
    )
    assert other.lines[1].endswith("control.sock  (differs; pidfdctl reexec)")


def test_the_version_of_the_client_is_told_without_a_daemon(pidfdctl):
    daemon = Scripted()
    daemon.refuses = 2
    ran = pidfdctl(daemon, "version")

    assert ran.code == 7
    assert ran.out.startswith(f"pidfdctl {__version__}")


EXITED = {
    "ts": "2026-11-23T14:02:11.002Z", "level": "warning", "event": "service.exited", "seq": 918,
    "service": "web", "group": "web", "run": 8, "pid": 41, "cause": "exit_code", "exit_code": 1,
    "signal": None, "core": False, "lasted_s": 2.0, "phase_from": "running",
    "phase_to": "backoff",
}  # fmt: skip
APPLIED = {
    "ts": "2026-11-23T14:02:12.000Z", "level": "info", "event": "config.applied", "seq": 919,
    "added": ["a", "b"], "by": "operator:0", "first": 'x "y"\n',
}  # fmt: skip


def test_events_look_as_in_the_daemons_own_log(pidfdctl):
    daemon = Scripted(Events=[{"event": EXITED}, {"event": APPLIED}])
    ran = pidfdctl(daemon, "events")

    assert ran.lines == [
        "14:02:11.002 -- service.exited web cause=exit_code exit_code=1 lasted_s=2.0",
        '14:02:12.000 -- config.applied added=a,b by=operator:0 first="x \\"y\\"\\x0a"',
    ]
    assert daemon.last == {"last": 50}


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("events -f web", {"names": ["web"], "last": 50, "follow": True}),
        ("events -n 3", {"last": 3}),
        ("events --since 5m", {"since": "5m"}),
        ("events --since 917", {"since": "917"}),
        ("events --all -n0", {"names": ["all"], "last": 0}),
    ],
)
def test_options_of_events(pidfdctl, line, sent):
    daemon = Scripted(Events=[{"event": EXITED}])
    pidfdctl(daemon, *line.split())

    assert daemon.last == sent


def test_events_as_json_are_bare_objects(pidfdctl):
    gap = {"event": "gap", "lost": 7}
    ran = pidfdctl(Scripted(Events=[{"event": EXITED}, {"event": gap}]), "events", "--json")

    assert [json.loads(line) for line in ran.lines] == [EXITED, gap]


def test_a_gap_in_the_events_is_told(pidfdctl):
    ran = pidfdctl(Scripted(Events=[{"event": {"event": "gap", "lost": 7}}]), "events")

    assert ran.out == "-- 7 events lost: read too slowly --\n"


def log_line(stream, msg):
    return {"line": {
        "ts": "2026-11-23T14:02:07.123Z", "service": "web", "stream": stream, "run": 1, "seq": 1,
        "msg": msg, "partial": False,
    }}  # fmt: skip


def test_log_lines(pidfdctl):
    daemon = Scripted(Logs=[log_line("stdout", "GET /"), log_line("stderr", "\x1b[31mboo")])

    assert pidfdctl(daemon, "logs", "web").lines == [
        "14:02:07.123 web      | GET /",
        "14:02:07.123 web     !| \x1b[31mboo",
    ]
    assert "\\x1b[31mboo" in pidfdctl(daemon, "logs", "web", terminal=True).out
    assert pidfdctl(daemon, "logs", "--raw", terminal=True).out == "GET /\n\x1b[31mboo\n"


def test_the_bar_tells_streams_apart_and_a_backslash_that_a_line_goes_on(pidfdctl):
    split = log_line("hook", "part")
    split["line"]["partial"] = True
    daemon = Scripted(Logs=[split, log_line("hook", "rest"), {"line": None}])

    assert pidfdctl(daemon, "logs").lines == [
        "14:02:07.123 web     #| part\\", "14:02:07.123 web     #| rest",
    ]  # fmt: skip
    assert pidfdctl(daemon, "logs", "--raw").out == "partrest\n"


def test_who_reads_too_slowly_is_told_what_it_missed(pidfdctl):
    line = log_line("stdout", "x")
    line["line"]["missed_bytes"] = 4711

    assert pidfdctl(Scripted(Logs=[line]), "logs").lines == [
        "-- 4711 bytes missed: read too slowly --", "14:02:07.123 web      | x",
    ]  # fmt: skip


def happened(name, **fields):
    return {"event": {
        "ts": "2026-11-23T14:02:11.002Z", "level": "info", "event": name, "seq": 919,
        "service": "worker@0", "group": "backend", "run": 8, "pid": None, **fields,
    }}  # fmt: skip


def test_who_follows_sees_what_happens_between_the_lines(pidfdctl):
    script = {
        "Logs": [log_line("stdout", "x"), log_line("stdout", "y"), {"line": None}],
        "Events": [
            happened("service.restart_scheduled", cause="spawn_error", attempt=8),
            happened("service.starting", level="debug"),
            happened("service.ready", service=":logger"),
            happened("log.rotated", path="/x"),
            {"event": {"event": "gap", "lost": 7}},
        ],
    }
    daemon = Scripted(**script)
    ran = pidfdctl(daemon, "logs", "-f", "web", "worker@*")

    assert ran.lines == [
        "14:02:11.002 -- service.restart_scheduled worker@0 cause=spawn_error attempt=8",
        "-- 7 events lost: read too slowly --",
        "14:02:07.123 web      | x",
        "14:02:07.123 web      | y",
    ]
    names = {"names": ["web", "worker@*"], "follow": True}
    assert daemon.calls == [("Events", {"last": 0, **names}), ("Logs", {"last": 100, **names})]


@pytest.mark.parametrize("words", ["--json", "--raw", "--stderr", "--run 1"])
def test_who_wants_lines_alone_gets_no_events(pidfdctl, words):
    daemon = Scripted(Logs=[log_line("stdout", "x"), {"line": None}])
    pidfdctl(daemon, "logs", "-f", *words.split())

    assert [name for name, _ in daemon.calls] == ["Logs"]


def test_lines_go_on_where_events_are_refused(pidfdctl):
    daemon = Scripted(Logs=[log_line("stdout", "x"), {"line": None}])

    assert pidfdctl(daemon, "logs", "-f").lines == ["14:02:07.123 web      | x"]


def test_raw_shows_bytes_that_are_no_text_as_far_as_the_output_has_them(pidfdctl):
    line = log_line("stdout", "caf\ufffd")
    line["line"]["raw"] = "Y2Fm6Q=="

    assert pidfdctl(Scripted(Logs=[line]), "logs", "--raw").out == "caf\ufffd\n"


def test_explain_shows_the_last_lines_of_this_run(pidfdctl):
    daemon = Scripted(Explain=explained(), Logs=[log_line("stderr", "boom\x1b"), {"line": None}])
    ran = pidfdctl(daemon, "explain", "worker@0")

    assert "  last-lines  boom\\x1b" in ran.lines
    assert daemon.last == {"names": ["worker@0"], "last": 10, "run": 1}


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("logs", {"last": 100}),
        (
            "logs web --stderr --run -1",
            {"names": ["web"], "last": 100, "stream": "stderr", "run": -1},
        ),
        ("logs -fn5 --since 1h", {"last": 5, "since": "1h", "follow": True}),
        ("logs --since 1h", {"since": "1h"}),
        ("logs --stdout --stderr", {"last": 100}),
    ],
)
def test_options_of_logs(pidfdctl, line, sent):
    daemon = Scripted(Logs=[log_line("stdout", "x")])
    pidfdctl(daemon, *line.split())

    assert daemon.last == sent


def test_reopening_log_files(pidfdctl):
    ran = pidfdctl(Scripted(ReopenLogs={"files": 4}), "logs", "--reopen")

    assert ran.out == "4 log files opened anew\n"
