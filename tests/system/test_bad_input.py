"""Every kind of bad input: a clear error and exit 6, or one service that says at which stage."""

import json
import os
import stat

import pytest

from tests.system.helpers import command

pytestmark = pytest.mark.once

OTHER = "[service.other]\ncommand = 'sleep 1000'\n"
GIVES_UP = "start_limit.burst = 1\nbackoff.delay = 0\n"

DEEP = "x = " + "[" * 1000 + "]" * 1000 + "\n"
LONG_KEY = ".".join(["a"] * (16 << 10)) + " = 1\n"

WRONG = {  # name: bytes of the file, code, place of the first problem, a part of what is said
    "unknown key": ("[service.a]\ncomand = 'true'\n", "missing-key", "1:1", "command"),
    "unknown table": ("[servcie.a]\ncommand = 'true'\n", "unknown-key", "1:2", "servcie"),
    "wrong type": ("[service.a]\ncommand = 3\n", "bad-type", "2:11", "command"),
    "wrong type below": (
        "[service.a]\ncommand = 'true'\nenvironment = { A = 1 }\n", "bad-type", "3:21", "A",
    ),
    "bad duration": (
        "[service.a]\ncommand = 'true'\nstop_timeout = 'soon'\n", "bad-value", "3:16", "soon",
    ),
    "bad signal": (
        "[service.a]\ncommand = 'true'\nstop_signal = 'SIGFOO'\n", "bad-value", "3:15", "SIGFOO",
    ),
    "bad name": ("[service.'a b']\ncommand = 'true'\n", "bad-value", "1:1", "a b"),
    "duplicate table": (
        "[service.a]\ncommand = 'true'\n[service.a]\ncommand = 'true'\n", "duplicate", "3:", "1:1",
    ),
    "empty command": ("[service.a]\ncommand = ''\n", "bad-value", "2:11", "command"),
    "empty list": ("[service.a]\ncommand = []\n", "bad-value", "2:11", "command"),
    "undefined variable": (
        "[service.a]\ncommand = 'true ${NONE_SUCH}'\n", "undefined-variable", "2:", "NONE_SUCH",
    ),
    "not yet": (
        "[service.a]\ncommand = 'true'\ntype = 'task'\n", "later", "3:", "not available",
    ),
    "32 KiB dotted key": (LONG_KEY, "too-large", "1:", ""),
    "1000 deep": (DEEP, "too-large", "1:", ""),
    "not UTF-8": (b"[service.a]\ncommand = 'caf\xe9'\n", "syntax", "2:", "UTF-8"),
    "NUL": (b"[service.a]\ncommand = 'a\0b'\n", "syntax", "2:", ""),
    "no TOML": ("command: sleep\n", "syntax", "1:", ""),
    "1 MiB and more": ("#" * (1 << 20) + "\n", "too-large", "1:", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_check_says_what_is_wrong_and_where(daemon, name):
    content, code, place, part = WRONG[name]
    path = daemon.home / "bad.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert not done.stdout
    assert "Traceback" not in done.stderr
    assert f"[{code}]" in done.stderr
    assert part in done.stderr
    assert f"bad.toml:{place}" in done.stderr.splitlines()[0]
    assert len(done.stderr) < 8192

    said = json.loads(daemon.run("check", str(path), "--json").stdout)
    assert said["ok"] is False
    assert code in {one["code"] for one in said["problems"]}


@pytest.mark.parametrize("name", ["wrong type", "32 KiB dotted key", "1000 deep", "not UTF-8"])
def test_run_refuses_what_check_refuses(daemon, name):
    content = WRONG[name][0]
    path = daemon.home / "bad.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    daemon.start(path)
    assert daemon.wait() == 6
    assert f"bad.toml:{WRONG[name][2]}" in daemon.stderr
    assert not daemon.running()


def test_a_did_you_mean(daemon):
    path = daemon.write_config("[service.a]\ncomand = 'true'\n")
    assert "did you mean 'command'?" in daemon.run("check", str(path)).stderr


def test_all_problems_are_told_in_one_pass(daemon):
    path = daemon.write_config(
        "[service.a]\ncomand = 'x'\nstop_timeout = 'soon'\n[service.b]\ncommand = 7\n"
    )
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert done.stderr.count(": error: ") == 4
    assert done.stderr.splitlines()[-1].startswith("4 errors, 0 warnings")


def test_a_duplicate_service_names_both_places(daemon):
    (daemon.home / "b.toml").write_text("[service.web]\ncommand = 'b'\n")
    (daemon.home / "b.toml").chmod(0o644)
    path = daemon.write_config("include = ['b.toml']\n[service.web]\ncommand = 'a'\n")
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert "[duplicate]" in done.stderr
    assert "b.toml:1:" in done.stderr
    assert "supervisord.toml:2:" in done.stderr


def test_a_missing_include_is_an_error_and_an_empty_match_is_not(daemon):
    path = daemon.write_config(f"include = ['none.toml']\n{OTHER}")
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert "none.toml" in done.stderr
    path = daemon.write_config(f"include = ['none.d/*.toml']\n{OTHER}")
    assert daemon.run("check", str(path)).returncode == 0


@pytest.mark.parametrize("kind", ["fifo", "directory", "missing", "device", "loop"])
def test_what_is_no_regular_file_is_refused_at_once(daemon, kind):
    path = daemon.home / "odd.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert "odd.toml" in done.stderr
    assert "Traceback" not in done.stderr
    daemon.start(path)
    assert daemon.wait() == 6
    assert "odd.toml" in daemon.stderr


def test_an_include_that_is_a_fifo(daemon):
    os.mkfifo(daemon.home / "part.toml")
    path = daemon.write_config(f"include = ['*.toml']\n{OTHER}".replace("*", "part"))
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert "part.toml" in done.stderr


@pytest.mark.root
def test_a_file_that_others_may_write_is_refused_by_root(daemon):
    path = daemon.write_config(OTHER)
    path.chmod(0o666)
    done = daemon.run("check", str(path))
    assert done.returncode == 6
    assert "[unsafe-file]" in done.stderr


def test_a_bad_value_on_the_command_line(daemon):
    path = daemon.write_config(OTHER)
    done = daemon.run("run", "-c", str(path), "--set", "service.other.stop_timeout=soon")
    assert done.returncode == 6
    assert "soon" in done.stderr


# -- what goes wrong at a start ---------------------------------------------------------------


def executable(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


TOO_LONG = "command = ['true', '${V}${V}${V}']\n"
AT_START = {  # name: lines, stage, error
    "no such directory": ("command = 'true'\ndirectory = '/no/such'\n", "directory", "ENOENT"),
    "directory is a file": (
        "command = 'true'\ndirectory = '/etc/passwd'\n", "directory", "ENOTDIR",
    ),
    "not found": (command("no-such-program-at-all"), "exec", "ENOENT"),
    "no such path": (command("/no/such/program"), "exec", "ENOENT"),
    "a directory": (command("/usr"), "exec", "EACCES"),
    "not executable": (command("HOME/plain"), "exec", "EACCES"),
    "no format": (command("HOME/empty"), "exec", "ENOEXEC"),
    "no interpreter": (command("HOME/script"), "exec", "ENOENT"),
    "missing user": ("command = 'true'\nuser = 'no-such-user'\n", "resolve", ""),
    "missing group": ("command = 'true'\ngroup = 'no-such-group'\n", "resolve", ""),
    "missing env file": (
        "command = 'true'\nenvironment_file = ['none.env']\n", "environment", "ENOENT",
    ),
    "env file is a directory": (
        "command = 'true'\nenvironment_file = ['/usr']\n", "environment", "",
    ),
    "env file is a fifo": (
        "command = 'true'\nenvironment_file = ['HOME/fifo']\n", "environment", "",
    ),
    "a word too long": (f"{TOO_LONG}environment = {{ V = '{'x' * 50_000}' }}\n", "exec", "E2BIG"),
    "missing stdin": ("command = 'true'\nstdin = 'file:/no/such'\n", "stdio", "ENOENT"),
}  # fmt: skip


def test_a_service_that_cannot_start_names_its_stage(daemon, reaper_mode):
    executable(daemon.home / "plain", "#!/bin/sh\n", mode=0o644)
    executable(daemon.home / "empty", "")
    executable(daemon.home / "script", "#!/no/such/interpreter\n")
    os.mkfifo(daemon.home / "fifo")
    services = "".join(
        f"[service.{name.replace(' ', '-')}]\n{lines}{GIVES_UP}".replace("HOME", str(daemon.home))
        for name, (lines, _, _) in AT_START.items()
    )
    daemon.start(OTHER + services, "--set", f"supervisor.reaper={reaper_mode}")

    for name, (_, stage, error) in AT_START.items():
        failed = daemon.wait_for("service.spawn_failed", service=name.replace(" ", "-"))
        assert failed["stage"] == stage, (name, failed)
        assert failed["error"], name
        if error:
            assert failed["error"] == error, (name, failed)
        gave_up = daemon.wait_for("service.gave_up", service=name.replace(" ", "-"))
        assert (gave_up["cause"], gave_up["reason"]) == ("spawn_error", "limit")
    names = [name.replace(" ", "-") for name in AT_START]
    seen = daemon.look("other", *names)
    assert (seen["other"]["phase"], seen["other"]["run"]) == ("running", 1)
    assert {seen[name]["phase"] for name in names} == {"failed"}
    assert not daemon.told("loop.callback_crashed")
    assert daemon.stop() == 0
    assert not daemon.running()


def test_check_warns_of_what_will_fail_here_and_passes(daemon):
    path = daemon.write_config(
        f"{OTHER}[service.a]\ncommand = 'no-such-program'\n[service.b]\ncommand = 'true'\n"
        "user = 'no-such-user'\ndirectory = '/no/such'\nenvironment_file = ['none.env']\n"
    )
    done = daemon.run("check", str(path))
    assert done.returncode == 0
    for code in ("no-such-executable", "no-such-user", "no-such-directory", "unreadable"):
        assert f"[{code}]" in done.stderr
    assert daemon.run("check", str(path), "--strict").returncode == 6


def test_an_unreadable_env_file_as_an_ordinary_user(ordinary):
    secret = ordinary.home / "secret.env"
    secret.write_text("PASSWORD=hunter2\n")
    secret.chmod(0)
    assert not stat.S_IMODE(secret.stat().st_mode)
    ordinary.start(
        f"{OTHER}[service.a]\ncommand = 'true'\nenvironment_file = ['{secret}']\n{GIVES_UP}"
    )
    failed = ordinary.wait_for("service.spawn_failed", service="a")
    assert (failed["stage"], failed["error"]) == ("environment", "EACCES")
    assert str(secret) in failed["subject"]
    ordinary.wait_for("service.gave_up", service="a")
    assert ordinary.look("other", "a")["other"]["phase"] == "running"
    assert "[unreadable]" in ordinary.stderr
    assert ordinary.stop() == 0


def test_an_unreadable_file_as_an_ordinary_user(ordinary):
    path = ordinary.write_config(OTHER)
    path.chmod(0)
    done = ordinary.run("check", str(path))
    assert done.returncode == 6
    assert "EACCES" in done.stderr or "ermission denied" in done.stderr


def test_a_backing_off_service_is_mended_without_the_daemon(daemon):
    """What is missing at load is looked for again at each start."""
    program = daemon.home / "later"
    daemon.start(f"[service.a]\n{command(program)}backoff.delay = '20ms'\nstart_limit.burst = 0\n")
    for _ in range(3):
        daemon.wait_for("service.restart_scheduled", service="a", cause="spawn_error")
    executable(program, "#!/bin/sh\nexec sleep 1000\n").rename(program)
    daemon.wait_for("service.ready", service="a")
    assert daemon.stop() == 0


def test_secrets_are_never_shown(daemon):
    (daemon.home / "db").write_text("hunter2\n")
    (daemon.home / "db").chmod(0o600)
    daemon.start(
        f"[service.a]\n{command('/no/such')}"
        f"secrets = {{ DB_PASSWORD = 'file:{daemon.home}/db' }}\n"
        f"environment = {{ API_TOKEN = 'tok3n', X = '${{NONE:-}}' }}\n{GIVES_UP}"
    )
    daemon.wait_for("service.gave_up", service="a")
    assert daemon.stop() == 0
    everything = "".join(map(json.dumps, daemon.events)) + daemon.stderr + "".join(daemon.output)
    assert "hunter2" not in everything
    assert "tok3n" not in everything
