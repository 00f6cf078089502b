"""Attack a control socket until killed, as fast as one processor can: attacker.py SOCKET.

Twenty clients call without end, eight never read the stream they asked for, eight leave their
message half sent, and the rest of the time new ones connect and leave.
"""

import contextlib
import select
import socket
import sys

CALLERS, DEAF, HALVES, CHURN = 20, 8, 8, 8
_PREFIX = b'{"method":"io.supervisordpidfd.Control.'
CALL = _PREFIX + b'Status"}\0'
STREAM = _PREFIX + b'Watch","more":true}\0'
HALF = _PREFIX + b"Sta"


def connect(path: str, data: bytes) -> socket.socket | None:
    """Connect and send; None if the daemon takes nobody now."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(path)
        client.send(data)
    except OSError:
        client.close()
        return None
    return client


def attack(path: str) -> None:
    """Keep all kinds of clients busy, and replace those that were turned away."""
    kinds = {CALL: CALLERS, STREAM: DEAF, HALF: HALVES}
    clients: dict[bytes, list[socket.socket]] = {data: [] for data in kinds}
    poll = select.poll()
    while True:
        for data, count in kinds.items():
            for _ in range(count - len(clients[data])):
                client = connect(path, data)
                if client is not None:
                    clients[data].append(client)
        clients[CALL] = [client for client in clients[CALL] if _go_on(client)]
        for _ in range(CHURN):
            passing = connect(path, b"")
            if passing is not None:
                passing.close()
        poll.poll(0)
        for data in (STREAM, HALF):
            clients[data] = [client for client in clients[data] if _is_open(client)]


def _go_on(client: socket.socket) -> bool:
    """Read what came, and call again."""
    with contextlib.suppress(BlockingIOError):
        try:
            if not client.recv(1 << 16):
                client.close()
                return False
            client.send(CALL)
        except ConnectionError:
            client.close()
            return False
    return True


def _is_open(client: socket.socket) -> bool:
    """Tell whether the daemon has not hung up, without reading what it said."""
    poll = select.poll()
    poll.register(client, 0)
    if poll.poll(0):
        client.close()
        return False
    return True


if __name__ == "__main__":
    attack(sys.argv[1])
