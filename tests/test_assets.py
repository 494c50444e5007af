import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from neuroprompt.models import DIFFERENCE, locate, whole_model
from training.embedded.export_policy import write_difference


@pytest.fixture
def weights():
    rng = torch.Generator().manual_seed(0)
    before = {
        "matrix": torch.randn(48, 32, generator=rng),
        "same": torch.randn(8, 8, generator=rng),
        "vector": torch.randn(16, generator=rng),
    }
    change = torch.randn(48, 3, generator=rng) @ torch.randn(3, 32, generator=rng)
    return before | {"matrix": before["matrix"] + 0.1 * change, "vector": before["vector"] + 1}, before


def test_a_model_comes_back_from_its_difference(weights, tmp_path):
    after, before = weights
    (tmp_path / "policy").mkdir()
    save_file(before, tmp_path / "policy" / "model.safetensors")
    (tmp_path / "policy" / "config.json").write_text("{}")
    write_difference(after, before, "policy", tmp_path / "policy-ppo", rank=4)
    kept = load_file(tmp_path / "policy-ppo" / DIFFERENCE)
    assert sorted(kept) == ["matrix.left", "matrix.right", "vector.left", "vector.right"]
    whole = whole_model(tmp_path / "policy-ppo")
    assert whole == whole_model(tmp_path / "policy-ppo") and tmp_path not in whole.parents
    assert (whole / "config.json").is_file()
    for name, weight in load_file(whole / "model.safetensors").items():
        np.testing.assert_allclose(weight, after[name], atol=2e-3)


def test_what_is_not_of_low_rank_is_refused(weights, tmp_path):
    after, before = weights
    after["matrix"] = torch.randn(48, 32)
    with pytest.raises(ValueError, match="the difference of matrix is not of rank 4"):
        write_difference(after, before, "policy", tmp_path / "policy-ppo", rank=4)
    assert not (tmp_path / "policy-ppo").exists()


def test_the_policy_after_ppo_is_there():
    before, after = (
        AutoModelForCausalLM.from_pretrained(locate(name, "policy"), dtype=torch.float32)
        for name in ("embedded", "embedded-ppo")
    )
    changed = [n for n, p in before.named_parameters() if not torch.equal(p, after.get_parameter(n))]
    assert changed and all(before.get_parameter(n).ndim == 2 for n in changed)
