"""The daemon's helpers: logger, gateway and checker, supervised like any service."""

import os
import signal
import sys
from typing import Any

from supervisord_pidfd import __version__, host
from supervisord_pidfd.asker import Asker
from supervisord_pidfd.canary import Canary
from supervisord_pidfd.core.events import RestartRequested, StartRequested, StopRequested
from supervisord_pidfd.core.lifecycle import Phase, Wanted
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    GatewaySpec,
    RestartPolicy,
    ServiceSpec,
    StartLimitSpec,
    StopSpec,
    StopStep,
)
from supervisord_pidfd.door import GATEWAY
from supervisord_pidfd.feed import Feed, LogChannel, Sources
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.process import CHANNEL_FD, PASSED_FD
from supervisord_pidfd.publisher import LogPipe, Publisher
from supervisord_pidfd.reaper import PidfdReaper
from supervisord_pidfd.service import Companion, Service
from supervisord_pidfd.supervisor import Supervisor
from supervisord_pidfd.sysabi import Features
from supervisord_pidfd.taps import Taps

STOP_TIMEOUT = 2.0
LOGGER, CHECKER = ":logger", ":checker"
_HAVING_PROCESS = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING})


class Internals:
    """Start the helpers and talk to them. Owns the gateway's channel; borrows the log pipe."""

    def __init__(
        self,
        hands: Hands,
        supervisor: Supervisor,
        publisher: Publisher,
        features: Features,
        asker: Asker,
    ) -> None:
        self._hands = hands
        self._supervisor = supervisor
        self._publisher = publisher
        self._features = features
        self._asker = asker
        self._feed: Feed | None = None
        observe = publisher.tally.exit_detection.observe
        self._canary = Canary(hands, observe, lambda: supervisor.stopping)

    # -- logger -----------------------------------------------------------------------------------

    def start_logger(self, pipe: LogPipe, taps: Taps | None, form: str) -> None:
        """Start the process that writes the daemon's events and what services write."""
        channel = () if taps is None else ("--channel", str(CHANNEL_FD))
        spec = _helper(LOGGER, "logger", "--format", form, *channel)
        # Not TERM: a logger just started would die of it, and the last events with it.
        stop = StopSpec(steps=(StopStep(signal.SIGCONT, STOP_TIMEOUT),))
        # Services wait while nobody reads what they write.
        spec = spec._replace(stop=stop, backoff=BackoffSpec(max_delay=1.0))
        self._start(spec, LogChannel(pipe.lend, taps))

    def end_logger(self, within: float) -> None:
        """Let the logger end: it leaves at end of file, or is killed."""
        self._canary.close()
        logger = self._supervisor.internals.get(LOGGER)
        if logger is not None:
            kill_by = self._hands.loop.clock.now() + within
            logger.post(StopRequested("shutdown", kill_by=kill_by))

    @property
    def logger_is_gone(self) -> bool:
        """Tell whether no logger is left."""
        logger = self._supervisor.internals.get(LOGGER)
        return logger is None or logger.state.phase not in _HAVING_PROCESS

    # -- gateway ----------------------------------------------------------------------------------

    def serve(self, settings: GatewaySpec) -> None:
        """Start, restart or stop the gateway, as these settings want it, and the canary."""
        metrics = settings.metrics
        self._canary.use(metrics.canary if settings.listens else 0.0)
        settings = settings._replace(metrics=metrics._replace(canary=0.0))  # not its business
        if self._feed is None:
            if settings.listens:
                tally = self._publisher.tally
                taps = self._hands.taps
                sources = Sources(
                    self._find, self._names, self._counters, self._publisher.tell, tally, taps
                )
                self._feed = Feed(self._hands.loop, settings, sources)
                counted = taps is not None and taps.readable is not None
                counters = ("--counters", str(CHANNEL_FD)) if counted else ()
                self._start(_helper(GATEWAY, "gateway", *counters), self._feed)
        elif self._feed.settings != settings:
            self._feed.settings = settings
            gateway = self._supervisor.internals[GATEWAY]
            gateway.post(
                RestartRequested("config") if settings.listens else StopRequested("config")
            )

    def touched(self, name: str) -> None:
        """Tell the gateway, in time, of a changed record."""
        if self._feed is not None:
            self._feed.touched(name)

    def removed(self, name: str) -> None:
        """Tell the gateway, in time, that a service is gone."""
        if self._feed is not None:
            self._feed.removed(name)

    def flush(self) -> bool:
        """Send the gateway what it takes now; return whether there is more to encode."""
        return self._feed is not None and self._feed.flush()

    def close(self) -> None:
        """End the conversation with the gateway."""
        self._asker.close()
        self._canary.close()
        if self._feed is not None:
            self._feed.close()

    # -- checker ----------------------------------------------------------------------------------

    def check(self, user: str | None, *, needed: bool) -> None:
        """Start or stop the checker, as it is needed; it runs as the gateway's user."""
        self._asker.user = user
        checker = self._supervisor.internals.get(CHECKER)
        if checker is None:
            if needed:
                self._start(_helper(CHECKER, "checker"), self._asker)
        elif not needed:
            checker.post(StopRequested("config"))
        elif checker.state.wanted is Wanted.DOWN:
            checker.post(StartRequested("config"))

    # -- what all need ---------------------------------------------------------------------------

    def _start(self, spec: ServiceSpec, channel: Companion) -> None:
        service = Service(spec, self._hands, self._supervisor, (channel,))
        self._supervisor.internals[spec.name] = service
        service.post(StartRequested("config"))

    def _find(self, name: str) -> Service | None:
        return self._supervisor.services.get(name) or self._supervisor.internals.get(name)

    def _names(self) -> list[str]:
        return [*self._supervisor.services, *self._supervisor.internals]

    def _counters(self) -> dict[str, Any]:
        """Return what a scrape asks the core for: a constant amount."""
        reaper, features = self._hands.reaper, self._features
        tally = self._publisher.tally
        tally.sigchld_children = (
            reaper.without_pidfd if isinstance(reaper, PidfdReaper) else len(reaper)
        )
        return {
            "info": {
                "version": __version__,
                "python": sys.version.split()[0],
                "kernel": os.uname().release,
            },
            "reaper": {"kind": reaper.kind, "reason": features.reason or ""},
            "features": {
                "pidfs": features.pidfs,
                "exit_info": features.exit_info,
                "group_signal": features.group_signal,
            },
            "phases": self._supervisor.counts(),
            "stopping": self._supervisor.stopping,
            "pid": os.getpid(),
            "families": tally.families(),
        }


def _helper(name: str, module: str, *words: str) -> ServiceSpec:
    """Describe a helper process: started by module name, restarted for ever."""
    python = (sys.executable, "-I", "-m", f"supervisord_pidfd.{module}")
    return ServiceSpec(
        name=name,
        argv=(*python, "--fd", str(PASSED_FD), *words),
        program=sys.executable,
        fast=True,
        umask=host.UMASK,
        restart=RestartPolicy.ALWAYS,
        start_limit=StartLimitSpec(burst=0),
        stop=StopSpec(steps=(StopStep(signal.SIGTERM, STOP_TIMEOUT),)),
    )
