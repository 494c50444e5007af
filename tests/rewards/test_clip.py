"""The CLIP score is the cosine that open_clip or transformers computes."""

import open_clip
import pytest
import torch
from torch.nn import functional as F

from neuroprompt.rewards import load_reward
from tests.checkpoints import rewards as checkpoints


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@torch.no_grad()
def test_the_cosine_is_open_clip_s(tmp_path, resize_mode, prompts, pictures, images):
    folder = checkpoints.open_clip_folder(tmp_path, resize_mode=resize_mode)
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    pixels = torch.stack([prepare(p) for p in pictures])
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(prompts)
    model.eval()
    expected = F.cosine_similarity(model.encode_text(tokens), model.encode_image(pixels))
    scores = load_reward("clip", f"local-dir:{folder}", "cpu")(prompts, images)
    assert (scores - expected).abs().max() < 5e-4 and expected.std() > 0.01


def test_a_clip_model_of_transformers_scores_as_pickscore_does_without_its_scale(tmp_path, prompts, images):
    folder = checkpoints.clip_model(tmp_path)
    clip, pick = (load_reward(name, folder, "cpu") for name in ("clip", "pickscore"))
    torch.testing.assert_close(100 * clip(prompts, images), pick(prompts, images), rtol=1e-4, atol=1e-4)
