"""Tell whoever started the daemon how it is, by sd_notify(3): systemd, or a container engine.

A message is a datagram that is never waited for: one that is not taken now is tried again until
the next moment something is told, and of two states of the services only the latest is sent.
Nothing wakes an idle daemon but a watchdog that systemd asks for.
"""

import math
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping

from supervisord_pidfd.core.notices import DaemonReady, DaemonStopped, DaemonStopping, Told
from supervisord_pidfd.loop import Loop

STATUS_EVERY_S = 1.0
AGAIN_S = 0.1
WAITING = 16
"""Messages that wait at most: nobody takes them, and what is old tells nothing."""

END_RESERVE_S = 5.0
"""How much longer than the budget of a shutdown the end may take: the logger, this process."""

Counts = Callable[[], Mapping[str, int]]


def status_of(counts: Mapping[str, int]) -> str:
    """Write how many services there are in each phase: `3 services: 2 running, 1 backoff`."""
    total = sum(counts.values())
    parts = [f"{count} {phase}" for phase, count in counts.items() if count]
    return (
        f"{total} service{'' if total == 1 else 's'}" + (": " if parts else "") + ", ".join(parts)
    )


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """Return how often we have to say that we live, in seconds; infinite where nobody asks.

    Source: sd_watchdog_enabled(3).
    """
    text = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    if not (meant and text.isascii() and text.isdigit() and int(text)):
        return math.inf
    return int(text) / 2e6


class Upward:
    """Own a socket, and send what notices and the phases of services say. An observer of notices.

    `counts` gives how many services there are in each phase.
    """

    def __init__(self, loop: Loop, address: str, watchdog_s: float, counts: Counts) -> None:
        """Send to an address of sd_notify(3), and every `watchdog_s` seconds that we live.

        Raises:
            OSError: There is no descriptor to be had.
        """
        self._loop = loop
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._counts = counts
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._waiting: deque[bytes] = deque(maxlen=WAITING)
        self._told = ""
        self._is_up = False
        self._again = loop.deadline(self._send_waiting)
        self._status = loop.deadline(self._tell_status)
        self._watchdog_s = watchdog_s
        self._watchdog = loop.deadline(self._tell_that_we_live)
        if watchdog_s != math.inf:
            self._tell_that_we_live()

    @classmethod
    def open(cls, loop: Loop, environ: Mapping[str, str], counts: Counts) -> "Upward | None":
        """Make one where somebody wants to be told; None where nobody does.

        Raises:
            OSError: There is no descriptor to be had.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if len(address) < 2 or address[0] not in "/@":  # vsock:, or nothing that we could reach
            return None
        return cls(loop, address, watchdog_interval(environ, os.getpid()), counts)

    def observe(self, _wall: float, told: Told) -> None:
        """Take a notice: beginning and end are told at once."""
        match told.notice:
            case DaemonReady():
                self._is_up = True
                self._send("READY=1", self._status_line())
            case DaemonStopping() as stopping:
                within = int((stopping.timeout_s + END_RESERVE_S) * 1e6)
                self._send("STOPPING=1", self._status_line(), f"EXTEND_TIMEOUT_USEC={within}")
            case DaemonStopped() as stopped:
                self._send(f"EXIT_STATUS={stopped.exit_code}")
            case _:
                pass

    def changed(self) -> None:
        """Take note that a service is in another phase: told soon, with those that follow."""
        if self._status.when == math.inf:
            self._status.arm(self._loop.clock.now() + STATUS_EVERY_S)

    def reloading(self) -> None:
        """Tell that another configuration is about to be taken over."""
        if self._is_up:
            self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._loop.clock.now() * 1e6)}")

    def reloaded(self) -> None:
        """Tell that it was."""
        if self._is_up:
            self._send("READY=1", self._status_line())

    def close(self) -> None:
        """Close the socket."""
        for deadline in (self._again, self._status, self._watchdog):
            deadline.disarm()
        self._socket.close()

    # -- sending ----------------------------------------------------------------------------------

    def _status_line(self) -> str:
        self._told = status_of(self._counts())
        return f"STATUS={self._told}"

    def _tell_status(self) -> None:
        if status_of(self._counts()) != self._told:
            self._send(self._status_line())

    def _tell_that_we_live(self) -> None:
        self._watchdog.arm(self._loop.clock.now() + self._watchdog_s)
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        self._waiting.append("\n".join(lines).encode())
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except BlockingIOError:
                self._again.arm(self._loop.clock.now() + AGAIN_S)
                return
            except OSError:  # nobody is there any more: there is nothing to be told
                self._waiting.clear()
                return
            self._waiting.popleft()
