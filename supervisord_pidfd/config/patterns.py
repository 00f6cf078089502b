"""How much of a line a pattern may be asked about, so that no line keeps the logger for long.

Python's matcher tries all ways in which a pattern may fit. A repetition inside of a repetition
makes their number grow with 2 to the power of the line, and nothing stops it; two beside each
other with its square, which a limit of the length bounds.
"""

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

REACHES = (1000, 500, 250, 125)
"""Bytes of a line that are looked at: as many as the pattern allows."""

STEPS = 2e8
"""What a search may take at most: under a second."""

FEW = 16
"""What repeats up to so often is so many ways; what may repeat more often is one for each byte."""

_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_CHOICES: dict[str, Callable[[Any], list[Any]]] = {
    "BRANCH": lambda argument: list(argument[1]),
    "GROUPREF_EXISTS": lambda argument: [part for part in argument[1:] if part],
}
_GROUPS: dict[str, Callable[[Any], Any]] = {
    "SUBPATTERN": lambda argument: argument[-1],
    "ASSERT": lambda argument: argument[-1],
    "ASSERT_NOT": lambda argument: argument[-1],
    "ATOMIC_GROUP": lambda argument: argument,
}
_MOST = 1e12


class _NestedError(Exception):
    """A repetition has a choice inside."""


class _Ways(NamedTuple):
    """Say in how many ways something may fit: `choices` times the length to `power`."""

    power: int = 0
    choices: float = 1.0

    def then(self, other: "_Ways") -> "_Ways":
        return _Ways(self.power + other.power, min(_MOST, self.choices * other.choices))


def reach(pattern: str) -> int | None:
    """Return how many bytes of a line may be searched for a pattern; None if not even few."""
    parsed = _parse(pattern)
    try:
        ways = _all(parsed)
    except _NestedError:
        return None
    if not _is_anchored(parsed):
        ways = ways.then(_Ways(power=1))
    for size in REACHES:
        if ways.choices * size**ways.power / math.factorial(ways.power) <= STEPS:
            return size
    return None


def _parse(pattern: str) -> list[Any]:
    # What `re` itself compiles from; nothing public tells the parts of a pattern.
    return list(importlib.import_module("re._parser").parse(pattern))


def _is_anchored(parsed: list[Any]) -> bool:
    return bool(parsed) and str(parsed[0][0]) == "AT" and "BEGINNING" in str(parsed[0][1])


def _all(parts: Iterable[Any], *, repeated: bool = False) -> _Ways:
    ways = _Ways()
    for op, argument in parts:
        ways = ways.then(_one(str(op), argument, repeated=repeated))
    return ways


def _one(op: str, argument: Any, *, repeated: bool) -> _Ways:
    if op in _REPEATS:
        return _repeat(*argument, repeated=repeated)
    if op in _CHOICES:
        return _either(_CHOICES[op](argument), repeated=repeated)
    if op == "GROUPREF":  # it compares byte by byte
        return _either([()], repeated=repeated).then(_Ways(power=1))
    if op in _GROUPS:
        return _all(_GROUPS[op](argument), repeated=repeated)
    return _Ways()


def _either(branches: list[Any], *, repeated: bool) -> _Ways:
    if repeated:
        raise _NestedError
    found = [_all(branch) for branch in branches]
    power = max((ways.power for ways in found), default=0)
    return _Ways(power, sum(ways.choices for ways in found) or 1.0)


def _repeat(least: int, most: int, body: Any, *, repeated: bool) -> _Ways:
    if repeated and least != most:
        raise _NestedError
    if most > FEW and least != most:
        return _all(body, repeated=True).then(_Ways(power=1))
    inner = _all(body, repeated=repeated)
    often = min(int(most), FEW)  # the same often is one way, if what is repeated is
    choices = float(most - least + 1) * inner.choices**often
    return _Ways(inner.power * often, min(_MOST, choices))
