"""The daemon, which notes how long each turn of its loop works: watched.py FILE WORD...

At its end it writes the turns of a millisecond and more to FILE: the moment, its length, and the
processor time that it took, in seconds.
"""

import json
import sys
import time

from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.entry import main

NOTED_S = 0.001
_turns: list[tuple[float, float, float]] = []
_spent = [0.0]
_add_busy = Tally.add_busy


def _noting(self: Tally, seconds: float) -> None:
    _add_busy(self, seconds)
    now = time.process_time()
    spent, _spent[0] = now - _spent[0], now
    if seconds >= NOTED_S:
        _turns.append((time.monotonic(), seconds, spent))


if __name__ == "__main__":
    Tally.add_busy = _noting  # type: ignore[method-assign]
    try:
        sys.exit(main(sys.argv[2:]))
    finally:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(_turns, file)
