"""Whether it all fits: the descriptors of the daemon, and the time of a shutdown."""

import math
from collections.abc import Iterable, Mapping

from supervisord_pidfd.config import model
from supervisord_pidfd.config.logs import is_captured
from supervisord_pidfd.config.positions import Path

RESERVE = 64
"""Descriptors the daemon keeps for itself."""
FOR_GATEWAY = 4 + 65
"""Its channel, and gateway.sock with the connections that it may have there."""
FOR_CHECKER = 4
FOR_CONTROL = 65
"""The control socket, and the clients it serves at once."""
FOR_COMMAND = 3
"""A command beside a service: its pidfd, its output, and the pipe that tells of a failed exec."""
FOR_OUTPUT = 2
"""The pipes of a run, of which the daemon keeps the read ends."""
PROBES_AT_ONCE = 32


def descriptors(services: Mapping[str, model.Service]) -> int:
    """Return how many descriptors the services need at most, all copies and the checker."""
    needed = sum(_of_one(service) * _copies(service) for service in services.values())
    asking = sum(_copies(service) for service in services.values() if _runs_probes(service))
    checker = any(map(_needs_checker, services.values()))
    return needed + FOR_COMMAND * min(asking, PROBES_AT_ONCE) + (FOR_CHECKER if checker else 0)


def _copies(service: model.Service) -> int:
    return len(service.instances or ("",))


def _of_one(service: model.Service) -> int:
    """Count the process, how it says that it is ready, what it stores, what runs beside it."""
    kept = (service.fdstore and service.fdstore.max) or 0
    heard = service.type == "notify" or kept or _has_check(service, "watchdog")
    told = service.ready is not None and service.ready.fd is not None
    return (
        1
        + kept
        + (1 if heard else 0)
        + (1 if told else 0)
        + (FOR_COMMAND if _runs_commands(service) else 0)
        + (FOR_OUTPUT if is_captured(service) else 0)
    )


def _has_check(service: model.Service, *kinds: str) -> bool:
    checks = (service.health or {}).values()
    return any(getattr(check, kind) is not None for check in checks for kind in kinds)


def _runs_commands(service: model.Service) -> bool:
    return bool(
        service.hooks
        or (service.stop and service.stop.command)
        or (service.reload and (service.reload.command or service.reload.check))
    )


def _runs_probes(service: model.Service) -> bool:
    asked = service.ready is not None and service.ready.exec is not None
    return asked or _has_check(service, "exec")


def _needs_checker(service: model.Service) -> bool:
    ready, schedule = service.ready, service.schedule
    return bool(
        (ready and (ready.tcp or ready.http or ready.file))
        or (schedule and schedule.calendar)
        or _has_check(service, "tcp", "http")
    )


# -- the time of a shutdown -----------------------------------------------------------------------


def stop_time(service: model.Service) -> tuple[Path, float]:
    """Return the key that says how long a stop may take, and the seconds; 0 if none is written."""
    if service.stop and service.stop.sequence:
        return ("stop", "sequence"), math.fsum(step.timeout for step in service.stop.sequence)
    return ("stop_timeout",), service.stop_timeout or 0.0


def longest_chain(
    edges: Mapping[str, Iterable[str]], seconds: Mapping[str, float]
) -> tuple[float, tuple[str, ...]]:
    """Return the path without a cycle whose names take longest together, and how long.

    `edges` lead from a name to those that follow it; names without seconds take none.
    """
    best: dict[str, tuple[float, str | None]] = {}
    for root in edges:
        open_names = [root]
        while open_names:
            name = open_names[-1]
            following = [other for other in edges.get(name, ()) if other not in best]
            if name not in best and following:
                open_names += following
                continue
            open_names.pop()
            if name not in best:
                after = max(((best[o][0], o) for o in edges.get(name, ())), default=(0.0, None))
                best[name] = (after[0] + seconds.get(name, 0.0), after[1])
    if not best:
        return 0.0, ()
    first: str | None = max(best, key=lambda name: best[name][0])
    total, chain = best[str(first)][0], list[str]()
    while first is not None:
        chain.append(first)
        first = best[first][1]
    return total, tuple(chain)
