"""Send datagrams to a daemon of the system that may be away, slow, or started again."""

import errno
import fcntl
import os
import socket
import threading

from supervisord_pidfd.logger.sinks import SinkError

_GONE = frozenset({errno.ECONNREFUSED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET})
_NO_ROOM = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Courier:
    """Own one socket for all who send to a path; any thread may."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> bool:
        """Send a datagram; return False if there is no room for it now.

        Raises:
            SinkError: It cannot be sent: nobody is there, or it is too long (EMSGSIZE).
        """
        try:
            try:
                self._send(data, fds)
            except OSError as error:
                if error.errno not in _GONE or self._socket is None:
                    raise
                self._socket.connect(self.path)  # the receiver was started again
                self._send(data, fds)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise SinkError.of(error, self.path) from None
        return True

    def _send(self, data: bytes, fds: tuple[int, ...]) -> None:
        sock = self._socket or self._connected()
        if fds:
            socket.send_fds(sock, [data], fds, socket.MSG_NOSIGNAL)
        else:
            sock.send(data, socket.MSG_NOSIGNAL)

    def _connected(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                try:
                    made.setblocking(False)
                    made.connect(self.path)
                except OSError:
                    made.close()
                    raise
                self._socket = made
            return self._socket

    def waits_on(self) -> int | None:
        """Return a descriptor that is writable once there is room; None: try again by time."""
        return None if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def send_as_file(courier: Courier, data: bytes) -> bool:
    """Send what is too long for a datagram as a sealed file in memory, as journald takes it.

    Raises:
        SinkError: It cannot be sent.
    """
    try:
        fd = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise SinkError.of(error, courier.path) from None
    with open(fd, "wb", buffering=0) as file:
        file.write(data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return courier.send(b"", (fd,))
