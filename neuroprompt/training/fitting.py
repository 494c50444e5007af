"""Of prepared pairs what people usually write behind such prompts, and of these the pairs that say most.

Users put "8k" behind everything, and many a favourite of theirs behind any prompt. A policy that has learnt to write
from all of it is trained once more, and shorter, on what fits (`fit.log_lift`): then it writes about the prompt.
"""

from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from neuroprompt.fit import is_manner, kinds_of, log_lift
from neuroprompt.prompts import Prompt


@dataclass
class FittingConfig:
    """Which modifiers stay, and which pairs.

    Args:
        least: Nats by which a modifier must be likelier behind its prompt than behind others; less than nothing lets
            through what is a little unusual.
        least_manner: The same for media, styles and artists.
        min_modifiers: Pairs with fewer that stay are dropped, as are those with none that says something.
        train_pairs: So many pairs of the split `train` stay at most: those whose modifiers say most.
    """

    least: float = 0.1
    least_manner: float = 0.35
    min_modifiers: int = 3
    train_pairs: int = 90_000

    def __post_init__(self):
        for name in ("min_modifiers", "train_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 1 or more")


def keep_fitting(pairs: DatasetDict, config: FittingConfig, num_proc: int | None = None) -> DatasetDict:
    """The pairs with the modifiers that fit, in the order in which they come.

    Args:
        pairs: Splits with the columns `prompt` and `completion`.
    """

    def trim(row: dict[str, str]) -> dict[str, str | float]:
        completion, worth = fitting(row["prompt"], row["completion"], config)
        return {"completion": completion, "worth": worth}

    kept = DatasetDict()
    for split, data in pairs.items():
        trimmed = data.map(trim, num_proc=num_proc, desc=f"what fits, of {split}")
        trimmed = trimmed.filter(lambda completion: completion != "", input_columns="completion", num_proc=num_proc)
        if split == "train":
            trimmed = _most(trimmed, config.train_pairs)
        kept[split] = trimmed.remove_columns("worth")
    return kept


def fitting(prompt: str, completion: str, config: FittingConfig) -> tuple[str, float]:
    """The completion without what does not fit, and how much the rest says about the prompt; "" and 0 where too little
    is left.

    >>> fitting("a lighthouse in a storm", ", fog, 35mm, 8k, moody", FittingConfig())[0]
    ', fog, 8k, moody'
    """
    parsed, keep, said = Prompt.parse(completion), [], []
    for modifier in parsed.segments:
        lift = log_lift(prompt, modifier)
        least = config.least_manner if is_manner(modifier) else config.least
        keep.append(lift >= least if lift is not None else not kinds_of(modifier))  # what nothing is known of goes
        if keep[-1] and lift is not None and lift > 0:
            said.append(lift)
    if not said or sum(keep) < config.min_modifiers:
        return "", 0.0
    return str(parsed.keep(keep)), sum(said) / len(said) * min(len(said), 3)


def _most(pairs: Dataset, count: int) -> Dataset:
    worth = pairs["worth"][:]
    chosen = sorted(range(len(pairs)), key=lambda i: -worth[i])[:count]
    return pairs.select(sorted(chosen))
