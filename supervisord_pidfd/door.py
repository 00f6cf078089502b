"""gateway.sock: where the gateway comes in, with a role of its own and room of its own.

The gateway parses what strangers send, so it is not trusted like other clients: what it may do is
settled by the configuration, whoever it runs as. The file belongs to its user and nobody else can
connect; of those who can, the process of the gateway alone is let in, because a service may run as
the same user. Its clients and those of control.sock have separate room and separate turns.

A gateway that is started again finds nothing of the one before: its connections ended with it.
"""

import contextlib
import os
import socket
from collections.abc import Callable

from supervisord_pidfd.commands import Role
from supervisord_pidfd.control import Bounds, ControlServer
from supervisord_pidfd.core.spec import Identity
from supervisord_pidfd.listening import FOR_US, Listener

NAME = "gateway.sock"
GATEWAY = ":gateway"
CONVERSATIONS = 64
"""More than the connections that a gateway serves: each of those has one call at a time."""


class Door:
    """Hold gateway.sock while there is to be a gateway. Owns its listener."""

    def __init__(
        self,
        serve: Callable[[socket.socket, Bounds], ControlServer],
        pid: Callable[[], int | None],
    ) -> None:
        """Take what serves a socket, and what tells the pid of the gateway while it has one."""
        self._serve = serve
        self._pid = pid
        self._role = Role.NONE
        self._listener: Listener | None = None
        self._server: ControlServer | None = None

    def open(self, directory: str, owner: Identity | None, role: Role) -> str:
        """Listen in this directory, for a gateway with this user and role; return the path.

        Raises:
            OSError: It cannot be made there, or not be given to the user.
            StartupError: Somebody else listens there.
        """
        self._role = role
        path = os.path.join(directory, NAME)
        if self._listener is None or not self._listener.is_in_place:
            self.close()
            self._listener = Listener(path, FOR_US)
            bounds = Bounds(CONVERSATIONS, CONVERSATIONS, self._role_of)
            self._server = self._serve(self._listener.socket, bounds)
        try:
            if owner is not None:
                os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        except OSError:
            self.close()
            raise
        return path

    def _role_of(self, pid: int) -> Role:
        return self._role if pid == self._pid() else Role.NONE

    def work(self) -> bool:
        """Do a turn's share for the gateway; return whether there is more."""
        return self._server is not None and self._server.work()

    @property
    def has_work(self) -> bool:
        """Tell whether there is anything to send."""
        return self._server is not None and self._server.has_work

    def close(self) -> None:
        """End all conversations, and take the socket away."""
        server, self._server = self._server, None
        listener, self._listener = self._listener, None
        if server is not None:
            server.close()
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.close()
