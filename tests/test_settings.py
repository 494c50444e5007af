"""docs/settings.md is what the code says."""

from pathlib import Path

from scripts.document_settings import document

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_document_is_current():
    assert DOCUMENT.read_text("utf-8") == document(), "run python scripts/document_settings.py"


def test_every_setting_is_explained():
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert not [row for row in rows if row.endswith("|  |")]
