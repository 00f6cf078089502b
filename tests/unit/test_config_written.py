"""What the file says of a service, for people."""

import json
import math

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.written import dotted, toml
from supervisord_pidfd.core.reload import plan_reload
from supervisord_pidfd.core.showing import toml_of
from tests.support.config import load_text

WEB = '[service.web]\ncommand = "/bin/sh"\n'


def lines_in(folder, text, index=0, **members):
    """Return the lines of a service without its command: key, value, name of file and line."""
    reply = load_text(folder, text, all_keys=True, **members)
    found = json.loads(reply.services[index].written)
    return [(k, v, f.removeprefix(f"{folder}/"), n) for k, v, f, n in found if k != "command"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("umask = '022'", [("umask", '"022"')]),
        ("autostart = false", [("autostart", "false")]),
        ("instances = 1", [("instances", "1")]),
        ("backoff.factor = 1.5", [("backoff.factor", "1.5")]),
        ("environment = { A = '1' }", [("environment.A", '"1"')]),
        ("environment.'a.b' = '1'", [('environment."a.b"', '"1"')]),
        ("requires = []", [("requires", "[]")]),
        ("restart_force = [1, 'HUP']", [("restart_force", '[1, "HUP"]')]),
        ("health.a = { tcp = 'h:1', period = 2 }",
         [("health.a.tcp", '"h:1"'), ("health.a.period", "2")]),
        ("description = '${HOME} \"é\\'", [("description", '"${HOME} \\"é\\\\"')]),
        ("directory = '/tmp/${service.name}'", [("directory", '"/tmp/web"')]),
        ("environment = { A = '${B}x', B = 'b' }",
         [("environment.A", '"bx"'), ("environment.B", '"b"')]),
        ("hooks.pre_start = '/bin/sh -c ${service.name}'",
         [("hooks.pre_start", '["/bin/sh", "-c", "web"]')]),
        ("hooks.pre_start = ['/bin/sh', '${service.name}']",
         [("hooks.pre_start", '["/bin/sh", "web"]')]),
        ("ready.http = 'http://h/${service.name}'", [("ready.http", '"http://h/web"')]),
        ("health.a = { http = 'http://h/', headers = { X = '${service.name}$$' } }",
         [("health.a.http", '"http://h/"'), ("health.a.headers.X", '"web$"')]),
    ],
)  # fmt: skip
def test_a_key_is_there_as_it_is_meant(tmp_path, text, lines):
    assert lines_in(tmp_path, f"{WEB}{text}") == [(*line, "main.toml", 3) for line in lines]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("environment.API_TOKEN = 't'", ("environment.API_TOKEN", '"…"')),
        ("environment.pgpassword = 't'", ("environment.pgpassword", '"…"')),
        ("secrets.DB = 'file:/nowhere'", ("secrets.DB", '"…"')),
        ("health.a = { headers.Authorization = 'Bearer t', http = 'http://h' }",
         ("health.a.headers.Authorization", '"…"')),
        ("environment = { URL = '${API_KEY}@h', API_KEY = 't' }", ("environment.URL", '"…@h"')),
        ("environment = { URL = '${B}@h', B = '${API_KEY}', API_KEY = 't' }",
         ("environment.URL", '"…@h"')),
    ],
)  # fmt: skip
def test_a_secret_is_masked(tmp_path, text, line):
    lines = lines_in(tmp_path, f"{WEB}{text}")

    assert lines[0][:2] == line
    assert "t" not in [value.strip('"') for _, value, _, _ in lines]


def test_a_secret_of_the_daemon_is_masked_in_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_SECRET", "t")
    text = "[service.web]\ncommand = '/bin/sh -c ${OUR_SECRET}'"
    spec = load_text(tmp_path, text).services[0]

    assert spec.argv[2] == "t"
    assert json.loads(spec.written)[0][1] == '["/bin/sh", "-c", "…"]'


def test_the_defaults_come_behind_where_they_stand(tmp_path):
    defaults = "defaults = { umask = '077', environment = { A = '1', B = '2' } }\n"
    text = f"{defaults}{WEB}environment.B = '3'"

    assert lines_in(tmp_path, text) == [
        ("environment.B", '"3"', "main.toml", 4), ("umask", '"077"', "main.toml", 1),
        ("environment.A", '"1"', "main.toml", 1),
    ]  # fmt: skip


def test_a_setting_stands_on_the_command_line(tmp_path):
    lines = lines_in(tmp_path, f"{WEB}umask = '022'", overrides=("service.web.umask=077",))

    assert lines == [("umask", '"077"', "--set", 1)]


def test_an_instance_sees_its_own_values(tmp_path):
    text = f"{WEB}instances = 2\nenvironment.N = '${{service.instance}}'"

    assert lines_in(tmp_path, text, 1)[1] == ("environment.N", '"1"', "main.toml", 4)


def test_a_line_that_only_moved_is_no_change(tmp_path):
    before = load_text(tmp_path, f"{WEB}umask = '077'")
    after = load_text(tmp_path, f"\n{WEB}umask = '077'")
    plan = plan_reload(*({s.name: s for s in reply.services} for reply in (before, after)))

    assert before.digest == after.digest
    assert plan.is_empty
    assert plan.refresh == ("web",)


def test_what_is_shown_can_be_loaded_again(tmp_path):
    text = (
        f"{WEB}environment = {{ A = 'é\\u007f', 'b.c' = 'x' }}\nstop.sequence = ['TERM 5s']\n"
        "limits.nofile = 10\nbackoff = { factor = 1.5, delay = '1s' }\n"
    )
    spec = load_text(tmp_path, text).services[0]
    again = load_text(tmp_path, toml_of(spec, origin=True, hide_environment=False)).services[0]

    assert again == spec._replace(written=again.written)


VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


@given(st.text(st.characters(exclude_categories=["Cs"])), VALUES)
def test_keys_and_values_are_read_back(key, value):
    (again,) = tomli.loads(f"{dotted((key,))} = {toml(value)}").items()

    assert again[0] == key
    assert repr(again[1]) == repr(value) or (isinstance(value, float) and math.isnan(value))
