"""A critic that reads what the image generator reads, for a policy whose own states say nothing of pictures.

What a picture gains is told by the words that are drawn, and how these are drawn is told by the vectors that the
generator's text encoder makes of them. Of a rewrite that is being written these are the vectors of its beginnings
(`images.encoder`), one for each state in which a token is chosen. What is expected from there on is learnt from the
returns, as a reward model of texts learns gains (`reward_model`): in steps of its own, from rollouts of several
iterations, and not by the policy's optimizer.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.ppo.actor import Written
from neuroprompt.prompts import SEPARATORS
from neuroprompt.reward_model import Examples, RewardModel, RewardModelConfig

FOLDER = "critic"
"""What its folder in a checkpoint is called."""


class GeneratorCritic:
    """Values of the states of rewrites that continue their prompts.

    Args:
        encoder: The image generator's.
        tokenizer: The policy's.
        vocab_size: The policy's.
        seed: Of how it begins.
    """

    def __init__(self, encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase, vocab_size: int, seed: int = 0):
        self.encoder, self.seed = encoder, seed
        texts = tokenizer.batch_decode(
            [[i] for i in range(vocab_size)], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self.characters = torch.tensor([len(text) for text in texts], device=encoder.device)
        self.model = self._new()

    def _new(self) -> RewardModel:
        return RewardModel(self.encoder, RewardModelConfig(seed=self.seed, **_LEARNING))

    def read(self, prompts: Sequence[str], written: Written) -> tuple[Tensor, Tensor]:
        """What the generator reads of the prompts, and of what stands before each token is chosen.

        Returns:
            (rows, width) and, zeros where no token is, (rows, length, width); in half precision.
        """
        heads = [prompt.rstrip(SEPARATORS) for prompt in prompts]
        mask = written.mask.bool().to(self.encoder.device)
        after = (self.characters[written.ids.to(mask.device)] * mask).cumsum(1)
        before = (after - self.characters[written.ids.to(mask.device)]).tolist()
        counts = mask.sum(1).tolist()
        ends = [[len(head) + n for n in row[:count]] for head, row, count in zip(heads, before, counts, strict=True)]
        texts = [head + text for head, text in zip(heads, written.texts, strict=True)]
        vectors = self.encoder.encode_prefixes(texts, ends)
        states = torch.zeros((*mask.shape, self.encoder.width), dtype=torch.float16, device=mask.device)
        states[mask] = vectors.half()
        return self.encoder.encode(heads).half(), states

    def values(self, plain: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """What is expected from each state on, 0 where no token is and before anything is learnt: (rows, length).

        Args:
            plain, states: As `read` gives them.
            mask: (rows, length)
        """
        values = torch.zeros(mask.shape, device=states.device)
        if self.model.facts["steps"]:
            there = mask.bool().to(states.device)
            values[there] = self.model.judge(*_rows(plain, states, there)).gain
        return values.to(mask.device)

    def learn(self, prompts: list[str], plain: Tensor, states: Tensor, mask: Tensor, returns: Tensor) -> None:
        """Learn on from an iteration's returns, (rows, length)."""
        there = mask.bool().to(states.device)
        gain = returns.to(states.device)[there]
        of = [prompt for prompt, tokens in zip(prompts, mask.sum(1).tolist(), strict=True) for _ in range(tokens)]
        self.model.update(Examples(of, *_rows(plain, states, there), gain, torch.ones_like(gain)))

    def save(self, checkpoint: Path) -> None:
        """Into a folder of its own there, so that `load` goes on exactly."""
        self.model.save(checkpoint / FOLDER, resumable=True)

    def load(self, checkpoint: Path) -> None:
        """What `save` wrote.

        Raises:
            ModelError: It is not there, or of another generator.
        """
        self.model = RewardModel.load(checkpoint / FOLDER, self.encoder)


def _rows(plain: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token its prompt's vector and its state's: (tokens, width) each."""
    row = mask.nonzero()[:, 0]
    return plain.float()[row], states[mask].float()


_LEARNING = {"members": 2, "batch_size": 1024, "update_steps": 48, "replay": 40_000}
