import pytest

from neuroprompt.enhancer import EnhancedPrompt, Modifier, PromptEnhancer
from training.embedded.rewrites import rewrite_statistics


def rewrite(original, text, *modifiers):
    return EnhancedPrompt(original, text, tuple(Modifier(m, "booster") for m in modifiers))


def test_faults_are_found():
    found = rewrite_statistics(
        [
            rewrite("a cat", "a cat, 8k, sharp focus, fog", "8k", "sharp focus", "fog"),
            rewrite("a dog", "a dog, 8k, sharp focus, fog", "8k", "sharp focus", "fog"),
            rewrite("a cow, 8k", "a cow, 8k, (8K:1.2)", "(8K:1.2)"),
            rewrite("a pig", "the pig, " + "wrod " * 80, "wrod " * 80),
        ]
    )
    assert found.faults == {"contradictions": 0, "repetitions": 0.25, "broken_words": 0.25, "living_artists": 0}
    assert found.prompts == 4
    assert found.keep_the_text == 0.75
    assert found.exceed_window == 0.25
    assert found.repeat_a_modifier == 0.25
    assert found.three_or_more == 0.5
    assert found.shared_tails == 0.5
    assert found.mean_modifiers == 2.25
    assert found.most_frequent["8k"] == 0.75
    assert found.categories == {"booster": 1.0}


@pytest.mark.parametrize("policy", ["embedded", "embedded-ppo"])
def test_the_embedded_policies_are_sound_on_everyday_prompts(policy):
    enhancer = PromptEnhancer.from_pretrained(policy, device="cpu")
    animals = ["cat", "dog", "horse", "owl", "fox", "bear", "whale", "lion", "frog", "crow"]
    places = ["in a forest", "on a hill", "by the sea", "at night"]
    found = rewrite_statistics(enhancer([f"a {a} {p}" for a in animals for p in places]))
    assert found.keep_the_text == 1
    assert found.exceed_window == 0
    assert found.repeat_a_modifier == 0
    assert found.three_or_more >= 0.8
    assert found.shared_tails <= 0.05
    assert not any(found.faults.values())


def test_nothing_to_measure():
    with pytest.raises(ValueError, match="no rewrites"):
        rewrite_statistics([])
