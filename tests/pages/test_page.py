"""Templates: all there where the package is installed, and whatever is filled in is text."""

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from neuroprompt.pages.page import data_uri, render, shortened
from neuroprompt.pages.plots import forest_plot, heat_map

TEMPLATES = files("neuroprompt") / "pages" / "templates"


def test_templates_are_in_the_package():
    names = {path.name for path in TEMPLATES.iterdir()}
    assert {"base.html", "grid.html", "grid.js", "evaluation.html", "study.html", "forest.svg"} <= names
    packaged = Path("pyproject.toml").read_text("utf-8").partition("[tool.setuptools.package-data]")[2]
    assert '"pages/templates/*"' in packaged and not any(path.is_dir() for path in TEMPLATES.iterdir())


@given(st.text())
def test_what_is_filled_in_is_text(text):
    texts = {"title": text, "heading": text, "heads": [text], "notes": [text], "record": {text: text}}
    page = render("grid.html", columns=1, rows=[], **texts)
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert not {"<", ">", '"', "\0", "\x1b", "\u2028"} & set(title) and page.count("<script") == 2
    page.encode("utf-8")


def test_a_template_says_what_it_lacks():
    with pytest.raises(UndefinedError, match="'heading' is undefined"):
        render("grid.html", title="", columns=1)


def test_a_long_name_keeps_its_end():
    assert shortened("policy:runs/embedded/ppo-aesthetic", 22) == "policy:run…o-aesthetic"
    assert shortened("policy:runs/ppo-seed-1", 22) == "policy:runs/ppo-seed-1"


def test_a_file_is_in_its_address():
    assert data_uri(b"a<b", "text/plain") == "data:text/plain;base64,YTxi"


def test_too_few_prompts_have_no_interval_and_nothing_is_bold():
    alone = {"mean": 1.5, "low": None, "high": None}
    assert "<path d=" not in forest_plot("t", [("a", alone)]).partition("<g ")[2].partition("</g>")[0]
    for plot in (forest_plot("t", [("a", alone)]), heat_map("t", ["a"], ["b"], {("a", "b"): alone})):
        assert "+1.50" in plot and "95 %" not in plot and plot.count('font-weight="700"') == 0
    sure = {"mean": 1.5, "low": 1.0, "high": 2.0}
    for plot in (forest_plot("t", [("a", sure)]), heat_map("t", ["a"], ["b"], {("a", "b"): sure})):
        assert "95 % from +1 to +2" in plot and plot.count('font-weight="700"') == 1
