"""The columns of a comparison: ways to turn a plain prompt into the prompt that is drawn.

The training-free baselines are those that a trained rewriter has to beat: nothing at all, one suffix for every prompt,
random modifiers, what a person wrote, and the best of several samples by the reward itself.
"""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroprompt.completions import check_prompt, finish
from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import TEMPERATURE, PromptEnhancer
from neuroprompt.evaluation.peers import Peer, PeerRewriter
from neuroprompt.models import fingerprint, locate
from neuroprompt.modifiers import CATEGORIES, vocabulary
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens
from neuroprompt.search import SearchConfig, optimize

if TYPE_CHECKING:
    from neuroprompt.scoring import PromptReward

METHODS = (
    *("plain", "enhanced", "sft", "ppo", "policy:NAME", "suffix", "random", "file:PATH"),
    *("best-of-N", "best-of-N:NAME", "search-N", "search-N:NAME", "template:PATH"),
)
"""What `parse_methods` reads; those that are policies also as METHOD+constraints."""

MODIFIERS = 10
"""How many modifiers the baselines `suffix` and `random` add, where the window has room for them."""


@dataclass(frozen=True)
class Method:
    """A column: its name, and the function behind it.

    Attributes:
        name: As the user wrote it.
        rewrite: Plain prompts in, one prompt for each out, in order.
        settings: What the results depend on besides the plain prompts, as JSON types.
        constraints: What the results obey.
        whole: Whether it must get all prompts at once, since their places count; the others may get them in parts.
        prepare: Loads what takes a while, so that it is not counted as time for rewriting.
    """

    name: str
    rewrite: Callable[[Sequence[str]], list[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    constraints: Constraints | None = None
    whole: bool = False
    prepare: Callable[[], object] = lambda: None

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
    reward: "PromptReward | None" = None,
    rows: int | None = None,
    **decoding,
) -> list[Method]:
    """Read "plain,sft,policy:runs/ppo+constraints" (or a sequence of such names) as methods.

    - ``plain``: the prompt as it is.
    - ``enhanced``: the embedded policy; ``sft`` and ``ppo``: the embedded policies of these two stages.
    - ``policy:NAME``: any policy, by folder or hub id.
    - ``suffix``: the same ten modifiers for every prompt, the most frequent ones.
    - ``random``: ten random modifiers, drawn by their frequency with a seed that belongs to the prompt.
    - ``file:PATH``: prompts that somebody wrote; the i-th of the file (.txt, .csv, .jsonl) belongs to the i-th prompt.
      It may be what ``neuroprompt enhance`` wrote.
    - ``best-of-8``: eight samples of the embedded policy, of which `reward` chooses; ``best-of-8:NAME`` of another
      policy. Each sample is drawn once, with seeds that `reward` itself never gives out, so that what is chosen is
      judged on pictures that had no part in the choice: its score is not inflated by the luck of the choice (selecting
      and judging on the same pictures would make it an oracle).
    - ``search-64``: `neuroprompt.search` with 64 pictures a prompt, drawn with seeds of its own, too; proposals are the
      embedded policy's, or with ``search-64:NAME`` another's.
    - ``template:PATH``: somebody else's language model, asked as a YAML file says (see `peers.Peer`).

    A policy with ``+constraints`` obeys `constraints`; where no method says so, all policies do.

    Args:
        specs: The methods, in the order of the columns.
        constraints: What the constrained policies' prompts must and must not say.
        seed: What a method makes of a prompt depends on the prompt, the seed and the settings alone.
        window: CLIP tokens that a rewritten prompt may have.
        device: For the policies and peers.
        reward: Chooses for ``best-of-N`` and ``search-N``.
        rows: Of a ``file:``, take only the first so many prompts, as was done with the plain ones.
        decoding: Further settings of `PromptEnhancer.__call__`, such as `num_beams`.

    Raises:
        ValueError: An unknown method, one that is given twice, a file that cannot be read, constraints that nothing
            obeys, or no reward where one has to choose.
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
        policy = _policy(base)
        if policy is None:
            if name != base:
                raise ValueError(f"{name}: only policies take constraints, and {base!r} is none")
            return _baseline(name, seed, window, device, rows)
        if name != base and not constraints:
            raise ValueError(f"{name}: no constraints are given")
        if (policy.samples or policy.budget) and reward is None:
            raise ValueError(f"{name}: pictures choose here, by a reward, and there is none")
        wish = constraints if name != base or not marked else None
        settings: dict[str, Any] = {"seed": seed, "window": window} | decoding

        def rewrite(prompts: Sequence[str]) -> list[str]:
            enhancer = load(policy.source)
            if policy.samples:
                return _best_of(policy.samples, enhancer, prompts, wish, reward, settings)
            if policy.budget:
                return _searched(policy.budget, enhancer, prompts, wish, reward, seed, window)
            return [e.text for e in enhancer(prompts, wish, output_scores=False, **settings)]

        facts = settings | {"policy": policy.source, "weights": _weights(policy.source)}
        facts |= {"samples": policy.samples} if policy.samples else {}
        facts |= {"pictures": policy.budget, "strategy": SearchConfig.strategy} if policy.budget else {}
        facts |= {"constraints": asdict(wish)} if wish else {}
        return Method(name, rewrite, facts, wish, prepare=lambda: load(policy.source))

    methods = [parse(name) for name in names]
    if constraints and not any(_policy(name.removesuffix(_MARK)) for name in names):
        raise ValueError(f"constraints are given, but none of {', '.join(names)} is a policy, to obey them")
    return methods


_MARK = "+constraints"


@dataclass(frozen=True)
class _Policy:
    source: str  # where it is loaded from
    samples: int = 0  # of which pictures choose the best
    budget: int = 0  # pictures that a search for the best may draw


def _policy(name: str) -> _Policy | None:
    """The policy of this method; None where it is no policy."""
    word, _, argument = name.partition(":")
    if word == "policy" and argument:
        locate(argument, "policy")  # what is wrong with the name comes out now, before anything is loaded
        return _Policy(argument)
    kind, dash, count = word.rpartition("-")
    if dash and kind in ("best-of", "search") and count.isdecimal() and (argument or ":" not in name):
        if kind == "best-of" and not int(count):
            raise ValueError(f"{name}: there must be at least 1 sample to choose from")
        if kind == "search" and int(count) <= _ORIGINALS:
            raise ValueError(f"{name}: the original's pictures are {_ORIGINALS} of the budget, so it must be larger")
        if argument:
            locate(argument, "policy")
        source = argument or "embedded"
        return _Policy(source, samples=int(count)) if kind == "best-of" else _Policy(source, budget=int(count))
    if name == "enhanced":
        return _Policy("embedded")
    if name not in ("sft", "ppo"):
        return None
    return _Policy("embedded-sft" if name == "sft" else "embedded")


def _weights(source: str) -> str:
    """What tells a policy's weights from others: a hash of the folder's files, or the hub id."""
    folder = Path(locate(source, "policy"))
    return fingerprint(folder) if folder.is_dir() else source


def _best_of(
    samples: int,
    enhancer: PromptEnhancer,
    prompts: Sequence[str],
    wish: Constraints | None,
    reward: "PromptReward",
    settings: dict[str, Any],
) -> list[str]:
    """Of each prompt's samples the one that the reward likes best."""
    settings = {"temperature": TEMPERATURE} | settings
    made = enhancer(prompts, wish, num_return_sequences=samples, do_sample=True, output_scores=False, **settings)
    texts = [e.text for of in made for e in (of if isinstance(of, list) else [of])]
    judge = copy.copy(reward)
    judge.seed = ~reward.seed  # other pictures than those that it is judged on
    judge.images_per_prompt = 1
    judge.relative = frozenset()  # what the original scores is the same for all samples: no picture is drawn for it
    scores = judge.score([p for p in prompts for _ in range(samples)], texts).reshape(len(prompts), samples)
    best = np.where(np.isfinite(scores), scores, -np.inf).argmax(1)
    return [texts[i * samples + k] for i, k in enumerate(best.tolist())]


_ORIGINALS = 2  # pictures of the original prompt, which a search sets all others against


def _searched(
    budget: int,
    enhancer: PromptEnhancer,
    prompts: Sequence[str],
    wish: Constraints | None,
    reward: "PromptReward",
    seed: int,
    window: int,
) -> list[str]:
    """What a search finds for each prompt; its seeds are its own (see `search.loop`)."""
    judge = copy.copy(reward)
    judge.images_per_prompt = _ORIGINALS
    config = SearchConfig(budget=budget, held_out=0, seed=seed, window=window)
    return [found.text for found in optimize(list(prompts), judge, enhancer, config, constraints=wish)]


def _baseline(name: str, seed: int, window: int, device: str | None, rows: int | None) -> Method:
    word, _, argument = name.partition(":")
    if name == "plain":
        return Method(name, list)
    if name == "suffix":
        suffix = [term for term, _ in _frequent()[:MODIFIERS]]
        settings = {"suffix": suffix, "window": window}
        return Method(name, lambda prompts: [_append(prompt, suffix, window) for prompt in prompts], settings)
    if name == "random":
        return Method(
            name,
            lambda prompts: [_append(prompt, _random_modifiers(prompt, seed), window) for prompt in prompts],
            {"seed": seed, "window": window},
        )
    if word == "file" and argument:
        return _written(name, argument, rows)
    if word == "template" and argument:
        peer = Peer.read(argument)
        load = cache(lambda: PeerRewriter(peer, seed, device))
        settings = asdict(peer) | {"stop": list(peer.stop), "seed": seed}
        return Method(name, lambda prompts: load()(prompts), settings, prepare=load)
    raise ValueError(f"unknown method {name!r}: choose from {', '.join(METHODS)}, and policies also with {_MARK}")


def _written(name: str, path: str, rows: int | None) -> Method:
    lines = read_lines(path, ("prompt", "text"))[:rows]  # what `enhance` wrote is its text
    if broken := next((line for line in lines if line.prompt is None), None):
        raise ValueError(f"{path}, line {broken.number}: {broken.error}")
    written = [line.prompt for line in lines]

    def rewrite(prompts: Sequence[str]) -> list[str]:
        if len(written) != len(prompts):
            raise ValueError(
                f"{path} has {len(written)} prompts, and there are {len(prompts)} plain ones: one for each"
            )
        return list(written)

    digest = blake2b("\n".join(written).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Method(name, rewrite, {"texts": digest}, whole=True)


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
