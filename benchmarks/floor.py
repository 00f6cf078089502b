"""The least a supervisor can be, in Python: posix_spawn, a pidfd in epoll, waitid, again.

`floor.py N PROBE SOCKET [WORD]` keeps N probes alive, without any policy, until SIGTERM.
"""

import os
import select
import signal
import sys


class Floor:
    """Keep every index alive."""

    def __init__(self, probe: str, socket: str, *words: str) -> None:
        self.probe = probe
        self.socket = socket
        self.words = words
        self.ending = False
        self.held: dict[int, int] = {}  # pidfd -> index
        self.epoll = select.epoll()

    def spawn(self, index: int) -> None:
        """Start one probe in a session of its own and watch it."""
        pid = os.posix_spawn(
            self.probe,
            (self.probe, self.socket, str(index), *self.words),
            os.environ,
            setsid=True,
        )
        pidfd = os.pidfd_open(pid)
        self.epoll.register(pidfd, select.EPOLLIN)
        self.held[pidfd] = index

    def reap(self, pidfd: int) -> None:
        """Reap one ended probe and start its successor.

        Unregister before close, never block: posix_spawn may return before the child's
        close-on-exec has run, so that a closed but registered pidfd would go on reporting a
        number that has a new meaning by then. Every event is only a hint.
        """
        if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None:
            return
        self.epoll.unregister(pidfd)
        os.close(pidfd)
        index = self.held.pop(pidfd)
        if not self.ending:
            self.spawn(index)

    def stop(self) -> None:
        """Ask every probe to end."""
        self.ending = True
        for pidfd in self.held:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)

    def run(self, inbox: int) -> None:
        """Serve until no probe is left."""
        self.epoll.register(inbox, select.EPOLLIN)
        while self.held:
            for fd, _ in self.epoll.poll():
                if fd in self.held:
                    self.reap(fd)
                elif fd == inbox and os.read(inbox, 64):
                    self.stop()


def main() -> None:
    """Run with the words of the command line."""
    count, *command = sys.argv[1:]
    inbox, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    floor = Floor(*command)
    for index in range(int(count)):
        floor.spawn(index)
    floor.run(inbox)


if __name__ == "__main__":
    main()
