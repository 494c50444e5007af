"""PromptEcho (arXiv 2604.12652): how probable the prompt is as a description of the picture.

The mean log-probability, in nats, of the prompt's tokens as a vision-language model's answer to "Describe this image in
detail.": below 0, and the nearer the better the picture tells the prompt. It depends on the prompt's wording, too, so
compare pictures of the same prompt, or gains over the plain prompt's pictures. The model is that of `vqa` by default,
and held once for both.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .encoders import Encoders
from .vision_language import AskingReward
from .vqa import MODEL

INSTRUCTION = "Describe this image in detail."


class PromptEcho(AskingReward):
    """The mean log P(token | picture, instruction, the tokens before it) of the prompt."""

    name = "echo"

    def __call__(self, prompts: Sequence[str], images: Tensor) -> Tensor:
        """Scores (n,), float32, of pictures (n, 3, H, W) in [0, 1] for a prompt each; an empty prompt's is NaN.

        Raises:
            ValueError: The shapes or values are not those (see `check_batch`).
        """
        return self.model.likelihood(images, [self.template] * len(prompts), prompts)


def load(model: str | Path | None, encoders: Encoders, template: str = INSTRUCTION) -> PromptEcho:
    """Load PromptEcho.

    Args:
        model: ``embedded``, or a folder or hub id of a vision-language model.
        template: What is asked for, and the prompt is the answer to.

    Raises:
        ModelError: The model cannot be loaded.
    """
    return PromptEcho(encoders.vision_language(model or MODEL), template)
