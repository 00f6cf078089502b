"""Ask the gateway over HTTP: as a careful client does, and as a careless or hostile one."""

import contextlib
import hashlib
import http.client
import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.daemon import Daemon

DEADLINE_S = 20.0
TOKENS = {role: f"{role}-token-of-the-tests-0123456789" for role in ("metrics", "read", "control")}


def token_file(path: Path) -> Path:
    """Write a file with a token of each role."""
    lines = (
        f"{role}:{hashlib.sha256(token.encode()).hexdigest()}\n" for role, token in TOKENS.items()
    )
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def roomy_daemon() -> Iterator[Daemon]:
    """Give a daemon for a whole module, where others may pass: the gateway is somebody else."""
    with tempfile.TemporaryDirectory(prefix="supervisord-pidfd-") as name:
        home = Path(name)
        home.chmod(0o711)
        daemon = Daemon(home, pins=False)
        try:
            yield daemon
        finally:
            daemon.close()


class Answer(NamedTuple):
    """Hold what came back; `said` is the body read as JSON, None if it is none."""

    status: int
    headers: Any
    body: bytes

    @property
    def said(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Web:
    """Be a client of one address; each request has a connection of its own."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request and return the answer; `token` is a role."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {TOKENS.get(token, token)}"
        if method == "POST":
            given.setdefault("X-Supervisord-Request", "1")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **kwargs: Any) -> Answer:
        """GET a path."""
        return self.ask("GET", path, **kwargs)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Answer:
        """POST to a path, with the header that it needs."""
        return self.ask("POST", path, body, **kwargs)

    def connect(self) -> socket.socket:
        """Open a bare connection."""
        return socket.create_connection((self.host, self.port), timeout=DEADLINE_S)

    def stream(self, path: str, **headers: str) -> "Stream":
        """Open a stream of events."""
        return Stream(self, path, headers)


class Stream:
    """Read server-sent events, one after the other. Owns its connection."""

    def __init__(self, web: Web, path: str, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection(web.host, web.port, timeout=DEADLINE_S)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", path, headers=given)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()
        self._answer.close()

    def events(self) -> Iterator[dict[str, str]]:
        """Give each event as its fields; comments and what has no data are left out."""
        fields: dict[str, str] = {}
        while line := self._answer.readline():
            text = line.decode().rstrip("\n")
            if not text:
                if "data" in fields:
                    yield fields
                fields = {}
            elif not text.startswith(":"):
                name, _, value = text.partition(": ")
                fields[name] = value

    def until(self, **members: Any) -> tuple[dict[str, Any], str | None]:
        """Return the first event with these members, and its id."""
        for fields in self.events():
            said = json.loads(fields["data"])
            if members.items() <= said.items():
                return said, fields.get("id")
        raise AssertionError(f"the stream ended before {members}")
