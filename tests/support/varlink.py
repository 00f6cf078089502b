"""A client of the control socket for tests: plain Varlink over a Unix socket, with a deadline.

Every reply and error is held against the interface file: a member too many is a failure, too.
"""

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any, Self

from tests.support.interface import INTERFACE as SHAPES

INTERFACE = "io.supervisordpidfd.Control"


class VarlinkError(Exception):
    """Be an error that the daemon answered."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(name, parameters)
        self.name = name.removeprefix(f"{INTERFACE}.")
        self.parameters = parameters


class Varlink:
    """Own one connection; every read has `within` seconds."""

    def __init__(self, path: str | Path, within: float = 10.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._within = within
        self._rest = b""
        self._method = ""
        # Not settimeout: a connect to a queue that is full for a moment would fail at once.
        limit = struct.pack("ll", int(within), int(within % 1 * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, method: str, more: bool | None = None, **parameters: Any) -> None:
        """Send a call; a method without a dot is one of ours."""
        name = method if "." in method else f"{INTERFACE}.{method}"
        self._method = name.removeprefix(f"{INTERFACE}.")
        message: dict[str, Any] = {"method": name, "parameters": parameters}
        if more is not None:
            message["more"] = more
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def receive(self) -> tuple[dict[str, Any], bool]:
        """Take the next reply, and whether more follow.

        Raises:
            VarlinkError: It is an error.
            EOFError: The daemon hung up.
        """
        message = json.loads(self.frame())
        parameters = message["parameters"]
        if "error" in message:
            error = VarlinkError(message["error"], parameters)
            assert "." in error.name or not SHAPES.wrong_in_error(error.name, parameters)
            raise error
        if self._method in SHAPES.replies:
            wrong = SHAPES.wrong_in_reply(self._method, parameters)
            assert not wrong, wrong
        return parameters, message.get("continues", False)

    def frame(self) -> bytes:
        """Take the bytes of the next message."""
        deadline = time.monotonic() + self._within
        while b"\0" not in self._rest:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            self._rest += data
        frame, self._rest = self._rest.split(b"\0", 1)
        return frame

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method that answers once."""
        self.send(method, **parameters)
        return self.receive()[0]

    def stream(self, method: str, **parameters: Any) -> list[dict[str, Any]]:
        """Call a method with `more`, and take all replies up to the last."""
        self.send(method, more=True, **parameters)
        replies, continues = [], True
        while continues:
            reply, continues = self.receive()
            replies.append(reply)
        return replies

    def is_closed(self) -> bool:
        """Read until the daemon hangs up; False if it does not in time."""
        try:
            while True:
                self.frame()
        except (EOFError, ConnectionResetError):
            return True
        except TimeoutError:
            return False
