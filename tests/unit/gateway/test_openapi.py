"""The OpenAPI document says what the rows and the interface of the control socket say."""

import json

import pytest
from openapi_spec_validator import validate

from supervisord_pidfd.commands import METHODS
from supervisord_pidfd.gateway.api import ROWS
from supervisord_pidfd.gateway.openapi import document, document_text
from supervisord_pidfd.gateway.varlink import interface
from tests.support.interface import INTERFACE


@pytest.fixture(scope="module")
def found():
    return document(ROWS, interface())


def test_it_is_a_valid_document(found):
    validate(found)


def test_what_is_served_is_the_same(found):
    assert json.loads(document_text(ROWS)) == found


def test_every_type_of_the_interface_is_described():
    described = interface()

    assert described.types.keys() == INTERFACE.types.keys()
    assert described.replies.keys() == INTERFACE.replies.keys() == {one.name for one in METHODS}
    assert described.errors.keys() == INTERFACE.errors.keys()


def test_what_may_be_null_is_not_required(found):
    service = found["components"]["schemas"]["Service"]

    assert "phase" in service["required"]
    assert "pid" not in service["required"]
    assert service["properties"]["pid"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert found["components"]["schemas"]["Phase"]["enum"][0] == "stopped"


def test_a_change_needs_a_token_and_its_header(found):
    for operations in found["paths"].values():
        for method, operation in operations.items():
            needed = {one["name"] for one in operation["parameters"] if one.get("required")}
            assert ("X-Supervisord-Request" in needed) == (method == "post")
            assert (operation["security"] == [{"token": []}]) == (
                method == "post" or operation["operationId"] == "get_plan"
            )


def test_every_row_says_what_it_answers(found):
    stop = found["paths"]["/v1/services/{name}/stop"]["post"]

    assert stop["operationId"] == "post_services_service_stop"
    assert set(stop["responses"]) >= {"200", "202", "400", "401", "403", "404", "409", "504"}
    schema = stop["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["format", "change", "outcomes"]
    assert {one["name"] for one in stop["parameters"]} == {
        "name", "X-Supervisord-Request", "only", "wait", "timeout_s"
    }  # fmt: skip
