r"""Give lines the form of a sink: as they came, for people, or as JSON objects.

Raw and text cost nothing per line: a prefix is put behind each newline at once, and whether
anything must be escaped at all is asked of the whole. Only text that has control characters or is
no UTF-8 pays for it, where it has them. JSON numbers each line, so it makes each line.

No line can pose as another: in text every line of a service begins with its name and `|`, our
own have `--` in that place, and what would begin a new line is `\xNN`.
"""

import base64
import enum
import json
import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.core.spec import LogFormat
from supervisord_pidfd.logger.lines import Batch, raw_of

NAME_WIDTH = 8
BARS = {"stdout": b" | ", "stderr": b"!| ", "hook": b"#| "}

_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n") + b"\x7f"
_NO_CONTROLS = bytes(code for code in range(256) if code not in _CONTROLS)
_CHANGED = bytes(0x3F if code in _CONTROLS + b"\t" else code for code in range(256))

# C1 and the two line ends of Unicode beside them; a surrogate stands for a byte of no character.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]+")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_LINE_ENDS = (b"\xe2\x80\xa8", b"\xe2\x80\xa9")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")


# -- text -----------------------------------------------------------------------------------------


def escape(data: bytes) -> bytes:
    r"""Write each byte of a control character, and each that is no UTF-8, as `\xNN`.

    Tab and newline stay. What has nothing of that kind is returned as it is.
    """
    if data.isascii() or _is_harmless(data):
        for code in set(data.translate(None, _NO_CONTROLS)):  # those it has; mostly none
            data = data.replace(b"%c" % code, b"\\x%02x" % code)
        return data
    return _UNSAFE.sub(_hex, data.decode("utf-8", "surrogateescape")).encode("utf-8")


def _is_harmless(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _has_no_wide_control(data)


def _has_no_wide_control(data: bytes) -> bool:
    """Look for them in UTF-8: a search for a fixed byte is many times as fast as one in text."""
    if b"\xc2" in data and _C1.search(data):
        return False
    return not any(end in data for end in _LINE_ENDS)


def _hex(match: re.Match[str]) -> str:
    raw = match.group().encode("utf-8", "surrogateescape")
    return "\\x" + raw.hex("x").replace("x", "\\x")


def clock_of(wall: float) -> str:
    """Give the local time of day, with milliseconds."""
    milliseconds = int(wall * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}"


def date_of(wall: float) -> str:
    """Give the local date and time of day, with milliseconds."""
    return f"{_day(int(wall) // 60)} {clock_of(wall)}"


def _day(minute: int) -> str:
    """Give the date of a minute: no day begins within one."""
    said = _said_days.get(minute)
    if said is None:
        _said_days.clear()
        said = _said_days[minute] = time.strftime("%Y-%m-%d", time.localtime(minute * 60))
    return said


def _second(second: int) -> str:
    said = _said.get(second)
    if said is None:
        _said.clear()
        said = _said[second] = time.strftime("%H:%M:%S", time.localtime(second))
    return said


_said_days: dict[int, str] = {}
_said: dict[int, str] = {}  # the latest one; a lost race of two threads costs a strftime


def text_of(batch: Batch) -> bytes:
    r"""Put time and name before each line; a line that goes on in the next ends in `\`."""
    return _prefixed(batch, _body(batch), clock_of(batch.wall))


def dated_of(batch: Batch) -> bytes:
    r"""Put date, time and name before each line; the rest is as in text."""
    return _prefixed(batch, _body(batch), date_of(batch.wall))


def _body(batch: Batch) -> bytes:
    body = escape(batch.data)
    return body[:-1] + b"\\\n" if batch.partial else body


def _prefixed(batch: Batch, body: bytes, moment: str) -> bytes:
    prefix = f"{moment} {batch.service:<{NAME_WIDTH}}".encode() + BARS[batch.stream]
    return prefix + body.replace(b"\n", b"\n" + prefix)[: -len(prefix)]


# -- JSON -----------------------------------------------------------------------------------------

_OURS = ("service", "stream", "run", "seq", "partial")
_TIMES = ("ts", "time", "timestamp")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _NoJSONError(ValueError):
    """Say that a line is an object for Python only."""


def _refuse(constant: str) -> None:
    raise _NoJSONError(constant)  # NaN and Infinity are no JSON


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_SPACE = " \t\r"
_OBJECT = re.compile(rb"\n[ \t\r]*\{")  # a fixed first byte makes it thirty times as fast


def json_of(batch: Batch) -> bytes:
    """Make an object of each line, or add our members to the object that it is."""
    ts = f'"ts":"{rfc3339(batch.wall)}"'
    place = (
        f'"service":{_encode(batch.service)},"stream":"{batch.stream}","run":{batch.run},"seq":'
    )
    text = _text(batch.data)
    if text is None or _OBJECT.search(b"\n" + batch.data):
        lines = [
            _object(line, ts, f"{place}{seq}")
            for seq, line in enumerate(batch.data[:-1].split(b"\n"), batch.seq)
        ]
    else:
        head = f"{{{ts},{place}"
        # The newlines would become two characters; what they part is made one string each.
        encoded = text[:-1].split("\n") if _is_plain(batch.data) else _encoded(text)
        lines = [f'{head}{seq},"msg":"{line}"}}' for seq, line in enumerate(encoded, batch.seq)]
    if batch.partial:
        lines[-1] = lines[-1][:-1] + ',"partial":true}'
    lines.append("")
    data = "\n".join(lines).encode("utf-8")
    if b"\x7f" not in data and (data.isascii() or _has_no_wide_control(data)):
        return data
    return _UNSAFE_IN_JSON.sub(_code, data.decode("utf-8")).encode("utf-8")


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_plain(data: bytes) -> bool:
    r"""Say whether JSON writes all of it but the newlines as it is."""
    return b'"' not in data and b"\\" not in data and data.translate(_CHANGED) == data


def _encoded(text: str) -> list[str]:
    return [encode_basestring(line)[1:-1] for line in text[:-1].split("\n")]


def _code(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _object(line: bytes, ts: str, ours: str) -> str:
    text = _text(line)
    if text is None:
        shown = encode_basestring(line.decode("utf-8", "replace"))
        raw = base64.b64encode(line).decode("ascii")
        return f'{{{ts},{ours},"msg":{shown},"raw":"{raw}"}}'
    if text.lstrip(_SPACE).startswith("{"):
        merged = _merged(text.strip(_SPACE), ts, ours)
        if merged is not None:
            return merged
    return f'{{{ts},{ours},"msg":{encode_basestring(text)}}}'


def _merged(text: str, ts: str, ours: str) -> str | None:
    """Add our members to an object, as text: its numbers stay as they were written.

    None if it is no object for every parser.
    """
    try:
        found: dict[str, Any] = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    inner = text[1:]
    if not found.keys().isdisjoint(_OURS):
        inner = _renamed(text, found)
    if found.keys().isdisjoint(_TIMES):
        ours = f"{ts},{ours}"
    return f"{{{ours},{inner}" if found else f"{{{ours}}}"


def _renamed(text: str, found: dict[str, Any]) -> str:
    """Rename those members of an object that are called like ours; return it without its `{`."""
    out: list[str] = []
    at = 1
    while True:
        at = _skip(text, at)
        key, after = _DECODER.raw_decode(text, at)
        colon = _skip(text, after)
        _, end = _DECODER.raw_decode(text, _skip(text, colon + 1))
        word = text[at:after]
        if key in _OURS:
            name = f"app_{key}"
            while name in found:
                name = f"app_{name}"
            word = _encode(name)
        out.append(word + text[after:end])
        at = _skip(text, end)
        if text[at] == "}":
            return ",".join(out) + "}"
        at += 1


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


# -- all forms ------------------------------------------------------------------------------------


class Inward(enum.StrEnum):
    """Name the shapes that no configuration names.

    `RUN LINE` for sinks that make messages of lines; text with the date, for files.
    """

    NUMBERED = "numbered"
    DATED = "dated"


Form = LogFormat | Inward


def numbered_of(batch: Batch) -> bytes:
    """Put the run before each line."""
    prefix = b"%d " % batch.run
    return prefix + batch.data.replace(b"\n", b"\n" + prefix)[: -len(prefix)]


FORMS: dict[Form, Callable[[Batch], bytes]] = {
    LogFormat.RAW: raw_of,
    LogFormat.TEXT: text_of,
    Inward.DATED: dated_of,
    LogFormat.JSON: json_of,
    Inward.NUMBERED: numbered_of,
}


def render(batch: Batch, form: Form) -> bytes:
    """Give the lines of a batch their form."""
    return FORMS[form](batch)


# -- marks ----------------------------------------------------------------------------------------


class Dropped(NamedTuple):
    """Say what is missing in a place, why, and from when to when (Unix seconds)."""

    service: str
    stream: str
    run: int
    lines: int
    size: int
    reason: str
    begun: float
    ended: float

    def said(self) -> str:
        """Say it to people."""
        span = f"{_second(int(self.begun))} to {_second(int(self.ended))}"
        return f"{self.lines} lines ({self.size} bytes) dropped: {self.reason}, {span}"

    def members(self) -> dict[str, Any]:
        """Say it to programs."""
        return {
            "ts": rfc3339(self.ended),
            "level": "warning",
            "event": "log.dropped",
            "service": self.service,
            "stream": self.stream,
            "run": self.run,
            "lines": self.lines,
            "bytes": self.size,
            "reason": self.reason,
            "from": rfc3339(self.begun),
            "to": rfc3339(self.ended),
        }


class Interrupted(NamedTuple):
    """Say that another logger wrote up to here, and what it may have taken with it at most."""

    service: str
    stream: str
    run: int
    size: int
    ended: float

    def said(self) -> str:
        """Say it to people."""
        return f"interrupted: the logger was started again, up to {self.size} bytes are missing"

    def members(self) -> dict[str, Any]:
        """Say it to programs."""
        return {
            "ts": rfc3339(self.ended),
            "level": "warning",
            "event": "log.interrupted",
            "service": self.service,
            "stream": self.stream,
            "run": self.run,
            "bytes": self.size,
        }


Mark = Dropped | Interrupted


def mark(what: Mark, form: Form) -> bytes:
    """Make the line that stands in the place of what is missing."""
    if form is LogFormat.JSON:
        return _encode(what.members()).encode() + b"\n"
    line = f"-- {what.said()} --\n".encode()
    if form is LogFormat.RAW:
        return line
    if form is Inward.NUMBERED:
        return b"%d " % what.run + line
    moment = (date_of if form is Inward.DATED else clock_of)(what.ended)
    return f"{moment} {what.service:<{NAME_WIDTH}} ".encode() + line
