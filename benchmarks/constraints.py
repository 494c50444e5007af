"""What rewrites under constraints are worth: 400 prompts of every kind, with one to five clauses and three forbidden
phrases each.

    python benchmarks/constraints.py                            # searched or sampled, as the policy says
    python benchmarks/constraints.py --sample --show 20         # and 20 of the rewrites, to be read
    python benchmarks/constraints.py --output before.json       # and later, beside it, on the same pairs:
    python benchmarks/constraints.py --before before.json

The prompts are those of the reading (`configs/reading/prompts.jsonl`), four times, each time with another seed and
other constraints. These are drawn from the lists below: of the six categories, and of phrases that no policy writes by
itself; what is forbidden is what policies like most. No clause contradicts its prompt or another clause, as far as
`coherence.contradictions` knows the bare phrases. Each rewrite stands beside that of the same prompt and seed without
constraints. Prints a Markdown table.

A required phrase is *delimited* if it begins a modifier (after a separator with its blank), or follows a connective
that begins a modifier or all that was added ("by", "painting by", "in the style of"), and ends a modifier. Others stand
within a longer modifier: one that the policy writes ("wide angle shot"), or one that it was forced into ("award oil
painting"); `--show` tells them apart. A *tail* is what was added, without the modifiers that hold a required phrase;
tails shared by two sets of one prompt were made with the same seed.
"""

import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer

from neuroprompt.coherence import contradictions, unknown_words
from neuroprompt.completions import check_prompt
from neuroprompt.decoding import ConstraintError, Constraints
from neuroprompt.decoding.constraints import occurrences
from neuroprompt.enhancer import EnhancedPrompt, PromptEnhancer
from neuroprompt.modifiers import CATEGORIES
from neuroprompt.programs import quiet_libraries
from neuroprompt.prompt_files import json_line, read_lines
from neuroprompt.prompts import Prompt, modifier_key

PROMPTS = Path(__file__).parents[1] / "configs" / "reading" / "prompts.jsonl"
PHRASES = {
    "artist": "alphonse mucha|claude monet|rembrandt|ivan aivazovsky|hieronymus bosch|j. m. w. turner|studio ghibli|"
    "katsushika hokusai|albrecht dürer|arthur rackham|egon schiele|gustav klimt",
    "style": "baroque|art deco|art nouveau|impressionism|cyberpunk|rococo|bauhaus|ukiyo-e|steampunk|gothic|minimalist|"
    "pre-raphaelite|vaporwave|surrealism",
    "format": "oil painting|watercolor|pencil drawing|charcoal drawing|photograph|3d render|linocut|comic|poster|"
    "illustration|digital painting|matte painting|polaroid|etching",
    "perspective": "wide angle|close up|aerial view|low angle|full body|isometric|profile|centered|macro|from above|"
    "white background|rule of thirds",
    "booster": "masterpiece|intricate|sharp focus|award winning|hyperrealistic|high quality|extremely detailed|hdr|"
    "stunning",
    "vibe": "cinematic|golden hour|fog|moody|cozy|dramatic lighting|neon|pastel colors|black and white|mysterious|"
    "sunset|ethereal|melancholic",
}
UNWRITTEN = (
    "red hat|ohwx woman|a crow on the roof|富士山|Zoë|hand-woven basket|TOP SECRET|<lora:retro:0.6>|(soft glow:1.2)|"
    "two left shoes|half-timbered house|made of butter|мороз|猫|a sleeping greyhound|O'Brien|three-legged stool|"
    "été à Paris|sks dog|a letter from Lisbon|blue-and-white tiles|MADE IN JAPAN|[torn paper]|the year 1887|"
    "copper kettle|wearing mittens|a one-eyed pirate|Straße|smell of rain|number 42"
).split("|")
LIKELY = (
    "highly detailed|8k|4k|artstation|trending on artstation|sharp focus|octane render|cinematic lighting|concept art|"
    "digital painting|intricate|smooth|illustration|elegant|realistic|hdr|unreal engine|masterpiece|high detail|"
    "fantasy|beautiful|oil on canvas|dramatic lighting|vibrant colors|by greg rutkowski|volumetric lighting|detailed"
).split("|")


class Pair(NamedTuple):
    """A prompt, the arguments of its `Constraints`, and the seed to rewrite it with."""

    prompt: str
    constraints: dict
    seed: int


def main(
    model: Annotated[str, typer.Option(help="embedded, a folder, or a hub id.")] = "embedded",
    sample: Annotated[bool | None, typer.Option("--sample/--search", help="By default what the policy says.")] = None,
    count: Annotated[int, typer.Option(help="How many pairs.")] = 400,
    seed: Annotated[int, typer.Option(help="Other constraints.")] = 0,
    show: Annotated[int, typer.Option(help="Print so many rewrites, drawn at random.")] = 0,
    output: Annotated[Path | None, typer.Option(help="A JSON file for pairs, rewrites and figures.")] = None,
    before: Annotated[Path | None, typer.Option(help="Such a file, whose pairs are rewritten again.")] = None,
    device: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Rewrite prompts under constraints and without, and print what became of both."""
    earlier = json.loads(before.read_text("utf-8")) if before else None
    prompts = [line.prompt for line in read_lines(str(PROMPTS))]
    pairs = [Pair(**p) for p in earlier["pairs"]] if earlier else draw_pairs(prompts, count, seed)
    quiet_libraries()
    enhancer = PromptEnhancer.from_pretrained(model, device=device)
    enhancer(prompts[:2], Constraints(require="red hat"))  # warm up

    ours, seconds = rewrite(enhancer, pairs, sample)
    free, free_seconds = rewrite(enhancer, [pair._replace(constraints={}) for pair in pairs], sample)
    twins = [Pair(a.prompt, b.constraints, a.seed) for a, b in zip(pairs, pairs[len(prompts) :], strict=False)]
    others, _ = rewrite(enhancer, twins[: len(prompts)], sample)

    shared = [_tail(a) == _tail(b) != () for a, b in zip(ours, others, strict=False)]
    figures = summarise(pairs, ours, free) | {
        "tails shared by two sets of one prompt": [None, _share(shared, True) if shared else None],
        "seconds a rewrite": [free_seconds, seconds],
    }
    way = {None: "as the policy says", True: "sampled", False: "searched"}[sample]
    print(f"{model}, {way}, {len(pairs)} pairs, torch {torch.__version__}\n")
    print_table(figures, earlier and earlier["figures"])
    for result in random.Random(seed).sample(ours, min(show, len(ours))):
        print(marked(result))
    if output:
        rewrites = [{"text": a.text, "unconstrained": b.text} for a, b in zip(ours, free, strict=True)]
        found = {"model": model, "figures": figures, "pairs": [pair._asdict() for pair in pairs], "rewrites": rewrites}
        output.write_text(json_line(found), "utf-8")


def draw_pairs(prompts: Sequence[str], count: int, seed: int = 0) -> list[Pair]:
    """`count` pairs, the same for everybody: the prompts in turn, with a seed for each round."""
    draw = random.Random(seed)
    return [
        Pair(prompt := prompts[i % len(prompts)], _draw_constraints(draw, prompt), i // len(prompts))
        for i in range(count)
    ]


def rewrite(
    enhancer: PromptEnhancer, pairs: Sequence[Pair], sample: bool | None = None
) -> tuple[list[EnhancedPrompt], float]:
    """The rewrite of each pair, and the seconds that one took."""
    begin, results = time.perf_counter(), {}
    for seed in sorted({pair.seed for pair in pairs}):
        rows = [i for i, pair in enumerate(pairs) if pair.seed == seed]
        wishes = [Constraints(**pairs[i].constraints) for i in rows]
        made = enhancer([pairs[i].prompt for i in rows], wishes, seed=seed, do_sample=sample)
        results |= zip(rows, made, strict=True)
    return [results[i] for i in range(len(pairs))], (time.perf_counter() - begin) / max(1, len(pairs))


def summarise(
    pairs: Sequence[Pair], ours: Sequence[EnhancedPrompt], free: Sequence[EnhancedPrompt]
) -> dict[str, list[float | None]]:
    """Each figure of the rewrites without constraints (None where it has no meaning there), and with."""
    wishes = [Constraints(**pair.constraints) for pair in pairs]
    placed = [p for r, wish in zip(ours, wishes, strict=True) for p in placements(r.text, wish, r.original)]
    matches = [(r.text, match) for r in ours for match in r.constraints.matches]
    spelt = [text[match.start : match.end] == match.phrase for text, match in matches if match]

    def both(measure: Callable[[EnhancedPrompt, Constraints], float]) -> list[float]:
        return [statistics.mean(map(measure, results, wishes)) for results in (free, ours)]

    modifiers = both(lambda r, _: len(r.modifiers))
    beyond = modifiers[1] - modifiers[0] - len(placed) / len(pairs)
    return {
        "clauses met": [None, statistics.mean(match is not None for _, match in matches)],
        "rewrites with a forbidden phrase": both(_has_forbidden),
        "required phrases delimited": [None, _share(placed, "delimited")],
        "required phrases within a longer modifier": [None, _share(placed, "within")],
        "required phrases spelt as they were given": [None, _share(spelt, True)],
        "rewrites with a broken word": both(lambda r, wish: bool(broken_words(r, wish))),
        "rewrites with a doubled word": both(lambda r, _: bool(_DOUBLED_WORD.search(_added(r)))),
        "rewrites with a doubled or an open bracket": both(lambda r, _: _is_ill_bracketed(_added(r))),
        "rewrites with a contradiction that nobody asked for": both(lambda r, _: _contradicts(r)),
        "modifiers": modifiers,
        "modifiers beyond the unconstrained and the open clauses": [None, beyond],
        "distinct tails": [_distinct(free), _distinct(ours)],
        "rewrites with nothing but what is required": both(lambda r, _: not _tail(r)),
        "log-probability a token": both(lambda r, _: r.score),
    }


def placements(text: str, wish: Constraints, head: str) -> Iterator[str | None]:
    """How each clause that `head`, the prompt, leaves open is met: "delimited", "within" a longer modifier, or None."""
    starts, ends = _edges(text)
    if connective := _CONNECTIVE.match(text, len(head)):  # "a cat by claude monet"
        starts.add(connective.end())
    for phrases in wish.clauses:
        spans = [span for phrase in phrases for span in occurrences(text, phrase)]
        if any(end <= len(head) for _, end in spans):
            continue
        if any(start in starts and end in ends for start, end in spans):
            yield "delimited"
        else:
            yield "within" if spans else None


def broken_words(result: EnhancedPrompt, wish: Constraints) -> list[str]:
    """Words that were added and that neither prompts are made of nor the user has given."""
    return unknown_words(_added(result), [result.original, *(phrase for phrases in wish.clauses for phrase in phrases)])


def marked(result: EnhancedPrompt) -> str:
    """A rewrite with what met its clauses in **, as a line of a list."""
    text = result.text
    for match in sorted(filter(None, result.constraints.matches), key=lambda match: -match.start):
        text = f"{text[: match.start]}**{text[match.start : match.end]}**{text[match.end :]}"
    return f"- {' '.join(text.split())}"


def print_table(figures: dict[str, list[float | None]], earlier: dict[str, list[float | None]] | None = None) -> None:
    """The figures as Markdown, beside those of an earlier run."""
    head = ["", "unconstrained", "constrained"]
    if earlier:
        head += ["before: unconstrained", "before: constrained"]
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for name, values in figures.items():
        cells = [*values, *(earlier.get(name, [None, None]) if earlier else [])]
        print(f"| {' | '.join([name, *(_cell(name, value) for value in cells)])} |")
    print()


# --- details -----------------------------------------------------------------------------------------------------

_CONNECTIVE = re.compile(
    r" ?(?:(?:(?:art|artwork|painting|illustration|drawing|photo|photograph) )?by |in the style of )"
)
_DOUBLED_WORD = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_DOUBLED_BRACKET = re.compile(r"[(\[{<]{2}|[)\]}>]{2}")
_IN_NUMBERS = ("modifiers", "log-probability", "seconds")


def _draw_constraints(draw: random.Random, prompt: str) -> dict:
    while True:  # some rounds for a long prompt, which has no room for many clauses
        count = draw.randint(1, 5)
        by_category = draw.sample(CATEGORIES, draw.randint(0, count))
        arguments = {category: draw.choice(PHRASES[category].split("|")) for category in by_category}
        arguments |= {"require": draw.sample(UNWRITTEN, count - len(by_category)), "forbid": draw.sample(LIKELY, 3)}
        try:
            wish = Constraints(**arguments)
            check_prompt(prompt, wish)
        except ConstraintError:  # it needs what it forbids, or more than fits
            continue
        if contradictions(", ".join([prompt, *(phrase for (phrase,) in wish.clauses)])) == contradictions(prompt):
            return arguments


def _edges(text: str) -> tuple[set[int], set[int]]:
    """Where a phrase may begin and end in `text`."""
    prompt, at, starts, ends = Prompt.parse(text), 0, set(), set()
    for separator, segment in zip(prompt.separators, prompt.segments, strict=False):
        at += len(separator)
        if not separator.endswith((",", ";", "|")):
            starts.add(at)
            if connective := _CONNECTIVE.match(segment):
                starts.add(at + connective.end())
        at += len(segment)
        ends.add(at)
    return starts, ends


def _added(result: EnhancedPrompt) -> str:
    return result.text[len(result.original) :]


def _tail(result: EnhancedPrompt) -> tuple[str, ...]:
    required = [match.phrase for match in result.constraints.matches if match] if result.constraints else []
    return tuple(
        modifier_key(m.text) for m in result.modifiers if not any(any(occurrences(m.text, p)) for p in required)
    )


def _contradicts(result: EnhancedPrompt) -> bool:
    """Beyond what the prompt and the clauses say themselves."""
    own = _tail(result)
    asked = [result.original, *(m.text for m in result.modifiers if modifier_key(m.text) not in own)]
    return len(contradictions(result.text)) > len(contradictions(", ".join(asked)))


def _distinct(results: Sequence[EnhancedPrompt]) -> float:
    tails = Counter(filter(None, map(_tail, results)))
    return sum(times == 1 for times in tails.values()) / max(1, tails.total())


def _has_forbidden(result: EnhancedPrompt, wish: Constraints) -> bool:
    return any(any(occurrences(result.text, phrase)) for phrase in wish.forbid)


def _is_ill_bracketed(added: str) -> bool:
    return bool(_DOUBLED_BRACKET.search(added)) or any(added.count(a) != added.count(b) for a, b in ("()", "[]", "{}"))


def _share(values: Sequence[object], value: object) -> float:
    return values.count(value) / max(1, len(values))


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if name.startswith(_IN_NUMBERS) else f"{value:.1%}"


if __name__ == "__main__":
    typer.run(main)
