"""Start tasks by their schedules: the companion of a service that has one.

What is due every so many seconds is a deadline of the loop. What is due by calendar is a moment of
the wall clock that the checker works out; it becomes a deadline too, and is looked at again
whenever the clock was set. A schedule starts its service and nothing else: what the service
requires and is not there holds the start back, as after a start by command.
"""

import contextlib
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from supervisord_pidfd import sysabi
from supervisord_pidfd.asker import Asker
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.schedule import (
    OVER,
    Due,
    ask_after,
    comes_due,
    delayed,
    next_every,
)
from supervisord_pidfd.core.spec import ScheduleSpec, ServiceSpec
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.process import Provision

if TYPE_CHECKING:
    from supervisord_pidfd.service import Service

NEARLY = 0.001
"""Seconds; the two clocks are not read at the same time."""


class ClockJumps:
    """Tell when the wall clock was set. Owns its descriptor, which exists while somebody asks."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fd: int | None = None
        self._asking: dict[int, Callable[[], None]] = {}

    def follow(self, who: object, jumped: Callable[[], None]) -> None:
        """Call back after each jump."""
        self._asking[id(who)] = jumped
        if self._fd is None:
            self._open()

    def leave(self, who: object) -> None:
        """Call back no more."""
        self._asking.pop(id(who), None)
        if not self._asking and self._fd is not None:
            self._loop.remove(self._fd)
            self._loop.close_later(self._fd)
            self._fd = None

    def _open(self) -> None:
        # Without it (forbidden, no room) a schedule is late or early by what the clock was set.
        with contextlib.suppress(OSError):
            fd = self._fd = sysabi.clock_watch()
            self._loop.add(fd, Priority.CONTROL, lambda _events: self._jumped(fd))
            sysabi.watch_clock(fd)

    def _jumped(self, fd: int) -> None:
        with contextlib.suppress(OSError):  # ECANCELED is how it says so
            os.read(fd, 8)
        with contextlib.suppress(OSError):
            sysabi.watch_clock(fd)
        for jumped in tuple(self._asking.values()):
            jumped()


class Timing(NamedTuple):
    """Hold what schedules need; `run(name, anew)` starts a service, `anew` ends its last run."""

    loop: Loop
    asker: Asker
    jumps: ClockJumps
    roll: Callable[[], float]
    run: Callable[[str, bool], None]


class Scheduled:
    """Be the companion that starts a service when it is due."""

    def __init__(self, service: "Service", timing: Timing) -> None:
        self._service = service
        self._timing = timing
        self._spec = ScheduleSpec()
        self._deadline = timing.loop.deadline(self._comes_due)
        self._due = math.inf
        self._last_wall = 0.0
        self._queued = False
        self._begin()

    @staticmethod
    def is_wanted(spec: ServiceSpec) -> bool:
        """Tell whether a service is started by a schedule."""
        return spec.schedule is not None

    # -- when -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        spec = self._service.spec.schedule
        if spec is None:
            return
        self._spec = spec
        if spec.calendar is not None:
            self._timing.jumps.follow(self, self._clock_was_set)
            self._ask(self._timing.loop.clock.wall())
        elif spec.every is not None:
            self._arm_every(self._timing.loop.clock.now() + spec.every)

    def _arm_every(self, due: float) -> None:
        clock = self._timing.loop.clock
        self._due = due
        at = delayed(self._spec, due, self._timing.roll())
        self._deadline.arm(at)
        self._show(clock.wall() + at - clock.now())

    def _ask(self, after: float) -> None:
        """Have the checker look for the next time of the calendar."""
        self._deadline.disarm()
        self._show(None)
        calendar, zone = self._spec.calendar or "", self._spec.timezone
        self._timing.asker.ask_next(self._service.name, calendar, zone, after, self._answered)

    def _answered(self, moment: float | None, _error: str | None) -> None:
        """Take the next time; None is that there is none."""
        if moment is None:
            return
        clock = self._timing.loop.clock
        self._due = moment
        at = delayed(self._spec, moment, self._timing.roll())
        self._show(at)
        self._deadline.arm(clock.now() + max(0.0, at - clock.wall()))

    def _clock_was_set(self) -> None:
        self._ask(ask_after(self._last_wall, self._timing.loop.clock.wall()))

    def _show(self, wall: float | None) -> None:
        """Let people see when it runs next."""
        if self._service.due_wall != wall:
            self._service.due_wall = wall
            self._service.touched()

    # -- what -------------------------------------------------------------------------------------

    def _comes_due(self) -> None:
        clock, spec = self._timing.loop.clock, self._spec
        if spec.calendar is None:
            self._arm_every(next_every(spec, self._due, clock.now()))
        elif self._due > clock.wall() + NEARLY:  # the clock was slowed down a little
            self._answered(self._due, None)
            return
        else:
            self._last_wall = self._due
            self._ask(max(self._due, clock.wall()))
        match comes_due(spec.overlap, self._service.state.phase):
            case Due.START:
                self._timing.run(self._service.name, False)
            case Due.RESTART:
                self._timing.run(self._service.name, True)
            case Due.QUEUE:
                self._queued = True
            case Due.SKIP:
                pass

    # -- as a companion ---------------------------------------------------------------------------

    def prepare(self, _run: int) -> Provision:
        """Give nothing."""
        return Provision()

    def handed_over(self) -> None:
        """Do nothing."""

    def catch_up(self) -> None:
        """Do nothing."""

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Count from a start that was asked for; run what was queued when the last run is over."""
        if after.run != before.run and not after.attempt and self._spec.every is not None:
            self._arm_every(self._timing.loop.clock.now() + self._spec.every)
        if self._queued and after.phase in OVER and after.phase is not before.phase:
            self._queued = False
            if after.phase is not Phase.STOPPED:
                self._timing.run(self._service.name, False)

    def use(self, spec: ServiceSpec) -> None:
        """Go over to another schedule."""
        if spec.schedule != self._spec:
            self._end()
            self._begin()

    def _end(self) -> None:
        self._deadline.disarm()
        self._queued = False
        self._show(None)
        self._timing.jumps.leave(self)
        self._timing.asker.forget(self._service.name)
        self._spec = ScheduleSpec()

    def close(self) -> None:
        """End it."""
        self._end()
