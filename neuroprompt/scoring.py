"""What a rewritten prompt is worth: its pictures, drawn and scored, against those of the prompt it came from.

`PromptReward` is a reward function with the signature that TRL's trainers and `neuroprompt.ppo.PPOTrainer` call. For
each prompt it draws the rewritten prompt with several seeds, scores the pictures by one or more image rewards against
the *original* prompt's words, and returns one float:

    r = mean over seeds of  Σ_c  w_c / σ_c · (min(s_c, cap_c) − b_c)

where s_c is the score of component c. The base b_c is the score of the original prompt drawn with the same seeds
(common random numbers) where the component is `relative`; else it is the cap, so that a capped component is a penalty
that is 0 where the cap is reached; else 0. Where the cap is ``plain``, cap and base are the score of the original's
picture with the same seed: no credit above it, a price below. σ_c is 1, or the spread of plain prompts' scores after
`calibrate`. What the safety checker flagged is worth `flagged_reward` beside the original's own pictures (see
`combined`).

NeuroPrompts (Rosenman et al. 2024, eq. 2) is the preset ``neuroprompts``: PickScore, mean over images. Promptist (Hao
et al. 2023, eq. 3 and 4) is ``promptist``: aesthetic gain + min(20·CLIP − 5.6, 0).
"""

import copy
import inspect
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuroprompt.completions import finish
from neuroprompt.images import ImageGenerator, read_generator
from neuroprompt.images.remote import Unavailable
from neuroprompt.models import synchronize
from neuroprompt.prompts import CLIP_WINDOW, Window, WindowLike
from neuroprompt.questions import read_questions
from neuroprompt.reward_model import read_facts
from neuroprompt.rewards import PLAIN, Cap, RewardSet, SpecPart, is_url, load_rewards, parse_spec
from neuroprompt.rewards.atoms import Answers


class Preset(NamedTuple):
    """A published reward: its components, and which of them count as improvements over the original prompt."""

    rewards: str
    relative: str


PRESETS = {
    "neuroprompts": Preset("pickscore:1.0", "none"),
    "promptist": Preset("aesthetic:1.0,clip[ViT-L-14:openai]:20@0.28", "aesthetic"),
}


@dataclass
class RewardArguments:
    """Which pictures are drawn and how they are scored: the part of a YAML file that `build_reward` reads.

    Args:
        generator: What draws: embedded, a folder, a hub id, or the URL of a server (several with commas share the
            work); or a mapping of that as its ``name`` and of any settings of `GeneratorConfig`, for a URL of
            `RemoteConfig`, such as ``{name: stabilityai/sd-turbo, steps: 1, size: 512}``.
        rewards: Components such as ``pickscore:1.0,clip:0.5@0.28,echo:1.0@plain`` (weight, cap), your own function as
            ``my_file.py:my_reward:0.5``, one behind a URL as ``http://host:port/hps:1.0``, or a preset's name:
            neuroprompts, promptist.
        judge: Rewards that the same pictures are measured by and that never count, such as ``clip``: what they gain
            over the original prompt's pictures is in the log as ``judge/clip``.
        reward_model: Where the rewards' models come from if the components do not say: ``embedded``, or ``published``,
            each reward's own published weights, by default.
        relative: The components that count as improvements over the original prompt: all, none, or names.
        images_per_prompt: How many pictures are drawn of each prompt, with as many seeds.
        calibration_prompts: How many plain prompts are drawn before training, whose spread becomes each component's
            unit; 0 leaves the components in their own units.
        flagged_reward: What a picture that the safety checker flagged is worth, beside the original prompt's pictures.
        score_cache: A file for the original prompts' scores; by default they are kept in memory.
        reward_dtype: The type of the rewards' weights: bfloat16, float16 or float32.
        atoms: The question file of the reward or judge ``atoms``; by default rules make its questions.
        fresh_seeds: Whether a prompt has other seeds, and so other pictures, at each visit in training.
        predictor: A reward model of texts that learns what rewrites gain from every picture, and is saved with the
            policy: ``new``, or the folder of one to go on from.
        draw_fraction: The share of a prompt's rewrites that is drawn; the predictor says of the others.

    Raises:
        ValueError: The generator has no such setting, or it is out of range; or the rewards are no spec.
    """

    generator: dict[str, Any] | str | None = "embedded"  # with None, or TRL's parser would not take a text
    rewards: str = "pickscore:1.0"
    judge: str | None = None
    reward_model: str | None = None
    relative: str = "all"
    images_per_prompt: int = 2
    calibration_prompts: int = 0
    flagged_reward: float = -2.0
    score_cache: str | None = None
    reward_dtype: str | None = None
    atoms: str | None = None
    fresh_seeds: bool = False
    predictor: str | None = None
    draw_fraction: float = 1.0

    def __post_init__(self):
        # What is wrong comes out before models are loaded.
        if not 0 < self.draw_fraction <= 1:
            raise ValueError(f"draw_fraction is {self.draw_fraction}: give a share above 0 and at most 1")
        if self.draw_fraction < 1 and not self.predictor:
            raise ValueError("draw_fraction leaves pictures out: set predictor, such as to new, which says of them")
        if self.predictor and self.predictor != "new":
            read_facts(self.predictor)
        read_generator(self.generator)
        trained = {(part.name, part.model) for part in parse_spec(self.preset.rewards)}
        if seen := next((part.name for part in self._judges if (part.name, part.model) in trained), None):
            raise ValueError(f"the judge {seen!r} is one of the rewards: choose one that is not trained on")
        if self.atoms:
            read_questions(self.atoms)
            if not any(part.name == "atoms" and not is_url(part.model) for part in self.parts):
                raise ValueError(f"{self.atoms} has questions of atoms, and neither rewards nor judge name it: add it")

    @property
    def preset(self) -> Preset:
        """The rewards' spec and which of them are relative: a preset's, or as they are given."""
        return PRESETS.get(self.rewards, Preset(self.rewards, self.relative))

    @property
    def parts(self) -> list[SpecPart]:
        """All that pictures are scored by, judges last."""
        return parse_spec(self.preset.rewards) + self._judges

    @property
    def own_functions(self) -> list[str]:
        """Which of the rewards are functions of the user's own."""
        return [part.name for part in self.parts if ":" in part.name]

    @property
    def _judges(self) -> list[SpecPart]:
        return parse_spec(self.judge) if self.judge else []


def build_reward(
    arguments: RewardArguments, device: str | None = None, window: WindowLike = CLIP_WINDOW
) -> "PromptReward":
    """The reward that `arguments` describe, its models on `device` (by default the accelerator if there is one).

    `window` is that of the policy that is rewarded, as of `PromptReward`.
    """
    spec, relative = arguments.preset
    spec = f"{spec},{arguments.judge}" if arguments.judge else spec
    rewards = load_rewards(
        spec,
        model=arguments.reward_model,
        device=device,
        dtype=arguments.reward_dtype,
        atoms=arguments.atoms,
    )
    judges = [component.reward.name for component in rewards.components[len(parse_spec(arguments.preset.rewards)) :]]
    name, config = read_generator(arguments.generator)
    return PromptReward(
        ImageGenerator.from_pretrained(name, device=device, config=config),
        rewards,
        relative=relative,
        judges=judges,
        images_per_prompt=arguments.images_per_prompt,
        flagged_reward=arguments.flagged_reward,
        score_cache=arguments.score_cache,
        window=window,
        fresh_seeds=arguments.fresh_seeds,
    )


class Term(NamedTuple):
    """How a component counts: its part of the equation at the head of this file.

    Attributes:
        weight: w_c; 0 measures only, and what is not finite does not count either.
        cap: cap_c, or None; ``plain`` for the score of the original's picture with the same seed.
        relative: Whether the base is the original prompt's score.
        scale: σ_c.
    """

    weight: float
    cap: Cap = None
    relative: bool = False
    scale: float = 1.0

    def gain(self, scores: np.ndarray, plain: np.ndarray, plain_flagged: np.ndarray) -> np.ndarray:
        """What pictures are worth by this component.

        Args:
            scores: Raw. (…, seeds)
            plain: Those of the original prompts' pictures, read where they are the base. (…, seeds)
            plain_flagged: Which of the originals' pictures are flagged: they say nothing. An original of which all are
                is nothing to compare with: its rewrites gain and lose nothing.

        Returns:
            NaN for a picture without a finite score, or with none to compare it with (see `known_mean`). (…, seeds)
        """
        if not self.weight:
            return np.zeros_like(scores)
        cap = np.inf if self.cap in (None, PLAIN) else self.cap
        capped = np.where(np.isfinite(scores), np.minimum(scores, cap), np.nan)
        if not self.compares:
            return self.weight / self.scale * (capped - (0.0 if self.cap is None else cap))
        known = np.where(~plain_flagged & np.isfinite(plain), np.minimum(plain, cap), np.nan)
        base = known_mean(known)[..., None]
        if self.cap == PLAIN:
            gain = np.minimum(capped - np.where(np.isnan(known), base, known), 0.0)
        else:
            gain = capped - base
        return np.where(plain_flagged.all(-1, keepdims=True), 0.0, self.weight / self.scale * gain)

    @property
    def compares(self) -> bool:
        """Whether pictures are compared with the original prompt's."""
        return self.relative or self.cap == PLAIN


def known_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is finite; NaN where nothing is. (…, seeds) to (…)

    This is the rule for scores that are not finite, wherever scores are read: such a score is none. The other pictures
    of a prompt stand in for it, and a prompt without any has no reward, NaN: an evaluation leaves it out of the
    method's numbers, a search does not choose it, and PPO skips the batch.
    """
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(-1) / known.sum(-1)


def combined(
    terms: Mapping[str, Term],
    scores: Mapping[str, np.ndarray],
    flagged: np.ndarray,
    plain: Mapping[str, np.ndarray] | None,
    plain_flagged: np.ndarray | None,
    flagged_reward: float,
) -> np.ndarray:
    """What pictures are worth: the equation at the head of this file, picture by picture. (…, seeds)

    A flagged picture, which is black, is worth `flagged_reward` more (it is negative: less) than the original prompt's
    pictures are. These are worth 0 by relative components; by the others their own mean, so that being flagged costs
    about the same, whether the reward is a gain of 1 or a PickScore of 20. Where no picture of the original is known,
    the mean of all pictures that are not flagged stands in for them. A picture without a finite score of a component
    that counts is worth NaN (see `known_mean`).

    Args:
        terms: How each component counts, by name.
        scores, flagged: Of the pictures, raw. (…, seeds)
        plain, plain_flagged: Of the original prompts' pictures with the same seeds, in a shape that spreads over
            these; None where they are not known and nothing is relative.
        flagged_reward: In the unit of the reward.
    """
    against, against_flagged = (scores, flagged) if plain is None else (plain, plain_flagged)
    total = np.zeros(flagged.shape)
    for name, term in terms.items():
        total = total + term.gain(scores[name], against[name], against_flagged)
    if not flagged.any():
        return total
    base = np.zeros(against_flagged.shape)
    for name, term in terms.items():
        if not term.compares:
            base = base + term.gain(against[name], against[name], against_flagged)
    base = known_mean(np.where(against_flagged, np.nan, base))[..., None]
    others = total[~flagged & np.isfinite(total)]
    elsewhere = others.mean() if len(others) and not all(term.compares for term in terms.values()) else 0.0
    return np.where(flagged, np.where(np.isfinite(base), base, elsewhere) + flagged_reward, total)


def read_terms(settings: Mapping[str, Any]) -> dict[str, Term]:
    """How each component counts, by name, from what `PromptReward.settings` gave."""
    return {name: Term(*(row[field] for field in Term._fields)) for name, row in settings["rewards"].items()}


class DrawingError(OSError):
    """A prompt that the generator or a reward fails on; the message names it."""


@dataclass(frozen=True)
class Measured:
    """Pictures of n prompts and what each reward says of them.

    Attributes:
        scores: By component, raw, each of shape (n,). Not finite where a reward was not.
        flagged: Whether the safety checker flagged the picture. (n,)
        seconds: Time spent in "draw" and in "score".
        images: Pictures drawn; prompts that were known or came twice need none.
        answers: By each `Atoms` among the rewards the soft scores of the prompt's questions, for each picture that was
            drawn now; None for the others. (n,)
    """

    scores: dict[str, np.ndarray]
    flagged: np.ndarray
    seconds: dict[str, float]
    images: int
    answers: dict[str, list[list[float] | None]] = field(default_factory=dict)


class PromptReward:
    """Prompts and their completions to one float each.

    Args:
        generator: Draws the pictures.
        rewards: Scores them.
        relative: Which components count as improvements over the original: "all", "none", or names with commas.
        judges: Names of components that are measured and not counted, whatever their weight.
        images_per_prompt: Seeds per prompt. They belong to the original prompt (and `seed`), so that the original and
            all its rewrites are drawn with the same ones.
        flagged_reward: Worth of a flagged picture beside the original's, in the unit of the reward.
        score_cache: File for the scores of original prompts (SQLite), which processes and runs may share; None
            keeps them in memory.
        eos_token_id: Where set, a completion whose ids do not end with it was cut off, and its last modifier, which
            may be half a one, goes, as at inference.
        window: What a rewritten prompt must fit: a `prompts.Window`, or a number of CLIP tokens, None for any.
        seed: Another seed, other pictures.
        fresh_seeds: Whether `__call__` draws each `visit` of a prompt with other seeds.

    Attributes:
        last: Of the last call: the mean of each component (``pickscore``) and of the originals' (``plain/pickscore``),
            what judges gain over the originals' pictures (``judge/clip``), ``flagged``, ``images``, ``images_per_s``,
            ``seconds/draw``, ``seconds/score``.
    """

    __name__ = "prompt_reward"

    def __init__(
        self,
        generator: ImageGenerator,
        rewards: RewardSet,
        *,
        relative: str = "all",
        judges: Iterable[str] = (),
        images_per_prompt: int = 2,
        flagged_reward: float = -2.0,
        score_cache: str | Path | None = None,
        eos_token_id: int | None = None,
        window: WindowLike = CLIP_WINDOW,
        seed: int = 0,
        fresh_seeds: bool = False,
    ):
        self.generator, self.rewards = generator, rewards
        self.scales = dict.fromkeys((c.reward.name for c in rewards.components), 1.0)
        self._known = _ScoreCache(score_cache)
        self._configure(relative, judges, images_per_prompt, flagged_reward, eos_token_id, window, seed, fresh_seeds)

    def _configure(
        self,
        relative: str | Iterable[str],
        judges: Iterable[str],
        images_per_prompt: int,
        flagged_reward: float,
        eos_token_id: int | None,
        window: WindowLike,
        seed: int,
        fresh_seeds: bool,
    ) -> None:
        if images_per_prompt < 1:
            raise ValueError(f"images_per_prompt is {images_per_prompt}: it must be at least 1")
        names = [c.reward.name for c in self.rewards.components]
        if isinstance(relative, str):
            relative = {"all": names, "none": []}.get(relative, [name.strip() for name in relative.split(",")])
        for what, named in (("relative", relative := list(relative)), ("judges", judges := list(judges))):
            if unknown := [name for name in named if name not in names]:
                raise ValueError(f"{what} names {unknown[0]!r}, which is no component: there are {', '.join(names)}")
        self.relative, self.judges = frozenset(relative), frozenset(judges)
        self.images_per_prompt, self.flagged_reward = images_per_prompt, flagged_reward
        self.eos_token_id, self.window, self.seed, self.fresh_seeds = eos_token_id, window, seed, fresh_seeds
        self.last: dict[str, float] = {}

    def replace(self, **settings: Any) -> "PromptReward":
        """The same reward over the same models, cache and units, with other settings: the class', but `score_cache`.

        Raises:
            ValueError: A setting is out of range.
        """
        other = copy.copy(self)
        own = {name: getattr(self, name) for name in inspect.signature(self._configure).parameters}
        other._configure(**own | settings)
        other.scales = dict(self.scales)
        return other

    def settings(self) -> dict[str, Any]:
        """Everything that a picture's scores and worth depend on besides its texts, as JSON types."""
        return {
            "rewards": {
                c.reward.name: self.terms[c.reward.name]._asdict() | {"fingerprint": c.reward.fingerprint}
                for c in self.rewards.components
            },
            "generator": {
                "name": self.generator.name,
                "fingerprint": self.generator.fingerprint,
                "config": asdict(self.generator.config),
            },
            "images_per_prompt": self.images_per_prompt,
            "seed": self.seed,
            "window": Window.of(self.window).setting,
            "flagged_reward": self.flagged_reward,
        }

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        texts: Sequence[str] | None = None,
        visit: Sequence[int] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns,
    ) -> list[float]:
        """Rewards of the rewrites that `completions` make of `prompts`; the signature of TRL's reward functions.

        Args:
            prompts: Original prompts; their words are what pictures are scored against.
            completions: What the policy wrote after each.
            completion_ids: Its tokens, with the end token where the policy ended (see `eos_token_id`).
            texts: The rewritten prompts themselves, of a policy that does not continue the prompt
                (`neuroprompt.ppo.answers.OfAnswers`); by default `completions` make them.
            visit: Which visit of its prompt each row is of, all of one call the same; None in an evaluation. With
                `fresh_seeds` each visit has seeds of its own.
            log_metric: Gets each entry of `last`.
            columns: The dataset's other columns, which this reward does not read.

        Raises:
            DrawingError: A prompt cannot be drawn or scored.
        """
        texts = texts or self.texts(prompts, completions, completion_ids)
        if not (self.fresh_seeds and visit):
            return self.score(prompts, texts, log_metric).tolist()
        digest = blake2b(f"{self.seed} visit {visit[0]}".encode(), digest_size=6).digest()
        of_visit = self.replace(seed=int.from_bytes(digest, "big"))
        rewards = of_visit.score(prompts, texts, log_metric).tolist()
        self.last = of_visit.last
        return rewards

    def texts(
        self, prompts: Sequence[str], completions: Sequence[str], completion_ids: Sequence[Sequence[int]] | None = None
    ) -> list[str]:
        """The rewritten prompts, as a user would get them; see `__call__`."""
        ended = [True] * len(prompts)
        if completion_ids is not None and self.eos_token_id is not None:
            ended = [len(ids) > 0 and int(ids[-1]) == self.eos_token_id for ids in completion_ids]
        return [
            finish(prompt, completion, end, self.window)[0]
            for prompt, completion, end in zip(prompts, completions, ended, strict=True)
        ]

    def score(
        self,
        originals: Sequence[str],
        texts: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        negatives: Sequence[str | None] | None = None,
    ) -> np.ndarray:
        """Rewards of whole rewritten prompts, (n,): what `__call__` gives for completions. NaN where none is known.

        `negatives` are those of the rewrites; the originals are drawn without.
        """
        n, k = len(texts), self.images_per_prompt
        if not n:
            return np.zeros(0)
        # The originals are drawn in the same batches as the rewrites.
        plain = list(dict.fromkeys(originals)) if self.compared else []
        everything = [*zip(texts, originals, negatives or [None] * n, strict=True), *((p, p, None) for p in plain)]
        jobs = [(text, original, s, without) for text, original, without in everything for s in self.seeds(original)]
        measured = self.measure(*zip(*jobs, strict=True))
        scores = {name: own.reshape(-1, k) for name, own in measured.scores.items()}  # (rewrites and originals, seeds)
        flagged = measured.flagged.reshape(-1, k)
        own = {name: values[:n] for name, values in scores.items()}
        known, known_flagged = None, None
        if plain:
            place = {prompt: n + i for i, prompt in enumerate(plain)}
            rows = [place[original] for original in originals]
            known, known_flagged = {name: values[rows] for name, values in scores.items()}, flagged[rows]
        elif flagged.any():
            known, known_flagged, more = self._originals_of(originals, flagged.any(1))
            seconds = {phase: spent + more.seconds[phase] for phase, spent in measured.seconds.items()}
            measured = replace(measured, seconds=seconds, images=measured.images + more.images)
        total = combined(self.terms, own, flagged[:n], known, known_flagged, self.flagged_reward)
        self.last = {}
        for name in self.terms:
            self.last[name] = float(known_mean(own[name].ravel()))
            if plain:
                self.last[f"plain/{name}"] = float(known_mean(scores[name][n:].ravel()))
            if name in self.judges:
                gains = np.where(flagged[:n] | known_flagged, np.nan, own[name] - known[name])
                self.last[f"judge/{name}"] = float(known_mean(gains.ravel()))
        self.last |= {f"seconds/{phase}": seconds for phase, seconds in measured.seconds.items()}
        self.last |= {
            "flagged": float(flagged[:n].mean()),
            "images": float(measured.images),
            "images_per_s": measured.images / max(1e-9, sum(measured.seconds.values())),
        }
        if log_metric:
            for name, value in self.last.items():
                log_metric(name, value)
        return known_mean(total)

    def _originals_of(
        self, originals: Sequence[str], wanted: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, Measured]:
        """Scores and flags of the `wanted` (n,) originals' own pictures, (n, seeds); the others count as flagged."""
        k = self.images_per_prompt
        plain = list(dict.fromkeys(original for original, want in zip(originals, wanted, strict=True) if want))
        texts = [prompt for prompt in plain for _ in range(k)]
        measured = self.measure(texts, texts, [seed for prompt in plain for seed in self.seeds(prompt)])
        place = {prompt: i for i, prompt in enumerate(plain)}
        rows = [place.get(original, len(plain)) for original in originals]

        def spread(values: np.ndarray, missing) -> np.ndarray:
            return np.vstack([values.reshape(-1, k), np.full((1, k), missing)])[rows]

        scores = {name: spread(values, 0.0) for name, values in measured.scores.items()}
        return scores, spread(measured.flagged, True), measured

    @property
    def terms(self) -> dict[str, Term]:
        """How each component counts, by name; judges do not."""
        return {
            (name := c.reward.name): Term(
                0.0 if name in self.judges else c.weight, c.cap, name in self.relative, self.scales[name]
            )
            for c in self.rewards.components
        }

    @property
    def compared(self) -> list[str]:
        """The components by which pictures are compared with the original prompt's."""
        return [name for name, term in self.terms.items() if term.compares or name in self.judges]

    def calibrate(self, prompts: Sequence[str]) -> dict[str, float]:
        """Make the standard deviation of each component over pictures of these plain prompts its unit.

        Their scores go to the cache, so that a resumed run finds the same units at once.

        Raises:
            ValueError: A component says the same of every picture.
        """
        prompts = list(dict.fromkeys(prompts))
        k = self.images_per_prompt
        texts = [p for p in prompts for _ in range(k)]
        measured = self.measure(texts, texts, [s for p in prompts for s in self.seeds(p)])
        for name, scores in measured.scores.items():
            known = scores[~measured.flagged & np.isfinite(scores)]
            spread = float(known.std()) if len(known) else 0.0
            if not spread > 0:
                raise ValueError(f"{name} scores all of {len(known)} plain pictures alike: it cannot be calibrated")
            self.scales[name] = spread
        return dict(self.scales)

    def seeds(self, original: str) -> list[int]:
        """The seeds that a prompt and all its rewrites are drawn with."""
        digest = blake2b(f"{self.seed}:{original}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
        first = int.from_bytes(digest, "big") >> 1
        return [(first + i) % 2**31 for i in range(self.images_per_prompt)]

    def measure(
        self,
        texts: Sequence[str],
        originals: Sequence[str],
        seeds: Sequence[int],
        negatives: Sequence[str | None] | None = None,
        on_image: Callable[[int, Tensor], None] | None = None,
        use_cache: bool = True,
    ) -> Measured:
        """Draw each text with its seed and score the picture against its original.

        Pictures live for a batch only, so that memory does not grow with n.

        Args:
            texts, originals, seeds: n of each.
            negatives: A negative prompt for each, or None (see `ImageGenerator.draw`).
            on_image: Gets each index and its picture, (3, H, W) on the device; all of them are drawn then.
            use_cache: Leave out pictures of original prompts whose scores are known. Without, what is drawn beside what
                does not depend on what was drawn before, and so neither do the last bits of its scores.

        Raises:
            DrawingError: A prompt cannot be drawn or scored, not even by itself.
            Unavailable: The generator is behind URLs, and none of its servers answers any more.
        """
        jobs = list(zip(texts, originals, seeds, negatives or [None] * len(texts), strict=True))
        distinct = list(dict.fromkeys(jobs))
        names = [c.reward.name for c in self.rewards.components]
        keys = [
            self._key(text, original, seed) if text == original and negative is None else None
            for text, original, seed, negative in distinct
        ]
        # A row is the score by each component, then whether the picture is flagged; NaN there if not drawn yet.
        table = np.full((len(distinct), len(names) + 1), np.nan)
        if use_cache and on_image is None:
            self._known.read(keys, table)
        todo = np.flatnonzero(np.isnan(table[:, -1])).tolist()
        seconds = {"draw": 0.0, "score": 0.0}
        answered: dict[str, dict[int, list[float]]] = {}  # by reward and row

        def make(part: list[int]) -> None:
            try:
                began = time.perf_counter()
                texts, originals, seeds, negatives = zip(*(distinct[i] for i in part), strict=True)
                images, flagged = self.generator.draw(list(texts), list(seeds), list(negatives))
                synchronize(images.device)
                drawn = time.perf_counter()
                answers: dict[str, Answers] = {}
                scores = self.rewards(list(originals), images, list(texts), answers)
                columns = [*(scores[name].double() for name in names), flagged.double()]
                table[part] = torch.stack(columns, 1).cpu().numpy()
                seconds["draw"] += drawn - began
                seconds["score"] += time.perf_counter() - drawn
            except Unavailable:  # whatever the prompt
                raise
            except Exception as error:
                # Halves, down to the prompt that is at fault: the error can name it.
                if len(part) == 1:
                    text, _, seed, _ = distinct[part[0]]
                    raise DrawingError(
                        f"{text[:80]!r} with seed {seed} cannot be drawn or scored: {type(error).__name__}: {error}"
                    ) from error
                make(part[: len(part) // 2])
                make(part[len(part) // 2 :])
                return
            for name, own in answers.items():
                soft = ([score for _, score in pairs] for pairs in own)
                answered.setdefault(name, {}).update(zip(part, soft, strict=True))
            self._known.write([keys[i] for i in part], table[part])
            if on_image:
                drawn_as = {distinct[i]: image for i, image in zip(part, images, strict=True)}
                for i, job in enumerate(jobs):
                    if job in drawn_as:
                        on_image(i, drawn_as[job])

        size = self.generator.config.batch_size
        for start in range(0, len(todo), size):
            make(todo[start : start + size])
        row = {job: i for i, job in enumerate(distinct)}
        table = table[[row[job] for job in jobs]]
        scores = {name: table[:, c] for c, name in enumerate(names)}
        answers = {name: [own.get(row[job]) for job in jobs] for name, own in answered.items()}
        return Measured(scores, table[:, -1] > 0, seconds, images=len(todo), answers=answers)

    def _key(self, text: str, original: str, seed: int) -> str:
        """Names a picture and its scores by everything that they depend on."""
        parts = [self.generator.fingerprint, *(c.reward.fingerprint for c in self.rewards.components)]
        parts += [text, original, str(seed)]
        return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


class _ScoreCache:
    """Rows of numbers by key, in an SQLite file that processes may share, or in memory."""

    def __init__(self, path: str | Path | None):
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"there is no folder {Path(path).parent} for the score cache")
        self._database = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, row BLOB) WITHOUT ROWID")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no score cache ({error}): give another file, or remove it") from error

    def read(self, keys: Sequence[str | None], table: np.ndarray) -> None:
        """Fill the rows of `table` (float64) whose keys are known."""
        for i, key in enumerate(keys):
            if key is not None:
                found = self._database.execute("SELECT row FROM scores WHERE key = ?", (key,)).fetchone()
                if found and len(found[0]) == table[i].nbytes:
                    table[i] = np.frombuffer(found[0], np.float64)

    def write(self, keys: Sequence[str | None], table: np.ndarray) -> None:
        rows = [(k, r.tobytes()) for k, r in zip(keys, table, strict=True) if k is not None and np.isfinite(r).all()]
        with self._database:  # one transaction: all or nothing
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)
