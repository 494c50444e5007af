"""Episodes: which prompts are asked for, how the policy continues them, and the buffer that updates read from.

Nothing here draws from a global random number generator. The order of the prompts, the noise of every sampled token and
the order of the minibatches are functions of the seed and of where in the run they stand, so that neither the number of
processes nor a restart changes them.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.decoding.neurologic import CACHE
from neuroprompt.enhancer import TOKENS_PER_CLIP_TOKEN
from neuroprompt.formats import CONTINUE, PromptFormat
from neuroprompt.models import float64_device
from neuroprompt.ppo.answers import asked
from neuroprompt.ppo.model import position_ids
from neuroprompt.prompts import SEPARATORS, Prompt, count_clip_tokens, modifier_key

# The streams of noise that a run draws from.
TRAINING, EVALUATION, MINIBATCHES, PROMPTS = range(4)

SLACK = 8  # tokens


class QuerySampler(Sampler[int]):
    """Rows of the data set, in batches of `batch_size` that are each repeated `repeats` times in a row.

    A batch is what one iteration rolls out, the completions of one prompt side by side; its repeats are the updates
    that read the buffer, so that the data loader keeps step with the trainer. Every pass over the data is a new
    permutation; what does not fill a batch is left to the next pass.

    Args:
        size: Rows of the data set.
        batch_size: Rows of a batch, over all processes.
        copies: How often each prompt stands in a batch.
        repeats: How often each batch is yielded.
        seed: Of the permutations.
        epoch: Which pass this is, asked at its start.
    """

    def __init__(self, size: int, batch_size: int, copies: int, repeats: int, seed: int, epoch: Callable[[], int]):
        self.prompts = batch_size // copies
        if size < self.prompts:
            raise ValueError(f"{size} prompts cannot fill a batch of {self.prompts}: lower rollout_batch_size")
        self.size, self.copies, self.repeats, self.seed, self.epoch = size, copies, repeats, seed, epoch

    def __len__(self) -> int:
        return self.size // self.prompts * self.prompts * self.copies * self.repeats

    def __iter__(self) -> Iterator[int]:
        order = generator(self.seed, PROMPTS, self.epoch()).permutation(self.size)
        for start in range(0, self.size - self.prompts + 1, self.prompts):
            for _ in range(self.repeats):
                yield from order[start : start + self.prompts].repeat(self.copies).tolist()


def generator(seed: int, stream: int, step: int = 0, index: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al. 2011) that belongs to a place in the run."""
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, index, step], np.uint64)))


def row_noise(seed: int, stream: int, step: int, indices: Sequence[int], length: int) -> Tensor:
    """Uniform numbers in [0, 1), one for each token that a row may get. (rows, length), float64"""
    return torch.from_numpy(np.stack([generator(seed, stream, step, i).random(length) for i in indices]))


@dataclass
class Queries:
    """Prompts as the policy reads them, exactly as `PromptEnhancer` would put them.

    Attributes:
        ids, mask: Padded on the left. (rows, prompt)
        budgets: Tokens that each may get. (rows,)
    """

    ids: Tensor
    mask: Tensor
    budgets: Tensor

    def to(self, device: torch.device) -> "Queries":
        return Queries(self.ids.to(device), self.mask.to(device), self.budgets.to(device))


def encode(
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    window: int | None,
    max_new_tokens: int | None,
    prompt_format: PromptFormat = CONTINUE,
) -> Queries:
    """Tokenise prompts and say how much may be written to each.

    Args:
        prompts: Plain prompts; separators at their end are the policy's to write.
        tokenizer: With a pad token.
        positions: That the policy has; half of them at most are for a continuation, and of what is too long the end
            is read.
        window: CLIP tokens of the whole, begin and end tokens included; None where there is no such limit.
        max_new_tokens: At most.
        prompt_format: How the policy is asked. An answer that replaces the prompt has the whole window, or
            `max_new_tokens`, and what may be thought before it comes on top.

    Raises:
        ValueError: A prompt is empty, or too long for an answer to fit behind it where that replaces it.
    """
    if prompt_format.replaces:
        budget = answer_budget(prompt_format, window, max_new_tokens)
        ids = prompt_format.encode(tokenizer, asked(prompts, prompt_format))
        prompt, longest = max(zip(prompts, map(len, ids), strict=True), key=itemgetter(1))
        if longest + budget > positions:
            raise ValueError(
                f"{prompt[:60]!r} takes {longest} tokens as it is asked, and the policy reads {positions}, {budget} of "
                "them for its answer: leave it out of the data, or lower max_new_tokens"
            )
        return _padded(tokenizer, ids, [budget] * len(ids))
    heads = [prompt.rstrip(SEPARATORS) for prompt in prompts]
    if empty := [prompt for prompt, head in zip(prompts, heads, strict=True) if not head]:
        raise ValueError(f"the prompt {empty[0]!r} has no token: leave empty prompts out of the data")
    budgets = []
    for prompt in prompts:
        budget = positions // 2
        if max_new_tokens is not None:
            budget = min(budget, max_new_tokens)
        if window is not None:
            budget = min(budget, math.ceil(TOKENS_PER_CLIP_TOKEN * (window - count_clip_tokens(prompt))))
        budgets.append(max(1, budget))
    ids = prompt_format.encode(tokenizer, heads, [positions - budget for budget in budgets])
    return _padded(tokenizer, ids, budgets)


def answer_budget(prompt_format: PromptFormat, window: int | None, max_new_tokens: int | None) -> int:
    """The tokens that an answer which replaces the prompt may have: what the window holds, the end token, and a few
    more, since no answer ends exactly there; and what may be thought before it."""
    most = max_new_tokens or math.ceil(TOKENS_PER_CLIP_TOKEN * window) + SLACK
    return prompt_format.thinking + most


def _padded(tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], budgets: list[int]) -> Queries:
    padded = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
    return Queries(padded["input_ids"], padded["attention_mask"], torch.tensor(budgets))


@torch.no_grad()
def sample(
    policy: PreTrainedModel,
    queries: Queries,
    noise: Tensor,
    eos_token_id: int,
    temperature: float = 1.0,
    separators: Tensor | None = None,
    min_modifiers: int = 0,
    suppressed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Continue every query with tokens drawn from softmax(logits / temperature), until the end token or its budget.

    Nothing is cut from that distribution (no top-k, no top-p, no repetition rules), so that it is the one whose
    log-probabilities the update uses. The masks that there may be, `min_modifiers` and `suppressed`, are in both.

    A token is found by its cumulative probability (in float64), which takes one random number a row and not one for
    each entry of the vocabulary. Rows that have ended leave the batch.

    Args:
        policy: In evaluation mode.
        queries: On the policy's device.
        noise: Uniform numbers in [0, 1). (rows, longest budget)
        separators, min_modifiers: See `eos_closed`.
        suppressed: Tokens that are never chosen.

    Returns:
        Token ids, end token included, (rows, longest) with zeros behind, and the number of them, (rows,).
    """
    device, rows = queries.ids.device, len(queries.ids)
    exact = float64_device(device)
    noise = noise.to(exact)
    longest = int(queries.budgets.max())
    completions = torch.zeros((rows, longest), dtype=torch.long, device=device)
    lengths = torch.zeros(rows, dtype=torch.long, device=device)
    here = torch.arange(rows, device=device)  # the rows still in the batch
    running = torch.ones(rows, dtype=torch.bool, device=device)  # those of them that have not ended
    begun = torch.zeros(rows, dtype=torch.long, device=device)  # modifiers
    mask, ids, positions = queries.mask, queries.ids, position_ids(queries.mask)
    cache = DynamicCache(config=policy.config)
    for step in range(longest):
        outputs = policy(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: cache},
        )
        logits = outputs.logits[:, -1].float() / temperature  # (here, vocab)
        if min_modifiers:
            logits[:, eos_token_id].masked_fill_(begun < min_modifiers, -math.inf)
        if suppressed is not None and len(suppressed):
            logits.index_fill_(1, suppressed, -math.inf)
        cumulative = torch.softmax(logits, dim=-1).to(exact).cumsum(-1, dtype=torch.float64)
        at = noise[here.to(exact), step, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, at, right=True).clamp_max(logits.shape[1] - 1).to(device)  # (here, 1)
        chosen = tokens.squeeze(1)
        completions[here, step] = torch.where(running, chosen, 0)
        lengths[here] += running
        running = running & (chosen != eos_token_id) & (step + 1 < queries.budgets[here])
        left = int(running.sum())
        if not left:
            break
        if min_modifiers:
            begun = begun + separators[chosen]
        ids, positions = tokens, positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
        if left <= 0.75 * len(here):
            keep = running.nonzero().squeeze(1)
            here, running, begun, ids, mask, positions = (t[keep] for t in (here, running, begun, ids, mask, positions))
            cache.batch_select_indices(keep)
    return completions[:, : int(lengths.max())], lengths


def eos_closed(completions: Tensor, separators: Tensor, min_modifiers: int) -> Tensor:
    """Where the end token could not be chosen: before `min_modifiers` separators were written. (rows, length)

    The same rule as `neuroprompt.enhancer.MinModifiers`. An action that is masked in the sampler and in the update
    alike keeps the policy gradient exact (Huang and Ontañón 2022, arXiv 2006.14171).

    Args:
        completions: Token ids. (rows, length)
        separators: Which tokens hold a separator. (vocab,)
    """
    written = separators[completions].long()
    return written.cumsum(1) - written < min_modifiers


@dataclass
class Rollouts:
    """What one iteration has learnt from: the same tensors on every process, on the CPU.

    Prompts are padded on the left, completions and all that belongs to their tokens on the right.

    Attributes:
        prompt_ids, prompt_mask: (rows, prompt)
        completion_ids, completion_mask: End token included; no token of a row that nothing is learnt from.
            (rows, completion)
        closed: Where the end token was masked. (rows, completion)
        logprobs, values: Of the policy that wrote them. (rows, completion)
        advantages, returns: (rows, completion)
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    closed: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def tokens(self, rows: Tensor) -> int:
        """Completion tokens in these rows."""
        return int(self.completion_mask[rows].sum())

    def learnt(self) -> Tensor:
        """The rows that something is learnt from."""
        return self.completion_mask.any(1).nonzero().squeeze(1)

    def minibatch(self, rows: Tensor) -> dict[str, Tensor]:
        """What a forward pass and the losses need of these rows. Of no rows it is a prompt's and no token's, for the
        process that has none to take part in the step.

        Returns:
            `input_ids`, `attention_mask` and `completion_mask` without columns that are padding in every row; the rest
            with the tokens of all completions in one row, (tokens,).
        """
        mask = self.completion_mask[rows].bool()
        if not len(rows):
            rows, mask = torch.zeros(1, dtype=torch.long), torch.zeros_like(self.completion_mask[:1], dtype=torch.bool)
        return {
            **model_inputs(self.prompt_ids[rows], self.prompt_mask[rows], self.completion_ids[rows], mask),
            "tokens": self.completion_ids[rows][mask],
            **{
                name: getattr(self, name)[rows][mask]
                for name in ("closed", "logprobs", "values", "advantages", "returns")
            },
        }

    def save(self, path: Path) -> None:
        save_file({f.name: getattr(self, f.name).contiguous() for f in fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> "Rollouts":
        return cls(**load_file(path))


def model_inputs(
    prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor, completion_mask: Tensor
) -> dict[str, Tensor]:
    """The arguments of `PolicyWithValue.forward`, cut to the longest prompt and the longest completion."""
    first = prompt_ids.shape[1] - int(prompt_mask.sum(1).max())
    last = int(completion_mask.sum(1).max())
    completion_mask = completion_mask[:, :last]
    return {
        "input_ids": torch.cat([prompt_ids[:, first:], completion_ids[:, :last]], dim=1),
        "attention_mask": torch.cat([prompt_mask[:, first:], completion_mask.to(prompt_mask.dtype)], dim=1),
        "completion_mask": completion_mask,
    }


def diversity(completions: Sequence[str], prompts: Sequence[str] | None = None) -> tuple[float, float]:
    """How unlike the completions are: different tails per tail, and different modifiers per modifier written.

    One suffix for everything, the known failure of trained rewriters, is 1/n by the first.

    Args:
        completions: What was written.
        prompts: Where that replaces prompts, these: what it adds to them are its words that they have not.
    """
    if prompts is None:
        tails = [tuple(modifier_key(s) for s in Prompt.parse(c).segments) for c in completions]
    else:
        tails = [_added(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
    modifiers = [m for tail in tails for m in tail]
    return len(set(tails)) / max(1, len(tails)), len(set(modifiers)) / max(1, len(modifiers))


def _added(prompt: str, text: str) -> tuple[str, ...]:
    said = set(_WORD.findall(prompt.lower()))
    return tuple(word for word in _WORD.findall(text.lower()) if word not in said)


_WORD = re.compile(r"\w+")
