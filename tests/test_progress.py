"""What a training shows while it runs, as a person at a terminal or a log file gets it."""

import pytest

from neuroprompt import terminal
from tests.ppo.conftest import tokenizer  # noqa: F401
from tests.ppo.test_trainer import PROMPTS, rich, trainer


def test_a_log_file_gets_a_line_for_each_log(tokenizer, tmp_path, capsys):  # noqa: F811
    run = trainer(
        tokenizer, tmp_path, rich, eval_prompts=PROMPTS, eval_strategy="steps", eval_steps=4, disable_tqdm=False
    )
    run.train()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split("  ")[0] for line in lines if "/" in line] == ["step 4/8", "step 4/8", "step 8/8", "step 8/8"]
    assert "reward" in lines[0] and "KL 0" in lines[0] and "{" not in "".join(lines)
    run.evaluate()  # as a run does at its end: the same samples are not shown twice
    assert "step 8" not in capsys.readouterr().err


def test_an_error_leaves_no_bar_behind(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    """A live bar would be drawn again over whatever a terminal shows next."""
    monkeypatch.setattr(terminal.errors, "_force_terminal", True)
    seen = []

    def fail(prompts, completions):
        seen.append(terminal.errors._live_stack[:])
        raise RuntimeError("the reward is broken")

    with pytest.raises(RuntimeError, match="broken"):
        trainer(tokenizer, tmp_path, fail, disable_tqdm=False).train()
    assert len(seen[0]) == 1 and not terminal.errors._live_stack
