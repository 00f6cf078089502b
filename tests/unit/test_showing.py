"""The effective configuration as TOML text."""

import json
import tomllib

from supervisord_pidfd.core.showing import toml_of
from tests.support.machine import web

LINES = [
    ["command", '["/srv/web"]', "web.toml", 2],
    ["environment.PORT", '"8080"', "web.toml", 5],
    ["secrets.TOKEN", '"…"', "web.toml", 6],
]
WEB = web(written=json.dumps(LINES))


def test_what_is_shown_is_toml_that_says_the_same():
    shown = tomllib.loads(toml_of(WEB, origin=False, hide_environment=False))

    assert shown["service"]["web"] == {
        "command": ["/srv/web"],
        "environment": {"PORT": "8080"},
        "secrets": {"TOKEN": "…"},
    }


def test_an_instance_is_a_table_of_its_own():
    shown = toml_of(WEB._replace(name="web@3"), origin=True, hide_environment=False)

    assert tomllib.loads(shown)["service"]["web@3"]["environment"] == {"PORT": "8080"}


def test_the_origin_stands_behind_each_key():
    shown = toml_of(WEB, origin=True, hide_environment=False).splitlines()

    assert shown[1].startswith('command = ["/srv/web"]')
    assert shown[1].endswith("# web.toml:2")


def test_readers_see_the_names_of_variables_and_not_their_values():
    shown = toml_of(WEB, origin=False, hide_environment=True)

    assert "8080" not in shown
    assert "environment.PORT" in shown


def test_a_service_of_the_command_line_has_nothing_written():
    assert toml_of(web(), origin=True, hide_environment=False) == "[service.web]\n"
