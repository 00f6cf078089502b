"""Supervisor's XML-RPC for those who speak nothing else: a fixed table over our own methods.

`ROWS` is all there is: who is asked for, what it takes, what a client needs to be allowed. Each
call ends as calls of the core, so nothing can be done here that cannot be done there. A browser
has no business here: a request with an Origin, or of a type that a form can send, is refused.
"""

import base64
import binascii
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from supervisord_pidfd.gateway import access, xmlrpc
from supervisord_pidfd.gateway.access import Denial, Level, Policy
from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.dialect import Code, FaultError
from supervisord_pidfd.gateway.http import Request, Response, refusal
from supervisord_pidfd.gateway.namespace import Namespace
from supervisord_pidfd.gateway.router import Route

PATH = "/RPC2"
_NO_CALL = Denial(400, "BadRequest", "this is for XML-RPC")
_BROWSER = Denial(403, "Forbidden", "this is not for browsers")
_NO_TOKEN = Denial(401, "Unauthorized", "this needs a token")
_TOO_LITTLE = Denial(403, "Forbidden", "this token does not allow that")
CALLS_MAX = 64
"""Calls in one `system.multicall`."""


class Row(NamedTuple):
    """Say what a method is called, what a client needs for it, what it takes and who answers.

    `answer` is called with the caller and the parameters; `kinds` are the types of these, in
    order, and from `needed` on they may be left out.
    """

    name: str
    level: Level
    kinds: tuple[type, ...]
    needed: int
    answer: Callable[..., Awaitable[Any]]

    @property
    def help(self) -> str:
        """Say what it does."""
        return inspect.getdoc(self.answer) or ""

    def takes(self, params: Sequence[object]) -> bool:
        """Tell whether these are parameters of this method; 0 and 1 are as good as a boolean."""
        return self.needed <= len(params) <= len(self.kinds) and all(
            isinstance(param, int) if kind is bool else type(param) is kind
            for kind, param in zip(self.kinds, params, strict=False)
        )


class Rpc:
    """Answer XML-RPC."""

    def __init__(self, namespace: Namespace, word: str, policy: Policy) -> None:
        """Have these methods called by whom the policy lets in, as far as `web.rpc` says."""
        self._namespace = namespace
        self._policy = policy
        self._most = {"control": Level.CONTROL, "read": Level.READ}.get(word, Level.OPEN)

    def routes(self) -> list[Route]:
        """Return the rows that we answer; who may come in is decided here."""
        return [Route("POST", PATH, Level.OPEN, "rpc", self.answer, frozenset({"rpc"}))]

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        found = self._admit(request)
        if isinstance(found, Denial):
            challenge = (("WWW-Authenticate", 'Basic realm="supervisord-pidfd"'),)
            return refusal(found.code, challenge if found.code == 401 else ())
        try:
            call = xmlrpc.read(request.body)
        except xmlrpc.UnreadableError:
            return refusal(400)
        try:
            body = xmlrpc.answer(await self._do(call.method, call.params, found))
        except FaultError as error:
            body = xmlrpc.fault(int(error.code), error.text)
        except TimeoutError:
            return refusal(504)
        except ConnectionError:
            return refusal(503)
        return Response(200, body, "text/xml")

    # -- who may what -----------------------------------------------------------------------------

    def _admit(self, request: Request) -> Level | Denial:
        """Decide what a client may do, or why it may do nothing."""
        denial = self._judge_browser(request)
        if denial is not None:
            return denial
        if not self._policy.guarded:
            # A path that needs no token is the daemon's own, if it lets change anything.
            return self._most if request.door.near else _NO_TOKEN
        token = token_of(request.headers.get("authorization", ""))
        given = Level.OPEN if token is None else access.level_of_token(self._policy, token)
        if given is Level.OPEN:
            return _NO_TOKEN
        return _TOO_LITTLE if given < Level.READ else min(self._most, given)

    def _judge_browser(self, request: Request) -> Denial | None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/xml":
            return _NO_CALL
        if "origin" in request.headers:
            return _BROWSER
        # No page can make a browser go to a path, so there the Host says nothing.
        return None if request.peer == "unix" else access.judge_browser(self._policy, request)

    # -- calls ------------------------------------------------------------------------------------

    async def _do(self, method: str, params: Sequence[object], level: Level) -> Any:
        """Look a method up in the table, and nowhere else.

        Raises:
            FaultError: It is not there, not allowed, or came to nothing.
        """
        if method in _SYSTEM:
            return await _SYSTEM[method](self, params, level)
        row = BY_NAME.get(method)
        if row is None:
            raise FaultError(Code.UNKNOWN_METHOD)
        if level < row.level:
            raise FaultError(Code.FAILED, "changes are not allowed here (web.rpc, or the token)")
        if not row.takes(params):
            raise FaultError(Code.INCORRECT_PARAMETERS)
        try:
            return await row.answer(self._namespace, *params)
        except ControlError as error:
            raise _fault_of(error) from error

    async def multicall(self, params: Sequence[object], level: Level) -> list[Any]:
        """Do one call after the other; each answer stands in a list of its own."""
        calls = params[0] if len(params) == 1 else None
        if not isinstance(calls, list) or len(calls) > CALLS_MAX:
            raise FaultError(Code.INCORRECT_PARAMETERS, f"a list of at most {CALLS_MAX} calls")
        results: list[Any] = []
        for call in calls:
            try:
                results.append([await self._one_of_many(call, level)])
            except FaultError as error:
                results.append({"faultCode": int(error.code), "faultString": error.text})
        return results

    async def _one_of_many(self, call: object, level: Level) -> Any:
        if not isinstance(call, dict) or call.get("methodName") == "system.multicall":
            raise FaultError(Code.INCORRECT_PARAMETERS)
        method, params = call.get("methodName"), call.get("params", [])
        if not isinstance(method, str) or not isinstance(params, list):
            raise FaultError(Code.INCORRECT_PARAMETERS)
        return await self._do(method, params, level)

    async def list_methods(self, params: Sequence[object], level: Level) -> list[str]:
        """Name all methods that this client may call."""
        if params:
            raise FaultError(Code.INCORRECT_PARAMETERS)
        return sorted([*(row.name for row in ROWS if row.level <= level), *_SYSTEM])

    async def method_help(self, params: Sequence[object], _level: Level) -> str:
        """Say what a method does."""
        if len(params) != 1 or not isinstance(params[0], str):
            raise FaultError(Code.INCORRECT_PARAMETERS)
        if params[0] in _SYSTEM:
            return inspect.getdoc(_SYSTEM[params[0]]) or ""
        if params[0] not in BY_NAME:
            raise FaultError(Code.SIGNATURE_UNSUPPORTED)
        return BY_NAME[params[0]].help


def _fault_of(error: ControlError) -> FaultError:
    """Put an error of the core in Supervisor's words."""
    if error.name == "NoSuchService":
        return FaultError(Code.BAD_NAME, str(error.parameters.get("name")))
    if error.name == "InvalidParameter":
        code = Code.BAD_SIGNAL if error.parameters.get("parameter") == "signal" else None
        return FaultError(code or Code.BAD_ARGUMENTS, str(error.parameters.get("parameter")))
    if error.parameters.get("reason") == "shutting_down":
        return FaultError(Code.SHUTDOWN_STATE)
    return FaultError(Code.FAILED, str(error.parameters.get("message") or error.name))


def token_of(authorization: str) -> str | None:
    """Take the token out of a header: a bearer's, or the password of a user of any name."""
    scheme, _, rest = authorization.partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer":
        return rest or None
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(rest, validate=True).partition(b":")
        return password.decode("ascii") if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


# -- the table ------------------------------------------------------------------------------------

_READ, _CONTROL = Level.READ, Level.CONTROL
_WAIT = (bool,)
_LOG = (str, int, int)

ROWS = (
    Row("supervisor.getAPIVersion", _READ, (), 0, Namespace.api_version),
    Row("supervisor.getVersion", _READ, (), 0, Namespace.api_version),
    Row("supervisor.getSupervisorVersion", _READ, (), 0, Namespace.version),
    Row("supervisor.getIdentification", _READ, (), 0, Namespace.identification),
    Row("supervisor.getState", _READ, (), 0, Namespace.state),
    Row("supervisor.getPID", _READ, (), 0, Namespace.pid),
    Row("supervisor.readLog", _READ, (int, int), 2, Namespace.read_log),
    Row("supervisor.readMainLog", _READ, (int, int), 2, Namespace.read_log),
    Row("supervisor.getProcessInfo", _READ, (str,), 1, Namespace.process_info),
    Row("supervisor.getAllProcessInfo", _READ, (), 0, Namespace.all_process_info),
    Row("supervisor.readProcessLog", _READ, _LOG, 3, Namespace.read_stdout),
    Row("supervisor.readProcessStdoutLog", _READ, _LOG, 3, Namespace.read_stdout),
    Row("supervisor.readProcessStderrLog", _READ, _LOG, 3, Namespace.read_stderr),
    Row("supervisor.tailProcessLog", _READ, _LOG, 3, Namespace.tail_stdout),
    Row("supervisor.tailProcessStdoutLog", _READ, _LOG, 3, Namespace.tail_stdout),
    Row("supervisor.tailProcessStderrLog", _READ, _LOG, 3, Namespace.tail_stderr),
    Row("supervisor.startProcess", _CONTROL, (str, *_WAIT), 1, Namespace.start),
    Row("supervisor.startProcessGroup", _CONTROL, (str, *_WAIT), 1, Namespace.start_group),
    Row("supervisor.startAllProcesses", _CONTROL, _WAIT, 0, Namespace.start_all),
    Row("supervisor.stopProcess", _CONTROL, (str, *_WAIT), 1, Namespace.stop),
    Row("supervisor.stopProcessGroup", _CONTROL, (str, *_WAIT), 1, Namespace.stop_group),
    Row("supervisor.stopAllProcesses", _CONTROL, _WAIT, 0, Namespace.stop_all),
    Row("supervisor.signalProcess", _CONTROL, (str, str), 2, Namespace.signal),
    Row("supervisor.signalProcessGroup", _CONTROL, (str, str), 2, Namespace.signal_group),
)
BY_NAME = {row.name: row for row in ROWS}

_SYSTEM: dict[str, Callable[[Rpc, Sequence[object], Level], Awaitable[Any]]] = {
    "system.listMethods": Rpc.list_methods,
    "system.methodHelp": Rpc.method_help,
    "system.multicall": Rpc.multicall,
}
"""What is asked of the table itself."""
