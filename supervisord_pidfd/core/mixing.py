"""Take over a part of a new configuration alone (`apply --only`), if it fits the rest."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.planner import find_cycle
from supervisord_pidfd.core.reload import place_of
from supervisord_pidfd.core.spec import ServiceSpec, Tie

Services = Mapping[str, ServiceSpec]


class Misfit(NamedTuple):
    """Say why services of which some are old and some are new cannot be together, and where."""

    code: str
    message: str
    file: str | None
    line: int | None


def mix(old: Services, new: Services, names: Collection[str]) -> dict[str, ServiceSpec]:
    """Return the new state of these services, and the old one of all others."""
    kept = {name: spec for name, spec in old.items() if name not in names}
    return kept | {name: spec for name, spec in new.items() if name in names}


def misfit(services: Services) -> Misfit | None:
    """Find a service that requires what is not there, or a cycle that neither half has."""
    for name, spec in services.items():
        for dependency in spec.dependencies:
            if dependency.tie is Tie.REQUIRES and dependency.target not in services:
                message = f"'{name}' requires '{dependency.target}', which is not applied"
                return Misfit("no-such-service", message, *place_of(spec.origin))
    cycle = find_cycle(
        {name: [one.target for one in spec.dependencies] for name, spec in services.items()}
    )
    if cycle is None:
        return None
    return Misfit("cycle", " → ".join(cycle), *place_of(services[cycle[0]].origin))


def groups_of(services: Services) -> dict[str, list[str]]:
    """Return the members of each group by the group that each service names."""
    found: dict[str, list[str]] = {}
    for name, spec in services.items():
        if spec.group:
            found.setdefault(spec.group, []).append(name)
    return found
