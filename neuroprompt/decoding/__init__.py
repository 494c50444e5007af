"""Constrained decoding: phrases required and forbidden, as one automaton, in a batched beam search."""

from neuroprompt.decoding.constraints import (
    CATEGORIES,
    ConstraintError,
    Constraints,
    Match,
    Satisfaction,
    check,
    occurrences,
)
from neuroprompt.decoding.neurologic import neurologic

__all__ = [
    "CATEGORIES",
    "ConstraintError",
    "Constraints",
    "Match",
    "Satisfaction",
    "check",
    "neurologic",
    "occurrences",
]
