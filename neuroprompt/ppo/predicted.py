"""`PredictedReward`: only some pictures are drawn, and a reward model of texts says of the others.

Pictures are nearly all that learning by rewards costs. Each that is drawn teaches the model (`reward_model`) what
rewrites gain, and of a prompt's rewrites those are drawn that it is least sure of. The others are worth

    expected gain + mean over the prompt's drawn rewrites of (gain − expected gain)

since what the prompt and the seed make of any picture, which no text tells, is the same for all of them. (With
`completions_per_prompt` it is taken off again; it must only be the same for what was drawn and what was not.)
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object

from neuroprompt.ppo.reward_functions import unwrapped
from neuroprompt.reward_model import FOLDER, RewardModel, Row
from neuroprompt.scoring import PromptReward


class PredictedReward:
    """A reward function, as `PromptReward` is one, that learns what rewrites gain from all that it draws.

    It is the same on every process: each draws of its own rows, and all learn from everybody's.

    Args:
        function: Draws and scores.
        model: Learns, and says of what is not drawn. Before it has learnt anything everything is drawn.
        draw_fraction: The share of a prompt's rewrites that is drawn, one at least.

    Raises:
        ValueError: The share is not above 0 and at most 1.
    """

    __name__ = "prompt_reward"

    def __init__(self, function: PromptReward, model: RewardModel, draw_fraction: float = 1.0):
        if not 0 < draw_fraction <= 1:
            raise ValueError(f"draw_fraction is {draw_fraction}: give a share above 0 and at most 1")
        self.function, self.model, self.draw_fraction = function, model, draw_fraction

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        texts: Sequence[str] | None = None,
        visit: Sequence[int] | None = None,
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **columns,
    ) -> list[float]:
        """Rewards as of `PromptReward`. Without a `visit`, in an evaluation, all are drawn and nothing is learnt."""
        if visit is None:
            return self.function(prompts, completions, completion_ids, texts, log_metric=log_metric)
        texts = texts or self.function.texts(prompts, completions, completion_ids)
        expected, drawn = np.zeros(len(texts)), np.ones(len(texts), bool)
        if self.model.facts["steps"]:
            said = self.model.predict(prompts, texts)
            expected = said.gain.double().cpu().numpy()
            drawn = chosen(prompts, texts, said.error.cpu().numpy(), self.draw_fraction)
        rows = np.flatnonzero(drawn).tolist()
        own = [prompts[i] for i in rows], [texts[i] for i in rows]
        gains = np.full(len(texts), np.nan)
        gains[drawn] = self.function(own[0], [""] * len(rows), texts=own[1], visit=visit, log_metric=log_metric)
        k = self.function.images_per_prompt
        known = [(*row, gain, k) for *row, gain in zip(*own, gains[drawn].tolist(), strict=True) if np.isfinite(gain)]
        for name, value in self.model.update([Row(*row) for row in gather_object(known)]).items():
            if name in _LOGGED:
                log_metric(f"predicted/{name}", value)
        log_metric("drawn", float(drawn.mean()))
        for group in _of_prompts(prompts):
            fault = (gains - expected)[group][drawn[group]]
            fault = fault[np.isfinite(fault)].mean() if np.isfinite(fault).any() else np.nan
            gains[group] = np.where(drawn[group], gains[group], expected[group] + fault)
        return gains.tolist()

    def save(self, folder: Path, *, resumable: bool) -> None:
        """The model, into a folder of its own there."""
        self.model.save(folder / FOLDER, resumable=resumable)

    def load(self, folder: Path) -> None:
        """What `save` wrote.

        Raises:
            ModelError: It is not there, or of another generator.
        """
        self.model = RewardModel.load(folder / FOLDER, self.model.encoder)


def learning(functions: Sequence[Callable]) -> Iterator[PredictedReward]:
    """Those of the reward functions that learn, also within others (`answers.OfAnswers`)."""
    for function in functions:
        yield from (inner for inner in unwrapped(function) if isinstance(inner, PredictedReward))


def chosen(prompts: Sequence[str], texts: Sequence[str], error: np.ndarray, fraction: float) -> np.ndarray:
    """Which rewrites are drawn: of each prompt's different ones the share that the model is least sure of, (n,)."""
    drawn = np.zeros(len(texts), bool)
    for group in _of_prompts(prompts):
        first: dict[str, int] = {}
        for i in group:
            first.setdefault(texts[i], i)  # the same text has the same picture
        order = sorted(first, key=lambda text: -error[first[text]])
        taken = set(order[: max(1, round(fraction * len(group)))])
        drawn[[i for i in group if texts[i] in taken]] = True
    return drawn


def _of_prompts(prompts: Sequence[str]) -> list[list[int]]:
    """The rows of each prompt."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[prompt].append(i)
    return list(groups.values())


_LOGGED = ("explained_variance", "within_prompt_r", "coverage_90")
