"""The table of families: what it says of pipelines is what diffusers' are."""

import inspect
import math

import diffusers
import pytest

from neuroprompt.families import FAMILIES, family_of, find_family
from neuroprompt.images import ImageGenerator
from neuroprompt.prompts import count_clip_tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_says_what_the_pipelines_do(name):
    family = FAMILIES[name]
    few_steps = family.guidance is None and not name.startswith("flux2")  # whose windows are their cards'
    for pipeline in family.pipelines:
        accepted = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
        if family.encoder == "CLIP":
            assert "max_sequence_length" not in accepted and family.tokens == 77
        elif not few_steps:
            assert family.tokens == accepted["max_sequence_length"].default
    accepted = inspect.signature(getattr(diffusers, family.pipelines[0]).__call__).parameters
    if family.guidance:
        scale = accepted[{"guidance": "guidance_scale", "true_cfg": "true_cfg_scale"}[family.guidance]]
        assert "negative_prompt" in accepted and family.negative == (scale.default > 1)
        assert ("true_cfg_scale" in accepted) == (family.guidance == "true_cfg")
    else:
        assert not family.negative


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("embedded", "sd15"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15"),
        ("Lykon/dreamshaper-8", "sd15"),
        ("v1-5-pruned-emaonly", "sd15"),
        ("stabilityai/stable-diffusion-2-1", "sd21"),
        ("stabilityai/sd-turbo", "sd-turbo"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl"),
        ("sd_xl_base_1.0", "sdxl"),
        ("stabilityai/sdxl-turbo", "sdxl-turbo"),
        ("sdxl_lightning_4step", "sdxl-turbo"),
        ("stabilityai/stable-diffusion-3.5-medium", "sd35"),
        ("stabilityai/stable-diffusion-3.5-large-turbo", "sd35-turbo"),
        ("black-forest-labs/FLUX.1-dev", "flux"),
        ("/models/flux1-schnell-fp8/", "flux-schnell"),
        ("black-forest-labs/FLUX.2-klein-4B", "flux2"),
        ("Qwen/Qwen-Image", "qwen-image"),
        ("Tongyi-MAI/Z-Image-Turbo", "z-image-turbo"),
        ("Tongyi-MAI/Z-Image", "z-image"),
        ("http://127.0.0.1:7860", None),
        ("my-model", None),
        ("sdxl/my-model", None),
    ],
)
def test_a_name_says_its_family(name, family):
    found = family_of(name)
    assert (found and found.name) == family


def test_every_family_is_known_by_its_own_name():
    assert [family_of(name).name for name in FAMILIES] == list(FAMILIES) == [find_family(n).name for n in FAMILIES]
    with pytest.raises(ValueError, match=r"^there is no family of generators 'sd3': choose from sd15, sd21, .*turbo$"):
        find_family("sd3")


def test_a_loaded_generator_is_known_by_its_pipeline_and_more_closely_by_its_name():
    generator = ImageGenerator.from_pretrained("embedded", device="cpu")
    for name, family in (("flux", "sd15"), ("embedded", "sd15"), ("stabilityai/sd-turbo", "sd-turbo")):
        generator.name = name
        assert family_of(generator).name == family and generator.family is family_of(generator)


def test_the_window_of_a_family_is_clips_or_an_estimate():
    text = "a red fox asleep under an old bridge"
    assert FAMILIES["sdxl"].window.count(text) == count_clip_tokens(text)
    flux = FAMILIES["flux"].window
    assert flux.tokens == 512 and flux.count(text) == math.ceil(1.4 * count_clip_tokens(text))
