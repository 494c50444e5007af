"""The columns of a comparison: ways to turn a plain prompt into the prompt that is drawn.

The training-free baselines are those that a trained rewriter has to beat: nothing at all, one suffix for every prompt,
random modifiers, and what a person wrote.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import accumulate

from neuroprompt.assets import ModelError, locate
from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import PromptEnhancer, check_prompt, finish
from neuroprompt.modifiers import CATEGORIES, vocabulary
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens

METHODS = ("plain", "enhanced", "sft", "ppo", "policy:NAME", "suffix", "random", "file:PATH")
"""What `parse_methods` reads; those that are policies also as METHOD+constraints."""

MODIFIERS = 10
"""How many modifiers the baselines `suffix` and `random` add, where the window has room for them."""


@dataclass(frozen=True)
class Method:
    """A column: its name, and the function behind it.

    Attributes:
        name: As the user wrote it.
        rewrite: All plain prompts in, one prompt for each out, in order.
    """

    name: str
    rewrite: Callable[[Sequence[str]], list[str]]

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """The prompts to draw.

        Raises:
            ValueError: A prompt is empty, constraints cannot be met, or a file has another number of prompts.
            ModelError: The policy cannot be loaded (it is loaded on first use, once for all its columns).
        """
        for prompt in prompts:
            check_prompt(prompt)
        return self.rewrite(prompts)


def parse_methods(
    specs: str | Sequence[str],
    constraints: Constraints | None = None,
    *,
    seed: int = 0,
    window: int = CLIP_WINDOW,
    device: str | None = None,
    **decoding,
) -> list[Method]:
    """Read "plain,sft,policy:runs/ppo+constraints" (or a sequence of such names) as methods.

    - ``plain``: the prompt as it is.
    - ``enhanced``: the embedded policy; ``sft`` and ``ppo``: the embedded policies of these two stages.
    - ``policy:NAME``: any policy, by folder or hub id.
    - ``suffix``: the same ten modifiers for every prompt, the most frequent ones.
    - ``random``: ten random modifiers, drawn by their frequency with a seed that belongs to the prompt.
    - ``file:PATH``: prompts that somebody wrote; the i-th of the file (.txt, .csv, .jsonl) belongs to the i-th prompt.

    A policy with ``+constraints`` obeys `constraints`; where no method says so, all policies do.

    Args:
        specs: The methods, in the order of the columns.
        constraints: What the constrained policies' prompts must and must not say.
        seed: What a method makes of a prompt depends on the prompt, the seed and the settings alone.
        window: CLIP tokens that a rewritten prompt may have.
        device: For the policies.
        decoding: Further settings of `PromptEnhancer.__call__`, such as `num_beams`.

    Raises:
        ValueError: An unknown method, one that is given twice, a file that cannot be read, or constraints that nothing
            obeys.
        ModelError: There is no such policy.
    """
    names = [name.strip() for name in (specs.split(",") if isinstance(specs, str) else specs)]
    if not any(names):
        raise ValueError(f"no method is given: choose from {', '.join(METHODS)}")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ValueError(f"the method {twice!r} is given twice")
    marked = any(name.endswith(_MARK) for name in names)
    load = cache(lambda source: PromptEnhancer.from_pretrained(source, device=device))

    def parse(name: str) -> Method:
        base = name.removesuffix(_MARK)
        source = _policy(base)
        if source is None:
            if name != base:
                raise ValueError(f"{name}: only policies take constraints, and {base!r} is none")
            return Method(name, _baseline(base, seed, window))
        if name != base and not constraints:
            raise ValueError(f"{name}: no constraints are given")
        wish = constraints if name != base or not marked else None
        settings = {"seed": seed, "window": window} | decoding
        return Method(name, lambda prompts: [e.text for e in load(source)(prompts, wish, **settings)])

    methods = [parse(name) for name in names]
    if constraints and not any(_policy(name.removesuffix(_MARK)) for name in names):
        raise ValueError(f"constraints are given, but none of {', '.join(names)} is a policy, to obey them")
    return methods


_MARK = "+constraints"


def _policy(name: str) -> str | None:
    """Where the policy of this method is loaded from; None where it is no policy."""
    word, _, argument = name.partition(":")
    if word == "policy" and argument:
        locate(argument, "policy")  # what is wrong with the name comes out now, before anything is loaded
        return argument
    if name == "enhanced":
        return "embedded"
    if name not in ("sft", "ppo"):
        return None
    # The default is the last stage that ships; while that is SFT, there is no PPO policy to show.
    try:
        locate("embedded-sft", "policy")
    except ModelError as error:
        if name == "ppo":
            raise ModelError("no PPO policy is embedded: train one, and give its folder as policy:FOLDER") from error
        return "embedded"
    return "embedded-sft" if name == "sft" else "embedded"


def _baseline(name: str, seed: int, window: int) -> Callable[[Sequence[str]], list[str]]:
    word, _, argument = name.partition(":")
    if name == "plain":
        return list
    if name == "suffix":
        suffix = [term for term, _ in _frequent()[:MODIFIERS]]
        return lambda prompts: [_append(prompt, suffix, window) for prompt in prompts]
    if name == "random":
        return lambda prompts: [_append(prompt, _random_modifiers(prompt, seed), window) for prompt in prompts]
    if word == "file" and argument:
        return _written(argument)
    raise ValueError(f"unknown method {name!r}: choose from {', '.join(METHODS)}, and policies also with {_MARK}")


def _written(path: str) -> Callable[[Sequence[str]], list[str]]:
    lines = read_lines(path)
    if broken := next((line for line in lines if line.prompt is None), None):
        raise ValueError(f"{path}, line {broken.number}: {broken.error}")
    written = [line.prompt for line in lines]

    def rewrite(prompts: Sequence[str]) -> list[str]:
        if len(written) != len(prompts):
            raise ValueError(
                f"{path} has {len(written)} prompts, and there are {len(prompts)} plain ones: one for each"
            )
        return list(written)

    return rewrite


@cache
def _frequent() -> list[tuple[str, int]]:
    """The modifiers of two words and more, the most frequent first. A single word's count holds the prompts where it
    is part of the subject ("an old painting") or of a longer modifier ("highly detailed"), and so says little."""
    counts = {term: count for c in CATEGORIES for term, count in vocabulary(c).items() if " " in term}
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@cache
def _urn() -> tuple[list[str], list[int]]:
    """The terms of `_frequent`, and the running totals of their counts."""
    return [term for term, _ in _frequent()], list(accumulate(count for _, count in _frequent()))


def _random_modifiers(prompt: str, seed: int) -> list[str]:
    generator = random.Random(blake2b(f"{seed}:{prompt}".encode("utf-8", "surrogatepass")).digest())
    terms, cumulated = _urn()
    chosen: dict[str, None] = {}
    while len(chosen) < MODIFIERS:
        chosen.update(dict.fromkeys(generator.choices(terms, cum_weights=cumulated, k=MODIFIERS)))
    return list(chosen)[:MODIFIERS]


def _append(prompt: str, modifiers: Sequence[str], window: int) -> str:
    """The prompt and what of the modifiers it does not have already and the window has room for."""
    if count_clip_tokens(prompt) >= window:
        return prompt
    return finish(prompt, ", " + ", ".join(modifiers), ended=True, window=window)[0]
