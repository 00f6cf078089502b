"""Write to the syslog daemon of this machine: RFC 3164 datagrams, as the C library sends them."""

import time
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd.logger.journal import IDENTIFIER, plain_text
from supervisord_pidfd.logger.messages import LineSink
from supervisord_pidfd.logger.render import escape

PATH = "/dev/log"
TEXT_BYTES = 8000
"""What is longer becomes several messages: many daemons cut at 8 KiB."""

_FACILITY_DAEMON = 3
_OF_STREAM = {"stdout": 6, "stderr": 4, "hook": 6}
_SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def message(severity: int, identifier: str, text: bytes, wall: float) -> bytes:
    """Write one message."""
    at = time.localtime(wall)
    clock = f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    head = f"<{_FACILITY_DAEMON * 8 + severity}>{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} {clock}"
    return f"{head} {identifier}: ".encode() + text


def of_event(event: Mapping[str, Any], wall: float) -> bytes:
    """Write one of the daemon's own events, as far as there is room."""
    severity = _SEVERITIES.get(str(event.get("level")), 6)
    text = plain_text(event).encode("utf-8", "replace")
    return message(severity, IDENTIFIER, text[:TEXT_BYTES], wall)


class SyslogSink(LineSink):
    """Be what one stream of a service writes to syslog. Borrows the courier."""

    _done = 0

    def _send(self, line: bytes, run: str) -> bool:  # noqa: ARG002 - syslog has no place for it
        text = escape(line)
        while True:
            part = text[self._done : self._done + TEXT_BYTES]
            if not self.courier.send(
                message(_OF_STREAM[self.stream], self.service, part, time.time())
            ):
                return False
            self._done += TEXT_BYTES
            if self._done >= len(text):
                self._done = 0
                return True
