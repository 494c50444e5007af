"""A question, and what its answer is worth where its parents have failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

KINDS = ("entity", "count", "colour", "attribute", "relation", "global")
"""What a question is about. DSG's four categories, with counts and colours apart; actions are relations, as there."""

SHOWN = 0.5
"""The probability of the wanted answer from which on a picture shows what is asked."""


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Attributes:
        text: As it is asked.
        kind: One of `KINDS`.
        parents: The places, among the prompt's questions, of those that must be answered as wanted first.
        answer: The one that is wanted, in lower case.
    """

    text: str
    kind: str = "entity"
    parents: tuple[int, ...] = ()
    answer: str = "yes"


def in_order(parents: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The places of questions, each after its parents.

    Raises:
        graphlib.CycleError: There is no such order; its second argument is the circle.
    """
    return tuple(TopologicalSorter(dict(enumerate(parents))).static_order())


def prune(questions: Sequence[Question], scores: Sequence[float]) -> list[float]:
    """The soft scores, with 0 for a question of which a parent is not shown (below `SHOWN`), or was pruned itself.

    Args:
        scores: The probability of each question's wanted answer.
    """
    left = list(scores)
    for place in in_order([question.parents for question in questions]):
        if any(left[parent] < SHOWN for parent in questions[place].parents):
            left[place] = 0.0
    return left
