"""The columns of a comparison: ways to turn a plain prompt into the prompt that is drawn.

    plain, enhanced, search = parse_methods("plain,enhanced,search-64", reward=reward)
    enhanced(["boy on a horse"])

The training-free baselines are those that a trained rewriter has to beat: nothing at all, one suffix for every prompt,
random modifiers, its own tails behind other prompts, what a person wrote, and the best of several samples by the reward
itself.

A new method is a function here that makes a `Method`, with its line in `_KINDS`.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neuroprompt.completions import append, check_prompt, finish
from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.peers import PeerRewriter
from neuroprompt.families import Family
from neuroprompt.models import identify, locate, policy_for
from neuroprompt.modifiers import frequent_phrases
from neuroprompt.policies import PolicyConfig
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import CLIP_WINDOW, SEPARATORS, Prompt, Window, WindowLike, modifier_key
from neuroprompt.reward_model import RewardModel, beside, read_facts
from neuroprompt.search import SearchConfig, optimize, read_suffix
from neuroprompt.terminal import counted

if TYPE_CHECKING:
    from neuroprompt.gate import Gate, Verdict
    from neuroprompt.images import ImageGenerator
    from neuroprompt.scoring import PromptReward

METHODS = (
    *("plain", "enhanced", "policy:NAME", "suffix", "suffix:PATH", "random", "random:METHOD", "swapped:METHOD"),
    *("file:PATH", "best-of-N", "best-of-N:NAME", "rerank-N", "rerank-N:NAME", "search-N", "search-N:NAME"),
    "template:PATH",
)
"""What `parse_methods` reads; those that are policies also as METHOD+constraints, all but plain as METHOD+gate."""

CONSTRAINTS, GATE = "+constraints", "+gate"
"""What may stand behind a method's name, in any order."""

MODIFIERS = 10
"""How many modifiers the baselines `suffix` and `random` add, where the window has room for them."""


@dataclass(frozen=True)
class Method:
    """A column: its name, and the function behind it.

    Attributes:
        name: As the user wrote it.
        rewrite: Plain prompts in, one prompt for each out, in order. They have been checked. Where there is `of`, it
            gets what that method wrote of them, too.
        settings: What the results depend on besides the plain prompts, as JSON types.
        constraints: What the results obey.
        window: What the results fit.
        whole: Whether it must get all prompts at once, since their places count; the others may get them in parts.
        prepare: Loads what takes a while, so that it is not counted as time for rewriting.
        gate: What decides, prompt by prompt, whether the rewrite is drawn or the plain prompt; None where all are.
        of: The method of whose texts this one's are made; None for one that stands by itself.
    """

    name: str
    rewrite: Callable[..., list[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    constraints: Constraints | None = None
    window: WindowLike = CLIP_WINDOW
    whole: bool = False
    prepare: Callable[[], object] = lambda: None
    gate: "Gate | None" = None
    of: "Method | None" = None

    def check(self, prompts: Sequence[str]) -> None:
        """Raise what `__call__` would raise for a prompt, before anything is loaded."""
        for prompt in prompts:
            check_prompt(prompt, self.constraints, self.window)

    def negative(self, generator: "ImageGenerator") -> str | None:
        """What the prompts are drawn with that the constraints forbid, if the generator takes it."""
        return generator.negative_for(*self.constraints.forbid) if self.constraints else None

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """The prompts to draw.

        Raises:
            ValueError: A prompt is empty, constraints cannot be met, or a file has another number of prompts.
            ModelError: The policy cannot be loaded (it is loaded on first use, once for all its columns).
        """
        (texts,) = write([self], prompts)
        return texts

    def judge(self, prompts: Sequence[str], texts: Sequence[str]) -> "list[Verdict]":
        """What the gate says of its rewrites; all are drawn with what they are drawn with afterwards."""
        return self.gate(prompts, texts, [self.negative(self.gate.reward.generator)] * len(texts))


def write(methods: Sequence[Method], prompts: Sequence[str]) -> list[list[str]]:
    """The prompts to draw, by method: what each of them would give by itself, and none is asked twice for that of which
    others are made.

    Raises:
        ValueError, ModelError: As a method would.
    """
    written: dict[str, list[str]] = {}

    def rewritten(method: Method) -> list[str]:
        if method.name not in written:
            method.check(prompts)
            written[method.name] = method.rewrite(prompts, *([rewritten(method.of)] if method.of else []))
        return written[method.name]

    def drawn(method: Method) -> list[str]:
        texts = rewritten(method)
        return [verdict.text for verdict in method.judge(prompts, texts)] if method.gate else texts

    return [drawn(method) for method in methods]


def parse_methods(
    specs: str | Sequence[str],
    constraints: Constraints | None = None,
    *,
    seed: int = 0,
    window: WindowLike = CLIP_WINDOW,
    family: Family | None = None,
    coherent: bool = True,
    device: str | None = None,
    reward: "PromptReward | None" = None,
    gate: "Gate | None" = None,
    rows: int | None = None,
    rerank_by: str | None = None,
    **decoding,
) -> list[Method]:
    """Read "plain,enhanced,policy:runs/ppo+constraints" (or a sequence of such names) as methods.

    - ``plain``: the prompt as it is.
    - ``enhanced``: the embedded policy; where `reward` draws with the embedded generator, that which PPO tuned to it.
    - ``policy:NAME``: any policy, by folder or hub id; ``policy:embedded`` and ``policy:embedded-ppo`` are those two.
    - ``suffix``: the same ten modifiers for every prompt, the most frequent ones; ``suffix:PATH``, those of a file, a
      line with commas, such as ``neuroprompt suffix`` writes.
    - ``random``: ten random modifiers, drawn by their frequency with a seed that belongs to the prompt;
      ``random:METHOD``, as many for each prompt as METHOD writes behind it.
    - ``swapped:METHOD``: each prompt with what METHOD writes behind another one, so that all tails are there, each
      once, and none with its own prompt. What METHOD gains over that is what it gains by reading the prompt.
    - ``file:PATH``: prompts that somebody wrote; the i-th of the file (.txt, .csv, .jsonl) belongs to the i-th prompt.
      It may be what ``neuroprompt enhance`` wrote.
    - ``best-of-8``: eight samples of ``embedded``, of which `reward` chooses; ``best-of-8:NAME`` of another
      policy. Each sample is drawn once, with seeds that `reward` itself never gives out, so that what is chosen is
      judged on pictures that had no part in the choice: its score is not inflated by the luck of the choice (selecting
      and judging on the same pictures would make it an oracle).
    - ``rerank-16``: sixteen samples of ``embedded``, of which the reward model of texts that lies beside it chooses
      (see `neuroprompt.reward_model`), or `rerank_by`; nothing is drawn for it. ``rerank-16:NAME`` of another policy.
    - ``search-64``: `neuroprompt.search` with 64 pictures a prompt, drawn with seeds of its own, too; proposals are
      those of ``embedded``, or with ``search-64:NAME`` another policy's.
    - ``template:PATH``: somebody else's language model, asked as a YAML file says (see `policies.PolicyConfig`).

    A policy with ``+constraints`` obeys `constraints`; where no method says so, all policies do. Of a method with
    ``+gate`` a rewrite is drawn where `gate` accepts it, and else the plain prompt.

    Args:
        specs: The methods, in the order of the columns.
        constraints: What the constrained policies' prompts must and must not say.
        seed: What a method makes of a prompt depends on the prompt, the seed and the settings alone.
        window: What a rewritten prompt must fit: a `prompts.Window`, or a number of CLIP tokens.
        family: What reads the prompts, of which chat models are told whether it wants tags or prose.
        coherent: Whether policies and searches leave out modifiers that a person would not sign (see `judge`); the
            baselines and other people's rewriters are taken as they are.
        device: For the policies and peers.
        reward: Chooses for ``best-of-N`` and ``search-N``; what it draws with decides who ``enhanced`` is.
        gate: Decides for ``+gate``.
        rows: Of a ``file:``, take only the first so many prompts, as was done with the plain ones.
        rerank_by: The folder of the reward model of texts for ``rerank-N``; by default that beside the policy.
        decoding: Further settings of `enhancer.Decoding`, such as `num_beams`.

    Raises:
        ValueError: An unknown method, one that is given twice, a file that cannot be read, constraints that nothing
            obeys, or no reward or gate where one has to choose.
        ModelError: There is no such policy.
    """
    names = [name.strip() for name in (specs.split(",") if isinstance(specs, str) else specs)]
    if not any(names):
        raise ValueError(f"no method is given: choose from {', '.join(METHODS)}")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise ValueError(f"the method {twice!r} is given twice")
    marked = any(CONSTRAINTS in _unmarked(name)[1] for name in names)
    load = cache(lambda source: PromptEnhancer.from_pretrained(source, device=device).asked(family=family))

    def make(name: str) -> Method:
        base, marks = _unmarked(name)
        if base in _RENAMED:
            raise ValueError(f"the method {name!r} is called {_RENAMED[base]}{name[len(base) :]} now")
        kinds = ((re.fullmatch(pattern, base), kind) for pattern, kind in _KINDS.items())
        match, kind = next(((match, kind) for match, kind in kinds if match), (None, None))
        if match is None:
            raise ValueError(
                f"unknown method {name!r}: choose from {', '.join(METHODS)}, and policies with {CONSTRAINTS}"
            )
        source = match.groupdict().get("of")  # whose constraints are those of the whole
        of = make(source + CONSTRAINTS * (CONSTRAINTS in marks)) if source else None
        if CONSTRAINTS in marks and kind not in _POLICIES and of is None:
            raise ValueError(f"{name}: only policies take constraints, and {base!r} is none")
        if CONSTRAINTS in marks and not constraints:
            raise ValueError(f"{name}: no constraints are given")
        if GATE in marks and kind is _plain:
            raise ValueError(f"{name}: plain prompts come back as they are, with or without a gate")
        if GATE in marks and gate is None:
            raise ValueError(f"{name}: pictures decide here what comes back, and there is no gate")
        wish = constraints if kind in _POLICIES and (CONSTRAINTS in marks or not marked) else None
        method = kind(
            name,
            _Making(load, seed, Window.of(window), coherent, device, reward, rows, rerank_by, decoding, wish or None),
            *(match.groups() if of is None else [of]),
        )
        return replace(method, gate=gate) if GATE in marks else method

    methods = [make(name) for name in names]
    if constraints and not any(method.constraints for method in methods):
        raise ValueError(f"constraints are given, but none of {', '.join(names)} is a policy, to obey them")
    return methods


def check_methods(
    specs: str | Sequence[str],
    constraints: Constraints | None = None,
    *,
    rows: int | None = None,
    rerank_by: str | None = None,
) -> None:
    """Raise what `parse_methods` would, before there is a reward."""
    parse_methods(specs, constraints, rows=rows, rerank_by=rerank_by, reward=_LATER, gate=_LATER)


def _unmarked(name: str) -> tuple[str, set[str]]:
    """The method's name without what may stand behind it, and what does."""
    marks: set[str] = set()
    while mark := next((mark for mark in (CONSTRAINTS, GATE) if name.endswith(mark)), None):
        name, marks = name.removesuffix(mark), marks | {mark}
    return name, marks


_LATER: Any = object()  # a reward or a gate that is loaded once the methods are known to be right
_RENAMED = {"sft": "policy:embedded", "ppo": "policy:embedded-ppo"}
_CHOSEN_FROM = "embedded"  # a choice wants samples that differ: see docs/search.md


class _Making(NamedTuple):
    """What a method is made for: see `parse_methods`."""

    load: Callable[[str], PromptEnhancer]
    seed: int
    window: Window
    coherent: bool
    device: str | None
    reward: "PromptReward | None"
    rows: int | None
    rerank_by: str | None
    decoding: dict[str, Any]
    wish: Constraints | None


# --- policies ----------------------------------------------------------------------------------------------------


def _enhanced(name: str, making: _Making) -> Method:
    generator = getattr(making.reward, "generator", None)  # none where nothing draws, or is loaded yet
    return _policy(name, making, policy_for(generator and generator.name))


def _policy(name: str, making: _Making, source: str) -> Method:
    def rewrite(prompts: Sequence[str], enhancer: PromptEnhancer, settings: dict[str, Any]) -> list[str]:
        made = enhancer.rewrite(prompts, making.wish, output_scores=False, **settings)
        return [variants[0].text for variants in made]

    return _of_policy(name, making, source, rewrite)


def _best_of(name: str, making: _Making, count: str, source: str | None) -> Method:
    """Of each prompt's samples the one that the reward likes best."""
    samples, reward = int(count), making.reward
    if not samples:
        raise ValueError(f"{name}: there must be at least 1 sample to choose from")

    def rewrite(prompts: Sequence[str], enhancer: PromptEnhancer, settings: dict[str, Any]) -> list[str]:
        # Other pictures than those that it is judged on; and what the original scores is the same for all samples.
        judge = reward.replace(seed=~reward.seed, images_per_prompt=1, relative="none")
        negative = reward.generator.negative_for(*making.wish.forbid) if making.wish else None

        def score(originals: Sequence[str], texts: Sequence[str]) -> np.ndarray:
            return judge.score(originals, texts, negatives=[negative] * len(texts))

        chosen = enhancer.best_of(samples, prompts, score, making.wish, output_scores=False, **settings)
        return [sample.text for sample in chosen]

    return _of_policy(name, making, source or _CHOSEN_FROM, rewrite, drawn=True, samples=samples)


def _rerank(name: str, making: _Making, count: str, source: str | None) -> Method:
    """Of each prompt's samples the one of which a reward model of texts expects most."""
    samples, source, generator = int(count), source or _CHOSEN_FROM, getattr(making.reward, "generator", None)
    if not samples:
        raise ValueError(f"{name}: there must be at least 1 sample to choose from")
    folder = making.rerank_by or beside(source)
    load = cache(lambda: RewardModel.load(folder, generator and generator.encoder, making.device))

    def rewrite(prompts: Sequence[str], enhancer: PromptEnhancer, settings: dict[str, Any]) -> list[str]:
        chosen = enhancer.best_of(samples, prompts, load().score, making.wish, output_scores=False, **settings)
        return [sample.text for sample in chosen]

    facts = {"samples": samples, "reward_model": read_facts(folder)["weights"]}
    method = _of_policy(name, making, source, rewrite, **facts)
    return replace(method, prepare=lambda: (method.prepare(), load()))


def _search(name: str, making: _Making, count: str, source: str | None) -> Method:
    """What a search finds for each prompt; its seeds are its own (see `search.loop`)."""
    budget, reward = int(count), making.reward
    if budget <= _ORIGINALS:
        raise ValueError(f"{name}: the original's pictures are {_ORIGINALS} of the budget, so it must be larger")
    config = SearchConfig(budget=budget, held_out=0, seed=making.seed, window=making.window, coherent=making.coherent)

    def rewrite(prompts: Sequence[str], enhancer: PromptEnhancer, settings: dict[str, Any]) -> list[str]:
        judge = reward.replace(images_per_prompt=_ORIGINALS)
        return [found.text for found in optimize(list(prompts), judge, enhancer, config, constraints=making.wish)]

    facts = {"pictures": budget, "strategy": config.strategy}
    return _of_policy(name, making, source or _CHOSEN_FROM, rewrite, drawn=True, **facts)


_ORIGINALS = 2  # pictures of the original prompt, which a search sets all others against


def _of_policy(
    name: str, making: _Making, source: str, rewrite: Callable[..., list[str]], drawn: bool = False, **facts: Any
) -> Method:
    """A method that asks a policy, loaded when it is: `rewrite` gets the prompts, the policy and how it is decoded.

    Where there is a choice among what the policy says, `facts` are its settings, and `drawn` is whether pictures
    choose.
    """
    locate(source, "policy")  # what is wrong with the name comes out now, before anything is loaded
    if drawn and making.reward is None:
        raise ValueError(f"{name}: pictures choose here, by a reward, and there is none")
    settings = {"seed": making.seed, "window": making.window, "coherent": making.coherent} | making.decoding
    facts = (
        settings | {"window": making.window.setting, "policy": source, "weights": identify(source, "policy")} | facts
    )
    return Method(
        name,
        lambda prompts: rewrite(prompts, making.load(source), settings),
        facts | ({"constraints": asdict(making.wish)} if making.wish else {}),
        making.wish,
        making.window,
        prepare=lambda: making.load(source),
    )


# --- others ------------------------------------------------------------------------------------------------------


def _plain(name: str, making: _Making) -> Method:
    return Method(name, list)


def _suffix(name: str, making: _Making, path: str | None) -> Method:
    suffix = [*read_suffix(path)] if path else [term for term, _ in frequent_phrases()[:MODIFIERS]]
    settings = {"suffix": suffix, "window": making.window.setting}
    return Method(name, lambda prompts: [append(prompt, suffix, making.window)[0] for prompt in prompts], settings)


def _random(name: str, making: _Making, of: Method | None) -> Method:
    settings = {"seed": making.seed, "window": making.window.setting}
    if of is None:

        def rewrite(prompts: Sequence[str]) -> list[str]:
            return [append(prompt, _random_modifiers(prompt, making.seed), making.window)[0] for prompt in prompts]

        return Method(name, rewrite, settings)

    def as_long(prompt: str, tail: str) -> str:
        said = {modifier_key(segment) for segment in Prompt.parse(prompt).segments}
        count = len(Prompt.parse(tail).segments)
        new = [m for m in _random_modifiers(prompt, making.seed, count + len(said)) if modifier_key(m) not in said]
        return append(prompt, new[:count], making.window)[0]

    def rewrite_as_long(prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
        return list(map(as_long, prompts, _tails(name, prompts, texts)))

    return _made_of(of, name, rewrite_as_long, settings)


def _swapped(name: str, making: _Making, of: Method) -> Method:
    def rewrite(prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
        tails, givers = _tails(name, prompts, texts), derangement(len(prompts), making.seed)
        return [_behind(prompt, tails[giver], making.window) for prompt, giver in zip(prompts, givers, strict=True)]

    settings = {"seed": making.seed, "window": making.window.setting}
    return _made_of(of, name, rewrite, settings, whole=True)


def derangement(count: int, seed: int = 0) -> list[int]:
    """A random order of the first so many numbers in which none has its own place (Sattolo 1986).

    Raises:
        ValueError: There are fewer than two.
    """
    if count < 2:
        raise ValueError(f"to swap what is behind prompts takes two of them, and there are {count}")
    rng, order = random.Random(f"swapped {seed}"), list(range(count))
    for i in range(count - 1, 0, -1):
        j = rng.randrange(i)
        order[i], order[j] = order[j], order[i]
    return order


def _made_of(of: Method, name: str, rewrite: Callable[..., list[str]], settings: dict[str, Any], **more: Any) -> Method:
    """A method of what `of` writes: obeying and fitting what that does, and drawn with its negative prompt."""
    settings = settings | {"of": {"method": of.name, **of.settings}}
    return Method(name, rewrite, settings, of.constraints, of.window, prepare=of.prepare, of=of, **more)


def _tails(name: str, prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
    """What texts have behind their prompts."""
    for prompt, text in zip(prompts, texts, strict=True):
        if not text.startswith(prompt):
            raise ValueError(
                f"{name}: {text[:60]!r} does not begin with its prompt, {prompt[:60]!r}: name a method that continues "
                "prompts, and does not tell them again"
            )
    # "a castle, ": the user has set the first separator, and nobody else has.
    firsts = [", " * (prompt != prompt.rstrip(SEPARATORS)) for prompt in prompts]
    return [first + text[len(prompt) :] for first, prompt, text in zip(firsts, prompts, texts, strict=True)]


def _behind(prompt: str, tail: str, window: Window) -> str:
    """A prompt and what was written behind another, but for what it says itself and what does not fit."""
    return finish(prompt, tail, True, window, coherent=False)[0] if window.room(prompt) > 0 else prompt


def _template(name: str, making: _Making, path: str) -> Method:
    peer = PolicyConfig.from_file(path)
    load = cache(lambda: PeerRewriter(peer, making.seed, making.device))
    settings = asdict(peer) | {"stop": list(peer.stop), "seed": making.seed}
    return Method(name, lambda prompts: load()(prompts), settings, prepare=load)


def _file(name: str, making: _Making, path: str) -> Method:
    lines = read_lines(path, ("prompt", "text"))[: making.rows]  # what `enhance` wrote is its text
    if broken := next((line for line in lines if line.prompt is None), None):
        raise ValueError(f"{path}, line {broken.number}: {broken.error}")
    written = [line.prompt for line in lines]

    def rewrite(prompts: Sequence[str]) -> list[str]:
        if len(written) != len(prompts):
            given = counted(len(written), "prompt")
            raise ValueError(f"{path} has {given} for {counted(len(prompts), 'plain one')}: one for each is wanted")
        return list(written)

    digest = blake2b("\n".join(written).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Method(name, rewrite, {"texts": digest}, whole=True)


_KINDS = {
    "plain": _plain,
    "suffix(?::(.+))?": _suffix,
    "random(?::(?P<of>.+))?": _random,
    "swapped:(?P<of>.+)": _swapped,
    "file:(.+)": _file,
    "template:(.+)": _template,
    "enhanced": _enhanced,
    "policy:(.+)": _policy,
    r"best-of-(\d+)(?::(.+))?": _best_of,
    r"rerank-(\d+)(?::(.+))?": _rerank,
    r"search-(\d+)(?::(.+))?": _search,
}
"""Who makes a method, by the pattern of its name; what the pattern's groups hold are the last arguments, a group ``of``
as the method that it names."""
_POLICIES = (_enhanced, _policy, _best_of, _rerank, _search)
"""What can obey constraints."""


@cache
def _urn() -> tuple[list[str], list[int]]:
    """The terms of `frequent_phrases`, and the running totals of their counts."""
    return [term for term, _ in frequent_phrases()], list(accumulate(count for _, count in frequent_phrases()))


def _random_modifiers(prompt: str, seed: int, count: int = MODIFIERS) -> list[str]:
    generator = random.Random(blake2b(f"{seed}:{prompt}".encode("utf-8", "surrogatepass")).digest())
    terms, cumulated = _urn()
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        chosen.update(dict.fromkeys(generator.choices(terms, cum_weights=cumulated, k=MODIFIERS)))
    return list(chosen)[:count]
