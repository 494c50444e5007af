"""HPSv2 is the diagonal of image features times text features, on pictures prepared as its package prepares them."""

import open_clip
import pytest
import torch
from torch.nn import functional as F

from neuroprompt.models import ModelError
from neuroprompt.rewards import load_reward
from neuroprompt.rewards.hps import FILE, MODEL
from tests.checkpoints import rewards as checkpoints
from tests.rewards.pictures import hpsv2_transform


class Payload:
    """A pickle that makes a file when it is read carelessly."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.fixture
def architecture(tmp_path):
    return checkpoints.open_clip_architecture(tmp_path / "configs", "tiny-ViT-H-14")


@torch.no_grad()
def test_the_hub_s_checkpoint_under_its_own_name(tmp_path, monkeypatch, architecture, prompts, pictures, images):
    cache = checkpoints.use_hub_cache(monkeypatch, tmp_path / "hub")
    file = checkpoints.hps_checkpoint(tmp_path / "repository" / FILE)
    checkpoints.as_hub_repository(cache, MODEL, file.parent)
    model = open_clip.CLIP(**checkpoints.OPEN_CLIP_CONFIG).eval()
    model.load_state_dict(torch.load(file, weights_only=True)["state_dict"])
    image = F.normalize(model.encode_image(torch.stack([hpsv2_transform(p, 32) for p in pictures])), dim=-1)
    text = F.normalize(model.encode_text(open_clip.get_tokenizer(architecture)(prompts)), dim=-1)
    expected = (image @ text.T).diag()
    reward = load_reward("hps", device="cpu", architecture=architecture)
    scores = reward(prompts, images)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01
    for place in (file, file.parent):
        assert load_reward("hps", place, "cpu", architecture=architecture).fingerprint == reward.fingerprint


def test_a_pickle_that_would_run_code_is_refused(tmp_path, architecture):
    victim = tmp_path / "written"
    torch.save({"state_dict": checkpoints.open_clip_state(), "extra": Payload(victim)}, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="is refused") as error:
        load_reward("hps", tmp_path / "bad.pt", "cpu", architecture=architecture)
    assert "\n" not in str(error.value) and not victim.exists()


def test_what_is_no_checkpoint_is_refused(tmp_path, architecture):
    checkpoints.laion_v1_head(tmp_path / "head.pth")
    for place, message in {
        tmp_path / "head.pth": "cannot load HPSv2 from",
        tmp_path: f"holds no {FILE}",
        tmp_path / "nowhere.pt": "no file or folder",
        "embedded": "no file or folder 'embedded'",
    }.items():
        with pytest.raises(ModelError, match=message) as error:
            load_reward("hps", place, "cpu", architecture=architecture)
        assert "\n" not in str(error.value)
