"""What a policy proposes."""

import shutil

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.search.proposals import PolicyProposals


def test_a_policy_is_known_by_its_content(enhancer, tmp_path):
    """The folder of an embedded policy may be another in each process, and a killed search is to be taken up there."""
    enhancer.model.save_pretrained(tmp_path / "a")
    enhancer.tokenizer.save_pretrained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = (PolicyProposals(PromptEnhancer.from_pretrained(tmp_path / name, "cpu")) for name in "ab")
    other = PolicyProposals(PromptEnhancer.from_pretrained("embedded-ppo", "cpu"))
    assert a.name == b.name != other.name
