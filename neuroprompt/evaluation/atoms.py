"""Alignment gained and lost against plain, atom by atom: what the questions about prompts say of methods.

A question is shown by a picture from a probability of 0.5 of the wanted answer on, its parents included (see
`neuroprompt.questions.prune`). A method loses one that plain's picture with the same seed shows and its own does not,
and gains the reverse. Prompts are the unit, as everywhere: of each, the share of its questions and seeds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from neuroprompt.pages.tables import Table, format_interval
from neuroprompt.questions import KINDS, SHOWN, Question
from neuroprompt.scoring import known_mean
from neuroprompt.statistics import FEWEST, bootstrap

QUESTIONS = "questions.json"
"""The file in an evaluation's folder with the questions that were asked."""
ALL = "all"
"""All kinds of questions together."""

Answers = Mapping[int, np.ndarray]
"""Soft scores by the prompt's index, each (seeds, questions); NaN where there is none, or the picture is flagged."""


def read_answers(record: Mapping) -> dict[str, np.ndarray]:
    """The soft scores of an evaluation's record, by reward, each (seeds, questions); NaN where `Answers` says."""
    flagged = np.array(record["flagged"])[:, None]
    return {
        name: np.where(flagged, np.nan, np.array(soft, np.float64)) for name, soft in record.get("answers", {}).items()
    }


def against_plain(own: Answers, plain: Answers, questions: Mapping[int, Sequence[Question]]) -> dict[str, dict]:
    """What a method gains and loses beside plain, by kind of question, `ALL` first.

    Returns:
        Of each kind ``asked`` (questions), the shares that ``plain`` shows, that are ``lost`` and ``gained``, and the
        ``difference`` of the last two, an interval. JSON types.
    """
    asked: Counter[str] = Counter()
    shares: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for index in sorted(own.keys() & plain.keys()):
        both = np.isfinite(own[index]).all(1) & np.isfinite(plain[index]).all(1)  # (seeds,)
        if not both.any():
            continue
        shown, was = own[index][both] >= SHOWN, plain[index][both] >= SHOWN
        kinds = np.array([question.kind for question in questions[index]])
        for kind in (ALL, *dict.fromkeys(kinds.tolist())):
            chosen = (kinds == kind) | (kind == ALL)
            asked[kind] += int(chosen.sum())
            states = was, was & ~shown, shown & ~was
            shares[kind].append(tuple(float(state[:, chosen].mean()) for state in states))
    found = {}
    for kind in filter(shares.__contains__, (ALL, *KINDS)):
        shown, lost, gained = np.array(shares[kind]).T
        found[kind] = {
            "asked": asked[kind],
            "plain": float(shown.mean()),
            "lost": float(lost.mean()),
            "gained": float(gained.mean()),
            "difference": bootstrap(gained - lost)._asdict(),
        }
    return found


def atom_tables(methods: Mapping[str, Mapping]) -> list[Table]:
    """A table for each reward that asked questions, from the methods of an evaluation's results."""
    rewards = dict.fromkeys(reward for method in methods.values() for reward in method.get("atoms") or ())
    return [
        Table(
            f"What pictures show: {reward}",
            "Questions about the prompts, by what they are about: the share that plain's pictures show, what the "
            "method's with the same seeds lost of it and gained beside it, and the difference with its 95 % bootstrap "
            f"interval over prompts; alone where fewer than {FEWEST} have such a question.",
            ["method, about", "questions", "plain shows", "lost", "gained", "difference"],
            [
                [
                    f"{name}, {kind}",
                    str(row["asked"]),
                    *(f"{row[share]:.1%}" for share in ("plain", "lost", "gained")),
                    format_interval(row["difference"], signed=True),
                ]
                for name, method in methods.items()
                for kind, row in (method.get("atoms") or {}).get(reward, {}).items()
            ],
        )
        for reward in rewards
    ]


def lost_and_gained(own: np.ndarray, plain: np.ndarray, questions: Iterable[Question]) -> tuple[list[str], list[str]]:
    """The questions of a prompt that most of plain's pictures show and not the method's, and the reverse.

    Args:
        own, plain: Soft scores. (seeds, questions)
    """
    shown, was = (known_mean(np.where(np.isnan(soft), np.nan, soft >= SHOWN).T) >= SHOWN for soft in (own, plain))
    rows = list(zip(questions, was, shown, strict=True))
    return (
        [question.text for question, before, after in rows if before and not after],
        [question.text for question, before, after in rows if after and not before],
    )
