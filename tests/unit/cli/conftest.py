"""Run `pidfdctl` in this process, against a script and without a terminal."""

import io
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from supervisord_pidfd.cli.args import parse
from supervisord_pidfd.cli.main import run
from supervisord_pidfd.cli.screen import Screen, moment
from supervisord_pidfd.cli.session import Session
from tests.fakes import FakeClock
from tests.support.scripted import NOW, Scripted


class Terminal(io.StringIO):
    """Be a terminal of the usual 80 columns."""

    def isatty(self) -> bool:
        return True


class Ran(NamedTuple):
    """Hold what a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def pidfdctl() -> Run:
    """Give `pidfdctl(daemon, "status", "web", terminal=False)`."""

    def ran(daemon: Scripted, *words: str, terminal: bool = False, environment: Any = None) -> Ran:
        out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
        said = parse(words)
        screen = Screen(
            out,
            err,
            environment or {},
            as_json=said.has("json"),
            no_color=said.has("no_color"),
            quiet=said.has("quiet"),
        )
        clock = FakeClock(wall=moment(NOW) or 0)
        session = Session(said, screen, clock, environment or {}, daemon.connect)
        code = run(session)
        return Ran(code, out.getvalue(), err.getvalue())

    return ran
