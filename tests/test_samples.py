"""What is shown of a training's rewrites."""

import json

from neuroprompt.runs.samples import SAMPLES, show_samples


def test_prompts_are_no_markup(tmp_path, capsys):
    prompt = "[red] dress, trending on [/r/art] \x1b[2J"
    show_samples(tmp_path / "run", 3, ("plain", "rewritten"), [(prompt, f"{prompt}, 8k")], {prompt: f"{prompt}, 8k"})
    shown = " ".join(capsys.readouterr().err.split())
    assert "[red] dress" in shown and "[/r/art]" in shown and "\x1b[2J" not in shown
    assert json.loads((tmp_path / "run" / SAMPLES).read_text()) == {"step": 3, "samples": {prompt: f"{prompt}, 8k"}}
