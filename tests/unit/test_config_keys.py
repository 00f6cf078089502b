"""The keys of tasks, checks and dependencies: what they become, and how they are refused."""

import pytest

from supervisord_pidfd.config import model, tables
from supervisord_pidfd.config.problems import render
from supervisord_pidfd.core.spec import (
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Condition,
    Dependency,
    GroupSpec,
    GroupStrategy,
    HooksSpec,
    NotifyAccess,
    Overlap,
    ReadyKind,
    ReadySpec,
    ReloadSpec,
    ScheduleSpec,
    ServiceType,
    Tie,
)
from tests.support.config import load_text

WEB = '[service.web]\ncommand = "/bin/sh"\n'
ONESHOT = "\ntype = 'oneshot'"
OTHERS = (
    "[service.db]\ncommand = '/bin/sh'\n"
    "[service.migrate]\ncommand = '/bin/sh'\ntype = 'oneshot'\n"
    "[service.w]\ncommand = '/bin/sh'\ninstances = 2\n"
    "[group.back]\nservices = ['w@1', 'db']\n"
)


def loaded(folder, text, **members):
    reply = load_text(folder, text, all_keys=True, **members)
    assert reply.ok, render(reply.problems)
    return reply


def without_fast(value):
    """Leave out what depends on the filesystem of this host."""
    if isinstance(value, CommandSpec):
        return value._replace(fast=False)
    if isinstance(value, ReadySpec | CheckSpec | HooksSpec | ReloadSpec):
        return value._replace(**{n: without_fast(v) for n, v in value._asdict().items()})
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(without_fast, value))
    return value


SH = CommandSpec(("/bin/sh", "-c", "x"), "/bin/sh")


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        ("type = 'notify'", "type", ServiceType.NOTIFY),
        ("type = 'notify'", "ready", ReadySpec(ReadyKind.NOTIFY)),
        ("ready.tcp = 'localhost:80'", "ready", ReadySpec(ReadyKind.TCP, target="localhost:80")),
        ("ready.tcp = 'unix:s'", "ready", ReadySpec(ReadyKind.TCP, target="unix:{}/s")),
        (
            "ready = { http = 'http://[::1]:8/x?y', period = '1s', timeout = 5 }",
            "ready",
            ReadySpec(ReadyKind.HTTP, target="http://[::1]:8/x?y", period=1.0, timeout=5.0),
        ),
        ("ready.exec = '/bin/sh -c x'", "ready", ReadySpec(ReadyKind.EXEC, command=SH)),
        ("ready.file = '${service.name}.pid'", "ready",
         ReadySpec(ReadyKind.FILE, target="{}/web.pid")),
        ("ready.fd = 3", "ready", ReadySpec(ReadyKind.FD, fd=3)),
        ("health.a.memory = '1MiB'", "checks", (CheckSpec("a", CheckKind.MEMORY, size=1 << 20),)),
        ("health.a.watchdog = '5s'", "checks",
         (CheckSpec("a", CheckKind.WATCHDOG, period=5.0, failures=1),)),
        ("health.a = { watchdog = 5, failures = 2 }", "checks",
         (CheckSpec("a", CheckKind.WATCHDOG, period=5.0, failures=2),)),
        (
            ("health.a = { exec = '/bin/sh -c x', period = 1, timeout = 2, initial_delay = 3, "
            "failures = 4, successes = 5, action = 'none' }"),
            "checks",
            (CheckSpec("a", CheckKind.EXEC, command=SH, period=1.0, timeout=2.0,
                       initial_delay=3.0, failures=4, successes=5, action=CheckAction.NONE),),
        ),
        (
            ("health.a = { http = 'https://h/', headers = { X = ' ${service.name} ' }, "
            "status = '200,300-301', verify = false }"),
            "checks",
            (CheckSpec("a", CheckKind.HTTP, target="https://h/", headers=(("X", "web"),),
                       status=((200, 200), (300, 301)), verify=False),),
        ),
        ("hooks = { pre_start = '/bin/sh -c x', timeout = 5 }", "hooks",
         HooksSpec(pre_start=SH, timeout=5.0)),
        ("reload.signal = 'HUP'", "reload", ReloadSpec(signum=1)),
        ("reload = { command = '/bin/sh -c x', check = ['/bin/sh', '-c', 'x'], timeout = 1 }",
         "reload", ReloadSpec(command=SH, check=SH, timeout=1.0)),
        ("type = 'oneshot'\nschedule.every = '1h'", "schedule", ScheduleSpec(every=3600.0)),
        ("type = 'oneshot'\nschedule.every = '1h'", "autostart", False),
        ("type = 'oneshot'\nautostart = true\nschedule.every = '1h'", "autostart", True),
        (
            ("type = 'oneshot'\nschedule = { calendar = '30  3 * * mon-fri', overlap = 'queue', "
            "jitter = 9, timezone = 'Europe/Berlin' }"),
            "schedule",
            ScheduleSpec(calendar="30 3 * * mon-fri", overlap=Overlap.QUEUE, jitter=9.0,
                         timezone="Europe/Berlin"),
        ),
        ("notify_access = 'all'", "notify_access", NotifyAccess.ALL),
        ("fdstore.max = 4", "fdstore_max", 4),
        ("metrics_port = 9100", "metrics_port", 9100),
        ("metrics_path = '/m'", "metrics_path", "/m"),
        ("requires = ['db']", "dependencies", (Dependency("db", Tie.REQUIRES),)),
        ("wants = ['migrate']", "dependencies",
         (Dependency("migrate", Tie.WANTS, Condition.EXITED_OK),)),
        ("after = ['w:started']", "dependencies",
         (Dependency("w@0", Tie.AFTER, Condition.STARTED),
          Dependency("w@1", Tie.AFTER, Condition.STARTED))),
        ("after = ['@back']", "dependencies",
         (Dependency("w@1", Tie.AFTER), Dependency("db", Tie.AFTER))),
        ("after = ['@w']", "dependencies", (Dependency("w@0", Tie.AFTER),)),
        ("part_of = ['w', 'w@0']", "part_of", ("w@0", "w@1")),
    ],
)  # fmt: skip
def test_a_key_becomes_a_member(tmp_path, line, member, value):
    reply = loaded(tmp_path, f"{WEB}{line}\n{OTHERS}")
    found = without_fast(getattr(reply.services[0], member))

    assert found == _in(tmp_path, value)


def _in(folder, value):
    if isinstance(value, ReadySpec):
        return value._replace(target=value.target.replace("{}", str(folder)))
    return value


def test_before_is_the_other_ones_after(tmp_path):
    text = f"{WEB}before = ['w@0', 'db:started']\n{OTHERS}"
    found = {spec.name: spec.dependencies for spec in loaded(tmp_path, text).services}

    assert found == {
        "web": (), "migrate": (), "w@1": (),
        "w@0": (Dependency("web", Tie.AFTER),),
        "db": (Dependency("web", Tie.AFTER, Condition.STARTED),),
    }  # fmt: skip


def test_a_oneshot_that_is_before_another_must_have_ended_well(tmp_path):
    text = f"{WEB}type = 'oneshot'\nbefore = ['db']\n{OTHERS}"

    db = next(spec for spec in loaded(tmp_path, text).services if spec.name == "db")
    assert db.dependencies == (Dependency("web", Tie.AFTER, Condition.EXITED_OK),)


def test_a_group_has_its_members_in_order_and_its_limit(tmp_path):
    text = f"{WEB}{OTHERS}strategy = 'rest_for_one'\nlimit = '5/10m'"

    assert loaded(tmp_path, text).supervisor.groups == (
        GroupSpec("back", ("w@1", "db"), GroupStrategy.REST_FOR_ONE, 5, 600.0),
    )


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        ("socket = 's'", "socket", "{}/s"), ("socket = 'none'", "socket", "none"),
        ("read_users = ['root', 7]", "read_uids", (0, 7)),
        ("read_groups = [9]", "read_gids", (9,)),
        ("history_size = 3", "history_size", 3), ("ready_when = 'services'", "ready_when",
         "services"),
    ],
)  # fmt: skip
def test_a_key_of_the_daemon(tmp_path, line, member, value):
    reply = loaded(tmp_path, f"[supervisor]\n{line}")
    value = value.replace("{}", str(tmp_path)) if isinstance(value, str) else value

    assert getattr(reply.supervisor, member) == value


def test_an_unknown_reader_is_a_warning(tmp_path):
    reply = loaded(tmp_path, "supervisor.read_users = ['no such', 'root']")

    assert [(p.code, p.column) for p in reply.problems] == [("no-such-user", 26)]
    assert reply.supervisor.read_uids == (0,)


@pytest.mark.parametrize(
    ("line", "column", "code", "message"),
    [
        ("requires = ['a b']", 13, "bad-value", "requires: not a reference: 'a b'"),
        ("requires = ['db:soon']", 13, "bad-value", "requires: must wait for one of started"),
        ("part_of = ['db:ready']", 12, "bad-value", "part_of: takes no condition: 'db:ready'"),
        ("wants = ['bd']", 10, "no-such-service", "wants: no service 'bd'"),
        ("before = ['@db']", 11, "no-such-service", "before: no group '@db'"),
        ("before = ['@bakc']", 11, "no-such-service", "before: no group '@bakc'"),
        ("ready.tcp = 'x'", 13, "bad-value", "ready.tcp: not an address to connect to: 'x'"),
        ("ready.http = 'ftp://x'", 14, "bad-value", "ready.http: not an http or https URL"),
        ("ready.http = 'http://u:pw@x'", 14, "bad-value", "ready.http: must not name a user"),
        ("ready.http = 'http://h:0/'", 14, "bad-value", "ready.http: not an http or https URL"),
        ("ready.http = 'http://h:99999/'", 14, "bad-value", "ready.http: not an http"),
        (f"ready.http = 'http://h/{'x' * 4096}'", 14, "bad-value", "ready.http: not an http"),
        ("ready.http = 'http://h/\u00e9'", 14, "bad-value", "ready.http: not an http"),
        ("ready.http = 'http://${NO_X}'", 14, "undefined-variable", "ready.http: ${NO_X} is not"),
        ("ready.tcp = '${NO_X:-}'", 13, "bad-value", "ready.tcp: not an address"),
        ("ready.tcp = 'h:0'", 13, "bad-value", "ready.tcp: not an address to connect to: 'h:0'"),
        ('health.a = { http = "http://h", headers.X = "\\n" }', 45, "bad-value",
         "health.a.headers.X: not the value of a header"),
        ("health.a = { http = 'http://h', headers.X = '\u20ac' }", 45, "bad-value",
         "health.a.headers.X: not the value of a header"),
        ("health.a = { http = 'http://h', headers.te = 'x' }", 41, "bad-value",
         "health.a.headers.te: not a header that can be set: 'te'"),
        ("health.'a b'.tcp = 'h:1'", 8, "bad-value", "health.a b: not a name of a check: 'a b'"),
        ("ready.fd = 2", 12, "bad-value", "ready.fd: must be from 3 to 1023, not 2"),
        ("ready.period = 0", 16, "bad-value", "ready.period: must be at least 10ms, not 0"),
        ("health.a.tpc = 1", 10, "unknown-key", "unknown key 'health.a.tpc' in service 'web'"),
        ("health.a.status = '99'", 19, "bad-value", "health.a.status: not HTTP codes: '99'"),
        ("health = 1", 10, "bad-type", "health: not a table: 1"),
        ("hooks = 1", 9, "bad-type", "hooks: not a table: 1"),
        (f"schedule.calendar = '* *'{ONESHOT}", 21, "bad-value", "schedule.calendar: not"),
        (f"schedule.calendar = '0 0 30 2 *'{ONESHOT}", 21, "bad-value", "schedule.calendar: not"),
        (f"schedule.timezone = 'Mars'{ONESHOT}", 21, "bad-value", "schedule.timezone: no such"),
        ("fdstore.max = -1", 15, "bad-value", "fdstore.max: must be from 0 to 1024, not -1"),
        ("metrics_port = 0", 16, "bad-value", "metrics_port: must be from 1 to 65535, not 0"),
        ("metrics_path = 'x'", 16, "bad-value", "metrics_path: not a path of a URL: 'x'"),
    ],
)  # fmt: skip
def test_a_problem_is_told_at_its_place(tmp_path, line, column, code, message):
    reply = load_text(tmp_path, f"{WEB}{line}\n{OTHERS}", all_keys=True)
    first = next(p for p in reply.problems if p.severity == "error")

    assert (first.line, first.column, first.code) == (3, column, code)
    assert first.message.startswith(message)


def test_a_slip_in_a_reference_gets_a_suggestion(tmp_path):
    reply = load_text(tmp_path, f"{WEB}after = ['@bakc', 'migrat']\n{OTHERS}", all_keys=True)

    assert [p.hint for p in reply.problems] == ["did you mean '@back'?", "did you mean 'migrate'?"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ready = { tcp = 'h:1', delay = 1 }",
         (32, "conflict", "ready.delay: ready.tcp is there already")),
        ("ready = { fd = 3, exec = 'sh' }",
         (16, "conflict", "ready.fd: ready.exec is there already")),
        ("type = 'notify'\nready.tcp = 'h:1'",
         (13, "conflict", "ready.tcp: not with type notify, which is ready when it says so")),
        ("type = 'oneshot'\nready = { file = 'x', fd = 3 }",
         (18, "conflict", "ready.file: not with type oneshot, which is ready when it has ended")),
        ("health.a = { tcp = 'h:1', memory = 1 }",
         (36, "conflict", "health.a.memory: health.a.tcp is there already")),
        ("health.a = { period = 1 }",
         (8, "missing-key", "health.a: has none of tcp, http, exec, watchdog, memory")),
        ("[service.web.health.a]\nperiod = 1",
         (1, "missing-key", "health.a: has none of tcp, http, exec, watchdog, memory")),
        ("health.a = { tcp = 'h:1', verify = true }",
         (36, "conflict", "health.a.verify: only with http")),
        ("health.a = { watchdog = 5, period = 1 }",
         (37, "conflict", "health.a.period: not with watchdog, which is one itself")),
        ("type = 'oneshot'\nhealth.a.tcp = 'h:1'",
         (1, "conflict", "health: not with type oneshot, which is over when it is ready")),
        ("reload = { signal = 'HUP', command = 'sh' }",
         (38, "conflict", "reload.command: reload.signal is there already")),
        ("schedule.every = 1", (1, "conflict", "schedule: only with type oneshot")),
        ("type = 'oneshot'\nschedule = { every = 1, calendar = '1 1 * * *' }",
         (36, "conflict", "schedule.calendar: schedule.every is there already")),
        ("type = 'oneshot'\nschedule.jitter = 1",
         (1, "missing-key", "schedule: has neither every nor calendar")),
        ("type = 'oneshot'\nschedule = { every = 1, timezone = 'UTC' }",
         (36, "conflict", "schedule.timezone: only with schedule.calendar")),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together(tmp_path, line, expected):
    reply = load_text(tmp_path, f"{OTHERS}{WEB}{line}", all_keys=True)
    found = [(p.column, p.code, p.message) for p in reply.problems if p.severity == "error"]

    assert found[0] == expected
    assert len(found) == 1 + ("fd = 3 }" in line and "oneshot" in line)


def test_two_keys_that_exclude_each_other_are_both_named(tmp_path):
    text = f"{WEB}ready.delay = 1\n[defaults]\nready.tcp = 'h:1'"
    (problem,) = load_text(tmp_path, text, all_keys=True).problems

    assert (problem.line, problem.see_also) == (3, (f"{tmp_path}/main.toml:5:13",))


def test_a_slip_in_the_kind_of_a_check_is_told_once(tmp_path):
    text = f"{WEB}health.a.tpc = 1\n[defaults]\nhealth.b.tpc = 1"
    problems = load_text(tmp_path, text, all_keys=True).problems

    assert [p.code for p in problems] == ["unknown-key", "unknown-key"]


def test_checks_of_the_defaults_are_not_for_a_oneshot(tmp_path):
    text = f"{WEB}{ONESHOT}\n[defaults]\nhealth.a.tcp = 'h:1'"

    assert loaded(tmp_path, text).services[0].checks == ()


def test_a_header_may_have_the_name_of_a_kind(tmp_path):
    text = f"{WEB}health.a = {{ http = 'http://h', headers = {{ http = 'a b', tcp = 'c' }} }}"

    (check,) = loaded(tmp_path, text).services[0].checks
    assert check.headers == (("http", "a b"), ("tcp", "c"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("read_users = [65534]", (15, "bad-value", "supervisor.read_users: uid 65534 is shared")),
        (f"socket = '/{'x' * 107}'", (10, "too-large", "supervisor.socket: longer than the 107")),
        ("socket = ''", (10, "bad-value", "supervisor.socket: must not be empty")),
        ("read_groups = 'x'", (15, "bad-type", "supervisor.read_groups: not a list: 'x'")),
        ("history_size = -1", (16, "bad-value", "supervisor.history_size: must be from 0")),
        ("ready_when = 'x'", (14, "bad-value", "supervisor.ready_when: must be one of")),
    ],
)
def test_a_key_of_the_daemon_is_refused(tmp_path, line, expected):
    (problem,) = load_text(tmp_path, f"[supervisor]\n{line}", all_keys=True).problems

    assert (problem.column, problem.code) == expected[:2]
    assert problem.message.startswith(expected[2])


INNER = {
    "backoff": tables.Backoff, "start_limit": tables.StartLimit, "ready": tables.Ready,
    "health.a": tables.HealthCheck, "hooks": tables.Hooks, "reload": tables.Reload,
    "schedule": tables.Schedule, "fdstore": tables.FdStore, "stop": tables.Stop,
    "log": tables.Log, "scheduling": tables.Scheduling, "sandbox": tables.Sandbox,
}  # fmt: skip
KEYS = [
    *(f"service.web.{key}" for key in model.Service.model_fields if key != "command"),
    *(f"service.web.{path}.{key}" for path, kind in INNER.items() for key in kind.model_fields),
    *(
        f"{section}.{key}"
        for section, name in model.SECTIONS.items()
        for key in model.table(name).model_fields
    ),
    *(f"group.g.{key}" for key in tables.Group.model_fields),
]


@pytest.mark.parametrize("key", KEYS)
def test_no_key_takes_a_date_or_a_list_of_tables(tmp_path, key):
    for value in ("1979-05-27", "[{ x = 1 }]"):
        text = f"service.web.command = '/bin/sh'\n{key} = {value}\n"
        found = [p for p in load_text(tmp_path, text, all_keys=True).problems if p.line == 2]

        assert [p.code for p in found if p.key.startswith(key)] in (["bad-type"], ["bad-value"])


@pytest.mark.parametrize("key", INNER)
def test_an_unknown_key_in_a_table_gets_a_suggestion(tmp_path, key):
    slip = f"{next(iter(INNER[key].model_fields))}x"
    kind = "oneshot" if key == "schedule" else "simple"
    reply = load_text(tmp_path, f"{WEB}type = '{kind}'\n{key}.{slip} = 1", all_keys=True)

    assert [(p.code, p.line, p.hint) for p in reply.problems] == [
        ("unknown-key", 4, f"did you mean '{key}.{slip[:-1]}'?")
    ]
