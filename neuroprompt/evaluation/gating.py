"""What a gate did in an evaluation: how often it accepted, at what cost, and what there was to lose.

The regret of a way to choose, on a prompt, is how much less it is worth than the better of plain prompt and rewrite,
both by the evaluation's own pictures, of which the gate saw none. It is there for a method of which ``plain`` and the
method without ``+gate`` are beside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from neuroprompt.evaluation.methods import GATE
from neuroprompt.pages.tables import Table, format_interval
from neuroprompt.scoring import known_mean
from neuroprompt.statistics import bootstrap

CHOICES = {"always": "always rewritten", "never": "never rewritten", "gate": "gate"}


def gate_numbers(name: str, facts: Sequence[Mapping], rewards: Mapping[str, np.ndarray]) -> dict | None:
    """The numbers of a method; None of one that has no gate. JSON types.

    Args:
        facts: What each record says of the gate, as `gate.Verdict.facts` has it.
        rewards: Of the evaluation's pictures, by method. (prompts, seeds) each

    Returns:
        ``accepted``: share of the prompts; ``pictures``: drawn of both for a prompt's verdict, on average; ``regret``:
        by each of `CHOICES` an interval, or None where it is not known.
    """
    if not facts:
        return None
    always, never = rewards.get(name.replace(GATE, "")), rewards.get("plain")
    regret = None
    if always is not None and never is not None:
        worth = np.array([known_mean(values) for values in (always, never, rewards[name])])  # (choices, prompts)
        worth = worth[:, np.isfinite(worth).all(0)]
        if worth.size:
            best = np.maximum(worth[0], worth[1])
            regret = {choice: bootstrap(best - own)._asdict() for choice, own in zip(CHOICES, worth, strict=True)}
    return {
        "accepted": float(np.mean([fact["accepted"] for fact in facts])),
        "pictures": float(np.mean([2 * fact["pictures"] for fact in facts])),
        "regret": regret,
    }


def gate_tables(methods: Mapping[str, Mapping]) -> list[Table]:
    """The table of an evaluation's gates, from its results' methods; none where there is no gate."""
    gates = {name: method["gate"] for name, method in methods.items() if method.get("gate")}
    if not gates:
        return []
    return [
        Table(
            "The gate",
            "Prompts of which the rewrite came back; pictures drawn for a prompt's verdict; and the regret, by how "
            "much the reward is below that of the better of plain prompt and rewrite, by this evaluation's pictures: "
            "where all prompts are rewritten, where none are, and where the gate chooses.",
            ["method", "accepted", "pictures", *(f"regret: {title}" for title in CHOICES.values())],
            [
                [
                    name,
                    f"{gate['accepted']:.1%}",
                    f"{gate['pictures']:.1f}",
                    *(format_interval(gate["regret"] and gate["regret"][choice]) for choice in CHOICES),
                ]
                for name, gate in gates.items()
            ],
        )
    ]
