"""Do the strategies find what is good, and do they keep to their budgets?"""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from neuroprompt.prompts import Prompt
from neuroprompt.search import STRATEGIES
from neuroprompt.statistics import bootstrap
from tests.search.world import World, search, unit


def true_gains(strategy, prompts, **world):
    world = World(**world)
    results = search([f"subject {i}" for i in range(prompts)], strategy, 64, world, held_out=0)
    assert all(r.images <= 64 for r in results)
    return np.array([world.truth(r.text, r.original) for r in results])


def test_where_pictures_are_noisy_the_model_of_them_beats_best_of_n():
    """With little noise, as many candidates as possible with a picture each do as well."""
    best, searched = (true_gains(s, 24, noise=2.0, images_per_prompt=1) for s in ("best-of-n", "bayes"))
    assert bootstrap(searched - best).low > 0


def test_what_the_generator_reads_tells_which_samples_are_worth_a_picture():
    """Modifiers that no two samples share, so that only what the generator makes of a text can say what it is like."""

    class Smooth(World):
        def truth(self, text, original):
            return float(self.generator.encode([text])[0] @ torch.tensor([1.0, 0.5, 0.25]))

    def write(asks, seed):
        rng = random.Random(f"{seed} {asks[0].original}")
        return [[(f"number {rng.random()}",) for _ in range(ask.count)] for ask in asks]

    def gains(strategy):
        world = Smooth(noise=0.3)
        world.generator.encode = lambda texts: torch.tensor([[unit(t, axis) for axis in range(3)] for t in texts])
        results = search([f"subject {i}" for i in range(12)], strategy, 32, world, write, held_out=0)
        return np.array([world.truth(r.text, r.original) for r in results])

    assert bootstrap(gains("bayes") - gains("best-of-n")).low > 0.3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_modifier_that_is_far_better_than_all_is_found(strategy):
    class OneGood(World):
        def truth(self, text, original):
            return 5.0 * ("golden light" in text) - 0.2 * len(Prompt.parse(text).modifiers)

    result = search("a castle", strategy, 48, OneGood())
    assert "golden light" in result.modifiers
    assert result.held_out > 2


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", [3, 4, 9, 30])
def test_no_more_pictures_than_the_budget_and_each_once(strategy, budget):
    world = World()
    result = search("a castle", strategy, budget, world, held_out=3)
    assert len(world.drawn) == len(set(world.drawn)) == result.images + result.held_out_images
    assert result.images <= budget
    assert result.images == sum(m.pictures for m in result.measured)
    assert result.held_out_images == (6 if result.text != result.original else 3)
    images = [i for i, _ in result.curve]
    assert images == sorted(images) and images[-1] == result.images
    assert result.curve[-1][1] == result.selected
    assert result.text.startswith("a castle")


def test_best_of_n_draws_all_with_the_same_seeds_in_the_same_order():
    world = World()
    result = search("a castle", "best-of-n", 30, world, held_out=3)
    seeds = {}
    for text, _, seed in world.drawn[: result.images]:
        seeds.setdefault(text, []).append(seed)
    longest = max(seeds.values(), key=len)
    assert all(own == longest[: len(own)] for own in seeds.values())
    fresh = {seed for _, _, seed in world.drawn[result.images :]}
    assert not fresh & set(longest) and len(fresh) == 3


def test_bayes_begins_with_different_seeds_in_turn():
    world = World()
    result = search("a castle", "bayes", 40, world, held_out=3)
    firsts = {}
    for text, _, seed in world.drawn[: result.images]:
        firsts.setdefault(text, seed)
    begun = Counter(seed for text, seed in firsts.items() if text != "a castle")
    assert len(begun) == 5 and max(begun.values()) - min(begun.values()) <= 2
    fresh = {seed for _, _, seed in world.drawn[result.images :]}
    assert not fresh & {seed for _, _, seed in world.drawn[: result.images]} and len(fresh) == 3
