"""Build everything, run it, and say how it ended: the composition root.

`entry` has taken the process over and forked the config child; the probe runs beside that child;
then the loop turns, and everything else happens in it.
"""

import contextlib
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

from supervisord_pidfd import __version__, host, signals, sysabi
from supervisord_pidfd.applying import Applying, Loader, Outcome
from supervisord_pidfd.asker import Asker
from supervisord_pidfd.attendance import Attendance
from supervisord_pidfd.checks import Commands, Tools, needs_checker
from supervisord_pidfd.clock import SystemClock, roll
from supervisord_pidfd.config import child as config_child
from supervisord_pidfd.config import paths
from supervisord_pidfd.config.problems import as_json
from supervisord_pidfd.configuring import GoingOver, Order, Wish
from supervisord_pidfd.core.exitstatus import ExitStatus
from supervisord_pidfd.core.lifecycle import ServiceState
from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.notices import (
    CallbackCrashed,
    ConfigApplied,
    ConfigNeedsRestart,
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
from supervisord_pidfd.core.reload import PlanItem, ReloadPlan
from supervisord_pidfd.core.spec import GatewaySpec, SupervisorSpec, dump
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.garbage import Garbage
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.internals import Internals
from supervisord_pidfd.listening import Listener, mode_of, word_of
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.options import RunOptions
from supervisord_pidfd.orphans import Orphans
from supervisord_pidfd.outputs import News
from supervisord_pidfd.outputs import Sources as NewsSources
from supervisord_pidfd.panel import Panel, Sides
from supervisord_pidfd.process import Host, vfork_works
from supervisord_pidfd.publisher import LogPipe, Publisher, StderrLines, as_text
from supervisord_pidfd.readiness import Surroundings, make_directory
from supervisord_pidfd.reaper import Hooks, make_reaper
from supervisord_pidfd.records import ConfigRecord
from supervisord_pidfd.records import Daemon as DaemonRecord
from supervisord_pidfd.service import Service
from supervisord_pidfd.supervisor import Outside, Supervisor
from supervisord_pidfd.taps import Taps
from supervisord_pidfd.timetable import ClockJumps, Timing
from supervisord_pidfd.upward import Upward

EXIT_OK, EXIT_CONFIG = 0, 6
IGNORE = 0
"""What the rewrite map says for a signal that is to be ignored."""

LAGGED_S = 1.0
LOGGER_GRACE = 2.0
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signals.RTMIN + 3})
STOP_SIGNALS_OF_CMD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Launch(NamedTuple):
    """Hold what the entry point has found and begun.

    `first` is the config child that is loading the file already, if it could be started;
    `request` what every later one is asked. `begun` is when this process began (CLOCK_MONOTONIC).
    """

    options: RunOptions
    process: host.Process
    request: config_child.Request
    first: config_child.Loading | None
    begun: float
    pid1: bool


class Daemon:
    """Hold the whole program together; everything it owns is closed by `close`."""

    def __init__(self, launch: Launch) -> None:
        """Build what is needed before the configuration is known."""
        self._launch = launch
        self._options = options = launch.options
        self._process = launch.process
        self._pid1 = launch.pid1
        self._clock = SystemClock()
        self._loop = Loop(self._clock, self._callback_crashed)
        self._garbage = Garbage()
        self._tally = Tally()
        self._log_pipe: LogPipe | None = None
        self._taps: Taps | None = None
        if options.single:
            self._publisher = Publisher(self._loop, self._tally, StderrLines().send, as_text)
            self._publisher.level = Level.WARNING
        else:
            self._log_pipe = LogPipe(self._loop)
            self._publisher = Publisher(self._loop, self._tally, self._log_pipe.send)
        self._news = News(NewsSources(self._services, self._publisher.tell))
        self._inbox = signals.SignalInbox(self._signalled)
        self._inbox.listen(signals.PASSED_ON if options.single else signals.HANDLED)
        self._children = self._children_inbox()
        self._rewrite: dict[int, int] = {}
        self._runtime: host.RuntimeDirectory | None = None
        self._generation = 0
        self._digest = ""
        self._supervisor: Supervisor | None = None
        self._internals: Internals | None = None
        self._listener: Listener | None = None
        self._panel: Panel | None = None
        self._upward: Upward | None = None
        self._awaits_ready = False
        self._leave = self._loop.deadline(self._loop.stop)
        self._finishing = False
        self._failure: StartupError | None = None
        self._exit_code = EXIT_OK

    def run(self) -> int:
        """Turn the loop until everything is over; return the exit code.

        Raises:
            StartupError: This process cannot be a daemon here.
        """
        self._features = sysabi.probe()
        self._hooks = Hooks(self._before_reap, self._orphan_reaped, self._child_fell_back)
        self._orphans = Orphans()
        self._reaper = make_reaper(self._loop, self._hooks, self._features)
        loader = Loader(self._start_loading, config_child.parse_reply)
        self._applying = Applying(self._loop, self._reaper, loader, self._loaded)
        self._look_upward()
        self._listen(Priority.CONTROL)
        self._loop.after_turn = self._after_turn
        self._loop.on_lag = self._lagged
        self._loop.on_busy = self._tally.add_busy
        self._applying.load("start", self._launch.first)
        self._loop.run()
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    def close(self) -> None:
        """Let go of everything this process holds; children are not signalled."""
        if self._panel is not None:
            self._panel.close()
        elif self._listener is not None:
            self._listener.close()
        if self._internals is not None:
            self._internals.close()
        if self._log_pipe is not None:
            self._log_pipe.close()
        if self._taps is not None:
            self._taps.close()
        if self._runtime is not None:
            self._runtime.close()
        if self._upward is not None:
            self._upward.close()
        self._inbox.close()
        if self._children is not None:
            self._children.close()
        self._loop.close()

    # -- configuration ----------------------------------------------------------------------------

    def _start_loading(self, file: str | None) -> config_child.Loading:
        request = self._launch.request
        return config_child.start_loading(request if file is None else request._replace(file=file))

    def _loaded(self, outcome: Outcome) -> None:
        """Take in a configuration, the first one or another."""
        reply: config_child.Reply | None = outcome.reply
        if self._supervisor is not None:
            if self._panel is not None:
                self._panel.configuring.loaded(outcome)
        elif reply is not None and reply.ok:
            self._start(reply, outcome)
        else:
            self._cannot_start(reply, outcome.error)

    def _cannot_start(self, reply: config_child.Reply | None, error: str | None) -> None:
        """Say what is wrong with the first configuration, and leave."""
        if reply is not None:
            text = config_child.render(reply.problems)
            os.write(2, text.encode("utf-8", "backslashreplace"))
        else:
            host.say(str(error))
        self._exit_code = EXIT_CONFIG
        self._loop.stop()

    def _rejected(self, outcome: Outcome, why: str | None) -> None:
        """Go on as before: a configuration has errors, or something refused what it asks for."""
        problems = outcome.reply.problems if outcome.reply is not None else ()
        errors = [problem for problem in problems if problem.severity == "error"]
        first = why or str(outcome.error)
        if errors:
            place = errors[0]
            first = f"{place.file}:{place.line}:{place.column}: {place.message}"
        warnings = len(problems) - len(errors)
        if self._panel is not None:
            self._panel.records.config.last_error = first
        self._tell(ConfigRejected(max(1, len(errors)), warnings, first))

    def _carry_out(self, order: Order) -> None:
        """Go over to another configuration."""
        supervisor, spec = self._supervisor, order.supervisor
        assert supervisor is not None  # noqa: S101 - nobody orders anything before it is there
        if self._upward is not None:
            self._upward.reloading()
        self._settle_settings(spec)
        plan = supervisor.apply(order.services, spec, restart=order.restart)
        if self._internals is not None:
            self._internals.serve(self._gateway_spec(spec))
            needed = needs_checker(order.services)
            self._internals.check(spec.web.user, needed=needed)
        reply = order.outcome.reply
        if not order.whole:
            reply = reply._replace(digest=self._digest)
        self._applied(reply, order.outcome, plan, order.items)
        for key in order.waiting:
            self._tell(ConfigNeedsRestart(key))
        if self._upward is not None:
            self._upward.reloaded()

    def _applied(
        self,
        reply: config_child.Reply,
        outcome: Outcome,
        plan: ReloadPlan,
        items: tuple[PlanItem, ...] = (),
    ) -> None:
        self._generation += 1
        self._digest = reply.digest
        self._tally.config_applied_at = self._clock.wall()
        if self._panel is not None:
            self._panel.records.config = ConfigRecord(
                file=reply.files[0] if reply.files else None,
                files=tuple(reply.files),
                generation=self._generation,
                digest=reply.digest,
                applied_at=self._tally.config_applied_at,
            )
            self._panel.applied(items, outcome.by)
        self._tell(
            ConfigApplied(
                generation=self._generation,
                digest=reply.digest,
                added=len(plan.add),
                removed=len(plan.remove),
                restarted=len(plan.restart),
                updated=len(plan.update),
                by=outcome.by,
                took_s=outcome.took_s,
            )
        )

    def _settle_settings(self, spec: SupervisorSpec) -> None:
        """Take over what may change while the daemon runs."""
        if not self._options.single:
            self._publisher.level = Level[spec.log_level.upper()]
        self._settle_log(spec)
        self._rewrite = dict(spec.signals)
        self._inbox.listen(frozenset(self._rewrite) - {signal.SIGKILL, signal.SIGSTOP})

    def _settle_log(self, spec: SupervisorSpec) -> None:
        """Tell the logger where our own events go."""
        if self._taps is not None:
            self._taps.use_settings({"own": dump(spec.own_log)})

    # -- start ------------------------------------------------------------------------------------

    def _start(self, reply: config_child.Reply, outcome: Outcome) -> None:
        """Begin to supervise."""
        spec = reply.supervisor
        try:
            self._take_runtime_directory(spec)
            self._open_socket(spec)
            self._choose_reaper(spec)
        except StartupError as failure:
            self._failure = failure
            self._loop.stop()
            return
        self._settle_settings(spec)
        process = self._process
        base = Host(
            process.environ,
            process.null,
            process.files.soft,
            process.files.hard,
            host.UMASK,
            vfork_works(),
        )
        self._make_taps()
        self._settle_log(spec)
        hands = Hands(self._loop, self._reaper, self._orphans, base, self._taps)
        asker = Asker(self._loop)
        outside = self._outside()._replace(companions_of=self._attendance(hands, asker).of)
        supervisor = Supervisor(hands, outside, spec, pid1=self._pid1)
        supervisor.listeners.append(self._phase_changed)
        self._garbage.settle()
        file = reply.files[0] if reply.files else None
        services = {service.name: service for service in reply.services}
        kind = self._reaper.kind
        self._tell(DaemonStarted(__version__, kind, self._pid1, file, len(services)))
        self._supervisor = supervisor
        if self._listener is not None or not self._options.single:
            self._panel = self._make_panel(supervisor, hands)
        self._applied(reply, outcome, ReloadPlan(add=tuple(services)))
        internals = Internals(hands, supervisor, self._publisher, self._features, asker)
        self._internals = internals
        if self._log_pipe is not None:
            if reply.problems:
                self._warn(reply)
            # Before the services: what they write gets its time when it is read.
            internals.start_logger(self._log_pipe, self._taps, spec.log_format)
        supervisor.start(services)
        internals.check(spec.web.user, needed=needs_checker(services))
        if self._log_pipe is not None:
            internals.serve(self._gateway_spec(spec))
        self._awaits_ready = True
        if spec.ready_when == "listening":
            self._be_ready()

    def _look_upward(self) -> None:
        """Tell systemd how we are, if it has started us."""
        with contextlib.suppress(OSError):  # no descriptors: what follows says so
            self._upward = Upward.open(self._loop, self._process.environ, self._counts)
        if self._upward is not None:
            self._publisher.observers.append(self._upward.observe)

    def _counts(self) -> Mapping[str, int]:
        return {} if self._supervisor is None else self._supervisor.counts()

    def _phase_changed(self, service: Service, before: ServiceState) -> None:
        if self._upward is not None and service.state.phase is not before.phase:
            self._upward.changed()

    def _be_ready(self) -> None:
        self._awaits_ready = False
        self._tell(DaemonReady(self._clock.now() - self._launch.begun))

    def _make_taps(self) -> None:
        """Have services' output captured where there is a logger to give it to."""
        if self._options.single:
            return
        try:
            self._taps = Taps(self._loop, self._news.told())
        except OSError as error:  # they write where we do
            self._tell(ControlUnavailable("log", os.strerror(error.errno or 0)))

    def _services(self) -> Mapping[str, Service]:
        return {} if self._supervisor is None else self._supervisor.services

    def _attendance(self, hands: Hands, asker: Asker) -> Attendance:
        """Say who stands beside services."""
        directory = None
        if self._runtime is not None:
            try:
                directory = make_directory(self._runtime.path)
            except OSError as error:
                self._tell(ControlUnavailable("notify", os.strerror(error.errno or 0)))
        around = Surroundings(self._loop, directory, self._tally.heard, self._process.uid)
        timing = Timing(
            self._loop,
            asker,
            ClockJumps(self._loop),
            roll,
            self._run_scheduled,
        )
        return Attendance(around, Tools(hands, asker, Commands(hands)), timing)

    def _run_scheduled(self, name: str, anew: bool) -> None:  # noqa: FBT001 - see Timing
        if self._supervisor is not None:
            self._supervisor.run_scheduled(name, anew)

    def _outside(self) -> Outside:
        return Outside(
            tell=self._publisher.tell,
            touched=self._touched,
            removed=self._removed,
            exit_handled=self._tally.exit_handling.observe,
            finished=self._all_stopped,
            roll=roll,
        )

    def _warn(self, reply: config_child.Reply) -> None:
        """Print the warnings of the first load where whoever starts the daemon looks for them."""
        with contextlib.suppress(OSError):
            StderrLines().send(config_child.render(reply.problems).encode())

    def _take_runtime_directory(self, spec: SupervisorSpec) -> None:
        if self._options.single:
            return
        process = self._process
        path = spec.runtime_dir or paths.default_runtime_dir(process.uid, process.environ)
        if path is None:
            return
        try:
            self._runtime = host.RuntimeDirectory(path)
        except OSError as error:
            self._tell(ControlUnavailable(path, os.strerror(error.errno or 0)))

    def _open_socket(self, spec: SupervisorSpec) -> None:
        """Make the control socket, at the first place that is named; without one there is none."""
        path = self._options.socket or (None if self._options.single else spec.socket)
        if path == "none":
            return
        if path is not None:
            path = os.path.join(self._process.start_dir, path)
        elif self._runtime is not None:
            path = os.path.join(self._runtime.path, "control.sock")
        else:
            return
        try:
            self._listener = Listener(path, mode_of(spec))
        except OSError as error:
            self._tell(ControlUnavailable(path, word_of(error)))

    def _gateway_spec(self, spec: SupervisorSpec) -> GatewaySpec:
        """Gather what the gateway is told, and open the socket that it comes in by."""
        gateway = GatewaySpec(spec.metrics, spec.web)
        if self._panel is None:
            return gateway
        directory = self._runtime.path if self._runtime is not None else None
        return gateway._replace(socket=self._panel.open_door(gateway, directory))

    def _make_panel(self, supervisor: Supervisor, hands: Hands) -> Panel:
        going_over = GoingOver(
            self._applying,
            self._carry_out,
            self._rejected,
            as_json,
            self._launch.request.file or "",
        )
        panel = Panel(
            Sides(
                hands,
                supervisor,
                self._publisher,
                self._callback_crashed,
                going_over,
                self._news,
            )
        )
        features = self._features
        panel.records.daemon = DaemonRecord(
            pid1=self._pid1,
            reaper=self._reaper.kind,
            reaper_reason=features.reason,
            features=_optional(features),
            started=self._clock.wall(),
        )
        if self._listener is not None:
            panel.serve(self._listener)
        return panel

    def _choose_reaper(self, spec: SupervisorSpec) -> None:
        """Settle how exits are detected, now that the file has been read."""
        features = self._features
        if spec.reaper == "pidfd" and not features.pidfd:
            raise StartupError(
                f"cannot start: supervisor.reaper is 'pidfd', but {features.reason}"
                " (use 'auto' to fall back to SIGCHLD)"
            )
        if spec.reaper == "sigchld":
            features = sysabi.Features(pidfd=False, reason="forced by supervisor.reaper")
        if self._adopts_orphans(spec):
            hooks = self._hooks._replace(sees_leftovers=self._orphans.sees_all)
        else:
            hooks = self._hooks._replace(on_orphan=None)
        self._reaper.close()
        self._reaper = make_reaper(self._loop, hooks, features)
        self._applying.reaper = self._reaper
        self._features = features
        if features.pidfd:
            self._tell(ReaperChosen("pidfd", None, _optional(features)))
            return
        self._listen(Priority.EXITS)  # the signal is how exits are seen now
        if spec.reaper == "sigchld":
            self._tell(ReaperChosen("sigchld", features.reason, ()))
        else:
            self._tell(ReaperFellBack(str(features.reason), features.error))

    def _adopts_orphans(self, spec: SupervisorSpec) -> bool:
        """Have orphans given to us where that is possible; PID 1 gets them anyway."""
        if os.getpid() == 1:
            return True
        if not spec.subreaper:
            return False
        try:
            sysabi.set_child_subreaper(True)
        except OSError as error:  # an emulator without the call: orphans are not ours then
            self._tell(ControlUnavailable("subreaper", os.strerror(error.errno or 0)))
            return False
        return True

    # -- what the parts tell ----------------------------------------------------------------------

    def _tell(self, notice: object) -> None:
        self._publisher.tell(Told(notice))

    def _touched(self, name: str) -> None:
        if self._panel is not None:
            self._panel.touched(name)
        if self._internals is not None:
            self._internals.touched(name)

    def _removed(self, name: str) -> None:
        # Its last notices are still to be counted; after them it must not be known any more.
        self._publisher.then(lambda: self._tally.forget(name))
        if self._panel is not None:
            self._panel.removed(name)
        if self._internals is not None:
            self._internals.removed(name)

    def _before_reap(self) -> None:
        if self._supervisor is not None:
            self._supervisor.strays.look()

    def _orphan_reaped(self, pid: int, status: ExitStatus) -> None:
        if self._supervisor is not None:
            self._supervisor.orphan_reaped(pid, status)

    def _child_fell_back(self, error: str) -> None:
        self._tell(ReaperChildFellBack(error))

    def _callback_crashed(self, where: str, error: BaseException) -> None:
        place = f"{where}: {_place_of(error)}"
        self._tell(CallbackCrashed(place, f"{type(error).__name__}: {error}"))

    def _lagged(self, lag: float) -> None:
        self._tally.loop_lag.observe(lag)
        if lag > LAGGED_S:
            self._tell(LoopLagged(lag))

    def _after_turn(self) -> bool:
        if self._finishing:
            return self._finish_turn()
        more = self._panel is not None and self._panel.work()
        if self._supervisor is not None:
            self._supervisor.settle()
            if self._awaits_ready and not any(self._supervisor.unready()):
                self._be_ready()
        more = self._publisher.publish() or more
        if self._panel is not None:
            more = self._panel.spread() or more
        if self._log_pipe is not None:
            self._log_pipe.flush()
            lost = self._log_pipe.take_lost()
            if lost is not None:
                self._tell(lost)
        if self._taps is not None:
            more = self._taps.line.flush() or more
        if self._internals is not None:
            more = self._internals.flush() or more
        if not more:
            self._garbage.at_rest()
        return more

    # -- signals ----------------------------------------------------------------------------------

    def _children_inbox(self) -> signals.ChildrenInbox | None:
        """Have SIGCHLD in a descriptor of its own where the kernel lets us, else as any signal."""
        try:
            return signals.ChildrenInbox(self._children_ended)
        except OSError:
            return None

    def _children_ended(self) -> None:
        self._reaper.on_sigchld()

    def _listen(self, children: Priority) -> None:
        """Watch both inboxes; news of children come after exits seen by pidfd, or as exits."""
        inbox = self._inbox
        self._loop.remove(inbox.fd)
        if self._children is None:
            self._loop.add(inbox.fd, children, inbox.read)
            return
        self._loop.add(inbox.fd, Priority.CONTROL, inbox.read)
        self._loop.remove(self._children.fd)
        self._loop.add(self._children.fd, children, self._children.read)

    def _signalled(self, signum: int) -> None:
        """Do what the table of signals says, after the rewrite map."""
        if signum == signal.SIGCHLD:
            self._reaper.on_sigchld()
            return
        signum = self._rewrite.get(signum, signum)
        supervisor = self._supervisor
        if signum == IGNORE:
            return
        if supervisor is None:
            self._signalled_early(signum)
        elif self._options.single:
            self._pass_on(supervisor, signum)
        elif signum in STOP_SIGNALS:
            self._stop(supervisor, signum)
        elif signum == signal.SIGHUP and not supervisor.stopping:
            if self._panel is not None:
                self._panel.configuring.ask(Wish("signal", lambda _answer: None))
        elif signum == signal.SIGUSR1:
            supervisor.dump()
        elif signum == signal.SIGUSR2 and self._taps is not None:
            self._news.ask_to_reopen(self._taps, lambda _files: None)

    def _signalled_early(self, signum: int) -> None:
        """Leave before anything was started: there is nothing to stop but the config child."""
        if signum in STOP_SIGNALS:
            self._applying.cancel()
            self._loop.stop()

    def _stop(self, supervisor: Supervisor, signum: int) -> None:
        if supervisor.stopping:
            supervisor.shutdown.hasten(signum)
        else:
            self._applying.cancel()
            supervisor.shut_down("signal", signum=signum)

    @staticmethod
    def _pass_on(supervisor: Supervisor, signum: int) -> None:
        """Hand every signal to CMD; the first that asks it to end starts its stop timeout."""
        if signum in STOP_SIGNALS_OF_CMD and not supervisor.stopping:
            supervisor.shutdown.stop_with(signum)
            supervisor.shut_down("signal", signum=signum, code=None)
        else:
            supervisor.pass_on(signum)

    # -- the end ----------------------------------------------------------------------------------

    def _all_stopped(self) -> None:
        """Tell the end, let the logger finish what it was sent, then leave."""
        supervisor = self._supervisor
        if supervisor is None or self._finishing:
            return
        self._exit_code = supervisor.shutdown.exit_code
        took = self._clock.now() - supervisor.shutdown.began_at
        self._tell(DaemonStopped(self._exit_code, took, supervisor.shutdown.left_alive()))
        self._publisher.publish_all()
        for service in supervisor.services.values():
            service.close()  # with the hooks that nobody waited for
        self._finishing = True
        if self._panel is not None:
            self._panel.close()
        if self._log_pipe is not None:
            self._log_pipe.finish()
        if self._taps is not None:
            self._taps.finish(LOGGER_GRACE)
        if self._internals is not None:
            self._internals.end_logger(LOGGER_GRACE)
        self._leave.arm(self._clock.now() + LOGGER_GRACE + 0.5)

    def _finish_turn(self) -> bool:
        if self._log_pipe is not None:
            self._log_pipe.flush()
        if self._taps is not None:
            self._taps.line.flush()
        if self._internals is None or self._internals.logger_is_gone:
            self._loop.stop()
        return False


def _optional(features: sysabi.Features) -> tuple[str, ...]:
    """Name the optional features of the kernel that are in use."""
    names = ("pidfs", "exit_info", "group_signal") if features.pidfd else ()
    return tuple(name for name in names if getattr(features, name))


def _place_of(error: BaseException) -> str:
    """Return FILE:LINE of where an error was raised; `traceback` would cost the start 7 ms."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return "?"
    return f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}"
