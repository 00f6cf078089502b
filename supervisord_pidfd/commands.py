"""Every method of the control socket, declared once; who may call it; what a handler is given.

`METHODS` is all there is: a name from a client is looked up there and nowhere else. A row says the
parameters, the role that may call, whether answers may be many, and the name of the handler. The
interface file `io.supervisordpidfd.Control.varlink` says the same in Varlink's words, and a test
holds the two together. `bind` finds the handlers, once, when the daemon starts.

Errors that every method may answer are those of `org.varlink.service`; ours are in `ERRORS`.
"""

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

INTERFACE = "io.supervisordpidfd.Control"
SERVICE_INTERFACE = "org.varlink.service"

METHOD_NOT_FOUND = f"{SERVICE_INTERFACE}.MethodNotFound"
METHOD_NOT_IMPLEMENTED = f"{SERVICE_INTERFACE}.MethodNotImplemented"
INTERFACE_NOT_FOUND = f"{SERVICE_INTERFACE}.InterfaceNotFound"
INVALID_PARAMETER = f"{SERVICE_INTERFACE}.InvalidParameter"
PERMISSION_DENIED = f"{SERVICE_INTERFACE}.PermissionDenied"
EXPECTED_MORE = f"{SERVICE_INTERFACE}.ExpectedMore"

NO_SUCH_SERVICE = f"{INTERFACE}.NoSuchService"
TOO_OLD = f"{INTERFACE}.TooOld"
CONFIG_INVALID = f"{INTERFACE}.ConfigInvalid"
WAIT_TIMED_OUT = f"{INTERFACE}.WaitTimedOut"
REFUSED = f"{INTERFACE}.Refused"
ERRORS = (NO_SUCH_SERVICE, TOO_OLD, CONFIG_INVALID, WAIT_TIMED_OUT, REFUSED)

NOBODY = frozenset({65534, 2**32 - 1})
"""The uid that the kernel shows for whoever has none here (user namespaces), and -1."""


class Role(enum.IntEnum):
    """Order what a client may do."""

    NONE = 0
    READ = 1
    FULL = 2


class More(enum.Enum):
    """Say whether a call may ask for many replies (`more`), or has to."""

    NO = "no"
    MAY = "may"
    MUST = "must"


class Param(NamedTuple):
    """Declare one parameter: its Varlink type, and what of that type makes sense.

    `least` bounds numbers below; `choices` lists the words there are.
    """

    name: str
    kind: str
    optional: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = 0


class Method(NamedTuple):
    """Declare one method.

    `name` is without its interface; `handler` is the attribute that answers it.
    """

    name: str
    params: tuple[Param, ...]
    role: Role
    more: More
    handler: str

    @property
    def changes(self) -> bool:
        """Tell whether a call changes something, and is therefore told as `control.called`."""
        return self.role is Role.FULL and self.name != "Plan"


class Peer(NamedTuple):
    """Hold who is at the other end, as the kernel saw it when the connection was made."""

    uid: int
    gid: int
    pid: int
    full: bool

    @property
    def by(self) -> str:
        """Return who asks, in the words of the log."""
        return f"operator:{self.uid}"


class Access(NamedTuple):
    """Hold whom the configuration lets read, and whose daemon this is."""

    own_uid: int
    read_uids: frozenset[int] = frozenset()
    read_gids: frozenset[int] = frozenset()


def role_of(access: Access, uid: int, gids: frozenset[int], pid: int) -> Role:
    """Decide what a client may do; whoever the kernel cannot name may do nothing."""
    if uid in NOBODY or pid <= 0:
        return Role.NONE
    if uid in {0, access.own_uid}:
        return Role.FULL
    if uid in access.read_uids or not gids.isdisjoint(access.read_gids):
        return Role.READ
    return Role.NONE


class Call(Protocol):
    """Be one call on its way; the handler answers now, or later from the loop."""

    method: Method
    parameters: dict[str, Any]
    """Checked against the declared types; an optional one that was left out is None."""
    peer: Peer
    more: bool

    @property
    def gone(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        ...

    def reply(self, parameters: dict[str, Any], *, continues: bool = False) -> None:
        """Answer; with `continues` there is more to come. A client that is gone is no error."""
        ...

    def error(self, name: str, parameters: dict[str, Any] | None = None) -> None:
        """Answer with an error, which is the last answer."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back if the client leaves before the last answer."""
        ...

    def take_client(self) -> int | None:
        """Take the client's socket away, for somebody else to answer; None if that cannot be."""
        ...

    def pull(self, pieces: Iterator[bytes]) -> None:
        """Answer with bytes of the wire, taken piece by piece as the client reads.

        `b""` means "nothing now": `wake` has it asked again. The end of the iterator is the end of
        the call, so its last piece has to end a last reply.
        """
        ...

    def wake(self) -> None:
        """Say that the iterator of `pull` may have more."""
        ...


Handler = Callable[[Call], None]


class Operations(Protocol):
    """Name the handlers that change something or need the whole picture."""

    def explain(self, call: Call) -> None: ...  # noqa: D102 - the interface file tells each
    def history(self, call: Call) -> None: ...  # noqa: D102
    def show(self, call: Call) -> None: ...  # noqa: D102
    def wait(self, call: Call) -> None: ...  # noqa: D102
    def start(self, call: Call) -> None: ...  # noqa: D102
    def stop(self, call: Call) -> None: ...  # noqa: D102
    def restart(self, call: Call) -> None: ...  # noqa: D102
    def reload(self, call: Call) -> None: ...  # noqa: D102
    def signal(self, call: Call) -> None: ...  # noqa: D102
    def reset(self, call: Call) -> None: ...  # noqa: D102
    def plan(self, call: Call) -> None: ...  # noqa: D102
    def apply(self, call: Call) -> None: ...  # noqa: D102


# -- the table ------------------------------------------------------------------------------------

_DECLARED = re.compile(r"(\w+): (\??)(string|bool|int|float|\[\]string)(?:, |\Z)")


def _params(text: str, **details: Any) -> tuple[Param, ...]:
    """Read parameters in Varlink's notation; `details` are choices, or a least value, by name."""
    found = []
    for match in _DECLARED.finditer(text):
        name, optional, kind = match.groups()
        param = Param(name, kind, bool(optional))
        detail = details.get(name, ())
        is_choice = type(detail) is tuple
        found.append(param._replace(**{"choices" if is_choice else "least": detail}))
    return tuple(found)


def _read(name: str, params: str = "", more: More = More.NO, **details: Any) -> Method:
    return Method(name, _params(params, **details), Role.READ, more, _snake(name))


def _change(name: str, params: str = "", more: More = More.NO) -> Method:
    return Method(name, _params(params), Role.FULL, more, _snake(name))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


_WAITING = "wait: ?bool, timeout_s: ?float"
_SETTLING = f"{_WAITING}, settle_s: ?float"

METHODS: tuple[Method, ...] = (
    _read("Status", "names: ?[]string, all: ?bool"),
    _read("Watch", "since: ?int", More.MUST),
    _read("Events", "names: ?[]string, since: ?string, last: ?int, follow: ?bool", More.MUST),
    _read(
        "Logs",
        "names: ?[]string, last: ?int, since: ?string, stream: ?string, run: ?int, follow: ?bool",
        More.MUST,
        stream=("stdout", "stderr"),
        run=None,
    ),
    _read("Explain", "name: string"),
    _read("History", "name: string, last: ?int"),
    _read("Dependencies", "name: ?string, reverse: ?bool"),
    _read("Show", "name: string, origin: ?bool"),
    _read("Health", "level: ?string", level=("alive", "ready")),
    _read("Discovery"),
    _read("Counters"),
    _read(
        "Wait",
        "names: ?[]string, condition: ?string, change: ?int, timeout_s: ?float",
        condition=("ready", "running", "healthy", "stopped"),
    ),
    _change("Start", f"names: []string, only: ?bool, {_SETTLING}", More.MAY),
    _change("Stop", f"names: []string, only: ?bool, {_WAITING}", More.MAY),
    _change("Restart", f"names: []string, only: ?bool, rolling: ?bool, {_SETTLING}", More.MAY),
    _change("Reload", f"names: []string, {_WAITING}", More.MAY),
    _change("Signal", "names: []string, signal: string, group: ?bool"),
    _change("Reset", "names: []string"),
    _change("Freeze", "names: []string"),
    _change("Thaw", "names: []string"),
    _change("Plan", "file: ?string"),
    _change("Apply", f"only: ?[]string, no_restart: ?bool, expect: ?string, {_WAITING}", More.MAY),
    _change("ReopenLogs"),
    _change("Reexec"),
    _change("Shutdown"),
)

BY_NAME: dict[str, Method] = {f"{INTERFACE}.{method.name}": method for method in METHODS}


def bind(*owners: object) -> dict[str, Handler]:
    """Find the handler of each method among these objects; one without any is left out."""
    found: dict[str, Handler] = {}
    for method in METHODS:
        for owner in owners:
            handler = getattr(owner, method.handler, None)
            if handler is not None:
                found[method.name] = handler
                break
    return found


# -- parameters -----------------------------------------------------------------------------------


class InvalidParameterError(Exception):
    """Name the parameter that is missing, unknown, of another type or out of bounds."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


def check_parameters(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all declared parameters, None for those left out.

    Raises:
        InvalidParameterError: The first one that does not fit. A bool is no number.
    """
    found = {}
    for param in method.params:
        value = given.get(param.name)
        if value is None:
            if not param.optional:
                raise InvalidParameterError(param.name)
        elif not _fits(param, value):
            raise InvalidParameterError(param.name)
        found[param.name] = value
    for name in given:
        if name not in found:
            raise InvalidParameterError(name)
    return found


def _fits(param: Param, value: object) -> bool:
    match param.kind:
        case "string":
            return type(value) is str and (not param.choices or value in param.choices)
        case "bool":
            return type(value) is bool
        case "int":
            return type(value) is int and (param.least is None or value >= param.least)
        case "float":
            number = type(value) is int or type(value) is float
            return number and value >= 0  # type: ignore[operator]
        case _:
            return type(value) is list and all(type(member) is str for member in value)


# -- words in parameters --------------------------------------------------------------------------

_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s|m|h|d|w)", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST_AGE = 64


def age_of(text: str) -> float | None:
    """Read a length of time such as `1h30m`, in seconds; None if it is none."""
    if len(text) > _LONGEST_AGE or not text or _AGE.sub("", text):
        return None
    return sum(float(size) * _UNITS[unit] for size, unit in _AGE.findall(text))
