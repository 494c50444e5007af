"""Prompts in, rewrites out, for every route: the policy's, or what the operator says for when it is down."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from types import MappingProxyType
from typing import Any

from neuroprompt.completions import append, check_prompt
from neuroprompt.decoding import Constraints, check
from neuroprompt.modifiers import categorise, frequent_phrases
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens, join_negatives
from neuroprompt.server.errors import Problem, refusal, refuse_excess, refusing
from neuroprompt.server.settings import ServeSettings
from neuroprompt.server.work import Asking, Rewrite
from neuroprompt.server.workers import Workers

SUFFIX = 10
"""How many modifiers the fixed suffix has, as evaluation's method of that name; no artist is among them here."""


async def rewrite(
    workers: Workers,
    prompts: Sequence[str],
    wish: Mapping[str, Any] | None = None,
    decoding: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    fallback: bool = True,
    asking: Mapping[str, Any] | None = None,
) -> list[list[dict[str, Any]]]:
    """The variants of each prompt, each as `EnhancedPrompt.to_dict()`.

    Args:
        wish: Fields of `Constraints`, such as ``{"forbid": ["blurry"]}``.
        decoding: Settings of `enhancer.Decoding`, such as ``{"seed": 7}``; `batch_size` is not among them.
        seeds: One for each prompt, in the place of the setting `seed`.
        fallback: Whether the operator's will do while the policy is down.
        asking: Fields of `work.Asking`: which policy is asked, and how.

    Raises:
        Problem: It is more than the operator allows, a prompt or the wish cannot be met, or there is no policy, and no
            fallback.
    """
    wish, decoding, asking = wish or {}, decoding or {}, asking or {}
    admit(workers, prompts, wish, decoding, asking)
    seeds = [decoding.get("seed", 0)] * len(prompts) if seeds is None else seeds
    if len(seeds) != len(prompts):
        raise refusal(ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one for each"))
    seeded = [*zip(prompts, seeds, strict=True)]
    if workers.safety.never_add:
        wish = {**wish, "never_add": workers.safety.never_add}
    instead = workers.settings.fallback if fallback else "none"
    if instead != "none" and workers.parts["policy"].state in ("restarting", "failed"):
        return await _all_instead(instead, seeded, wish, decoding)
    try:
        same = {name: value for name, value in decoding.items() if name != "seed"}
        same |= {"keep": tuple(decoding.get("keep", ()))}
        asked = [Rewrite(prompt, seed, wish, same, Asking(**asking)) for prompt, seed in seeded]
        return await workers.ask_all("policy", asked)
    except Problem as problem:
        if instead == "none" or problem.status != 503:
            raise
        return await _all_instead(instead, seeded, wish, decoding)


def admit(
    workers: Workers,
    prompts: Sequence[str],
    wish: Mapping[str, Any] = MappingProxyType({}),
    decoding: Mapping[str, Any] = MappingProxyType({}),
    asking: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Refuse what is more than the operator allows (422), or what he does not let through (400)."""
    check_limits(workers.settings, prompts, wish, decoding, asking)
    wanted = _phrases(phrases for name, phrases in wish.items() if name != "forbid")
    workers.safety.refuse([*prompts, *wanted, asking.get("instruction") or ""])


def check_limits(
    settings: ServeSettings,
    prompts: Sequence[str],
    wish: Mapping[str, Any] = MappingProxyType({}),
    decoding: Mapping[str, Any] = MappingProxyType({}),
    asking: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Refuse (422) what is more than the operator allows."""
    model, names = asking.get("model"), settings.policies
    if model is not None and model not in names:
        raise refusal(ValueError(f"model: {model!r} is not served here: choose from {', '.join(names)}"))
    phrases = [*wish.values(), decoding.get("keep")]
    refuse_excess(
        {
            "prompts": (len(prompts), settings.max_prompts),
            "characters in a prompt": (max(map(len, prompts), default=0), settings.max_prompt_length),
            "characters in phrases": (sum(map(len, _phrases(phrases))), settings.max_prompt_length),
            "characters in the instruction": (len(asking.get("instruction") or ""), settings.max_prompt_length),
            "variants": (decoding.get("num_return_sequences", 1), settings.max_variants),
            "beams": (decoding.get("num_beams", 1), settings.max_variants),
        }
    )


def _phrases(value: Any) -> Iterator[str]:
    """All texts in nested lists."""
    if isinstance(value, str):
        yield value
    else:
        for part in value or ():
            yield from _phrases(part)


async def _all_instead(
    fallback: str, seeded: Sequence[tuple[str, int]], wish: Mapping[str, Any], decoding: Mapping[str, Any]
) -> list[list[dict[str, Any]]]:
    """Without a model; in a thread, since the tokenizer that counts takes seconds to import, once."""
    with refusing():
        made = await asyncio.to_thread(lambda: [_instead(fallback, *one, wish, decoding) for one in seeded])
    return [[one] * decoding.get("num_return_sequences", 1) for one in made]


def _instead(
    fallback: str, prompt: str, seed: int, wish: Mapping[str, Any], decoding: Mapping[str, Any]
) -> dict[str, Any]:
    """What `fallback` makes of a prompt, in the form of `EnhancedPrompt.to_dict()`; what is required is there."""
    window, constraints = decoding.get("window", CLIP_WINDOW), Constraints(**wish)
    check_prompt(prompt, constraints, window)
    unnamed = (term for term, _ in frequent_phrases() if categorise(term) != "artist")  # some of whom live
    suffix = list(islice(unnamed, SUFFIX)) if fallback == "suffix" else []
    text, modifiers = append(prompt, suffix, window, constraints)
    return {
        "original": prompt,
        "text": text,
        "modifiers": [{"text": modifier, "category": categorise(modifier)} for modifier in modifiers],
        "score": None,
        "seed": seed,
        "clip_tokens": count_clip_tokens(text),
        "constraints": asdict(check(text, constraints)) if constraints else None,
        "negative": join_negatives(decoding.get("negative"), *constraints.forbid),
        "warning": f"the policy is down: this is the prompt {'with a fixed suffix' if suffix else 'as it was'}",
        "unaided": True,
        "kept": None,
    }
