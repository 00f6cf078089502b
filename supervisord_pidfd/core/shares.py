"""How the budget of a shutdown is shared along the chains of those who wait for each other."""

from collections.abc import Mapping
from typing import NamedTuple

from supervisord_pidfd.core.planner import Graph


class Share(NamedTuple):
    """Hold a service's part of the budget, in seconds from the beginning of the shutdown.

    It is to be asked by `ask_by`, whoever is still there, and killed by `kill_by`.
    """

    ask_by: float
    kill_by: float


def shares(graph: Graph, timeouts: Mapping[str, float], budget: float) -> dict[str, Share]:
    """Give each service as late an end as those leave that are stopped after it.

    `timeouts` are the seconds that each may take to stop. Where the longest chain fits into the
    budget nobody is cut short; else every part is cut in the same proportion. Whoever depends on
    a service is killed no later than the service is asked.
    """
    own = {name: min(timeout, budget) for name, timeout in timeouts.items()}
    below: dict[str, float] = {}
    for name in graph.order(own):
        targets = (dependency.target for dependency in graph.needs(name))
        below[name] = max((own[one] + below[one] for one in targets if one in below), default=0.0)
    longest = max((own[name] + below[name] for name in own), default=0.0)
    scale = min(1.0, budget / longest) if longest > 0 else 1.0
    return {
        name: Share(
            max(0.0, budget - scale * (below[name] + own[name])),
            max(0.0, budget - scale * below[name]),
        )
        for name in own
    }
