"""Rewrites come back where their pictures say so (`neuroprompt.gate`), for every route: the generator draws, the
rewards judge and weigh, and this asks the one and the other, pair by pair, until there is a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuroprompt.server.errors import Problem, refusal, refuse_excess
from neuroprompt.server.generators import Draw
from neuroprompt.server.rewards import Judging, Weighing
from neuroprompt.server.workers import Workers, together


def admit_gate(workers: Workers, pictures: int, rewrites: int, others: int = 0) -> None:
    """Refuse, before anything is rewritten, what cannot be decided here, or takes more pictures than are allowed.

    Args:
        pictures: Of each rewrite, and of its prompt, at most.
        others: How many are drawn besides.

    Raises:
        Problem: Of status 422; or 503 where nothing draws, or nothing judges.
    """
    if pictures == 1:
        raise refusal(ValueError("if_better: 1 picture of each cannot tell a gain from chance: give at least 2"))
    for part, does, flag in (("generator", "draws", "--generator"), ("rewards", "judges", "--rewards")):
        if part not in workers.parts:
            raise Problem(503, f"if_better: this server {does} no pictures: start it with {flag}", "not_served")
    most = workers.settings.max_pictures
    refuse_excess({"pictures, with those of if_better,": (2 * pictures * rewrites + others, most)})


async def gate_all(
    workers: Workers,
    results: Sequence[Sequence[Mapping[str, Any]]],
    pictures: int,
    wish: Mapping[str, Any] | None = None,
    settings: tuple[tuple[str, Any], ...] = (),
) -> list[list[dict[str, Any]]]:
    """What `rewriting.rewrite` gave, after the verdicts: each variant as it was, or the user's own words and why.

    Args:
        pictures: Of each rewrite, and of its prompt, at most.
        wish: Fields of `Constraints` that the rewrites were made for.
        settings: As of `Draw`.

    Returns:
        The variants with ``if_better``, `Verdict.facts`.

    Raises:
        Problem: What `Workers.draw` and `Workers.ask` raise.
    """
    made = [variant for variants in results for variant in variants]
    tried = iter(await together(_gate(workers, one, pictures, wish or {}, settings) for one in made))
    return [[next(tried) for _ in variants] for variants in results]


async def _gate(
    workers: Workers,
    made: Mapping[str, Any],
    pictures: int,
    wish: Mapping[str, Any],
    settings: tuple[tuple[str, Any], ...],
) -> dict[str, Any]:
    original, negative = made["original"], made["negative"]
    scores: list[tuple[Mapping[str, float], ...]] = []
    flagged: list[tuple[bool, ...]] = []
    with workers.progress.expecting(2 * pictures) as count_one:

        async def measure(text: str, seed: int) -> tuple[Mapping[str, float], bool]:
            drawn = await workers.draw(Draw(original, text, seed, settings, negative))
            count_one()
            return (await workers.ask("rewards", Judging(original, drawn.file, text))).scores, drawn.flagged

        while True:
            answer = await workers.ask("rewards", Weighing(made, wish, pictures, tuple(scores), tuple(flagged)))
            if isinstance(answer, dict):
                return answer
            texts = (made["text"], original)
            measured = await together(measure(text, seed) for seed in answer for text in texts)
            for pair in zip(measured[::2], measured[1::2], strict=True):
                scores.append(tuple(own for own, _ in pair))
                flagged.append(tuple(own for _, own in pair))
