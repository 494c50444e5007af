"""docs/settings.md is what the code says."""

from pathlib import Path

import pytest

from scripts.document_settings import document

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture(scope="module")
def text():
    return document()


def test_the_document_is_current(text):
    assert DOCUMENT.read_text("utf-8") == text, "run python scripts/document_settings.py"


def test_every_setting_is_explained(text):
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert not [row for row in rows if row.endswith("|  |")]
