"""The core's side of services' output: a pipe for each stream of each run, and who reads it.

A run gets the write ends; the logger gets the read ends, and a copy of each stays here until it
says that it has come to the end. So what is in a pipe outlives a logger: the next one is given all
that are left.

The counters of all services are in memory that the logger writes and the core reads; a slot of it
belongs to a service for as long as it is known.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from supervisord_pidfd import logwire
from supervisord_pidfd.core.spec import LogSpec, dump
from supervisord_pidfd.logline import LoggerLine, Message, Speaker
from supervisord_pidfd.logwire import Counters
from supervisord_pidfd.loop import Loop

ENDED_KEPT = 8
"""Ended processes of one service whose pipes are kept: what outlives them holds those for ever."""

OUTPUT = ("stdout", "stderr")
HOOK = ("hook",)


class Outlet(NamedTuple):
    """Hold the write ends for one process, in the order of its streams. Owned until `let_go`."""

    key: int
    ends: tuple[int, ...]

    def given(self) -> tuple[tuple[int, int], ...]:
        """Return which number of the child is which of them; one alone is for both."""
        return (1, self.ends[0]), (2, self.ends[-1])

    def let_go(self) -> None:
        """Close our copies: the process has its own, or there is none."""
        for fd in self.ends:
            os.close(fd)


class _Run(NamedTuple):
    """Hold the read ends of one process's output: for each id its stream and descriptor."""

    service: str
    run: int
    pipes: dict[int, tuple[str, int]]
    pid: int | None = None


class Told(NamedTuple):
    """Hold whom the logger's messages are for.

    `ready` takes a service and its run, `reopened` a number of files and what they were asked
    for, `tell` the rest of a message about an event, `lost` the service, the stream and the bytes
    that no logger has ever been given.
    """

    ready: Callable[[str, int], None]
    reopened: Callable[[int, int], None]
    tell: Callable[[str, dict[str, Any]], None]
    lost: Callable[[str, str, int], None]


class Taps:
    """Own the read ends, the memory of the counters and the line to the logger.

    `readable` is that memory for those who may only read it; None without /proc.
    """

    def __init__(self, loop: Loop, told: Told) -> None:
        """Make the memory of the counters.

        Raises:
            OSError: No memory file or descriptor to be had.
        """
        self.counters = Counters.create()
        self.readable = _reopened(self.counters.fileno())
        self._settings: dict[str, Any] = {}
        self._told = told
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._specs: dict[str, tuple[LogSpec, str]] = {}
        self._runs: dict[int, _Run] = {}
        self._of: dict[str, list[int]] = {}
        self._over: dict[str, list[int]] = {}
        self._run_of: dict[int, int] = {}
        self._handed: set[int] = set()
        self._given: set[int] = set()
        self._ids = 0
        self.line = LoggerLine(
            loop, Speaker(self._message, self._sent, self._given_up, self._take)
        )

    # -- services ---------------------------------------------------------------------------------

    def use(self, service: str, spec: LogSpec, group: str = "") -> None:
        """Let this be what becomes of a service's output from now on."""
        if self._specs.get(service) != (spec, group):
            self._slot(service)
            self._specs[service] = spec, group
            self.line.say("service", service)

    def forget(self, service: str) -> None:
        """Drop a service that is gone; what it has written is still read to its end."""
        if self._specs.pop(service, None) is not None:
            self.line.say("removed", service)
            self._end_of_service(service)

    def slot(self, service: str) -> int | None:
        """Return where the counters of a service are."""
        return self._slots.get(service)

    def _slot(self, service: str) -> None:
        if service not in self._slots:
            slot = self._free.pop() if self._free else len(self._slots)
            self.counters.reserve(slot)
            self.counters.clear(slot)
            self._slots[service] = slot

    def _end_of_service(self, service: str) -> None:
        """Free the slot when neither the service nor any of its pipes is left."""
        if service not in self._specs and not self._of.get(service):
            self._of.pop(service, None)
            slot = self._slots.pop(service, None)
            if slot is not None:
                self._free.append(slot)

    # -- runs -------------------------------------------------------------------------------------

    def open(self, service: str, run: int, streams: tuple[str, ...] = OUTPUT) -> Outlet:
        """Make the pipes for a process about to be started.

        Raises:
            OSError: No descriptors to be had; nothing is left of the attempt.
        """
        read_ends: list[int] = []
        write_ends: list[int] = []
        try:
            for _ in streams:
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                read_ends.append(read_end)
                write_ends.append(write_end)
        except OSError:
            for fd in (*read_ends, *write_ends):
                os.close(fd)
            raise
        first = self._ids + 1
        self._ids += len(streams)
        ids = range(first, self._ids + 1)
        pipes = {i: (stream, fd) for i, stream, fd in zip(ids, streams, read_ends, strict=True)}
        self._runs[first] = _Run(service, run, pipes)
        self._run_of.update(dict.fromkeys(ids, first))
        self._of.setdefault(service, []).append(first)
        self.line.say("run", first)
        return Outlet(first, tuple(write_ends))

    def started(self, key: int, pid: int) -> None:
        """Take note of the process; in the turn of `open`, before the logger is told."""
        self._runs[key] = self._runs[key]._replace(pid=pid)

    def over(self, key: int) -> None:
        """Take note that the process has ended; what it has left behind may still write."""
        run = self._runs.get(key)
        if run is None:
            return
        ended = self._over.setdefault(run.service, [])
        ended.append(key)
        if len(ended) > ENDED_KEPT:
            self._drop(ended[0])

    def _drop(self, key: int) -> None:
        """Wait no longer for the end of a process's output: something of it lives for ever."""
        run = self._runs[key]
        if key not in self._given:
            for stream, fd in run.pipes.values():
                lost = logwire.unread(fd)
                if lost:
                    self._told.lost(run.service, stream, lost)
        ids = tuple(run.pipes)
        if key in self._given:
            self.line.say("drop", ids)
        self._ended(ids)

    def _ended(self, ids: Iterable[int]) -> None:
        for pipe in ids:
            key = self._run_of.pop(pipe, None)
            if key is None:
                continue
            run = self._runs[key]
            _, fd = run.pipes.pop(pipe)
            os.close(fd)
            if not run.pipes:
                self._end_of_run(key, run.service)

    def _end_of_run(self, key: int, service: str) -> None:
        del self._runs[key]
        self._handed.discard(key)
        self._given.discard(key)
        self._of[service].remove(key)
        ended = self._over.get(service, [])
        if key in ended:
            ended.remove(key)
        if not ended:
            self._over.pop(service, None)
        self._end_of_service(service)

    # -- the logger comes and goes ----------------------------------------------------------------

    def connect(self) -> int:
        """Make the channel for a logger about to start; return its end, which is ours to close.

        It is told everything that there is, as its predecessors were.

        Raises:
            OSError: No descriptors to be had.
        """
        self._given.clear()
        return self.line.open(
            [
                ("open", None),
                *(("service", name) for name in self._specs),
                *(("run", key) for key in self._runs),
            ]
        )

    def close(self) -> None:
        """Let go of everything."""
        self.line.close()
        self._ended(list(self._run_of))
        self.counters.close()
        os.close(self.counters.fileno())
        if self.readable is not None:
            os.close(self.readable)

    # -- saying -----------------------------------------------------------------------------------

    def use_settings(self, settings: dict[str, Any]) -> None:
        """Tell the logger what it needs to know besides services."""
        if settings != self._settings:
            self._settings = settings
            self.line.say("settings")

    def reopen(self, request: int) -> None:
        """Have the log files closed and opened again."""
        self.line.say("reopen", request)

    def hand_client(self, parameters: dict[str, Any], client: int) -> None:
        """Let the logger answer a client of `logs`. Takes the descriptor."""
        self.line.say("logs", (json.dumps(parameters), client))

    def finish(self, within: float) -> None:
        """Have everything written: the daemon ends."""
        self.line.say("finish", within)
        self.line.flush()

    def _message(self, kind: str, about: Any) -> Message:
        """Make a message of what there is now; None if there is nothing to say any more."""
        message: dict[str, Any] | None = {kind: about}
        fds: list[int] = []
        if kind == "open":
            message = {"open": logwire.OPENING, "settings": self._settings}
            fds = [self.counters.fileno()]
        elif kind == "settings":
            message = {"settings": self._settings}
        elif kind == "service":
            message = self._about_service(about)
        elif kind == "run":
            message, fds = self._about_run(about)
        elif kind == "logs":
            parameters, client = about
            message, fds = {"logs": json.loads(parameters)}, [client]
        return message, fds

    def _about_service(self, name: str) -> dict[str, Any] | None:
        known = self._specs.get(name)
        if known is None:
            return None
        spec, group = known
        return {"service": name, "slot": self._slots[name], "log": dump(spec), "group": group}

    def _about_run(self, key: int) -> Message:
        run = self._runs.get(key)
        if run is None:
            return None, []
        return {
            "run": run.run,
            "service": run.service,
            "pipes": [[pipe, stream] for pipe, (stream, _) in run.pipes.items()],
            "again": key in self._handed,
            "pid": run.pid,
        }, [fd for _, fd in run.pipes.values()]

    def _sent(self, kind: str, about: Any) -> None:
        if kind == "run":
            self._handed.add(about)
            self._given.add(about)
        elif kind == "logs":
            os.close(about[1])

    @staticmethod
    def _given_up(kind: str, about: Any) -> None:
        if kind == "logs":  # its client sees the end
            os.close(about[1])

    # -- hearing ----------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        """Act on a message; whatever makes no sense is passed over."""
        match message:
            case {"ended": [*ids]}:
                self._ended(pipe for pipe in ids if type(pipe) is int)
            case {"ready": str(service), "run": int(run)}:
                self._told.ready(service, run)
            case {"reopened": int(files), "for": int(request)}:
                self._told.reopened(files, request)
            case {"tell": str(event), **rest}:
                self._told.tell(event, rest)
            case _:
                pass


def _reopened(fd: int) -> int | None:
    """Open a memory file again, for reading alone."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
