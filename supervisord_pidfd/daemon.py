"""Build everything, run it, and say how it ended: the composition root.

Order of a start: signals are noted from the first line on (PID 1 gets none that has no handler);
descriptors, limits and dispositions are taken over; the config child is forked; the probe runs
beside it; then the loop turns, and everything else happens in it.
"""

import contextlib
import gc
import os
import random
import signal
import sys
import traceback
from typing import Any

from supervisord_pidfd import __version__, host, signals, sysabi
from supervisord_pidfd.applying import Applying, Loader, Outcome
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.config import child as config_child
from supervisord_pidfd.core.events import RestartRequested, StartRequested, StopRequested
from supervisord_pidfd.core.exitstatus import ExitStatus
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import (
    CallbackCrashed,
    ConfigApplied,
    ConfigRejected,
    ControlUnavailable,
    DaemonReady,
    DaemonStarted,
    DaemonStopped,
    Level,
    LoopLagged,
    ReaperChildFellBack,
    ReaperChosen,
    ReaperFellBack,
    Told,
)
from supervisord_pidfd.core.spec import (
    RestartPolicy,
    ServiceSpec,
    StartLimitSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
)
from supervisord_pidfd.errors import StartupError, UsageError
from supervisord_pidfd.feed import Feed, LogChannel, Sources
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.options import USAGE, RunOptions, parse_run, verb_of
from supervisord_pidfd.orphans import Orphans
from supervisord_pidfd.process import PASSED_FD, Host
from supervisord_pidfd.publisher import LogPipe, Publisher, StderrLines, as_text
from supervisord_pidfd.reaper import Hooks, PidfdReaper, make_reaper
from supervisord_pidfd.service import Hands, Service
from supervisord_pidfd.supervisor import Outside, Supervisor

EXIT_OK, EXIT_INTERNAL, EXIT_USAGE, EXIT_CONFIG, EXIT_CANNOT_START = 0, 1, 2, 6, 7
IGNORE = 0
LAGGED_S = 1.0
LOGGER_GRACE = 2.0
HELPER_STOP_TIMEOUT = 2.0
STOP_SIGNALS = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signals.RTMIN + 3}
)


def main(words: list[str] | None = None) -> int:
    """Run the daemon command and return its exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        verb = verb_of(words)
        if verb == "run":
            signals.HELD.hold(signals.HANDLED)
            return _run(parse_run(words[1:]))
        return _one_shot(verb, words[1:])
    except UsageError as error:
        print(f"supervisord-pidfd: {error}\n\n{USAGE}", file=sys.stderr, end="")
        return EXIT_USAGE


def _one_shot(verb: str, words: list[str]) -> int:
    """Do what needs no daemon; these import what they need, the daemon never does."""
    if verb == "check":
        from supervisord_pidfd.config.check import main as check  # noqa: PLC0415

        return check(words)
    if verb == "schema":
        from supervisord_pidfd.config.schema import main as schema  # noqa: PLC0415

        return schema(words)
    from supervisord_pidfd.versions import main as version  # noqa: PLC0415

    return version(words)


def _run(options: RunOptions) -> int:
    try:
        daemon = Daemon(options)
    except StartupError as error:
        print(f"supervisord-pidfd: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    try:
        return daemon.run()
    finally:
        daemon.close()


class Daemon:
    """Hold the whole program together; everything it owns is closed by `close`."""

    def __init__(self, options: RunOptions) -> None:
        """Take the process over.

        Raises:
            StartupError: This process cannot be a daemon here.
        """
        self.options = options
        self.begun = SystemClock.now()
        self.exit_code = EXIT_OK
        self._environ = dict(os.environ)
        self._start_dir = _working_directory()
        null = host.open_standard_files()
        host.close_inherited(null)
        os.umask(host.UMASK)
        self._files = host.raise_file_limit()
        signals.reset_inherited(() if options.single else signals.IGNORED | signals.REALTIME)
        self.uid = os.geteuid()
        self.pid1 = os.getpid() == 1 if options.pid1 == "auto" else options.pid1 == "yes"
        self._host = Host(
            self._environ, null, self._files.soft, self._files.hard, host.UMASK
        )
        self.clock = SystemClock()
        self.loop = Loop(self.clock, self._callback_crashed)
        self.tally = Tally()
        self.log_pipe: LogPipe | None = None
        if options.single:
            self._stderr = StderrLines()
            self.publisher = Publisher(self.loop, self.tally, self._stderr.send, as_text)
            self.publisher.level = Level.WARNING
        else:
            self.log_pipe = LogPipe(self.loop)
            self.publisher = Publisher(self.loop, self.tally, self.log_pipe.send)
        self.inbox = signals.SignalInbox(self._signalled)
        self.inbox.listen(
            signals.PASSED_ON | {signal.SIGCHLD} if options.single else signals.HANDLED
        )
        self._rewrite: dict[int, int] = {}
        self._runtime: host.RuntimeDirectory | None = None
        self._generation = 0
        self._config: Any = None
        self.supervisor: Supervisor | None = None
        self.feed: Feed | None = None
        self._leave = self.loop.deadline(self.loop.stop)
        self._finishing = False

    # -- start ------------------------------------------------------------------------------------

    def run(self) -> int:
        """Turn the loop until everything is over; return the exit code."""
        loader = Loader(self._start_loading, config_child.parse_reply)
        first = None
        with contextlib.suppress(OSError):  # told when the reaper is there to try again
            first = self._start_loading()
        self.features = sysabi.probe()
        self._subreaper = False
        self.hooks = Hooks(self._before_reap, self._orphan, self._child_fell_back)
        self.orphans = Orphans()
        self.reaper = make_reaper(self.loop, self.hooks, self.features)
        self.applying = Applying(self.loop, self.reaper, loader, self._loaded)
        self.loop.add(self.inbox.fd, Priority.CONTROL, self.inbox.read)
        self.loop.after_turn = self._after_turn
        self.loop.on_lag = self._lagged
        self.loop.on_busy = self.tally.add_busy
        self.applying.load("start", first)
        self.loop.run()
        return self.exit_code

    def _start_loading(self) -> config_child.Loading:
        return config_child.start_loading(self._request())

    def _request(self) -> config_child.Request:
        options = self.options
        file = options.file
        if file is None and not options.single:
            file = host.default_config(self._environ, self.uid)
        return config_child.Request(
            file=file,
            overrides=options.overrides,
            command=options.command,
            uid=self.uid,
            pid1=self.pid1,
            start_dir=self._start_dir,
            runtime_dir=host.default_runtime_dir(self._environ, self.uid),
            log_dir=host.default_log_dir(self._environ, self.uid),
            max_files=self._files.hard,
        )

    def _loaded(self, outcome: Outcome) -> None:
        """Take in a configuration, the first one or another."""
        reply = outcome.reply
        errors = [p for p in reply.problems if p.severity == "error"] if reply else []
        if outcome.error is not None or errors:
            self._rejected(outcome, errors)
        elif self.supervisor is None:
            self._start_everything(reply, outcome)
        elif not self.supervisor.stopping:
            self._apply(reply, outcome)

    def _rejected(self, outcome: Outcome, errors: list[Any]) -> None:
        if self.supervisor is None:
            if outcome.reply is not None:
                text = config_child.render(outcome.reply.problems)
            else:
                text = f"supervisord-pidfd: {outcome.error}\n"
            sys.stderr.write(text)
            self.exit_code = EXIT_CONFIG
            self.loop.stop()
            return
        warnings = len(outcome.reply.problems) - len(errors) if outcome.reply else 0
        first = _headline(errors[0]) if errors else str(outcome.error)
        self.publisher.tell(Told(ConfigRejected(max(1, len(errors)), warnings, first)))

    def _start_everything(self, reply: Any, outcome: Outcome) -> None:  # noqa: ANN401 - Reply
        spec: SupervisorSpec = reply.supervisor
        try:
            self._take_runtime_directory(spec)
            self._choose_reaper(spec)
        except StartupError as error:
            print(f"supervisord-pidfd: {error}", file=sys.stderr)
            self.exit_code = EXIT_CANNOT_START
            self.loop.stop()
            return
        self._settle_settings(spec)
        hands = Hands(
            self.loop, self.reaper, self.orphans, self._host, host.resident_bytes()
        )
        outside = Outside(
            self.publisher.tell,
            self._touched,
            self._removed,
            self.tally.exit_handling.observe,
            self._all_stopped,
            random.random,
        )
        self.supervisor = Supervisor(hands, outside, spec, pid1=self.pid1)
        gc.collect()
        gc.freeze()
        self.publisher.tell(
            Told(
                DaemonStarted(
                    __version__, self.reaper.kind, self.pid1, self._file_of(reply),
                    len(reply.services),
                )
            )
        )  # fmt: skip
        self._tell_problems(reply)
        self._applied(reply, outcome, added=len(reply.services))
        self.supervisor.start({service.name: service for service in reply.services})
        if not self.options.single:
            self._start_internals(hands, spec)
        self.publisher.tell(Told(DaemonReady(self.clock.now() - self.begun)))
        for signum in self._early_signals():
            self._signalled(signum)

    def _early_signals(self) -> list[int]:
        noted, signals.HELD.noted[:] = list(signals.HELD.noted), []
        return noted

    @staticmethod
    def _file_of(reply: Any) -> str | None:  # noqa: ANN401 - Reply
        return reply.files[0] if reply.files else None

    def _take_runtime_directory(self, spec: SupervisorSpec) -> None:
        if self.options.single:
            return
        path = spec.runtime_dir or host.default_runtime_dir(self._environ, self.uid)
        if path is None:
            return
        try:
            self._runtime = host.RuntimeDirectory(path)
        except OSError as error:
            self.publisher.tell(Told(ControlUnavailable(path, os.strerror(error.errno or 0))))

    def _choose_reaper(self, spec: SupervisorSpec) -> None:
        """Settle how exits are detected, now that the file has been read."""
        features = self.features
        if spec.reaper == "pidfd" and not features.pidfd:
            raise StartupError(
                f"cannot start: supervisor.reaper is \"pidfd\", but {features.reason}"
                " (use \"auto\" to fall back to SIGCHLD)"
            )
        orphans = self._adopt_orphans(spec)
        if spec.reaper == "sigchld":
            features = features._replace(pidfd=False, reason="forced by supervisor.reaper")
        self.features = features
        self.reaper.close()
        hooks = self.hooks if orphans else self.hooks._replace(on_orphan=None)
        self.reaper = make_reaper(self.loop, hooks, features)
        self.applying.reaper = self.reaper
        if not features.pidfd:  # the signal is how exits are seen then
            self.loop.remove(self.inbox.fd)
            self.loop.add(self.inbox.fd, Priority.EXITS, self.inbox.read)
        names = tuple(
            name for name in ("pidfs", "exit_info", "group_signal") if getattr(features, name)
        )
        if features.pidfd:
            self.publisher.tell(Told(ReaperChosen("pidfd", None, names)))
        elif spec.reaper == "sigchld":
            self.publisher.tell(Told(ReaperChosen("sigchld", features.reason, ())))
        else:
            self.publisher.tell(Told(ReaperFellBack(str(features.reason), features.error)))

    def _adopt_orphans(self, spec: SupervisorSpec) -> bool:
        """Have orphans given to us where that is possible; PID 1 gets them anyway."""
        if os.getpid() == 1:
            return True
        if not spec.subreaper:
            return False
        try:
            sysabi.set_child_subreaper(True)  # noqa: FBT003
        except OSError as error:  # an emulator without the call: orphans are not ours then
            self.publisher.tell(
                Told(ControlUnavailable("subreaper", os.strerror(error.errno or 0)))
            )
            return False
        return True

    def _settle_settings(self, spec: SupervisorSpec) -> None:
        """Take over what may change while the daemon runs."""
        if not self.options.single:
            self.publisher.level = Level[spec.log_level.upper()]
        self._rewrite = dict(spec.signals)
        self.inbox.listen(frozenset(self._rewrite) - {signal.SIGKILL, signal.SIGSTOP})

    def _tell_problems(self, reply: Any) -> None:  # noqa: ANN401 - Reply
        """Print the warnings of the first load where the user looks for them."""
        if reply.problems and not self.options.single:
            sys.stderr.write(config_child.render(reply.problems))

    # -- helpers ----------------------------------------------------------------------------------

    def _start_internals(self, hands: Hands, spec: SupervisorSpec) -> None:
        if self.log_pipe is not None:
            logger = _helper(":logger", "logger", "--format", spec.log_format)
            self._start_internal(logger, hands, LogChannel(self.log_pipe.read_end))
        self._start_gateway(hands, spec)

    def _start_internal(self, spec: ServiceSpec, hands: Hands, channel: Any) -> None:  # noqa: ANN401
        assert self.supervisor is not None  # noqa: S101 - built before its helpers
        service = Service(spec, hands, self.supervisor, channel)
        self.supervisor.internals[spec.name] = service
        service.post(StartRequested("config"))

    def _start_gateway(self, hands: Hands, spec: SupervisorSpec) -> None:
        self._hands = hands
        assert self.supervisor is not None  # noqa: S101 - built before its helpers
        if self.feed is None:
            if spec.metrics.listen:
                sources = Sources(
                    self._find, self._names, self._counters, self.publisher.tell, self.tally
                )
                self.feed = Feed(self.loop, spec.metrics, sources)
                self._start_internal(_helper(":gateway", "gateway"), hands, self.feed)
        elif self.feed.settings != spec.metrics:
            self.feed.settings = spec.metrics
            gateway = self.supervisor.internals[":gateway"]
            gateway.post(
                RestartRequested("config") if spec.metrics.listen else StopRequested("config")
            )


    # -- apply ------------------------------------------------------------------------------------

    def _apply(self, reply: Any, outcome: Outcome) -> None:  # noqa: ANN401 - Reply
        assert self.supervisor is not None  # noqa: S101 - asked for by the caller
        spec: SupervisorSpec = reply.supervisor
        self._settle_settings(spec)
        plan = self.supervisor.apply(
            {service.name: service for service in reply.services}, spec
        )
        self._start_gateway(self._hands, spec)
        self._applied(
            reply, outcome, added=len(plan.add), removed=len(plan.remove),
            restarted=len(plan.restart), updated=len(plan.update),
        )  # fmt: skip

    def _applied(
        self, reply: Any, outcome: Outcome, *, added: int = 0, removed: int = 0,
        restarted: int = 0, updated: int = 0,
    ) -> None:  # fmt: skip
        self._generation += 1
        self.tally.config_applied_at = self.clock.wall()
        notice = ConfigApplied(
            self._generation, reply.digest, added, removed, restarted, updated, outcome.by,
            outcome.took_s,
        )  # fmt: skip
        self.publisher.tell(Told(notice))

    # -- what the parts tell ----------------------------------------------------------------------

    def _before_reap(self) -> None:
        if self.supervisor is not None:
            self.supervisor.look_for_orphans()

    def _orphan(self, pid: int, status: ExitStatus) -> None:
        if self.supervisor is not None:
            self.supervisor.orphan_reaped(pid, status)

    def _child_fell_back(self, error: str) -> None:
        self.publisher.tell(Told(ReaperChildFellBack(error)))

    def _callback_crashed(self, where: str, error: BaseException) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where}: {os.path.basename(frame.filename)}:{frame.lineno}"
        self.publisher.tell(Told(CallbackCrashed(place, f"{type(error).__name__}: {error}")))

    def _lagged(self, lag: float) -> None:
        self.tally.loop_lag.observe(lag)
        if lag > LAGGED_S:
            self.publisher.tell(Told(LoopLagged(lag)))

    def _touched(self, name: str) -> None:
        if self.feed is not None:
            self.feed.touched(name)

    def _removed(self, name: str) -> None:
        self.tally.forget(name)
        if self.feed is not None:
            self.feed.removed(name)

    def _find(self, name: str) -> Service | None:
        if self.supervisor is None:
            return None
        return self.supervisor.services.get(name) or self.supervisor.internals.get(name)

    def _names(self) -> list[str]:
        if self.supervisor is None:
            return []
        return [*self.supervisor.services, *self.supervisor.internals]

    def _counters(self) -> dict[str, Any]:
        """Return what a scrape asks the core for: a constant amount."""
        assert self.supervisor is not None  # noqa: S101 - the gateway is started by it
        if isinstance(self.reaper, PidfdReaper):
            self.tally.sigchld_children = self.reaper.without_pidfd
        else:
            self.tally.sigchld_children = len(self.reaper)
        features = self.features
        return {
            "info": {
                "version": __version__,
                "python": sys.version.split()[0],
                "kernel": os.uname().release,
            },
            "reaper": {"kind": self.reaper.kind, "reason": features.reason or ""},
            "features": {
                "pidfs": features.pidfs,
                "exit_info": features.exit_info,
                "group_signal": features.group_signal,
            },
            "phases": self.supervisor.counts(),
            "stopping": self.supervisor.stopping,
            "pid": os.getpid(),
            "families": self.tally.families(),
        }

    # -- signals ----------------------------------------------------------------------------------

    def _signalled(self, signum: int) -> None:
        """Do what the table of signals says, after the rewrite map."""
        if signum == signal.SIGCHLD:
            self.reaper.on_sigchld()
            return
        signum = self._rewrite.get(signum, signum)
        if signum == IGNORE:
            return
        supervisor = self.supervisor
        if supervisor is None:
            self._signalled_early(signum)
        elif self.options.single:
            self._pass_on(supervisor, signum)
        elif signum in STOP_SIGNALS:
            if supervisor.stopping:
                supervisor.hasten(signum)
            else:
                self._stop(supervisor, signum)
        elif signum == signal.SIGHUP and not supervisor.stopping:
            self.applying.load("signal")
        elif signum == signal.SIGUSR1:
            supervisor.dump()

    def _signalled_early(self, signum: int) -> None:
        """Leave before anything was started: there is nothing to stop but the config child."""
        if signum in STOP_SIGNALS:
            self.applying.cancel()
            self.loop.stop()

    def _pass_on(self, supervisor: Supervisor, signum: int) -> None:
        if signum in {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} and not supervisor.stopping:
            supervisor.stop_with(signum)
            supervisor.shut_down("signal", signum=signum)
        else:
            supervisor.pass_on(signum)

    def _stop(self, supervisor: Supervisor, signum: int) -> None:
        self.applying.cancel()
        supervisor.shut_down("signal", signum=signum)

    # -- the end ----------------------------------------------------------------------------------

    def _after_turn(self) -> bool:
        if self._finishing:
            if self.log_pipe is not None:
                self.log_pipe.flush()
            if self._left():
                self.loop.stop()
            return False
        if self.supervisor is not None:
            self.supervisor.settle()
        more = self.publisher.publish()
        if self.log_pipe is not None:
            self.log_pipe.flush()
        if self.feed is not None:
            more = self.feed.flush() or more
        return more

    def _all_stopped(self) -> None:
        """Tell the end, let the logger finish what it was sent, then leave."""
        assert self.supervisor is not None  # noqa: S101 - it tells this
        supervisor = self.supervisor
        self.exit_code = supervisor.exit_code
        took = self.clock.now() - supervisor.stop_began
        self.publisher.tell(Told(DaemonStopped(self.exit_code, took, supervisor.left_alive())))
        while self.publisher.publish():
            pass
        self._finishing = True
        logger = supervisor.internals.get(":logger")
        if self.log_pipe is not None:
            self.log_pipe.finish()
        if logger is not None:  # it ignores the signal and ends at end of file, or is killed
            logger.post(StopRequested("shutdown", kill_by=self.clock.now() + LOGGER_GRACE))
        self._leave.arm(self.clock.now() + LOGGER_GRACE + 0.5)

    def _left(self) -> bool:
        """Tell whether the last helper has gone too."""
        assert self.supervisor is not None  # noqa: S101 - asked for while finishing only
        logger = self.supervisor.internals.get(":logger")
        return logger is None or logger.state.phase not in {
            Phase.STARTING, Phase.RUNNING, Phase.STOPPING,
        }  # fmt: skip

    def close(self) -> None:
        """Let go of everything this process holds; children are not signalled."""
        if self.feed is not None:
            self.feed.close()
        if self.log_pipe is not None:
            self.log_pipe.close()
        if self._runtime is not None:
            self._runtime.close()
        self.inbox.close()
        self.loop.close()


def _helper(name: str, module: str, *words: str) -> ServiceSpec:
    """Describe a helper process: started by module name, restarted for ever."""
    return ServiceSpec(
        name=name,
        argv=(
            sys.executable, "-I", "-m", f"supervisord_pidfd.{module}", "--fd", str(PASSED_FD),
            *words,
        ),
        program=sys.executable,
        fast=True,
        umask=host.UMASK,
        restart=RestartPolicy.ALWAYS,
        start_limit=StartLimitSpec(burst=0),
        stop=StopSpec(steps=(StopStep(signal.SIGTERM, HELPER_STOP_TIMEOUT),)),
    )  # fmt: skip


def _headline(problem: Any) -> str:  # noqa: ANN401 - Problem
    return f"{problem.file}:{problem.line}:{problem.column}: {problem.message}"


def _working_directory() -> str:
    """Return where we were started; a directory that is gone counts as the root."""
    try:
        return os.getcwd()
    except OSError:
        return "/"
