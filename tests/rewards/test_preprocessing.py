"""Tensors are prepared as Pillow, `transformers`, open_clip and hpsv2 prepare pictures."""

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from transformers import CLIPImageProcessor

from neuroprompt.models import ModelError
from neuroprompt.rewards.preprocessing import Preprocessing, check_batch
from tests.rewards.agreement import SIZES, pixel_differences
from tests.rewards.pictures import KINDS, as_tensor, hpsv2_transform


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [*SIZES, (331, 517)])  # whose crop falls between pixels
@pytest.mark.parametrize("side", [64, 224])
def test_pixels_are_those_of_transformers_and_open_clip(kind, size, side):
    array = KINDS[kind](*size)
    mean, greatest = pixel_differences([array], side)
    assert mean < 0.05 and greatest < 2.01
    config = PreprocessCfg(size=side, mean=(0.0,) * 3, std=(1.0,) * 3)
    theirs = image_transform_v2(config, is_train=False)(Image.fromarray(array))
    ours = Preprocessing.of_open_clip(vars(config))(as_tensor([array]))
    levels = (ours - theirs).abs() * 255
    assert levels.mean() < 0.05 and levels.max() < 2.01


@pytest.mark.parametrize("mode", ["squash", "longest"])
def test_the_other_modes_are_open_clip_s(mode):
    array = KINDS["shapes"](48, 80)
    config = PreprocessCfg(size=32, mean=open_clip.OPENAI_DATASET_MEAN, std=(0.25,) * 3, resize_mode=mode)
    theirs = image_transform_v2(config, is_train=False)(Image.fromarray(array))[None]
    ours = Preprocessing.of_open_clip(vars(config))(as_tensor([array]))
    assert ((ours - theirs).abs().max() * 0.25 * 255).item() < 2.01


@pytest.mark.parametrize("size", [(48, 80), (65, 64), (64, 64)])
def test_hpsv2_pads_and_does_not_round(size):
    array = KINDS["noise"](*size)
    ours = Preprocessing(
        32, 32, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, mode="longest", eight_bit=False
    )(as_tensor([array]))
    theirs = hpsv2_transform(Image.fromarray(array), 32)[None]
    assert (ours - theirs).abs().max().item() < 1e-4


def test_each_picture_is_prepared_as_if_alone():
    images = as_tensor([KINDS[kind](90, 70) for kind in KINDS])
    prepare = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
    torch.testing.assert_close(prepare(images), torch.cat([prepare(i[None]) for i in images]), rtol=0, atol=2.5 / 127)


def test_a_tensor_counts_as_the_8_bit_picture_that_it_would_be_saved_as():
    image = torch.rand(1, 3, 40, 40)
    saved = (image * 255).round() / 255
    prepare = Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)
    assert torch.equal(prepare(image), prepare(saved))
    assert not torch.equal(image, saved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_rescale": False}, "do_rescale is false"),
        ({"resample": 1}, "resample is 1"),
        ({"crop_size": {"height": 300, "width": 300}}, "crops to 300"),
    ],
)
def test_other_image_processors_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        Preprocessing.of_transformers(CLIPImageProcessor(**settings))


def test_a_model_for_oblong_pictures_is_refused():
    with pytest.raises(ModelError, match="224 x 336"):
        Preprocessing.of_open_clip(vars(PreprocessCfg(size=(224, 336))))


GOOD = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("prompts", "images", "message"),
    [
        ("ab", GOOD, "sequence of texts"),
        (["a", 3], GOOD, "sequence of texts"),
        (["a"], GOOD, "1 prompts for 2 pictures"),
        (["a", "b"], GOOD.to(torch.uint8), "uint8"),
        (["a", "b"], GOOD[:, :1], r"\(2, 1, 8, 8\)"),
        (["a", "b"], GOOD[0], r"\(3, 8, 8\)"),
        (["a", "b"], [GOOD], "not list"),
        (["a", "b"], GOOD - 1, "from -1 to -1"),
        (["a", "b"], GOOD + 255, "from 255 to 255"),
        (["a", "b"], GOOD[..., :0], "8 x 0"),
        (["a", "b"], torch.zeros(2, 3, 1, 51), "1 x 51"),
    ],
)
def test_bad_batches_are_refused_in_one_line(prompts, images, message):
    with pytest.raises(ValueError, match=message) as error:
        check_batch(prompts, images)
    assert "\n" not in str(error.value)


def test_one_pixel_and_nan_are_let_through():
    check_batch(["a"], torch.zeros(1, 3, 1, 1))
    check_batch(["a"], torch.full((1, 3, 4, 4), torch.nan))
    assert Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3)(torch.ones(1, 3, 1, 1)).unique().tolist() == [1.0]
