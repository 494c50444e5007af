"""VQAScore (Lin et al. 2024, arXiv 2404.01291): how probable it is that a model says yes when asked whether a picture
shows the prompt.

A probability, 0 to 1. The question is the authors' own; the model is any vision-language model, by default one of today
that a GPU of 24 GB holds beside a generator, so compare the numbers with those of the same model only.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .encoders import Encoders
from .vision_language import AskingReward

MODEL = "Qwen/Qwen3-VL-4B-Instruct"
TEMPLATE = 'Does this figure show "{prompt}"? Please answer yes or no.'


class VqaScore(AskingReward):
    """P("yes" | picture, question)."""

    name = "vqa"

    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] for a prompt each.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        return self.model.yes(images, [self.template.replace("{prompt}", prompt) for prompt in prompts])


def load(model: str | Path | None, encoders: Encoders, template: str = TEMPLATE) -> VqaScore:
    """Load VQAScore.

    Args:
        model: ``embedded``, or a folder or hub id of a vision-language model.
        template: What is asked, with ``{prompt}`` where the prompt goes.

    Raises:
        ValueError: The template has no place for the prompt.
        ModelError: The model cannot be loaded, or has no token that says yes.
    """
    if "{prompt}" not in template:
        raise ValueError(f"the template {template!r} has no {{prompt}}: write it where the prompt goes")
    reward = VqaScore(encoders.vision_language(model or MODEL), template)
    reward.model.yes_tokens  # noqa: B018, a model without one is refused before anything is drawn
    return reward
