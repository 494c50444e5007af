import numpy as np
import pytest
from PIL import Image

from neuroprompt.evaluation.summary import csv_rows, summarise, tables
from neuroprompt.experiments import write_results
from neuroprompt.pages.grid import Cell, Grid, Picture, save_grid
from tests.evaluation.test_harness import write_folder


@pytest.fixture
def folder(tmp_path):
    """An evaluation's folder, made of random numbers, with markup in its texts."""
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=(3, 40, 2)) + np.arange(3)[:, None, None] for name in ("pickscore", "clip")}
    rewards = {
        name: {"weight": 1.0, "cap": None, "scale": 1.0, "relative": name == "clip"} for name in ("pickscore", "clip")
    }
    write_folder(tmp_path, scores, rng.random((3, 40, 2)) < 0.02, rewards)
    results = summarise(tmp_path) | {"title": "Ours & <theirs>", "config": {}}
    prompt = "a <b>cat</b>"
    picture = Picture(Image.new("RGB", (64, 64), (200, 30, 90)), 0, {"clip": 0.2})
    cells = [Cell(prompt, [picture], prompt), Cell(f"{prompt}, <script>alert(1)</script>", [picture], prompt)]
    save_grid(Grid([cells], ["plain", "m1"], ["best (+1.0): a <b>cat</b>"]), tmp_path / "examples-1.png")
    results["methods"]["m1"]["examples"] = "examples-1.png"
    save_grid(Grid([cells], ["plain", "m1"], [prompt]), tmp_path / "examples.png")
    results["examples"] = "examples.png"
    write_results(tmp_path, results, results["title"], tables(results), csv_rows(results, tmp_path))
    return tmp_path
