"""The manual pages are what the tables say, and what their formatters accept."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from supervisord_pidfd import commands, options
from supervisord_pidfd.cli import session
from supervisord_pidfd.cli.status import COLUMNS
from supervisord_pidfd.cli.verbs import EXIT_CODES, GLOBAL, VERBS
from supervisord_pidfd.config import schema
from supervisord_pidfd.core.notices import EVENTS
from tests.support.manual import FRAMES, PAGES
from tests.support.manual_file import SAID, keys
from tests.support.roff import text

ROOT = Path(__file__).parents[2]
MAN = ROOT / "docs/man"
NOT_FRAMED = {"Events", "Logs", "Shutdown", "Reexec"}
ALIKE = {"Stop": "Start", "Restart": "Start", "Reload": "Start", "Reset": "Signal",
         "Freeze": "Signal", "Thaw": "Signal"}  # fmt: skip


def page(name):
    return (MAN / name).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_tables_say(name):
    assert page(name) == PAGES[name](), "run: make docs"


def test_there_is_no_other_page():
    assert {path.name for path in MAN.iterdir()} == set(PAGES)


def test_every_verb_alias_and_option_has_its_place():
    shown = page("pidfdctl.1")

    for verb in VERBS:
        assert re.search(rf"^\.TP\n{re.escape(text(f'`{verb.name}`'))}", shown, re.MULTILINE)
        for alias in verb.aliases:
            assert text(f"`{alias}`") in shown
        for option in (*GLOBAL, *verb.options):
            assert text(f"`{option.flags[-1]}`") in shown


def test_every_exit_code_of_the_client_is_told():
    used = {
        value for name, value in vars(session).items() if name.isupper() and type(value) is int
    }

    assert used == EXIT_CODES.keys()


def test_every_column_is_told():
    assert all(f"\\fB{name}\\fR" in page("pidfdctl.1") for name in COLUMNS)


def test_the_frames_are_those_of_the_methods():
    declared = (Path(commands.__file__).parent / f"{commands.INTERFACE}.varlink").read_text()
    replies = dict(re.findall(r"^method (\w+)\(.*?\) -> \((.*?)\)", declared, re.MULTILINE))
    called = {verb.method for verb in VERBS if verb.method} - NOT_FRAMED

    assert {ALIKE.get(method, method) for method in called} == FRAMES.keys()
    for method in called:
        members = re.findall(r"(\w+):", replies[method])
        told = FRAMES[ALIKE.get(method, method)]
        assert all(f"`{member}`" in told for member in members), method


def test_every_key_of_the_schema_has_its_place():
    shown = page("supervisord.toml.5")
    definitions = schema.schema()["$defs"]
    found = {(key.table, key.name) for key in keys()}
    leaves = {
        (table, name)
        for table, shape in definitions.items()
        if table != "Defaults"
        for name, value in shape["properties"].items()
        if "$ref" not in value and "patternProperties" not in value
    }

    assert found == leaves
    assert all(f"\\fB{text(key.written)}\\fR" in shown for key in keys())


def test_no_default_is_told_of_a_key_that_is_gone():
    assert SAID.keys() <= {f"{key.table}.{key.name}" for key in keys()}


def test_every_event_has_its_place():
    shown = page("supervisord-pidfd.8")

    assert all(f"\\fB{text(row.event)}\\fR" in shown for row in EVENTS.values())


def test_every_verb_of_the_daemon_has_its_place():
    shown = page("supervisord-pidfd.8")

    for verb in options.VERBS:
        assert f".TP\n\\fB{verb}\\fR" in shown
    for flag in set(re.findall(r"--[a-z0-9]+", options.USAGE)):
        assert text(f"`{flag}`") in shown


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "formatter",
    [["groff", "-man", "-ww", "-Tutf8", "-z"], ["mandoc", "-T", "lint", "-W", "style"]],
    ids=["groff", "mandoc"],
)
def test_formatters_have_nothing_to_complain_of(formatter, name):
    if shutil.which(formatter[0]) is None:
        pytest.skip("this shell or formatter is not installed")
    run = subprocess.run([*formatter, MAN / name], capture_output=True, text=True, check=False)

    assert run.stdout + run.stderr == ""
