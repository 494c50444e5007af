"""What a policy proposes."""

import shutil

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.search.proposals import AroundSuffix, Ask, PolicyProposals


def test_a_policy_is_known_by_its_content(enhancer, tmp_path):
    """The folder of an embedded policy may be another in each process, and a killed search is to be taken up there."""
    enhancer.model.save_pretrained(tmp_path / "a")
    enhancer.tokenizer.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = (PolicyProposals(PromptEnhancer.from_pretrained(tmp_path / name, "cpu")) for name in "ab")
    other = PolicyProposals(PromptEnhancer.from_pretrained("embedded-ppo", "cpu"))
    assert a.name == b.name != other.name


def test_around_a_suffix_stand_its_parts_in_order_and_parts_of_what_the_policy_writes():
    policy = PolicyProposals(PromptEnhancer.from_pretrained("embedded", "cpu"))
    suffix = ("ultra detailed", "sunset", "volumetric light", "book cover")
    around, asks = AroundSuffix(policy, suffix), [Ask("a castle", 6), Ask("boy on a horse", 6)]
    made, own = around(asks, 3), policy(asks, 3)
    assert made == around(asks, 3) != around(asks, 4)
    for proposals, written in zip(made, own, strict=True):
        assert proposals[0] == suffix and len(proposals) == 7 and len(set(proposals)) > 5
        for proposal, modifiers in zip(proposals[1:], written, strict=True):
            kept = [m for m in suffix if m in proposal]
            assert list(proposal) == kept + [m for m in modifiers if m in proposal[len(kept) :]]
