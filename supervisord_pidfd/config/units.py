"""Durations, sizes, signals, modes and addresses: the text people write, and the values meant."""

import math
import re
import signal

from supervisord_pidfd.signames import number_of

TEN_YEARS = 10 * 365.25 * 86400.0
MAX_SIZE = 2**63 - 1

_SECONDS = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_BYTES = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
# At most 20 digits: a longer number is no length that anybody means, and int() is quadratic.
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_DURATION_PART = re.compile(rf"({_NUMBER})(us|ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:us|ms|s|m|h|d|w))+")
_PLAIN_NUMBER = re.compile(_NUMBER)
_SIZE = re.compile(rf"({_NUMBER}) ?([A-Za-z]{{0,3}})")


class NotAUnitError(ValueError):
    """Say that a text is no duration, size, signal, … ; `hint` tells how to write one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# -- durations ------------------------------------------------------------------------------------


def parse_duration(value: object, *, infinite: bool = False) -> float:
    """Return the seconds of `"1m30s"`, `"500ms"`, `5` or `0.5`; at most ten years, never NaN.

    Raises:
        NotAUnitError: It is none; or `"infinity"`, where that is not allowed.
    """
    hint = 'write "10s", "1m30s" or "infinity"' if infinite else 'write "10s" or "1m30s"'
    if value == "infinity":
        if infinite:
            return math.inf
        raise NotAUnitError("must not be infinite", hint)
    seconds = _written_seconds(value) if isinstance(value, str) else _bare_seconds(value)
    if seconds is None or math.isnan(seconds):
        raise NotAUnitError(f"not a duration: {quoted(value)}", hint)
    if seconds < 0:
        raise NotAUnitError(f"must not be negative: {quoted(value)}", hint)
    if seconds > TEN_YEARS:
        raise NotAUnitError(f"longer than 10 years: {quoted(value)}", hint)
    return seconds


def _written_seconds(text: str) -> float | None:
    if _DURATION.fullmatch(text):
        parts = _DURATION_PART.findall(text)
        return math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    return float(text) if _PLAIN_NUMBER.fullmatch(text) else None


def _bare_seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # An integer of 400 digits would overflow a float.
    return float(min(value, TEN_YEARS + 1)) if value > 0 else float(max(value, -1))


def format_duration(seconds: float) -> str:
    """Write a length in its shortest form: 90 is `1m30s`, 0.1 is `100ms`.

    `parse_duration` reads it back to the nearest microsecond.
    """
    if math.isinf(seconds):
        return "infinity"
    left = round(seconds * 1_000_000)
    if left == 0:
        return "0s"
    parts = []
    for unit, size in _MICROSECONDS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


_MICROSECONDS = (
    ("w", 604_800_000_000), ("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000),
    ("s", 1_000_000), ("ms", 1_000), ("us", 1),
)  # fmt: skip


# -- sizes ----------------------------------------------------------------------------------------


def parse_size(value: object) -> int:
    """Return the bytes of `"50MB"`, `"64KiB"`, `"1.5G"` or a bare number.

    Raises:
        NotAUnitError: It is none.
    """
    hint = 'write a number of bytes, "50MB" (thousands) or "64KiB" (1024s)'
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_SIZE:
            raise NotAUnitError("not a possible size", hint)
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    factor = _BYTES.get(match[2]) if match else None
    if match is None or factor is None:
        raise NotAUnitError(f"not a size: {quoted(value)}", hint)
    whole, _, fraction = match[1].partition(".")
    size = int(whole) * factor + int(float(f"0.{fraction or 0}") * factor)
    if size > MAX_SIZE:
        raise NotAUnitError(f"not a possible size: {quoted(value)}", hint)
    return size


# -- signals --------------------------------------------------------------------------------------


def parse_signal(value: object) -> int:
    """Return the number of `"TERM"`, `"SIGTERM"`, `15` or `"RTMIN+3"`.

    Raises:
        NotAUnitError: There is no such signal. 32 and 33 belong to the C library.
    """
    hint = 'write "TERM", "SIGTERM", 15 or "RTMIN+3"'
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and not value.isdecimal():
        number = number_of(value)
    if number is None or number not in _SIGNALS:
        raise NotAUnitError(f"not a signal: {quoted(value)}", hint)
    return number


_SIGNALS = frozenset(signal.valid_signals())


def format_signal(signum: int) -> str:
    """Write a signal by its name: `SIGTERM`, `SIGRTMIN+3`; by its number if it has none."""
    if signal.SIGRTMIN < signum < signal.SIGRTMAX:
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}"
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


# -- modes, addresses, processors -----------------------------------------------------------------


def parse_umask(value: object) -> int:
    """Return the bits of an octal text such as `"022"`.

    Raises:
        NotAUnitError: It is no text of one to four octal digits, at most 0777.
    """
    if isinstance(value, str) and re.fullmatch("0?[0-7]{1,3}", value):
        return int(value, 8)
    raise NotAUnitError(f"not an octal mode: {quoted(value)}", 'write "022" or "0077"')


def parse_address(value: object) -> str:
    """Check `IP:PORT`, `[IP]:PORT` or `unix:PATH`, and return it.

    Raises:
        NotAUnitError: It is none of these. Names are not resolved, so they are refused.
    """
    hint = 'write "127.0.0.1:9877", "[::1]:9877" or "unix:/run/metrics.sock"'
    if isinstance(value, str):
        if value.startswith("unix:") and len(value) > len("unix:") and "\0" not in value:
            return value
        host, colon, port = value.rpartition(":")
        if colon and re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65535 and _is_ip(host):
            return value
    raise NotAUnitError(f"not an address: {quoted(value)}", hint)


def _is_ip(host: str) -> bool:
    import socket  # noqa: PLC0415 - few files have an address

    family, text = socket.AF_INET, host
    if host.startswith("[") and host.endswith("]"):
        family, text = socket.AF_INET6, host[1:-1]
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def parse_cpus(value: object) -> tuple[int, ...]:
    """Return the processors of a list such as `"0-3,6"`, sorted.

    Raises:
        NotAUnitError: It is no such list, or names a processor beyond 8191.
    """
    cpus: set[int] = set()
    if isinstance(value, str) and len(value) <= 4096:
        for part in value.split(","):
            match = re.fullmatch("([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if not low <= high <= 8191:
                cpus.clear()
                break
            cpus.update(range(low, high + 1))
    if not cpus:
        raise NotAUnitError(f"not a list of processors: {quoted(value)}", 'write "0-3,6"')
    return tuple(sorted(cpus))


def quoted(value: object) -> str:
    """Write a value in a message, cut if it is long; a table or a list by its kind only."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not -(10**40) < value < 10**40:
        return "a number of more than 40 digits"  # str() refuses more than 4300
    text = f"'{value}'" if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:80])
    return text + "…" if len(str(value)) > 80 else text
