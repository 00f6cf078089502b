"""What checks ask, and when tasks run: addresses, URLs, HTTP codes, rates, calendars."""

import re
from typing import Annotated, NamedTuple

from supervisord_pidfd.config import units
from supervisord_pidfd.config.fields import Kind, check_duration, check_text, refuse, unit
from supervisord_pidfd.config.units import NotAUnitError, quoted

SHORTEST = 0.01
"""Seconds between two tries of anything; less would be a busy loop."""
MAX_URL = 4096
MAX_HEADER = 8192
MAX_COUNT = 1_000_000

_HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])"
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?", re.ASCII)
_ENDPOINT = re.compile(rf"{_HOST}:([0-9]{{1,5}})")
_URL = re.compile(rf"https?://{_HOST}(?::([0-9]{{1,5}}))?(?:[/?][^\s#]*)?", re.ASCII)
_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_OURS = {"connection", "content-length", "transfer-encoding", "upgrade", "expect", "te"}
_RATE = re.compile(r"([0-9]{1,7})/(.+)", re.DOTALL)


# -- filled in first, then looked at --------------------------------------------------------------


def parse_endpoint(text: str) -> str:
    """Check `HOST:PORT`, `[IP]:PORT` or `unix:PATH`, and return it.

    Raises:
        NotAUnitError: It is none of these.
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= 65535:
        hint = 'write "127.0.0.1:8080", "[::1]:8080" or "unix:/run/web.sock"'
        raise NotAUnitError(f"not an address to connect to: {quoted(text)}", hint)
    return text


def parse_url(text: str) -> str:
    """Check an `http` or `https` URL without a user, and return it.

    Raises:
        NotAUnitError: It is none, or too long.
    """
    hint = 'write "http://127.0.0.1:8080/ready"'
    if "@" in text.partition("://")[2].partition("/")[0]:
        # Not repeated: what stands before the @ may be a password.
        raise NotAUnitError("must not name a user", "write headers.Authorization")
    match = _URL.fullmatch(text)
    if match is None or len(text) > MAX_URL or not text.isascii():
        raise NotAUnitError(f"not an http or https URL: {quoted(text)}", hint)
    if match[1] is not None and not 0 < int(match[1]) <= 65535:
        raise NotAUnitError(f"not an http or https URL: {quoted(text)}", hint)
    return text


def parse_header(text: str) -> str:
    """Check the value of a header, and return it without blanks around.

    Raises:
        NotAUnitError: It has control characters, or such that HTTP/1.1 cannot carry.
    """
    value = text.strip(" \t")
    try:
        fits = len(value.encode("latin-1")) <= MAX_HEADER
    except UnicodeEncodeError:
        fits = False
    if not fits or not all(c == "\t" or c.isprintable() for c in value):
        raise NotAUnitError("not the value of a header")
    return value


PARSERS = {"tcp": parse_endpoint, "http": parse_url, "header": parse_header}
"""What to do with a text when its `${}` are filled in."""

# -- kinds ----------------------------------------------------------------------------------------


def check_period(value: object) -> float:
    """Accept a duration between two tries, or of one: not so short that nothing else is done."""
    seconds = check_duration(value)
    if seconds < SHORTEST:
        shortest = units.format_duration(SHORTEST)
        raise refuse("bad-value", f"must be at least {shortest}, not {quoted(value)}")
    return seconds


def check_header_name(value: object) -> str:
    """Accept the name of a header that is not HTTP's own business."""
    name = check_text(value)
    if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
        raise refuse("bad-value", f"not a header that can be set: {quoted(value)}")
    return name


def check_host_name(value: object) -> str:
    """Accept a name as it stands in a Host header, without its port; return it in lower case."""
    name = check_text(value).lower()
    if not _HOST_NAME.fullmatch(name):
        hint = 'write "supervisor.example.org", without a port'
        raise refuse("bad-value", f"not a host name: {quoted(value)}", hint)
    return name


def _status(value: object) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in value.split(",") if isinstance(value, str) and len(value) <= 1000 else [""]:
        match = _STATUS.fullmatch(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high:
            raise NotAUnitError(f"not HTTP codes: {quoted(value)}", 'write "200-399" or "200,204"')
        ranges.append((low, high))
    return tuple(ranges)


class RateLimit(NamedTuple):
    """Hold how many are allowed in so many seconds."""

    number: int
    seconds: float


def check_rate(value: object) -> RateLimit:
    """Accept `"COUNT/DURATION"`."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < int(match[1]) <= MAX_COUNT:
        raise refuse("bad-value", f"not a rate: {quoted(value)}", 'write "5/10m"')
    return RateLimit(int(match[1]), check_period(match[2]))


def check_calendar(value: object) -> str:
    """Accept a cron expression of five fields that comes due at some time."""
    text = " ".join(check_text(value).split())
    hint = 'write "MINUTE HOUR DAY MONTH WEEKDAY", as in "30 3 * * mon-fri"'
    if len(text.split(" ")) != 5:
        raise refuse("bad-value", f"not a calendar of five fields: {quoted(value)}", hint)
    # Few files have one: the others do not pay for its modules.
    from supervisord_pidfd.config import calendars  # noqa: PLC0415

    try:
        calendars.check_expression(text)
    except ValueError as error:
        raise refuse("bad-value", f"not a calendar: {quoted(value)}: {error}", hint) from None
    return text


def check_timezone(value: object) -> str:
    """Accept the name of a time zone that is known here."""
    from supervisord_pidfd.config import calendars  # noqa: PLC0415 - as above

    name = check_text(value)
    if not calendars.is_zone(name):
        message = f"no such time zone: {quoted(value)}"
        raise refuse("bad-value", message, 'write "Europe/Berlin" or "UTC"')
    return name


_DURATION = {"type": ["string", "number"], "examples": ["250ms", "10s"]}
_STRING = {"type": "string"}

Period = Annotated[float, Kind(check_period, _DURATION)]
HeaderName = Annotated[str, Kind(check_header_name, _STRING)]
HostName = Annotated[str, Kind(check_host_name, _STRING)]
Status = Annotated[
    tuple[tuple[int, int], ...],
    Kind(unit(_status), {"type": "string", "examples": ["200-399", "200,204"]}),
]
Rate = Annotated[RateLimit, Kind(check_rate, {"type": "string", "examples": ["5/10m"]})]
Calendar = Annotated[str, Kind(check_calendar, {"type": "string", "examples": ["30 3 * * *"]})]
TimeZone = Annotated[str, Kind(check_timezone, {"type": "string", "examples": ["UTC"]})]
