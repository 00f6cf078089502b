"""Sinks that make a message of each line: the journal, syslog."""

from supervisord_pidfd.logger.datagrams import Courier
from supervisord_pidfd.logger.render import Form, Inward
from supervisord_pidfd.logger.sinks import SinkError


class LineSink:
    """Take lines of one stream of a service, each with its run before it. Borrows the courier."""

    device: int | None = None
    form: Form = Inward.NUMBERED

    def __init__(self, courier: Courier, service: str, stream: str) -> None:
        self.courier = courier
        self.service = service
        self.stream = stream
        self._wants_room = False

    def write(self, data: bytes) -> int:
        """Return how many of the bytes were taken, always whole lines; see `Sink`.

        Raises:
            SinkError: None was, for a reason.
        """
        taken = 0
        self._wants_room = False
        try:
            while taken < len(data):
                end = data.find(b"\n", taken)
                end = len(data) if end < 0 else end
                run, _, line = data[taken:end].partition(b" ")
                if not self._send(line, run.decode("ascii")):
                    self._wants_room = True
                    break
                taken = min(end + 1, len(data))
        except SinkError:
            if not taken:
                raise
        return taken

    def _send(self, line: bytes, run: str) -> bool:
        raise NotImplementedError

    def waits_on(self) -> int | None:
        """Return a descriptor that is writable once more is taken; None: try again by time."""
        return self.courier.waits_on() if self._wants_room else None

    def reopen(self) -> None:
        """Do nothing: there is no file."""

    def close(self) -> None:
        """Leave the courier to others."""
