"""States on their way to a real socket that takes them, takes them late, or is gone."""

import contextlib
import socket

import pytest

from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.core.notices import DaemonReady, DaemonStopped, DaemonStopping, Told
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.upward import Upward


def fail(where, error):
    raise AssertionError(where) from error


@pytest.fixture
def loop():
    it = Loop(SystemClock(), fail)
    yield it
    it.close()


@pytest.fixture
def boss(tmp_path):
    """Give the socket of whoever started us."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def opened(loop, boss):
    """Open the way upward, with variables beside the address."""
    made = []

    def open_one(counts=dict, **environ):
        address = {"NOTIFY_SOCKET": boss.getsockname()}
        made.append(Upward.open(loop, address | environ, counts))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def fill(sock, address):
    """Send until there is no room; return how many messages there was room for."""
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.sendto(b"x", address)
            filled += 1
    return filled


def read(sock):
    return sock.recv(4096).decode().split("\n")


def test_beginning_and_end_are_told_at_once(opened, boss):
    up = opened(lambda: {"running": 2})
    up.observe(0.0, Told(DaemonReady(0.1)))
    assert read(boss) == ["READY=1", "STATUS=2 services: 2 running"]

    up.observe(0.0, Told(DaemonStopping("signal", 15, None, 80.0)))
    stopping, status, extend = read(boss)
    assert (stopping, status) == ("STOPPING=1", "STATUS=2 services: 2 running")
    assert extend == "EXTEND_TIMEOUT_USEC=85000000"

    up.observe(0.0, Told(DaemonStopped(3, 0.1, 0)))
    assert read(boss) == ["EXIT_STATUS=3"]


def test_a_reload_before_the_daemon_is_ready_is_not_told(opened, boss):
    up = opened()
    up.reloading()
    up.reloaded()
    up.observe(0.0, Told(DaemonReady(0.1)))
    assert read(boss)[0] == "READY=1"

    up.reloading()
    reloading, moment = read(boss)
    assert reloading == "RELOADING=1"
    assert 0 <= SystemClock().now() - int(moment.removeprefix("MONOTONIC_USEC=")) / 1e6 < 60
    up.reloaded()
    assert read(boss)[0] == "READY=1"


def test_of_many_changes_the_last_state_is_told_once(opened, boss, loop):
    now = {"running": 0}
    up = opened(lambda: now)
    for number in range(1, 6):
        now["running"] = number
        up.changed()
    loop.run_once()
    assert read(boss) == ["STATUS=5 services: 5 running"]

    up.changed()
    loop.run_once()
    boss.setblocking(False)
    with pytest.raises(BlockingIOError):
        boss.recv(4096)


def test_the_watchdog_is_fed_by_the_loop(opened, boss, loop):
    opened(WATCHDOG_USEC="200000")
    assert read(boss) == ["WATCHDOG=1"]
    loop.run_once()
    assert read(boss) == ["WATCHDOG=1"]


def test_a_socket_that_is_full_gets_the_rest_later(opened, boss, loop):
    up = opened(lambda: {"running": 1})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other:
        filled = fill(other, boss.getsockname())
    up.observe(0.0, Told(DaemonReady(0.1)))
    assert [boss.recv(16) for _ in range(filled)] == [b"x"] * filled
    loop.run_once()
    assert read(boss)[0] == "READY=1"


def test_nobody_there_any_more_is_no_trouble(opened, boss, loop):
    up = opened(WATCHDOG_USEC="200000")
    boss.close()
    up.observe(0.0, Told(DaemonReady(0.1)))
    loop.run_once()


@pytest.mark.parametrize("address", ["", "/", "vsock:2:1234", "relative"])
def test_an_address_that_cannot_be_reached_is_none(loop, address):
    assert Upward.open(loop, {"NOTIFY_SOCKET": address}, dict) is None


def test_an_abstract_address(loop):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0supervisord-pidfd-test-upward")
        sock.settimeout(10)
        up = Upward.open(loop, {"NOTIFY_SOCKET": "@supervisord-pidfd-test-upward"}, dict)
        up.observe(0.0, Told(DaemonReady(0.1)))
        assert read(sock)[0] == "READY=1"
        up.close()
