"""A plain prompt in, an expert one out: the policy continues the user's text with modifiers, or tells it again.

Of a policy that continues, the user's words stay as they are, at the head of the result; what it adds are whole
modifiers, none twice. Of one that retells (see `formats`), every content word of the user's is in the result
(`locked.py`), wherever it has its place there. The whole fits the text encoder's window. Required phrases are there and
forbidden ones are not (see `decoding`). Beam search gives the one best prompt, sampling gives variants; both give a
prompt the same result whatever stands beside it in the batch. Which of the two, and how, a policy can say in its
`generation_config.json`.

Plain beam search gives nearly every prompt the same tail, the likeliest one of all ("one suffix for everything", the
known fault of trained rewriters). So the search runs on log-probabilities with a little noise that belongs to the
prompt (`diversity`): perturb-and-MAP, between the mode at 0 and a sample at 1.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from neuroprompt.coherence import is_understood
from neuroprompt.completions import check_prompt, finish, shortest_rewrite, why_left
from neuroprompt.decoding.constraints import Constraints, Satisfaction, check, occurrences, one_each
from neuroprompt.decoding.processors import (
    GumbelNoise,
    MinModifiers,
    MinP,
    NoRepeatedNGrams,
    Processor,
    StopsAsEnd,
    noise_seed,
    sampling_warpers,
    separator_tokens,
    stop_tokens,
)
from neuroprompt.families import Family
from neuroprompt.fit import is_generic
from neuroprompt.formats import CONTINUE, DIALECTS, Answer, PromptFormat, retelling
from neuroprompt.language_models import writer_of
from neuroprompt.models import ModelError
from neuroprompt.modifiers import categorise
from neuroprompt.policies import open_policy
from neuroprompt.prompts import CLIP_WINDOW, SEPARATORS, Window, WindowLike, count_clip_tokens, join_negatives
from neuroprompt.retelling import Retelling

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from neuroprompt.language_models.gpt2 import GPT2, Generation
    from neuroprompt.language_models.tokenizer import Tokenizer


class Modifier(NamedTuple):
    """A modifier that the policy added, and its category (one of `neuroprompt.modifiers.CATEGORIES`, or None)."""

    text: str
    category: str | None


@dataclass(frozen=True)
class EnhancedPrompt:
    """What became of one prompt.

    Attributes:
        original: The user's text.
        text: The result; of a policy that continues it starts with `original`.
        modifiers: What was added, in order; none of a policy that retells.
        score: Mean log-probability per added token under the policy, in nats; 0.0 where nothing was added, and None
            where it was not asked for.
        seed: What it was made with.
        clip_tokens: Length of `text` for the text encoder, begin and end tokens included.
        constraints: Which words of `text` met which clause, and where; None where nothing was asked for.
        negative: What the picture must not show, for a generator that takes a negative prompt; None for nothing.
        unaided: Whether a policy that retells came by itself to an end, with all that it had to say. If not, its answer
            was made to begin with the user's own words, or is these.
        warning: Why nothing was added, if nothing was.
    """

    original: str
    text: str
    modifiers: tuple[Modifier, ...] = ()
    score: float | None = 0.0
    seed: int = 0
    clip_tokens: int = 0
    constraints: Satisfaction | None = None
    negative: str | None = None
    unaided: bool = True
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {"modifiers": [m._asdict() for m in self.modifiers]}


@dataclass(frozen=True)
class Decoding:
    """How prompts are rewritten; named as in `transformers.GenerationConfig` where there is such a setting.

    What `do_sample`, `temperature`, `diversity` and `usual` are by default, the policy's `generation_config.json` may
    say.

    Args:
        num_return_sequences: Variants per prompt.
        do_sample: Sample instead of searching; by default where the policy says so, or several variants are asked for.
            Where there are constraints to meet, a sample is what the beam search finds in a sample's noise.
        seed: A prompt's results depend on the seed, the prompt and the arguments alone.
        num_beams: Width of the beam search.
        diversity: Scale of the noise on the log-probabilities that beam search sees; 0 is plain beam search, and 0.7
            the default.
        length_penalty: Exponent of the length in a beam's score.
        temperature: Of sampling; 0.9 by default.
        top_k, top_p: Of sampling; `top_k=0` and `top_p=1` take all tokens.
        max_new_tokens: Of the policy, at most; by default as many as the window may hold.
        min_modifiers: The policy may not end before that many (the window may still end it).
        window: What the result must fit: a `prompts.Window`, or a number of CLIP tokens, begin and end included.
        keep: Phrases of the prompt that a policy that retells leaves to the letter.
        keep_words: Such a policy keeps every content word of the prompt, in that form or an inflection of it.
        negative: What the picture must not show, beside what is forbidden.
        coherent: Leave out modifiers that a person would not sign (see `judge`), and leave a prompt as it is to which
            none could fit; where it is False, all that the policy writes stays.
        usual: If `coherent`, leave out what people seldom write behind such prompts (see `fit`) and what says nothing
            new (see `judge.Judge`), too; False by default. It is for a policy that has learnt from texts alone: one
            that was tuned to pictures knows better.
        batch_size: Sequences that are decoded at once; with beam search a prompt takes `num_beams` of them.
        output_scores: Work out the `score` of each result, which takes about as long as to sample it.

    Raises:
        ValueError: A setting is out of range.
    """

    num_return_sequences: int = 1
    do_sample: bool | None = None
    seed: int = 0
    num_beams: int = 5
    diversity: float | None = None
    length_penalty: float = 1.0
    temperature: float | None = None
    top_k: int = 100
    top_p: float = 1.0
    max_new_tokens: int | None = None
    min_modifiers: int = 4
    window: WindowLike = CLIP_WINDOW
    keep: Sequence[str] = ()
    keep_words: bool = True
    negative: str | None = None
    coherent: bool = True
    usual: bool | None = None
    batch_size: int = 160
    output_scores: bool = True

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not low <= value <= high:  # as NaN is not
                most = "up" if high == math.inf else f"to {high:,}"
                raise ValueError(f"{name} is {value}: give a number from {low} {most}")

    def of_policy(self, own: "GenerationConfig | Generation") -> "Decoding":
        """With what the policy's own settings say of what is None here."""
        sample = bool(own.do_sample) or self.num_return_sequences > 1 if self.do_sample is None else self.do_sample
        if not sample and self.num_return_sequences > self.num_beams:
            raise ValueError(f"{self.num_beams} beams cannot return {self.num_return_sequences} prompts: sample them")
        diversity = getattr(own, "diversity", DIVERSITY) if self.diversity is None else self.diversity
        temperature = (own.temperature or TEMPERATURE) if self.temperature is None else self.temperature
        usual = getattr(own, "usual", False) if self.usual is None else self.usual
        own_ways = {"do_sample": sample, "diversity": diversity, "temperature": temperature, "usual": usual}
        return replace(self, **own_ways, window=Window.of(self.window), keep=tuple(self.keep))

    @property
    def samples(self) -> int:
        """How often a prompt is decoded."""
        return self.num_return_sequences if self.do_sample else 1

    @property
    def returned(self) -> int:
        """How many results come of one decoding."""
        return 1 if self.do_sample else self.num_return_sequences


Wishes = Constraints | Sequence[Constraints | None] | None
"""What results must and must not say: one for all prompts, or one (or None) for each."""


class PromptEnhancer:
    """Rewrites prompts with a causal language model.

    Args:
        model: Any causal LM of `transformers`; or a `GPT2` of ours, which takes NumPy alone.
        tokenizer: Its tokenizer.
        format: How it is asked, and how its answer is read; without one it continues the prompt.
        decoding: Settings of `Decoding` that are its own.

    Examples:
        >>> enhancer = PromptEnhancer.from_pretrained()
        >>> enhancer("boy on a horse").text.startswith("boy on a horse, ")
        True
    """

    def __init__(
        self,
        model: "PreTrainedModel | GPT2",
        tokenizer: "PreTrainedTokenizerBase | Tokenizer",
        format: PromptFormat = CONTINUE,
        decoding: Mapping[str, Any] | None = None,
    ):
        self.model, self.name = model, model.name_or_path or "the policy"
        self.tokenizer, self.format, self.decoding = tokenizer, format, dict(decoding or {})
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer of {model.name_or_path} has no end-of-sequence token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        self._writer = writer_of(model, tokenizer)
        if (most := max(tokenizer.get_vocab().values())) >= (entries := self._writer.entries):
            raise ModelError(
                f"the tokenizer of {model.name_or_path} is another model's: it has {most + 1} entries, and the model "
                f"reads {entries}"
            )
        self._xp, self._positions = self._writer.xp, self._writer.positions
        self._separators = separator_tokens(tokenizer, self._writer.vocab_size, self._xp)
        self._stops = self._xp.asarray(stop_tokens(tokenizer, format.stop))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        device: str | None = None,
        dtype: "str | torch.dtype | None" = None,
        backend: str | None = None,
    ) -> "PromptEnhancer":
        """Load a policy.

        Args:
            name: ``embedded``, a folder, a hub id, or a YAML file (see `policies.PolicyConfig`).
            device: Such as ``cuda``; by default the accelerator if there is one.
            dtype: Of the weights; float32 on a CPU and the checkpoint's own elsewhere by default.
            backend: What it runs on: ``torch``, or ``numpy``, of the policies that ship and their like (GPT-2 without
                adapters), which starts in a tenth of the time, on the CPU. By default torch where it is installed. The
                texts are the same.

        Raises:
            ModelError: The model cannot be loaded, or is not what its config says, or has no chat template to be asked
                by; pickled weights are refused, and no code that comes with a model is run.
        """
        made = cls(*open_policy(name, device, dtype, backend))
        made.name = str(name)
        return made

    def asked(self, instruction: str | None = None, family: Family | None = None) -> "PromptEnhancer":
        """The same policy, asked otherwise.

        Args:
            instruction: In the place of its own: what a chat model is told, or, where it says ``{prompt}``, what any
                model reads.
            family: The generators that are to read its prompts: their window, and, of a chat model that was not
                trained to anything else, tags or prose.

        Raises:
            ModelError: It is no chat model, and the instruction does not say where the prompt stands.
            ValueError: The instruction says nothing.
        """
        other = copy(self)
        if family:
            other.decoding = self.decoding | {"window": family.window}
            if self.format in map(retelling, DIALECTS):
                other.format = retelling(family.dialect)
        if instruction is not None:
            other.format = other.format.instructed(instruction, self.tokenizer, self.name)
            other.format.check(self.tokenizer, self.name)
        if other.format.stop != self.format.stop:  # which takes a second of a vocabulary of 150,000
            other._stops = self._xp.asarray(stop_tokens(self.tokenizer, other.format.stop))
        return other

    @overload
    def __call__(
        self, prompts: str, constraints: Wishes = ..., *, num_return_sequences: Literal[1] = ..., **settings: Any
    ) -> EnhancedPrompt: ...
    @overload
    def __call__(
        self,
        prompts: Sequence[str],
        constraints: Wishes = ...,
        *,
        num_return_sequences: Literal[1] = ...,
        **settings: Any,
    ) -> list[EnhancedPrompt]: ...
    @overload
    def __call__(
        self, prompts: str | Sequence[str], constraints: Wishes = ..., **settings: Any
    ) -> EnhancedPrompt | list[EnhancedPrompt] | list[list[EnhancedPrompt]]: ...
    def __call__(
        self, prompts: str | Sequence[str], constraints: Wishes = None, **settings: Any
    ) -> EnhancedPrompt | list[EnhancedPrompt] | list[list[EnhancedPrompt]]:
        """Rewrite one prompt or many.

        Args:
            prompts: A text, or a sequence of texts.
            constraints: What the results must and must not say: one for all prompts, or one (or None) for each.
            settings: Of `Decoding`, such as ``num_return_sequences=4, seed=7``.

        Returns:
            An `EnhancedPrompt` for a text and a list of them, in order, for a sequence; with `num_return_sequences`
            above 1, a list of variants in the place of each.

        Raises:
            TypeError: A prompt is no string, or there is no such setting.
            ValueError: A prompt is empty or holds a NUL character, or a setting is out of range.
            ConstraintError: (a ValueError) The constraints cannot be met; found before decoding.
        """
        decoding, single = Decoding(**self.decoding | settings), isinstance(prompts, str)
        originals = [prompts] if single else list(prompts)
        wishes = one_each(constraints, len(originals))
        for original, wish in zip(originals, wishes, strict=True):
            check_prompt(original, wish, decoding.window)
        made = self.rewrite(originals, wishes, **settings)
        results = made if decoding.num_return_sequences > 1 else [variants[0] for variants in made]
        return results[0] if single else results

    def rewrite(
        self,
        originals: Sequence[str],
        constraints: Wishes = None,
        *,
        seeds: Sequence[int] | None = None,
        **settings: Any,
    ) -> list[list[EnhancedPrompt]]:
        """The variants of each prompt, in order: as `__call__`, always in this shape, for callers that have asked
        `check_prompt` already. `seeds`, one for each prompt, are in the place of the setting `seed`."""
        decoding = Decoding(**self.decoding | settings).of_policy(self.model.generation_config)
        wishes, seeds = one_each(constraints, len(originals)), seeds or [decoding.seed] * len(originals)
        rows = [
            self._row(original, seed, variant, wish or None, decoding)
            for original, seed, wish in zip(originals, seeds, wishes, strict=True)
            for variant in range(decoding.samples)
        ]
        left = {row: _why_left(row, decoding) for row in rows}
        results = {row: [_unchanged(row, decoding, why)] * decoding.returned for row, why in left.items()}
        for batch, beams in _batches({row for row, why in left.items() if not why}, decoding):
            written = (self._retell if self.format.replaces else self._write)(batch, beams, decoding)
            results |= zip(batch, self._results(batch, written, decoding), strict=True)
        flat = [result for row in rows for result in results[row]]
        count = decoding.num_return_sequences
        return [flat[start : start + count] for start in range(0, len(flat), count)]

    def best_of(
        self,
        count: int,
        originals: Sequence[str],
        score: Callable[[Sequence[str], Sequence[str]], np.ndarray],
        constraints: Wishes = None,
        **settings: Any,
    ) -> list[EnhancedPrompt]:
        """Of `count` samples of each prompt the one that `score` likes best; the first of equals.

        Args:
            count: How many samples there are to choose from.
            originals: Prompts, as `rewrite` takes them.
            score: Plain prompts and their rewrites to a number each, (n,): `RewardModel.score`, which draws nothing,
                or a `PromptReward`'s. What is not finite is chosen only where nothing else is there.
            constraints, settings: As of `rewrite`; samples are drawn at the temperature 0.9 where none is given.
        """
        own = {"temperature": TEMPERATURE} | settings | {"num_return_sequences": count, "do_sample": True}
        made = self.rewrite(originals, constraints, **own)
        scores = score(
            [original for original in originals for _ in range(count)],
            [sample.text for samples in made for sample in samples],
        )
        best = np.where(np.isfinite(scores), scores, -np.inf).reshape(-1, count).argmax(1)
        return [samples[i] for samples, i in zip(made, best.tolist(), strict=True)]

    def _row(self, original: str, seed: int, variant: int, wish: Constraints | None, decoding: Decoding) -> "_Row":
        room = decoding.window.room(original)
        if not self.format.replaces:
            return _Row(original, seed, variant, wish, room)
        retelling = Retelling.of(original, wish, decoding.keep, decoding.keep_words, self.format)
        return _Row(original, seed, variant, retelling.constraints, room, retelling=retelling)

    # -- policies that retell

    def _retell(self, rows: "list[_Row]", beams: int, decoding: Decoding) -> "list[list[_Written]]":
        """The text of each result of each row. An answer that is none, or into which the words had to be forced, is
        given up for one that begins with the user's own words, as those of long prompts do from the start; where that
        is none either, the prompt stays as it is."""
        rows = [_begin_anew(row) if row.retelling.is_long(decoding.window) else row for row in rows]
        answers = [[self._read(row, tail, decoding) for tail in own] for row, own in self._asked(rows, beams, decoding)]
        unaided = [[not answer.problem for answer in own] for own in answers]
        if decoding.returned == 1:
            again = {i: _begin_anew(rows[i]) for i, (answer,) in enumerate(answers) if answer.problem}
            if again:
                for i, (row, (tail,)) in zip(again, self._asked([*again.values()], beams, decoding), strict=True):
                    better = self._read(row, tail, decoding)
                    if better.text and not (better.problem and answers[i][0].text):
                        answers[i] = [better]
        return [
            [
                _Written(answer.text, None, unaided=fine)
                if answer.text
                else _Written(row.retelling.own_words, f"left as it is: {answer.problem}", unaided=False)
                for answer, fine in zip(own, whole, strict=True)
            ]
            for row, own, whole in zip(rows, answers, unaided, strict=True)
        ]

    def _asked(self, rows: "list[_Row]", beams: int, decoding: Decoding) -> "Iterator[tuple[_Row, list[_Tail]]]":
        """The answers to each row, `decoding.returned` texts, with what of each was begun."""
        prompts, begun = [row.retelling.locked.asked or row.original for row in rows], [row.begun for row in rows]
        tokens = self.format.encode(self.tokenizer, prompts, begun=begun)
        if self.format.thinking:
            bare = self.format.encode(self.tokenizer, prompts)
            thoughts = self._think(bare, rows, decoding)
            answers = self.tokenizer(begun, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            tokens = [*map(sum, zip(bare, thoughts, answers, strict=True), repeat([]))]
        counted = [self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in begun]
        budgets = [self._answer_budget(row, decoding) for row in rows]
        tails = self._generate(rows, tokens, budgets, beams, decoding, counted=counted)
        for row, own in zip(rows, tails, strict=True):
            yield row, [_Tail(row.begun + tail.text, tail.ended, tail.closed) for tail in own]

    def _read(self, row: "_Row", tail: "_Tail", decoding: Decoding) -> Answer:
        read = self.format.read(row.original, tail.text, tail.ended or tail.closed)
        answer = row.retelling.finish(read, decoding.window)
        return answer._replace(problem="its words had to be forced") if answer.text and tail.closed else answer

    def _think(self, tokens: list[list[int]], rows: "list[_Row]", decoding: Decoding) -> list[list[int]]:
        """What the model thinks before it answers, as tokens: to the end of its thinking, which is written for it where
        it comes to none (Muennighoff et al. 2025, arXiv 2501.19393); nothing where it does not think."""
        processors = self._noise(rows, max(map(len, tokens)), decoding)
        written = self.tokenizer.batch_decode(self._writer.think(tokens, processors, self.format.thinking))
        thoughts = []
        for asked, text in zip(tokens, written, strict=True):
            thought, closed, _ = text.partition("</think>")
            begun = "<think>" in thought or "<think>" in self.tokenizer.decode(asked[-8:])
            for token in self.tokenizer.all_special_tokens:
                thought = thought.replace(token, "")
            text = f"{thought if closed else thought.rstrip()}{'' if closed else chr(10)}</think>\n\n" if begun else ""
            thoughts.append(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return thoughts

    def _answer_budget(self, row: "_Row", decoding: Decoding) -> int:
        """The tokens that an answer may get: what the window holds, but no more than a paragraph; and room for what
        must be said."""
        most = min(decoding.window.tokens or LONGEST_ANSWER, LONGEST_ANSWER)
        small = len(self.tokenizer) < CLIP_VOCABULARY
        budget = decoding.max_new_tokens or math.ceil((TOKENS_PER_CLIP_TOKEN if small else 1) * most)
        said = (
            row.begun + ", ".join(phrases[0] for phrases in row.constraints.clauses) if row.constraints else row.begun
        )
        return max(budget, 16 + 2 * len(self.tokenizer(said)["input_ids"]))

    # -- policies that continue

    def _write(self, rows: "list[_Row]", beams: int, decoding: Decoding) -> "list[list[_Written]]":
        """Each result of each row."""
        return [
            [_Written(text, None if modifiers else _nothing(row, decoding), modifiers) for text, modifiers in own]
            for row, own in zip(rows, self._modified(rows, beams, decoding), strict=True)
        ]

    def _modified(self, rows: "list[_Row]", beams: int, decoding: Decoding) -> "list[list[tuple[str, list[str]]]]":
        """The text and the modifiers of each result of each row. Where so much had to be left out that too little
        stayed (`_is_short`), the policy goes on from there, `TRIES` times in all."""
        tails = self._continue(rows, beams, decoding)
        written = [[_finished(row, tail, decoding) for tail in own] for row, own in zip(rows, tails, strict=True)]
        if not decoding.coherent or decoding.returned > 1:
            return written
        for number in range(1, TRIES):
            short = {}
            for i, (row, ((text, modifiers), *_)) in enumerate(zip(rows, written, strict=True)):
                room = decoding.window.room(text)
                hopeless = not modifiers and number > HOPELESS
                if room > 0 and not hopeless and _is_short(row, modifiers, decoding):
                    begun, counted = text[len(row.original) :], min(len(modifiers), ENOUGH + _clauses(row) - 1)
                    short[i] = row._replace(begun=begun, modifiers=counted, room=room, tried=number)
            if not short:
                break
            more = self._continue([*short.values()], beams, decoding)
            for (i, row), (tail,) in zip(short.items(), more, strict=True):
                more_text = _from_separator(tail.text) if row.begun else tail.text
                written[i] = [_finished(row, _Tail(row.begun + more_text, tail.ended), decoding)]
        return written

    def _continue(self, rows: "list[_Row]", beams: int, decoding: Decoding) -> "list[list[_Tail]]":
        """What the policy adds to each row: `decoding.returned` texts."""
        # Budgets and what is cut off belong to the row, so that its result does not depend on its batch.
        budgets = [self._budget(row, decoding.max_new_tokens) for row in rows]
        heads = [(row.original + row.begun).rstrip(SEPARATORS) for row in rows]
        longest = [self._positions - budget for budget in budgets]
        tokens = self.format.encode(self.tokenizer, heads, longest, [_wanted(row) for row in rows])
        return self._generate(rows, tokens, budgets, beams, decoding)

    def _generate(
        self,
        rows: "list[_Row]",
        tokens: list[list[int]],
        budgets: list[int],
        beams: int,
        decoding: Decoding,
        counted: list[list[int]] | None = None,
    ) -> "list[list[_Tail]]":
        """What the policy writes after each row's tokens: `decoding.returned` texts."""
        length, xp, processors = max(map(len, tokens)), self._xp, []
        if self.format.replaces:  # of its own text alone: it repeats the user's
            processors.append(NoRepeatedNGrams(3, start=length))
            if len(self._stops):
                processors.append(StopsAsEnd(self._stops, xp.asarray(self._writer.ends)))
        else:
            wanted = [max(0, decoding.min_modifiers + _clauses(row) - row.modifiers) for row in rows]
            few = MinModifiers(self._separators, self.tokenizer.eos_token_id, xp.asarray(wanted), length)
            processors += [NoRepeatedNGrams(3), few]
        processors += self._noise(rows, length, decoding)
        written = self._writer.write(
            tokens,
            processors,
            budgets=budgets,
            beams=beams,
            returned=decoding.returned,
            length_penalty=decoding.length_penalty,
            constraints=[row.constraints for row in rows],
            counted=counted,
        )
        texts = self.tokenizer.batch_decode(
            written.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        ended = [not {*self._writer.ends}.isdisjoint(own) for own in written.tokens]
        tails = [_Tail(*tail) for tail in zip(texts, ended, written.closed, strict=True)]
        return [tails[start : start + decoding.returned] for start in range(0, len(tails), decoding.returned)]

    def _noise(self, rows: "list[_Row]", length: int, decoding: Decoding) -> list[Processor]:
        """What makes an argmax a sample, or a search less alike from prompt to prompt."""
        processors: list[Processor] = []
        if decoding.do_sample:
            processors += sampling_warpers(decoding.temperature, decoding.top_k, decoding.top_p)
        if noise := 1.0 if decoding.do_sample else decoding.diversity:
            seeds = [noise_seed(row.seed, row.variant, row.original, *_own(row)) for row in rows]
            among: list[Processor] = []
            if self.format.replaces:  # what the user's words begin with must not be closed: it gets no noise instead
                processors, among = processors[:1], [*processors[1:], MinP(LEAST_LIKELY)]
            processors.append(GumbelNoise(self._xp.asarray(seeds), length, noise, among))
        return processors

    def _budget(self, row: "_Row", max_new_tokens: int | None) -> int:
        """The policy's tokens that a row may get: enough for its room in the window and for what is required."""
        budget = max_new_tokens or math.ceil(TOKENS_PER_CLIP_TOKEN * row.room)
        if row.constraints:
            required = shortest_rewrite(row.original, row.constraints)[len(row.original) :]
            budget = max(budget, 8 + 2 * len(self.tokenizer(required)["input_ids"]))
        return min(budget, self._positions // 2)

    def _results(
        self, rows: "list[_Row]", written: "list[list[_Written]]", decoding: Decoding
    ) -> list[list[EnhancedPrompt]]:
        """With scores, and with what became of the constraints."""
        scores: Iterator[float | None] = repeat(None)
        if decoding.output_scores:
            pairs = [self._pair(row, text) for row, own in zip(rows, written, strict=True) for text, *_ in own]
            scores = self._score(pairs)
        return [
            [
                EnhancedPrompt(
                    original=row.original,
                    text=text,
                    modifiers=tuple(Modifier(m, categorise(m)) for m in modifiers),
                    score=next(scores),
                    seed=row.seed,
                    clip_tokens=count_clip_tokens(text),
                    constraints=check(text, row.wish) if row.wish else None,
                    negative=_negative(row, decoding),
                    unaided=unaided,
                    warning=warning,
                )
                for text, warning, modifiers, unaided in own
            ]
            for row, own in zip(rows, written, strict=True)
        ]

    def _pair(self, row: "_Row", text: str) -> tuple[str, str, str]:
        """What `_score` is to score: what the policy was asked, what it wrote, and what `_wanted` says."""
        if row.retelling:
            return row.retelling.locked.asked, text, row.original
        head = row.original.rstrip(SEPARATORS)
        return head, text[len(head) :], _wanted(row)

    def _score(self, pairs: list[tuple[str, str, str]]) -> Iterator[float]:
        """Mean log-probability of the second text's tokens after the first, the third being what `_wanted` says."""
        prompts, texts, about = zip(*pairs, strict=True)
        tails = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        heads = self.format.encode(self.tokenizer, prompts, [self._positions - len(t) for t in tails], about)
        yield from self._writer.score(heads, tails)


# --- details -----------------------------------------------------------------------------------------------------

# Small vocabularies cut words finer than CLIP's does.
TOKENS_PER_CLIP_TOKEN, CLIP_VOCABULARY = 1.25, 49_000
# Where a policy does not say its own: how much noise the search gets, and at which temperature samples are drawn. Those
# that pictures choose from are drawn at this one in any case: they should differ more than one that is used as it is.
DIVERSITY = 0.7
TEMPERATURE = 0.9
LEAST_LIKELY = 0.018  # of the likeliest token's probability: what of a chat model's large vocabulary gets noise
LONGEST_ANSWER = 128  # CLIP tokens, of a policy that retells where nobody says: a paragraph, whatever the window holds
TRIES, ENOUGH = 8, 3  # to find modifiers that nobody objects to, and how many do
HOPELESS = 2  # tries after which a policy of which nothing stayed, an untrained one, is believed


_RANGES = {
    "num_return_sequences": (1, 1_000_000),
    "num_beams": (1, 10_000),
    "diversity": (0, 10),
    "temperature": (0.001, 1000),
    "top_k": (0, math.inf),
    "top_p": (1e-9, 1),
    "min_modifiers": (0, 1_000_000),
    "window": (3, 1_000_000),
    "batch_size": (1, math.inf),
}  # beyond, numbers overflow, and scores come to NaN: nothing would be written, or what nobody asked for


class _Row(NamedTuple):
    original: str
    seed: int
    variant: int
    constraints: Constraints | None
    room: int  # CLIP tokens left by the original, and by what is begun
    begun: str = ""  # what stays of the tries before, and
    modifiers: int = 0  # how many modifiers that are
    tried: int = 0
    retelling: Retelling | None = None  # of a policy that retells; `constraints` are then all that the answer must meet

    @property
    def wish(self) -> Constraints | None:
        """The user's own."""
        return self.retelling.wish if self.retelling else self.constraints


class _Tail(NamedTuple):
    text: str
    ended: bool  # by itself
    closed: bool = False  # what was open at its end had to be written one by one


class _Written(NamedTuple):
    text: str
    warning: str | None
    modifiers: Sequence[str] = ()
    unaided: bool = True


def _finished(row: _Row, tail: _Tail, decoding: Decoding) -> tuple[str, list[str]]:
    return finish(
        row.original,
        tail.text,
        tail.ended,
        decoding.window,
        row.constraints,
        decoding.coherent,
        is_understood(row.original),
        bool(decoding.usual),
    )


def _is_short(row: _Row, modifiers: Sequence[str], decoding: Decoding) -> bool:
    """Whether there are fewer than `ENOUGH` modifiers (or `min_modifiers`) beside what is required, or, of a policy
    whose modifiers are to be usual, none that says what the picture shows."""
    if len(modifiers) < min(decoding.min_modifiers, ENOUGH) + _clauses(row):
        return True
    required = [phrase for phrases in row.constraints.clauses for phrase in phrases] if row.constraints else []
    own = [m for m in modifiers if not any(any(occurrences(m, phrase)) for phrase in required)]
    return bool(decoding.usual and decoding.min_modifiers and all(map(is_generic, own)))


def _from_separator(text: str) -> str:
    """Without what would make the last modifier another one: "two colors" + " of gold, 8k"."""
    return text[len(text.split(",")[0]) :] if text.strip() and text.lstrip()[0] not in SEPARATORS else text


def _clauses(row: _Row) -> int:
    return len(row.constraints.clauses) if row.constraints else 0


def _own(row: _Row) -> tuple:
    """What sets the noise of one wish, and of a second try, apart from another's: else a prompt would get one tail
    whatever is required, and the same again."""
    wish = (row.constraints.clauses, row.constraints.forbid) if row.constraints else ()
    return (*wish, row.begun, row.tried) if row.tried else wish


def _batches(rows: set[_Row], decoding: Decoding) -> Iterator[tuple[list[_Row], int]]:
    """The rows in batches, each with its number of beams: samples need none, unless there are constraints to meet."""
    free = {row for row in rows if decoding.do_sample and not row.constraints}
    for group, beams in ((free, 1), (rows - free, decoding.num_beams)):
        # Rows of like length share a batch: less padding, and a common budget of new tokens.
        ordered = sorted(group, key=lambda row: (row.room, row.original, row.seed, row.variant))
        size = max(1, decoding.batch_size // beams)
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size], beams


def _wanted(row: _Row) -> str:
    """The prompt, and what is required besides."""
    return shortest_rewrite(row.original, row.constraints) if row.constraints else row.original


def _why_left(row: _Row, decoding: Decoding) -> str | None:
    """Why a prompt is not given to the policy, if so."""
    if row.room <= 0:
        window = decoding.window
        return f"{window.tokens - row.room} {window.counter} tokens, and the window has {window.tokens}"
    required = row.wish and row.wish.clauses
    return None if required or not decoding.coherent else why_left(row.original)


def _unchanged(row: _Row, decoding: Decoding, why: str | None) -> EnhancedPrompt:
    return EnhancedPrompt(
        original=row.original,
        text=row.original,
        seed=row.seed,
        clip_tokens=count_clip_tokens(row.original),
        constraints=check(row.original, row.wish) if row.wish else None,
        negative=_negative(row, decoding),
        warning=f"left as it is: {why}" if why else None,
    )


def _begin_anew(row: _Row) -> _Row:
    """The row, with an answer that begins with the user's own words."""
    return row._replace(begun=row.retelling.begun, tried=row.tried + 1)


def _negative(row: _Row, decoding: Decoding) -> str | None:
    """What the picture must not show: the user's own words for it, and what is forbidden."""
    return join_negatives(decoding.negative, *(row.wish.forbid if row.wish else ()))


def _nothing(row: _Row, decoding: Decoding) -> str:
    """Why a result is the prompt as it was."""
    unread = decoding.coherent and not is_understood(row.original)
    what = "fits whatever the prompt says, as it reads English" if unread else "is new and fits"
    why = f"nothing was added: nothing that the policy wrote {what} (CLIP tokens left: {row.room})"
    forbidden = row.constraints.forbid if row.constraints else ()
    return f"{why} without {', '.join(map(repr, forbidden))}" if forbidden else why
