"""`supervisord-pidfd check`: what it prints, and how it ends."""

import json
import os
import resource

import pytest

from supervisord_pidfd.config import check

pytestmark = pytest.mark.once

WEB = '[service.web]\ncommand = "/bin/sh"\n'

DEMO = """\
[service.web]
cmomand = "/bin/web"
stop_timeout = "soon"
"""

DEMO_PROBLEMS = """\
demo.toml:1:1: error: service 'web' has no 'command' [missing-key]
    1 | [service.web]
      | ^^^^^^^^^^^^^
demo.toml:2:1: error: unknown key 'cmomand' in service 'web' (did you mean 'command'?) \
[unknown-key]
    2 | cmomand = "/bin/web"
      | ^^^^^^^
demo.toml:3:16: error: stop_timeout: not a duration: 'soon' (write "10s", "1m30s" or "infinity") \
[bad-value]
    3 | stop_timeout = "soon"
      |                ^^^^^^
3 errors, 0 warnings in 1 file
"""


@pytest.fixture(params=["command", "function"])
def run_check(request, daemon, capsys, monkeypatch):
    """Run `check` as the installed command, and in this process, where coverage sees it."""

    def run(*words, cwd=daemon.home):
        if request.param == "command":
            done = daemon.run("check", *words)
            return done.returncode, done.stdout, done.stderr
        monkeypatch.chdir(cwd)
        for name, value in daemon.environment().items():
            monkeypatch.setenv(name, value)
        code = check.main(list(words))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def home(daemon):
    daemon.home.chmod(0o755)
    return daemon.home


def test_problems_are_printed_as_the_reference_shows(run_check, home):
    (home / "demo.toml").write_text(DEMO)

    assert run_check("demo.toml") == (6, "", DEMO_PROBLEMS)


def test_a_valid_file(run_check, home):
    (home / "conf.d").mkdir()
    (home / "conf.d/a.toml").write_text("[service.a]\ncommand = '/bin/sh'\ninstances = 3\n")
    (home / "conf.d/b.toml").write_text("[service.b]\ncommand = '/bin/sh'\n")
    (home / "main.toml").write_text(f"include = ['conf.d/*.toml']\n{WEB}")

    assert run_check("main.toml") == (0, "ok: 5 services in 3 files\n", "")


def test_one_service_in_one_file(run_check, home):
    (home / "main.toml").write_text(WEB)

    assert run_check("-c", "main.toml") == (0, "ok: 1 service in 1 file\n", "")


def test_a_warning_is_no_error(run_check, home):
    (home / "main.toml").write_text(f"{WEB}directory = '/nonexistent'\n")
    code, out, err = run_check("main.toml")

    assert (code, out) == (0, "ok: 1 service in 1 file\n")
    assert "main.toml:3:13: warning: directory: no such directory: '/nonexistent'" in err
    assert err.endswith("0 errors, 1 warning in 1 file\n")


def test_unless_it_is_strict(run_check, home):
    (home / "main.toml").write_text(f"{WEB}directory = '/nonexistent'\n")
    code, out, err = run_check("main.toml", "--strict")

    assert (code, out) == (6, "")
    assert err.endswith("1 error, 0 warnings in 1 file\n")


def test_json(run_check, home):
    (home / "demo.toml").write_text(DEMO)
    code, out, err = run_check("--json", "demo.toml")
    answer = json.loads(out)

    assert (code, err, out.count("\n")) == (6, "", 1)
    assert list(answer) == ["format", "ok", "services", "files", "problems"]
    assert (answer["format"], answer["ok"], answer["services"]) == (1, False, 1)
    assert answer["files"] == ["demo.toml"]
    assert answer["problems"][1] == {
        "file": "demo.toml", "line": 2, "column": 1, "severity": "error", "code": "unknown-key",
        "key": "service.web.cmomand", "message": "unknown key 'cmomand' in service 'web'",
        "hint": "did you mean 'command'?", "source": 'cmomand = "/bin/web"', "see_also": [],
    }  # fmt: skip


CYCLE = """\
include = ["more.toml"]
[service.web]
command = "/bin/sh"
requires = ["dbb", "db"]
stop_timeout = "50s"
"""
MORE = """\
[service.db]
command = "/bin/sh"
after = ["web:started"]
stop_timeout = "50s"
"""
CYCLE_PROBLEMS = """\
main.toml:4:13: error: requires: no service 'dbb' (did you mean 'db'?) [no-such-service]
    4 | requires = ["dbb", "db"]
      |             ^^^^^
main.toml:4:20: error: requires: waits for itself: web → db → web [cycle]
    4 | requires = ["dbb", "db"]
      |                    ^^^^
see also more.toml:3:10
2 errors, 0 warnings in 1 file
"""


def test_a_cycle_is_told_with_its_path_and_both_places(run_check, home):
    (home / "main.toml").write_text(CYCLE)
    (home / "more.toml").write_text(MORE)
    code, out, err = run_check("main.toml")

    assert (code, out) == (6, "")
    assert err == CYCLE_PROBLEMS


def test_a_chain_of_stops_is_a_warning(run_check, home):
    (home / "main.toml").write_text(CYCLE.replace('"dbb", ', ""))
    (home / "more.toml").write_text(MORE.replace('after = ["web:started"]\n', ""))
    code, out, err = run_check("main.toml")

    assert (code, out) == (0, "ok: 2 services in 2 files\n")
    assert "stop_timeout: to stop web, then db may take 1m40s, longer than shutdown_timeout" in err


def test_json_of_a_valid_file(run_check, home):
    (home / "main.toml").write_text(WEB)
    code, out, _ = run_check("main.toml", "--json")

    assert code == 0
    assert json.loads(out) == {
        "format": 1, "ok": True, "services": 1, "files": ["main.toml"], "problems": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--what",), "unknown option '--what'"),
        (("-c",), "-c needs a file"),
        (("a", "b"), "check takes one file"),
        (("-c", "a", "b"), "check takes one file"),
    ],
)
def test_wrong_usage(run_check, words, message):
    code, out, err = run_check(*words)

    assert (code, out) == (2, "")
    assert message in err
    assert "usage: supervisord-pidfd check [FILE] [--json] [--strict]" in err


def test_a_file_that_is_not_there(run_check):
    code, out, err = run_check("gone.toml")

    assert (code, out) == (6, "")
    assert err.startswith("gone.toml:1:1: error: cannot read the file: ENOENT [unreadable]\n")


def test_without_descriptors_it_says_so(home, capsys):
    (home / "main.toml").write_text(WEB)
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        code = check.main([str(home / "main.toml")])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert code == 6
    assert "Too many open files" in capsys.readouterr().err


def test_a_fifo_does_not_hang(run_check, home):
    os.mkfifo(home / "main.toml")

    assert run_check("main.toml")[0] == 6
