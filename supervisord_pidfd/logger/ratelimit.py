"""Let through so many lines in so much time, and say how many that leaves."""


class RateLimit:
    """Count lines in windows that begin with a line: an idle service costs nothing.

    The first `count` lines of each window of `per` seconds pass, as journald(8) does it: a burst
    of that size is whole, wherever it comes.
    """

    def __init__(self, count: int, per: float) -> None:
        self._count = count
        self._per = per
        self._left = count
        self._until = float("-inf")

    def admit(self, lines: int, now: float) -> int:
        """Return how many of so many lines pass at this moment of CLOCK_MONOTONIC."""
        if not self._count:
            return lines
        if now >= self._until:
            self._until = now + self._per
            self._left = self._count
        passed = min(lines, self._left)
        self._left -= passed
        return passed
