"""Read what a service says over its notify socket: sd_notify(3) messages, bytes in, facts out.

A message is lines of KEY=VALUE. A key that is not known, or a value that makes no sense for its
key, is passed over, as systemd does; a datagram that cannot be a message at all is refused, with a
word for the reason. Of a key that comes twice the first counts. What follows from a message is
decided elsewhere: this only says what was said.
"""

from collections.abc import Callable
from typing import NamedTuple

MESSAGE_MAX_BYTES = 4096
STATUS_MAX_BYTES = 256
NAME_MAX = 255
LONGEST_S = 10 * 365 * 86400.0
"""No length that a service tells is taken for more than ten years."""

_PID_MAX = 1 << 22
_ERRNO_MAX = 4095
_DIGITS_MAX = 20


class MalformedError(ValueError):
    """Tell why a datagram is no message, in one word for the log."""


class Message(NamedTuple):
    """Hold what one datagram said; lengths are seconds, None is "not said"."""

    ready: bool = False
    reloading: bool = False
    monotonic: float | None = None
    stopping: bool = False
    status: str | None = None
    errno: int | None = None
    exit_status: int | None = None
    main_pid: int | None = None
    watchdog: str | None = None
    watchdog_s: float | None = None
    extend_timeout: float | None = None
    restart_reset: bool = False
    barrier: bool = False
    store: bool = False
    store_remove: bool = False
    store_name: str | None = None
    store_poll: bool = True


NOTHING = Message()


def parse(datagram: bytes) -> Message:
    """Read a datagram; what is not known is left out, so `NOTHING` is a message to be ignored.

    Raises:
        MalformedError: It is empty, too long, or holds a NUL.
    """
    if not datagram:
        raise MalformedError("empty")
    if len(datagram) > MESSAGE_MAX_BYTES:
        raise MalformedError("too_long")
    if b"\0" in datagram:
        raise MalformedError("nul_byte")
    found: dict[str, object] = {}
    for line in datagram.split(b"\n"):
        key, equals, value = line.partition(b"=")
        reader = _READERS.get(key) if equals else None
        if reader is None:
            continue
        member, read = reader
        fact = read(value)
        if fact is not None:
            found.setdefault(member, fact)
    return Message(**found) if found else NOTHING  # type: ignore[arg-type]  # each reader fits


def printable(text: bytes, most: int = STATUS_MAX_BYTES) -> str:
    """Turn what a service wrote into one line that is safe to show, cut to `most` bytes."""
    whole = text[:most].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in whole)


def store_name(value: bytes) -> str | None:
    """Return a name for stored descriptors, None if it cannot stand in LISTEN_FDNAMES."""
    legal = all(0x20 <= byte < 0x7F and byte != ord(":") for byte in value)
    return value.decode("ascii") if legal and 0 < len(value) <= NAME_MAX else None


def _whole(value: bytes, most: int) -> int | None:
    if not value.isdigit() or len(value) > _DIGITS_MAX:
        return None
    number = int(value)
    return number if number <= most else None


def _seconds(value: bytes) -> float | None:
    """Read microseconds; zero and UINT64_MAX are nothing said, as for systemd."""
    micros = _whole(value, 2**64 - 2)
    return min(micros / 1e6, LONGEST_S) if micros else None


def _moment(value: bytes) -> float | None:
    micros = _whole(value, 2**64 - 2)
    return None if micros is None else micros / 1e6


def _one(value: bytes) -> bool | None:
    return True if value == b"1" else None


def _poll(value: bytes) -> bool | None:
    return False if value == b"0" else None


def _watchdog(value: bytes) -> str | None:
    return {b"1": "ping", b"trigger": "trigger"}.get(value)


def _pid(value: bytes) -> int | None:
    return _whole(value, _PID_MAX) or None


_READERS: dict[bytes, tuple[str, Callable[[bytes], object]]] = {
    b"READY": ("ready", _one),
    b"RELOADING": ("reloading", _one),
    b"MONOTONIC_USEC": ("monotonic", _moment),
    b"STOPPING": ("stopping", _one),
    b"STATUS": ("status", printable),
    b"ERRNO": ("errno", lambda value: _whole(value, _ERRNO_MAX)),
    b"EXIT_STATUS": ("exit_status", lambda value: _whole(value, 255)),
    b"MAINPID": ("main_pid", _pid),
    b"WATCHDOG": ("watchdog", _watchdog),
    b"WATCHDOG_USEC": ("watchdog_s", _seconds),
    b"EXTEND_TIMEOUT_USEC": ("extend_timeout", _seconds),
    b"RESTART_RESET": ("restart_reset", _one),
    b"BARRIER": ("barrier", _one),
    b"FDSTORE": ("store", _one),
    b"FDSTOREREMOVE": ("store_remove", _one),
    b"FDNAME": ("store_name", store_name),
    b"FDPOLL": ("store_poll", _poll),
}
