"""Compact tables for people, one JSON object a line for programs."""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any, TextIO


class Report:
    """Everything that was measured."""

    def __init__(self, tables: TextIO, lines: TextIO | None) -> None:
        self._tables = tables
        self._lines = lines

    def record(self, measure: str, **fields: Any) -> None:
        """Write one result as JSON."""
        if self._lines is not None:
            print(json.dumps({"measure": measure, **fields}), file=self._lines, flush=True)

    def say(self, text: str) -> None:
        """Write one line for people."""
        print(text, file=self._tables, flush=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table: first column to the left, the others to the right."""
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        self.say(f"\n{title}")
        for row in (header, *rows):
            first, *others = (
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            self.say("  ".join((first, *others)).rstrip())


def progress(text: str) -> None:
    """Tell a waiting person what is going on."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def short(value: float) -> str:
    """Write a number with three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Write median [least, most]."""
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{short(middle)} [{short(min(values))}, {short(max(values))}]"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def verdict(ratio: float, aim: float) -> str:
    """Compare with the aim; a benchmark reports, it does not fail."""
    return f"{'within' if ratio <= aim else 'ABOVE'} {aim:g}"
