"""What a worker process does: it loads one part (the policy, the generator or the rewards) and answers batches.

    python -m neuroprompt.server.work policy

It reads the settings and then batches from its standard input, and writes what came of them to its standard output:
eight bytes of length and a pickle each, between processes of one server alone. It ends when its input does, and on
Linux the moment that its parent dies, whatever it is doing.

What the front may ask for is here, too: `Rewrite`; what it asks generators is in `generators`, and what it asks of
rewards in `rewards`. This module imports no torch; a part imports what it takes where it is loaded. Another part is a
request, a function in `PARTS`, and its name in `ServerSettings.parts`.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import neuroprompt.threads  # noqa: F401 (before torch)
from neuroprompt.completions import check_prompt
from neuroprompt.decoding import ConstraintError, Constraints
from neuroprompt.families import find_family
from neuroprompt.models import ModelError, identify, locate
from neuroprompt.programs import quiet_libraries
from neuroprompt.server.errors import Problem, fault, refusal
from neuroprompt.server.generators import Describe, generator
from neuroprompt.server.rewards import rewards
from neuroprompt.server.settings import ServeSettings

if TYPE_CHECKING:
    from neuroprompt.enhancer import PromptEnhancer


@dataclass(frozen=True)
class Asking:
    """Who is asked for a rewrite, and how.

    Attributes:
        model: One of `ServeSettings.policies`; None is the first.
        family: Of `FAMILIES`, for which it is written; None is the operator's.
        instruction: In the place of the policy's own.
    """

    model: str | None = None
    family: str | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Rewrite:
    """A prompt to be rewritten.

    Attributes:
        wish: Fields of `Constraints`, as they were asked for; whether they can be met is found here, where it holds up
            nobody else.
        decoding: Settings of `enhancer.Decoding`, without `seed`, and without `batch_size`, which is the operator's.

    Answer:
        list[dict]: `EnhancedPrompt.to_dict()` of each variant, and of a policy that retells `kept` (see
        `retelling.kept`), which is None of others.
    """

    prompt: str
    seed: int = 0
    wish: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)
    asking: Asking = Asking()

    @property
    def constrained(self) -> bool:
        return any(self.wish.values())

    @property
    def group(self) -> Hashable:
        return self.asking, tuple(sorted(self.decoding.items())), self.constrained

    @property
    def size(self) -> int:
        """The sequences that are decoded for it: a sample is one; a search, and one under constraints, one a beam."""
        variants, beams = self.decoding.get("num_return_sequences", 1), self.decoding.get("num_beams", 5)
        sampled = variants > 1 if (asked := self.decoding.get("do_sample")) is None else asked
        return (variants if sampled else 1) * (beams if self.constrained or not sampled else 1)


# --- the parts: each is loaded once, and answers batches ---------------------------------------------------------

Answers = Callable[[Sequence[Any]], Sequence[Any]]
"""Requests of one group in, for each its answer out, in order; the answer of one that can have none is a `Problem`."""


def policy(settings: ServeSettings) -> Answers:
    for model in settings.model:
        locate(model, "policy")
    from neuroprompt.enhancer import Decoding, PromptEnhancer  # seconds, which a wrong name need not take
    from neuroprompt.retelling import kept

    first, *_ = settings.policies
    loaded = {first: PromptEnhancer.from_pretrained(settings.model[0], device=settings.device)}
    retell = {name: _retells(model) for name, model in settings.policies.items()}
    description = {"name": first, "fingerprint": identify(settings.model[0], "policy"), "retell": retell}

    @lru_cache(maxsize=64)
    def asked_so(asking: Asking) -> PromptEnhancer:
        name = asking.model or first
        if name not in loaded:
            loaded[name] = _load_another(name, settings)
        own = loaded[name]
        try:
            return own.asked(asking.instruction, find_family(asking.family) if asking.family else settings.made_for)
        except (ModelError, ValueError) as error:
            raise refusal(ValueError(str(error).replace(own.name, name))) from None  # not where it lies

    def rewrite(batch: Sequence[Rewrite]) -> list[Any]:
        asked = dict(batch[0].decoding) | {"batch_size": settings.batch_size}
        answers: list[Any] = [None] * len(batch)
        try:
            enhancer = asked_so(batch[0].asking)
        except Problem as problem:
            return [problem] * len(batch)
        wishes: dict[int, Constraints] = {}  # of those that can be met
        for i, one in enumerate(batch):
            try:
                decoding = Decoding(**enhancer.decoding | asked).of_policy(enhancer.model.generation_config)
                wish = Constraints(**one.wish)
                check_prompt(one.prompt, wish, decoding.window)
                wishes[i] = wish
            except ValueError as error:
                answers[i] = refusal(error)
        if wishes:
            keep = asked.get("keep", ())
            able = [batch[i] for i in wishes]
            seeds = [one.seed for one in able]
            made = enhancer.rewrite([one.prompt for one in able], [*wishes.values()], seeds=seeds, **asked)
            for i, variants in zip(wishes, made, strict=True):
                spans = [kept(v.original, v.text, keep) if enhancer.format.replaces else None for v in variants]
                answers[i] = [v.to_dict() | {"kept": own} for v, own in zip(variants, spans, strict=True)]
        return answers

    def answer(batch: Sequence[Any]) -> list[Any]:
        return [description] * len(batch) if isinstance(batch[0], Describe) else rewrite(batch)

    rewrite([Rewrite("a cat")])  # the first takes longest: nobody should wait for it
    return answer


def _load_another(name: str, settings: ServeSettings) -> "PromptEnhancer":
    """A policy that is not the first, when somebody asks it."""
    from neuroprompt.enhancer import PromptEnhancer

    try:
        return PromptEnhancer.from_pretrained(settings.policies[name], device=settings.device)
    except Exception as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        raise Problem(503, f"{name} could not be loaded: the server's log says why", "policy_unavailable", 60) from None


def _retells(model: str) -> bool | None:
    """Whether the policy tells prompts again, by what lies beside it; None where that cannot be read."""
    from neuroprompt.policies import PolicyConfig, is_config, load_tokenizer, saved_format

    try:
        if is_config(model):
            return PolicyConfig.from_file(model).replaces
        return saved_format(model, load_tokenizer(model)).replaces
    except (ModelError, ValueError):
        return None


PARTS: dict[str, Callable[[Any], Answers]] = {"policy": policy, "generator": generator, "rewards": rewards}
"""What loads a part, by its name."""


# --- the process -------------------------------------------------------------------------------------------------


def main() -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):  # they are for the front, which says when there is nothing to do
        signal.signal(stop, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    settings = _read(orders)
    try:
        quiet_libraries()
        answer = PARTS[sys.argv[1]](settings)
    except Exception as error:
        return _write(answers, " ".join(str(error).split()) or type(error).__name__)
    _write(answers, None)
    while batch := _read(orders):
        _write(answers, _answers(answer, batch))


def _answers(answer: Answers, batch: list[Any]) -> list[Any]:
    try:
        return list(answer(batch))
    except Exception as error:
        if len(batch) > 1:  # so that only the one at fault gets none
            return [result for asked in batch for result in _answers(answer, [asked])]
        return [refusal(error) if isinstance(error, ConstraintError) else fault(error)]


def _read(stream: BinaryIO) -> Any:
    """The next frame; None at the end of the stream."""
    length = stream.read(8)
    return pickle.loads(stream.read(int.from_bytes(length, "big"))) if length else None


def _write(stream: BinaryIO, value: object) -> None:
    data = pickle.dumps(value)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


if __name__ == "__main__":
    main()
