"""The JSON Schema of the file: valid itself, in step with the model and with the examples."""

import json
import re

import fastjsonschema
import pytest
import tomli

from supervisord_pidfd.config import later, model, schema
from tests.support.config import ROOT

EXAMPLES = [ROOT / "config/quickstart.toml", *sorted((ROOT / "config/examples").glob("*.toml"))]


@pytest.fixture(scope="module")
def validate():
    # fastjsonschema knows draft 7; what we use of 2020-12 is the same there but for $defs.
    text = json.dumps({**schema.schema(), "$schema": "http://json-schema.org/draft-07/schema#"})
    return fastjsonschema.compile(json.loads(text))


def test_the_document_is_in_step_with_the_model():
    stored = (ROOT / "docs/supervisord.schema.json").read_text()

    # If this fails: supervisord-pidfd schema > docs/supervisord.schema.json
    assert stored == schema.text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(validate, path):
    validate(tomli.loads(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "foo = 1", "[service.web]", "[service.'a b']\ncommand = 'x'",
        "[service.a]\ncommand = 'x'\ncomand = 1", "[service.a]\ncommand = 3",
        "[service.a]\ncommand = 'x'\nrestart = 'maybe'", "[group.g]", "defaults.command = 'x'",
        "[service.a]\ncommand = 'x'\nbackoff.x = 1", "supervisor.reaper = 'epoll'",
        "[service.a]\ncommand = 'x'\nlimits.foo = 1", "[service.a]\ncommand = 'x'\numask = 22",
        "[service.a]\ncommand = 'x'\nscheduling.nice = 99", "supervisor.socket = 3",
        "[service.a]\ncommand = 'x'\nhealth.a.kind = 1",
        "[service.a]\ncommand = 'x'\nhooks = 1",
        "[service.a]\ncommand = 'x'\nrequires = ['a:soon']",
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(validate, text):
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate(tomli.loads(text))


def test_it_says_which_schema_it_is():
    assert schema.schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_nothing_is_null():
    assert "null" not in re.findall(r'"type": "(\w+)"', schema.text())
    assert '"title"' not in schema.text().replace('"title": "supervisord-pidfd configuration"', "")


def test_every_key_has_a_description():
    properties = schema.schema()["$defs"]["Service"]["properties"]

    assert [
        key for key, value in properties.items() if not ({"description", "$ref"} & set(value))
    ] == []


def test_no_key_is_both_built_and_later():
    built = {("service", "*", key) for key in model.Service.model_fields}
    built |= {
        (section, key)
        for section, name in model.SECTIONS.items()
        for key in model.table(name).model_fields
    }

    assert built & later.KEYS == set()


def test_it_is_printed(capsys):
    assert schema.main([]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema()


def test_it_takes_no_argument(capsys):
    assert schema.main(["x"]) == 2
    assert "unknown argument 'x'" in capsys.readouterr().err
