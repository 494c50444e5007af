"""PickScore is what its authors' README computes."""

import pytest
import torch

from neuroprompt.rewards import load_reward
from neuroprompt.rewards.pickscore import MODEL, PROCESSOR
from tests.checkpoints import rewards as checkpoints
from tests.rewards.agreement import readme_pickscore


def test_the_hub_s_model_under_its_own_name(tmp_path, monkeypatch, prompts, pictures, images):
    """Weights in one repository and the processor in another, as its authors have it."""
    cache = checkpoints.use_hub_cache(monkeypatch, tmp_path / "hub")
    weights = checkpoints.clip_weights(tmp_path / "weights")
    processor = checkpoints.clip_model(tmp_path / "processor", seed=1)
    checkpoints.as_hub_repository(cache, MODEL, weights)
    checkpoints.as_hub_repository(cache, PROCESSOR, processor)
    expected = readme_pickscore(weights, processor, prompts, pictures)
    scores = load_reward("pickscore", device="cpu")(prompts, images)
    assert scores.dtype == torch.float32 and scores.shape == (4,)
    assert (scores - expected).abs().max() < 0.05 and expected.std() > 1  # of a logit scale of 100
    # A folder with the weights alone has the same processor.
    assert torch.equal(load_reward("pickscore", weights, "cpu")(prompts, images), scores)


def test_the_embedded_model(prompts, images, pictures):
    from neuroprompt.models import locate

    folder = locate("embedded", "pickscore")
    scores = load_reward("pickscore", "embedded", "cpu")(prompts, images)
    torch.testing.assert_close(scores, readme_pickscore(folder, folder, prompts, pictures), rtol=0, atol=0.01)


@pytest.mark.parametrize("size", [1, 3])
def test_a_score_does_not_depend_on_its_batch(prompts, images, size):
    reward = load_reward("pickscore", "embedded", "cpu")
    parts = [reward(prompts[i : i + size], images[i : i + size]) for i in range(0, 4, size)]
    torch.testing.assert_close(torch.cat(parts), reward(prompts, images), rtol=0, atol=1e-3)


def test_no_pictures_and_pictures_that_are_not_finite(images):
    reward = load_reward("pickscore", "embedded", "cpu")
    assert reward([], images[:0]).shape == (0,)
    images[1] = torch.nan
    assert reward(["cat"] * 4, images).isnan().tolist() == [False, True, False, False]
