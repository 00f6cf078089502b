"""XML-RPC in bytes: calls read within bounds, answers written.

The standard library knows the types; what it lacks is distrust. Its parser would expand entities,
and a few hundred bytes of those become gigabytes, so here a document that declares anything is
refused at the declaration. What is written has no character that XML cannot carry.
"""

import re
from typing import Any, NamedTuple, NoReturn
from xml.parsers import expat
from xmlrpc import client

DEPTH_MAX = 32
"""Elements inside each other; a call of a list of structs needs a dozen."""

_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WRONG = (client.Error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What the library's reader raises for what is no call; it was not written for strangers."""


class UnreadableError(Exception):
    """Say why bytes are no call."""


class Call(NamedTuple):
    """Hold a call as it came: nobody has looked at the parameters yet."""

    method: str
    params: tuple[Any, ...]


def read(body: bytes) -> Call:
    """Read a call.

    Raises:
        UnreadableError: It is none, or has more to it than a call needs.
    """
    reader = client.Unmarshaller(use_builtin_types=True)
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise UnreadableError("elements are nested too deeply")
        reader.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(tag)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        reader.xml(None, None)  # type: ignore[arg-type]  # text comes decoded
        parser.Parse(body, True)
        params = tuple(reader.close())
    except (expat.ExpatError, *_WRONG):
        raise UnreadableError("not an XML-RPC call") from None
    method = reader.getmethodname()
    if not isinstance(method, str) or not method:
        raise UnreadableError("a call names a method")
    return Call(method, params)


def _refuse(*_declaration: object) -> NoReturn:
    raise UnreadableError("a call declares nothing")


def answer(value: Any) -> bytes:
    """Write an answer."""
    return client.dumps((_speakable(value),), methodresponse=True).encode()


def fault(code: int, text: str) -> bytes:
    """Write an error."""
    return client.dumps(client.Fault(code, _speakable(text)), methodresponse=True).encode()


def _speakable(value: Any) -> Any:
    """Put a question mark where XML has no character, such as the colours of a terminal."""
    if isinstance(value, str):
        return _UNSPEAKABLE.sub("?", value)
    if isinstance(value, dict):
        return {key: _speakable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_speakable(member) for member in value]
    return value
