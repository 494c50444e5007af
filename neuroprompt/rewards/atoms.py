"""Atoms: what a prompt says, asked of a picture thing by thing; Soft-TIFA with DSG's dependencies.

Each question of a prompt (see `neuroprompt.questions`) has a soft score, the probability that the model gives to the
answer that is wanted. The reward is their arithmetic mean, the estimate of GenEval 2's Soft-TIFA for atoms, or their
geometric mean, its estimate for whole prompts (Kamath et al. 2025, arXiv 2512.16853). What waits for a question that is
not answered as wanted (below 0.5) counts 0, and what waits for that likewise, as in Davidsonian Scene Graph (Cho et al.
2024, arXiv 2310.18235), whose scores are 0 and 1.

A probability of "yes" is `VisionLanguage.yes`; of another answer ("four" to "How many …?"), the probability of its
words, the geometric mean of its tokens'. GenEval 2 itself sums over the spellings of the first token ("Four", "4").
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from neuroprompt import __version__
from neuroprompt.questions import Question, prune, read_questions, rules

from .encoders import Encoders
from .loading import fingerprint
from .preprocessing import check_batch
from .vision_language import BATCH, VisionLanguage
from .vqa import MODEL

LEAST = 1e-6
"""What a score counts in the geometric mean at least, so that one pruned question does not hide all others."""

Answers = list[list[tuple[Question, float]]]
"""For each picture its prompt's questions, each with its soft score."""
Mean = Literal["arithmetic", "geometric"]


class Atoms:
    """The mean over a prompt's questions.

    Args:
        model: Answers.
        known: Questions by prompt; a prompt that is not among them has those of `rules`.
        mean: Over the soft scores.

    Attributes:
        name: ``atoms``.
    """

    def __init__(
        self, model: VisionLanguage, known: Mapping[str, Sequence[Question]] | None = None, mean: Mean = "arithmetic"
    ):
        self.name = "atoms"
        self.model, self.known, self.mean = model, dict(known or {}), mean

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model, the mean and the known questions; and the version, with which those of rules change."""
        known = sorted(self.known.items())
        return fingerprint(nn.Module(), "atoms", self.mean, known, __version__, self.model.fingerprint)

    def questions(self, prompt: str) -> tuple[Question, ...]:
        """What is asked about a prompt."""
        return tuple(self.known.get(prompt.strip()) or rules(prompt))

    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] for a prompt each.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        return self.score(self.answers(prompts, images))

    def answers(self, prompts: Sequence[str], images: Tensor) -> Answers:
        """For each picture its prompt's questions, each with its soft score: pruned, see the head of this file.

        Raises:
            ValueError: As `__call__`.
        """
        check_batch(prompts, images)
        asked = [self.questions(prompt) for prompt in prompts]
        places = [place for place, own in enumerate(asked) for _ in own]
        scores = iter(self._probabilities(images, places, [question for own in asked for question in own]).tolist())
        return [list(zip(own, prune(own, [next(scores) for _ in own]), strict=True)) for own in asked]

    def score(self, answers: Answers) -> Tensor:
        """Scores (n,), float32, of what `answers` gave."""
        means = []
        for own in answers:
            scores = torch.tensor([score for _, score in own], dtype=torch.float64)
            means.append(scores.clamp_min(LEAST).log().mean().exp() if self.mean == "geometric" else scores.mean())
        return torch.tensor(means, dtype=torch.float32, device=self.model.device)

    def _probabilities(self, images: Tensor, places: Sequence[int], questions: Sequence[Question]) -> Tensor:
        """That of each question's wanted answer, of the picture at its place. (m,)"""
        wanted = torch.zeros(len(questions), device=self.model.device)
        for ask, said in ((self._said, True), (self._spoken, False)):
            chosen = [i for i, question in enumerate(questions) if (question.answer in ("yes", "no")) == said]
            for start in range(0, len(chosen), BATCH):  # no more copies of pictures at once than the model reads
                part = chosen[start : start + BATCH]
                wanted[part] = ask(images[[places[i] for i in part]], [questions[i] for i in part])
        return wanted

    def _said(self, images: Tensor, questions: Sequence[Question]) -> Tensor:
        """Of questions that want yes or no."""
        yes = self.model.yes(images, [f"{question.text} Please answer yes or no." for question in questions])
        denied = torch.tensor([question.answer == "no" for question in questions], device=yes.device)
        return torch.where(denied, 1 - yes, yes)

    def _spoken(self, images: Tensor, questions: Sequence[Question]) -> Tensor:
        """Of questions that want another answer."""
        asked = [f"{question.text} Answer in one word." for question in questions]
        return self.model.likelihood(images, asked, [question.answer for question in questions]).exp()


def load(
    model: str | Path | None, encoders: Encoders, questions: str | Path | None = None, mean: Mean = "arithmetic"
) -> Atoms:
    """Load the reward.

    Args:
        model: ``embedded``, or a folder or hub id of a vision-language model; that of `vqa` by default.
        questions: A question file (see `questions.files`); by default all questions are those of rules.
        mean: ``arithmetic`` or ``geometric``.

    Raises:
        ValueError: There is no such mean, or the file is no question file.
        ModelError: The model cannot be loaded, or has no token that says yes.
    """
    if mean not in ("arithmetic", "geometric"):
        raise ValueError(f"there is no mean {mean!r}: choose arithmetic or geometric")
    known = read_questions(questions) if questions else None  # which is read before a model is loaded
    reward = Atoms(encoders.vision_language(model or MODEL), known, mean)
    reward.model.yes_tokens  # noqa: B018, a model without one is refused before anything is drawn
    return reward
