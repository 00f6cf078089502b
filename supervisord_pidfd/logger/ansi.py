"""Remove what makes terminals change colour, move or set titles."""

import re

# ECMA-48: control sequences; strings (titles, links), up to their end or that of the line; what
# designates a character set; the rest, of two bytes.
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"
    rb"|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    rb"|[ -/]+[0-~]"
    rb"|[0-Z\\`-~])"
)


def strip(data: bytes) -> bytes:
    """Return the bytes without escape sequences; an escape that begins none of them stays."""
    return _SEQUENCE.sub(b"", data) if b"\x1b" in data else data
