"""The tables that are in the repository come of the numbers beside them, and fit a terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from neuroprompt.evaluation.summary import tables
from neuroprompt.experiments import write_results
from neuroprompt.pages.tables import print_tables
from neuroprompt.terminal import Terminal

COMMITTED = sorted(Path("results").glob("*/results.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_tables_come_of_their_numbers(path, tmp_path):
    results = json.loads(path.read_text("utf-8"))
    write_results(tmp_path, results, results["title"], tables(results), [])
    assert (tmp_path / "table.md").read_text("utf-8") == path.with_name("table.md").read_text("utf-8")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_they_are_whole_in_80_columns(path):
    made = tables(json.loads(path.read_text("utf-8")))
    file = io.StringIO()
    print_tables(made, Terminal(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80 and "…" not in file.getvalue()
    assert all(any(cell in line for line in lines) for table in made for row in table.rows for cell in row[1:])
