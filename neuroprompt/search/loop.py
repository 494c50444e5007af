"""The search itself: strategies of many prompts in step, one measure call a round, a journal, and an honest end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from neuroprompt.completions import check_prompt
from neuroprompt.decoding import Constraints
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.prompts import CLIP_WINDOW, Window, WindowLike
from neuroprompt.scoring import PromptReward, known_mean

from .candidates import Drawn, Space
from .chat import Chat, Wish
from .journal import Journal
from .negatives import PHRASES
from .pictures import Row, measure, worth
from .proposals import PolicyProposals, Proposer
from .results import Measurement, SearchResult, pareto_front
from .strategies import STRATEGIES, Draw, Propose, Search, Steps


@dataclass
class SearchConfig:
    """How to search.

    Args:
        strategy: One of `STRATEGIES`: bayes or best-of-n.
        budget: Pictures that a prompt's search may draw. Those of the original, `images_per_prompt` of the reward,
            count; those of the held-out estimate come on top.
        held_out: Fresh seeds that winner and original are drawn with after the choice; 0 is without.
        seed: Another seed, another search. The same call gives the same result.
        samples: Rewrites that the policy writes for ``bayes`` to choose from, per picture of the budget.
        window: What a rewrite must fit: a `prompts.Window`, or a number of CLIP tokens.
        negatives: Search negative prompts beside the rewrites (see `negatives`). The original's is empty.
        coherent: Draw no modifiers that a person would not sign (see `judge`).
        axes: Components of the Pareto front; by default clip and aesthetic where both are measured, else all.
    """

    strategy: str = "bayes"
    budget: int = 64
    held_out: int = 8
    seed: int = 0
    samples: int = 4
    window: WindowLike = CLIP_WINDOW
    negatives: bool = False
    coherent: bool = True
    axes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.strategy not in STRATEGIES:
            raise ValueError(f"unknown strategy {self.strategy!r}: choose from {', '.join(STRATEGIES)}")
        if self.held_out < 0:
            raise ValueError(f"held_out is {self.held_out}: it must be at least 0")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}: it must be at least 1")
        self.axes = tuple(self.axes)


class Round(NamedTuple):
    """How far a search over some prompts is, after a round.

    Attributes:
        images, budget: Pictures used and those that may be, over all prompts, without the held-out ones.
        searching: Prompts whose search goes on.
        improvement: Mean over the prompts of what the best so far gains, by the pictures that chose it.
    """

    images: int
    budget: int
    searching: int
    improvement: float


@overload
def optimize(
    prompts: str,
    reward: PromptReward,
    propose: PromptEnhancer | Proposer,
    config: SearchConfig | None = ...,
    **keywords: Any,
) -> SearchResult: ...
@overload
def optimize(
    prompts: Sequence[str],
    reward: PromptReward,
    propose: PromptEnhancer | Proposer,
    config: SearchConfig | None = ...,
    **keywords: Any,
) -> list[SearchResult]: ...
def optimize(
    prompts: str | Sequence[str],
    reward: PromptReward,
    propose: PromptEnhancer | Proposer,
    config: SearchConfig | None = None,
    *,
    constraints: Constraints | None = None,
    chat: Chat | None = None,
    state: str | Path | None = None,
    on_round: Callable[[Round], None] | None = None,
    on_picture: Callable[[], None] | None = None,
) -> SearchResult | list[SearchResult]:
    """Search for the rewrite of each prompt whose pictures are worth most.

    Nothing is trained. All prompts are searched in step: what one round wants of them all is one call of the policy
    and one of the reward. Ctrl-C ends the search; the best so far is returned, with `complete` false.

    Args:
        prompts: A text, or a sequence of texts.
        reward: Draws and scores.
        propose: A policy, or any other source of modifiers (see `proposals`).
        config: How to search.
        constraints: What every rewrite must and must not say.
        chat: A chat model that is asked for proposals, too.
        state: File that the search is kept in. The same call takes a killed search up, and comes to the same result
            as if it had not been killed; a finished one is read from it without drawing.
        on_round: Called after each round.
        on_picture: Called after each picture, the held-out ones included.

    Returns:
        A `SearchResult` for a text, and a list of them, in order, for a sequence.

    Raises:
        ValueError: A prompt is empty, the constraints cannot be met, the budget is too small for one rewrite, the
            generator takes no negative prompts and these are searched, or `state` belongs to another search.
        BusyError: Another search writes `state`.
        DrawingError: A prompt cannot be drawn or scored.
    """
    config = config or SearchConfig()
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    for text in texts:
        check_prompt(text, constraints, config.window)
    each = reward.images_per_prompt
    if config.budget <= each:
        raise ValueError(
            f"a budget of {config.budget} pictures is too small: the original takes {each}, and a rewrite at least one"
        )
    if unknown := [axis for axis in config.axes if axis not in _components(reward)]:
        raise ValueError(f"the axis {unknown[0]!r} is no component: there are {', '.join(_components(reward))}")
    if config.negatives and not reward.generator.takes_negative:
        raise ValueError(
            f"{reward.generator.name} takes no negative prompt as it is drawn with, so there is none to search: draw "
            "with guidance, or with another generator"
        )
    if isinstance(propose, PromptEnhancer):
        propose = PolicyProposals(propose, config.window, coherent=config.coherent)
    distinct = list(dict.fromkeys(texts))
    against = reward.generator.negative_for
    encode = _encoder(reward)
    runs = {
        text: _Run(
            Search(
                Space(text, constraints, config.window, config.coherent, against, config.negatives),
                config.budget,
                each,
                _hash(config.seed, text),
                encode,
                has_chat=chat is not None,
                samples=config.samples,
            ),
            STRATEGIES[config.strategy],
            reward,
            _first_seed(config.seed, text),
        )
        for text in distinct
    }

    def drawn(original: str, candidate: str) -> Drawn:
        return runs[original].search.space.drawn[candidate]

    complete, estimates = True, {}
    with Journal(state, _settings(distinct, reward, propose, config, constraints, chat, against)) as journal:
        try:
            while pending := [run for run in runs.values() if run.wants is not None]:
                if wishing := [run for run in pending if isinstance(run.wants, Propose)]:
                    _answer(wishing, propose, chat, journal, config)
                    continue
                wanted = {run.original: [(text, run.seed + k) for text, k in run.wants.pictures] for run in pending}
                measure(wanted, drawn, reward, journal, on_picture)
                for run in pending:
                    run.receive([journal.pictures[run.original][picture] for picture in wanted[run.original]])
                if on_round:
                    on_round(_progress(runs.values(), config.budget))
            # Seeds that no search has used: the budget bounds what one can have used.
            fresh = {text: [run.seed + config.budget + k for k in range(config.held_out)] for text, run in runs.items()}
            wanted = {
                text: [(t, s) for t in dict.fromkeys((text, run.search.pick)) for s in fresh[text]]
                for text, run in runs.items()
            }
            measure(wanted, drawn, reward, journal, on_picture)
            for text, run in runs.items():
                if config.held_out:
                    rows = [[journal.pictures[text][t, s] for s in fresh[text]] for t in (run.search.pick, text)]
                    gains = np.subtract(*(worth(reward, row, run.plain) for row in rows))
                    known = gains[np.isfinite(gains)]
                    error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else None
                    estimates[text] = float(known_mean(gains)), error, len(wanted[text])
        except KeyboardInterrupt:
            complete = False
        journal.save()
    axes = config.axes or _default_axes(reward)
    results = {text: run.result(axes, *estimates.get(text, (None, None, 0)), complete) for text, run in runs.items()}
    return results[prompts] if isinstance(prompts, str) else [results[text] for text in texts]


class _Run:
    """The search of one prompt, as a strategy drives it."""

    def __init__(self, search: Search, strategy: Callable[[Search], Steps], reward: PromptReward, seed: int):
        self.search, self.reward, self.seed = search, reward, seed
        self.original = search.space.original
        self.plain: list[Row] = []  # the original's pictures, which all others are set against
        self.rows: dict[str, list[Row]] = {}
        self.answered = 0  # wishes
        self._steps = self._all(strategy)
        self.wants: Draw | Propose | None = next(self._steps, None)

    def _all(self, strategy: Callable[[Search], Steps]) -> Steps:
        if self.search.space.open:
            yield from strategy(self.search)
        if not self.search.values:  # nothing came of it: what the original is worth is known at least
            yield from self.search.draw({})
            self.search.note(self.original, 0.0)

    def answer(self, answer: object) -> None:
        """Go on with the strategy."""
        try:
            self.wants = self._steps.send(answer)
        except StopIteration:
            self.wants = None

    def receive(self, rows: "list[Row]") -> None:
        """Take in the pictures that were asked for."""
        for (text, _), row in zip(self.wants.pictures, rows, strict=True):
            self.rows.setdefault(text, []).append(row)
        if not self.plain:
            self.plain = list(self.rows[self.original])
        self.answer(worth(self.reward, rows, self.plain))

    def result(
        self, axes: tuple[str, ...], held_out: float | None, error: float | None, images: int, complete: bool
    ) -> SearchResult:
        search, names = self.search, _components(self.reward)
        measured = [
            Measurement(
                search.space.drawn[text].text,
                search.space.drawn[text].modifiers,
                search.mean(text),
                dict(zip(names, known_mean(np.array([row[0] for row in self.rows[text]]).T).tolist(), strict=True)),
                len(values),
                text != self.original or search.space.original_allowed,
                search.space.drawn[text].negative,
            )
            for text, values in search.values.items()
        ]
        full = f"left as it is: it fills the window of {search.space.window.tokens} tokens"
        warning, best = None if search.space.open else full, search.space.drawn[search.pick]
        return SearchResult(
            original=self.original,
            text=best.text,
            modifiers=best.modifiers,
            negative=best.negative,
            selected=search.gain,
            selected_error=search.error,
            held_out=held_out,
            held_out_error=error,
            images=search.drawn,
            held_out_images=images,
            curve=tuple(search.curve),
            front=pareto_front(measured, axes),
            axes=axes,
            measured=tuple(sorted(measured, key=lambda m: -np.nan_to_num(m.reward, nan=-math.inf))),
            complete=complete,
            warning=warning,
        )


def _answer(runs: Sequence[_Run], propose: Proposer, chat: Chat | None, journal: Journal, config: SearchConfig) -> None:
    """Proposals for all that wish for some: from the journal, or else in one call."""
    new = [run for run in runs if len(journal.proposals.get(run.original, ())) <= run.answered]
    for answered in sorted({run.answered for run in new}):  # the seed is the wish's own, whoever wishes beside it
        wishing = [run for run in new if run.answered == answered]
        seed = _hash(config.seed, f"proposals {answered}")
        asks = [run.wants.ask for run in wishing if run.wants.ask]
        written = dict(zip(asks, propose(asks, seed), strict=True)) if asks else {}
        others = chat([_wish(run) for run in wishing], seed) if chat else [[]] * len(wishing)
        for run, other in zip(wishing, others, strict=True):
            answer = written.get(run.wants.ask, []), other
            journal.proposals.setdefault(run.original, []).append([[list(p) for p in lists] for lists in answer])
    journal.save(due=bool(new and chat))  # what a chat model has said cannot be had again
    for run in runs:
        answer = journal.proposals[run.original][run.answered]
        run.answered += 1
        run.answer(answer)


def _wish(run: _Run) -> Wish:
    wish = run.search.space.constraints
    return Wish(run.original, run.wants.best, wish.clauses if wish else (), wish.forbidden if wish else ())


def _encoder(reward: PromptReward) -> Callable[[list[str]], np.ndarray] | None:
    """What the generator makes of texts, (n, d) in float64; None of one that does not say."""
    encode = getattr(reward.generator, "encode", None)
    if encode is None or encode(["a"]) is None:
        return None
    return lambda texts: encode(texts).double().cpu().numpy()


def _progress(runs, budget: int) -> Round:
    runs = list(runs)
    return Round(
        sum(run.search.drawn for run in runs),
        budget * len(runs),
        sum(run.wants is not None for run in runs),
        float(np.mean([run.search.gain for run in runs])),
    )


def _components(reward: PromptReward) -> list[str]:
    return [component.reward.name for component in reward.rewards.components]


def _default_axes(reward: PromptReward) -> tuple[str, ...]:
    names = _components(reward)
    found = tuple(next((n for n in names if n.split("[")[0] == axis), None) for axis in ("clip", "aesthetic"))
    return found if all(found) else tuple(names)


def _settings(distinct, reward, propose, config, constraints, chat, against) -> dict[str, object]:
    """All that a search depends on, as JSON types."""
    components = [
        [c.reward.name, c.reward.fingerprint, c.weight, c.cap, reward.scales[c.reward.name]]
        for c in reward.rewards.components
    ]
    return {
        "prompts": distinct,
        "generator": reward.generator.fingerprint,
        "rewards": components,
        "relative": sorted(reward.relative),
        "images_per_prompt": reward.images_per_prompt,
        "flagged_reward": reward.flagged_reward,
        "policy": getattr(propose, "name", type(propose).__name__),
        "constraints": asdict(constraints) if constraints else None,
        "chat": [chat.url, chat.model] if chat else None,
        **{
            name: value
            for name, value in vars(config).items()
            if name not in ("axes", "window", "negatives", "samples")
        },
        "window": Window.of(config.window).setting,
        # Where these are as they always were, what is known of older searches stays good.
        **({"samples": config.samples} if config.samples != SearchConfig.samples else {}),
        **({"negatives": list(PHRASES)} if config.negatives else {}),
        **({"negative": negative} if (negative := against(*constraints.forbid) if constraints else None) else {}),
    }


def _hash(seed: int, text: str) -> int:
    digest = blake2b(f"{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def _first_seed(seed: int, text: str) -> int:
    """Where a prompt's seeds begin: not where `PromptReward.seeds` does, so that an evaluation is on other pictures."""
    return _hash(seed, f"search {text}") % 2**30
