"""Render the daemon's events with structlog: text for a terminal, JSON for everything else.

An event arrives as the finished object that `core.notices.event_of` made; nothing is added to it.
What text leaves out is in JSON: text is for the person who watches, JSON is the record.
"""

import enum
import json
import re
from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

Event = MutableMapping[str, Any]
Write = Callable[[bytes], None]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_PLAIN = "\x1b[0m"

_TOLD_APART = frozenset({"ts", "level", "event", "seq", "service", "group", "run", "pid"})
_NEVER_IN_TEXT = frozenset({"phase_from", "phase_to"})
_NOT_IN_TEXT_OF: dict[str, frozenset[str]] = {
    # `history` and JSON have what the run used; the terminal says how it ended.
    "service.exited": frozenset({"wanted", "max_rss_bytes", "user_cpu_s", "system_cpu_s"}),
}
_WITH_PID = frozenset({"service.spawned"})

_BARE = re.compile(r"[\w./:@%+,~^()\[\]-]+\Z", re.ASCII)
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Format(enum.StrEnum):
    """Name the shapes of the daemon's own log."""

    TEXT = "text"
    JSON = "json"


def escape(text: str) -> str:
    r"""Write every byte of what cannot be printed as `\xNN`, so that no line poses as another."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _hex(char) for char in text)


def _hex(char: str) -> str:
    try:
        raw = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair: no byte of any input stands for it
        raw = char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, 6))
    if isinstance(value, list):
        value = ",".join(map(str, cast("list[object]", value)))
    text = value if isinstance(value, str) else json.dumps(value)
    if _BARE.match(text):
        return text
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _local(ts: object, *, dated: bool = False) -> str:
    """Give the local time of day of an RFC 3339 moment, with milliseconds; its date if wanted."""
    try:
        moment = datetime.fromisoformat(cast("str", ts)).astimezone()
    except (TypeError, ValueError, OverflowError):
        return "--:--:--.---"
    return moment.isoformat(" ", timespec="milliseconds")[0 if dated else 11 : 23]


def text_of(event: Event, *, colour: bool = False, dated: bool = False) -> str:
    """Write an event as one line for people, without the end of line.

    Null members are left out, and so is a flag that is false.
    """
    name = str(event.get("event", "?"))
    shown = escape(name)
    if colour and (on := _COLOURS.get(str(event.get("level")))):
        shown = f"{on}{shown}{_PLAIN}"
    words = [_local(event.get("ts"), dated=dated), "--", shown]
    service = event.get("service")
    hidden = _NEVER_IN_TEXT | _NOT_IN_TEXT_OF.get(name, frozenset())
    if "run" in event:
        words.append(escape(str(service)))
        hidden |= _TOLD_APART
        if name in _WITH_PID:
            hidden -= {"pid"}
    else:
        # An event of the daemon: `service` and `pid`, where it has them, are fields like others.
        hidden |= {"ts", "level", "event", "seq"}
    words += [
        f"{escape(key)}={_value(value)}"
        for key, value in event.items()
        if key not in hidden and value is not None and value is not False
    ]
    return " ".join(words)


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_of(event: Event, **_options: object) -> str:
    r"""Write an event as one line of JSON, members in their order.

    What some readers take for the end of a line is written as `\uNNNN`, and what is no UTF-8 at
    all as U+FFFD, so that every line is one object for every parser.

    Raises:
        ValueError: A number has no JSON form.
    """
    line = _ENCODE(event)
    return line if line.isascii() and "\x7f" not in line else _UNSAFE.sub(_safe, line)


def _safe(match: re.Match[str]) -> str:
    code = ord(match.group())
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


class TextRenderer:
    """Be the structlog processor that makes the text form."""

    def __init__(self, *, colour: bool = False) -> None:
        self._colour = colour

    def __call__(self, _logger: object, _method: str, event: Event) -> str:
        """Render one event, as structlog calls it."""
        return text_of(event, colour=self._colour)


def _unwrap(_logger: object, _method: str, carried: Event) -> Event:
    """Take out the finished event: structlog's own order of members would put `event` last."""
    return cast("Event", carried["record"])


def _line(_logger: object, _method: str, text: Any) -> bytes:
    line: str = text  # the renderer before us makes a string of the event
    return line.encode("utf-8", "replace") + b"\n"


class _Lines:
    """Be the logger that structlog wraps: every level is one line handed on."""

    def __init__(self, write: Write) -> None:
        self.debug = self.info = self.warning = self.error = write


def make_log(write: Write, form: Format, *, colour: bool = False) -> FilteringBoundLogger:
    """Build the structlog logger through which every event goes; `write` gets whole lines."""
    renderer: Any = (
        TextRenderer(colour=colour)
        if form is Format.TEXT
        else structlog.processors.JSONRenderer(serializer=json_of)
    )
    log = structlog.wrap_logger(
        _Lines(write),
        processors=[_unwrap, renderer, _line],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
    )
    return cast("FilteringBoundLogger", log.bind())


def _null(_constant: str) -> None:
    """Read NaN and Infinity as null: what has no JSON form is unknown to a reader of JSON."""


_DECODE = json.JSONDecoder(parse_constant=_null).decode


def decode(line: bytes) -> Event | None:
    """Read one record of the log pipe; None if it is not the JSON object it should be."""
    try:
        record = _DECODE(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return cast("Event", record) if isinstance(record, dict) else None


def log_record(log: FilteringBoundLogger, line: bytes, now: Callable[[], str]) -> None:
    """Log one record; one that cannot be read or rendered is shown as it came."""
    record = decode(line)
    if record is not None:
        try:
            _log(log, record)
        except (ValueError, RecursionError):
            record = None
    if record is None:
        text = line.decode("utf-8", "surrogateescape")
        _log(log, {"ts": now(), "level": "warning", "event": "log.unreadable", "text": text})


def _log(log: FilteringBoundLogger, record: Event) -> None:
    level = LEVELS.get(str(record.get("level")), LEVELS["info"])
    log.log(level, "", record=record)


class Lost:
    """Count what could not be written, until it can be told."""

    def __init__(self) -> None:
        self.lines = self.size_bytes = 0
        self._first = self._last = ""

    def add(self, lines: int, size_bytes: int, ts: str) -> None:
        """Count some lines as lost at this moment."""
        self._first = self._first or ts
        self._last = ts
        self.lines += lines
        self.size_bytes += size_bytes

    def mark(self, form: Format) -> bytes:
        """Make the line that stands where the lost ones would have been."""
        if form is Format.TEXT:
            span = f"{_local(self._first)[:8]} to {_local(self._last)[:8]}"
            text = (
                f"-- {self.lines} lines ({self.size_bytes} bytes) dropped: write_error, {span} --"
            )
            return text.encode() + b"\n"
        return json_of(self.event()).encode() + b"\n"

    def event(self) -> Event:
        """Make the event that tells of them."""
        return {
            "ts": self._last,
            "level": "warning",
            "event": "log.dropped",
            "stream": None,
            "lines": self.lines,
            "bytes": self.size_bytes,
            "reason": "write_error",
            "from": self._first,
            "to": self._last,
        }
