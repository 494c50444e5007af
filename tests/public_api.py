"""A user's program, which pyright reads in its strict mode: what the package offers has types, and these."""

from torch import Tensor
from typing_extensions import assert_type

from neuroprompt import (
    Constraints,
    EnhancedPrompt,
    Gate,
    GeneratorConfig,
    ImageGenerator,
    PromptEnhancer,
    PromptReward,
    Verdict,
    check,
    count_clip_tokens,
    load_rewards,
    optimize,
)
from neuroprompt.search import SearchConfig, SearchResult

enhancer = PromptEnhancer.from_pretrained("embedded", device="cpu")
wish = Constraints(artist="alphonse mucha", require=["golden hour|sunset"], forbid=["blurry"])
one = enhancer("boy on a horse", wish, seed=7)
assert_type(one, EnhancedPrompt)
assert_type(enhancer(["boy on a horse", "a castle"]), list[EnhancedPrompt])
assert_type([modifier.text for modifier in one.modifiers], list[str])
assert_type(count_clip_tokens(one.text), int)
assert_type(bool(check(one.text, wish)), bool)

generator = ImageGenerator.from_pretrained("embedded", config=GeneratorConfig(steps=4, size="64"))
pictures = generator([one.original, one.text], seeds=[0, 0])
assert_type(pictures, Tensor)
reward = PromptReward(generator, load_rewards("pickscore:1.0,clip:0", "embedded"), images_per_prompt=2)
assert_type(reward([one.original], [one.text]), list[float])
assert_type(Gate(reward, pictures=4)([one.original], [one.text]), list[Verdict])
found = optimize("boy on a horse", reward, enhancer, SearchConfig(budget=16))
assert_type(found, SearchResult)
