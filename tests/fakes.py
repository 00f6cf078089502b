"""Stand-ins for what a unit test may not touch; each is held to the truth in contract/."""


class FakeClock:
    """Be a `Clock` that stands still until the test moves it."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Return the moment the test has come to."""
        return self._now

    def wall(self) -> float:
        """Return Unix seconds, which move with `now`."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            message = "time does not run backwards"
            raise ValueError(message)
        self._now += seconds
        self._wall += seconds

    def advance_to(self, moment: float) -> None:
        """Let time pass until a moment of `now`."""
        self.advance(moment - self._now)
