"""The methods of Supervisor's namespace, each made of calls of our own core."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from supervisord_pidfd import __version__
from supervisord_pidfd.clock import Clock
from supervisord_pidfd.gateway import dialect
from supervisord_pidfd.gateway.core import ControlError, CoreClient
from supervisord_pidfd.gateway.dialect import ENDED, STARTED, Code, FaultError

LOG_MAX_BYTES = 1 << 20
"""Of what a service wrote last, so much is looked at."""
LOG_WITHIN_S = 10.0
EVENTS = 1000

Service = Mapping[str, Any]


class Result(NamedTuple):
    """Hold what became of one service."""

    service: Service
    fault: FaultError | None = None


class Namespace:
    """Answer the methods; parameters have the types that the table says."""

    def __init__(
        self,
        core: CoreClient,
        clock: Clock,
        within: Callable[[float], AbstractAsyncContextManager[Any]] = asyncio.timeout,
    ) -> None:
        """Ask this core; `within` bounds what takes longer than so many seconds."""
        self._core = core
        self._clock = clock
        self._within = within

    # -- the daemon -------------------------------------------------------------------------------

    async def api_version(self) -> str:
        """Return the version of this API, which is Supervisor's."""
        return dialect.API_VERSION

    async def version(self) -> str:
        """Return the version of the program."""
        return __version__

    async def identification(self) -> str:
        """Name the program."""
        return dialect.IDENTIFICATION

    async def state(self) -> dict[str, Any]:
        """Return the state of the daemon as a struct: statecode and statename."""
        state = dialect.DAEMON[(await self._daemon())["phase"]]
        return {"statecode": state.code, "statename": state.name}

    async def pid(self) -> int:
        """Return the pid of the daemon."""
        return int((await self._daemon())["pid"])

    async def read_log(self, offset: int, length: int) -> str:
        """Return a piece of what happened lately, a line for each event; as readProcessLog."""
        lines = []
        asked = self._core.stream("Events", last=EVENTS)
        async with self._within(LOG_WITHIN_S), contextlib.aclosing(asked) as told:
            async for reply in told:
                event = reply.get("event")
                if event is not None:
                    lines.append(dialect.event_line(event))
        text = "".join(lines).encode("utf-8", "replace")
        return dialect.cut(text, offset, length).decode("utf-8", "replace")

    async def _daemon(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (await self._core.call("Status", names=[]))["supervisor"]
        return found

    # -- services ---------------------------------------------------------------------------------

    async def process_info(self, name: str) -> dict[str, Any]:
        """Describe a service: a struct."""
        return dialect.info(await self._find(name), self._clock.wall())

    async def all_process_info(self) -> list[dict[str, Any]]:
        """Describe all services: a list of structs."""
        now = self._clock.wall()
        return [dialect.info(service, now) for service in await self._all()]

    async def start(self, name: str, wait: bool = True) -> Any:  # noqa: FBT001, FBT002 - theirs
        """Start a service, and what it requires; return true when it is ready.

        GROUP:* is a whole group, and then the answer is that of startProcessGroup.
        """
        if dialect.named(name).group is not None:
            return await self.start_group(name.partition(":")[0], wait)
        service = await self._find(name)
        if service["phase"] in STARTED:
            raise FaultError(Code.ALREADY_STARTED, name)
        _raise_first(await self._change("Start", [service], wait=bool(wait)))
        return True

    async def start_group(self, name: str, wait: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002
        """Start what is down of a group; return a struct for each."""
        return _structs(
            await self._change("Start", _down(await self._group(name)), wait=bool(wait))
        )

    async def start_all(self, wait: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002
        """Start what is down; return a struct for each."""
        return _structs(await self._change("Start", _down(await self._all()), wait=bool(wait)))

    async def stop(self, name: str, wait: bool = True) -> Any:  # noqa: FBT001, FBT002
        """Stop a service, first what requires it; return true when it is down.

        GROUP:* is a whole group, and then the answer is that of stopProcessGroup.
        """
        if dialect.named(name).group is not None:
            return await self.stop_group(name.partition(":")[0], wait)
        service = await self._find(name)
        if service["phase"] in ENDED:
            raise FaultError(Code.NOT_RUNNING, name)
        _raise_first(await self._change("Stop", [service], wait=bool(wait)))
        return True

    async def stop_group(self, name: str, wait: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002
        """Stop what is up of a group; return a struct for each."""
        return _structs(await self._change("Stop", _up(await self._group(name)), wait=bool(wait)))

    async def stop_all(self, wait: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002
        """Stop what is up; return a struct for each."""
        return _structs(await self._change("Stop", _up(await self._all()), wait=bool(wait)))

    async def signal(self, name: str, signal: str) -> Any:
        """Send a signal to a service, named or by its number; return true."""
        if dialect.named(name).group is not None:
            return await self.signal_group(name.partition(":")[0], signal)
        service = await self._find(name)
        if service["pid"] is None:
            raise FaultError(Code.NOT_RUNNING, name)
        _raise_first(await self._change("Signal", [service], signal=signal))
        return True

    async def signal_group(self, name: str, signal: str) -> list[dict[str, Any]]:
        """Send a signal to what runs of a group; return a struct for each."""
        running = [one for one in await self._group(name) if one["pid"] is not None]
        return _structs(await self._change("Signal", running, signal=signal))

    async def read_stdout(self, name: str, offset: int, length: int) -> str:
        """Return a piece of what a service wrote lately to standard output.

        What there is, is what memory holds of it. A negative offset is that many bytes of the end,
        and then the length has to be 0; a length of 0 is all.
        """
        text = await self._log(name, "stdout")
        return dialect.cut(text, offset, length).decode("utf-8", "replace")

    async def read_stderr(self, name: str, offset: int, length: int) -> str:
        """Return the same of standard error."""
        text = await self._log(name, "stderr")
        return dialect.cut(text, offset, length).decode("utf-8", "replace")

    async def tail_stdout(self, name: str, offset: int, length: int) -> list[Any]:
        """Return the end of what a service wrote to standard output.

        The answer is [text, offset for the next time, whether there was more].
        """
        return _tail(await self._log(name, "stdout"), offset, length)

    async def tail_stderr(self, name: str, offset: int, length: int) -> list[Any]:
        """Return the same of standard error."""
        return _tail(await self._log(name, "stderr"), offset, length)

    # -- what they have in common -----------------------------------------------------------------

    async def _all(self) -> list[Service]:
        found: list[Service] = (await self._core.call("Status"))["services"]
        return found

    async def _find(self, text: str) -> Service:
        """Look up the one service that a name stands for.

        Raises:
            FaultError: There is none.
        """
        for name in dialect.named(text).services:
            for service in await self._look_up(name):
                if service["name"] == name and dialect.belongs(service, text):
                    return service
        raise FaultError(Code.BAD_NAME, text)

    async def _group(self, text: str) -> list[Service]:
        """Look up the members of a group, or the instances of a service.

        Raises:
            FaultError: There are none.
        """
        if dialect.named(text).services == (text,):
            for name in (f"@{text}", text):
                found = await self._look_up(name)
                if found:
                    return found
        raise FaultError(Code.BAD_NAME, text[:160])

    async def _look_up(self, name: str) -> list[Service]:
        try:
            found: list[Service] = (await self._core.call("Status", names=[name]))["services"]
        except ControlError as error:
            if error.name == "NoSuchService":
                return []
            raise
        return found

    async def _change(
        self, method: str, services: Sequence[Service], **parameters: Any
    ) -> list[Result]:
        """Do something with services, and say what became of each of them."""
        if not services:
            return []
        names = [service["name"] for service in services]
        reply = await self._core.call(method, names=names, **parameters)
        outcomes = {outcome["service"]: outcome for outcome in reply["outcomes"]}
        return [
            Result(service, await self._fault(method, service, outcomes.get(service["name"])))
            for service in services
        ]

    async def _fault(
        self, method: str, service: Service, outcome: Mapping[str, Any] | None
    ) -> FaultError | None:
        """Say what went wrong with one service; without an outcome nobody waited for it."""
        if outcome is None or outcome["ok"]:
            return None
        if method == "Start":
            found = await self._look_up(service["name"]) or [service]
            return dialect.start_fault(found[0], outcome["message"])
        return FaultError(Code.FAILED, outcome["message"])

    async def _log(self, text: str, stream: str) -> bytes:
        """Gather what the logger has in memory of one stream."""
        name = (await self._find(text))["name"]
        found = bytearray()
        asked = self._core.stream("Logs", names=[name], stream=stream)
        try:
            async with self._within(LOG_WITHIN_S), contextlib.aclosing(asked) as replies:
                async for reply in replies:
                    line = reply.get("line")
                    if line is not None:
                        end = "" if line["partial"] else "\n"
                        found += f"{line['msg']}{end}".encode("utf-8", "replace")
                        del found[:-LOG_MAX_BYTES]
        except ControlError as error:
            if error.parameters.get("reason") == "not_captured":
                raise FaultError(Code.NO_FILE, text) from error
            raise
        return bytes(found)


def _raise_first(results: Iterable[Result]) -> None:
    for result in results:
        if result.fault is not None:
            raise result.fault


def _structs(results: Iterable[Result]) -> list[dict[str, Any]]:
    found = []
    for service, fault in results:
        group, name = dialect.full_name(service)
        code, text = (Code.SUCCESS, "OK") if fault is None else (fault.code, fault.text)
        found.append({"name": name, "group": group, "status": int(code), "description": text})
    return found


def _down(services: Iterable[Service]) -> list[Service]:
    return [service for service in services if service["phase"] not in STARTED]


def _up(services: Iterable[Service]) -> list[Service]:
    return [service for service in services if service["phase"] not in ENDED]


def _tail(text: bytes, offset: int, length: int) -> list[Any]:
    data, end, overflow = dialect.tail(text, offset, length)
    return [data.decode("utf-8", "replace"), end, overflow]
