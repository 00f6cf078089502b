"""The reference of the metrics is the one in the table."""

from pathlib import Path

from supervisord_pidfd.gateway.reference import reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_document_is_in_step_with_the_table():
    expected = DOCUMENT.read_text(encoding="utf-8")

    assert expected == reference(), "run: python -m supervisord_pidfd.gateway.reference"
