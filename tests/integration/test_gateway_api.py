"""What each path of the API asks of the core, what it takes, and how its answer is told.

The core is a fake; an event loop needs a descriptor of its own, so this is no unit test.
"""

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.commands import METHODS
from supervisord_pidfd.gateway.access import Level, Policy
from supervisord_pidfd.gateway.api import ROWS, STATUS, Api
from supervisord_pidfd.gateway.core import ControlError
from supervisord_pidfd.gateway.http import Door, Request
from supervisord_pidfd.gateway.router import Router
from tests.support.interface import INTERFACE

JSON = {"content-type": "application/json"}
PROTECTED = Policy(guarded=True, tokens=(), control=True)


class FakeCore:
    """Answer as told; remember what was asked."""

    def __init__(self):
        self.answer = {"x": 0}
        self.replies = []
        self.error = None
        self.asked = []
        self.closed = 0
        self.follows = False

    async def call(self, method, **parameters):
        self.asked.append((method, parameters))
        if self.error:
            raise self.error
        return self.answer

    async def call_text(self, method, **parameters):
        return json.dumps(await self.call(method, **parameters)).encode()

    async def stream(self, method, **parameters):
        self.asked.append((method, parameters))
        try:
            if self.error:
                raise self.error
            for reply in self.replies:
                if isinstance(reply, Exception):
                    raise reply
                yield reply
            if self.follows:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


@pytest.fixture
def core():
    return FakeCore()


async def all_of(response, most=99):
    pieces = []
    with contextlib.suppress(StopAsyncIteration):
        while len(pieces) < most:
            pieces.append(await response.stream.__anext__())
    await response.stream.aclose()
    return pieces


def ask(core, path, method="GET", query=None, body=b"", *, most=99, **headers):
    """Ask as somebody who may do everything; return the answer, of a stream the pieces too."""

    async def run():
        routes = {route.path: [] for route in Api(core).routes()}
        for route in Api(core).routes():
            routes[route.path].append(route._replace(level=Level.OPEN))
        router = Router(PROTECTED, [one for many in routes.values() for one in many])
        given = {"host": "localhost"} | {k.replace("_", "-"): v for k, v in headers.items()}
        query_ = {k: v if isinstance(v, list) else [v] for k, v in (query or {}).items()}
        response = await router.answer(Request(path, query_, given, method, body, Door("web")))
        return (response, await all_of(response, most)) if response.stream else (response, None)

    with asyncio.Runner() as runner:
        return runner.run(run())


def answered(core, *args, **kwargs):
    response, _ = ask(core, *args, **kwargs)
    return response.code, json.loads(response.body)


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "call"),
    [
        ("/v1/status", {}, ("Status", {})),
        (
            "/v1/status",
            {"service": ["web", "@b"], "all": "1"},
            ("Status", {"names": ["web", "@b"], "all": True}),
        ),
        ("/v1/services/worker@3", {}, ("Status", {"names": ["worker@3"]})),
        ("/v1/services/web/explain", {}, ("Explain", {"name": "web"})),
        ("/v1/services/web/history", {"last": "5"}, ("History", {"name": "web", "last": 5})),
        (
            "/v1/services/web/deps",
            {"reverse": ""},
            ("Dependencies", {"name": "web", "reverse": True}),
        ),
        ("/v1/services/web/config", {"origin": "true"}, ("Show", {"name": "web", "origin": True})),
        ("/v1/deps", {}, ("Dependencies", {})),
        ("/v1/plan", {}, ("Plan", {})),
    ],
)
def test_a_get_is_a_call_and_its_reply(core, path, query, call):
    core.answer = {"x": 1}

    assert answered(core, path, query=query) == (200, {"format": 1, "x": 1})
    assert core.asked == [call]


@pytest.mark.parametrize(
    ("verb", "query", "call"),
    [
        (
            "start",
            {"only": "1", "settle_s": "0.5"},
            ("Start", {"only": True, "settle_s": 0.5, "timeout_s": 60.0}),
        ),
        ("stop", {"timeout_s": "7"}, ("Stop", {"timeout_s": 7.0})),
        ("restart", {"rolling": "1"}, ("Restart", {"rolling": True, "timeout_s": 60.0})),
        ("reload", {"timeout_s": "999999"}, ("Reload", {"timeout_s": 3600.0})),
        ("signal", {"signal": "HUP", "group": "1"}, ("Signal", {"signal": "HUP", "group": True})),
        ("reset", {}, ("Reset", {})),
        ("freeze", {}, ("Freeze", {})),
        ("thaw", {}, ("Thaw", {})),
    ],
)
def test_a_change_is_a_post(core, verb, query, call):
    core.answer = {"change": 17, "outcomes": []}
    path = f"/v1/services/web/{verb}"

    code, said = answered(core, path, "POST", query)

    assert (code, said["change"]) == (200, 17)
    method, parameters = call
    assert core.asked == [(method, {"names": ["web"], **parameters})]
    assert answered(core, path)[0] == 405


def test_what_is_not_awaited_is_accepted(core):
    core.answer = {"change": 17, "outcomes": []}

    code, said = answered(core, "/v1/services/web/stop", "POST", {"wait": "0"})

    assert (code, said["change"]) == (202, 17)
    assert core.asked == [("Stop", {"names": ["web"], "wait": False})]


def test_an_apply_may_expect_a_plan(core):
    query = {"expect": "sha256:1", "only": ["a", "b"], "no_restart": "1", "wait": "0"}

    assert answered(core, "/v1/apply", "POST", query)[0] == 202
    assert core.asked == [
        ("Apply", {"expect": "sha256:1", "only": ["a", "b"], "no_restart": True, "wait": False})
    ]


def test_a_body_says_the_same_as_a_query(core):
    body = b'{"signal": "HUP", "group": true}'

    assert answered(core, "/v1/services/web/signal", "POST", body=body, **JSON)[0] == 200
    assert core.asked == [("Signal", {"names": ["web"], "signal": "HUP", "group": True})]


def test_the_daemons_own_processes_are_seen_and_not_changed(core):
    assert answered(core, "/v1/services/:gateway")[0] == 200
    assert answered(core, "/v1/services/:gateway/stop", "POST")[0] == 400
    assert core.asked == [("Status", {"names": [":gateway"]})]


def test_every_level_and_door_is_as_the_contract_says():
    levels = {(route.method, route.path): route.level for route in Api(FakeCore()).routes()}

    assert {path for (_, path), level in levels.items() if level is Level.METRICS} == {"/v1/sd"}
    control = {key for key, level in levels.items() if level is Level.CONTROL}
    assert control == {key for key in levels if key[0] == "POST"} | {("GET", "/v1/plan")}
    assert Level.OPEN not in levels.values()
    on_metrics = [route.path for route in Api(FakeCore()).routes() if "metrics" in route.doors]
    assert on_metrics == ["/v1/sd"]


def test_no_row_reads_a_file_that_a_client_names_or_ends_the_daemon():
    assert all("file" not in row.takes for row in ROWS)
    assert not {row.calls for row in ROWS} & {"Shutdown", "Reexec", "ReopenLogs", "Counters"}
    full = {method.name for method in METHODS if method.role.name == "FULL"}
    assert all(row.level is Level.CONTROL for row in ROWS if row.calls in full)


# -- what is not accepted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/v1/status", {"servcie": "web"}, "servcie"),
        ("/v1/status", {"names": "web"}, "names"),
        ("/v1/status", {"all": ["1", "1"]}, "all"),
        ("/v1/status", {"all": "yes"}, "all"),
        ("/v1/status", {"service": ["web", ""]}, "service"),
        ("/v1/status", {"service": "x" * 513}, "service"),
        ("/v1/status", {"service": "a\x00b"}, "service"),
        ("/v1/services/web/history", {"last": "-1"}, "last"),
        ("/v1/services/web/history", {"last": "1e3"}, "last"),
        ("/v1/services/web/history", {"last": "9" * 16}, "last"),
        ("/v1/services/web/history", {"last": "\u0661"}, "last"),
        ("/v1/services/" + "x" * 513, {}, "name"),
        ("/v1/plan", {"file": "/etc/shadow"}, "file"),
        ("/v1/logs", {"stream": "hook"}, "stream"),
        ("/v1/sd", {"host": ["a", "b"]}, "host"),
        ("/v1/sd", {"host": "a b"}, "host"),
        ("/v1/sd", {"host": "a:80"}, "host"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_none_is_named(core, path, query, parameter):
    code, said = answered(core, path, query=query)

    assert (code, said["error"]["name"]) == (400, "InvalidParameter")
    assert said["error"]["parameters"] == {"parameter": parameter}
    assert core.asked == []


@pytest.mark.parametrize(
    ("body", "headers", "parameter"),
    [
        (b'{"signal":"HUP"}', {}, "Content-Type"),
        (b'{"signal":"HUP"}', {"content-type": "text/plain"}, "Content-Type"),
        (b'{"signal":"HUP"', JSON, "body"),
        (b'["HUP"]', JSON, "body"),
        (b'{"signal":"HUP","signal":"TERM"}', JSON, "body"),
        (b'{"signal":NaN}', JSON, "body"),
        (b"[" * 30000, JSON, "body"),
        (b'{"signal":"\xff"}', JSON, "body"),
        (b'{"signal":"HUP","names":["db"]}', JSON, "names"),
        (b'{"signal":"HUP","group":1}', JSON, "group"),
        (b'{"signal":null}', JSON, "signal"),
        (b'{"signal":["HUP"]}', JSON, "signal"),
        (b'{"signal":"\\ud800"}', JSON, "signal"),
        (b"{}", JSON, "signal"),
    ],
)
def test_a_body_that_is_none_is_refused(core, body, headers, parameter):
    code, said = answered(core, "/v1/services/web/signal", "POST", body=body, **headers)

    assert (code, said["error"]["parameters"]) == (400, {"parameter": parameter})
    assert core.asked == []


def test_nothing_is_said_twice(core):
    body = b'{"signal":"HUP"}'
    query = {"signal": "TERM"}

    assert answered(core, "/v1/services/w/signal", "POST", query, body, **JSON)[0] == 400


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(ROWS),
    st.dictionaries(
        st.sampled_from(["service", "last", "follow", "wait", "timeout_s", "signal", "host", "x"]),
        st.lists(
            st.text(max_size=20) | st.sampled_from(["1", "0", "-5", "1.5"]), min_size=1, max_size=2
        ),
    ),
    st.binary(max_size=30) | st.sampled_from([b"", b"{}", b'{"wait":false}']),
)
def test_whatever_comes_is_answered_and_only_what_is_declared_is_passed_on(row, query, body):
    core = FakeCore()
    core.answer = {"groups": []}
    response, _ = ask(core, row.path.replace("{name}", "web"), row.method, query, body, **JSON)

    assert response.code in {200, 202, 400}
    for method, parameters in core.asked:
        declared = {param.name for one in METHODS if one.name == method for param in one.params}
        assert parameters.keys() <= declared


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (
            ControlError("NoSuchService", {"name": "wbe", "suggestion": "web"}),
            404,
            "NoSuchService",
        ),
        (ControlError("InvalidParameter", {"parameter": "signal"}), 400, "InvalidParameter"),
        (ControlError("PermissionDenied", {}), 403, "PermissionDenied"),
        (ControlError("Refused", {"reason": "plan_changed", "message": "m"}), 409, "Refused"),
        (ControlError("ConfigInvalid", {"problems": []}), 422, "ConfigInvalid"),
        (ControlError("WaitTimedOut", {"change": 3, "outcomes": []}), 504, "WaitTimedOut"),
        (ControlError("MethodNotImplemented", {"method": "x"}), 501, "MethodNotImplemented"),
        (ControlError("SomethingNew", {}), 503, "SomethingNew"),
        (ConnectionError("/run/secret/gateway.sock"), 503, "Unreachable"),
        (TimeoutError(), 503, "NoAnswer"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/status", "/v1/events"])
def test_what_goes_wrong_has_a_status_and_a_name(core, path, error, code, name):
    core.error = error

    found, said = answered(core, path)

    assert (found, said["format"], said["error"]["name"]) == (code, 1, name)
    assert said["error"]["message"]
    assert "secret" not in json.dumps(said)
    if isinstance(error, ControlError):
        assert said["error"]["parameters"] == error.parameters


def test_every_error_of_the_core_has_a_status():
    assert set(INTERFACE.errors) - {"TooOld"} <= set(STATUS)


# -- targets --------------------------------------------------------------------------------------

GROUP = {"targets": [":9100"], "labels": {"service": "web", "__metrics_path__": "/metrics"}}


@pytest.mark.parametrize(
    ("query", "host", "target"),
    [
        ({}, "sup.example:9877", "sup.example:9100"),
        ({}, "10.0.0.7", "10.0.0.7:9100"),
        ({}, "[::1]:9877", "[::1]:9100"),
        ({"host": "other"}, "sup.example", "other:9100"),
        ({"host": "fe80::1"}, "sup.example", "[fe80::1]:9100"),
        ({"host": "[fe80::1]"}, "sup.example", "[fe80::1]:9100"),
    ],
)
def test_targets_are_where_we_are_reached(core, query, host, target):
    core.answer = {"groups": [json.loads(json.dumps(GROUP))]}

    code, said = answered(core, "/v1/sd", query=query, host=host)

    assert (code, said) == (200, [{**GROUP, "targets": [target]}])


def test_no_targets_are_an_empty_list(core):
    core.answer = {"groups": []}

    assert answered(core, "/v1/sd") == (200, [])


# -- streams --------------------------------------------------------------------------------------


def event(seq, **members):
    return {"event": {"seq": seq, "event": "service.ready", **members}}


def line(seq, service="web", stream="stdout", run=1):
    return {"line": {"service": service, "stream": stream, "run": run, "seq": seq, "msg": "x"}}


def test_events_are_told_with_their_numbers_and_the_end_is_told(core):
    core.replies = [event(7), event(8), {"event": None}]

    response, pieces = ask(core, "/v1/events", query={"follow": "0", "service": "web"})

    assert response.content_type == "text/event-stream"
    assert pieces == [
        b"retry: 2000\n\n",
        b'id: 7\ndata: {"seq":7,"event":"service.ready"}\n\n',
        b'id: 8\ndata: {"seq":8,"event":"service.ready"}\n\n',
        b"event: end\ndata: {}\n\n",
    ]
    assert core.asked == [("Events", {"names": ["web"], "follow": False, "last": 50})]
    assert core.closed == 1


def test_json_lines_are_bare_objects(core):
    core.replies = [event(7), {"event": {"event": "gap", "lost": 3}}, {"event": None}]

    response, pieces = ask(core, "/v1/events", accept="application/x-ndjson, */*")

    assert response.content_type == "application/x-ndjson"
    assert pieces == [b'{"seq":7,"event":"service.ready"}\n', b'{"event":"gap","lost":3}\n']
    assert core.asked == [("Events", {"follow": False, "last": 50})]


def test_a_stream_that_follows_begins_at_once_and_beats(core):
    core.follows = True

    response, pieces = ask(core, "/v1/events", query={"last": "0"}, most=1)

    assert pieces == [b"retry: 2000\n\n"]
    assert response.heartbeat == b": \n\n"
    assert core.asked == [("Events", {"follow": True, "last": 0})]
    assert core.closed == 1


def test_a_client_that_comes_back_goes_on(core):
    core.replies = [{"event": None}]

    ask(core, "/v1/events", last_event_id="41")

    assert core.asked == [("Events", {"follow": True, "since": "41"})]


@pytest.mark.parametrize("ident", ["", "x", "-1", "1 2", "9" * 19, "\u0661"])
def test_an_id_that_is_none_is_ignored(core, ident):
    core.replies = [{"event": None}]

    ask(core, "/v1/events", last_event_id=ident)

    assert core.asked == [("Events", {"follow": True, "last": 50})]


def test_lines_go_on_in_each_stream_where_they_were_cut_off(core):
    core.replies = [
        line(1),
        line(1, stream="stderr"),
        line(2),
        line(2, service="db"),
        line(1, run=2),
        {"line": None},
    ]
    _, whole = ask(core, "/v1/logs", query={"service": "web"})
    ident = next(part for part in whole[3].decode().split("\n") if part.startswith("id: "))[4:]

    _, rest = ask(core, "/v1/logs", query={"service": "web"}, last_event_id=ident)

    assert ident == "web/stdout=1.2,web/stderr=1.1"
    assert rest[1:] == whole[4:]
    assert core.asked[-1] == ("Logs", {"names": ["web"], "follow": True, "last": 1000})


def test_lines_of_very_many_services_have_no_id(core):
    core.replies = [line(1, service=f"s{number}") for number in range(40)]

    _, pieces = ask(core, "/v1/logs")

    assert b"id: s0/stdout=1.1\n" in pieces[1]
    assert pieces[-2].startswith(b"id: \n")
    assert max(map(len, pieces)) < 700


def test_a_stream_that_breaks_says_so(core):
    core.replies = [event(7), ConnectionError("gone")]

    _, pieces = ask(core, "/v1/events")
    _, lines = ask(core, "/v1/events", accept="application/x-ndjson")

    assert pieces[-1].startswith(b'event: error\ndata: {"format":1,"error":{"name":"Unreachable"')
    assert lines[-1].startswith(b'{"format":1,"error":{"name":"Unreachable"')


# -- the document ---------------------------------------------------------------------------------


def test_the_document_describes_every_row(core):
    code, document = answered(core, "/v1/openapi.json")

    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert code == 200
    assert described == {(row.method, row.path) for row in ROWS}
    idents = [one["operationId"] for many in document["paths"].values() for one in many.values()]
    assert len(set(idents)) == len(idents)
