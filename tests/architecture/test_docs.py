"""The documents speak of what is there, and of nothing outside the project."""

import re
from pathlib import Path

import pytest

from tests.conftest import allowed_skips

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md"])
ADRS = sorted((ROOT / "docs/adr").glob("*.md"))
SECTIONS = ["Context", "Decision", "Consequences", "What would change our mind"]

SYSTEM = {
    "bin", "dev", "etc", "home", "lib", "nonexistent", "opt", "proc", "run", "sbin", "srv", "sys",
    "tmp", "usr", "var",
    "service",  # a page of the dashboard
}  # fmt: skip
ABSOLUTE = re.compile(r"(?<![\w.:/~}$*<>\])-])/([a-z]+)/[\w.-]")


def named_by(document):
    return pytest.param(document, id=str(document.relative_to(ROOT)))


def test_readme_stays_short():
    lines = (ROOT / "README.md").read_text().splitlines()

    assert len(lines) <= 80


@pytest.mark.parametrize("document", [named_by(path) for path in DOCUMENTS])
def test_links_lead_to_files_of_the_project(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    targets = [(document.parent / link).resolve() for link in links]

    assert [target for target in targets if not target.is_relative_to(ROOT)] == []
    assert [target for target in targets if not target.exists()] == []


@pytest.mark.parametrize("document", [named_by(path) for path in DOCUMENTS])
def test_make_targets_exist(document):
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"(?:`|^ *)make ([a-z]+)", document.read_text(), re.MULTILINE)
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))

    assert set(named) <= targets


@pytest.mark.parametrize("document", [named_by(path) for path in DOCUMENTS])
def test_files_named_in_documents_exist(document):
    folders = "supervisord_pidfd|config|systemd|deploy|tests|docs|benchmarks|\\.ci"
    names = re.findall(rf"`((?:{folders})/[\w./-]+)`", document.read_text())

    assert [name for name in names if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_without_a_gap():
    numbers = [int(path.name[:4]) for path in ADRS]

    assert numbers == list(range(1, len(ADRS) + 1))


@pytest.mark.parametrize("document", [named_by(path) for path in ADRS])
def test_decisions_have_their_four_sections(document):
    text = document.read_text()

    assert re.match(rf"# {int(document.name[:4])}\. \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("document", [named_by(path) for path in DOCUMENTS])
def test_documents_name_no_place_of_the_machine_they_were_written_on(document):
    places = set(ABSOLUTE.findall(document.read_text()))

    assert places - SYSTEM == set()


def test_the_version_is_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    package = (ROOT / "supervisord_pidfd/__init__.py").read_text()
    version = re.search(r'__version__ = "(.+)"', package)[1]

    assert re.search(rf"^## \[(Unreleased|{re.escape(version)})\]", changelog, re.MULTILINE)


def test_the_list_of_allowed_skips_is_short():
    allowed = allowed_skips((ROOT / "tests/README.md").read_text())

    assert 0 < len(allowed) <= 16
