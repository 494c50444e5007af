"""Constrained decoding: phrases required and forbidden, as one automaton, in a batched beam search.

Here is what a wish is, without PyTorch, so that a wrong one is refused at once; the search is in `neurologic`.
"""

from neuroprompt.decoding.constraints import (
    CATEGORIES,
    ConstraintError,
    Constraints,
    Match,
    Satisfaction,
    check,
    occurrences,
)

__all__ = [
    "CATEGORIES",
    "ConstraintError",
    "Constraints",
    "Match",
    "Satisfaction",
    "check",
    "occurrences",
]
