"""The card of a supervised policy: every figure is the run's, the data's or the evaluation's."""

import json
import shutil
from pathlib import Path

import pytest

from neuroprompt.models import locate
from training.embedded.export_policy import card, weights

PERPLEXITY = {"loss": 2.5, "per_token": 12.18, "per_byte": 1.75, "tokens": 26799, "bytes": 120374}
COUNTS = {"read": 1600616, "pairs": 211005}
MODIFIERS = {"kept": 1419648, "name": 408213, "too many": 824}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Where `card` reads: logs of two trainings, their prepared data, figures, prompts and the policy."""
    wide = [{"step": step, "epoch": step / 800, "loss": 5 - step / 800} for step in (200, 400, 600, 800)]
    wide += [{"step": 800, "epoch": 1.0, "eval_loss": 4.567}, {"step": 800, "epoch": 1.0, "train_loss": 9.9}]
    pairs = [
        {"step": 875, "epoch": 0.27, "eval_loss": 3.456},
        *({"step": step, "epoch": step / 3236, "loss": 2.1} for step in (3500, 7000)),
    ]
    for name, history, counts in (("wide", wide, {"pairs": 409878}), ("pairs", pairs, COUNTS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log_history.json").write_text(json.dumps(history))
        config = {"counts": counts, "modifiers": MODIFIERS, "artists": "historical"}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        settings = f"# What {name} are for.\ndata_dir: {name}\n" + "completion_only_loss: false\n" * (name == "wide")
        (tmp_path / f"{name}.yaml").write_text(settings)
    rewrites = {"prompts": 2, "keep_the_text": 1.0, "mean_modifiers": 6.5, "categories": {}, "most_frequent": {}}
    rewrites["faults"] = {"living_artists": 0.25}
    behind = {"all": PERPLEXITY, "new": PERPLEXITY | {"loss": 2.4}}
    perplexity = {"policy": {"all": PERPLEXITY, "new": PERPLEXITY}, "4-gram, Kneser-Ney": behind}
    (tmp_path / "figures.json").write_text(json.dumps({"perplexity": perplexity, "rewrites": rewrites}))
    (tmp_path / "prompts.txt").write_text("boy on a horse\na castle\n")
    shutil.copytree(locate("embedded", "policy"), tmp_path / "policy")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*stages):
    card(list(stages), Path("policy"), Path("figures.json"), "prompts.txt")
    return Path("policy/README.md").read_text()


def test_a_card_says_where_it_all_comes_from(made):
    text = write("wide.yaml=wide", "pairs.yaml=pairs")
    first, second = text.index("### 1. `wide.yaml`\n\nWhat wide"), text.index("### 2. `pairs.yaml`\n\nWhat pairs")
    first, second = text[first:second], text[second:]
    assert "800 steps, 1.0 passes over the training split of its 409,878 pairs, with the loss on prompts and c" in first
    assert "| 200 | 4.750 |  |\n| 400 | 4.500 |  |\n| 600 | 4.250 |  |\n| 800 | 4.000 | 4.567 |\n\n" in first
    assert (
        "7,000 steps, 2.2 passes over the training split of its 211,005 pairs, with the loss on completions" in second
    )
    assert "| 875 |  | 3.456 |\n| 3,500 | 2.100 |  |" in second
    assert "| pairs | 211,005 |" in text and "| too many | comes after twelve others | 824 |" in text
    assert "dead before 1954" in text and "| living artists | 25.00% |" in text
    assert "new is predicted better by a 4-gram model of the whole train split" in text
    assert "- boy on a horse**" in text and "- a castle**" in text


def test_data_that_nobody_mended_have_no_such_table(made):
    (made / "pairs" / "config.json").write_text(json.dumps({"counts": COUNTS, "modifiers": {}}))
    text = write("pairs.yaml=pairs")
    assert "| pairs | 211,005 |" in text and "modifiers |\n" not in text and "1954" not in text


def test_a_stage_that_is_not_there_is_one_line(made):
    with pytest.raises(ValueError, match="give CONFIG=RUN"):
        write("pairs.yaml")
    with pytest.raises(ValueError, match=r"--stage pairs.yaml=runs: there is no runs/log_history\.json"):
        write("pairs.yaml=runs")


def test_a_policy_is_exported_with_how_it_is_decoded(made, tmp_path):
    weights(str(made / "policy"), tmp_path / "out", diversity=0.5, temperature=0.8, usual=True)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    wanted = {"do_sample": True, "temperature": 0.8, "diversity": 0.5, "usual": True}
    assert {name: settings[name] for name in wanted} == wanted
    size = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert size < 30e6
