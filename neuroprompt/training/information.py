"""What a modifier says about its prompt: pointwise mutual information, by a policy that has learnt both.

    I(m; prompt) = log p(m | prompt, what stands before) − log (1/R) Σ_r p(m | another prompt r, what stands before)

"8k" stands behind everything and has about 0 nats; "solid background" has 3 behind a logo, and "portrait" less than 0
behind a landscape. Users' prompts are full of the first kind, and a policy learns it best of all. So a second, short
training on what says something (`keep_informative`) makes it write about the prompt.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuroprompt.policies import read_prompts
from neuroprompt.prompts import Prompt, modifier_key

SHARD = 4096  # pairs that are lost at most where a run is killed
POOL = 512  # pairs that are sorted by length, and stand in for each other's references


@dataclass
class InformationConfig:
    """Which pairs are kept of prepared data, and what of them.

    Args:
        least: Nats that a modifier must say about its prompt to stay.
        commonplaces: How many stay of those that say less: the ones that say most.
        below: What says less than so many nats goes in any case, since it is likelier behind other prompts.
        min_informative: Pairs are dropped of which fewer modifiers say something.
        frequent: Pairs are dropped unmeasured that have fewer modifiers than that which are rarer than this share.
        references: How many other prompts, of the same data, a modifier is tried behind.
        max_tokens: Pairs whose prompt or completion has more tokens are dropped.
        limit: So many pairs of a split are measured at most; 0 measures all.
        batch_size: Pairs at once.
    """

    least: float = 0.4
    commonplaces: int = 1
    below: float = -0.1
    min_informative: int = 2
    frequent: float = 0.01
    references: int = 3
    max_tokens: int = 28
    limit: int = 0
    batch_size: int = 32

    def __post_init__(self):
        if self.below > self.least:
            raise ValueError(f"below is {self.below}: give no more than least, which is {self.least}")
        for name, low in (("min_informative", 1), ("references", 1), ("max_tokens", 1), ("batch_size", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}: give {low} or more")


def keep_informative(
    pairs: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: InformationConfig, name: str
) -> Dataset:
    """The pairs whose modifiers say something about their prompts, with those modifiers.

    Args:
        pairs: With the columns `prompt` and `completion`.
        model, tokenizer: The policy that says how much.
        config: What is kept.
        name: What the policy is known by: what was worked out with it is found again (`datasets`' cache), so that a
            killed run goes on.
    """
    counts = Counter(key for tail in pairs["completion"] for key in _keys(tail))
    frequent = {key for key, count in counts.items() if count > config.frequent * len(pairs)}

    def promising(batch: dict[str, list[str]]) -> list[bool]:
        return [
            sum(key not in frequent for key in _keys(tail)) >= config.min_informative for tail in batch["completion"]
        ]

    def short(batch: dict[str, list[str]]) -> list[bool]:
        texts = (tokenizer(batch[column], add_special_tokens=False)["input_ids"] for column in ("prompt", "completion"))
        return [max(len(prompt), len(tail)) <= config.max_tokens for prompt, tail in zip(*texts, strict=True)]

    def fingerprint(*what: int) -> str:  # what a function holds (a tokenizer) has none that lasts
        chosen = config.frequent, config.min_informative, config.max_tokens
        measured = config.references, config.batch_size, *what
        depends = json.dumps([pairs._fingerprint, name, chosen, measured if what else None])
        return blake2b(depends.encode(), digest_size=8).hexdigest()

    chosen = pairs.filter(
        lambda batch: [a and b for a, b in zip(promising(batch), short(batch), strict=True)],
        batched=True,
        new_fingerprint=fingerprint(),
        desc="pairs that could say something",
    )
    total = min(config.limit or len(chosen), len(chosen))
    if not total:
        return chosen
    measure = partial(_measure, model=model, tokenizer=tokenizer, config=config)
    known = []
    for start in range(0, total, SHARD):
        stop = min(start + SHARD, total)
        known.append(
            chosen.select(range(start, stop)).map(
                measure,
                batched=True,
                batch_size=POOL,
                new_fingerprint=fingerprint(start, stop),
                desc=f"pairs from {start:,} of {total:,}",
            )
        )
    kept = concatenate_datasets(known).map(
        lambda row: {"completion": trimmed(row["completion"], row["information"], config)}
    )
    return kept.filter(lambda row: row["completion"]).remove_columns("information")


def trimmed(completion: str, said: Sequence[float], config: InformationConfig) -> str:
    """The completion without what says nothing; "" where too little is left.

    >>> trimmed(", 8k, fog, hd, by night", [0.1, 1.2, 0.0, 0.9], InformationConfig())
    ', 8k, fog, by night'
    """
    if sum(nats >= config.least for nats in said) < config.min_informative:
        return ""
    common = sorted((nats for nats in said if config.below <= nats < config.least), reverse=True)[: config.commonplaces]
    parsed = Prompt.parse(completion)
    return str(parsed.keep([nats >= config.least or nats in common for nats in said]))


def _keys(completion: str) -> set[str]:
    return {modifier_key(segment) for segment in Prompt.parse(completion).segments}


def _measure(
    batch: dict[str, list[str]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: InformationConfig,
) -> dict[str, list[list[float]]]:
    prompts, completions = batch["prompt"], batch["completion"]
    step = max(1, len(prompts) // (config.references + 1))
    others = [
        [prompts[(i + step * k) % len(prompts)] for k in range(1, config.references + 1)] for i in range(len(prompts))
    ]
    order = sorted(range(len(prompts)), key=lambda i: len(completions[i]) + len(prompts[i]))
    found: dict[int, list[float]] = {}
    for start in range(0, len(order), config.batch_size):
        rows = order[start : start + config.batch_size]
        said = information(model, tokenizer, [(prompts[i], completions[i]) for i in rows], [others[i] for i in rows])
        found |= zip(rows, said, strict=True)
    return {"information": [found[i] for i in range(len(prompts))]}


@torch.inference_mode()
def information(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    references: Sequence[Sequence[str]],
) -> list[list[float]]:
    """Nats that each modifier of each completion says about its prompt.

    Args:
        model, tokenizer: The policy.
        pairs: Prompts and completions, such as ("a castle", ", fog, by night"), all of them decoded at once.
        references: As many other prompts for each pair.

    Returns:
        A number for each segment of each completion.
    """
    count = 1 + len(references[0])
    tails = tokenizer(
        [tail for _, tail in pairs], add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False
    )
    heads = read_prompts(
        tokenizer, [text for (own, _), others in zip(pairs, references, strict=True) for text in (own, *others)]
    )
    rows = [head + tails["input_ids"][i // count] for i, head in enumerate(heads)]
    length = max(map(len, rows))
    # Padded before the text, so that the tails stand under each other and the head's logits need not be computed.
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        ids[i, length - len(row) :] = torch.tensor(row)
    ids = ids.to(model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    real = torch.arange(length, device=model.device) >= length - lengths[:, None]
    longest = max(len(tail) for tail in tails["input_ids"])
    output = model(
        ids,
        attention_mask=real.long(),
        position_ids=(real.long().cumsum(1) - 1).clamp(min=0),
        logits_to_keep=longest + 1,
    )
    logprobs = -torch.nn.functional.cross_entropy(
        output.logits[:, :-1].float().flatten(0, 1), ids[:, -longest:].flatten(), reduction="none"
    ).view(len(pairs), count, longest)  # of the last tokens of each row
    found = []
    for i, (_, tail) in enumerate(pairs):
        spans, offsets = _spans(tail), tails["offset_mapping"][i]
        member = torch.zeros(len(spans), longest)
        for t, (start, end) in enumerate(offsets):
            for s, (first, last) in enumerate(spans):
                if start < last and end > first:
                    member[s, longest - len(offsets) + t] = 1
        sums = logprobs[i] @ member.to(logprobs.device).T  # (count, segments)
        others = torch.logsumexp(sums[1:], 0) - torch.log(torch.tensor(count - 1.0))
        found.append((sums[0] - others).tolist())
    return found


def _spans(completion: str) -> list[tuple[int, int]]:
    """Where the segments stand."""
    parsed, at, spans = Prompt.parse(completion), 0, []
    for separator, segment in zip(parsed.separators, parsed.segments, strict=False):
        at += len(separator)
        spans.append((at, at + len(segment)))
        at += len(segment)
    return spans
