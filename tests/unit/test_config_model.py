"""The whole pass over a file: what is accepted, what it means, what is refused and where."""

import json
import math
import os
import signal
import textwrap
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisord_pidfd.config import later, model, tables
from supervisord_pidfd.config.problems import render
from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    Identity,
    LimitAction,
    LogFormat,
    LogSpec,
    MetricsSpec,
    Output,
    Overflow,
    ReadyKind,
    ReadySpec,
    ResourceLimit,
    RestartPolicy,
    Scope,
    ServiceSpec,
    ServiceType,
    StartFault,
    StartLimitSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
    WebSpec,
    dump,
    load,
)
from tests.support.config import load_file, load_text

WEB = '[service.web]\ncommand = "/bin/sh"\n'


def told(reply):
    """Say of each problem where it is, its code and its words."""
    return [(p.line, p.column, p.code, p.message) for p in reply.problems]


def codes(reply):
    return [(p.severity, p.code) for p in reply.problems]


@pytest.fixture
def spec_of(tmp_path):
    """Load a file whose one service has these lines; return its spec."""

    def load_one(lines, before="", **members):
        text = f"{before}\n[service.web]\n{textwrap.dedent(lines)}"
        if "command" not in lines:
            text += '\ncommand = "/bin/sh"\n'
        reply = load_text(tmp_path, text, **members)
        assert reply.ok, render(reply.problems)
        return reply.services[0]

    return load_one


@pytest.fixture
def problems_of(tmp_path):
    """Load a text that is wrong; return what is told."""

    def load_wrong(text, **members):
        reply = load_text(tmp_path, text, **members)
        assert not reply.ok
        assert reply.services == ()
        return told(reply)

    return load_wrong


# -- what is accepted -----------------------------------------------------------------------------


def _file(path):
    return LogSpec(to=("file",), path=path, stderr_path=path)


def test_the_smallest_useful_file(tmp_path):
    text = "[service.web]\ncommand = \"/bin/sh -c 'exit 0'\""
    reply = load_text(tmp_path, text, log_dir=str(tmp_path))

    assert reply.services == (
        ServiceSpec(
            name="web", argv=("/bin/sh", "-c", "exit 0"), program="/bin/sh",
            fast=reply.services[0].fast, group="web", origin=f"{tmp_path}/main.toml:1",
            output=Output.CAPTURED, log=_file(f"{tmp_path}/web.log"),
            written=f'[["command","\\"/bin/sh -c \'exit 0\'\\"","{tmp_path}/main.toml",2]]',
        ),
    )  # fmt: skip
    assert reply.supervisor == SupervisorSpec()
    assert reply.problems == ()
    assert reply.files == (f"{tmp_path}/main.toml",)
    assert reply.service_count == 1


def test_output_goes_to_standard_output_where_no_file_can_be_made(tmp_path):
    text = '[service.web]\ncommand = "/bin/sh"\n[service.db]\ncommand = "/bin/sh"'
    reply = load_text(tmp_path, text, log_dir=f"{tmp_path}/main.toml/log")

    assert [service.log.to for service in reply.services] == [("stdout",), ("stdout",)]
    assert told(reply) == [
        (1, 1, "no-such-directory",
         f"log.to: auto is stdout, because no file can be made in '{tmp_path}/main.toml/log'"),
    ]  # fmt: skip


def test_an_empty_file_is_a_daemon_without_services(tmp_path):
    reply = load_text(tmp_path, "")

    assert (reply.ok, reply.services, reply.service_count) == (True, (), 0)


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        ('command = ["/bin/sh", "a b"]', "argv", ("/bin/sh", "a b")),
        ("command = '''/bin/sh 'a b' \"c\" d\\ e'''", "argv", ("/bin/sh", "a b", "c", "d e")),
        ('type = "exec"', "type", ServiceType.SIMPLE),
        ('type = "oneshot"', "type", ServiceType.ONESHOT),
        ("autostart = false", "autostart", False),
        ('description = "x"', "description", "x"),
        ('restart = "on-abnormal"', "restart", RestartPolicy.ON_ABNORMAL),
        ('type = "oneshot"', "restart", RestartPolicy.NO),
        ('type = "oneshot"\nrestart = "always"', "restart", RestartPolicy.ALWAYS),
        ('umask = "077"', "umask", 0o77),
        ("inherit_environment = false", "inherit", ()),
        ("inherit_environment = true", "inherit", ("*",)),
        ('inherit_environment = ["LC_*", "LANG"]', "inherit", ("LC_*", "LANG")),
        ('unset_environment = ["A*"]', "unset", ("A*",)),
        ('stdin = "null"', "stdin", "null"),
        ('stdin = "inherit"', "stdin", "inherit"),
        ('start_timeout = "2m"', "start_timeout", 120.0),
        ('start_timeout = "infinity"', "start_timeout", math.inf),
        ('type = "oneshot"', "start_timeout", math.inf),
        ('type = "oneshot"\nstart_timeout = 5', "start_timeout", 5.0),
        ('runtime_max = "1d"', "runtime_max", 86400.0),
        ('stop_signal = "INT"', "stop", StopSpec((StopStep(2, 10.0),))),
        ("stop_timeout = 3", "stop", StopSpec((StopStep(15, 3.0),))),
        ('stop_timeout = "infinity"', "stop", StopSpec((StopStep(15, math.inf),))),
        ('parent_death_signal = "KILL"', "parent_death_signal", 9),
        ("success_exit_codes = [0, 3]", "success", Ends((0, 3), (1, 2, 15, 13))),
        ('success_signals = ["USR1"]', "success", Ends((0,), (10,))),
        ('type = "oneshot"', "success", Ends((0,), ())),
        ('restart_prevent = [3, "SEGV", 9]', "restart_prevent", Ends((3, 9), (11,))),
        ('restart_force = ["KILL"]', "restart_force", Ends((), (9,))),
        ("critical = true", "critical", True),
        ("main = true", "main", True),
        (
            "backoff = { delay = 1, factor = 1, max_delay = 9, jitter = 0, reset_after = 120 }",
            "backoff",
            BackoffSpec(1.0, 1.0, 9.0, 0.0, 120.0),
        ),
        ("backoff.delay = 0", "backoff", BackoffSpec(delay=0.0)),
        (
            'start_limit = { burst = 0, interval = "1h", action = "slow-retry" }',
            "start_limit",
            StartLimitSpec(0, 3600.0, LimitAction.SLOW_RETRY),
        ),
        ("start_limit.burst = 3", "start_limit", StartLimitSpec(burst=3)),
        ("ready.delay = 2", "ready", ReadySpec(ReadyKind.DELAY, 2.0)),
        ('stop.scope = "auto"', "stop", StopSpec()),
        ('stop.scope = "mixed"', "stop", StopSpec(scope=Scope.MIXED)),
        ('stop.leftovers = "keep"', "stop", StopSpec(keep_leftovers=True)),
        ('stop.leftovers = "kill"', "stop", StopSpec()),
        (
            'stop_timeout = 70\nstop.sequence = ["TERM 5s", "SIGINT 1m"]',
            "stop",
            StopSpec((StopStep(15, 5.0), StopStep(2, 60.0))),
        ),
        ('log.to = ["stdout"]', "output", Output.CAPTURED),
        ('log.to = ["journal", "syslog"]', "output", Output.CAPTURED),
        ('log.to = ["auto"]', "output", Output.CAPTURED),
        ('log = { to = ["direct"], path = "/srv/a" }', "output", Output.DIRECT),
        (
            'log = { to = ["direct"], path = "/srv/a", ring = 5 }',
            "log",
            LogSpec(path="/srv/a", stderr_path="/srv/a"),
        ),
        ('log.to = ["null"]', "output", Output.NULL),
        ('log.to = ["inherit"]', "output", Output.INHERIT),
        ('log.to = ["file"]', "output", Output.CAPTURED),
        ('log.path = "/var/log/web"', "output", Output.CAPTURED),
        ("log.to = []", "output", Output.NULL),
        (
            'limits = { nofile = 10, core = "infinity", as = "1G:infinity", stack = "1:2" }',
            "limits",
            (
                ResourceLimit("as", 1 << 30, -1), ResourceLimit("core", -1, -1),
                ResourceLimit("nofile", 10, 10), ResourceLimit("stack", 1, 2),
            ),
        ),
        ("scheduling.nice = 5", "nice", 5),
        ("scheduling.oom_score_adjust = 500", "oom_score_adjust", 500),
        ('scheduling.cpu_affinity = "0"', "cpu_affinity", (0,)),
        ('scheduling.policy = "batch"', "sched_policy", "batch"),
        ('scheduling = { policy = "rr", priority = 7 }', "sched_priority", 7),
        ("sandbox.no_new_privileges = true", "no_new_privileges", True),
    ],
)  # fmt: skip
def test_a_key_becomes_a_member(spec_of, line, member, value):
    assert getattr(spec_of(line), member) == value


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        ("", {}),
        ('log.format = "auto"', {}),
        ('log.format = "json"', {"format": LogFormat.JSON}),
        ('log.path = "/srv/a.log"', {"path": "/srv/a.log", "stderr_path": "/srv/a.log"}),
        ('log.stderr_path = "/srv/e.log"', {"stderr_path": "/srv/e.log"}),
        (
            'log.path = "/srv/${service.name}-${X:-y}.log"',
            {"path": "/srv/web-y.log", "stderr_path": "/srv/web-y.log"},
        ),
        ('log.rotate_every = "daily"', {"rotate_at": "daily"}),
        ('log.rotate_every = "6h"', {"rotate_every": 21600.0}),
        (
            'log.rotate_size = "1MiB"\nlog.rotate_keep = 3\nlog.rotate_total = "2MiB"',
            {"rotate_size": 1 << 20, "rotate_keep": 3, "rotate_total": 2 << 20},
        ),
        ("log.compress = true\nlog.strip_ansi = true", {"compress": True, "strip_ansi": True}),
        (
            'log.overflow = "drop"\nlog.block_for = "infinity"',
            {"overflow": Overflow.DROP, "block_for": math.inf},
        ),
        ('log.rate_limit = "100/1s"', {"rate_count": 100, "rate_per": 1.0}),
        ('log.ring = "1MiB"\nlog.max_line = "4KiB"', {"ring": 1 << 20, "max_line": 4096}),
        ("ready.log = '^ready'", {"ready": "^ready"}),
    ],
)
def test_what_becomes_of_captured_output(spec_of, lines, members):
    expected = LogSpec(("file",), path="/var/log/it/web.log", stderr_path="/var/log/it/web.log")
    found = spec_of(f'log.to = ["file"]\n{lines}', before='supervisor.log_dir = "/var/log/it"\n')

    assert found.log == expected._replace(**members)
    assert found.ready.kind == (ReadyKind.LOG if "ready" in members else ReadyKind.EXECUTED)


def test_auto_is_where_the_daemon_says(spec_of):
    spec = spec_of('log.to = ["auto"]', auto_to=("journal",))

    assert spec.log.to == ("journal",)


@pytest.mark.parametrize("sink", ["journal", "stdout", "file"])
def test_auto_of_the_daemons_own_events_is_that_too(tmp_path, sink):
    text = 'supervisor = { log_dir = "/l", log.to = ["auto"] }'
    reply = load_text(tmp_path, text, auto_to=(sink,))
    path = "/l/supervisord.log" if sink == "file" else ""

    assert reply.supervisor.own_log == LogSpec((sink,), path=path)


@pytest.mark.parametrize(
    ("lines", "member", "value"),
    [
        ('runtime_dir = "run"', "runtime_dir", "{}/run"),
        ('runtime_dir = "/run/x"', "runtime_dir", "/run/x"),
        ('reaper = "sigchld"', "reaper", "sigchld"),
        ("subreaper = false", "subreaper", False),
        ('shutdown_timeout = "5s"', "shutdown_timeout", 5.0),
        ("exit_when_idle = true", "exit_when_idle", True),
        ('exit_when_idle = "auto"', "exit_when_idle", None),
        ("start_concurrency = 4", "start_concurrency", 4),
        ('signals = { HUP = "TERM", USR1 = "ignore" }', "signals", ((1, 15), (10, 0))),
        ('log.level = "debug"', "log_level", "debug"),
        ('log.format = "json"', "log_format", "json"),
        ("", "own_log", LogSpec(("stdout",))),
        ('log.to = ["journal", "syslog"]', "own_log", LogSpec(("journal", "syslog"))),
        ("log.to = []", "own_log", LogSpec(("null",))),
        (
            'log_dir = "/l"\nlog.to = ["file"]\nlog.format = "text"\nlog.rotate_every = "daily"',
            "own_log",
            LogSpec(("file",), LogFormat.TEXT, "/l/supervisord.log", rotate_at="daily"),
        ),
        (
            'log = { to = ["file"], path = "/l/own", rotate_size = "1KiB", compress = true }',
            "own_log",
            LogSpec(("file",), path="/l/own", rotate_size=1024, compress=True),
        ),
        ('socket = "none"\nstate_dir = "/x"', "runtime_dir", None),
    ],
)
def test_a_key_of_the_daemon(tmp_path, lines, member, value):
    reply = load_text(tmp_path, f"[supervisor]\n{lines}")

    assert reply.ok, render(reply.problems)
    value = value.format(tmp_path) if isinstance(value, str) else value
    assert getattr(reply.supervisor, member) == value


def test_the_keys_of_the_gateway(tmp_path):
    reply = load_text(
        tmp_path,
        """
        [metrics]
        listen = ["127.0.0.1:9877", "[::1]:1", "unix:m.sock"]
        include = "^web"
        exclude = "x$"
        phases = false
        resources = false
        sample_every = "1m"
        canary = "30s"
        [web]
        user = 7
        """,
        uid=1000,
    )

    assert reply.ok, render(reply.problems)
    assert reply.supervisor.metrics == MetricsSpec(
        ("127.0.0.1:9877", "[::1]:1", f"unix:{tmp_path}/m.sock"), "^web", "x$",
        phases=False, resources=False, sample_every=60.0, canary=30.0,
    )  # fmt: skip
    assert reply.supervisor.web == WebSpec(user="7")


def test_one_address_is_a_list_of_one(tmp_path):
    reply = load_text(tmp_path, 'metrics.listen = "0.0.0.0:9877"')

    assert reply.supervisor.metrics.listen == ("0.0.0.0:9877",)


@pytest.mark.parametrize("text", ['[service.a]\ncommand="x"\n[service.a.stop]\nscope="mixed"',
    '[service]\na = { command = "x", stop.scope = "mixed" }',
    'service.a.command = "x"\nservice.a.stop.scope = "mixed"'])  # fmt: skip
def test_tables_may_be_written_in_every_way(tmp_path, text):
    assert load_text(tmp_path, text).services[0].stop.scope is Scope.MIXED


# -- defaults, instances, groups ------------------------------------------------------------------


def test_defaults_are_merged_key_by_key(tmp_path):
    reply = load_text(
        tmp_path,
        """
        [defaults]
        stop_timeout = 20
        restart_force = [1, 2]
        environment = { A = "1", B = "2" }
        backoff = { delay = 5, factor = 3 }
        [service.web]
        command = "x"
        restart_force = [3]
        environment = { B = "9" }
        backoff.delay = 7
        [service.plain]
        command = "x"
        """,
    )
    web, plain = reply.services

    assert dict(web.environment) == {"A": "1", "B": "9"}
    assert web.restart_force == Ends((3,))
    assert web.backoff == BackoffSpec(delay=7.0, factor=3.0)
    assert web.stop.timeout == 20
    assert dict(plain.environment) == {"A": "1", "B": "2"}


def test_instances_by_number(tmp_path):
    reply = load_text(
        tmp_path, '[service.w]\ncommand = "x ${service.instance} ${service.name}"\ninstances = 2'
    )

    assert [(s.name, s.instance, s.argv, s.group) for s in reply.services] == [
        ("w@0", "0", ("x", "0", "w@0"), "w"),
        ("w@1", "1", ("x", "1", "w@1"), "w"),
    ]
    assert reply.service_count == 2


def test_instances_by_name(tmp_path):
    reply = load_text(tmp_path, '[service.w]\ncommand = "x"\ninstances = ["eu", "us"]')

    assert [s.name for s in reply.services] == ["w@eu", "w@us"]


def test_groups(tmp_path):
    reply = load_text(
        tmp_path,
        """
        [service.a]
        command = "x ${service.group}"
        [service.w]
        command = "x"
        instances = 3
        [service.alone]
        command = "x"
        [group.back]
        services = ["a", "w@1"]
        [group.rest]
        services = ["w@0"]
        """,
    )

    groups = {s.name: s.group for s in reply.services}
    assert groups == {"a": "back", "w@0": "rest", "w@1": "back", "w@2": "w", "alone": "alone"}
    assert reply.services[0].argv == ("x", "back")


# -- ${} and the environment ----------------------------------------------------------------------


def test_names_in_every_field_that_may_have_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_DAEMON", "daemon")
    (tmp_path / "env-web").write_text("FROM_FILE=file\nPORT=1")
    (tmp_path / "place").mkdir()
    reply = load_text(
        tmp_path,
        """
        [service.web]
        command = ["sh", "${PORT}", "${FROM_FILE}", "${FROM_DAEMON}", "${NO:-d e}", "$${X}", "$Y"]
        directory = "${config.dir}/place"
        environment_file = ["env-${service.name}", "-missing"]
        environment = { PORT = "80", URL = "http://${service.name}:${PORT}/", D = "${log.dir}" }
        user = "${WHO:-root}"
        group = "${WHO:-0}"
        """,
        uid=0, log_dir="/var/log/x", runtime_dir="/run/x",
    )  # fmt: skip
    (web,) = reply.services

    assert web.argv == ("sh", "80", "file", "daemon", "d e", "${X}", "$Y")
    assert web.directory == f"{tmp_path}/place"
    assert dict(web.environment) == {
        "FROM_FILE": "file", "PORT": "80", "URL": "http://web:80/", "D": "/var/log/x",
    }  # fmt: skip
    assert (web.identity.user, web.identity.gid) == ("root", 0)


def test_a_value_never_becomes_two_words(spec_of):
    spec = spec_of('command = "/bin/sh ${A} x"\nenvironment = { A = "1 2" }')

    assert spec.argv == ("/bin/sh", "1 2", "x")


def test_the_order_of_the_environment(tmp_path):
    (tmp_path / "one").write_text("A=one\nB=one\nC=one\nD=one")
    (tmp_path / "two").write_text("A=two\nB=two\nC=two")
    (tmp_path / "secret").write_text("hidden\n")
    (tmp_path / "secret").chmod(0o600)
    reply = load_text(
        tmp_path,
        """
        [defaults]
        environment = { A = "defaults", E = "defaults" }
        [service.web]
        command = "sh ${A} ${E}"
        environment_file = ["one", "two"]
        environment = { B = "own", C = "own" }
        secrets = { C = "file:secret" }
        """,
    )

    assert dict(reply.services[0].environment) == {
        "A": "two", "B": "own", "C": "hidden", "D": "one", "E": "defaults",
    }  # fmt: skip
    assert reply.services[0].argv == ("sh", "two", "defaults")


def test_files_are_shared_by_services(tmp_path):
    (tmp_path / "env").write_text("A=1\nB=2")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    shared = "command = 'sh ${A}'\nenvironment_file = ['env']\nsecrets.S = 'file:secret'\n"
    reply = load_text(tmp_path, f"[service.a]\n{shared}[service.b]\n{shared}")

    assert [dict(s.environment) for s in reply.services] == [{"A": "1", "B": "2", "S": "x"}] * 2


def test_an_environment_that_is_none_beside_a_file(problems_of, tmp_path):
    (tmp_path / "env").write_text("A=1")

    found = problems_of(f"{WEB}environment = 3\nenvironment_file = ['env']")
    assert found == [(3, 15, "bad-type", "environment: not a table: 3")]


def test_what_is_unset_is_not_there(spec_of):
    spec = spec_of('environment = { AB = "1", B = "2" }\nunset_environment = ["A*"]')

    assert spec.environment == (("B", "2"),)


def test_credentials(spec_of, tmp_path, monkeypatch):
    (tmp_path / "db").write_text("pw")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert spec_of('secrets = { DB = "credential:db" }').environment == (("DB", "pw"),)


def test_without_credentials_the_service_cannot_start(spec_of, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    fault = spec_of('secrets = { DB = "credential:db" }').fault
    assert fault == StartFault("environment", "secret DB", "ENOENT")


def test_the_directories_of_the_daemon(tmp_path):
    reply = load_text(
        tmp_path,
        """
        supervisor = { log_dir = "logs", runtime_dir = "/run/y" }
        [service.web]
        command = "sh ${log.dir} ${runtime.dir} ${config.dir}"
        """,
        log_dir="/var/log/x",
    )

    assert reply.services[0].argv == ("sh", f"{tmp_path}/logs", "/run/y", str(tmp_path))


def test_without_a_runtime_directory_it_is_undefined(problems_of, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    found = problems_of('[service.a]\ncommand = "x ${runtime.dir}"', uid=1000)

    message = "command: ${runtime.dir} is not defined"
    assert (2, 11, "undefined-variable", message) in found


# -- facts of the host ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "severity_code", "column", "message"),
    [
        ('command = "no-such-program-x"', "no-such-executable", 11, "cannot execute"),
        ('command = ["{}"]', "no-such-executable", 11, "EISDIR"),
        ('directory = "{}/gone"', "no-such-directory", 13, "no such directory: '{}/gone'"),
        ('user = "no such user"', "no-such-user", 8, "user: no such user 'no such user'"),
        ('group = "no such"', "no-such-user", 9, "group: no such group 'no such'"),
        ('user = "root"\ngroup = "no such"', "no-such-user", 9, "group: no such group 'no such'"),
        ('supplementary_groups = ["x y"]', "no-such-user", 24, "no such group 'x y'"),
        ('stdin = "file:gone"', "unreadable", 9, "stdin: cannot read '{}/gone': ENOENT"),
        ('environment_file = ["gone"]', "unreadable", 21, "cannot read '{}/gone': no such file"),
        ('environment_file = ["-{}"]', "unreadable", 21, "it is a directory"),
        ('environment_file = ["fifo"]', "unreadable", 21, "it is not a regular file"),
        ('environment_file = ["main.toml"]', "unreadable", 21, "line 1 is not KEY=VALUE"),
        ('secrets = { A = "file:gone" }', "unreadable", 17, "secrets.A: cannot read it"),
        ('secrets = { A = "file:main.toml" }', "world-readable-secret", 17, "everybody"),
        ('command = "sh -c x | y"', "shell-syntax", 11, "'|' is passed on as an argument"),
        ('stop_timeout = "2m"', "stop-budget", 16, "2m is longer than shutdown_timeout (1m20s)"),
        ('stop.sequence = ["TERM 2m"]', "stop-budget", 17, "stop.sequence: 2m is longer"),
    ],
)  # fmt: skip
def test_a_fact_of_the_host_is_a_warning(tmp_path, lines, severity_code, column, message):
    os.mkfifo(tmp_path / "fifo")
    lines = lines.replace("{}", str(tmp_path))
    command = "" if "command" in lines else 'command = "/bin/sh"\n'
    reply = load_text(tmp_path, f"[service.web]\n{lines}\n{command}", uid=0)
    (tmp_path / "main.toml").chmod(0o644)

    assert codes(reply) == [("warning", severity_code)]
    (problem,) = reply.problems
    assert problem.column == column
    assert message.replace("{}", str(tmp_path)) in problem.message
    assert len(reply.services) == 1


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('user = "no such"', StartFault("resolve", "user 'no such'", "ENOENT")),
        ('supplementary_groups = ["x y"]', StartFault("resolve", "group 'x y'", "ENOENT")),
        ('environment_file = ["gone"]', StartFault("environment", "{}/gone", "ENOENT")),
        ('environment_file = ["-{}"]', StartFault("environment", "{}", "EISDIR")),
        ('secrets.A = "file:gone"', StartFault("environment", "secret A", "ENOENT")),
        (
            'environment_file = ["gone"]\nuser = "no such"',
            StartFault("resolve", "user 'no such'", "ENOENT"),
        ),
        ('environment_file = ["-gone"]', None),
        ('command = "no-such-program-x"', None),
        ('directory = "gone"', None),
    ],
)
def test_what_the_start_will_fail_at(spec_of, tmp_path, lines, fault):
    spec = spec_of(lines.replace("{}", str(tmp_path)), uid=0)

    expected = fault and fault._replace(subject=fault.subject.replace("{}", str(tmp_path)))
    assert spec.fault == expected


def test_what_only_an_unreadable_file_defines_is_no_error(spec_of):
    spec = spec_of(
        'environment_file = ["gone"]\ncommand = "/bin/sh ${A}"\nenvironment = { B = "${A}" }'
    )

    assert spec.fault == StartFault("environment", spec.fault.subject, "ENOENT")


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        ("user = 0", [8]),
        ("group = 0", [9]),
        ('supplementary_groups = ["0"]', [24]),
        ('user = "root"\nsupplementary_groups = ["0"]', [8, 24]),
        ("scheduling.nice = -1", [19]),
        ("scheduling.oom_score_adjust = -1", [31]),
        ('scheduling = { policy = "fifo", priority = 1 }', [25]),
        ("scheduling.nice = 1", []),
        ("user = 4200000001", []),
    ],
)
def test_what_needs_root(tmp_path, lines, columns):
    reply = load_text(tmp_path, f"[service.a]\n{lines}\ncommand = '/bin/sh'", uid=4200000001)

    assert [(p.column, p.code) for p in reply.problems] == [(c, "needs-root") for c in columns]


def test_a_daemon_that_is_not_root_may_name_itself(tmp_path):
    reply = load_text(
        tmp_path, "[service.a]\nuser = 4200000001\ncommand = '/bin/sh'", uid=4200000001
    )

    assert reply.services[0].identity is None


def test_root_runs_the_gateway_as_somebody_else(tmp_path):
    reply = load_text(tmp_path, 'metrics.listen = "127.0.0.1:1"\nweb.user = 12', uid=0)

    assert reply.supervisor.web.identity.uid == 12


@pytest.mark.parametrize("lines", ["", 'web.user = "no such"'])
def test_the_gateway_is_never_root_for_want_of_an_account(tmp_path, lines):
    reply = load_text(tmp_path, f'metrics.listen = "127.0.0.1:1"\n{lines}', uid=0)

    assert reply.supervisor.web.identity.uid != 0
    assert [p.code for p in reply.problems] == (["no-such-user"] if lines else [])


def test_the_gateway_is_never_nobody(problems_of):
    assert problems_of('metrics.listen = "127.0.0.1:1"\nweb.user = 65534', uid=0)[0][:3] == (
        2, 12, "bad-value",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ('environment = { PATH = "{}" }', True),
        ('environment = { PATH = "/nowhere" }', False),
        ("", True),
        ('inherit_environment = ["A"]', False),
        ('unset_environment = ["PATH"]', False),
        ('inherit_environment = ["PATH"]', True),
    ],
)
def test_the_program_is_searched_in_the_services_path(tmp_path, monkeypatch, lines, found):
    tool = tmp_path / "tool-of-this-test"
    tool.write_bytes(b"")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = lines.replace("{}", str(tmp_path))
    reply = load_text(tmp_path, f'[service.a]\ncommand = "tool-of-this-test"\n{lines}')

    assert reply.services[0].program == (str(tool) if found else None)


def test_stdin_must_be_local_for_the_fast_path(spec_of, tmp_path):
    (tmp_path / "in").write_text("")
    with_file = spec_of('stdin = "file:in"')
    without = spec_of("")

    assert with_file.stdin == f"file:{tmp_path}/in"
    assert with_file.fast == without.fast
    assert not spec_of('stdin = "file:/nonexistent/x"').fast


def test_a_daemon_that_is_pid_1_has_less_time(tmp_path):
    reply = load_text(tmp_path, f"{WEB}stop_timeout = 9", pid1=True)

    assert codes(reply) == [("warning", "stop-budget")]


def test_a_longer_budget_is_enough(tmp_path):
    text = f"supervisor.shutdown_timeout = '3m'\n{WEB}stop_timeout = '2m'"

    assert load_text(tmp_path, text).problems == ()


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # syntax
        ("a = ", (1, 5, "syntax", "invalid value")),
        ("[service.web\n", (1, 13, "syntax", "expected ']' at the end of a table declaration")),
        ("d = 1979-02-30\n", (1, 5, "syntax", "invalid date or datetime")),
        # unknown-key
        ("foo = 1\n", (1, 1, "unknown-key", "unknown key 'foo' in the file")),
        ("[supervisor]\nfoo = 1\n", (2, 1, "unknown-key", "unknown key 'foo' in [supervisor]")),
        (f"{WEB}foo = 1\n", (3, 1, "unknown-key", "unknown key 'foo' in service 'web'")),
        (
            f"{WEB}backoff = {{ x = 1 }}\n",
            (3, 13, "unknown-key", "unknown key 'backoff.x' in service 'web'"),
        ),
        (f"{WEB}limits.x = 1\n", (3, 8, "unknown-key", "unknown key 'limits.x' in service 'web'")),
        ("[defaults]\nx = 1\n", (2, 1, "unknown-key", "unknown key 'x' in [defaults]")),
        (
            '[defaults]\ncommand = "x"\n',
            (2, 1, "unknown-key", "'command' cannot stand in [defaults]"),
        ),
        (
            "[group.g]\nservices = []\nx = 1\n",
            (3, 1, "unknown-key", "unknown key 'x' in group 'g'"),
        ),
        # missing-key
        ("[service.web]\n", (1, 1, "missing-key", "service 'web' has no 'command'")),
        ("service.web = {}\n", (1, 9, "missing-key", "service 'web' has no 'command'")),
        ("[group.g]\n", (1, 1, "missing-key", "group 'g' has no 'services'")),
        ("service.a.b.c = 1\nservice.a.command = 'x'",
         (1, 11, "unknown-key", "unknown key 'b' in service 'a'")),
        # bad-type
        ("service = 3", (1, 11, "bad-type", "service: not a table: 3")),
        ("service.web = 3", (1, 15, "bad-type", "web: not a table: 3")),
        ("supervisor = 3", (1, 14, "bad-type", "supervisor: not a table: 3")),
        ("defaults = []", (1, 12, "bad-type", "defaults: not a table: a list")),
        ("include = 3", (1, 11, "bad-type", "include: not a list of strings: 3")),
        ("include = [3]", (1, 11, "bad-type", "include: not a list of strings: a list")),
        (f"{WEB}backoff = 3", (3, 11, "bad-type", "backoff: not a table: 3")),
        (f"{WEB}environment = 3", (3, 15, "bad-type", "environment: not a table: 3")),
        (f"{WEB}stop.sequence = 3", (3, 17, "bad-type", "stop.sequence: not a list: 3")),
        (f"{WEB}autostart = 1", (3, 13, "bad-type", "autostart: not a boolean: 1")),
        (f"{WEB}description = 1", (3, 15, "bad-type", "description: not a string: 1")),
        (f"{WEB}restart = true", (3, 11, "bad-type", "restart: not a string: true")),
        (f"{WEB}environment.A = 1", (3, 17, "bad-type", "environment.A: not a string: 1")),
        (f"{WEB}environment.A = []", (3, 17, "bad-type", "environment.A: not a string: a list")),
        (f"{WEB}instances = true",
         (3, 13, "bad-type", "instances: not a number or a list of names: true")),
        (f"{WEB}backoff.factor = 'x'", (3, 18, "bad-type", "backoff.factor: not a number: 'x'")),
        (f"{WEB}start_limit.burst = 1.5",
         (3, 21, "bad-type", "start_limit.burst: not an integer: 1.5")),
        (f"{WEB}success_exit_codes = [0, 'x']",
         (3, 26, "bad-type", "success_exit_codes: not an integer: 'x'")),
        ("service.a.command = 3", (1, 21, "bad-type", "command: not a command: 3")),
        ("service.a.command = [3]", (1, 21, "bad-type", "command: not a string: 3")),
        (f"{WEB}inherit_environment = 3",
         (3, 23, "bad-type", "inherit_environment: not a boolean or a list: 3")),
        (f"{WEB}log.to = 'stdout'", (3, 10, "bad-type", "log.to: not a list: 'stdout'")),
        (f"{WEB}secrets.A = 3", (3, 13, "bad-type", "secrets.A: not a reference to a secret")),
        # bad-value
        (f"{WEB}stop_timeout = 'soon'",
         (3, 16, "bad-value", "stop_timeout: not a duration: 'soon'")),
        (f"{WEB}ready.delay = 'infinity'",
         (3, 15, "bad-value", "ready.delay: must not be infinite")),
        (f"{WEB}stop_signal = 'FOO'", (3, 15, "bad-value", "stop_signal: not a signal: 'FOO'")),
        (f"{WEB}restart = 'maybe'",
         (3, 11, "bad-value", ("restart: must be one of no, always, on-failure, on-success, "
          "on-abnormal, on-watchdog, unless-stopped, not 'maybe'"))),
        (f"{WEB}umask = '999'", (3, 9, "bad-value", "umask: not an octal mode: '999'")),
        (f"{WEB}instances = 0", (3, 13, "bad-value", "instances: must be from 1 to 10000, not 0")),
        (f"{WEB}instances = 1000000000",
         (3, 13, "bad-value", "instances: must be from 1 to 10000, not 1000000000")),
        (f"{WEB}instances = []",
         (3, 13, "bad-value", "instances: there must be at least one instance")),
        (f"{WEB}instances = ['a', 'a']",
         (3, 13, "bad-value", "instances: two instances have the same name")),
        (f"{WEB}instances = ['a', '-b']",
         (3, 13, "bad-value", "instances: not an instance name: '-b'")),
        ("service.a.command = ''", (1, 21, "bad-value", "command: the command is empty")),
        ("service.a.command = []", (1, 21, "bad-value", "command: the command is empty")),
        ("service.a.command = ['', 'x']", (1, 21, "bad-value", "command: the command is empty")),
        ('service.a.command = "\'x"',
         (1, 21, "bad-value", "command: cannot split into words: no closing quotation")),
        ('service.a.command = "a\\u0000"',
         (1, 21, "bad-value", "command: must not contain a NUL character")),
        (f"{WEB}directory = ''", (3, 13, "bad-value", "directory: must not be empty")),
        (f"{WEB}stdin = 'file:'", (3, 9, "bad-value", "stdin: not a source: 'file:'")),
        (f"{WEB}user = -1", (3, 8, "bad-value", "user: not a user or group: -1")),
        (f"{WEB}scheduling.nice = 20",
         (3, 19, "bad-value", "scheduling.nice: must be from -20 to 19, not 20")),
        (f"{WEB}backoff.factor = nan",
         (3, 18, "bad-value", "backoff.factor: must be from 1 to 1000, not nan")),
        (f"{WEB}backoff.jitter = 1.5",
         (3, 18, "bad-value", "backoff.jitter: must be from 0 to 1, not 1.5")),
        (f"{WEB}limits.nofile = '9:1'",
         (3, 17, "bad-value", "limits.nofile: the soft limit is above the hard one: '9:1'")),
        (f"{WEB}limits.nofile = 'x'", (3, 17, "bad-value", "limits.nofile: not a size: 'x'")),
        (f"{WEB}stop.sequence = ['TERM']",
         (3, 18, "bad-value", "stop.sequence: not a step: 'TERM'")),
        (f"{WEB}secrets.A = 'plain'",
         (3, 13, "bad-value", "secrets.A: not a reference to a secret")),
        (f"{WEB}secrets.A = 'credential:../x'",
         (3, 13, "bad-value", "secrets.A: not a reference to a secret")),
        (f"{WEB}secrets.A = 'credential:..'",
         (3, 13, "bad-value", "secrets.A: not a reference to a secret")),
        (f"{WEB}environment = {{ 'A=' = 'x' }}",
         (3, 17, "bad-value", "environment.A=: not a variable name: 'A='")),
        (f"{WEB}success_exit_codes = [256]",
         (3, 23, "bad-value", "success_exit_codes: must be from 0 to 255, not 256")),
        (f"{WEB}restart_prevent = ['FOO']",
         (3, 20, "bad-value", "restart_prevent: not a signal: 'FOO'")),
        ("metrics.listen = 'localhost:1'",
         (1, 18, "bad-value", "metrics.listen: not an address: 'localhost:1'")),
        ("metrics.include = '('",
         (1, 19, "bad-value", ("metrics.include: not a regular expression: missing ), "
          "unterminated subpattern at position 0"))),
        ("metrics.phases = 3", (1, 18, "bad-value", "metrics.phases: not a boolean: 3")),
        ("supervisor.signals.FOO = 'TERM'",
         (1, 20, "bad-value", "supervisor.signals.FOO: not a signal: 'FOO'")),
        ("supervisor.signals.HUP = 'x'",
         (1, 26, "bad-value", "supervisor.signals.HUP: not a signal: 'x'")),
        ("[service.'a b']", (1, 10, "bad-value", "not a service name: 'a b'")),
        ("[service.all]", (1, 10, "bad-value", "not a service name: 'all'")),
        ("[service.-x]", (1, 10, "bad-value", "not a service name: '-x'")),
        ("[service.'..']", (1, 10, "bad-value", "not a service name: '..'")),
        (f"[service.{'a' * 65}]", (1, 10, "bad-value", f"not a service name: '{'a' * 65}'")),
        ("[group.'a/b']", (1, 8, "bad-value", "not a group name: 'a/b'")),
        # too-large
        (f"service.a.command = ['x', '{'y' * 50000}', '{'z' * 20000}']",
         (1, 1, "too-large", "a line of more than 64 KiB")),
        ("metrics.include = '" + "a" * 1001 + "'",
         (1, 19, "too-large", "metrics.include: longer than 1000 characters")),
        # conflict
        (f"{WEB}type = 'oneshot'\nready.delay = 1",
         (4, 15, "conflict",
          "ready.delay: not with type oneshot, which is ready when it has ended")),
        (f"{WEB}scheduling.priority = 1",
         (3, 23, "conflict", "scheduling.priority: only with scheduling.policy fifo or rr")),
        (f"{WEB}scheduling.policy = 'rr'",
         (3, 21, "conflict", "scheduling.policy: 'rr' needs scheduling.priority")),
        (f"{WEB}main = true\n[service.b]\ncommand = '/bin/sh'\nmain = true",
         (6, 8, "conflict", "main: at most one service can be the main one")),
        (f"{WEB}main = true\ninstances = 2",
         (3, 8, "conflict", "main: at most one service can be the main one")),
        (f"{WEB}[group.a]\nservices = ['web']\n[group.b]\nservices = ['web']",
         (6, 13, "conflict", "services: 'web' is in a group already")),
        (f"{WEB}instances = 2\n[group.a]\nservices = ['web@1', 'web']",
         (5, 22, "conflict", "services: 'web' is in a group already")),
        # duplicate
        (f"{WEB}{WEB}", (3, 1, "duplicate", "service 'web' is defined twice")),
        (f"{WEB}command = 'x'", (3, 1, "duplicate", "key 'service.web.command' is set twice")),
        # no-such-service
        (f"{WEB}[group.a]\nservices = ['wbe']",
         (4, 13, "no-such-service", "services: no service 'wbe'")),
        (f"{WEB}instances = 1\n[group.a]\nservices = ['web@1']",
         (5, 13, "no-such-service", "services: no service 'web@1'")),
        # undefined-variable
        ("service.a.command = 'sh ${NOPE_X}'",
         (1, 21, "undefined-variable", "command: ${NOPE_X} is not defined")),
        ("service.a.command = ['/bin/sh', '${NOPE_X}${NOPE_Y}']",
         (1, 33, "undefined-variable", "command: ${NOPE_X}, ${NOPE_Y} are not defined")),
        (f"{WEB}environment.A = '${{NOPE_X}}'",
         (3, 17, "undefined-variable", "environment.A: ${NOPE_X} is not defined")),
        (f"{WEB}directory = '${{NOPE_X}}'",
         (3, 13, "undefined-variable", "directory: ${NOPE_X} is not defined")),
        (f"{WEB}user = '${{NOPE_X}}'",
         (3, 8, "undefined-variable", "user: ${NOPE_X} is not defined")),
        (f"{WEB}environment_file = ['/${{NOPE_X}}']",
         (3, 21, "undefined-variable", "environment_file: ${NOPE_X} is not defined")),
        # cycle
        (f"{WEB}environment = {{ A = '${{B}}', B = '${{A}}' }}",
         (3, 21, "cycle", "environment.A: these name each other: A -> B -> A")),
        # later
        (f"{WEB}type = 'task'",
         (3, 8, "later", "type: 'task' is not available in this version")),
        (f"{WEB}stop.scope = 'cgroup'",
         (3, 14, "later", "stop.scope: 'cgroup' is not available in this version")),
        (f"{WEB}log.to = ['direct']",
         (3, 10, "missing-key",
          'log.to: "direct" needs log.path, the file that the service opens')),
        (f"{WEB}log.to = ['file', 'null']",
         (3, 10, "bad-value", "log.to: null with something else")),
        (f"{WEB}log.rotate_every = '1ms'",
         (3, 20, "bad-value", "log.rotate_every: shorter than 1s")),
        (f"{WEB}log.rate_limit = 5",
         (3, 18, "bad-value", "log.rate_limit: not a rate: 5")),
        (f"{WEB}log.overflow = 'wait'",
         (3, 16, "bad-value",
          "log.overflow: must be one of block, drop, drop_newest, not 'wait'")),
        (f"{WEB}ready.log = '('",
         (3, 13, "bad-value", ("ready.log: not a regular expression: missing ), unterminated"
          " subpattern at position 0"))),
        (f"{WEB}ready.log = '(a+)+'",
         (3, 13, "bad-value", "ready.log: there are lines that it would take for ever on")),
        (f"{WEB}ready.log = 'up'\nlog.to = ['null']",
         (3, 13, "conflict",
          'ready.log: needs log.to, such as ["file"], else nobody reads the output')),
        ("supervisor.log.to = ['null', 'file']",
         (1, 21, "bad-value", "supervisor.log.to: null with something else")),
        ("supervisor.log.to = 'file'",
         (1, 21, "bad-type", "supervisor.log.to: not a list: 'file'")),
        ("supervisor.log.to = ['inherit']",
         (1, 21, "bad-value",
          ("supervisor.log.to: must be one of file, stdout, journal, syslog, auto, null,"
           " not 'inherit'"))),
        ("supervisor.log.format = 'raw'",
         (1, 25, "later", "supervisor.log.format: 'raw' is not available in this version")),
    ],
)  # fmt: skip
def test_a_problem_is_told_at_its_place(problems_of, text, expected):
    assert problems_of(text)[0] == expected


@pytest.mark.parametrize("key", sorted(later.KEYS))
def test_a_later_key_is_refused_at_its_key(problems_of, key):
    path = ["web" if part == "*" else part for part in key]
    shown = ".".join(path[2:] if path[0] == "service" else path)
    services = "group.web.services = []\nservice.web.command = '/bin/sh'\n"
    found = problems_of(f"{services}{'.'.join(path)} = 1")

    column = len(".".join(path[:-1])) + 2
    assert found == [(3, column, "later", f"{shown}: not available in this version")]


def test_a_later_key_of_the_defaults_is_told_once(problems_of):
    found = problems_of(f"{WEB}[service.b]\ncommand = 'sh'\n[defaults]\ncgroup.pids_max = 3")

    assert found == [(6, 1, "later", "defaults.cgroup: not available in this version")]


def test_what_is_wrong_in_the_defaults_is_told_once(problems_of):
    found = problems_of(f"{WEB}[service.b]\ncommand = 'sh'\n[defaults]\nautostart = 1")

    assert found == [(6, 13, "bad-type", "autostart: not a boolean: 1")]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f"{WEB}cmomand = 1", "did you mean 'command'?"),
        (f"{WEB}backoff.dealy = 1", "did you mean 'backoff.delay'?"),
        (f"{WEB}limits.nofiles = 1", "did you mean 'limits.nofile'?"),
        (f"{WEB}ready.htpp = 1", "did you mean 'ready.http'?"),
        (f"{WEB}autorestart = 1", "did you mean 'restart'?"),
        (f"{WEB}startsecs = 1", "did you mean 'ready.delay'?"),
        (f"{WEB}xyzzy = 1", None),
        ("[serviice.web]", "did you mean 'service'?"),
        ("supervisor.log.leevel = 1", "did you mean 'log.level'?"),
        ("supervisor.readusers = 1", "did you mean 'read_users'?"),
        (f"{WEB}environment.A = 1", 'write "1"'),
        (f"{WEB}[group.g]\nservices = ['wep']", "did you mean 'web'?"),
        (f"{WEB}[group.g]\nservices = ['q']", None),
        (f"{WEB}umask = 22", 'write "022" or "0077"'),
    ],
)
def test_a_hint_says_what_was_meant(tmp_path, text, hint):
    assert load_text(tmp_path, text).problems[0].hint == hint


def test_every_error_in_one_pass(problems_of):
    found = problems_of(
        """\
[service.web]
command = "/bin/sh ${NOPE_X}"
stop_timeout = "soon"
autostat = true
[service.db]
[service.web]
[service.ok]
command = "/bin/sh ${NOPE_Y}"
instances = 0
"""
    )

    assert [(line, code) for line, _, code, _ in found] == [
        (2, "undefined-variable"), (3, "bad-value"), (4, "unknown-key"), (5, "missing-key"),
        (6, "duplicate"), (8, "undefined-variable"), (9, "bad-value"),
    ]  # fmt: skip


def test_a_problem_names_its_key(tmp_path):
    reply = load_text(tmp_path, f"{WEB}stop.sequence = ['TERM 1s', 'x']")

    assert reply.problems[0].key == "service.web.stop.sequence.1"


@pytest.mark.parametrize(
    "line", ["[service.'{} x']\n", "[service.s{}]\nx = 1\n", "service.web.k{} = 1\n"]
)
def test_more_problems_than_anybody_reads_are_not_even_worded(tmp_path, line):
    text = "".join(line.replace("{}", str(n)) for n in range(1100))

    assert len(load_text(tmp_path, text).problems) == 1000


def test_a_duplicate_names_both_places(tmp_path):
    reply = load_text(tmp_path, f"{WEB}{WEB}")

    assert len(reply.problems) == 1
    assert reply.problems[0].see_also == (f"{tmp_path}/main.toml:1:1",)


def test_too_many_duplicates_end_the_file(tmp_path):
    reply = load_text(tmp_path, "a = 1\n" * 5000)

    assert len(reply.problems) == 100
    assert {p.code for p in reply.problems} == {"duplicate"}


def test_too_many_problems_are_cut(tmp_path):
    reply = load_text(tmp_path, "".join(f"k{n} = 1\n" for n in range(2000)))

    assert len(reply.problems) == 1000


def test_an_argument_longer_than_execve_accepts(problems_of):
    lines = "\n".join(["x" * 60_000] * 3)

    found = problems_of(f"service.a.command = ['sh', '''{lines}''']")
    assert found[0][2:] == ("too-large", "command: longer than execve(2) accepts")


def test_growing_variables_end(problems_of):
    pairs = "".join(f"V{n} = '${{V{n - 1}}}${{V{n - 1}}}'\n" for n in range(1, 40))
    found = problems_of(f"{WEB}[service.web.environment]\nV0 = '{'x' * 1000}'\n{pairs}")

    assert {code for *_, code, _ in found} == {"too-large"}


NO_NEWLINE = "expected newline or end of document after a statement"


# -- bad bytes, and what would be too much --------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = 1\nb = '\xff'\n", (2, 6, "syntax", "not UTF-8: byte 0xff")),
        ("ä = '".encode() + b"\xe9'", (1, 6, "syntax", "not UTF-8: byte 0xe9")),
        (b"a = 1\n\0", (2, 1, "syntax", "a NUL character")),
        (b"\xef\xbb\xbfa = 1", (1, 1, "syntax", "a byte order mark; TOML has none")),
        (b"a = '\x1b'", (1, 6, "syntax", "found invalid character '\\x1b'")),
        (b"a = 1\nb" + b"x" * 65536, (2, 1, "too-large", "a line of more than 64 KiB")),
        (b"x." * 16384, (1, 1, "too-large", "a key of more than 64 dots")),
        (b"a = " + b"[" * 1000, (1, 37, "too-large", "nested deeper than 32 brackets")),
        (b"a = " + b"{b=" * 1000, (1, 101, "too-large", "nested deeper than 32 brackets")),
        (b"a = 0x" + b"f" * 60000, (1, 5, "too-large", "a value of more than 1000 characters")),
        (b"a = 1 b = 2", (1, 7, "syntax", NO_NEWLINE)),
    ],
)  # fmt: skip
def test_bad_bytes(problems_of, content, expected):
    assert problems_of(content) == [expected]


@pytest.mark.parametrize(
    "content", [b"x." * 16384 + b"y = 1", b"a = " + b"[" * 1000, b"[" * 60000, b"{" * 60000]
)
def test_bombs_are_refused_at_once(tmp_path, content):
    before = time.process_time()
    load_text(tmp_path, content)

    assert time.process_time() - before < 1  # it takes about 1 ms; without limits, many seconds


# -- what must not be seen ------------------------------------------------------------------------

CANARY = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"{WEB}environment = {{ DB_PASSWORD = '{CANARY}', X = 3 }}",
        f"{WEB}environment.API_KEY = ['{CANARY}']",
        f"{WEB}environment.my_token = 3\nsecrets = '{CANARY}'",
        f"{WEB}secrets = {{ A = '{CANARY}', B = '{CANARY}' }}",
        f"{WEB}secrets.A = '''{CANARY}\n{CANARY}'''",
        f"{WEB}environment.A_SECRET = '{CANARY}\n",
        f"{WEB}secrets = {{ A = '{CANARY}'",
        f"{WEB}[service.web.secrets]\nA = '{CANARY}' x",
        f"{WEB}[service.web.secrets]\nA = '{CANARY}'\nA = '{CANARY}'",
        f"{WEB}environment = {{ TOKEN = '{CANARY}', TOKEN = '{CANARY}' }}",
        f"{WEB}environment.X_KEY = {CANARY}",
        f"PASSWORD = '{CANARY}",
    ],
)
def test_a_secret_is_never_printed(tmp_path, text):
    reply = load_text(tmp_path, text)

    assert not reply.ok
    assert CANARY not in repr(reply)
    assert CANARY not in render(reply.problems)


def test_what_is_beside_a_secret_is_shown(tmp_path):
    text = f"{WEB}environment = {{ KEY = '{CANARY}', X = 3 }}"

    problem = load_text(tmp_path, text).problems[0]
    assert problem.source == 'environment = { KEY = "…", X = 3 }'
    assert problem.source[problem.caret - 1] == "3"


def test_a_number_for_a_secret_is_not_repeated(tmp_path):
    problem = load_text(tmp_path, f"{WEB}environment.PASSWORD = 1234").problems[0]

    assert "1234" not in render([problem])
    assert problem.message == 'environment.PASSWORD: not a string: "…"'


# -- --set and -- CMD -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "member", "value"),
    [
        ("service.web.restart=always", "restart", RestartPolicy.ALWAYS),
        ("service.web.restart = 'always'", "restart", RestartPolicy.ALWAYS),
        ("service.web.stop_timeout=5s", "stop", StopSpec((StopStep(15, 5.0),))),
        ("service.web.autostart=false", "autostart", False),
        ("service.web.success_exit_codes=[0, 1]", "success", Ends((0, 1), (1, 2, 15, 13))),
        ('service.web.environment={B="2"}', "environment", (("A", "1"), ("B", "2"))),
        ("defaults.umask='077'", "umask", 0o77),
        ("defaults.description=hello world", "description", "hello world"),
    ],
)
def test_a_setting_wins_over_the_file(tmp_path, setting, member, value):
    text = f"{WEB}environment.A = '1'\nrestart = 'no'"
    reply = load_text(tmp_path, text, overrides=(setting,))

    assert reply.ok, render(reply.problems)
    assert getattr(reply.services[0], member) == value


def test_the_last_setting_wins(tmp_path):
    reply = load_text(tmp_path, "", overrides=("metrics.listen=1.1.1.1:1", "metrics.listen=[]"))

    assert reply.supervisor.metrics.listen == ()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nonsense", "not KEY=VALUE"),
        ("=x", "not KEY=VALUE"),
        ("", "not KEY=VALUE"),
        ("[a]=x", "not KEY=VALUE"),
        ("a b=x", "not KEY=VALUE"),
        ("service.web.description='x", "illegal character"),
        ("service.web.description=[1", "unclosed array"),
        ("service.web.description=a\nb = 2", "after a statement"),
        ("service.web.description=a\nb = 'c'", "invalid value"),
        ("x." * 80 + "y=1", "more than 64 dots"),
        ("service.web.foo=1", "unknown key 'foo' in service 'web'"),
        ("service.web.umask=1", "umask: not an octal mode: 1"),
    ],
)
def test_a_setting_that_is_wrong(tmp_path, setting, message):
    reply = load_text(tmp_path, WEB, overrides=(setting,))

    assert not reply.ok
    assert reply.problems[0].file == "--set"
    assert message in reply.problems[0].message or reply.problems[0].code == "syntax"


def test_the_place_of_a_setting_is_the_setting(tmp_path):
    problem = load_text(tmp_path, WEB, overrides=("service.web.umask=9",)).problems[0]

    assert (problem.line, problem.column, problem.source) == (1, 19, "service.web.umask=9")


def test_a_command_alone_is_a_single_service():
    reply = load_file(None, command=("/bin/sh", "-c", "echo ${HOME} $$"), start_dir="/")

    assert reply.services == (
        ServiceSpec(
            name="main", argv=("/bin/sh", "-c", "echo ${HOME} $$"), program="/bin/sh",
            fast=reply.services[0].fast, group="main", restart=RestartPolicy.NO, main=True,
            stdin="inherit", foreground=True, origin="--:1",
            written=reply.services[0].written,
        ),
    )  # fmt: skip
    assert [line[:2] for line in json.loads(reply.services[0].written)] == [
        ["command", '["/bin/sh", "-c", "echo ${HOME} $$"]'], ["main", "true"],
        ["restart", '"no"'], ["stdin", '"inherit"'], ["log.to", '["inherit"]'],
    ]  # fmt: skip
    assert reply.files == ()


def test_a_command_beside_a_file_is_one_more_service(tmp_path):
    reply = load_text(
        tmp_path, f"{WEB}[defaults]\numask = '077'", command=("/bin/sh",),
        overrides=("service.main.stop_timeout=1s", "service.main.restart=always"),
    )  # fmt: skip
    web, main = reply.services

    assert main.name == "main"
    assert (main.stdin, main.foreground, main.main) == ("null", False, True)
    assert (main.umask, main.stop.timeout) == (0o77, 1.0)
    assert main.restart is RestartPolicy.ALWAYS
    assert web.name == "web"


def test_a_command_beside_a_service_of_its_name(tmp_path):
    reply = load_text(tmp_path, "[service.main]\ncommand = '/bin/sh'", command=("/bin/sh",))

    assert [(p.file, p.code, p.see_also) for p in reply.problems] == [
        ("--", "duplicate", (f"{tmp_path}/main.toml:1:1",))
    ]


def test_the_place_of_a_command_is_the_command_line(tmp_path):
    reply = load_text(tmp_path, WEB, command=("no-such-program-x",))

    assert [(p.file, p.line, p.column) for p in reply.problems] == [("--", 1, 1)]


def test_a_command_that_is_not_there_is_a_warning():
    reply = load_file(None, command=("no-such-program-x",), start_dir="/")

    assert [(p.file, p.code, p.source) for p in reply.problems] == [
        ("--", "no-such-executable", "-- no-such-program-x")
    ]


def test_no_file_and_no_command_is_nothing():
    assert load_file(None).services == ()


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "conf.d").mkdir()
    return tmp_path


def write(folder, name, text):
    (folder / name).write_text(text)


def test_included_files_are_sorted_by_bytes(folder):
    for name in ("b.toml", "a.toml", "Z.toml", "not.tml", ".hidden.toml", "c.toml~"):
        write(folder, f"conf.d/{name}", f"[service.{name[0]}]\ncommand = '/bin/sh'")

    reply = load_text(folder, f"include = ['conf.d/*', 'none/*.toml']\n{WEB}")

    assert [s.name for s in reply.services] == ["web", "Z", "a", "b"]
    assert [os.path.basename(f) for f in reply.files] == [
        "main.toml",
        "Z.toml",
        "a.toml",
        "b.toml",
    ]
    assert reply.services[1].origin == f"{folder}/conf.d/Z.toml:1"


def test_a_file_named_twice_is_read_once(folder):
    write(folder, "conf.d/a.toml", "[service.a]\ncommand = '/bin/sh'")

    reply = load_text(folder, "include = ['conf.d/a.toml', 'conf.d/*.toml', 'main.toml']")

    assert [s.name for s in reply.services] == ["a"]


def test_relative_paths_start_at_the_file_that_names_them(folder):
    write(folder, "conf.d/a.toml", "[service.a]\ncommand = '/bin/sh'\ndirectory = 'x'")
    (folder / "conf.d/x").mkdir()
    (folder / "y").mkdir()

    reply = load_text(folder, "include = ['conf.d/a.toml']\n[defaults]\nstdin = 'file:y'", uid=0)

    assert reply.services[0].directory == f"{folder}/conf.d/x"
    assert reply.services[0].stdin == f"file:{folder}/y"


def test_problems_of_all_files(folder):
    write(folder, "conf.d/a.toml", "[service.web]\ncommand = '/bin/sh'\n")
    write(folder, "conf.d/b.toml", "[supervisor]\nreaper = 'auto'\n[service.b]\nx = ")
    write(folder, "conf.d/c.toml", "include = []\n[supervisor]\nsubreaper = true")
    write(folder, "conf.d/d.toml", "[supervisor]\nsubreaper = false\nfoo = 1")

    reply = load_text(folder, f"include = ['conf.d/*.toml', 'gone.toml']\n{WEB}x = 1")

    assert [(os.path.basename(p.file), p.line, p.code, p.see_also) for p in reply.problems] == [
        ("a.toml", 1, "duplicate", (f"{folder}/main.toml:2:1",)),
        ("b.toml", 4, "syntax", ()),
        ("c.toml", 1, "conflict", ()),
        ("d.toml", 2, "duplicate", (f"{folder}/conf.d/c.toml:3:1",)),
        ("d.toml", 3, "unknown-key", ()),
        ("main.toml", 1, "unreadable", ()),
        ("main.toml", 4, "unknown-key", ()),
    ]


def test_a_missing_include_is_told_at_its_value(problems_of):
    assert problems_of("include = ['a/*.toml', 'gone.toml']") == [
        (1, 24, "unreadable", "include: no such file: 'gone.toml'")
    ]


def test_an_include_that_is_no_file(problems_of, folder):
    os.mkfifo(folder / "conf.d/x.toml")

    assert problems_of("include = ['conf.d/*.toml']") == [
        (
            1, 12, "unsafe-file",
            f"include: cannot read '{folder}/conf.d/x.toml': it is not a regular file",
        )
    ]  # fmt: skip


def test_too_many_files(problems_of, folder):
    for number in range(1030):
        (folder / f"conf.d/{number}.toml").touch()

    assert problems_of("include = ['conf.d/*.toml']") == [
        (1, 12, "too-large", "include: more than 1024 files")
    ]


def test_too_many_patterns(problems_of):
    patterns = ", ".join(["'x*'"] * 2000)

    assert problems_of(f"include = [{patterns}]") == [
        (1, 11, "bad-type", "include: not a list of strings: '2000 patterns'")
    ]


def test_too_many_bytes(problems_of, folder):
    for number in range(9):
        write(folder, f"conf.d/{number}.toml", ("#" * 1000 + "\n") * 1000)

    assert problems_of("include = ['conf.d/*.toml']")[0][2] == "too-large"


@pytest.mark.parametrize(
    ("make", "code", "why"),
    [
        (lambda _: None, "unreadable", "ENOENT"),
        (lambda path: path.mkdir(), "unsafe-file", "it is not a regular file"),
        (os.mkfifo, "unsafe-file", "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "unsafe-file", "it is not a regular file"),
        (lambda path: path.symlink_to(path.name), "unreadable", "ELOOP"),
        (lambda path: path.write_bytes(b"#" * 2**20 + b"#"), "too-large", "larger than 1 MiB"),
    ],
)
def test_a_main_file_that_is_none(tmp_path, make, code, why):
    file = tmp_path / "x.toml"
    make(file)
    reply = load_file(file, overrides=("service.a.umask=022",))

    assert [(p.file, p.line, p.code) for p in reply.problems] == [(str(file), 1, code)]
    assert why in reply.problems[0].message
    assert reply.files == (str(file),)


def test_a_name_that_no_file_can_have(tmp_path):
    assert load_file(tmp_path / "a\0b").problems[0].code == "unreadable"


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "why"),
    [
        (0o664, 0o700, "others than root can write it"),
        (0o646, 0o700, "others than root can write it"),
        (0o644, 0o775, "others than root can write its directory"),
        (0o644, 0o757, "others than root can write its directory"),
        (0o644, 0o1777, None),
        (0o644, 0o755, None),
    ],
)
@pytest.mark.root
def test_what_others_can_write_is_not_for_root(tmp_path, file_mode, folder_mode, why):
    (tmp_path / "d").mkdir()
    file = tmp_path / "d/x.toml"
    file.touch()
    file.chmod(file_mode)
    (tmp_path / "d").chmod(folder_mode)

    problems = load_file(file).problems
    assert [p.code for p in problems] == (["unsafe-file"] if why else [])
    assert why is None or why in problems[0].message
    assert load_file(file, uid=1000).problems == ()


@pytest.mark.root
def test_the_directory_of_a_link_and_of_its_file_are_looked_at(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open/x.toml").touch()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link.toml").symlink_to("open/x.toml")

    assert [p.code for p in load_file(tmp_path / "link.toml").problems] == ["unsafe-file"]


@pytest.mark.root
@pytest.mark.parametrize("which", ["file", "directory"])
def test_what_belongs_to_others_is_not_for_root(tmp_path, which):
    (tmp_path / "d").mkdir()
    file = tmp_path / "d/x.toml"
    file.touch()
    os.chown(file if which == "file" else tmp_path / "d", 1000, 1000)

    (problem,) = load_file(file).problems
    assert problem.code == "unsafe-file"
    assert "belongs to uid 1000" in problem.message


# -- descriptors, digest --------------------------------------------------------------------------


def test_a_file_that_does_not_fit_says_what_it_needs(tmp_path):
    text = f"metrics.listen = '127.0.0.1:1'\n{WEB}instances = 100\nlog.to = ['null']"
    reply = load_text(tmp_path, text, max_files=297)

    assert told(reply) == [(1, 1, "too-large", "needs 298 descriptors, the limit is 297")]
    assert reply.problems[0].hint == "raise RLIMIT_NOFILE"
    assert reply.service_count == 100


@pytest.mark.parametrize("limit", [298, -1])
def test_a_file_that_fits(tmp_path, limit):
    text = f"metrics.listen = '127.0.0.1:1'\n{WEB}instances = 100\nlog.to = ['null']"

    assert load_text(tmp_path, text, max_files=limit).ok


def test_the_digest_changes_with_the_meaning_alone(tmp_path):
    one = load_text(tmp_path, WEB)
    commented = load_text(tmp_path, f"{WEB}# a comment")
    other = load_text(tmp_path, f"{WEB}stop_timeout = 3")

    assert len(one.digest) == 8
    assert one.digest == commented.digest != other.digest


# -- properties -----------------------------------------------------------------------------------

SPEC_LENGTHS = st.floats(0, 1e8) | st.just(math.inf)
SPECS = st.builds(
    ServiceSpec,
    name=st.text(min_size=1), argv=st.lists(st.text(), max_size=3).map(tuple),
    program=st.none() | st.text(), fast=st.booleans(), type=st.sampled_from(ServiceType),
    restart=st.sampled_from(RestartPolicy), start_timeout=SPEC_LENGTHS,
    environment=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
    stop=st.builds(
        StopSpec, st.lists(st.builds(StopStep, st.integers(1, 64), SPEC_LENGTHS)).map(tuple),
        st.sampled_from(Scope), st.booleans(),
    ),
    identity=st.none()
    | st.builds(Identity, st.integers(0), st.integers(0), st.lists(st.integers(0)).map(tuple)),
    limits=st.lists(st.builds(ResourceLimit, st.text(), st.integers(), st.integers())).map(tuple),
    fault=st.none() | st.builds(StartFault, st.text(), st.text(), st.text()),
    success=st.builds(Ends, st.lists(st.integers(0, 255)).map(tuple)),
)  # fmt: skip


@given(SPECS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_spec_survives_the_pipe(spec):
    assert load(ServiceSpec, dump(spec)) == spec


TOML_WORDS = st.sampled_from(
    ["[service.web]", "[defaults]", "[supervisor]", "[group.g]", "command", "environment",
     "stop_timeout", "restart", "limits", "services", "instances", "log.to", "=", ".", "'x'",
     '"${A}"', "3", "[", "]", "{", "}", ",", "\n", " ", "true", "secrets", "nan", "'file:/x'"]
)  # fmt: skip


@given(st.lists(TOML_WORDS, max_size=25).map("".join))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_stops_the_pass(tmp_path, text):
    reply = load_text(tmp_path, text)

    assert reply.ok or reply.services == ()
    assert render(reply.problems)


KEYS = st.sampled_from([*model.Service.model_fields, *tables.Supervisor.model_fields, "x", "to"])
PLAIN = st.one_of(
    st.integers(-5, 300).map(str), st.booleans().map(str).map(str.lower),
    st.sampled_from(["'x'", "'5s'", "'TERM'", "'infinity'", "nan", "'${A:-x}'", "'no'", "''"]),
)  # fmt: skip
SHAPES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(KEYS, SHAPES, max_size=5),
    st.sampled_from(["service.a", "defaults", "supervisor"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_any_key_stops_the_pass(tmp_path, table, section):
    lines = "\n".join(f"{key} = {value}" for key, value in table.items())
    reply = load_text(tmp_path, f"[service.b]\ncommand = '/bin/sh'\n[{section}]\n{lines}")

    assert all(p.line <= 3 + len(table) for p in reply.problems)


def test_signals_of_the_defaults_are_those_of_the_reference():
    names = [signal.Signals(number).name for number in ServiceSpec("a", ()).success.signals]

    assert names == ["SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"]
