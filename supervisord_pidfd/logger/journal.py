"""Speak journald's native protocol: a datagram for each line or event, with its fields.

What is too long for a datagram goes as a sealed file. See systemd's JOURNAL_NATIVE_PROTOCOL.
"""

import struct
import uuid
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd.logger import events
from supervisord_pidfd.logger.datagrams import Courier, send_as_file
from supervisord_pidfd.logger.messages import LineSink
from supervisord_pidfd.logger.sinks import SinkError

PATH = "/run/systemd/journal/socket"
IDENTIFIER = "supervisord-pidfd"

_LENGTH = struct.Struct("<Q")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_OF_STREAM = {"stdout": 6, "stderr": 4, "hook": 6}
_FACILITY_DAEMON = 3
RUNS_KEPT = 8
"""Runs of a service of which the process is remembered: what outlives more is as nameless."""

_FIELDS = ("service", "group", "run", "stream", "event", "cause", "exit_code", "signal")


def message(fields: Mapping[str, object]) -> bytes:
    """Write fields as journald reads them; a value with a newline has its length before it."""
    parts: list[bytes] = []
    for name, value in fields.items():
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", _LENGTH.pack(len(data)), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


def send(courier: Courier, fields: Mapping[str, object]) -> bool:
    """Send one entry; return False if there is no room for it now.

    Raises:
        SinkError: It cannot be sent.
    """
    data = message(fields)
    try:
        return courier.send(data)
    except SinkError as error:
        if error.error != "EMSGSIZE":
            raise
    return send_as_file(courier, data)


class Lookup:
    """Know the groups of services, and which processes their latest runs are.

    The main thread writes; pumps only look.
    """

    def __init__(self) -> None:
        self._groups: dict[str, str] = {}
        self._pids: dict[str, dict[int, int]] = {}

    def use_group(self, service: str, group: str) -> None:
        """Let this be the group of a service."""
        self._groups[service] = group

    def use_pid(self, service: str, run: int, pid: int) -> None:
        """Let this be the main process of a run."""
        latest = dict(tuple(self._pids.get(service, {}).items())[1 - RUNS_KEPT :])
        latest[run] = pid
        self._pids[service] = latest

    def forget(self, service: str) -> None:
        """Drop a service that is gone."""
        self._groups.pop(service, None)
        self._pids.pop(service, None)

    def fields(self, service: str, run: str, stream: str) -> dict[str, object]:
        """Give the fields of a line that follow from its service and run, as far as known."""
        found: dict[str, object] = {}
        pid = self._pids.get(service, {}).get(int(run))
        if pid is not None and stream != "hook":  # a hook is another process
            found["OBJECT_PID"] = pid
        group = self._groups.get(service)
        if group:
            found["SUPERVISORD_GROUP"] = group
        return found


class JournalSink(LineSink):
    """Be what one stream of a service writes to the journal. Borrows courier and lookup."""

    def __init__(
        self, courier: Courier, service: str, stream: str, lookup: Lookup | None = None
    ) -> None:
        super().__init__(courier, service, stream)
        self._lookup = lookup or Lookup()

    def _send(self, line: bytes, run: str) -> bool:
        return send(
            self.courier,
            {
                "MESSAGE": line,
                "PRIORITY": _OF_STREAM[self.stream],
                "SYSLOG_FACILITY": _FACILITY_DAEMON,
                "SYSLOG_IDENTIFIER": self.service,
                "SUPERVISORD_SERVICE": self.service,
                "SUPERVISORD_RUN": run,
                "SUPERVISORD_STREAM": self.stream,
                **self._lookup.fields(self.service, run, self.stream),
            },
        )


def fields_of(event: Mapping[str, Any]) -> dict[str, object]:
    """Give the fields of one of the daemon's own events; what is null is left out."""
    name = str(event.get("event", "?"))
    fields: dict[str, object] = {
        "MESSAGE": plain_text(event),
        "PRIORITY": _PRIORITIES.get(str(event.get("level")), 6),
        "SYSLOG_FACILITY": _FACILITY_DAEMON,
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "MESSAGE_ID": message_id(name),
    }
    if event.get("pid") is not None:
        fields["OBJECT_PID"] = event["pid"]
    for key in _FIELDS:
        if event.get(key) is not None:
            fields[f"SUPERVISORD_{key.upper()}"] = event[key]
    return fields


def plain_text(event: Mapping[str, Any]) -> str:
    """Give the text of an event without time and dashes."""
    return events.text_of(dict(event)).split(" -- ", 1)[-1]


def message_id(name: str) -> str:
    """Give the id that all entries of an event have in common."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{IDENTIFIER}:{name}").hex
