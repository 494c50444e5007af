"""The plain prompts that a policy learns on, and those that it is evaluated on."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from neuroprompt.completions import check_prompt
from neuroprompt.data import PromptData
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.runs.start import prepare_first
from neuroprompt.training.formats import FormatArguments


@dataclass
class QueryArguments(FormatArguments):
    """What the entry points take beside the trainer's arguments, `RewardArguments` and TRL's `ModelConfig`.

    Args:
        queries: Plain prompts to learn on: a folder of `scripts/prepare_data.py`, or a .txt, .csv or .jsonl file.
        eval_queries: Held-out prompts, likewise; by default the folder's validation split, or prompts set apart from
            the file.
        max_queries: Learn on so many of them; 0 takes all.
        eval_samples: Evaluate on so many of them; 0 does not evaluate.
        min_room: How many CLIP tokens a prompt must leave in the window; longer prompts are left out.
        unparsed_reward: What an answer is worth that is no whole prompt (empty, cut off, still in its thinking), of a
            policy whose text replaces the prompt: below what the prompt as it is earns, which is 0 by relative rewards.
        reward_func: A function, `FILE.py:FUNCTION` or `package.module:FUNCTION`, in the place of the images' reward.
        dry_run: Print what the run would take (models, memory, pictures, steps), and stop before anything is loaded.
    """

    queries: str = ""
    eval_queries: str | None = None
    max_queries: int = 0
    eval_samples: int = 64
    min_room: int = 16
    unparsed_reward: float = -2.0
    reward_func: str | None = None
    dry_run: bool = False


def load_queries(arguments: QueryArguments, window: int | None) -> tuple[Dataset, Dataset | None]:
    """Prompts to learn on, and held-out ones (None where there are none to be).

    Raises:
        ValueError: There is nothing at the path, or no prompt that can be continued.
    """
    if not arguments.queries:
        raise ValueError("queries is not set: give a folder of prepared data, or a file of prompts")
    train, held_out = _read_queries(arguments.queries)
    if arguments.eval_queries:
        _, held_out = _read_queries(arguments.eval_queries)
        held_out = held_out or _read_queries(arguments.eval_queries)[0]
    train, held_out = (_usable(prompts, window, arguments.min_room) for prompts in (train, held_out))
    if not held_out and arguments.eval_samples:
        count = min(arguments.eval_samples, len(train) // 5)
        held_out, train = train[:count], train[count:]
    if not train:
        raise ValueError(f"{arguments.queries} has no prompt that leaves {arguments.min_room} CLIP tokens of {window}")
    if overlap := set(train) & set(held_out):
        train = [prompt for prompt in train if prompt not in overlap]
    train = train[: arguments.max_queries or None]
    held_out = held_out[: arguments.eval_samples]
    return Dataset.from_dict({"prompt": train}), Dataset.from_dict({"prompt": held_out}) if held_out else None


def _read_queries(path: str) -> tuple[list[str], list[str]]:
    """Prompts to learn on, and those of the validation split (none in a file)."""
    if Path(path).is_dir():
        plain = PromptData.load(path).plain
        return list(plain["train"]["prompt"]), list(plain["validation"]["prompt"]) if "validation" in plain else []
    if not Path(path).exists() and not Path(path).suffix:
        raise ValueError(f"there is no folder {path}: {prepare_first(path)}")
    lines = read_lines(path)
    if broken := next((line for line in lines if line.prompt is None), None):
        raise ValueError(f"{path}, line {broken.number}: {broken.error}")
    return [line.prompt for line in lines], []


def _usable(prompts: list[str], window: int | None, min_room: int) -> list[str]:
    """The prompts that can be continued, each once, in an order that belongs to their texts and not to the file's."""
    kept = []
    for prompt in dict.fromkeys(prompts):
        try:
            check_prompt(prompt)
        except ValueError:
            continue
        if window is None or count_clip_tokens(prompt) + min_room <= window:
            kept.append(prompt)
    return kept
