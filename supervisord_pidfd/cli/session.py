"""One run of `pidfdctl`: what was asked, where it is shown, the connection, what went wrong."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.cli.args import Words
from supervisord_pidfd.cli.screen import Screen, escape
from supervisord_pidfd.client import ANSWER_WITHIN, INTERFACE, Client, Reply
from supervisord_pidfd.clock import Clock
from supervisord_pidfd.config import paths
from supervisord_pidfd.errors import NoAnswerError, ReplyError, UnreachableError

DONE, FAILED, USAGE, FALSE, NO_SUCH_SERVICE, TIMED_OUT, INVALID, UNREACHABLE, DENIED = range(9)
INTERRUPTED, NOBODY_READS = 130, 141
VARLINK = "org.varlink.service."


class Failure(NamedTuple):
    """Hold why a command could not be carried out, for people and as JSON."""

    code: int
    name: str
    text: str
    parameters: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        error = {"name": self.name, "message": self.text, "parameters": self.parameters}
        return {"format": 1, "error": error}


class Session:
    """Own the connection of one command."""

    def __init__(
        self,
        words: Words,
        screen: Screen,
        clock: Clock,
        environment: Mapping[str, str],
        connect: Callable[[str, Clock], Client] = Client,
    ) -> None:
        self.words = words
        self.screen = screen
        self.clock = clock
        self.change: int | None = None
        self.path = words.text("socket") or default_socket(environment)
        self._connect = connect
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Return the connection; made when it is first needed."""
        if self._client is None:
            self._client = self._connect(self.path, self.clock)
        return self._client

    def another(self) -> Client:
        """Make another connection, which is the caller's."""
        return self._connect(self.path, self.clock)

    def call(
        self,
        method: str,
        parameters: Mapping[str, object] | None = None,
        meanwhile: Iterator[None] | None = None,
    ) -> Reply:
        """Call a method that does not wait for services; see `Client.call`."""
        return self.client.call(method, parameters, meanwhile=meanwhile)

    def stream(
        self, method: str, parameters: Mapping[str, object], *, wait: float | None
    ) -> Iterator[tuple[Reply, bool]]:
        """Call a method with `more`; `wait` is how long its own waiting may take (None: ever)."""
        limit = None if wait is None else wait + ANSWER_WITHIN
        for reply, continues in self.client.stream(method, parameters, limit):
            change = reply.get("change")
            self.change = change if isinstance(change, int) else self.change
            yield reply, continues

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # -- what went wrong ----------------------------------------------------------------------

    def unreachable(self, error: UnreachableError) -> Failure:
        """Say that nobody answers, or that we may not ask."""
        if error.errno in {errno.EACCES, errno.EPERM}:
            return self._denied(_owner(error.path), "connect")
        why = _REASONS.get(error.errno) or os.strerror(error.errno).lower()
        path = escape(error.path)
        text = f"cannot reach the daemon at {path}: {why}\n          is it running?  "
        system = error.path == system_socket()
        text += (
            "systemctl status supervisord-pidfd"
            if system
            else ("(another socket: pidfdctl -s PATH, or PIDFDCTL_SOCKET)")
        )
        return Failure(UNREACHABLE, "Unreachable", text, {"path": error.path, "reason": why})

    def no_answer(self, error: NoAnswerError) -> Failure:
        """Say that the daemon did not answer as it should."""
        text = f"cannot {self.words.what}: {error} (is the daemon at {escape(self.path)} well?)"
        return Failure(UNREACHABLE, "NoAnswer", text, {"path": self.path, "reason": str(error)})

    def refused(self, error: ReplyError) -> Failure:
        """Say what the daemon had against it."""
        name = error.name.removeprefix(INTERFACE + ".").removeprefix(VARLINK)
        code, text = self._told(name, error.parameters)
        return Failure(code, name, text, error.parameters)

    def _told(  # noqa: PLR0911 - one for each error
        self, name: str, parameters: Mapping[str, object]
    ) -> tuple[int, str]:
        what = self.words.what
        match name:
            case "NoSuchService":
                return NO_SUCH_SERVICE, self._no_such_service(parameters)
            case "PermissionDenied":
                uid = None if self._client is None else self._client.peer.uid
                return DENIED, self._denied(uid, name).text
            case "ConfigInvalid":
                return INVALID, f"cannot {what}: the configuration is invalid; nothing was changed"
            case "Refused":
                why = parameters.get("message") or parameters.get("reason") or "refused"
                return FAILED, f"cannot {what}: {escape(str(why))}"
            case "InvalidParameter":
                which = escape(str(parameters.get("parameter", "?")))
                return USAGE, f"cannot {what}: the daemon does not accept this '{which}'"
            case "MethodNotImplemented" | "MethodNotFound" | "InterfaceNotFound":
                return FAILED, f"cannot {what}: not available in this version of the daemon"
            case _:
                return FAILED, f"cannot {what}: {escape(name)}{_members(parameters)}"

    def _no_such_service(self, parameters: Mapping[str, object]) -> str:
        name = escape(str(parameters.get("name", "?")))
        near = parameters.get("suggestion")
        hint = f"did you mean '{escape(str(near))}'?" if near else "pidfdctl status lists them"
        doing = self.words.verb.doing
        what = doing.format(f"'{name}'") if "{}" in doing else f"{self.words.what} for '{name}'"
        return f"cannot {what}: no such service ({hint})"

    def _denied(self, uid: int | None, _why: str) -> Failure:
        ours = os.geteuid()
        who = "root" if uid in {None, 0} else f"root or uid {uid}"
        text = f"cannot {self.words.what}: permission denied (needs {who}; you are uid {ours})"
        return Failure(DENIED, "PermissionDenied", text, {})


_REASONS = {
    errno.ENOENT: "no such file",
    errno.ECONNREFUSED: "connection refused",
    errno.ENOTSOCK: "not a socket",
    errno.EPROTOTYPE: "not a control socket",
    errno.EINVAL: "not a usable path",
    0: "not a usable path",
}


def _members(parameters: Mapping[str, object]) -> str:
    return "".join(f" {escape(str(k))}={escape(str(v))}" for k, v in parameters.items())


def _owner(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


# -- what services wrote --------------------------------------------------------------------------


def last_lines(session: Session, name: str, run: int | None = None, most: int = 10) -> list[str]:
    """Ask for the last lines of a service's log, beside something else: the last call of all.

    A daemon that keeps none, or has no logger just now, has none to show.
    """
    parameters = {"names": [name], "last": most, "run": run}
    found: list[str] = []
    try:
        for reply, _ in session.client.stream("Logs", parameters, ANSWER_WITHIN):
            if reply.get("line") is not None:
                found.append(str(reply["line"]["msg"]))
    except (ReplyError, NoAnswerError):
        return found
    return found


# -- where the daemon is --------------------------------------------------------------------------


def system_socket() -> str:
    """Return the control socket of the system's daemon."""
    return f"{paths.default_runtime_dir(0, {})}/control.sock"


def default_socket(environment: Mapping[str, str]) -> str:
    """Return the control socket to use when none was named."""
    named = environment.get("PIDFDCTL_SOCKET")
    if named:
        return named
    base = environment.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        own = f"{base}/{paths.PACKAGE}/control.sock"
        if os.path.exists(own):
            return own
    return system_socket()
