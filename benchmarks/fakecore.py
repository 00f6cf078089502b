"""Stand in for the core of thousands of services at gateway.sock: fakecore.py SOCKET COUNT.

Answers Status and Dependencies, and feeds Watch, Events and Logs as fast as they are read.
"""

import contextlib
import itertools
import json
import selectors
import socket
import sys

RECORD = {
    "group": "worker", "type": "simple", "description": "", "phase": "running", "wanted": "up",
    "ready": True, "health": "none", "pid": 1234, "run": 3, "since": "2026-01-01T00:00:00.000Z",
    "started_at": "2026-01-01T00:00:00.000Z", "ready_at": "2026-01-01T00:00:00.000Z",
    "restarts": 2, "restarts_1h": 0, "attempt": 0, "limit": 10, "next_start_at": None,
    "last_exit": {
        "cause": "exit_code", "exit_code": 1, "signal": None, "core": False, "forced": False,
        "stage": None, "error": None, "text": "code 1",
    },
    "checks": [], "waiting_for": [], "status_text": None, "critical": False, "adopted": False,
    "frozen": False, "pending": False, "detail": "last exit: code 1, 12m ago",
}  # fmt: skip
TOTALS = {
    "restarts": {"exit_code": 2}, "exits": {"exit_code": 2}, "start_limit_hits": 0,
    "kill_escalations": 0, "user_cpu_s": 1.5, "system_cpu_s": 0.5,
}  # fmt: skip
SUPERVISOR = {
    "version": "0", "pid": 1, "pid1": False, "phase": "running", "reaper": "pidfd",
    "reaper_reason": None, "features": [], "started_at": "2026-01-01T00:00:00.000Z", "counts": {},
    "config": {
        "file": None, "files": [], "generation": 1, "digest": "", "last_error": None,
        "applied_at": "2026-01-01T00:00:00.000Z",
    },
}  # fmt: skip
EVENT = {"ts": "2026-01-01T00:00:00.000Z", "level": "info", "event": "service.ready", "seq": 1}
LINE = {
    "ts": "2026-01-01T00:00:00.000Z", "service": "worker@1", "stream": "stdout", "run": 1,
    "seq": 1, "msg": "x" * 200, "partial": False,
}  # fmt: skip
SENT_AT_ONCE = 1 << 18


def frame(parameters: object, *, continues: bool = False) -> bytes:
    """Write one reply."""
    tail = b',"continues":true}\0' if continues else b"}\0"
    return b'{"parameters":' + json.dumps(parameters, separators=(",", ":")).encode() + tail


def answers(count: int) -> dict[str, tuple[bytes, bytes]]:
    """Return for each method what is sent first, and what is sent for ever after that."""
    names = [f"worker@{number}" for number in range(count)]
    records = [{"name": name, **RECORD, "totals": None} for name in names]
    watched = [{**record, "totals": TOTALS} for record in records]
    told = b"".join(
        frame({"revision": 1, "services": watched[at : at + 4], "synced": False}, continues=True)
        for at in range(0, count, 4)
    )
    event = frame({"revision": 1, "synced": True, "event": EVENT}, continues=True)
    edges = [
        {"from": a, "to": b, "kind": "requires", "condition": "ready", "met": True}
        for a, b in itertools.pairwise(names)
    ]
    synced = frame({"revision": 1, "synced": True}, continues=True)
    return {
        "Status": (frame({"supervisor": SUPERVISOR, "services": records}), b""),
        "Dependencies": (frame({"edges": edges}), b""),
        "Watch": (told + synced, event),
        "Events": (b"", frame({"event": EVENT}, continues=True)),
        "Logs": (b"", frame({"line": LINE}, continues=True)),
    }


class Conversation:
    """Be one client: what it has asked, and what it has not got yet."""

    def __init__(self, client: socket.socket, known: dict[str, tuple[bytes, bytes]]) -> None:
        self.client = client
        self._known = known
        self._left = memoryview(b"")
        self._more = b""

    def read(self) -> bool:
        """Take a call; return whether the client is there."""
        data = self.client.recv(1 << 16)
        with contextlib.suppress(ValueError, KeyError):
            call = json.loads(data.rstrip(b"\0"))
            first, more = self._known[call["method"].rpartition(".")[2]]
            if call["parameters"].get("names") == []:
                first = frame({"supervisor": SUPERVISOR, "services": []})
            self._left, self._more = memoryview(first), more * 64
        return bool(data)

    def write(self) -> bool:
        """Send what it takes; return whether there is more."""
        if not self._left:
            self._left = memoryview(self._more)
        if self._left:
            self._left = self._left[self.client.send(self._left[:SENT_AT_ONCE]) :]
        return bool(self._left or self._more)


def serve(path: str, count: int) -> None:
    """Answer whoever connects, until killed."""
    known = answers(count)
    with selectors.DefaultSelector() as selector, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, events in selector.select():
                if key.data is None:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    selector.register(client, selectors.EVENT_READ, Conversation(client, known))
                    continue
                try:
                    alive = key.data.read() if events & selectors.EVENT_READ else True
                    writes = alive and key.data.write()
                except BlockingIOError:
                    alive = writes = True
                except OSError:
                    alive = writes = False
                if not alive:
                    selector.unregister(key.fileobj)
                    key.data.client.close()
                else:
                    both = selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0)
                    selector.modify(key.fileobj, both, key.data)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
