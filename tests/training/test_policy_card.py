"""The card of a supervised policy: every figure is the run's, the data's or the evaluation's."""

import json
import shutil

import pytest

from neuroprompt.models import locate
from training.embedded.export_policy import card, weights

PERPLEXITY = {"loss": 2.5, "per_token": 12.18, "per_byte": 1.75, "tokens": 26799, "bytes": 120374}
COUNTS = {"read": 1600616, "pairs": 211005}
MODIFIERS = {"kept": 1419648, "name": 408213, "too many": 824}


@pytest.fixture
def made(tmp_path):
    """Where `card` reads: a run's log, prepared data, figures, prompts and the policy."""
    history = [
        {"step": 1000, "epoch": 0.31, "eval_loss": 3.456},
        {"step": 7000, "epoch": 2.163, "loss": 2.1, "num_input_tokens_seen": 21_400_000},
    ]
    rewrites = {"prompts": 2, "keep_the_text": 1.0, "mean_modifiers": 6.5, "categories": {}, "most_frequent": {}}
    rewrites["faults"] = {"living_artists": 0.25}
    behind = {"all": PERPLEXITY, "new": PERPLEXITY | {"loss": 2.4}}
    perplexity = {"policy": {"all": PERPLEXITY, "new": PERPLEXITY}, "4-gram, Kneser-Ney": behind}
    config = {"counts": COUNTS, "modifiers": MODIFIERS, "artists": "historical"}
    for name, content in (("log_history", history), ("config", config), ("figures", {"perplexity": perplexity})):
        content = content | {"rewrites": rewrites} if name == "figures" else content
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "prompts.txt").write_text("boy on a horse\na castle\n")
    shutil.copytree(locate("embedded", "policy"), tmp_path / "policy")
    return tmp_path


def write(folder):
    card(folder, folder / "policy", folder, folder / "figures.json", str(folder / "prompts.txt"))
    return (folder / "policy" / "README.md").read_text()


def test_a_card_says_where_it_all_comes_from(made):
    text = write(made)
    assert "`configs/sft/embedded.yaml`: 7,000 steps, 2.2 passes over its pairs" in text and "| 1,000 | 3.456 |" in text
    assert "| pairs | 211,005 |" in text and "| too many | comes after twelve others | 824 |" in text
    assert "dead before 1954" in text and "| living artists | 25.00% |" in text
    assert "a 4-gram model of the whole train split predicts held-out text better" in text
    assert "- boy on a horse**" in text and "- a castle**" in text


def test_data_that_nobody_mended_have_no_such_table(made):
    (made / "config.json").write_text(json.dumps({"counts": COUNTS, "modifiers": {}}))
    text = write(made)
    assert "| pairs | 211,005 |" in text and "modifiers |\n" not in text and "1954" not in text


def test_a_policy_is_exported_with_how_it_is_decoded(made, tmp_path):
    weights(str(made / "policy"), tmp_path / "out", diversity=0.5, temperature=0.8, usual=True)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    wanted = {"do_sample": True, "temperature": 0.8, "diversity": 0.5, "usual": True}
    assert {name: settings[name] for name in wanted} == wanted
    size = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert size < 30e6
