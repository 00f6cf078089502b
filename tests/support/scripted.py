"""A daemon that answers by a script: in memory for unit tests, on a real socket for others.

What it answers is held against the interface file, so that a script cannot promise a shape that
the daemon does not have.
"""

import contextlib
import copy
import json
import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from supervisord_pidfd import __version__
from supervisord_pidfd.client import INTERFACE as NAME
from supervisord_pidfd.client import Peer
from supervisord_pidfd.errors import NoAnswerError, ReplyError, UnreachableError
from tests.support.interface import INTERFACE

NOW = "2026-11-23T14:02:14.000Z"
VARLINK = "org.varlink.service"


def service(name: str, phase: str = "running", **changes: Any) -> dict[str, Any]:
    """Describe a service, as far as its phase tells; `changes` replace members."""
    up = phase in {"running", "starting", "stopping"}
    record = {
        "name": name, "group": name.partition("@")[0], "type": "simple", "description": "",
        "phase": phase, "wanted": "down" if phase in {"stopped", "exited"} else "up",
        "ready": phase == "running", "health": "none", "pid": None, "run": 1,
        "since": "2026-11-23T13:50:03.000Z",
        "started_at": "2026-11-23T13:50:02.000Z" if up else None,
        "ready_at": "2026-11-23T13:50:03.000Z" if phase == "running" else None,
        "restarts": 0, "restarts_1h": 0, "attempt": 0, "limit": 10, "next_start_at": None,
        "last_exit": None, "checks": [], "totals": None, "waiting_for": [], "status_text": None,
        "critical": False, "adopted": False, "frozen": False, "pending": False, "detail": "",
    }  # fmt: skip
    return {**record, **changes}


def an_exit(text: str = "code 1", **changes: Any) -> dict[str, Any]:
    """Describe how a run ended."""
    ended = {
        "cause": "exit_code", "exit_code": 1, "signal": None, "core": False, "forced": False,
        "stage": None, "error": None, "text": text,
    }  # fmt: skip
    return {**ended, **changes}


def supervisor(**changes: Any) -> dict[str, Any]:
    """Describe the daemon; `files` and `last_error` are those of its configuration."""
    config = {
        "file": None, "files": changes.pop("files", []), "generation": 1, "digest": "7f3a91c2",
        "applied_at": "2026-11-23T14:01:58.000Z", "last_error": changes.pop("last_error", None),
    }  # fmt: skip
    record = {
        "version": __version__, "pid": os.getpid(), "pid1": False, "phase": "running",
        "reaper": "pidfd", "reaper_reason": None, "features": [], "started_at": NOW,
        "config": config, "counts": {},
    }  # fmt: skip
    return {**record, **changes}


def status(*services: dict[str, Any], **of_supervisor: Any) -> dict[str, Any]:
    """Make the reply of `Status`."""
    return {"supervisor": supervisor(**of_supervisor), "services": list(services)}


def outcome(
    name: str, message: str, phase: str = "running", *, ok: bool = True, took_s: float = 0.4
) -> dict[str, Any]:
    """Make the outcome of one service."""
    return {"service": name, "ok": ok, "phase": phase, "message": message, "took_s": took_s}


def error(name: str, /, **parameters: Any) -> ReplyError:
    """Make an error of our interface; with a dot in its name, of another."""
    if "." in name:
        return ReplyError(name, parameters)
    assert INTERFACE.wrong_in_error(name, parameters) == []
    return ReplyError(f"{NAME}.{name}", parameters)


INFO = {
    "vendor": "supervisord-pidfd", "product": "supervisord-pidfd", "version": __version__,
    "url": "", "interfaces": [VARLINK, NAME],
}  # fmt: skip


class Scripted:
    """Answer calls by a script, and remember them.

    A method's answer is one reply, a list of replies (the last of which does not continue), or a
    list that ends with an error; an error alone is an answer too, an empty list is silence. A call
    of what is not in the script is answered `MethodNotImplemented`. `heard` tells each call.
    """

    def __init__(self, **script: Any) -> None:
        self.script = {"GetInfo": INFO, **script}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.peer = Peer(os.getpid(), 990)
        self.refuses: int | None = None
        self._talk: Iterator[tuple[dict[str, Any], bool]] = iter(())
        self._open: list[socket.socket] = []
        self.heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    @property
    def last(self) -> dict[str, Any]:
        """Give the parameters of the last call."""
        return self.calls[-1][1]

    def answers(self, method: str, parameters: Mapping[str, object]) -> list[Any]:
        """Give the replies, and perhaps an error at the end."""
        name = method.rpartition(".")[2]
        given = {key: value for key, value in parameters.items() if value is not None}
        self.calls.append((name, json.loads(json.dumps(given))))
        self.heard.put(name)
        if name not in self.script:
            return [error(f"{VARLINK}.MethodNotImplemented", method=method)]
        said = copy.deepcopy(self.script[name])
        replies = said if isinstance(said, list) else [said]
        for reply in replies:
            if name in INTERFACE.replies and not isinstance(reply, Exception):
                assert INTERFACE.wrong_in_reply(name, reply) == []
        return replies

    # -- in memory: what a `Client` does --------------------------------------------------------

    def connect(self, path: str, _clock: object = None) -> "Scripted":
        """Stand for a connection."""
        if self.refuses is not None:
            raise UnreachableError(path, self.refuses)
        return copy.copy(self)  # a connection: script and calls are shared

    def close(self) -> None:
        """Hang up."""

    def wait_for_end(self) -> None:
        """Be at an end already."""

    def call(
        self,
        method: str,
        parameters: Mapping[str, object] | None = None,
        _timeout: object = None,
        meanwhile: Iterator[None] | None = None,
    ) -> dict[str, Any]:
        """Answer a call that has one reply, when all that can be done meanwhile was done."""
        for _ in meanwhile or ():
            pass
        (reply,) = self.answers(method, parameters or {})
        if isinstance(reply, Exception):
            raise reply
        found: dict[str, Any] = reply
        return found

    def stream(
        self,
        method: str,
        parameters: Mapping[str, object] | None = None,
        _timeout: object = None,
        **_more: bool,
    ) -> Iterator[tuple[dict[str, Any], bool]]:
        """Answer a call that may have many."""
        replies = self.answers(method, parameters or {})
        for index, reply in enumerate(replies):
            if isinstance(reply, BaseException):
                raise reply
            yield reply, index < len(replies) - 1

    has_reply = True

    def begin(self, method: str, parameters: Mapping[str, object] | None = None) -> None:
        """Take a call whose answers are taken one by one."""
        self._talk = self.stream(method, parameters)

    def take(self) -> tuple[dict[str, Any], bool]:
        """Give the next answer; at the end hang up."""
        answer = next(self._talk, None)
        if answer is None:
            raise NoAnswerError("the daemon hung up")
        return answer

    # -- on a socket ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def serve(self, path: Path) -> Iterator[Path]:
        """Listen at a path until the end of the block, one client after the other."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=self._accept, args=(listener,))
            thread.start()
            try:
                yield path
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                for connection in tuple(self._open):  # of a client that hangs, too
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # shut down: the test is over
                return
            self._open.append(connection)
            with connection, contextlib.suppress(ConnectionError):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        rest = b""
        while data := connection.recv(1 << 16):
            *frames, rest = (rest + data).split(b"\0")
            for frame in frames:
                connection.sendall(self._frames(json.loads(frame)))

    def _frames(self, call: dict[str, Any]) -> bytes:
        replies = self.answers(call["method"], call.get("parameters", {}))
        frames = []
        for index, reply in enumerate(replies):
            if isinstance(reply, ReplyError):
                frames.append({"error": reply.name, "parameters": reply.parameters})
            else:
                more = {"continues": True} if index < len(replies) - 1 else {}
                frames.append({"parameters": reply, **more})
        return b"".join(json.dumps(frame).encode() + b"\0" for frame in frames)
