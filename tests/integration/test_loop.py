"""The loop over real descriptors and the kernel's clock."""

import math
import os
import signal

import pytest

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.signals import HELD, SignalInbox


@pytest.fixture
def loop():
    it = Loop(SystemClock(), lambda _where, error: pytest.fail(repr(error)))
    yield it
    it.close()


def test_the_wait_ends_at_a_deadline_and_not_before(loop):
    moment = loop.clock.now() + 0.03
    came = []
    loop.deadline(lambda: came.append(loop.clock.now())).arm(moment)
    while not came:
        loop.run_once()

    assert came[0] >= moment
    assert loop.turn <= 2  # epoll's milliseconds are rounded up, so one wait does


def test_the_wait_ends_when_a_descriptor_is_ready(loop):
    read_end, write_end = os.pipe()
    called = []
    loop.add(read_end, Priority.CONTROL, called.append)
    loop.deadline(lambda: None).arm(loop.clock.now() + 3600)
    os.write(write_end, b"x")
    loop.run_once()
    loop.remove(read_end)
    os.close(read_end)
    os.close(write_end)

    assert called


def test_a_signal_ends_the_wait(loop):
    taken = []
    inbox = SignalInbox(lambda signum: (taken.append(signum), loop.stop()))
    inbox.listen([signal.SIGALRM])
    loop.add(inbox.fd, Priority.CONTROL, inbox.read)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    loop.run()
    loop.remove(inbox.fd)
    inbox.close()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    HELD.take()

    assert taken == [signal.SIGALRM]


def test_what_cannot_be_polled_is_refused_and_forgotten(loop, tmp_path):
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):
            loop.add(file.fileno(), Priority.CONTROL, lambda _: None)
        loop.remove(file.fileno())


def test_the_same_descriptor_is_not_added_twice(loop):
    read_end, write_end = os.pipe()
    loop.add(read_end, Priority.CONTROL, lambda _: None)
    with pytest.raises(FileExistsError):
        loop.add(read_end, Priority.EXITS, lambda _: None)
    loop.remove(read_end)
    os.close(read_end)
    os.close(write_end)


def test_removed_before_it_is_closed_a_copy_elsewhere_causes_no_event(loop):
    read_end, write_end = os.pipe()
    copy = os.dup(read_end)
    loop.add(read_end, Priority.CONTROL, lambda _: pytest.fail("a ghost"))
    loop.remove(read_end)
    os.close(read_end)
    os.write(write_end, b"x")
    loop.run_once(0)

    assert loop._epoll.poll(0) == []
    os.close(copy)
    os.close(write_end)


def test_a_number_closed_within_a_turn_is_not_given_anew_in_it(loop):
    read_end, write_end = os.pipe()
    given = []

    def replace(_events):
        loop.remove(read_end)
        loop.close_later(read_end)
        given.append(os.dup(write_end))

    loop.add(read_end, Priority.EXITS, replace)
    os.write(write_end, b"x")
    loop.run_once()

    assert given[0] != read_end
    os.close(given[0])
    os.close(write_end)


def test_at_rest_there_is_no_wake_up(loop):
    assert loop.next_deadline() == math.inf
    assert loop._timeout(None) == -1
    before = voluntary_switches()
    loop.run_once(0.2)

    assert voluntary_switches() - before <= 2


def voluntary_switches():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("voluntary"))
