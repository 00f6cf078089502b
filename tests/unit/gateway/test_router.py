"""Which row answers, and that nothing is answered without one."""

import json

import pytest

from supervisord_pidfd.gateway.access import Level, Policy
from supervisord_pidfd.gateway.http import Door, Request, Response
from supervisord_pidfd.gateway.router import EVERYWHERE, Route, Router
from tests.unit.gateway.records import drive

METRICS, WEB = Door("metrics"), Door("web")
LOCAL = {"host": "localhost"}


async def echo(request):
    return Response(200, json.dumps(dict(request.params)).encode())


ROUTES = [
    Route("GET", "/metrics", Level.METRICS, "metrics", echo, EVERYWHERE),
    Route("GET", "/v1/status", Level.READ, "status", echo),
    Route("GET", "/v1/services/{name}", Level.READ, "service", echo),
    Route("POST", "/v1/services/{name}/stop", Level.CONTROL, "stop", echo),
    Route("GET", "/v1/services/{name}/stop", Level.READ, "stop_seen", echo),
]


def ask(path, method="GET", door=WEB, policy=Policy(), headers=LOCAL):  # noqa: B008
    return drive(Router(policy, ROUTES).answer(Request(path, {}, headers, method, door=door)))


@pytest.mark.parametrize(
    ("path", "handler", "params"),
    [
        ("/metrics", "metrics", {}),
        ("/v1/services/worker@3", "service", {"name": "worker@3"}),
        ("/v1/services/web/stop", "stop_seen", {"name": "web"}),
    ],
)
def test_a_row_is_found_by_its_path(path, handler, params):
    response = ask(path)

    assert (response.code, response.handler) == (200, handler)
    assert json.loads(response.body) == params


@pytest.mark.parametrize(
    "path",
    [
        *("/", "", "/metrics/", "/v1", "/v1/status/", "/v1/services", "/v1/services/"),
        *("/v1/services//stop", "/v1/services/web/", "/v1/services/web/stop/x", "/V1/status"),
        *("/v1/services/../status/x", "/metrics;x"),
    ],
)
def test_any_other_path_is_not_found(path):
    response = ask(path)

    assert (response.code, response.handler) == (404, "other")


def test_the_door_for_metrics_serves_no_api():
    assert ask("/metrics", door=METRICS).code == 200
    assert ask("/v1/status", door=METRICS).code == 404
    assert ask("/v1/services/web/stop", "POST", METRICS).code == 404


def test_a_head_is_a_get():
    assert ask("/v1/status", "HEAD").code == 200


def test_a_method_that_is_not_there_is_told_which_are():
    response = ask("/v1/services/web/stop", "PUT")

    assert (response.code, response.handler) == (405, "other")
    assert ("Allow", "GET, HEAD, POST") in response.headers


def test_refusals_are_counted_under_their_row_and_say_what_is_missing():
    response = ask("/v1/status", policy=Policy(guarded=True))

    assert (response.code, response.handler) == (401, "status")
    assert ("WWW-Authenticate", "Bearer") in response.headers
    error = json.loads(response.body)
    assert error["format"] == 1
    assert error["error"]["name"] == "Unauthorized"


def test_elsewhere_a_refusal_is_a_line():
    response = ask("/metrics", policy=Policy(guarded=True))

    assert (response.code, response.body) == (401, b"401 Unauthorized\n")
