"""A critic that foresees pictures, for a policy whose own states say nothing of them.

What a picture gains is told by the words that are drawn, as the image generator's text encoder reads them. A reward
model of texts (`reward_model`) learns that from all pictures of the run; asked about the beginnings of a rewrite, one
before each token, it says what has been gained so far. The value of a state is a linear function of that, of how many
tokens are written, and, where a completion is judged beside the prompt's others, of what is expected of these: their
scores are in the return, too, and none of them depends on what is still to be written. Nine numbers are learnt from the
returns of the iterations so far, by least squares.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from neuroprompt.ppo.actor import Written
from neuroprompt.ppo.predicted import PredictedReward
from neuroprompt.prompts import SEPARATORS

CRITIC_FILE = "critic.safetensors"


class PredictorCritic:
    """Values of the states of rewrites that continue their prompts.

    Args:
        reward: Its model is asked.
        tokenizer: The policy's.
        vocab_size: The policy's.
        group: Completions of a prompt that are written, side by side.
    """

    def __init__(self, reward: PredictedReward, tokenizer: PreTrainedTokenizerBase, vocab_size: int, group: int):
        self.reward, self.group = reward, group
        tokens = [[i] for i in range(vocab_size)]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self.characters = torch.tensor([len(text) for text in texts])
        self.moments = torch.zeros(_FEATURES, _FEATURES + 1, dtype=torch.float64)  # of features, and with returns

    def gains(self, prompts: Sequence[str], written: Written) -> Tensor:
        """What each text is expected to gain as it stands before each token is chosen: (rows, length), in the reward's
        unit, 0 where no token is and before anything is learnt.

        To be asked before these completions' own rewards are learnt, so that no value has seen its return.
        """
        model, mask = self.reward.model, written.mask.bool().cpu()
        gains = torch.zeros(mask.shape)
        if model.facts["steps"]:
            heads = [prompt.rstrip(SEPARATORS) for prompt in prompts]
            length = self.characters[written.ids.cpu()] * mask
            before = (length.cumsum(1) - length).tolist()
            rows = zip(heads, before, mask.sum(1).tolist(), strict=True)
            ends = [[len(head) + n for n in row[:count]] for head, row, count in rows]
            texts = [head + text for head, text in zip(heads, written.texts, strict=True)]
            plain = model.encoder.encode(heads)[mask.nonzero()[:, 0].to(model.encoder.device)]
            gains[mask] = model.judge(plain, model.encoder.encode_prefixes(texts, ends)).gain.cpu()
        return gains.to(written.mask.device)

    def values(self, gains: Tensor, mask: Tensor, unit: float) -> Tensor:
        """What is expected of the return from each state on: (rows, length), 0 where no token is.

        Args:
            gains: (rows, length), all of a prompt's side by side.
            mask: (rows, length)
            unit: Of the rewards that returns are made of, in the unit of the gains.
        """
        ridge = torch.eye(_FEATURES, dtype=torch.float64) * _RIDGE
        weights = torch.linalg.solve(self.moments[:, :-1] + ridge, self.moments[:, -1])
        known = self._features(gains, mask, unit)
        return (known @ weights.to(known.device)).float() * mask

    def learn(self, gains: Tensor, mask: Tensor, unit: float, returns: Tensor) -> None:
        """From an iteration's returns, (rows, length); earlier iterations count less and less."""
        there = mask.bool()
        known = self._features(gains, mask, unit)[there]
        moments = known.T @ torch.cat([known, returns.double()[there][:, None]], 1)
        self.moments = _KEPT * self.moments + moments.cpu()

    def _features(self, gains: Tensor, mask: Tensor, unit: float) -> Tensor:
        """(rows, length, features), float64"""
        gains, count = gains.double() / unit, mask.sum(1, keepdim=True)
        whole = gains.gather(1, count - 1)  # before the last token nearly all is written
        others = torch.zeros_like(whole)
        if self.group > 1:
            groups = whole.view(-1, self.group)
            others = ((groups.sum(1, keepdim=True) - groups) / (self.group - 1)).view(-1, 1)
        place = torch.arange(gains.shape[1], device=gains.device, dtype=torch.float64).expand_as(gains) / _TOKENS
        level = torch.stack([torch.ones_like(gains), gains, others.expand_as(gains)], -1)
        return torch.cat([level, level * place[..., None], level * place[..., None].square()], -1)

    def save(self, checkpoint: Path) -> None:
        save_file({"moments": self.moments}, checkpoint / CRITIC_FILE)

    def load(self, checkpoint: Path) -> None:
        """What `save` wrote.

        Raises:
            ValueError: It is not there.
        """
        if not (checkpoint / CRITIC_FILE).is_file():
            raise ValueError(f"{checkpoint} was written with another critic")
        self.moments = load_file(checkpoint / CRITIC_FILE)["moments"]


_FEATURES = 9
_TOKENS = 32  # the unit of places: about a rewrite
_RIDGE = 10.0  # tokens
_KEPT = 0.9  # of an iteration's weight, at the next
