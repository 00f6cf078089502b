"""What is a request, and which headers an answer has."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.gateway.http import (
    RefusedError,
    Response,
    failure,
    headers_of,
    json_response,
    request_of,
)


def head(target, *headers, method="GET"):
    return h11.Request(method=method, target=target, headers=[("Host", "x"), *headers])


def test_a_request_is_decoded_once():
    request = request_of(head("/v1/services/worker%403?since=1%25&a=1&a=&b"))

    assert request.path == "/v1/services/worker@3"
    assert request.query == {"since": ["1%"], "a": ["1", ""], "b": [""]}


def test_a_header_that_stands_twice_is_one_list():
    request = request_of(head("/", ("X-A", "1"), ("x-a", "2")))

    assert request.headers["x-a"] == "1, 2"


@pytest.mark.parametrize(
    "target",
    [
        *("*", "http://x/", "//x/", "/a%2fb", "/a%2Fb", "/%00", "/%0a", "/%7f", "/%ff", "/a%5cb"),
        *("/a\\b", "/?a=%ff", "/?" + "a=1&" * 33, "/%c3%28", "/%e2%80%ae", "/%ed%a0%80"),
    ],
)
def test_a_target_with_two_readings_is_refused(target):
    with pytest.raises(RefusedError) as refused:
        request_of(head(target))

    assert refused.value.code == 400


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80))
def test_a_path_is_printable_and_has_the_slashes_it_was_sent_with(text):
    try:
        request = request_of(head("/" + text))
    except (RefusedError, h11.LocalProtocolError):
        return

    assert request.path.isprintable()
    sent = ("/" + text).partition("?")[0].partition("#")[0]
    assert request.path.count("/") == sent.count("/")


def test_an_answer_replaces_the_headers_it_has_itself():
    response = Response(200, b"x", headers=(("Cache-Control", "no-cache"), ("ETag", '"1"')))

    found = headers_of(response, last=False)

    assert [value for name, value in found if name == "Cache-Control"] == ["no-cache"]
    assert dict(found)["ETag"] == '"1"'
    assert "Connection" not in dict(found)


def test_what_has_not_changed_has_no_body_and_no_length():
    found = dict(headers_of(Response(304), last=False))

    assert not found.keys() & {"Content-Type", "Content-Length"}


def test_json_is_a_line_of_ascii_with_its_format():
    assert json_response({"a": "é\ud800"}).body == b'{"format":1,"a":"\\u00e9\\ud800"}\n'


def test_a_failure_is_as_pidfdctl_prints_it():
    response = failure(404, "NoSuchService", "no such service", {"name": "x"})

    assert response.code == 404
    assert response.body == (
        b'{"format":1,"error":{"name":"NoSuchService","message":"no such service",'
        b'"parameters":{"name":"x"}}}\n'
    )
