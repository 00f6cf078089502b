"""Talk to the control socket, blocking: one call, or one stream of replies, at a time."""

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self, cast

from supervisord_pidfd.clock import Clock, SystemClock
from supervisord_pidfd.errors import NoAnswerError, ReplyError, UnreachableError, UsageError

INTERFACE = "io.supervisordpidfd.Control"
ANSWER_WITHIN = 10.0
"""Seconds for an answer to a call that does not wait for services."""
MAX_CALL = 64 << 10
"""Bytes of one call; the daemon hangs up on a longer one."""
MAX_REPLY = 64 << 20
"""Bytes of one reply; a longer one comes from no daemon of ours."""

_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid
_TIMEVAL = struct.Struct("ll")  # struct timeval
_CHUNK = 1 << 18
_DONE = object()

Parameters = Mapping[str, object]
Reply = dict[str, Any]


class Peer(NamedTuple):
    """Hold who listens at the other end; a pid of 0 is a process that we cannot see."""

    pid: int
    uid: int


class Client:
    """Own one connection to the daemon."""

    def __init__(self, path: str, clock: Clock | None = None) -> None:
        """Connect.

        Raises:
            UnreachableError: Nobody listens there, or we may not connect.
        """
        self._clock = clock if clock is not None else SystemClock()
        self._rest = bytearray()
        self._is_over = False
        self._meanwhile: Iterator[None] | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not settimeout: with it a queue that is full for a moment fails the connect at once.
            limit = _TIMEVAL.pack(int(ANSWER_WITHIN), 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(path)
            ucred = self._socket.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except BlockingIOError:
            self._socket.close()
            raise NoAnswerError(f"no answer within {ANSWER_WITHIN:.0f}s") from None
        except OSError as error:
            self._socket.close()
            raise UnreachableError(path, error.errno or 0) from None
        pid, uid, _gid = _CREDENTIALS.unpack(ucred)
        self.peer = Peer(pid, uid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what the daemon is doing for us goes on."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket, to be awaited together with something else."""
        return self._socket.fileno()

    # -- calls --------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        parameters: Parameters | None = None,
        timeout: float | None = None,
        meanwhile: Iterator[None] | None = None,
    ) -> Reply:
        """Call a method and return its one reply.

        Members that are None are left out of `parameters`. A method without a dot is one of ours.
        `meanwhile` is something to be done, step by step, while there is nothing to read.

        Raises:
            ReplyError: The daemon answered an error.
            UsageError: The call is longer than the daemon reads.
            NoAnswerError: It did not answer within `timeout` seconds (None: ANSWER_WITHIN).
        """
        self._send(method, parameters, more=False)
        self._meanwhile = meanwhile
        reply, _ = self._reply(ANSWER_WITHIN if timeout is None else timeout)
        self._meanwhile = None
        return reply

    def stream(
        self,
        method: str,
        parameters: Parameters | None = None,
        timeout: float | None = None,
        *,
        more: bool = True,
    ) -> Iterator[tuple[Reply, bool]]:
        """Call a method that may answer more than once; give each reply, and whether more follow.

        `timeout` bounds the wait for each reply; None waits for ever. Without `more` there is one
        reply, which may be long in coming.

        Raises:
            ReplyError: The daemon answered an error.
            NoAnswerError: It went away, or is late.
        """
        self._send(method, parameters, more=more)
        continues = True
        while continues:
            reply, continues = self._reply(timeout)
            yield reply, continues

    # -- two conversations at once ------------------------------------------------------------

    def begin(self, method: str, parameters: Parameters | None = None) -> None:
        """Call a method that answers more than once; `take` its answers as they come."""
        self._send(method, parameters, more=True)

    @property
    def has_reply(self) -> bool:
        """Tell whether there is something to take without waiting: a reply, or that it is over."""
        return self._is_over or 0 in self._rest

    def read(self) -> None:
        """Read once; there is something, or it is waited for."""
        try:
            self._socket.settimeout(None)
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        self._rest += data
        self._is_over = not data

    def take(self) -> tuple[Reply, bool]:
        """Return the next reply, and whether more follow.

        Raises:
            ReplyError: The daemon answered an error.
            NoAnswerError: It went away.
        """
        return self._reply(None)

    def wait_for_end(self) -> None:
        """Wait until the daemon hangs up, whatever it says before."""
        self._socket.settimeout(None)
        try:
            while self._socket.recv(_CHUNK):
                pass
        except ConnectionError:
            pass

    # -- frames -------------------------------------------------------------------------------

    def _send(self, method: str, parameters: Parameters | None, *, more: bool) -> None:
        call: dict[str, object] = {
            "method": method if "." in method else f"{INTERFACE}.{method}",
            "parameters": {k: v for k, v in (parameters or {}).items() if v is not None},
        }
        if more:
            call["more"] = True
        frame = json.dumps(call).encode() + b"\0"
        if len(frame) > MAX_CALL:
            raise UsageError("too many names for one call: the daemon reads 64 KiB")
        self._socket.settimeout(ANSWER_WITHIN)
        try:
            self._socket.sendall(frame, socket.MSG_NOSIGNAL)
        except TimeoutError:
            raise NoAnswerError(f"no answer within {ANSWER_WITHIN:.0f}s") from None
        except OSError:
            # It may have said why before it hung up; the next read tells.
            return

    def _reply(self, timeout: float | None) -> tuple[Reply, bool]:
        try:
            answer = json.loads(self._frame(timeout))
        except (ValueError, RecursionError):
            raise NoAnswerError("the answer is not JSON") from None
        if not isinstance(answer, dict):
            raise NoAnswerError("the answer is not an object")
        answer = cast("Reply", answer)
        parameters = answer.get("parameters", {})
        if not isinstance(parameters, dict):
            raise NoAnswerError("the answer's parameters are not an object")
        error = answer.get("error")
        if error is not None:
            raise ReplyError(str(error), cast("Reply", parameters))
        return cast("Reply", parameters), answer.get("continues") is True

    def _frame(self, timeout: float | None) -> bytes:
        """Read up to the next NUL."""
        deadline = None if timeout is None else self._clock.now() + timeout
        looked_at = 0
        while (end := self._rest.find(0, looked_at)) < 0:
            looked_at = len(self._rest)
            if looked_at > MAX_REPLY:
                raise NoAnswerError(f"the answer is longer than {MAX_REPLY} bytes")
            self._rest += self._received(deadline, timeout)
        frame = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return frame

    def _received(self, deadline: float | None, timeout: float | None) -> bytes:
        left = None if deadline is None else deadline - self._clock.now()
        late = f"no answer within {timeout or 0:g}s"
        if left is not None and left <= 0:
            raise NoAnswerError(late)
        try:
            data = self._read_soon() or self._read_within(left)
        except TimeoutError:
            raise NoAnswerError(late) from None
        except OSError as error:
            raise NoAnswerError(f"the connection broke: {os.strerror(error.errno or 0)}") from None
        if not data:
            raise NoAnswerError("the daemon hung up")
        return data

    def _read_soon(self) -> bytes:
        """Read as soon as there is something, or return b"" when there is nothing else to do."""
        if self._meanwhile is None:
            return b""
        self._socket.settimeout(0)
        while self._meanwhile is not None:
            try:
                return self._socket.recv(_CHUNK)
            except BlockingIOError:
                if next(self._meanwhile, _DONE) is _DONE:
                    self._meanwhile = None
        return b""

    def _read_within(self, seconds: float | None) -> bytes:
        self._socket.settimeout(seconds)
        return self._socket.recv(_CHUNK)
