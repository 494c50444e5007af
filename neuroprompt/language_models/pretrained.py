"""A model of `transformers`, as rewriting asks it."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.decoding.arrays import on_torch
from neuroprompt.decoding.constraints import Constraints
from neuroprompt.decoding.neurologic import neurologic
from neuroprompt.decoding.processors import Processor
from neuroprompt.language_models import Written


class Pretrained:
    """A `language_models.Writer` of any causal language model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.xp = on_torch(model.device)
        self.positions = getattr(model.config, "max_position_embeddings", None) or 10**9
        self.vocab_size, self.entries = model.config.vocab_size, len(model.get_input_embeddings().weight)
        own = torch.tensor(model.generation_config.eos_token_id or []).view(-1).tolist()
        self.ends = sorted({tokenizer.eos_token_id, *own})

    @torch.inference_mode()
    def write(
        self,
        tokens: Sequence[Sequence[int]],
        processors: Sequence[Processor],
        *,
        budgets: Sequence[int],
        beams: int,
        returned: int,
        length_penalty: float,
        constraints: Sequence[Constraints | None],
        counted: Sequence[Sequence[int]] | None,
    ) -> Written:
        ids, mask = self._padded(tokens)
        output = self.model.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                num_beams=beams,
                num_return_sequences=returned,
                max_new_tokens=max(budgets),
                length_penalty=length_penalty,
                early_stopping=beams > 1,
                do_sample=False,  # what is random is noise that belongs to the row: see GumbelNoise
                temperature=1.0,  # the policy's own would be merged in, and warned of without do_sample
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
                return_dict_in_generate=True,
            ),
            logits_processor=LogitsProcessorList(processors),
            custom_generate=neurologic,
            constraints=constraints,
            token_budgets=budgets,
            processing_class=self.tokenizer,
            counted=counted,
        )
        return Written(output.sequences[:, ids.shape[1] :].tolist(), output.closed.tolist())

    @torch.inference_mode()
    def think(self, tokens: Sequence[Sequence[int]], processors: Sequence[Processor], most: int) -> list[list[int]]:
        """What the model writes up to "</think>", special tokens and all."""
        ids, mask = self._padded(tokens)
        output = self.model.generate(
            ids,
            attention_mask=mask,
            generation_config=GenerationConfig(
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
                stop_strings=["</think>"],
            ),
            logits_processor=LogitsProcessorList(processors),
            tokenizer=self.tokenizer,
        )
        return output[:, ids.shape[1] :].tolist()

    @torch.inference_mode()
    def score(self, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[float]:
        sequences = [[*h, *t][-self.positions :] for h, t in zip(heads, tails, strict=True)]
        length = max(map(len, sequences))
        # Filled on the CPU: on a GPU each of these small writes would wait for the device.
        ids = torch.full((len(sequences), length), self.tokenizer.pad_token_id)
        real = torch.zeros_like(ids)
        scored = torch.zeros_like(ids, dtype=torch.bool)
        for i, (sequence, tail) in enumerate(zip(sequences, tails, strict=True)):
            ids[i, : len(sequence)] = torch.tensor(sequence)
            real[i, : len(sequence)] = 1
            scored[i, max(1, len(sequence) - len(tail)) : len(sequence)] = bool(tail)
        ids, real, scored = (tensor.to(self.model.device) for tensor in (ids, real, scored))
        logits = self.model(ids, attention_mask=real).logits[:, :-1].float()  # (pairs, length - 1, vocab)
        logprobs = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        scored = scored[:, 1:]
        return ((logprobs * scored).sum(1) / scored.sum(1).clamp(min=1)).tolist()

    def _padded(self, tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids, padded on the left, and where they are real. (prompts, length) each"""
        length = max(map(len, tokens))
        ids = [[*[self.tokenizer.pad_token_id] * (length - len(own)), *own] for own in tokens]
        mask = [[0] * (length - len(own)) + [1] * len(own) for own in tokens]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)
