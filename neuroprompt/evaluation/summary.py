"""From an evaluation's records to its numbers and tables.

Prompts are the unit: a method's value on a prompt is the mean over the seeds whose pictures were not flagged, intervals
are bootstrap intervals over prompts, and two methods are compared prompt by prompt on the seeds that both have.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from torch import Tensor

from neuroprompt import __version__
from neuroprompt.experiments import REWARD, SETTINGS, read_records, repository_commit, write_whole
from neuroprompt.pages.tables import Table, csv_text, format_interval, markdown_text
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.scoring import Term, combined
from neuroprompt.statistics import Interval, bootstrap, compare
from neuroprompt.terminal import Terminal, counted


def summarise(
    folder: str | Path, embed: Callable[[list[str]], Tensor] | None = None, references: Sequence[str] = ()
) -> dict:
    """The numbers of an evaluation, from its folder alone.

    Args:
        folder: With ``settings.json`` and ``records.jsonl``.
        embed: Texts to unit vectors, for the spread of the rewrites; left out without it.
        references: Methods that the others are compared with, besides the first.

    Returns:
        JSON types; an interval is ``{"mean", "low", "high"}`` at 95 %. Among them

        - ``methods``: for each method ``reward`` (the combined one of `PromptReward`) and ``scores`` (each component's
          own), as intervals; ``against`` (None for the first method): for the reward and each component the paired
          ``difference`` to the first method, ``win_rate`` and ``p_value`` of a sign test, and the number of
          ``prompts``; ``ranked``: [prompt, difference in reward], the best first; ``flagged``: share of pictures;
          ``satisfied``: share of prompts that meet the constraints; ``clip_tokens`` (mean) and ``exceed_window``
          (share); ``keeps_text``: share that starts with the plain prompt, verbatim; ``words_kept``: mean share of the
          plain prompt's words that are still there; ``distinct_1`` and ``distinct_2`` (Li et al. 2016): different words
          and pairs of words per word and pair that was added; ``distinct_tails``: different additions per addition;
          ``spread``: mean cosine distance between the embeddings of two prompts' rewrites.
        - ``references``: for each of these methods, what ``against`` is for the first, by method.
        - ``latency``: seconds of rewriting per prompt; all that two runs may differ in.
    """
    folder = Path(folder)
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    names = list(settings["methods"])
    data = {name: _MethodData(settings, embed is not None) for name in names}
    pending: list[dict] = []

    def embed_pending() -> None:
        """A chunk of one method at a time, which is the same batch in every run."""
        if embed and pending:
            texts = [r["text"] for r in pending]
            data[pending[0]["method"]].add_embeddings(embed(texts))
        pending.clear()

    for record in read_records(folder):
        if pending and (record["method"] != pending[0]["method"] or len(pending) == settings["chunk_size"]):
            embed_pending()
        data[record["method"]].add(record)
        pending.append(record)
    embed_pending()
    rewards = {name: of.values(data.get("plain"), settings) for name, of in data.items()}
    first = names[0]
    return {
        "kind": "evaluation",
        "neuroprompt": __version__,
        "commit": repository_commit(),
        "versions": {p: version(p) for p in ("torch", "transformers", "diffusers", "open_clip_torch", "numpy")},
        "settings": settings,
        "prompts": settings["prompts"]["count"],
        "baseline": first,
        "methods": {
            name: _summary(of, rewards[name], rewards[first] if name != first else None) for name, of in data.items()
        },
        "references": {
            reference: {name: _against(of, rewards[reference]) for name, of in rewards.items() if name != reference}
            for reference in references
        },
        "latency": {name: of.seconds / of.count for name, of in data.items()},
    }


def write_results(results: Mapping, folder: str | Path) -> None:
    """Write ``results.json``, ``results.csv`` and ``table.md``, each whole or not at all."""
    folder = Path(folder)
    write_whole(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    write_whole(folder / "results.csv", _csv(results, folder))
    title = markdown_text(results.get("title") or "Evaluation")
    parts = [f"# {title}", *(f"## {markdown_text(t.title)}\n\n{t.markdown()}" for t in tables(results))]
    write_whole(folder / "table.md", "\n\n".join(parts) + "\n")


# --- tables ------------------------------------------------------------------------------------------------------


def tables(results: Mapping) -> list[Table]:
    """The tables of an evaluation: rewards, differences to the first method, the prompts themselves, latency last."""
    methods, first = results["methods"], results["baseline"]
    scores = list(next(iter(methods.values()))["scores"])
    prompts, seeds = (counted(results["prompts"], "prompt"), counted(results["settings"]["images_per_prompt"], "seed"))
    made = [
        Table(
            "Rewards",
            f"Mean and 95 % bootstrap interval over {prompts}, {seeds} each, the same for all.",
            ["method", REWARD, *scores],
            [
                [name, format_interval(of[REWARD]), *(format_interval(of["scores"][s]) for s in scores)]
                for name, of in methods.items()
            ],
        )
    ]
    compared = {first: {name: of["against"] for name, of in methods.items() if of["against"]}, **results["references"]}
    made += [
        Table(
            f"Against {reference}",
            "Mean paired difference with its 95 % bootstrap interval; of the reward also the share of prompts on "
            "which the method is better (a tie is half a win) and the p-value of a two-sided sign test.",
            ["method", REWARD, "better", "p", *scores],
            [_comparison_row(name, against, scores) for name, against in others.items()],
        )
        for reference, others in compared.items()
        if others
    ]
    shown = [(key, title, form) for key, title, form in _COLUMNS if any(of[key] is not None for of in methods.values())]
    made.append(
        Table(
            "Prompts",
            "What the rewritten prompts look like; shares are of the prompts, and distinct-n is of what was added.",
            ["method", *(title for _, title, _ in shown)],
            [[name, *(_cell(of[key], form) for key, _, form in shown)] for name, of in methods.items()],
        )
    )
    latency = [[name, f"{seconds:.4f}"] for name, seconds in results["latency"].items()]
    made.append(
        Table("Latency", "Rewriting only, pictures not counted but those of a search.", ["method", "s/prompt"], latency)
    )
    return made


def print_tables(results: Mapping, console: Console | None = None) -> None:
    """Show the tables in a terminal."""
    console = console or Terminal(highlight=False)
    for table in tables(results):
        shown = RichTable(title=Text(table.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for i, column in enumerate(table.columns):
            shown.add_column(Text(column), justify="right" if i else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        console.print(Text(table.note, style="dim"))
        console.print()


_COLUMNS = [
    ("words_kept", "words kept", ".1%"),
    ("keeps_text", "text kept", ".1%"),
    ("satisfied", "constraints met", ".1%"),
    ("clip_tokens", "CLIP tokens", ".1f"),
    ("exceed_window", "too long", ".1%"),
    ("distinct_1", "distinct-1", ".3f"),
    ("distinct_2", "distinct-2", ".3f"),
    ("distinct_tails", "distinct tails", ".1%"),
    ("spread", "embedding spread", ".3f"),
    ("flagged", "flagged", ".1%"),
]


def _comparison_row(name: str, against: Mapping, scores: list[str]) -> list[str]:
    differences = [format_interval(against[s] and against[s]["difference"], signed=True) for s in (REWARD, *scores)]
    of = against[REWARD]
    more = [f"{of['win_rate']:.1%}", f"{of['p_value']:.2g}"] if of else ["–", "–"]
    return [name, differences[0], *more, *differences[1:]]


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


# --- numbers -----------------------------------------------------------------------------------------------------


class _MethodData:
    """What a method's records come to, with no text kept but the additions' counts."""

    def __init__(self, settings: Mapping, embedded: bool):
        shape = settings["prompts"]["count"], settings["images_per_prompt"]
        self.scores = {name: np.full(shape, np.nan) for name in settings["rewards"]}  # (prompts, seeds)
        self.flagged = np.zeros(shape, bool)
        self.count, self.seconds, self.tokens = 0, 0.0, 0
        self.satisfied, self.constrained, self.exceed, self.keeps, self.words_kept = 0, 0, 0, 0, 0.0
        self.unigrams: Counter[str] = Counter()
        self.bigrams: Counter[tuple[str, str]] = Counter()
        self.tails: Counter[str] = Counter()
        self.embedding_sum = 0.0 if embedded else None

    def add(self, record: Mapping) -> None:
        i = record["index"]
        for name, values in record["scores"].items():
            self.scores[name][i] = np.array(values, np.float64)  # None becomes NaN
        self.flagged[i] = record["flagged"]
        self.count += 1
        self.seconds += record["seconds"]
        self.tokens += record["clip_tokens"]
        self.exceed += record["clip_tokens"] > CLIP_WINDOW
        self.constrained += record["satisfied"] is not None
        self.satisfied += bool(record["satisfied"])
        original, text = record["original"], record["text"]
        self.keeps += text.startswith(original)
        kept, added = kept_and_added(original, text)
        self.words_kept += kept
        self.unigrams.update(added)
        self.bigrams.update(pairwise(added))
        if added:
            self.tails[" ".join(added)] += 1

    def add_embeddings(self, embeddings: Tensor) -> None:
        self.embedding_sum = self.embedding_sum + embeddings.double().sum(0).cpu().numpy()

    def values(self, plain: "_MethodData | None", settings: Mapping) -> dict[str, np.ndarray]:
        """The reward and each component's score of every picture, (prompts, seeds); NaN where there is none."""
        own = {name: np.where(self.flagged, np.nan, scores) for name, scores in self.scores.items()}
        return {REWARD: combined_reward(self, plain, settings)} | own


def combined_reward(data: _MethodData, plain: _MethodData | None, settings: Mapping) -> np.ndarray:
    """The reward of every picture, (prompts, seeds), from raw scores, as `PromptReward` has it."""
    terms = {name: Term(*(of[field] for field in Term._fields)) for name, of in settings["rewards"].items()}
    against = (plain.scores, plain.flagged) if plain else (None, None)
    return combined(terms, data.scores, data.flagged, *against, settings["flagged_reward"])


def kept_and_added(original: str, text: str) -> tuple[float, list[str]]:
    """The share of the original's words that are still in the text, and the text's words that are not the original's.

    Words are compared in lower case, each as often as it is there. Of a text that starts with the original, what
    follows was added.
    """
    theirs = _words(original)
    if text.startswith(original):
        return 1.0, _words(text[len(original) :])
    left = Counter(theirs)
    added = []
    for word in _words(text):
        if left[word]:
            left[word] -= 1
        else:
            added.append(word)
    return (1 - left.total() / len(theirs) if theirs else 1.0), added


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _summary(data: _MethodData, values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray] | None) -> dict:
    n = data.count
    intervals = {name: _mean(of) for name, of in values.items()}
    spread = None
    if data.embedding_sum is not None and n > 1:
        # The mean over pairs from the sum: |Σe|² = n + Σ_{i≠j} eᵢ·eⱼ.
        spread = float(1 - (np.square(data.embedding_sum).sum() - n) / (n * (n - 1)))
    difference = base and _differences(values, base)
    ranked = []
    if difference:
        order = sorted(np.flatnonzero(np.isfinite(difference[REWARD])), key=lambda i: (-difference[REWARD][i], i))
        ranked = [[int(i), float(difference[REWARD][i])] for i in order]
    return {
        REWARD: intervals.pop(REWARD),
        "scores": intervals,
        "against": base and _against(values, base),
        "ranked": ranked,
        "flagged": float(data.flagged.mean()),
        "satisfied": data.satisfied / n if data.constrained else None,
        "clip_tokens": data.tokens / n,
        "exceed_window": data.exceed / n,
        "keeps_text": data.keeps / n,
        "words_kept": data.words_kept / n,
        "distinct_1": _distinct(data.unigrams),
        "distinct_2": _distinct(data.bigrams),
        "distinct_tails": _distinct(data.tails),
        "spread": spread,
    }


def _differences(values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the reward and of each component, (prompts,), on the seeds that both have."""
    return {name: _seed_mean(values[name] - base[name]) for name in values}


def _against(values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, dict | None]:
    return {name: _comparison(of) for name, of in _differences(values, base).items()}


def _seed_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the seeds that are there, (prompts,); NaN where none is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(1) / there.sum(1)


def _mean(values: np.ndarray) -> dict | None:
    of = _seed_mean(values)
    of = of[np.isfinite(of)]
    return bootstrap(of)._asdict() if len(of) else None


def _comparison(difference: np.ndarray) -> dict | None:
    of = difference[np.isfinite(difference)]
    if not len(of):
        return None
    made = compare(of, np.zeros_like(of))
    return {
        "difference": Interval._asdict(made.difference),
        "win_rate": made.win_rate,
        "p_value": made.p_value,
        "prompts": len(of),
    }


def _distinct(counts: Counter) -> float | None:
    return len(counts) / counts.total() if counts else None


def _csv(results: Mapping, folder: Path) -> str:
    settings = results["settings"]
    differences = {name: dict(map(tuple, of["ranked"])) for name, of in results["methods"].items()}
    scores = list(settings["rewards"])
    file = io.StringIO(newline="")
    rows = csv.writer(file)  # RFC 4180: lines end in \r\n, and either in a text is quoted
    rows.writerow(
        ["index", "original", "method", "text", "clip_tokens", "satisfied", "flagged", *scores, "reward_difference"]
    )
    for r in read_records(folder):
        flagged = np.array(r["flagged"])
        means = [
            _seed_mean(np.where(flagged, np.nan, np.array(r["scores"][s], np.float64))[None])[0].item() for s in scores
        ]
        texts = [csv_text(r[key]) for key in ("original", "method", "text")]
        row = [r["index"], *texts, r["clip_tokens"], r["satisfied"], int(flagged.sum())]
        rows.writerow([*row, *("" if np.isnan(m) else m for m in means), differences[r["method"]].get(r["index"], "")])
    return file.getvalue()
