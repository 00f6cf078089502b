"""Fixtures of the system tests."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.system.helpers import Board

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


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
    """Give a daemon that is not root's; its home is one the user can reach."""
    if os.geteuid() != 0:
        it = Ordinary(tmp_path, ())
        try:
            yield it
        finally:
            it.close()
        return
    home = Path(tempfile.mkdtemp(prefix="ordinary-"))
    try:
        shutil.chown(home, 65534, 65534)
        it = Ordinary(home, NOBODY)
        words = [*NOBODY, sys.executable, "-I", "-c", "import supervisord_pidfd.daemon"]
        if subprocess.run(words, check=False, capture_output=True, cwd="/").returncode:
            pytest.skip("the checkout cannot be read by an ordinary user")
        try:
            yield it
        finally:
            it.close()
    finally:
        shutil.rmtree(home)
