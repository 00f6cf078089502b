"""One service with its companions: notify socket, readiness descriptor, checks; no daemon."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from supervisord_pidfd.asker import Asker
from supervisord_pidfd.attendance import Attendance
from supervisord_pidfd.checks import Commands, Tools
from supervisord_pidfd.core.events import RestartRequested, StartRequested
from supervisord_pidfd.core.spec import ServiceSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.readiness import Surroundings, make_directory
from supervisord_pidfd.timetable import ClockJumps, Timing
from tests.support.lone import Lone
from tests.support.world import World


class Attended(Lone):
    """Own a service and its companions; `notices` is what it told, `counted` the messages."""

    def __init__(self, world: World, spec: ServiceSpec, runtime: Path | None) -> None:
        super().__init__(world, spec)
        self.notices: list[Any] = []
        self.counted: Counter[str] = Counter()
        directory = None if runtime is None else make_directory(str(runtime))
        hands = Hands(world.loop, world.reaper, world.orphans, world.host)
        around = Surroundings(world.loop, directory, self._count, os.geteuid())
        self.asker = Asker(world.loop)
        tools = Tools(hands, self.asker, Commands(hands))
        self.jumps = ClockJumps(world.loop)
        timing = Timing(world.loop, self.asker, self.jumps, self.roll, self._run)
        self.service.attend(Attendance(around, tools, timing).of)

    def _run(self, _name: str, anew: bool) -> None:
        self.service.post(RestartRequested("schedule") if anew else StartRequested("schedule"))

    def _count(self, result: str) -> None:
        self.counted[result] += 1

    def tell(self, told: Any) -> None:
        """Keep a notice."""
        super().tell(told)
        self.notices.append(told.notice)

    def found(self, kind: type) -> list[Any]:
        """Return the notices of one kind so far."""
        return [notice for notice in self.notices if type(notice) is kind]

    def wait_for(self, kind: type, count: int = 1) -> Any:
        """Turn until so many notices of a kind were told; return the last of them."""
        self.world.turn_until(lambda: len(self.found(kind)) >= count)
        return self.found(kind)[count - 1]

    def close(self) -> None:
        """Let go of everything; the process must have ended."""
        self.service.close()
