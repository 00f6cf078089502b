"""Our services in Supervisor's words: names, states, faults, and its way to cut logs. Pure."""

import enum
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

API_VERSION = "3.0"
IDENTIFICATION = "supervisord-pidfd"


class Code(enum.IntEnum):
    """Name the faults as Supervisor does; SUCCESS stands in lists of results."""

    UNKNOWN_METHOD = 1
    INCORRECT_PARAMETERS = 2
    BAD_ARGUMENTS = 3
    SIGNATURE_UNSUPPORTED = 4
    SHUTDOWN_STATE = 6
    BAD_NAME = 10
    BAD_SIGNAL = 11
    NO_FILE = 20
    NOT_EXECUTABLE = 21
    FAILED = 30
    ABNORMAL_TERMINATION = 40
    SPAWN_ERROR = 50
    ALREADY_STARTED = 60
    NOT_RUNNING = 70
    SUCCESS = 80


class FaultError(Exception):
    """Hold a fault, to be answered."""

    def __init__(self, code: Code, about: str = "") -> None:
        super().__init__(code, about)
        self.code = code
        self.text = f"{code.name}: {about}" if about else code.name


class State(NamedTuple):
    """Hold a state of Supervisor."""

    code: int
    name: str


_STARTING = State(10, "STARTING")
STATES = {
    "stopped": State(0, "STOPPED"),
    "waiting": _STARTING,
    "starting": _STARTING,
    "running": State(20, "RUNNING"),
    "backoff": State(30, "BACKOFF"),
    "stopping": State(40, "STOPPING"),
    "exited": State(100, "EXITED"),
    "failed": State(200, "FATAL"),
}
STARTED = frozenset({"waiting", "starting", "running", "backoff"})
ENDED = frozenset({"stopped", "exited", "failed"})
DAEMON = {"running": State(1, "RUNNING"), "stopping": State(-1, "SHUTDOWN")}


# -- names ----------------------------------------------------------------------------------------

_PART = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_SPEC = re.compile(rf"({_PART})(?:([:@])({_PART}|\*)?)?")


class Named(NamedTuple):
    """Hold what a name of Supervisor may stand for: one of these services, or a whole group."""

    services: tuple[str, ...]
    group: str | None = None


def named(text: object) -> Named:
    """Read `NAME`, `GROUP:NAME`, `NAME:INSTANCE`, `GROUP:*` or `GROUP:`.

    Raises:
        FaultError: It is none of these; globs and lists of our own are not.
    """
    match = _SPEC.fullmatch(text) if isinstance(text, str) else None
    if match is None or (match[2] == "@" and match[3] in {None, "*"}):
        raise FaultError(Code.BAD_NAME, str(text)[:160])
    base, between, rest = match.groups()
    if between is None:
        return Named((base,))
    if between == ":" and rest in {None, "*"}:
        return Named((), base)
    if between == "@":
        return Named((f"{base}@{rest}",))
    return Named((f"{base}@{rest}", rest))


def belongs(service: Mapping[str, Any], named_as: str) -> bool:
    """Tell whether `GROUP:NAME` or the like is this service."""
    group, colon, _ = named_as.partition(":")
    return not colon or group in {service["group"], full_name(service)[0]}


def full_name(service: Mapping[str, Any]) -> tuple[str, str]:
    """Return group and name as Supervisor has them: `worker@3` is `worker:3`."""
    base, at, instance = service["name"].partition("@")
    return (base, instance) if at else (service["group"], base)


# -- what is told of a service --------------------------------------------------------------------


def info(service: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Describe a service as `getProcessInfo` does; `now` is in Unix seconds."""
    phase = service["phase"]
    group, name = full_name(service)
    end = service["last_exit"]
    failing = phase in {"failed", "backoff"}
    ran = service["run"] > 0
    return {
        "name": name,
        "group": group,
        "start": _seconds(service["started_at"]),
        "stop": _seconds(service["since"]) if ran and (failing or phase in ENDED) else 0,
        "now": int(now),
        "state": STATES[phase].code,
        "statename": STATES[phase].name,
        "spawnerr": service["detail"] if failing else "",
        "exitstatus": _exit_status(end) if end and service["pid"] is None else 0,
        "logfile": "",
        "stdout_logfile": "",
        "stderr_logfile": "",
        "pid": service["pid"] or 0,
        "description": _description(service, now, ran=ran),
    }


def _description(service: Mapping[str, Any], now: float, *, ran: bool) -> str:
    phase = service["phase"]
    if phase == "running" and service["pid"] is not None:
        up = timedelta(seconds=max(0, int(now) - _seconds(service["started_at"])))
        return f"pid {service['pid']}, uptime {up}"
    if phase in {"stopped", "exited"}:
        if not ran:
            return "Not started"
        moment = datetime.fromtimestamp(_seconds(service["since"])).astimezone()
        return moment.strftime("%b %d %I:%M %p")
    return str(service["detail"])


def _seconds(moment: str | None) -> int:
    return 0 if moment is None else int(datetime.fromisoformat(moment).timestamp())


def _exit_status(end: Mapping[str, Any]) -> int:
    """Return the code; -1 for a signal and for what nobody knows."""
    code: int | None = end["exit_code"]
    return -1 if code is None else code


def start_fault(service: Mapping[str, Any], message: str) -> FaultError:
    """Say why a start came to nothing."""
    end = service["last_exit"] or {}
    about = f"{':'.join(full_name(service))}: {message}"
    if end.get("cause") == "spawn_error":
        codes = {"ENOENT": Code.NO_FILE, "EACCES": Code.NOT_EXECUTABLE}
        return FaultError(codes.get(end.get("error") or "", Code.SPAWN_ERROR), about)
    return FaultError(Code.ABNORMAL_TERMINATION, about)


def event_line(event: Mapping[str, Any]) -> str:
    """Write an event as a line of a log."""
    head = ("ts", "level", "event")
    rest = (
        f"{name}={value}"
        for name, value in event.items()
        if name not in {*head, "seq"} and value is not None
    )
    return " ".join([*(str(event.get(name)) for name in head), *rest]) + "\n"


# -- logs -----------------------------------------------------------------------------------------


def cut(text: bytes, offset: int, length: int) -> bytes:
    """Cut as `readProcessStdoutLog` does: a range, or with a negative offset the end.

    Raises:
        FaultError: There is no such range.
    """
    if length < 0 or (offset < 0 and length):
        raise FaultError(Code.BAD_ARGUMENTS, "log")
    if offset < 0:
        return text[offset:]
    return text[offset : offset + length] if length else text[offset:]


def tail(text: bytes, offset: int, length: int) -> tuple[bytes, int, bool]:
    """Cut as `tailProcessStdoutLog` does, to the letter: the end, also where less is new.

    Returns the bytes, the offset for the next time, and whether there was more than `length`.
    """
    size = len(text)
    overflow = size > offset + length
    if length <= 0 or (offset >= size and not overflow):
        return b"", size, overflow
    return text[-length:], size, overflow
