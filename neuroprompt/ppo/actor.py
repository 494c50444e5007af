"""The policy at work, between updates: it writes, and says how likely what it wrote was, to it and to its reference."""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.decoding.processors import separator_tokens
from neuroprompt.formats import PromptFormat
from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.losses import token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, completion_logits, in_eval_mode
from neuroprompt.ppo.rollouts import Queries, encode, eos_closed, model_inputs, row_noise, sample


class Written(NamedTuple):
    """What a policy wrote.

    Attributes:
        ids, mask: (rows, length), padded on the right.
        ended: Whether it came to the end token by itself. (rows,)
        tokens: The ids of each row, without padding.
        texts: Without special tokens.
    """

    ids: Tensor
    mask: Tensor
    ended: Tensor
    tokens: list[list[int]]
    texts: list[str]


class Actor:
    """What `PPOTrainer` samples from.

    Args:
        model: The policy and its critic, as they are trained; not what a trainer wraps around them.
        reference: The policy as it was; None where that is the model with its adapters switched off.
        tokenizer: With an end token and a pad token.
        args: `temperature`, `window`, `max_new_tokens`, `min_modifiers`, `rows_at_once`, `seed` and the precision.
        device: The model's.
        prompt_format: How the policy is asked.
    """

    def __init__(
        self,
        model: PolicyWithValue,
        reference: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase,
        args: PPOConfig,
        device: torch.device,
        prompt_format: PromptFormat,
    ):
        self.model, self.reference, self.tokenizer, self.args, self.device = model, reference, tokenizer, args, device
        self.prompt_format = prompt_format
        self.positions = getattr(model.config, "max_position_embeddings", None) or 10**9
        self.separators = separator_tokens(tokenizer, model.config.vocab_size).to(device)
        never = model.policy.generation_config.suppress_tokens or []
        self.suppressed = torch.tensor(never, dtype=torch.long, device=device)

    def ask(self, prompts: Sequence[str]) -> Queries:
        """The prompts as the policy reads them."""
        limits = self.positions, self.args.window, self.args.max_new_tokens
        return encode(prompts, self.tokenizer, *limits, self.prompt_format).to(self.device)

    def write(
        self, policy: PreTrainedModel, prompts: Sequence[str], stream: int, step: int, indices: Sequence[int]
    ) -> tuple[Queries, Written]:
        """Completions of the prompts; the noise of each belongs to its index at this step of the stream."""
        args, tokenizer = self.args, self.tokenizer
        queries = self.ask(prompts)
        noise = row_noise(args.seed, stream, step, indices, int(queries.budgets.max()))
        with in_eval_mode(self.model), self._autocast():
            ids, lengths = sample(
                policy,
                queries,
                noise,
                tokenizer.eos_token_id,
                args.temperature,
                self.separators,
                args.min_modifiers,
                self.suppressed,
            )
        tokens = [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ended = ids.gather(1, lengths[:, None] - 1).squeeze(1) == tokenizer.eos_token_id
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        return queries, Written(ids, mask, ended, tokens, texts)

    def nothing(self, prompts: Sequence[str]) -> Written:
        """What becomes of prompts that stay as they are: an end token at once, or where a text would replace them, they
        themselves."""
        ids = torch.full((len(prompts), 1), self.tokenizer.eos_token_id)
        texts = list(prompts) if self.prompt_format.replaces else [""] * len(prompts)
        return Written(ids, torch.ones_like(ids), torch.ones(len(prompts), dtype=torch.bool), ids.tolist(), texts)

    @torch.no_grad()
    def measure(self, queries: Queries, written: Written) -> dict[str, Tensor]:
        """Log-probabilities, values and entropies by the forward pass that updates use, and the reference's
        log-probabilities: `logprobs`, `values`, `entropy` and `reference`, (rows, length) each, 0 where no token is."""
        rows, length = written.ids.shape
        names = ("logprobs", "values", "entropy", "reference")
        measured = {name: torch.zeros((rows, length), device=written.ids.device) for name in names}
        by_length = (queries.mask.sum(1) + written.mask.sum(1)).argsort(stable=True)
        closed = self.closed(written.ids) if self.args.min_modifiers else None
        temperature, eos, never = self.args.temperature, self.tokenizer.eos_token_id, self.suppressed
        with in_eval_mode(self.model), self._autocast():
            for part in by_length.split(self.args.rows_at_once):
                mask = written.mask[part].bool()
                inputs = model_inputs(queries.ids[part], queries.mask[part], written.ids[part], mask)
                tokens = written.ids[part][mask]
                shut = None if closed is None else closed[part][mask]
                outputs = self.model(**inputs)
                logprobs, entropy = token_logprobs(outputs.logits, tokens, temperature, shut, eos, never, entropy=True)
                with self.starting_policy() as reference:
                    logits, _ = completion_logits(reference, **inputs)
                of_reference, _ = token_logprobs(logits, tokens, temperature, shut, eos, never)
                values = torch.zeros_like(logprobs) if outputs.state_values is None else outputs.state_values
                for name, column in zip(names, (logprobs, values, entropy, of_reference), strict=True):
                    block = torch.zeros(mask.shape, device=mask.device)
                    block[mask] = column
                    measured[name][part] = block
        return measured

    def closed(self, ids: Tensor) -> Tensor:
        """Where in these completions the end token could not be chosen (`rollouts.eos_closed`). (rows, length)"""
        return eos_closed(ids, self.separators, self.args.min_modifiers)

    @contextmanager
    def starting_policy(self):
        """The reference: the policy as it was before training."""
        with nullcontext() if self.reference is not None else self.model.policy.disable_adapter():
            yield self.reference or self.model.policy

    def _autocast(self):
        """The arithmetic of the update's forward pass; `Accelerator.autocast` does nothing under DeepSpeed."""
        bf16 = self.args.mixed_precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
