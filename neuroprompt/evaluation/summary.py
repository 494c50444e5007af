"""From an evaluation's records to its numbers and tables.

Prompts are the unit: a method's value on a prompt is the mean over the seeds whose pictures were not flagged, intervals
are bootstrap intervals over prompts, and two methods are compared prompt by prompt on the seeds that both have.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from neuroprompt.decoding import Constraints, check
from neuroprompt.evaluation.atoms import QUESTIONS, against_plain, atom_tables, lost_and_gained, read_answers
from neuroprompt.evaluation.gating import gate_numbers, gate_tables
from neuroprompt.experiments import REWARD, Experiment, read_settings, results_head
from neuroprompt.judge import Faults, faults
from neuroprompt.pages.tables import Table, format_interval
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.questions import Question, read_questions
from neuroprompt.scoring import combined, known_mean, read_terms
from neuroprompt.statistics import FEWEST, bootstrap, compare
from neuroprompt.terminal import counted


def summarise(
    folder: str | Path, embed: Callable[[list[str]], Tensor] | None = None, references: Sequence[str] = ()
) -> dict:
    """The numbers of an evaluation, from its folder alone.

    Args:
        folder: With ``settings.json`` and the records of all prompts.
        embed: Texts to unit vectors, for the spread of the rewrites; left out without it.
        references: Methods that the others are compared with, besides the first.

    Returns:
        JSON types; an interval is ``{"mean", "low", "high"}`` at 95 %, as `statistics.Interval` has it. Among them

        - ``methods``: for each method ``reward`` (the combined one of `PromptReward`) and ``scores`` (each component's
          own), as intervals; ``against`` (None for the first method): for the reward and each component the paired
          ``difference`` to the first method, ``win_rate`` and ``p_value`` of a sign test, and the number of
          ``prompts``; ``ranked``: [prompt, difference in reward], the best first; ``flagged``: share of pictures;
          ``satisfied``: share of prompts that meet the constraints; ``clip_tokens`` (mean) and ``exceed_window``
          (share); ``keeps_text``: share that starts with the plain prompt, verbatim; ``words_kept``: mean share of the
          plain prompt's words that are still there; ``faults``: share of prompts in which the rewrite has each of
          `judge.Faults`; ``distinct_1`` and ``distinct_2`` (Li et al. 2016): different words
          and pairs of words per word and pair that was added; ``distinct_tails``: different additions per addition;
          ``spread``: mean cosine distance between the embeddings of two prompts' rewrites; ``atoms``: for each reward
          that asks questions what is lost and gained against ``plain`` (see `atoms.against_plain`), None without;
          ``gate``: what its gate did (see `gating.gate_numbers`), None without.
        - ``references``: for each of these methods, what ``against`` is for the first, by method.
        - ``latency``: seconds of rewriting per prompt; all that two runs may differ in.

    Raises:
        ValueError: The folder is no evaluation's, or a record is broken.
    """
    settings = read_settings(folder, "evaluation")
    data = {name: _MethodData(settings, embed is not None) for name in settings["methods"]}
    asked, questions = _asked(folder), {}
    pending: list[dict] = []
    wishes = _wishes(settings)

    def embed_pending() -> None:
        """A chunk of one method at a time, which is the same batch in every run."""
        if embed and pending:
            texts = [record["text"] for record in pending]
            data[pending[0]["method"]].add_embeddings(embed(texts))
        pending.clear()

    for record in read_records(folder):
        if pending and (record["method"] != pending[0]["method"] or len(pending) == settings["chunk_size"]):
            embed_pending()
        data[record["method"]].add(record | {"faults": _faults(record, wishes)})
        questions[record["index"]] = asked.get(record["original"].strip(), ())
        pending.append(record)
    embed_pending()
    values = {name: own.values(data.get("plain"), settings) for name, own in data.items()}
    first, rewards = next(iter(data)), {name: own[REWARD] for name, own in values.items()}
    return results_head("evaluation", settings) | {
        "prompts": settings["prompts"]["count"],
        "baseline": first,
        "methods": {
            name: _summary(own, values[name], values[first] if name != first else None)
            | {"atoms": _atoms(own, data.get("plain"), questions)}
            | {"gate": gate_numbers(name, own.gated, rewards)}
            for name, own in data.items()
        },
        "references": {
            reference: {name: _against(own, values[reference]) for name, own in values.items() if name != reference}
            for reference in references
        },
        "latency": {name: own.seconds / own.count for name, own in data.items()},
    }


def units(settings: Mapping) -> dict[int, int]:
    """The chunks of an evaluation with these settings: see `experiments.Experiment`."""
    count, size = settings["prompts"]["count"], settings["chunk_size"]
    return {start: len(settings["methods"]) * min(size, count - start) for start in range(0, count, size)}


def read_records(folder: str | Path) -> Iterator[dict]:
    """The records of an evaluation, chunk by chunk and in them method by method."""
    return Experiment(folder, units(read_settings(folder, "evaluation"))).records()


def csv_rows(results: Mapping, folder: str | Path) -> Iterator[list]:
    """The columns' names, and a row for each prompt and method: texts, and means over the seeds."""
    scores, wishes = list(results["settings"]["rewards"]), _wishes(results["settings"])
    differences = {name: dict(map(tuple, method["ranked"])) for name, method in results["methods"].items()}
    asked, plain = _asked(folder), {}
    if asked:
        plain = {record["index"]: _answers(record) for record in read_records(folder) if record["method"] == "plain"}
    head = ["index", "original", "method", "text", "clip_tokens", "satisfied"]
    atoms = ["atoms_lost", "atoms_gained"] if plain else []
    yield [*head, *Faults._fields, "flagged", *scores, "reward_difference", *atoms]
    for record in read_records(folder):
        flagged = np.array(record["flagged"])
        raw = np.array([record["scores"][name] for name in scores], np.float64)  # (rewards, seeds); None becomes NaN
        means = ["" if np.isnan(mean) else mean.item() for mean in known_mean(np.where(flagged, np.nan, raw))]
        found = ["; ".join(map(_listed, fault)) for fault in _faults(record, wishes).values()]
        row = [record[key] for key in head]
        row += [*found, int(flagged.sum()), *means, differences[record["method"]].get(record["index"], "")]
        if plain:
            changes = lost_and_gained(_answers(record), plain[record["index"]], asked[record["original"].strip()])
            row += [" ".join(texts) for texts in changes]
        yield row


# --- tables ------------------------------------------------------------------------------------------------------


def tables(results: Mapping) -> list[Table]:
    """The tables of an evaluation: rewards, differences to the first method, the prompts themselves, latency last."""
    methods, first = results["methods"], results["baseline"]
    scores = list(results["settings"]["rewards"])
    prompts, seeds = counted(results["prompts"], "prompt"), counted(results["settings"]["images_per_prompt"], "seed")
    made = f"{seeds} each, the same for all"
    intervals = {name: [method[REWARD], *method["scores"].values()] for name, method in methods.items()}
    if few := results["prompts"] < FEWEST:
        note = f"{prompts}: too few to tell methods apart, so there are means and no intervals; {made}."
    else:
        alone = any(value and value["low"] is None for row in intervals.values() for value in row)
        note = f"Mean and 95 % bootstrap interval over {prompts}, {made}"
        note += f"; a mean alone is of fewer than {FEWEST} prompts." if alone else "."
    compared = {first: {name: method["against"] for name, method in methods.items() if method["against"]}}
    shown = [column for column in _COLUMNS if any(method[column[0]] is not None for method in methods.values())]
    return [
        Table(
            "Rewards",
            note,
            ["method", REWARD, *scores],
            [[name, *map(format_interval, values)] for name, values in intervals.items()],
        ),
        *(
            Table(
                f"Against {reference}",
                f"Mean paired difference{' with its 95 % bootstrap interval' * (not few)}; of the reward also the "
                "share of prompts on which the method is better (a tie is half a win) and the p-value of a two-sided "
                "sign test.",
                ["method", REWARD, "better", "p", *scores],
                [_comparison_row(name, against, scores) for name, against in others.items()],
            )
            for reference, others in (compared | results["references"]).items()
            if others
        ),
        Table(
            "Prompts",
            "What the rewritten prompts look like; shares are of the prompts, and distinct-n is of what was added.",
            ["method", *(title for _, title, _ in shown)],
            [[name, *(_cell(method[key], form) for key, _, form in shown)] for name, method in methods.items()],
        ),
        *gate_tables(methods),
        *_fault_table(methods),
        *atom_tables(methods),
        Table(
            "Latency",
            "Rewriting only, pictures not counted but those of a search.",
            ["method", "s/prompt"],
            [[name, f"{seconds:.4f}"] for name, seconds in results["latency"].items()],
        ),
    ]


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


def _fault_table(methods: Mapping) -> list[Table]:
    if any("faults" not in method for method in methods.values()):  # made before they were counted
        return []
    return [
        Table(
            "Faults",
            "Share of the prompts whose rewrite has at least one that the plain prompt has not: phrases that exclude "
            "each other, modifiers that say the same, words that none are, artists who are not long dead.",
            ["method", *(name.replace("_", " ") for name in Faults._fields)],
            [[name, *(f"{method['faults'][key]:.1%}" for key in Faults._fields)] for name, method in methods.items()],
        )
    ]


def _comparison_row(name: str, against: Mapping, scores: list[str]) -> list[str]:
    differences = [format_interval(against[key] and against[key]["difference"], signed=True) for key in scores]
    reward = against[REWARD]
    if not reward:
        return [name, "–", "–", "–", *differences]
    better, p = f"{reward['win_rate']:.1%}", f"{reward['p_value']:.2g}"
    return [name, format_interval(reward["difference"], signed=True), better, p, *differences]


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
        self.faults = Counter(dict.fromkeys(Faults._fields, 0))
        self.answers: dict[str, dict[int, np.ndarray]] = {}  # by reward and index, each (seeds, questions)
        self.gated: list[Mapping] = []
        self.embedding_sum = 0.0 if embedded else None

    def add(self, record: Mapping) -> None:
        i = record["index"]
        for name, values in record["scores"].items():
            self.scores[name][i] = np.array(values, np.float64)  # None becomes NaN
        self.flagged[i] = record["flagged"]
        for name, soft in read_answers(record).items():
            self.answers.setdefault(name, {})[i] = soft
        self.count += 1
        self.seconds += record["seconds"]
        self.gated += [record["if_better"]] if "if_better" in record else []
        self.tokens += record["clip_tokens"]
        self.exceed += record.get("too_long", record["clip_tokens"] > CLIP_WINDOW)
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
        self.faults.update(name for name, found in record["faults"].items() if found)

    def add_embeddings(self, embeddings: Tensor) -> None:
        self.embedding_sum = self.embedding_sum + embeddings.double().sum(0).cpu().numpy()

    def values(self, plain: "_MethodData | None", settings: Mapping) -> dict[str, np.ndarray]:
        """The reward, as `PromptReward` has it, and each component's score of every picture; NaN where there is none.

        Each of shape (prompts, seeds).
        """
        against = (plain.scores, plain.flagged) if plain else (None, None)
        own = {name: np.where(self.flagged, np.nan, scores) for name, scores in self.scores.items()}
        return {
            REWARD: combined(read_terms(settings), self.scores, self.flagged, *against, settings["flagged_reward"])
        } | own


def _asked(folder: str | Path) -> dict[str, tuple[Question, ...]]:
    """What was asked about each prompt; nothing where no reward asks, or the folder is older."""
    path = Path(folder, QUESTIONS)
    return read_questions(path) if path.exists() else {}


def _answers(record: Mapping) -> np.ndarray:
    """The soft scores of the first reward that asks. (seeds, questions)"""
    return next(iter(read_answers(record).values()))


def _atoms(
    data: "_MethodData", plain: "_MethodData | None", questions: Mapping[int, tuple[Question, ...]]
) -> dict[str, dict] | None:
    if plain is None or data is plain or not data.answers:
        return None
    return {name: against_plain(own, plain.answers[name], questions) for name, own in data.answers.items()}


def _wishes(settings: Mapping) -> dict[str, Constraints]:
    """What each method's rewrites had to say."""
    return {name: Constraints(**method.get("constraints", {})) for name, method in settings["methods"].items()}


def _faults(record: Mapping, wishes: Mapping[str, Constraints]) -> dict[str, tuple]:
    """The faults of a record's text, by kind; what was required of it is none."""
    matches = check(record["text"], wishes[record["method"]]).matches
    return faults(record["original"], record["text"], [match.phrase for match in matches if match])._asdict()


def _listed(fault: str | tuple[str, ...]) -> str:
    return fault if isinstance(fault, str) else " + ".join(fault)


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
    intervals = {name: _mean(scores) for name, scores in values.items()}
    spread = None
    if data.embedding_sum is not None and n > 1:
        # The mean over pairs from the sum: |Σe|² = n + Σ_{i≠j} eᵢ·eⱼ.
        spread = float(1 - (np.square(data.embedding_sum).sum() - n) / (n * (n - 1)))
    ranked = []
    if base:
        difference = known_mean(values[REWARD] - base[REWARD])  # (prompts,)
        order = sorted(np.flatnonzero(np.isfinite(difference)), key=lambda i: (-difference[i], i))
        ranked = [[int(i), float(difference[i])] for i in order]
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
        "faults": {name: count / n for name, count in data.faults.items()},
        "distinct_1": _distinct(data.unigrams),
        "distinct_2": _distinct(data.bigrams),
        "distinct_tails": _distinct(data.tails),
        "spread": spread,
    }


def _against(values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, dict | None]:
    """The reward and each component compared with another method's, on the prompts and seeds that both have."""
    return {name: _comparison(known_mean(values[name] - base[name])) for name in values}


def _comparison(difference: np.ndarray) -> dict | None:
    there = difference[np.isfinite(difference)]
    if not len(there):
        return None
    made = compare(there, np.zeros_like(there))
    return {
        "difference": made.difference._asdict(),
        "win_rate": made.win_rate,
        "p_value": made.p_value,
        "prompts": len(there),
    }


def _mean(values: np.ndarray) -> dict | None:
    means = known_mean(values)
    there = means[np.isfinite(means)]
    return bootstrap(there)._asdict() if len(there) else None


def _distinct(counts: Counter) -> float | None:
    return len(counts) / counts.total() if counts else None
