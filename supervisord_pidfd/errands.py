"""Run a command beside a service's main process: a hook, a probe, a way to stop or to reload.

An errand runs as the service's user, in its directory and environment, in a session of its own. It
never lasts longer than its timeout: then it is killed with its group, as is whatever it left
behind when it ended by itself. Its answer comes from the loop, never from inside the constructor.
"""

import contextlib
import math
import os
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple

from supervisord_pidfd.core.exitstatus import Exited, ExitStatus, Signaled, Usage
from supervisord_pidfd.core.spec import CommandSpec, Output, ServiceSpec
from supervisord_pidfd.hands import Hands
from supervisord_pidfd.loop import Priority
from supervisord_pidfd.process import (
    Provision,
    Recipe,
    SpawnError,
    Stage,
    errno_name,
    read_report,
)
from supervisord_pidfd.reaper import Child
from supervisord_pidfd.taps import HOOK, Outlet

KILL_PATIENCE = 1.0
"""How long the answer waits for a killed command: one that cannot die holds up nobody."""

_CHUNK = 1 << 16


class Result(NamedTuple):
    """Hold how an errand went.

    `status` is None where nothing was executed, and `error` says why (an errno's name). `ended_at`
    is when its end was seen (CLOCK_MONOTONIC); a command that cannot die has none.
    """

    status: ExitStatus | None
    error: str | None
    timed_out: bool
    took_s: float
    output: bytes
    ended_at: float = math.inf

    @property
    def ok(self) -> bool:
        """Tell whether the command ended by itself with 0."""
        return isinstance(self.status, Exited) and not self.status.code and not self.timed_out


class Errand:
    """Run one command and say how it went. Owns its child and its pipes.

    Args:
        hands: What to act with.
        spec: The service whose user, directory, environment and limits apply.
        command: What to run.
        timeout: Seconds until it is killed.
        extra_env: Variables beside the service's own.
        done: Takes the result, once; never after `cancel`.
        keep_output: How many bytes of its output to keep; the rest is read and dropped. 0: the
            output goes where the service's goes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a command is made of
        self,
        hands: Hands,
        spec: ServiceSpec,
        command: CommandSpec,
        timeout: float,
        extra_env: Mapping[str, str],
        done: Callable[[Result], None],
        keep_output: int = 0,
        run: int = 0,
    ) -> None:
        self._hands = hands
        self._done: Callable[[Result], None] | None = done
        self._keep = keep_output
        self._began = hands.loop.clock.now()
        self._ended_at = math.inf
        self._timed_out = False
        self._status: ExitStatus | None = None
        self._error: str | None = None
        self._output = b""
        self._reads: int | None = None
        self._report: int | None = None
        self._child: Child | None = None
        self._outlet: Outlet | None = None
        self._deadline = hands.loop.deadline(self._too_slow)
        try:
            self._spawn(_as_service(spec, command), extra_env, run)
        except SpawnError as error:
            self._error = error.error
            self._deadline = hands.loop.deadline(self._answer)
            self._deadline.arm(self._began)
        else:
            self._deadline.arm(self._began + timeout)

    def signal(self, signum: int) -> None:
        """Send a signal to its whole group; what follows from it is told as its end."""
        if self._child is not None:
            self._read_report()
            self._hands.reaper.signal(self._child, signum, whole_group=True)

    def cancel(self) -> None:
        """Kill it, and never answer."""
        self._done = None
        self._deadline.disarm()
        self.signal(signal.SIGKILL)
        self._close_output()

    # -- the child --------------------------------------------------------------------------------

    def _spawn(self, spec: ServiceSpec, extra_env: Mapping[str, str], run: int) -> None:
        ends = self._open_output(spec, run)
        try:
            recipe = Recipe(spec, self._hands.host, Provision(tuple(extra_env.items())))
            launched = recipe.spawn(run, tuple((n, ends[0]) for n in (1, 2) if ends))
        except SpawnError:
            self._close_output()
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self._report = launched.report
        executed = launched.report is None
        self._child = self._hands.reaper.watch(launched.pid, self._ended, leads_group=executed)
        self._child.leftover_signal = signal.SIGKILL

    def _open_output(self, spec: ServiceSpec, run: int) -> tuple[int, ...]:
        """Return the end that the command writes to, if it is not to write where we do."""
        taps = self._hands.taps
        try:
            if self._keep:
                return (self._open_pipe(),)
            if taps is not None and spec.output is Output.CAPTURED:
                self._outlet = taps.open(spec.name, run, HOOK)
                return self._outlet.ends
        except OSError as error:
            raise SpawnError(Stage.STDIO, "output", errno_name(error)) from None
        return ()

    def _open_pipe(self) -> int:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._reads = ours
        # Without room in epoll it is read when the command ends.
        with contextlib.suppress(OSError):
            self._hands.loop.add(ours, Priority.READINESS, lambda _events: self._read())
        return theirs

    def _read(self) -> None:
        """Take what has been written, one chunk; keep its beginning."""
        if self._reads is None:
            return
        try:
            chunk = os.read(self._reads, _CHUNK)
        except BlockingIOError:
            return
        self._output += chunk[: self._keep - len(self._output)]
        if not chunk:
            self._close_output()

    def _close_output(self) -> None:
        if self._outlet is not None and self._hands.taps is not None:
            self._hands.taps.over(self._outlet.key)
            self._outlet = None
        if self._reads is not None:
            self._hands.loop.remove(self._reads)
            self._hands.loop.close_later(self._reads)
            self._reads = None

    def _ended(self, child: Child, status: ExitStatus, _usage: Usage) -> None:
        self._ended_at = self._hands.loop.clock.now()
        failure = self._read_report()
        if isinstance(failure, SpawnError):
            self._error = failure.error
        elif failure is False:
            self._error = "killed before exec"
        else:
            self._status = status
        self._hands.reaper.signal(child, signal.SIGKILL, whole_group=True)  # what it left behind
        self._hands.reaper.release(child)
        self._child = None
        self._close_report()
        self._read()
        self._answer()

    def _read_report(self) -> SpawnError | bool | None:
        """Learn whether the program was executed; None if that is not known yet."""
        if self._report is None:
            return True
        said = read_report(self._report)
        if said is not None:
            self._close_report()
            if said is True and self._child is not None:
                self._child.leads_group = True
        return said

    def _close_report(self) -> None:
        if self._report is not None:
            self._hands.loop.close_later(self._report)
            self._report = None

    def _too_slow(self) -> None:
        self._timed_out = True
        self.signal(signal.SIGKILL)
        self._deadline = self._hands.loop.deadline(self._answer)
        self._deadline.arm(self._hands.loop.clock.now() + KILL_PATIENCE)

    def _answer(self) -> None:
        self._deadline.disarm()
        self._close_output()
        done, self._done = self._done, None
        if done is not None:
            took = self._hands.loop.clock.now() - self._began
            how = (self._status, self._error, self._timed_out)
            done(Result(*how, took, self._output, self._ended_at))


def _as_service(spec: ServiceSpec, command: CommandSpec) -> ServiceSpec:
    """Describe the command as a service of its own: same user and place, other program."""
    return spec._replace(
        argv=command.argv,
        program=command.program,
        fast=command.fast,
        stdin="null",
        foreground=False,
    )


def exit_words(status: ExitStatus | None) -> tuple[int | None, int | None]:
    """Return code and signal of a status, as events have them."""
    match status:
        case Exited(code):
            return code, None
        case Signaled(signum, _):
            return None, signum
        case _:
            return None, None
