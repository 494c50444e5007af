"""The gate: a rewrite comes back where pictures say that it gains, and else the user's own words do, and why.

    gate = Gate(reward, pictures=4)
    for verdict in gate(originals, [variants[0].text for variants in enhancer.rewrite(originals)]):
        print(verdict.text, verdict.reason)

Plain prompt and rewrite are drawn with the same seeds (common random numbers), pair by pair, for all prompts of a list
at once. The rewrite is accepted where

1. the reward gains: the differences, picture by picture, pass a `statistics.SequentialTest`, which noise alone does in
   at most `level` of the cases; and
2. no judge loses: another reward, of the same pictures and with no part in the first, does not fall on average by more
   than the standard error of that average; and
3. none of the rewrite's pictures was flagged.

A prompt is drawn no further as soon as its verdict is known: for the rewrite where the gain is beyond chance already,
against it where nothing that could still be drawn would save it.

What is guaranteed: of rewrites that do nothing, so that which of the two pictures scores higher is by chance, at most
`level` come back, whatever the scores' distribution, with five pictures or more; what holds for two, three and four is
with the test. It holds for each prompt by itself: no prompt's verdict depends on the others of its list. What is not:
the judge's word is that of the few pictures drawn. With four, it refuses a rewrite of which it thinks as of the plain
prompt in 19 % of the cases, and lets one pass on which it loses a standard deviation of the paired differences in 16 %;
a larger `tolerance` shifts the one towards the other. And a gain is one of the reward: where the reward is fooled, so
is the gate, as far as the judge lets it.

Of rewrites that do gain, by one standard deviation of the paired differences, the test accepts (the share that the
best test of Gaussian noise would, Student's, in brackets) 46 % (46) with four pictures, 65 % (68) with six, 77 % (82)
with eight; by two, 90 % (91), 99 % (99), 100 % (100). Five are no better than four. See ``benchmarks/gate.py``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from neuroprompt.decoding import Constraints, check
from neuroprompt.enhancer import EnhancedPrompt
from neuroprompt.prompts import count_clip_tokens
from neuroprompt.scoring import PromptReward, combined
from neuroprompt.statistics import SequentialTest, student_t
from neuroprompt.terminal import counted

JUDGE = "clip"
"""Who is asked besides the reward, where there is a choice: how well the picture fits the user's words."""

PICTURES = 4
LEVEL = 0.05
TOLERANCE = 1.0
REWARD = "reward"
_SEEDS = 0x67617465  # "gate", beside the user's own


class Gain(NamedTuple):
    """What the rewrite's pictures score above the plain prompt's: the mean over pairs, and its standard error.

    Both are NaN where they are not known: of no pairs, and the error of one.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, differences: np.ndarray) -> "Gain":
        known = differences[np.isfinite(differences)]
        n = len(known)
        mean = float(known.mean()) if n else math.nan
        return cls(mean, float(known.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan)

    def __neg__(self) -> "Gain":
        return Gain(-self.mean, self.error)

    def __str__(self) -> str:
        return _number(self.mean) + ("" if math.isnan(self.error) else f" ± {_number(self.error)}")


@dataclass(frozen=True)
class Verdict:
    """What became of one rewrite.

    Attributes:
        accepted: Whether it comes back.
        text: The rewrite, or the user's own words.
        reason: Why, in one line.
        gains: By component, and of what the reward makes of them all as "reward": raw, in their own units.
        pictures: How many were drawn of each of the two.
    """

    accepted: bool
    text: str
    reason: str
    gains: Mapping[str, Gain] = field(default_factory=dict)
    pictures: int = 0

    def facts(self) -> dict[str, Any]:
        """All but the text, as JSON types."""
        gains = {
            name: {key: value if math.isfinite(value) else None for key, value in gain._asdict().items()}
            for name, gain in self.gains.items()
        }
        return {"accepted": self.accepted, "reason": self.reason, "gains": gains, "pictures": self.pictures}


class Decision(NamedTuple):
    """What paired differences say of rewrites, in arrays.

    Attributes:
        answer: Whether each gains (1), does not (-1), or needs more pairs (0).
        pairs: After how many pairs that was known; where it is not, those that there are.
        lost: Which judges lose over these. (judges, …)
    """

    answer: np.ndarray
    pairs: np.ndarray
    lost: np.ndarray

    @property
    def accepted(self) -> np.ndarray:
        return (self.answer > 0) & ~self.lost.any(0)


def decide(
    test: SequentialTest, gains: np.ndarray, judged: Sequence[np.ndarray] = (), tolerance: float = TOLERANCE
) -> Decision:
    """The decisions on rewrites, of paired differences alone.

    Args:
        test: Of the gains.
        gains: What the reward's pictures gain, pair by pair. (…, n)
        judged: The same of each judge. (…, n) each
        tolerance: By how many standard errors a judge's mean may be below zero.
    """
    answers = test(gains)
    known = answers != 0
    last = np.where(known.any(-1), known.argmax(-1), answers.shape[-1] - 1)[..., None]
    drawn = np.arange(answers.shape[-1]) <= last
    lost = np.array([student_t(own, drawn) < -tolerance for own in judged], bool).reshape(-1, *drawn.shape[:-1])
    return Decision(np.take_along_axis(answers, last, -1)[..., 0], last[..., 0] + 1, lost)


class Gate:
    """Gives each rewrite back, or the prompt that it is of.

    Args:
        reward: Draws and scores. What it gives prompts is what has to gain; it may be relative or not.
        judges: The components that must not lose; by default the reward's own judges, or else `JUDGE`, if it is
            measured and counts nothing.
        pictures: Seeds that plain prompt and rewrite are drawn with, at most.
        level: How often noise alone may pass.
        tolerance: By how many standard errors a judge's mean may fall; 0 lets no fall pass, however small.
        seeds: The seeds of a prompt, `pictures` of them; by default some that belong to it, and are others than those
            that it is evaluated and its rewrites are chosen by.

    Attributes:
        judges: Names of the components that must not lose; there may be none.
        counted: Names of those that the gain is made of.

    Raises:
        ValueError: Too few or too many pictures to decide by, no component counts, or the judge is none of them.
    """

    def __init__(
        self,
        reward: PromptReward,
        judges: Sequence[str] | None = None,
        pictures: int = PICTURES,
        level: float = LEVEL,
        tolerance: float = TOLERANCE,
        seeds: Callable[[str], Sequence[int]] | None = None,
    ):
        check_pictures(pictures)
        self.reward, self.test, self.tolerance = reward, SequentialTest(pictures, level), tolerance
        self.seeds = seeds or reward.replace(seed=reward.seed ^ _SEEDS, images_per_prompt=pictures).seeds
        self.counted = tuple(name for name, term in reward.terms.items() if term.weight)
        if not self.counted:
            raise ValueError(f"none of {', '.join(reward.terms)} counts: give one a weight that is not 0")
        self.judges = self._judges() if judges is None else tuple(judges)
        if unknown := next((name for name in self.judges if name not in reward.terms), None):
            raise ValueError(f"the judge {unknown!r} is no component: there are {', '.join(reward.terms)}")
        if self.judges == self.counted:
            raise ValueError(f"{self.judges[0]} is what has to gain: it cannot be its own judge")

    @property
    def what(self) -> str:
        """What the gain is of: the one component in whose own unit it is, or the reward."""
        first = self.reward.terms[self.counted[0]]
        return self.counted[0] if len(self.counted) == 1 and first.weight == first.scale else "the reward"

    def _judges(self) -> tuple[str, ...]:
        names = [name for name in self.reward.terms if name not in self.counted]
        own = tuple(name for name in names if name in self.reward.judges)
        return own or tuple(name for name in names if name.split("[")[0] == JUDGE)[:1]

    def settings(self) -> dict[str, Any]:
        """What verdicts depend on besides texts and `PromptReward.settings`, as JSON types."""
        return {
            "judges": list(self.judges),
            "pictures": self.test.pairs,
            "level": self.test.level,
            "tolerance": self.tolerance,
        }

    def __call__(
        self,
        originals: Sequence[str],
        rewrites: Sequence[str],
        negatives: Sequence[str | None] | None = None,
        *,
        plain_negatives: Sequence[str | None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_picture: Callable[[int, str, int, Tensor], None] | None = None,
    ) -> list[Verdict]:
        """The verdicts on n rewrites, in order.

        Args:
            originals, rewrites: n of each.
            negatives: The negative prompts that both are drawn with, or None (see `ImageGenerator.draw`).
            plain_negatives: Those of the plain prompts, where they are others.
            on_progress: Gets the numbers of pictures that are drawn, or need not be any more, and of all that may be.
            on_picture: Gets each picture that is not flagged, (3, H, W) on the device, behind the index of its rewrite,
                its text and its seed, so that it need not be drawn again.

        Raises:
            DrawingError: A prompt cannot be drawn or scored.
            Unavailable: The generator or a reward is behind URLs, and nobody answers any more.
        """
        n = len(originals)
        negatives = list(negatives or [None] * n)
        both = list(zip(originals, rewrites, negatives, plain_negatives or negatives, strict=True))
        trials = [self.trial(*one) for one in both]
        tried = sum(trial.verdict is None for trial in trials)
        most = self.test.pairs
        while pending := [i for i, trial in enumerate(trials) if not trial.verdict]:
            jobs = [(i, plain, seed) for i in pending for seed in trials[i].due for plain in (False, True)]
            texts = [both[i][0 if plain else 1] for i, plain, _ in jobs]
            drawn: dict[int, Tensor] = {}
            measured = self.reward.measure(
                texts,
                [originals[i] for i, *_ in jobs],
                [seed for *_, seed in jobs],
                [both[i][3 if plain else 2] for i, plain, _ in jobs],
                on_image=drawn.__setitem__ if on_picture else None,
                use_cache=False,  # a verdict is not to depend, by a last bit, on what was drawn before
            )
            for job, image in drawn.items():
                if not measured.flagged[job]:
                    on_picture(jobs[job][0], texts[job], jobs[job][2], image)
            columns = {name: values.reshape(len(pending), -1, 2) for name, values in measured.scores.items()}
            flagged = measured.flagged.reshape(len(pending), -1, 2)
            for row, i in enumerate(pending):
                trials[i].add({name: values[row] for name, values in columns.items()}, flagged[row])
            if on_progress:
                going, done = sum(not trial.verdict for trial in trials), trials[pending[0]].pairs
                on_progress(2 * (most * (tried - going) + done * going), 2 * most * tried)
        return [trial.verdict for trial in trials]

    def trial(
        self, original: str, text: str, negative: str | None = None, plain_negative: str | None = None
    ) -> "Trial":
        """The trial of one rewrite, for whoever draws and scores its pictures himself; the arguments as of a call."""
        return Trial(self, original, text, text == original and negative == plain_negative)


class Trial:
    """One rewrite on trial.

        while not trial.verdict:
            trial.add(*of_pictures(trial.due))

    Attributes:
        verdict: None for as long as pictures are wanted.
    """

    def __init__(self, gate: Gate, original: str, text: str, unchanged: bool):
        self.gate, self.original, self.text = gate, original, text
        self.verdict = Verdict(False, original, "unchanged") if unchanged else None
        self._seeds = list(gate.seeds(original))[: gate.test.pairs]
        self._scores: dict[str, np.ndarray] = {}  # each (pairs, 2), the rewrite's first
        self._flagged = np.zeros((0, 2), bool)

    @property
    def pairs(self) -> int:
        """How many have been drawn."""
        return len(self._flagged)

    @property
    def due(self) -> list[int]:
        """The seeds of the pairs that are wanted next; before the first answer there is nothing to look at between."""
        return [] if self.verdict else self._seeds[self.pairs : max(self.gate.test.first, self.pairs + 1)]

    def add(self, scores: Mapping[str, np.ndarray], flagged: np.ndarray) -> None:
        """Take what was measured of the pairs that were due, raw, each (pairs, 2): the rewrite's first."""
        self._scores = {name: np.concatenate([self._scores.get(name, own[:0]), own]) for name, own in scores.items()}
        self._flagged = np.concatenate([self._flagged, flagged])
        self.verdict = self._verdict()

    def _verdict(self) -> Verdict | None:
        """What the pairs so far say, if they say it."""
        gate, differences = self.gate, self._differences()
        known = {name: np.nan_to_num(own, nan=0.0) for name, own in differences.items()}
        made = decide(gate.test, known[REWARD], [known[name] for name in gate.judges], gate.tolerance)
        outcome, used = int(made.answer), int(made.pairs)
        rewritten_flagged, plain_flagged = self._flagged.T
        if not outcome and not rewritten_flagged.any():
            return None
        gains = {name: Gain.of(own[:used]) for name, own in differences.items()}
        gain, over = gains[REWARD], f"over {counted(used, 'picture')}"
        what = gate.what
        losing = next((name for name, loses in zip(gate.judges, made.lost, strict=True) if loses), None)
        if rewritten_flagged.any():
            reason = "a picture of the rewrite was flagged"
        elif plain_flagged.all():
            reason = "the plain prompt's pictures were flagged: there is nothing to compare with"
        elif outcome < 0 and gain.mean > 0:
            reason = f"{what} gains {gain} {over}: not more than chance"
        elif outcome < 0:
            reason = f"{what} gains nothing {over} ({gain})"
        elif losing:
            reason = f"{losing} falls by {-gains[losing]} {over}, while {what} gains {gain}"
        else:
            others = "".join(f", and {name} does not lose ({gains[name]})" for name in gate.judges)
            reason = f"{what} gains {gain} {over}{others}"
            return Verdict(True, self.text, reason, gains, used)
        return Verdict(False, self.original, reason, gains, used)

    def _differences(self) -> dict[str, np.ndarray]:
        """Rewrite less plain, by component, raw, and of the reward; NaN where the two cannot be compared. (pairs,)"""
        reward, flagged = self.gate.reward, self._flagged
        plain, plain_flagged = {name: own[:, 1] for name, own in self._scores.items()}, flagged[:, 1]

        def worth(scores: Mapping[str, np.ndarray]) -> np.ndarray:  # flagged ones are left out below
            nothing = np.zeros_like(plain_flagged)
            return combined(reward.terms, scores, nothing, plain, plain_flagged, reward.flagged_reward)

        made = {REWARD: worth({name: own[:, 0] for name, own in self._scores.items()}) - worth(plain)}
        made |= {name: own[:, 0] - own[:, 1] for name, own in self._scores.items()}
        return {name: np.where(flagged.any(1) | ~np.isfinite(own), np.nan, own) for name, own in made.items()}


def kept(enhanced: EnhancedPrompt, verdict: Verdict, wish: Constraints | None = None) -> EnhancedPrompt:
    """What a policy made of a prompt, after the verdict on it: the same, or the user's own words and why.

    `wish` is what was asked of the rewrite; the user's words need not meet it.
    """
    if verdict.accepted or enhanced.text == enhanced.original:
        return enhanced
    words = enhanced.original
    return replace(
        enhanced,
        text=words,
        modifiers=(),
        score=enhanced.score and 0.0,
        clip_tokens=count_clip_tokens(words),
        constraints=check(words, wish) if wish else None,
        warning=f"left as it is: {verdict.reason}",
    )


def check_pictures(pictures: int) -> None:
    """Refuse a number of pictures that nothing can be decided by, before anything is loaded.

    Raises:
        ValueError: It is below 2, or above what `SequentialTest` takes.
    """
    if pictures < 2:
        raise ValueError(
            f"{counted(pictures, 'picture')} of each prompt cannot tell a gain from chance: give at least 2"
        )
    if pictures > SequentialTest.MOST:
        raise ValueError(
            f"{pictures} pictures of each prompt are more than a verdict takes: give at most {SequentialTest.MOST}"
        )


def _number(value: float) -> str:
    """To two digits that count; large ones whole."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}".replace("-", "−")
