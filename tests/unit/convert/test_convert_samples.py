"""Whole files as people have them; this module as a program writes what is expected anew."""

from pathlib import Path

import pytest

from tests.support.config import load_text
from tests.support.converting import FILES, convert

SAMPLES = Path(__file__).parent / "samples"
KINDS = {"shop.conf": "supervisor", "Procfile.shop": "procfile"}
SHOP = {"WEB_PORT": "8080", "PATH": "/usr/bin:/bin"}


def written(name):
    """Return what is expected to be printed: the file, and what is told of it."""
    kind = KINDS[name]
    result = convert((SAMPLES / name).read_text(), kind, FILES[kind])
    return result.text + "".join(f"# stderr: {line}\n" for line in result.remarks)


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_becomes_what_stands_beside_it(name):
    assert written(name) == (SAMPLES / f"{name}.toml").read_text()


@pytest.mark.parametrize("name", KINDS)
def test_the_daemon_would_take_it(name, tmp_path, monkeypatch):
    for variable, value in SHOP.items():
        monkeypatch.setenv(variable, value)
    problems = load_text(tmp_path, (SAMPLES / f"{name}.toml").read_text()).problems

    assert [one.message for one in problems if one.severity == "error"] == []


@pytest.mark.parametrize("name", KINDS)
def test_no_sample_stands_there_in_vain(name):
    assert (SAMPLES / name).exists()
    assert {path.name.removesuffix(".toml") for path in SAMPLES.iterdir()} == KINDS.keys()


if __name__ == "__main__":
    for name in KINDS:
        (SAMPLES / f"{name}.toml").write_text(written(name))
