"""What an automatic restart of a member means for its group: the strategies, and their limit."""

from collections.abc import Sequence
from typing import NamedTuple, assert_never

from supervisord_pidfd.core.spec import GroupSpec, GroupStrategy


class Count(NamedTuple):
    """Hold the automatic restarts that count, newest last, and whether they are too many."""

    restarts: tuple[float, ...]
    exceeded: bool


def count(spec: GroupSpec, restarts: Sequence[float], now: float) -> Count:
    """Take in one more automatic restart of a member at `now`; burst 0 is no limit."""
    if not spec.burst:
        return Count((), exceeded=False)
    counted = (*(moment for moment in restarts if now - moment < spec.interval), now)
    return Count(counted[-spec.burst - 1 :], len(counted) > spec.burst)


def at_stake(spec: GroupSpec, restarts: Sequence[float], now: float) -> bool:
    """Tell whether an automatic restart of a member may mean more than that member.

    Then no start may be made before the group was asked.
    """
    if spec.strategy is not GroupStrategy.ONE_FOR_ONE and len(spec.members) > 1:
        return True
    return count(spec, restarts, now).exceeded


def restarted_with(spec: GroupSpec, member: str) -> tuple[str, ...]:
    """Return the other members that are restarted with this one, in the order listed."""
    match spec.strategy:
        case GroupStrategy.ONE_FOR_ONE:
            return ()
        case GroupStrategy.REST_FOR_ONE:
            return spec.members[spec.members.index(member) + 1 :]
        case GroupStrategy.ALL_FOR_ONE:
            return tuple(name for name in spec.members if name != member)
        case _:
            assert_never(spec.strategy)
