"""`status` and the predicates."""

import os
import re

import pytest

from supervisord_pidfd.cli.status import COLUMNS
from tests.support.scripted import Scripted, an_exit, error, service, status, supervisor

FIVE = (
    service("web", restarts=2, detail="last exit: code 1, 12m ago"),
    service("db", ready_at="2026-11-20T10:00:00.000Z"),
    service("migrate", "exited", detail="code 0, 3d ago"),
    service("report", "waiting", detail="needs worker@0 (backoff)"),
    service("worker@0", "backoff", restarts=7, restarts_1h=7, detail="code 1; try 8 of 10 in 4s"),
)


def test_a_table_sorted_by_name_with_the_phases_counted(pidfdctl):
    ran = pidfdctl(Scripted(Status=status(*FIVE)), "status")

    assert ran.lines == [
        "SERVICE   PHASE    READY  PID  UPTIME  RESTARTS     CPU  RSS  DETAIL",
        "db        running  yes    -    -       0            -    -",
        "migrate   exited   no     -    -       0            -    -    code 0, 3d ago",
        "report    waiting  no     -    -       0            -    -    needs worker@0 (backoff)",
        "web       running  yes    -    -       2            -    -    last exit: code 1, 12m ago",
        "worker@0  backoff  no     -    -       7 (7 in 1h)  -    -    code 1; try 8 of 10 in 4s",
        "5 services: 2 running, 1 waiting, 1 backoff, 1 exited",
    ]
    assert (ran.code, ran.err) == (0, "")


def test_instances_are_sorted_by_number(pidfdctl):
    daemon = Scripted(Status=status(*(service(f"w@{n}") for n in (10, 9, 0)), service("w-b")))
    ran = pidfdctl(daemon, "status", "--names")

    assert ran.lines == ["w@0", "w@9", "w@10", "w-b"]


def test_names_are_sent_as_they_were_typed(pidfdctl):
    daemon = Scripted(Status=status(*FIVE))
    pidfdctl(daemon, "status", "web*", "@backend", "worker@3")

    assert daemon.last == {"names": ["web*", "@backend", "worker@3"]}


def test_all_adds_the_internal_services(pidfdctl):
    daemon = Scripted(Status=status(*FIVE))
    pidfdctl(daemon, "status", "--all")

    assert daemon.last == {"all": True}


def test_no_services(pidfdctl):
    ran = pidfdctl(Scripted(Status=status()), "status")

    assert ran.lines[-1] == "0 services"


def test_the_process_is_looked_up_in_proc(pidfdctl):
    daemon = Scripted(Status=status(service("web", pid=os.getpid())))
    ran = pidfdctl(daemon, "status", "--json")

    (web,) = ran.json["services"]
    assert web["rss_bytes"] > 1_000_000
    assert web["cpu_s"] > 0


def test_a_process_of_another_pid_namespace_is_not_looked_up(pidfdctl):
    # The daemon calls itself 1, the kernel shows us its real number: its numbers are not ours.
    daemon = Scripted(Status=status(service("web", pid=os.getpid()), pid=os.getpid() + 1))
    ran = pidfdctl(daemon, "status", "--json")

    (web,) = ran.json["services"]
    assert (web["rss_bytes"], web["cpu_s"]) == (None, None)


def test_json_is_the_reply_with_a_format_and_two_members_of_our_own(pidfdctl):
    reply = status(*FIVE)
    ran = pidfdctl(Scripted(Status=reply), "status", "--json")

    assert ran.json["format"] == 1
    assert ran.json["supervisor"] == reply["supervisor"]
    ours = {"rss_bytes": None, "cpu_s": None}
    assert {one["name"]: one for one in ran.json["services"]} == {
        one["name"]: {**one, **ours} for one in FIVE
    }


@pytest.mark.parametrize(
    ("services", "code"),
    [
        (FIVE, 3),
        ((service("a"), service("b", "exited"), service("c", "stopped")), 0),
        ((service("a", ready=False),), 3),
        ((service("a", "failed"),), 3),
        ((), 0),
    ],
)
def test_check_fails_if_anything_wanted_up_is_not_ready(pidfdctl, services, code):
    ran = pidfdctl(Scripted(Status=status(*services)), "status", "--check")

    assert ran.code == code


def test_chosen_columns_without_titles(pidfdctl):
    ran = pidfdctl(
        Scripted(Status=status(*FIVE)), "status", "--columns", "phase,service", "--no-header"
    )

    assert ran.lines[0] == "running  db"
    assert len(ran.lines) == 5


def test_every_column_can_be_shown(pidfdctl):
    web = service("web", pid=os.getpid(), last_exit=an_exit())
    ran = pidfdctl(Scripted(Status=status(web)), "status", "--columns", ",".join(COLUMNS))

    assert ran.lines[0].split() == list(COLUMNS)
    assert ran.code == 0


def test_an_unknown_column_is_a_usage_error(pidfdctl):
    ran = pidfdctl(Scripted(Status=status(*FIVE)), "status", "--columns", "NAME")

    assert ran.code == 2
    assert "no column 'NAME' (there are SERVICE,GROUP," in ran.err


def test_one_name_shows_every_member_on_its_own_line(pidfdctl):
    checks = [
        {"name": "live", "kind": "http", "ok": False, "failures": 2, "runs": {"failure": 2},
         "last_at": "2026-11-23T14:02:11.000Z", "last_duration_s": 0.1, "error": "status 500"},
    ]  # fmt: skip
    web = service("web", checks=checks, last_exit=an_exit(), waiting_for=["db", "cache"])
    line = {"ts": "2026-11-23T14:02:11.000Z", "service": "web", "stream": "stdout", "run": 1,
            "seq": 1, "msg": "hello\x1b[2J", "partial": False}  # fmt: skip
    daemon = Scripted(Status=status(web), Logs=[{"line": line}])
    ran = pidfdctl(daemon, "status", "web")

    shown = dict(re.split("  +|$", text, maxsplit=1) for text in ran.lines[:-2])
    assert list(shown) == [*service("web"), "rss_bytes", "cpu_s"]
    assert shown["phase"] == "running"
    assert shown["since"] == "13:50:03 (12m 11s ago)"
    assert shown["last_exit"] == "code 1 (cause exit_code)"
    assert shown["waiting_for"] == "db, cache"
    assert shown["checks"] == (
        "live (http): fails, 2 failures in a row, last 14:02:11 (3s ago), status 500"
    )
    assert ran.lines[-2:] == ["", "hello\\x1b[2J"]


def test_one_name_without_a_log_is_shown_all_the_same(pidfdctl):
    ran = pidfdctl(Scripted(Status=status(service("web"))), "status", "web")

    assert ran.code == 0
    assert ran.lines[-1].startswith("cpu_s")


def test_one_name_of_many_instances_is_a_table(pidfdctl):
    ran = pidfdctl(Scripted(Status=status(service("w@0"), service("w@1"))), "status", "w")

    assert ran.lines[0].startswith("SERVICE")


@pytest.mark.parametrize(
    ("of_supervisor", "note"),
    [
        ({"phase": "stopping"}, "the daemon is stopping"),
        ({"reaper": "sigchld", "reaper_reason": "ENOSYS"}, "reaper sigchld (ENOSYS)"),
        (
            {"last_error": "web.toml:1:1: syntax"},
            "last apply failed: web.toml:1:1: syntax (pidfdctl plan)",
        ),
    ],
)
def test_the_last_line_tells_what_an_operator_should_know(pidfdctl, of_supervisor, note):
    ran = pidfdctl(Scripted(Status=status(service("web"), **of_supervisor)), "status")

    assert ran.lines[-1] == f"1 service: 1 running         {note}"


def test_a_file_changed_since_the_last_apply_is_told(pidfdctl, tmp_path):
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    for path, when in ((old, 1_500_000_000), (new, 2_000_000_000)):
        path.touch()
        os.utime(path, (when, when))
    gone = str(tmp_path / "gone.toml")
    quiet = pidfdctl(Scripted(Status=status(files=[gone, str(old)])), "status")
    told = pidfdctl(Scripted(Status=status(files=[str(old), str(new)])), "status")

    assert quiet.lines[-1] == "0 services"
    assert told.lines[-1] == (
        "0 services         config changed on disk since 14:01:58 (pidfdctl plan)"
    )


@pytest.mark.parametrize(
    ("verb", "phases", "code"),
    [
        ("is-running", ["running", "running"], 0),
        ("is-running", ["running", "starting"], 3),
        ("is-ready", ["running"], 0),
        ("is-ready", ["running", "backoff"], 3),
        ("is-failed", ["running", "failed"], 0),
        ("is-failed", ["running", "backoff"], 3),
    ],
)
def test_predicates_speak_by_their_exit_code(pidfdctl, verb, phases, code):
    services = [service(f"s{n}", phase) for n, phase in enumerate(phases)]
    ran = pidfdctl(Scripted(Status=status(*services)), verb, "s*")

    assert ran == (code, "", "")


def test_a_predicate_of_an_unknown_name_is_neither_true_nor_false(pidfdctl):
    unknown = error("NoSuchService", name="x", suggestion=None)
    ran = pidfdctl(Scripted(Status=unknown), "is-ready", "x")

    assert ran.code == 4


def test_a_terminal_gets_colour_and_no_control_characters(pidfdctl):
    web = service("web", "failed", detail="\x1b[2J\nboo")
    ran = pidfdctl(Scripted(Status=status(web)), "status", terminal=True)

    assert "\x1b[31mfailed \x1b[0m" not in ran.out  # padded cells keep their padding inside
    assert ran.out.count("\x1b") == 2
    assert "\\x1b[2J\\x0aboo" in ran.out


def test_quiet_prints_nothing(pidfdctl):
    assert pidfdctl(Scripted(Status=status(*FIVE)), "status", "-q") == (0, "", "")


def test_an_answer_of_another_version_is_an_error_and_no_traceback(pidfdctl):
    daemon = Scripted()
    daemon.answers = lambda *_: [{"supervisor": supervisor(), "services": [{"x": 1}]}]
    ran = pidfdctl(daemon, "status")

    assert ran.code == 7
    assert "the daemon's answer is not understood: KeyError" in ran.err
