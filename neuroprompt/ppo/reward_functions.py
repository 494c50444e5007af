"""Rewards that are functions of texts, with the signature of TRL's trainers: `PPOTrainer` says what they are given."""

import asyncio
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

RewardFunc = Callable[..., list[float | None]]


def as_lists(
    functions: RewardFunc | Sequence[RewardFunc], weights: Sequence[float] | None
) -> tuple[list[RewardFunc], list[float]]:
    """The functions and the weight of each, 1 by default.

    Raises:
        ValueError: No function, or not as many weights as functions.
    """
    functions = [functions] if callable(functions) else list(functions)
    weights = [1.0] * len(functions) if weights is None else [float(weight) for weight in weights]
    if not functions or len(weights) != len(functions):
        raise ValueError(f"{len(weights)} reward_weights for {len(functions)} reward functions")
    return functions, weights


def weighted_sum(
    functions: Sequence[RewardFunc], weights: Sequence[float], prompts: list[str], **arguments
) -> tuple[Tensor, dict[str, list[float]]]:
    """What all functions together say of these prompts' completions.

    Args:
        functions, weights: As many of one as of the other.
        prompts: Given to the functions, as all other arguments are, each a list of the same length but for
            `trainer_state`.

    Returns:
        The rewards, (rows,), not finite where no function applies; and what was measured by the way: every
        ``log_metric(name, value)`` and, of several functions, the mean of each.

    Raises:
        ValueError: A function returned more or fewer rewards than there are rows.
    """
    measured: dict[str, list[float]] = defaultdict(list)
    scores, applies = [], []
    for function in functions:
        given = _call(
            function,
            prompts=prompts,
            log_metric=lambda name, value: measured[name].append(float(value)),
            **arguments,
        )
        if len(given) != len(prompts):
            raise ValueError(f"{name_of(function)} returned {len(given)} rewards for {len(prompts)} completions")
        scores.append([0.0 if score is None else float(score) for score in given])
        applies.append([score is not None for score in given])
        there = [float(score) for score in given if score is not None]
        if len(functions) > 1 and there:
            measured[f"rewards/{name_of(function)}"].append(sum(there) / len(there))
    scores = torch.tensor(scores, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)[:, None]
    nowhere = ~torch.tensor(applies).any(0)  # (rows,)
    return scores.sum(0).masked_fill(nowhere, math.nan).float(), dict(measured)


def over_processes(measured: dict[str, list[float]]) -> dict[str, float]:
    """One number for each name that any process has measured: a sum of counts and rates, a mean of everything else."""
    merged: dict[str, list[float]] = defaultdict(list)
    for part in gather_object([measured]):
        for name, values in part.items():
            merged[name] += values
    return {
        name: sum(values) if name == "images" or name.endswith("_per_s") else sum(values) / len(values)
        for name, values in merged.items()
    }


def unwrapped(function: RewardFunc) -> Iterator[RewardFunc]:
    """A reward function, and those that it is made of (as `answers.OfAnswers` is of its `function`)."""
    while function is not None:
        yield function
        function = getattr(function, "function", None)


def name_of(function: RewardFunc) -> str:
    """What a reward function is called in messages and logs."""
    return getattr(function, "__name__", type(function).__name__)


def _call(function: RewardFunc, **arguments) -> list[float | None]:
    """Call a reward function with those of the arguments that it takes."""
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        arguments = {name: value for name, value in arguments.items() if name in parameters}
    rewards = function(**arguments)
    return list(asyncio.run(rewards) if inspect.isawaitable(rewards) else rewards)
