"""The page: whole, escaped, and without anything from outside. `test_browser.py` has it drawn by a browser."""

import base64
import gzip
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from PIL import Image

from neuroprompt.evaluation.harness import evaluate
from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.evaluation.report import report_html
from neuroprompt.evaluation.summary import tables
from neuroprompt.image_files import save_image
from neuroprompt.images import ImageGenerator
from neuroprompt.pages.page import how_drawn, printable
from neuroprompt.pages.plots import curve_plot, difference_plot, forest_plot, heat_map
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward
from tests.checkpoints import diffusion

HISTORY = [{"step": i, "epoch": 0.1 * i, "reward": i**0.5, "kl": 0.01 * i, "odd": "text"} for i in range(20)]


def write_report(folder, log_history=HISTORY):
    """The page of an evaluation's folder, as a run's end makes it; and where it is."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    path = folder / "report.html"
    path.write_text(report_html(results, folder, log_history), "utf-8")
    return path


class Page(HTMLParser):
    """Collects tags with their attributes, the text, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(folder):
    text = write_report(folder).read_text("utf-8")
    page = Page(text)
    assert not page.open
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "data", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "http" not in re.sub(r'http-equiv|"data:[^"]*"', "", text) and "@import" not in text
    assert "Ours & <theirs>" in page.text and "<script>alert(1)</script>" in page.text
    assert [tag for tag, _ in page.tags].count("img") == 2 + 2  # from the middle, and examples of one method
    for heading in ("Rewards", "Against plain", "Prompts", "Latency", "Paired differences", "Training", "All numbers"):
        assert heading in page.text
    # differences by reward and its two components, two methods' prompts, two curves
    assert [tag for tag, _ in page.tags].count("svg") == 3 + 2 + 2


def test_all_numbers_can_be_downloaded(folder):
    page = Page(write_report(folder).read_text("utf-8"))
    files = {
        a["download"]: base64.b64decode(a["href"].partition("base64,")[2]) for t, a in page.tags if "download" in a
    }
    for name in ("results.csv", "results.json", "table.md"):
        assert files[name] == (folder / name).read_bytes()
    assert gzip.decompress(files["records.jsonl.gz"]) == (folder / "records.jsonl").read_bytes()
    assert json.loads(files["log_history.json"]) == HISTORY


def test_without_a_run_or_a_comparison(folder):
    results = json.loads((folder / "results.json").read_text())
    assert "Training" not in report_html(results, folder)
    assert "Training" not in report_html(results, folder, [{"step": 1, "reward": 1.0}])  # a point is no curve
    alone = results | {"methods": {"plain": results["methods"]["plain"]}, "latency": {"plain": 0.0}}
    assert "Paired differences" not in report_html(alone, folder)


def test_few_prompts_tell_no_interval(folder):
    results = json.loads((folder / "results.json").read_text())
    assert "with its 95 % interval" in report_html(results, folder)
    for method in results["methods"].values():
        for comparison in (method["against"] or {}).values():
            comparison["difference"] |= {"low": None, "high": None}
    page = report_html(results, folder)
    assert "without an interval, which takes at least 6 prompts" in page and "95 % from" not in page


def test_a_folder_of_the_old_form_is_shown(folder):
    """Settings by diffusers' names, no prompts from the middle, and nothing of where pictures are in the examples."""
    results = json.loads((folder / "results.json").read_text())
    results["settings"]["generator"]["config"] = {"num_inference_steps": 1, "guidance_scale": 3.0}
    del results["examples"]
    cell = {"prompt": "a cat", "original": "a cat", "pictures": [{"seed": 0, "scores": {}, "flagged": False}]}
    record = {"kind": "grid", "title": "", "columns": ["plain"], "rows": [{"title": "best", "cells": [cell]}]}
    save_image(Image.new("RGB", (64, 64), "red"), folder / "examples-1.png", record)
    page = Page(report_html(results, folder))
    assert "embedded, 1 step, guidance 3" in page.text and "Prompts in the middle" not in page.text
    (sheet,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert sheet["alt"] == "Best, median and worst prompts of m1"


@pytest.mark.parametrize("folder", sorted((Path(__file__).parents[2] / "results").glob("*/results.json")), ids=str)
def test_committed_results_are_read(folder):
    """Under whatever names settings had when they were made."""
    results = json.loads(folder.read_text("utf-8"))
    assert how_drawn(**results["settings"]["generator"]) == "embedded, 4 steps, guidance 3"
    shown = "".join(table.markdown() for table in tables(results))
    assert all(name in shown for name in [*results["methods"], *results["settings"]["rewards"]])


numbers = st.floats(-1e9, 1e9)


def alone(mean):
    return {"mean": mean, "low": None, "high": None}


@given(st.lists(numbers, max_size=900), st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_plots_are_well_formed_and_inside_their_box(values, name):
    made = [difference_plot(name, values), forest_plot(name, [(name, None)])]
    for i, value in enumerate(values[:5]):
        made.append(forest_plot(name, [(name, {"mean": value, "low": value - i, "high": value + i}), ("b", None)]))
        made.append(heat_map(name, ["row"], [name, "none"], {("row", name): alone(value), ("row", "none"): None}))
    if len(values) > 1:
        made.append(curve_plot(name, list(enumerate(values))))
    for text in made:
        svg = ElementTree.fromstring(text)
        width, height = map(float, svg.get("viewBox").split()[2:])
        assert "nan" not in text.replace(str(escape(printable(name))), "") and svg.get("aria-label") == printable(name)
        for circle in svg.iter("circle"):
            assert 0 <= float(circle.get("cx")) <= width and 0 <= float(circle.get("cy")) <= height
        for line in svg.iter("polyline"):
            points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_an_interval_is_coloured_by_its_side_of_zero():
    def colour(low, high):
        return re.search(
            r'<g stroke="var\(--(\w+)\)',
            forest_plot("t", [("m", {"mean": (low + high) / 2, "low": low, "high": high})]),
        )[1]

    assert (colour(0.1, 0.2), colour(-0.2, -0.1), colour(-0.1, 0.1)) == ("better", "worse", "line")
    assert "3 prompts better, 2 worse, 1 equal" in difference_plot("t", [1.0, 2.0, 3.0, 0.0, -1.0, -1.0])


def test_guidance_is_said_by_its_name():
    config = {"num_inference_steps": 8, "guidance_scale": 3.0}
    assert how_drawn("embedded", config) == "embedded, 8 steps, guidance 3"
    assert how_drawn("flux", config | {"true_cfg_scale": 1.0}) == "flux, 8 steps, guidance 3, true CFG 1"
    assert how_drawn("qwen", config | {"guidance_scale": None, "true_cfg_scale": 4.0}) == "qwen, 8 steps, true CFG 4"
    assert how_drawn("x", config | {"guidance_scale": None}, fingerprint="0") == "x, 8 steps"


def test_a_generator_without_a_guidance_scale_is_evaluated(tmp_path):
    """As Qwen-Image, from the pictures to the page, example pictures included."""
    generator = ImageGenerator.from_pretrained(diffusion.qwen_image(tmp_path / "qwen"), device="cpu", steps=1, size=32)
    reward = PromptReward(generator, load_rewards("clip", "embedded", "cpu"), images_per_prompt=1)
    evaluate(["a castle", "a red fox"], parse_methods("plain,suffix"), reward, tmp_path / "results")
    text = (tmp_path / "results" / "report.html").read_text("utf-8")
    assert "1 step, true CFG 4 · rewards" in text
