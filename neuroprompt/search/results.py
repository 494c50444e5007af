"""What a search found: the winner with an honest number, all that was measured, and the finds as training pairs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from neuroprompt.coherence import controls
from neuroprompt.prompts import modifier_key

if TYPE_CHECKING:
    from datasets import DatasetDict

    from neuroprompt.data import PromptData


@dataclass(frozen=True)
class Measurement:
    """One rewrite and what its pictures say.

    Attributes:
        text: The rewrite.
        modifiers: What was added to the user's text, in order.
        reward: Mean over its pictures, in the reward's unit; those without a finite score are left out, and NaN is what
            remains without any.
        scores: Mean of each component, raw.
        pictures: How many were drawn of it; the fewer, the more of a good reward is luck.
        allowed: Whether it meets the constraints (the user's own text may not).
        negative: The negative prompt that it was drawn with; None for none but the generator's own.
    """

    text: str
    modifiers: tuple[str, ...]
    reward: float
    scores: dict[str, float]
    pictures: int
    allowed: bool = True
    negative: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What became of one prompt.

    Attributes:
        original: The user's text.
        text: The winner; it starts with `original`, and may be no more than that.
        modifiers: What was added, in order.
        selected: Improvement over the original by the pictures that the winner was chosen by: the mean, which is
            optimistic, since the lucky are chosen (the winner's curse); from ``bayes`` what its posterior expects.
        selected_error: Standard deviation of `selected` under that posterior; None from ``best-of-n``.
        held_out: The same on pictures with other seeds, drawn after the choice, winner and original on the same seeds:
            unbiased. None where the search was stopped before, or none were asked for.
        held_out_error: Standard error of `held_out`, over seeds; None with fewer than two.
        images: Pictures that the search used, the original's included.
        held_out_images: Pictures drawn for `held_out` on top of these.
        curve: (pictures used, what the best so far gains over the original by the pictures until then) after each
            round; the last is `selected`.
        front: The rewrites that no other beats in all of `axes` (Pareto), by the first, the best first.
        axes: The components that `front` is about.
        measured: Everything that was drawn, the best reward first.
        complete: False where the search was stopped early.
        warning: Why nothing was searched, or the find was refused, if that is so.
        negative: The winner's negative prompt; None for none but the generator's own.
    """

    original: str
    text: str
    modifiers: tuple[str, ...]
    selected: float
    held_out: float | None
    held_out_error: float | None
    images: int
    held_out_images: int
    curve: tuple[tuple[int, float], ...]
    front: tuple[Measurement, ...]
    axes: tuple[str, ...]
    measured: tuple[Measurement, ...]
    complete: bool = True
    warning: str | None = None
    negative: str | None = None
    selected_error: float | None = None

    @property
    def improvement(self) -> float:
        """`held_out` where it is known, else `selected`."""
        return self.selected if self.held_out is None else self.held_out

    @property
    def improvement_error(self) -> float | None:
        """The standard error of that, if it is known."""
        return self.selected_error if self.held_out is None else self.held_out_error

    def refused(self, reason: str) -> "SearchResult":
        """The original in the winner's place, which gains nothing over itself; what was measured stays."""
        found = None if self.held_out is None else 0.0
        return replace(
            self,
            text=self.original,
            modifiers=(),
            negative=None,
            selected=0.0,
            selected_error=None,
            held_out=found,
            held_out_error=None,
            warning=f"left as it is: {reason}",
        )

    def to_dict(self) -> dict:
        """As plain JSON types; None for what is no number."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)


def pareto_front(measured: Sequence[Measurement], axes: Sequence[str]) -> tuple[Measurement, ...]:
    """Those that no other equals or beats in every component of `axes` and beats in one; the first axis decides the
    order, the best first. Of equals all stay. What does not meet the constraints is left out."""
    points = [(tuple(m.scores[axis] for axis in axes), m) for m in measured if m.allowed]
    points = [(scores, m) for scores, m in points if all(s == s for s in scores)]  # NaN is nowhere
    front = [
        (scores, m)
        for scores, m in points
        if not any(other != scores and all(o >= s for o, s in zip(other, scores, strict=True)) for other, _ in points)
    ]
    return tuple(m for _, m in sorted(front, key=lambda point: point[0], reverse=True))


def to_pairs(
    results: Sequence[SearchResult],
    folder: str | Path,
    *,
    least: float = 0.0,
    errors: float = 0.0,
    held_out: float | None = None,
    add_to: str | Path | None = None,
    copies: int = 1,
) -> "PromptData":
    """Write finds as supervised pairs, so that `training/sft.py` with ``--data_dir folder`` distils them.

    Args:
        results: Of `optimize`.
        folder: Where to; it appears whole or not at all.
        least: Improvement that a find must exceed, in the reward's unit; the held-out one where it is known.
        errors: It must exceed `least` by so many of its standard errors, where these are known.
        held_out: The share of the finds that make the validation split, by a hash of their first words; by default each
            is in the split that `neuroprompt.data.split_of` says.
        add_to: Folder of prepared data, whose pairs and plain prompts go in too. Training needs a validation split,
            which some hundreds of finds have by themselves.
        copies: How often each find stands among the training pairs.

    Returns:
        What was written: pairs (`prompt`, `completion`, `medium`) and plain prompts by split, each prompt in the split
        that its first words say.

    Raises:
        ValueError: No find is good enough.
    """
    from neuroprompt.data import SPLITS, DataConfig, PromptData, split_of  # of the extra `train`, as `datasets`

    finds = [
        r for r in results if r.text != r.original and r.improvement > least + errors * (r.improvement_error or 0.0)
    ]
    if not finds:
        beyond = f" and {errors:g} standard errors" if errors else ""
        raise ValueError(
            f"none of {len(results)} results improves its prompt by more than {least}{beyond}: no pairs to write"
        )
    base = PromptData.load(add_to) if add_to else None
    pairs: dict[str, list[dict]] = {split: [] for split in SPLITS}
    plain: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for find in finds:
        split = split_of(find.original) if held_out is None else _split(find.original, held_out)
        pair = {
            "prompt": find.original,
            "completion": find.text[len(find.original) :],
            "medium": controls(find.text),
        }
        pairs[split] += [pair] * (copies if split == "train" else 1)
        plain[split].append({"prompt": find.original})
    counts = {**(base.counts if base else {}), "finds of a search": len(finds)}
    data = PromptData(
        _joined(pairs, base.pairs if base else None), _joined(plain, base.plain if base else None), counts
    )
    data.save(folder, DataConfig(source=str(add_to or "finds of neuroprompt.search")))
    return data


def _split(prompt: str, held_out: float) -> str:
    """Prompts that begin alike are held out together."""
    digest = blake2b(" ".join(modifier_key(prompt).split()[:4]).encode("utf-8", "surrogatepass"), digest_size=4)
    return "validation" if int.from_bytes(digest.digest(), "big") < held_out * 2**32 else "train"


def _joined(rows: dict[str, list[dict]], base: "DatasetDict | None") -> "DatasetDict":
    """The rows of each split behind those of `base`; empty splits, which cannot be loaded again, are left out."""
    from datasets import Dataset, DatasetDict

    splits = {}
    for split, new in rows.items():
        old = base[split].to_list() if base and split in base else []
        if old or new:
            splits[split] = Dataset.from_list([*old, *new])
    return DatasetDict(splits)
