"""docs/gpu.md: its commands have the flags that they use, and its tables are those that the command prints."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks.memory import MEASURES, row
from neuroprompt.runs.arguments import for_any_machine, read_arguments
from tests.rehearsal.documents import commands
from tests.training.planning.test_dry_run import CLASSES

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "gpu.md").read_text("utf-8")


def test_every_config_has_its_line():
    lines = re.findall(r"^\| `(\w+/\w+)`", TEXT, re.MULTILINE)
    assert {
        f"{f.parent.name}/{f.stem}" for kind in ("sft", "ppo", "grpo") for f in ROOT.glob(f"configs/{kind}/*.yaml")
    } == set(lines)


def test_a_line_is_what_the_command_prints():
    assert f"| {' | '.join(row(ROOT / 'configs' / 'sft' / 'embedded.yaml', [], 8))} |" in TEXT


@pytest.mark.parametrize("command", [c for c in commands(TEXT) if "training/" in c])
def test_the_commands_are_read(command, monkeypatch):
    """By the parsers of the entry points, as they stand; what launches processes is `accelerate`'s business."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    script = next(i for i, word in enumerate(words) if word.startswith("training/"))
    with for_any_machine(["--dry_run"]):
        assert read_arguments(CLASSES[Path(words[script]).stem], "", words[script + 1 :])
    if "--config_file" in words[:script]:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()


def test_the_measures_are_named():
    assert all(f"| {name} |" in TEXT for name in MEASURES)
