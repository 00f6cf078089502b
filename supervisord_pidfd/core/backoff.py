"""How long to wait before the next automatic restart."""

from supervisord_pidfd.core.spec import BackoffSpec


def delay_before(attempt: int, spec: BackoffSpec, roll: float) -> float:
    """Return the seconds to wait before automatic restart number `attempt` of a row.

    The first is immediate: most services that die once would run if started again. From the
    second on the wait grows by `factor` up to `max_delay`, and up to `jitter` of it is added by
    chance, so that services that died together do not come back together for ever.

    Args:
        attempt: 1 for the first restart after a stable run or a command.
        spec: The service's backoff.
        roll: Chance, in [0, 1).
    """
    if attempt <= 1:
        return 0.0
    return _capped(attempt - 2, spec) * (1.0 + spec.jitter * roll)


def _capped(exponent: int, spec: BackoffSpec) -> float:
    try:
        return min(spec.max_delay, spec.delay * spec.factor**exponent)
    except OverflowError:  # after some 1,000 doublings, long past any cap
        return spec.max_delay if spec.delay else 0.0
