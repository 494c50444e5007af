"""The scripts of a checkout: what the user can mend is one line, said before anything is loaded."""

import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from neuroprompt.data import DataConfig
from neuroprompt.runs.arguments import described

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch, capsys, tmp_path):
    """Exit code, standard output and standard error of a script, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(CHECKOUT / name), run_name="__main__")
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scripts/prepare_data.py", "--output", "out"], "there is no source"),
        (["scripts/prepare_data.py", "--output", "out", "--source", "no.txt"], "no such file: no.txt"),
        (["scripts/prepare_data.py", "--output", "out", "--source", "a.png"], "a.png: prompts are read from .parquet"),
        (["scripts/prepare_data.py", "--output", "out", "--source", "broken.jsonl"], "cannot read broken.jsonl"),
        (["scripts/prepare_data.py", "--output", "out", "--source", "a.txt", "--num_proc", 0], "num_proc is 0"),
        (
            ["scripts/prepare_data.py", "--output", "out", "--source", "a.txt", "--near_duplicate", 2],
            "near_duplicate is 2.0",
        ),
        (["scripts/prepare_data.py", "--output", "out", "--source", "a.txt", "--late_cuts", "nan"], "late_cuts is nan"),
        (
            ["scripts/prepare_data.py", "--output", "out", "--source", "a.txt", "--evaluation_files", "no"],
            "evaluation file no",
        ),
        (["scripts/prepare_data.py", "--output", "out", "--source", "a.txt", "--frob"], "there is no argument 'frob'"),
        (["training/embedded/evaluate_policy.py"], "give --data, --prompts, or both"),
        (["training/embedded/evaluate_policy.py", "--prompts", "no.txt"], "cannot read no.txt"),
        (
            ["training/embedded/evaluate_policy.py", "--data", "no"],
            "no prepared data in no: run scripts/prepare_data.py first",
        ),
        (
            ["training/embedded/evaluate_policy.py", "--prompts", "a.txt", "--output", "a.txt"],
            "holds no figures of a policy",
        ),
        (
            ["training/embedded/evaluate_policy.py", "--prompts", "a.txt", "--model", "./no"],
            "there is no folder './no'",
        ),
        (["training/embedded/evaluate_policy.py", "--frob"], "No such option"),
        (["scripts/demo.py", ""], "the prompt is empty"),
        (["scripts/demo.py", "x", "-o", "no/such.png"], "there is no folder no"),
    ],
)
def test_bad_input_is_one_line(script, arguments, message):
    Path("a.txt").write_text("a cat\n")
    Path("a.png").write_text("x")
    Path("broken.jsonl").write_text('{"prompt": \n')
    code, out, err = script(*arguments)
    assert code == 2 and out == "" and message in err.splitlines()[-1], err
    assert "Traceback" not in err and err.splitlines()[-1].startswith("error: ")


def test_every_option_of_the_data_is_explained(script):
    code, out, _ = script("scripts/prepare_data.py", "--help")
    assert code == 0
    told = described(DataConfig)
    assert set(told) == {field.name for field in dataclasses.fields(DataConfig)}
    assert all(re.sub(r"\s+", "", text) in re.sub(r"\s+", "", out) for text in told.values())


def test_a_policys_rewrites_are_measured_and_kept(script):
    Path("a.txt").write_text("a cat\na castle\n")
    code, out, err = script("training/embedded/evaluate_policy.py", "--prompts", "a.txt", "--output", "figures.json")
    assert code == 0 and "keep the text" in out and err == ""
    figures = json.loads(Path("figures.json").read_text())
    assert figures["model"] == "embedded" and figures["rewrites"]["prompts"] == 2
