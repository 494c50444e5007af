"""The best fixed suffix: one list of modifiers behind every prompt, searched with pictures.

    found = find_suffix(prompts, reward, PromptEnhancer.from_pretrained(), SuffixConfig(budget=5120))
    ", ".join(found.modifiers), found.gain, found.pictures

It is what a rewriter that reads the prompt has to beat: everything that can be had without reading it. So it may cost
as many pictures as the rewriter's training did.

The suffix grows by a modifier at a time (greedily). For each place many modifiers are tried, the frequent ones and
those that a policy writes: all of them behind the same random prompts with the same fresh seeds, then the better half
of them behind others, until one is left (successive halving, Karnin et al. 2013). On fresh pictures again, which had no
part in the choice, it is set against the suffix without it, and stays where it gains more than a standard error. Where
it does not, the next try gets twice the pictures; several such tries in a row end the search.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from neuroprompt.completions import append, check_prompt
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.judge import Judge
from neuroprompt.modifiers import frequent_phrases
from neuroprompt.prompts import CLIP_WINDOW, Prompt, Window, WindowLike, modifier_key, normalise
from neuroprompt.scoring import PromptReward, combined, known_mean
from neuroprompt.statistics import FEWEST

from .candidates import Drawn
from .journal import Journal
from .pictures import columns, measure
from .proposals import Ask, PolicyProposals, Proposer

Suffix = tuple[str, ...]
"""Modifiers, in order; the empty one is the plain prompt."""


@dataclass
class SuffixConfig:
    """How to search.

    Args:
        budget: Pictures in all, those of the plain prompts included.
        length: The modifiers that a suffix has at most.
        seed: Another seed, another search. The same call gives the same result.
        window: What a prompt and the suffix must fit: a `prompts.Window`, or a number of CLIP tokens.
        coherent: Try no modifiers that a person would not sign, by themselves or behind those before (see `judge`).
    """

    budget: int = 5120
    length: int = 10
    seed: int = 0
    window: WindowLike = CLIP_WINDOW
    coherent: bool = True

    def __post_init__(self):
        if self.budget < _LEAST:
            raise ValueError(f"a budget of {self.budget} pictures is too small: a suffix takes {_LEAST} at least")
        if self.length < 1:
            raise ValueError(f"length is {self.length}: it must be at least 1")


@dataclass(frozen=True)
class Growth:
    """One try to make the suffix longer.

    Attributes:
        modifier: The best of those tried.
        tried: How many these were.
        gain: What the suffix gains by it, behind prompts and with seeds that had no part in its choice.
        error: The standard error of `gain`.
        prompts: How many prompts that is known from.
        kept: Whether it is in the suffix now.
        pictures: What the try cost.
    """

    modifier: str
    tried: int
    gain: float
    error: float
    prompts: int
    kept: bool
    pictures: int


@dataclass(frozen=True)
class FoundSuffix:
    """What became of a search.

    Attributes:
        modifiers: The suffix; none where nothing gained.
        gain: What its pictures are worth more than the plain prompts', in the unit of the reward, on the pictures that
            confirmed its last modifier.
        error: The standard error of `gain`.
        pictures: Drawn in all, the plain prompts' included, each once.
        growth: Every try, in order.
    """

    modifiers: Suffix
    gain: float
    error: float
    pictures: int
    growth: tuple[Growth, ...]


def find_suffix(
    prompts: Sequence[str],
    reward: PromptReward,
    propose: PromptEnhancer | Proposer,
    config: SuffixConfig | None = None,
    *,
    state: str | Path | None = None,
    on_progress: Callable[[int, Suffix], None] | None = None,
) -> FoundSuffix:
    """Search for the suffix whose pictures are worth most over the prompts.

    Args:
        prompts: Plain prompts: those that a rewriter is trained on, and not those that it is evaluated on.
        reward: Draws and scores. A picture is worth what the reward says beside the plain prompt's with its seed.
        propose: A policy, or any other source of modifiers (see `proposals`), which are tried beside the frequent ones.
        config: How to search.
        state: File that the search is kept in, and in the end what came of it. The same call takes a killed search up,
            and comes to the same result as if it had not been killed.
        on_progress: Gets the number of pictures so far, after each, and the suffix so far.

    Raises:
        ValueError: There are no prompts, one is empty, the policy writes no modifiers, or `state` belongs to another
            search.
        BusyError: Another search writes `state`.
        DrawingError: A prompt cannot be drawn or scored.
    """
    config = config or SuffixConfig()
    prompts = list(dict.fromkeys(prompts))
    if not prompts:
        raise ValueError("there are no prompts")
    for prompt in prompts:
        check_prompt(prompt)
    if isinstance(propose, PromptEnhancer):
        propose = PolicyProposals(propose, config.window, coherent=config.coherent)
    settings = {
        "kind": "suffix",
        "prompts": blake2b(json.dumps(prompts).encode(), digest_size=16).hexdigest(),
        "policy": getattr(propose, "name", type(propose).__name__),
        **asdict(config),
        "reward": reward.settings(),
        "window": Window.of(config.window).setting,
    }
    with Journal(state, settings) as journal:
        try:
            candidates = _candidates(_proposals(prompts, propose, journal, config.seed))
            found = _Search(prompts, reward, journal, config, on_progress).grow(candidates)
            journal.result = {"suffix": ", ".join(found.modifiers), **asdict(found)}
        finally:  # what Ctrl-C or an error leaves is a search to be taken up
            journal.save()
    return found


class _Search:
    """The suffix so far, what it cost, and the random prompts and seeds that are still to come."""

    def __init__(
        self,
        prompts: Sequence[str],
        reward: PromptReward,
        journal: Journal,
        config: SuffixConfig,
        on_progress: Callable[[int, Suffix], None] | None,
    ):
        self.reward, self.journal, self.config = reward, journal, config
        self.report = on_progress or (lambda done, suffix: None)
        self.suffix: Suffix = ()
        self.pairs = _pairs(prompts, config.seed)
        self._used: set[tuple[str, str, int]] = set()

    def grow(self, candidates: Iterable[str]) -> FoundSuffix:
        """Add modifiers, of which the first promise most, while that gains."""
        fresh = iter(candidates)
        again: list[str] = []
        tries: list[Growth] = []
        gain, error, failed = 0.0, 0.0, 0
        while len(self.suffix) < self.config.length and failed < _PATIENCE and self.left >= _LEAST:
            # Equal shares for the places that are left, but no try without the pictures to tell anything.
            share = max(_LEAST, self.left // (self.config.length - len(self.suffix))) * 2**failed
            before, share = len(self._used), min(share, self.left)
            choosing = share - max(3 * FEWEST, share // 4)  # the rest is for the verdict
            tried = list(islice(filter(self._fits(), chain(again, fresh)), _most_tried(choosing)))
            if not tried:
                break
            ranked = self._halve(tried, choosing)
            longer = (*self.suffix, ranked[0])
            arms = dict.fromkeys(((), self.suffix, longer))
            values = self._look(arms, (share - len(self._used) + before) // len(arms))
            gained, noise, known = _mean(values[longer] - values[self.suffix])
            kept = gained > noise
            tries.append(Growth(ranked[0], len(ranked), gained, noise, known, kept, len(self._used) - before))
            if kept:
                self.suffix, (gain, error, _) = longer, _mean(values[longer] - values[()])
            failed = 0 if kept else failed + 1
            again = ranked[: math.ceil(len(ranked) / _AGAIN)]
        return FoundSuffix(self.suffix, gain, error, len(self._used), tuple(tries))

    @property
    def left(self) -> int:
        """Pictures of the budget."""
        return self.config.budget - len(self._used)

    def _fits(self) -> Callable[[str], bool]:
        """What may stand behind the suffix so far."""
        said = set(map(modifier_key, self.suffix))
        judge = Judge("", self.suffix) if self.config.coherent else None
        return lambda modifier: modifier_key(modifier) not in said and not (judge and judge.objection(modifier))

    def _halve(self, tried: list[str], pictures: int) -> list[str]:
        """The modifiers, the best first, by so many pictures at most."""
        alive, out = tried, []
        seen: dict[str, list[np.ndarray]] = {modifier: [] for modifier in tried}
        rounds = _rounds(len(tried))
        for _ in range(rounds):
            longer = {modifier: (*self.suffix, modifier) for modifier in alive}
            values = self._look(longer.values(), pictures // rounds // (len(alive) + 1))
            for modifier, suffix in longer.items():
                seen[modifier].append(values[suffix])
            means = {m: np.nan_to_num(known_mean(np.concatenate(seen[m])), nan=-math.inf) for m in alive}
            alive = sorted(alive, key=lambda modifier: -means[modifier])
            half = math.ceil(len(alive) / 2)
            alive, out = alive[:half], alive[half:] + out
        return alive + out

    def _look(self, suffixes: Iterable[Suffix], pairs: int) -> dict[Suffix, np.ndarray]:
        """What each suffix, and none, is worth behind so many new prompts: (pairs,) each, NaN where it is not known.

        No budget is looked at here: it costs at most ``(len(suffixes) + 1) * pairs`` pictures.
        """
        taken = list(islice(self.pairs, pairs))
        window = self.config.window
        texts = {
            suffix: [append(prompt, suffix, window)[0] for prompt, _ in taken]
            for suffix in dict.fromkeys(((), *suffixes))
        }
        wanted: dict[str, list[tuple[str, int]]] = {}
        for own in texts.values():
            for (prompt, seed), text in zip(taken, own, strict=True):
                wanted.setdefault(prompt, []).append((text, seed))
        known = len(self._used)

        def count() -> None:
            nonlocal known
            known += 1
            self.report(known, self.suffix)

        measure(wanted, lambda _, text: Drawn(text), self.reward, self.journal, count)
        self._used.update((prompt, *picture) for prompt, own in wanted.items() for picture in own)
        self.report(len(self._used), self.suffix)
        pictures = self.journal.pictures
        rows = [
            pictures[prompt][text, seed]
            for own in texts.values()
            for (prompt, seed), text in zip(taken, own, strict=True)
        ]
        shape = len(texts), len(taken), 1
        scores, flagged = columns(self.reward, rows, shape)
        plain, plain_flagged = {name: own[0] for name, own in scores.items()}, flagged[0]  # () is the first
        values = combined(self.reward.terms, scores, flagged, plain, plain_flagged, self.reward.flagged_reward)
        return dict(zip(texts, values[..., 0], strict=True))


_LEAST = 8 * FEWEST  # pictures of a try
_MOST = 64  # modifiers of a try
_AGAIN = 4  # the best of so many tried modifiers is tried again at the next place
_PATIENCE = 3  # tries in a row without a gain


def _rounds(count: int) -> int:
    """Halvings until one of so many is left."""
    return math.ceil(math.log2(count))


def _most_tried(pictures: int) -> int:
    """How many modifiers so many pictures halve, one at least behind each in every round, beside the plain prompt's."""
    return max(n for n in range(1, _MOST + 1) if n == 1 or (n + 1) * _rounds(n) <= pictures)


def _mean(values: np.ndarray) -> tuple[float, float, int]:
    """The mean of what is finite, its standard error, and of how many; too few are no evidence: an infinite error."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return float(known.mean()) if len(known) else 0.0, math.inf, len(known)
    return float(known.mean()), float(known.std(ddof=1) / math.sqrt(len(known))), len(known)


def _pairs(prompts: Sequence[str], seed: int) -> Iterator[tuple[str, int]]:
    """Random prompts, none again before all have come, each time with another seed to draw with."""
    rng = random.Random(f"suffix {seed}")
    while True:
        for prompt in rng.sample(prompts, len(prompts)):
            yield prompt, rng.randrange(2**31)


def _proposals(prompts: Sequence[str], propose: Proposer, journal: Journal, seed: int) -> list[str]:
    """What the policy writes behind some of the prompts, the most frequent first."""
    asked = random.Random(f"proposals {seed}").sample(prompts, min(_ASKED, len(prompts)))
    if new := [prompt for prompt in asked if prompt not in journal.proposals]:
        asks = [Ask(prompt, _SAMPLES) for prompt in new]
        for prompt, lists in zip(new, propose(asks, seed), strict=True):
            journal.proposals[prompt] = [[[list(own) for own in lists], []]]
        journal.save()
    answers = (journal.proposals[prompt][0] for prompt in asked)
    return _by_frequency(modifier for lists in answers for own in chain(*lists) for modifier in own)


_ASKED, _SAMPLES = 64, 4  # prompts, and rewrites of each


def _by_frequency(modifiers: Iterable[str]) -> list[str]:
    """Each once, the most frequent first, and of equals the earlier; in its first spelling."""
    spelt: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for modifier in modifiers:
        key = modifier_key(modifier)
        spelt.setdefault(key, modifier)
        counts[key] += 1
    return [spelt[key] for key, _ in counts.most_common()]


def _candidates(proposed: Iterable[str]) -> Iterable[str]:
    """The frequent modifiers and those of a policy by turns, each where it comes first."""
    distinct: dict[str, str] = {}
    for modifier in chain(*zip_longest((term for term, _ in frequent_phrases()), proposed)):
        if modifier:
            distinct.setdefault(modifier_key(modifier), modifier)
    return distinct.values()


# --- files -------------------------------------------------------------------------------------------------------


def read_suffix(path: str | Path) -> Suffix:
    """The modifiers of a file: one line of them, with commas.

    Raises:
        ValueError: It cannot be read, or holds no such line, or several.
    """
    try:
        lines = [line for line in Path(path).read_text("utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"cannot read the suffix {path}: {why}") from error
    modifiers = Prompt.parse(normalise(lines[0])).segments if lines else ()
    if len(lines) > 1 or not modifiers:
        raise ValueError(f"{path} holds {len(lines)} lines: a suffix is one, of modifiers with commas")
    return modifiers


def frequent_suffix(path: str | Path, length: int = 10) -> Suffix:
    """The modifiers that rewrites have added most often, whatever the prompt.

    Args:
        path: A .jsonl file of records with ``original`` and ``text``, as ``neuroprompt optimize`` and ``neuroprompt
            enhance`` write it.
        length: How many at most.

    Raises:
        ValueError: It cannot be read, a record is broken, or nothing was added.
    """
    tails: list[str] = []
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line)
                original, text = record["original"], record["text"]
                tails.append(text[len(original) :] if text.startswith(original) else "")
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: no record with original and text") from error
    modifiers = _by_frequency(modifier for tail in tails for modifier in Prompt.parse(normalise(tail)).segments)
    if not modifiers:
        raise ValueError(f"{path}: no text adds anything to its original")
    return tuple(modifiers[:length])
