"""The table of XML-RPC: who may call what, and what comes of it."""

import base64
import contextlib
import hashlib
from xmlrpc import client

import pytest

from supervisord_pidfd.gateway.access import Level, Policy
from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.http import Door, Request
from supervisord_pidfd.gateway.namespace import LOG_MAX_BYTES, Namespace
from supervisord_pidfd.gateway.rpc import BY_NAME, CALLS_MAX, ROWS, Rpc, token_of
from tests.fakes import FakeClock
from tests.unit.gateway.records import drive
from tests.unit.gateway.test_dialect import service

HEADERS = {"content-type": "text/xml", "host": "localhost"}
UNIX, NEAR, FAR = Door("rpc"), Door("rpc"), Door("rpc", near=False)
TOKENS = tuple(
    (role, hashlib.sha256(role.encode()).hexdigest()) for role in ("metrics", "read", "control")
)


class Core:
    """Answer as the core would, with two instances, one service that is down, one that failed."""

    def __init__(self):
        self.calls = []
        self.error = None
        self.outcomes = {}
        self.lines = []
        self.services = [
            service(name="worker@0", group="worker"),
            service(name="worker@1", group="worker", phase="exited", pid=None),
            service(name="web", group="backend", phase="stopped", pid=None),
            service(name="bad", group="bad", phase="failed", pid=None,
                    last_exit={"cause": "spawn_error", "error": "ENOENT", "exit_code": None}),
        ]  # fmt: skip

    async def call(self, method, **parameters):
        self.calls.append((method, parameters))
        if self.error is not None:
            raise self.error
        if method == "Status":
            daemon = {"phase": "running", "pid": 99}
            return {"supervisor": daemon, "services": self._named(parameters.get("names"))}
        names = parameters["names"] if parameters.get("wait") is not False else []
        fine = {"ok": True, "message": ""}
        return {"outcomes": [{"service": n, **self.outcomes.get(n, fine)} for n in names]}

    def _named(self, names):
        if names is None:
            return self.services
        found = []
        for name in names:
            of_group = [one for one in self.services if f"@{one['group']}" == name]
            plain = [one for one in self.services if name in {one["name"], one["name"][:-2]}]
            if not of_group + plain:
                raise ControlError("NoSuchService", {"name": name})
            found += of_group + plain
        return found

    async def stream(self, method, **parameters):
        self.calls.append((method, parameters))
        if self.error is not None:
            raise self.error
        for line in self.lines:
            yield line

    @property
    def changes(self):
        return [call for call in self.calls if call[0] not in {"Status", "Logs", "Events"}]


@pytest.fixture
def core():
    return Core()


def respond(core, body, *, word="control", policy=Policy(), door=UNIX, peer="unix", **headers):  # noqa: B008
    rpc = Rpc(Namespace(core, FakeClock(), contextlib.nullcontext), word, policy)
    given = {**HEADERS, **{name.replace("_", "-"): text for name, text in headers.items()}}
    request = Request("/RPC2", {}, given, "POST", body, door, peer)
    return drive(rpc.answer(request))


def do(core, method, *params, **options):
    """Call a method; return the answer, or the code of the fault."""
    response = respond(core, client.dumps(params, method).encode(), **options)
    assert (response.code, response.content_type) == (200, "text/xml")
    try:
        ((value,), _) = client.loads(response.body)
    except client.Fault as fault:
        return fault.faultCode
    return value


PING = client.dumps((), "supervisor.getAPIVersion").encode()


# -- who may come in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, 200),
        ({"content_type": "text/xml; charset=utf-8"}, 200),
        ({"content_type": "text/plain"}, 400),
        ({"content_type": "application/x-www-form-urlencoded"}, 400),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 200),
        ({"host": "evil.example", "peer": "127.0.0.1"}, 421),
        ({"host": "127.0.0.1:9001", "peer": "127.0.0.1"}, 200),
        ({"peer": "10.0.0.9", "door": FAR}, 401),
    ],
)
def test_no_page_of_a_browser_comes_in(core, options, code):
    assert respond(core, PING, **options).code == code


def basic(password):
    return f"Basic {base64.b64encode(f'any:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "read", "start"),
    [
        ("", 401, 401), ("Bearer nobody", 401, 401), (basic("nobody"), 401, 401),
        ("Bearer metrics", 403, 403), ("Bearer read", 200, 30), (basic("read"), 200, 30),
        ("Bearer control", 200, True), (basic("control"), 200, True), ("Basic x", 401, 401),
    ],
)  # fmt: skip
def test_a_token_opens_what_its_role_says(core, authorization, read, start):
    options = {"policy": Policy(guarded=True, tokens=TOKENS), "authorization": authorization}

    response = respond(core, PING, **options)
    assert response.code == read
    assert (("WWW-Authenticate", 'Basic realm="supervisord-pidfd"') in response.headers) is (
        read == 401
    )
    if read == 200:
        assert do(core, "supervisor.startProcess", "web", **options) == start


@pytest.mark.parametrize("row", [row for row in ROWS if row.level is Level.CONTROL])
def test_nothing_is_changed_where_xml_rpc_may_only_read(core, row):
    params = [{str: "web", int: 0, bool: True}[kind] for kind in row.kinds]
    policy = Policy(guarded=True, tokens=TOKENS)

    for options in ({}, {"policy": policy, "authorization": "Bearer control"}):
        assert do(core, row.name, *params, word="read", **options) == 30
        many = [{"methodName": row.name, "params": params}]
        (found,) = do(core, "system.multicall", many, word="read", **options)
        assert found["faultCode"] == 30
    assert core.changes == []


def test_whoever_may_only_read_sees_only_what_he_may_call(core):
    seen = do(core, "system.listMethods", word="read")

    assert "supervisor.startProcess" not in seen
    assert set(do(core, "system.listMethods")) > set(seen) > {"supervisor.getState"}


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Bearer  a ", "a"), ("bearer a", "a"), ("Bearer", None), ("Digest x", None),
        ("Basic YTpiOmM=", "b:c"), ("Basic YQ==", None), ("Basic !", None),
        ("Basic YTrDpA==", None),
    ],
)  # fmt: skip
def test_where_a_token_stands(text, token):
    assert token_of(text) == token


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("supervisor.none", (), 1), ("supervisor.shutdown", (), 1), ("__class__", (), 1),
        ("supervisor.getPID", (1,), 2), ("supervisor.getProcessInfo", (), 2),
        ("supervisor.getProcessInfo", (3,), 2), ("supervisor.startProcess", ("web", "x"), 2),
        ("supervisor.readProcessLog", ("web", True, 0), 2), ("system.listMethods", (1,), 2),
        ("system.methodHelp", (), 2), ("system.methodHelp", ("none",), 4),
        ("supervisor.getProcessInfo", ("none",), 10), ("supervisor.getProcessInfo", ("*",), 10),
        ("supervisor.getProcessInfo", ("other:web",), 10),
        ("supervisor.getProcessInfo", ("worker",), 10),
        ("supervisor.startProcessGroup", ("x",), 10), ("supervisor.stopProcess", ("bad",), 70),
        ("supervisor.startProcess", ("worker:0",), 60),
        ("supervisor.signalProcess", ("bad", "1"), 70),
        ("supervisor.stopProcessGroup", ("worker:0",), 10),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_fault_of_supervisors(core, method, params, code):
    assert do(core, method, *params) == code
    assert core.changes == []


def test_every_method_says_what_it_does(core):
    for name in do(core, "system.listMethods"):
        assert len(do(core, "system.methodHelp", name)) > 15, name


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ControlError("Refused", {"reason": "shutting_down", "message": "m"}), 6),
        (ControlError("Refused", {"reason": "superseded", "message": "m"}), 30),
        (ControlError("PermissionDenied", {}), 30),
        (ControlError("InvalidParameter", {"parameter": "names"}), 3),
        (ControlError("InvalidParameter", {"parameter": "signal"}), 11),
    ],
)
def test_errors_of_the_core_become_faults(core, error, code):
    core.error = error

    assert do(core, "supervisor.startAllProcesses") == code


@pytest.mark.parametrize(("error", "code"), [(ConnectionError(), 503), (TimeoutError(), 504)])
def test_a_core_that_does_not_answer_is_no_fault_of_the_call(core, error, code):
    core.error = error

    assert respond(core, client.dumps((), "supervisor.getPID").encode()).code == code


def test_bytes_that_are_no_call_are_a_bad_request(core):
    assert respond(core, b"<!DOCTYPE x>").code == 400


# -- many calls -----------------------------------------------------------------------------------


def test_many_calls_are_answered_each_by_itself(core):
    calls = [
        {"methodName": "supervisor.getPID", "params": []},
        {"methodName": "supervisor.getIdentification"},
        {"methodName": "supervisor.none", "params": []},
        {"methodName": "system.multicall", "params": [[]]},
        {"methodName": "supervisor.getPID", "params": 3},
        "x",
    ]
    found = do(core, "system.multicall", calls)

    assert found[:2] == [[99], ["supervisord-pidfd"]]
    assert [one["faultCode"] for one in found[2:]] == [1, 2, 2, 2]


@pytest.mark.parametrize("params", [(), (3,), ([{}] * (CALLS_MAX + 1),)])
def test_there_are_bounds_to_many_calls(core, params):
    assert do(core, "system.multicall", *params) == 2


# -- services -------------------------------------------------------------------------------------


def test_the_daemon_is_described(core):
    assert do(core, "supervisor.getState") == {"statecode": 1, "statename": "RUNNING"}
    assert do(core, "supervisor.getPID") == 99
    assert do(core, "supervisor.getVersion") == do(core, "supervisor.getAPIVersion") == "3.0"


def test_services_are_found_by_any_of_their_names(core):
    for name in ("web", "backend:web"):
        assert do(core, "supervisor.getProcessInfo", name)["name"] == "web"
    for name in ("worker:1", "worker@1"):
        assert do(core, "supervisor.getProcessInfo", name)["name"] == "1"
    everything = do(core, "supervisor.getAllProcessInfo")
    assert [(one["group"], one["name"]) for one in everything] == [
        ("worker", "0"), ("worker", "1"), ("backend", "web"), ("bad", "bad"),
    ]  # fmt: skip


@pytest.mark.parametrize("wait", [True, False, 1, 0])
def test_a_start_and_a_stop_wait_as_they_are_told(core, wait):
    assert do(core, "supervisor.startProcess", "web", wait) is True
    assert do(core, "supervisor.stopProcess", "worker:0", wait) is True

    assert core.changes == [
        ("Start", {"names": ["web"], "wait": bool(wait)}),
        ("Stop", {"names": ["worker@0"], "wait": bool(wait)}),
    ]


@pytest.mark.parametrize(
    ("method", "params", "done"),
    [
        ("startProcessGroup", ("worker",), ("Start", ["worker@1"])),
        ("startProcess", ("worker:*",), ("Start", ["worker@1"])),
        ("startProcessGroup", ("backend",), ("Start", ["web"])),
        ("startAllProcesses", (), ("Start", ["worker@1", "web", "bad"])),
        ("stopProcessGroup", ("worker",), ("Stop", ["worker@0"])),
        ("stopProcess", ("worker:",), ("Stop", ["worker@0"])),
        ("stopAllProcesses", (), ("Stop", ["worker@0"])),
        ("signalProcess", ("worker:0", "HUP"), ("Signal", ["worker@0"])),
        ("signalProcess", ("worker:*", "1"), ("Signal", ["worker@0"])),
        ("signalProcessGroup", ("worker", "HUP"), ("Signal", ["worker@0"])),
    ],
)
def test_of_several_those_are_touched_that_it_concerns(core, method, params, done):
    found = do(core, f"supervisor.{method}", *params)

    ((called, parameters),) = core.changes
    assert (called, parameters["names"]) == done
    if found is not True:
        assert [one["status"] for one in found] == [80] * len(done[1])


def test_a_group_with_nothing_to_do_is_done(core):
    assert do(core, "supervisor.stopProcessGroup", "backend") == []
    assert do(core, "supervisor.signalProcessGroup", "backend", "HUP") == []
    assert core.changes == []


def test_what_failed_of_a_group_is_told_beside_the_rest(core):
    core.outcomes = {name: {"ok": False, "message": "why"} for name in ("bad", "web")}
    found = do(core, "supervisor.startAllProcesses")

    assert [(one["name"], one["status"]) for one in found] == [("1", 80), ("web", 40), ("bad", 20)]
    assert found[1]["description"] == "ABNORMAL_TERMINATION: backend:web: why"
    assert do(core, "supervisor.startProcess", "bad") == 20


def test_a_stop_that_failed_is_a_fault(core):
    core.outcomes = {"worker@0": {"ok": False, "message": "unkillable"}}

    assert do(core, "supervisor.stopProcess", "worker:0") == 30


# -- logs -----------------------------------------------------------------------------------------


def line(text, *, partial=False):
    return {"line": {"msg": text, "partial": partial}}


def test_what_a_service_said_lately_is_its_log(core):
    core.lines = [line("one"), line("tw", partial=True), line("o"), {"line": None}]

    assert do(core, "supervisor.readProcessStdoutLog", "web", 0, 0) == "one\ntwo\n"
    assert do(core, "supervisor.readProcessStderrLog", "web", -4, 0) == "two\n"
    assert do(core, "supervisor.tailProcessStdoutLog", "web", 0, 4) == ["two\n", 8, True]
    assert do(core, "supervisor.tailProcessStderrLog", "web", 0, 99) == ["one\ntwo\n", 8, False]
    asked = [parameters["stream"] for method, parameters in core.calls if method == "Logs"]
    assert asked == ["stdout", "stderr", "stdout", "stderr"]


def test_of_a_long_log_the_end_is_looked_at(core):
    core.lines = [line("x" * 65535)] * 20

    assert len(do(core, "supervisor.readProcessLog", "web", 0, 0)) == LOG_MAX_BYTES


def test_a_service_whose_output_nobody_reads_has_no_log(core):
    class Refusing(Core):
        async def stream(self, _method, **_parameters):
            raise ControlError("Refused", {"reason": "not_captured", "message": "m"})
            yield

    assert do(Refusing(), "supervisor.readProcessLog", "web", 0, 0) == 20


def test_the_log_of_the_daemon_is_what_happened(core):
    event = {"ts": "T", "level": "info", "event": "a.b", "seq": 1, "service": "web"}
    core.lines = [{"event": event}, {"event": None}]

    assert do(core, "supervisor.readLog", 0, 0) == "T info a.b service=web\n"
    assert do(core, "supervisor.readMainLog", -4, 0) == "web\n"


def test_no_two_methods_have_one_name():
    assert len(BY_NAME) == len(ROWS)
