"""What a policy's rewrites look like: words and window kept, faults, how many modifiers, how alike."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from neuroprompt.enhancer import EnhancedPrompt
from neuroprompt.judge import Faults, faults
from neuroprompt.prompts import CLIP_WINDOW, SEPARATORS, Prompt, count_clip_tokens, modifier_key


@dataclass(frozen=True)
class RewriteStatistics:
    """Shares are of the prompts, from 0 to 1.

    Attributes:
        prompts: How many were rewritten.
        keep_the_text: Start with the user's text, verbatim.
        exceed_window: Were made longer than the window (a prompt that is too long already is left alone).
        repeat_a_modifier: Hold a modifier twice (case, hyphens and emphasis aside), the user's own included.
        faults: Have each of `neuroprompt.judge.Faults`, by its name.
        three_or_more: Gained three modifiers or more.
        shared_tails: Got the same tail as another prompt.
        distinct_modifiers: Different modifiers per modifier written.
        mean_modifiers: Modifiers gained per prompt.
        categories: Share of the modifiers in each category (None: no category).
        most_frequent: The ten most frequent modifiers, each with the share of prompts that got it.
    """

    prompts: int
    keep_the_text: float
    exceed_window: float
    repeat_a_modifier: float
    faults: dict[str, float]
    three_or_more: float
    shared_tails: float
    distinct_modifiers: float
    mean_modifiers: float
    categories: dict[str | None, float]
    most_frequent: dict[str, float]

    def to_dict(self) -> dict:
        return asdict(self)


def rewrite_statistics(results: Sequence[EnhancedPrompt], window: int = CLIP_WINDOW) -> RewriteStatistics:
    """Measure rewrites on their texts alone, one result per prompt."""
    if not results:
        raise ValueError("there are no rewrites to measure")
    n = len(results)
    tails = [r.text[len(r.original) :].strip(SEPARATORS + ".") for r in results]
    tail_counts = Counter(tails)
    modifiers = [[modifier_key(m) for m in Prompt.parse(tail).segments] for tail in tails]
    written = Counter(m for of in modifiers for m in of)
    categories = Counter(m.category for r in results for m in r.modifiers)
    total = max(1, written.total())
    return RewriteStatistics(
        prompts=n,
        keep_the_text=sum(r.text.startswith(r.original) for r in results) / n,
        exceed_window=sum(r.text != r.original and count_clip_tokens(r.text) > window for r in results) / n,
        repeat_a_modifier=sum(_repeats(r) for r in results) / n,
        faults={
            name: sum(map(bool, found)) / n
            for name, found in zip(Faults._fields, zip(*map(_faults, results), strict=True), strict=True)
        },
        three_or_more=sum(len(m) >= 3 for m in modifiers) / n,
        shared_tails=sum(tail_counts[t] > 1 for t in tails) / n,
        distinct_modifiers=len(written) / total,
        mean_modifiers=written.total() / n,
        categories={c: k / max(1, categories.total()) for c, k in categories.most_common()},
        most_frequent={m: sum(m in of for of in modifiers) / n for m, _ in written.most_common(10)},
    )


def _faults(result: EnhancedPrompt) -> Faults:
    matches = result.constraints.matches if result.constraints else ()
    return faults(result.original, result.text, [match.phrase for match in matches if match])


def _repeats(result: EnhancedPrompt) -> bool:
    """Whether an added modifier stands in the prompt before (what the user repeats is the user's)."""
    own = [modifier_key(s) for s in Prompt.parse(result.original).segments]
    added = [modifier_key(m.text) for m in result.modifiers]
    return len(set(added)) < len(added) or bool(set(own) & set(added))
