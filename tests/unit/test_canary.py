"""When a canary starts, and which of its ends count."""

import math
import signal
from types import SimpleNamespace

import pytest

from supervisord_pidfd import canary
from supervisord_pidfd.canary import Canary
from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.errands import Result
from supervisord_pidfd.loop import Loop
from tests.fakes import FakeClock

KILLED = Signaled(signal.SIGALRM)


class Bench:
    """A canary whose children are ended by the test."""

    def __init__(self, patch):
        self.clock = FakeClock()
        self.loop = Loop(self.clock, lambda *_: None)
        self.observed = []
        self.children = []
        self.over = False
        patch.setattr(canary, "Errand", self._start)
        hands = SimpleNamespace(loop=self.loop)
        self.canary = Canary(hands, self.observed.append, lambda: self.over)

    def _start(self, _hands, _spec, _command, _timeout, _env, done, _keep):
        child = SimpleNamespace(done=done, cancelled=False)
        child.cancel = lambda: setattr(child, "cancelled", True)
        self.children.append(child)
        return child

    def begin(self):
        """Let the moment come for which the deadline is set."""
        self.canary._begin()

    @property
    def next_at(self):
        return self.loop.next_deadline()


def ended(status=KILLED, output=b"7.0", at=7.25):
    return Result(status, None, False, 1.0, output, at)


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_without_an_interval_nothing_ever_wakes(bench):
    bench.canary.use(0.0)

    assert bench.next_at == math.inf
    assert bench.children == []


def test_the_end_is_compared_with_the_moment_that_was_told(bench):
    bench.canary.use(30.0)
    bench.begin()
    bench.children[0].done(ended())

    assert bench.observed == [0.25]
    assert bench.next_at == bench.clock.now() + 30.0


@pytest.mark.parametrize(
    "result",
    [
        ended(status=Exited(0)),
        ended(status=Signaled(signal.SIGKILL)),
        ended(status=None, at=math.inf),
        ended(output=b""),
        ended(output=b"soon"),
    ],
)
def test_another_end_says_nothing(bench, result):
    bench.canary.use(30.0)
    bench.begin()
    bench.children[0].done(result)

    assert bench.observed == []


def test_one_that_hangs_is_not_joined_by_others(bench):
    bench.canary.use(30.0)
    bench.begin()
    bench.begin()
    assert len(bench.children) == 1

    bench.children[0].done(ended())
    bench.begin()
    assert len(bench.children) == 2


def test_it_ends_with_its_interval_and_with_the_daemon(bench):
    bench.canary.use(30.0)
    bench.begin()
    bench.canary.use(0.0)
    assert bench.children[0].cancelled
    assert bench.next_at == math.inf

    bench.canary.use(30.0)
    bench.over = True
    bench.begin()
    assert len(bench.children) == 1
