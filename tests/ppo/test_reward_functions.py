import math

import pytest
import torch

from neuroprompt.ppo.reward_functions import as_lists, over_processes, weighted_sum


def length(completions):
    return [float(len(text)) for text in completions]


async def only_red(completions, colour, **others):
    return [1.0 if c == "red" else None for c in colour]


def test_one_function_or_several_with_weights():
    assert as_lists(length, None) == ([length], [1.0])
    assert as_lists((length, only_red), (2, 0.5)) == ([length, only_red], [2.0, 0.5])


@pytest.mark.parametrize(("functions", "weights"), [([], None), ([length], [1.0, 2.0]), ([length], [])])
def test_not_as_many_weights_as_functions(functions, weights):
    with pytest.raises(ValueError, match="reward_weights for"):
        as_lists(functions, weights)


def test_the_sum_is_of_what_applies():
    scores, measured = weighted_sum(
        [length, only_red], [0.5, 10.0], prompts=["a"] * 3, completions=["", "b", "cc"], colour=["red", "blue", "red"]
    )
    assert scores.tolist() == [10.0, 0.5, 11.0]
    assert measured == {"rewards/length": [1.0], "rewards/only_red": [1.0]}


def test_where_nothing_applies_the_reward_is_not_finite():
    scores, measured = weighted_sum([only_red], [1.0], prompts=["a", "b"], completions=["", ""], colour=["red", "blue"])
    assert scores[0] == 1 and math.isnan(scores[1]) and scores.dtype == torch.float32
    assert measured == {}  # one function's mean is the reward itself


def test_a_function_that_forgets_a_completion_is_named():
    with pytest.raises(ValueError, match="length returned 1 rewards for 2 completions"):
        weighted_sum([length], [1.0], prompts=["a", "b"], completions=["c"])


def test_what_functions_measure_is_one_number_each():
    def reward(prompts, log_metric):
        for brightness in (0.25, 0.75):
            log_metric("brightness", brightness)
        for images in (3, 4):
            log_metric("images", images)
            log_metric("images_per_s", images / 2)
        return [0.0] * len(prompts)

    _, measured = weighted_sum([reward], [1.0], prompts=["a"])
    assert over_processes(measured) == {"brightness": 0.5, "images": 7, "images_per_s": 3.5}
