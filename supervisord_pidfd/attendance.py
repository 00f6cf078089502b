"""Say who stands beside each service: notify socket, readiness descriptor, checks, schedule."""

from typing import TYPE_CHECKING, NamedTuple

from supervisord_pidfd.checks import Prober, Tools
from supervisord_pidfd.readiness import NotifySocket, ReadinessFd, Surroundings
from supervisord_pidfd.timetable import Scheduled, Timing

if TYPE_CHECKING:
    from supervisord_pidfd.service import Companion, Service


class Attendance(NamedTuple):
    """Make the companions of services; called again when a service's spec has changed."""

    around: Surroundings
    tools: Tools
    timing: Timing

    def of(self, service: "Service") -> "tuple[Companion, ...]":
        """Return the companions this service needs now, those it has among them."""
        spec = service.spec
        had: dict[type, Companion] = {type(one): one for one in service.companions}
        found: list[Companion] = []
        prober = had.pop(Prober, None)
        if not isinstance(prober, Prober):
            prober = Prober(service, self.tools) if Prober.is_wanted(spec) else None
        elif not Prober.is_wanted(spec):
            prober.close()
            prober = None
        if NotifySocket.is_wanted(spec):
            heard = had.pop(NotifySocket, None)
            if not isinstance(heard, NotifySocket):
                heard = NotifySocket(service, self.around)
            heard.hearing = prober
            found.append(heard)
        if ReadinessFd.is_wanted(spec):
            waiting = had.pop(ReadinessFd, None)
            found.append(ReadinessFd(service, self.around.loop) if waiting is None else waiting)
        if prober is not None:
            found.append(prober)
        if Scheduled.is_wanted(spec):
            planned = had.pop(Scheduled, None)
            found.append(Scheduled(service, self.timing) if planned is None else planned)
        for companion in had.values():
            companion.close()
        return tuple(found)
