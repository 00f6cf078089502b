"""Collect cyclic garbage while the core rests, never while it acts.

The automatic collector runs whenever enough objects were made, which is in the middle of a storm
of exits: with 1,000 services killed at once it took 7 % of the time until all were back. So it is
switched off, and asked for at the end of a turn that had little to do. What is live when the
daemon begins to supervise lives for ever and is taken out of every later look (gc.freeze).
"""

import gc

MADE = 5000
"""Objects made and not freed since the last look, before another one is worth its time."""

OLDER_EVERY, ALL_EVERY = 10, 500
"""After so many looks at the young, one at the next generation, and one at everything."""


class Garbage:
    """Decide when to collect; one for the process, because the collector is one."""

    def __init__(self) -> None:
        """Switch the automatic collector off."""
        gc.disable()
        self._looks = 0

    def settle(self) -> None:
        """Collect everything, and take what lives now for permanent."""
        gc.collect()
        gc.freeze()

    def at_rest(self) -> None:
        """Collect if there is reason to; called at the end of a quiet turn."""
        if gc.get_count()[0] < MADE:
            return
        self._looks += 1
        if self._looks % ALL_EVERY == 0:
            gc.collect()
        else:
            gc.collect(1 if self._looks % OLDER_EVERY == 0 else 0)
