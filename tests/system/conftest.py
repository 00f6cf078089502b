"""Fixtures of the system tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.system.helpers import Board

AS_SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""Be uid 1000 without any capability, who may read what we may: it need not be put elsewhere."""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """Give a place where programs under test announce themselves."""
    it = Board(tmp_path / "board")
    try:
        yield it
    finally:
        it.close()


class Ordinary(Daemon):
    """A daemon of an ordinary user, whoever runs the tests."""

    def __init__(self, home: Path, prefix: tuple[str, ...]) -> None:
        super().__init__(home)
        self.prefix = prefix

    def command(self, *args: str) -> list[str]:
        return [*self.prefix, *super().command(*args)]


@pytest.fixture
def ordinary(tmp_path: Path) -> Iterator[Ordinary]:
    """Give a daemon that is not root's, also where the tests are run by root."""
    prefix = AS_SOMEBODY if os.geteuid() == 0 else ()
    if prefix and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root cannot be an ordinary user here")
    it = Ordinary(tmp_path, prefix)
    try:
        yield it
    finally:
        it.close()
