"""What services write, as clients and observers meet it: `logs`, reopening, the logger's news."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.answers import Answers
from supervisord_pidfd.commands import INVALID_PARAMETER, REFUSED, Call
from supervisord_pidfd.core.events import BecameReady
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import (
    LogDropped,
    LogReopened,
    LogResumed,
    LogRotated,
    LogWriteFailed,
)
from supervisord_pidfd.core.notices import Told as Notice
from supervisord_pidfd.core.spec import Output, ReadyKind
from supervisord_pidfd.service import Service
from supervisord_pidfd.taps import Taps, Told

TEXT_KEPT = 512
NAMES_BYTES = 48 << 10
"""Bytes of names that one message to the logger has room for."""

_News = Callable[[dict[str, Any]], Any]
_NEWS: dict[str, _News] = {
    "log.rotated": lambda said: LogRotated(_text(said, "path")),
    "log.reopened": lambda said: LogReopened(int(_number(said, "files"))),
    "log.write_failed": lambda said: LogWriteFailed(_text(said, "path"), _text(said, "error")),
    "log.resumed": lambda said: LogResumed(_text(said, "path"), _number(said, "blocked_s")),
    "log.dropped": lambda said: LogDropped(
        _text(said, "stream"),
        int(_number(said, "lines")),
        int(_number(said, "bytes")),
        _text(said, "reason"),
        _text(said, "from") or None,
        _text(said, "to") or None,
    ),
}
"""What the logger may tell of, and how its words become a notice."""


def _text(said: Mapping[str, Any], key: str) -> str:
    return str(said.get(key) or "")[:TEXT_KEPT]


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


class Sources(NamedTuple):
    """Hold what the news are about and whom they are told; `all_services` is the living table."""

    all_services: Callable[[], Mapping[str, Service]]
    tell: Callable[[Notice], None]


class News:
    """Take in what the logger says."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._reopening: dict[int, Callable[[int], None]] = {}
        self._requests = 0

    def told(self) -> Told:
        """Return whom the taps tell."""
        return Told(self._ready, self._reopened, self._tell, self._lost)

    def ask_to_reopen(self, taps: Taps, answer: Callable[[int], None]) -> None:
        """Have the files reopened; `answer` takes how many there were."""
        self._requests += 1
        self._reopening[self._requests] = answer
        taps.reopen(self._requests)

    def _ready(self, name: str, run: int) -> None:
        service = self._sources.all_services().get(name)
        if (
            service is not None
            and service.state.run == run
            and service.state.phase is Phase.STARTING
            and service.spec.ready.kind is ReadyKind.LOG
        ):
            service.post(BecameReady(ReadyKind.LOG.value))

    def _reopened(self, files: int, request: int) -> None:
        self._sources.tell(Notice(LogReopened(files)))
        answer = self._reopening.pop(request, None)
        self._reopening = {n: left for n, left in self._reopening.items() if n > request}
        if answer is not None:
            answer(files)

    def _tell(self, event: str, said: dict[str, Any]) -> None:
        make = _NEWS.get(event)
        if make is None:
            return
        name = said.get("service")
        service = self._sources.all_services().get(name) if type(name) is str else None
        if service is not None:
            service.tell(make(said))
        else:
            self._sources.tell(Notice(make(said), name if type(name) is str else None))

    def _lost(self, name: str, stream: str, size_bytes: int) -> None:
        self._tell(
            "log.dropped",
            {"service": name, "stream": stream, "bytes": size_bytes, "reason": "overflow"},
        )


class Outputs:
    """Answer the methods about what services write."""

    def __init__(
        self, taps: Taps, news: News, services: Mapping[str, Service], answers: Answers
    ) -> None:
        self._taps = taps
        self._news = news
        self._services = services
        self._answers = answers

    def logs(self, call: Call) -> None:
        """Hand the client over to the logger, which has the lines."""
        given = call.parameters["names"]
        names = tuple(self._services) if given is None else self._answers.named(call, given)
        if names is None:
            return
        captured = [name for name in names if self._services[name].spec.output is Output.CAPTURED]
        if names and not captured:
            whose = "no service's output" if given is None else f"the output of {names[0]}"
            kept = "is" if given is None else "is not"
            message = f"{whose} {kept} captured (service.NAME.log.to)"
            call.error(REFUSED, {"reason": "not_captured", "message": message})
        elif not self._taps.line.is_open:
            message = "the logger is not running (status --all)"
            call.error(REFUSED, {"reason": "no_logger", "message": message})
        elif given is not None and sum(len(name) + 3 for name in captured) > NAMES_BYTES:
            call.error(INVALID_PARAMETER, {"parameter": "names"})
        else:
            asked = {**call.parameters, "names": None if given is None else captured}
            client = call.take_client()
            if client is not None:
                self._taps.hand_client(asked, client)

    def reopen_logs(self, call: Call) -> None:
        """Have the log files closed and opened again, after somebody has renamed them."""
        if not self._taps.line.is_open:
            message = "the logger is not running (status --all)"
            call.error(REFUSED, {"reason": "no_logger", "message": message})
            return
        self._news.ask_to_reopen(self._taps, lambda files: call.reply({"files": files}))
