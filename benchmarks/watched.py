"""The daemon, which notes how long its loop works: watched.py FILE WORD...

At its end it writes to FILE the turns of a millisecond and more: the moment, its length, and the
processor time that it took; and for each exit the moment, and how long it took to act on it. All
in seconds.
"""

import json
import sys
import time

from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.entry import main
from supervisord_pidfd.supervisor import Supervisor

NOTED_S = 0.001
_turns: list[tuple[float, float, float]] = []
_exits: list[tuple[float, float]] = []
_spent = [0.0]
_add_busy = Tally.add_busy
_exit_handled = Supervisor.exit_handled


def _noting(self: Tally, seconds: float) -> None:
    _add_busy(self, seconds)
    now = time.process_time()
    spent, _spent[0] = now - _spent[0], now
    if seconds >= NOTED_S:
        _turns.append((time.monotonic(), seconds, spent))


def _noting_exit(self: Supervisor, seconds: float) -> None:
    _exit_handled(self, seconds)
    _exits.append((time.monotonic(), seconds))


if __name__ == "__main__":
    Tally.add_busy = _noting  # type: ignore[method-assign]
    Supervisor.exit_handled = _noting_exit  # type: ignore[method-assign]
    try:
        sys.exit(main(sys.argv[2:]))
    finally:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump({"turns": _turns, "exits": _exits}, file)
