"""What the core and the logger say to each other, and the counters that both see.

The channel is a pair of SOCK_SEQPACKET sockets: a message is one datagram, a JSON object of at
most `MESSAGE_BYTES`, descriptors ride along (SCM_RIGHTS). It opens with `{"open": 1}`; another
number is another version. The daemon's own events come over a pipe of their own, as JSON lines.

The core says:

    {"open": 1, "settings": {...}}   the first message; the memory of the counters rides along
    {"settings": {...}}              they have changed (see `Settings`)
    {"service": NAME, "slot": N, "log": {...}, "group": NAME}
                                     what becomes of its output: a LogSpec as `dump` makes it
    {"removed": NAME}                no new run of it will come
    {"run": N, "service": NAME, "pipes": [[ID, STREAM], ...], "again": BOOL, "pid": N or null}
                                     a run has begun; the read ends ride along, in order. ID is
                                     new for each pipe, STREAM stdout, stderr or hook; `again`:
                                     another logger had them before
    {"drop": [ID, ...]}              do not wait for the end of these any longer
    {"reopen": N}                    close and open the files again; answered with N
    {"logs": {...}}                  a client asks for lines: the parameters of the method Logs;
                                     its socket rides along, the core has closed its own
    {"finish": SECONDS}              the daemon ends: drain, write, leave within so long

The logger says:

    {"ended": [ID, ...]}             end of file, and all of it is written or accounted for
    {"ready": NAME, "run": N}        a line has matched the service's `ready` pattern
    {"reopened": FILES, "for": N}
    {"tell": EVENT, "service": NAME, "run": N, ...}
                                     to be told as a notice: `log.rotated` and others

Whatever makes no sense is passed over. The core keeps a copy of each read end until `ended`, and
gives all of them to the next logger, so what is in a pipe outlives a logger.
"""

import fcntl
import json
import mmap
import os
import socket
import struct
import termios
from typing import Any, NamedTuple

OPENING = 1
MESSAGE_BYTES = 64 << 10
PIPES_A_MESSAGE = 8

STREAMS = ("stdout", "stderr", "hook")
REASONS = ("overflow", "rate_limit", "write_error")

_INT = struct.Struct("i")
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Settings(NamedTuple):
    """Hold what the logger needs to know besides services, as the message has it.

    `directory` is the log directory, "" if there is none; `own` the LogSpec of the daemon's own
    events; `ring_total` the bytes that all rings have together.
    """

    directory: str = ""
    ring_total: int = 64 << 20
    own: dict[str, Any] = {}  # noqa: RUF012 - never changed


def pack(message: dict[str, Any]) -> bytes:
    """Encode a message.

    Raises:
        ValueError: It is too long for the channel: a bug of ours.
    """
    data = _encode(message).encode("utf-8", "surrogatepass")
    if len(data) > MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes")
    return data


def unpack(data: bytes) -> dict[str, Any]:
    """Decode a message; one that makes no sense is empty."""
    try:
        message = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Read one message and its descriptors, which are the caller's from now on; None at the end.

    Raises:
        BlockingIOError: There is none now.
    """
    # Not socket.recv_fds: in Python 3.11 it forgets the flags, and services would inherit these.
    room = socket.CMSG_LEN(PIPES_A_MESSAGE * _INT.size)
    data, control, _flags, _ = channel.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    fds = [
        number
        for level, kind, carried in control
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (number,) in _INT.iter_unpack(carried[: len(carried) // _INT.size * _INT.size])
    ]
    if not data:
        return None
    return unpack(data), fds


def unread(pipe: int) -> int:
    """Return how many bytes are in a pipe (FIONREAD, ioctl_pipe(2))."""
    (size,) = _INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, bytes(_INT.size)))
    return int(size)


# -- counters -------------------------------------------------------------------------------------

_WORD = struct.Struct("=Q")
SLOT_WORDS = 16
SLOT_BYTES = SLOT_WORDS * _WORD.size
GROW_SLOTS = 64


class Slot(NamedTuple):
    """Name the words of a slot. One thread writes a slot; whoever reads may see it change.

    Bytes read by stream, all lines, lines and bytes dropped by reason, microseconds for which the
    output was held back.
    """

    stdout_bytes: int = 0
    stderr_bytes: int = 0
    hook_bytes: int = 0
    lines: int = 0
    overflow_lines: int = 0
    rate_limit_lines: int = 0
    write_error_lines: int = 0
    overflow_bytes: int = 0
    rate_limit_bytes: int = 0
    write_error_bytes: int = 0
    blocked_us: int = 0


class Counters:
    """See the counters of all services in memory that the core has made (memfd_create(2)).

    It survives a logger, and reading it wakes nobody. Borrows the descriptor.
    """

    def __init__(self, fd: int, *, may_write: bool = True) -> None:
        self._fd = fd
        self._access = mmap.ACCESS_WRITE if may_write else mmap.ACCESS_READ
        self._map: mmap.mmap | None = None
        self._fit()

    @classmethod
    def create(cls) -> "Counters":
        """Make the memory; the descriptor lives as long as the process.

        Raises:
            OSError: None to be had.
        """
        return cls(os.memfd_create("supervisord-pidfd-log", os.MFD_CLOEXEC))

    def fileno(self) -> int:
        """Return the descriptor of the memory."""
        return self._fd

    def close(self) -> None:
        """Let go of the memory, not of the descriptor."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def reserve(self, slot: int) -> None:
        """Make room for a slot; the core alone does this.

        Raises:
            OSError: ENOMEM.
        """
        needed = (slot // GROW_SLOTS + 1) * GROW_SLOTS * SLOT_BYTES
        if os.fstat(self._fd).st_size < needed:
            os.ftruncate(self._fd, needed)
        self._fit()

    def add(self, slot: int, word: int, amount: int) -> None:
        """Add to a word, given by its place in `Slot`."""
        memory, at = self._at(slot, word)
        value = _WORD.unpack_from(memory, at)[0]
        _WORD.pack_into(memory, at, (value + amount) & 0xFFFFFFFFFFFFFFFF)

    def read(self, slot: int) -> Slot:
        """Return all words of a slot."""
        memory, at = self._at(slot, 0)
        return Slot(*struct.unpack_from(f"={len(Slot._fields)}Q", memory, at))

    def clear(self, slot: int) -> None:
        """Begin anew, for another service."""
        memory, at = self._at(slot, 0)
        memory[at : at + SLOT_BYTES] = bytes(SLOT_BYTES)

    def _at(self, slot: int, word: int) -> tuple[mmap.mmap, int]:
        at = slot * SLOT_BYTES + word * _WORD.size
        if self._map is None or at >= len(self._map):
            self._fit()
        assert self._map is not None  # noqa: S101 - who has a slot was given room for it
        return self._map, at

    def _fit(self) -> None:
        size = os.fstat(self._fd).st_size
        if size and (self._map is None or len(self._map) < size):
            self.close()
            self._map = mmap.mmap(self._fd, size, access=self._access)
