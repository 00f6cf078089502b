"""Bytes of the control socket: Varlink messages, which are JSON objects ended by NUL.

What comes in is cut into messages by `Framer`, and read by `decode`, which is stricter than
Python's own reader: no duplicate member, no NaN or Infinity, no number beyond 64 bits, no half of
a surrogate pair, no byte that is not UTF-8, nothing deeper than `DEPTH`. Everything here is pure.
"""

import json
import math
from typing import Any, NamedTuple, NoReturn

MESSAGE_BYTES = 64 << 10
DEPTH = 16
INTEGER_DIGITS = 20
"""A sign and the 19 digits of 2^63: longer text is not even turned into a number."""


class WireError(Exception):
    """Say why bytes are no message; the conversation cannot go on."""


class TooLargeError(WireError):
    """Say that a message is longer than it may be."""


class Request(NamedTuple):
    """Hold one call as it came in; its parameters were not looked at yet."""

    method: str
    parameters: dict[str, Any]
    more: bool = False
    oneway: bool = False
    upgrade: bool = False


class Framer:
    """Cut a stream of bytes into messages; holds at most one incomplete message."""

    def __init__(self, limit: int = MESSAGE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._looked_at = 0

    def __len__(self) -> int:
        """Return how many bytes wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Take the next whole message, without its NUL; None if there is none yet.

        Raises:
            TooLargeError: The next message is longer than the limit, whole or not.
        """
        end = self._buffer.find(0, self._looked_at, self._limit + 1)
        if end < 0:
            if len(self._buffer) > self._limit:
                raise TooLargeError(f"a message is longer than {self._limit} bytes")
            self._looked_at = len(self._buffer)
            return None
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._looked_at = 0
        return message


# -- reading --------------------------------------------------------------------------------------


def decode(message: bytes) -> dict[str, Any]:
    """Read one message.

    Raises:
        WireError: It is not an object of strict JSON; the text says why.
    """
    try:
        value = _decode(message.decode("utf-8"))
    except UnicodeDecodeError:
        raise WireError("not UTF-8") from None
    except RecursionError:
        raise WireError(f"nested deeper than {DEPTH}") from None
    except ValueError as error:
        raise WireError(f"not JSON: {error}") from None
    if type(value) is not dict:
        raise WireError("not an object")
    _check(value, DEPTH)
    return value


def _check(value: object, depth: int) -> None:
    """Look at every part of a value once: depth, and text that no encoding of Unicode has."""
    if type(value) is str:
        if not value.isascii():
            _check_text(value)
    elif type(value) is dict:
        if not depth:
            raise WireError(f"nested deeper than {DEPTH}")
        for name, member in value.items():
            _check(name, depth)
            _check(member, depth - 1)
    elif type(value) is list:
        if not depth:
            raise WireError(f"nested deeper than {DEPTH}")
        for member in value:
            _check(member, depth - 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WireError("half of a surrogate pair") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError("an object names a member twice")
    return found


def _integer(text: str) -> int:
    value = int(text) if len(text) <= INTEGER_DIGITS else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise WireError("a number does not fit 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise WireError("a number is infinite")
    return value


def _refuse(constant: str) -> NoReturn:
    raise WireError(f"{constant} is not JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_refuse
).decode

_FLAGS = ("more", "oneway", "upgrade")


def request_of(message: bytes) -> Request:
    """Read one call. Members that Varlink does not know are passed over.

    Raises:
        WireError: It is not a call.
    """
    said = decode(message)
    method = said.get("method")
    if type(method) is not str:
        raise WireError("no method")
    parameters = said.get("parameters")
    if parameters is None:
        parameters = {}
    elif type(parameters) is not dict:
        raise WireError("parameters are not an object")
    flags = [said.get(name) for name in _FLAGS]
    if any(flag is not None and type(flag) is not bool for flag in flags):
        raise WireError(f"{', '.join(_FLAGS)} are true or false")
    return Request(method, parameters, *map(bool, flags))


# -- writing --------------------------------------------------------------------------------------

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def plain(value: Any) -> bytes:
    """Encode a value; text that no encoding of Unicode has becomes question marks.

    Raises:
        ValueError: A number is not finite: a bug of ours.
    """
    return _encode(value).encode("utf-8", "replace")


def call(
    method: str, parameters: dict[str, Any], *, more: bool = False, oneway: bool = False
) -> bytes:
    """Encode a call."""
    message: dict[str, Any] = {"method": method, "parameters": parameters}
    if more:
        message["more"] = True
    if oneway:
        message["oneway"] = True
    return plain(message) + b"\0"


def reply(parameters: dict[str, Any], *, continues: bool = False) -> bytes:
    """Encode a reply."""
    tail = b',"continues":true}\0' if continues else b"}\0"
    return b'{"parameters":' + plain(parameters) + tail


def error(name: str, parameters: dict[str, Any]) -> bytes:
    """Encode an error, which is always the last answer to a call."""
    return plain({"error": name, "parameters": parameters}) + b"\0"
