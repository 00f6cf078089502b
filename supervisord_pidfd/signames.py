"""Signals as people write them: for the configuration, the control client and the core."""

import re
import signal

RTMIN, RTMAX = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?")


def number_of(name: str) -> int | None:
    """Return the number of `TERM`, `SIGTERM`, `RTMIN+3` or `15`; None if it names no signal.

    32 and 33 belong to the C library.
    """
    if name.isascii() and name.isdecimal() and len(name) <= 2:
        return int(name) if int(name) in signal.valid_signals() else None
    name = name.upper().removeprefix("SIG")
    match = _REAL_TIME.fullmatch(name)
    if match:
        base = RTMIN if match[1] == "RTMIN" else RTMAX
        offset = int(match[3] or 0)
        number = base - offset if match[2] == "-" else base + offset
        return number if RTMIN <= number <= RTMAX else None
    found = getattr(signal, f"SIG{name}", None)
    return int(found) if isinstance(found, signal.Signals) else None
