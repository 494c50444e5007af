"""Drawing: a picture depends on (generator, prompt, seed) alone, whatever the batch, the memory and the pipeline."""

import inspect
import json
import logging
import os
import re
import shutil
from types import SimpleNamespace

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from neuroprompt.images import GeneratorConfig, ImageGenerator
from neuroprompt.images.pipeline import _window
from neuroprompt.models import ModelError
from neuroprompt.prompts import Window
from tests.checkpoints import diffusion, policies

# Pictures of one prompt and seed in different batches; kernels add in other orders. 8-bit steps are 4e-3.
TOLERANCE = 2e-5
PROMPTS = [
    "boy on a horse, 3d render",
    "a castle",
    "boy on a horse, 3d render",
    "a bowl of strawberries, flat",
    "a cat",
]
SEEDS = [0, 1, 2, 1, 2**40]
LONG = "a castle, " + ", ".join(f"very detailed number {i}" for i in range(40)) + ", at night"


@pytest.fixture(scope="module")
def embedded():
    return ImageGenerator.from_pretrained("embedded", device="cpu")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders by name, made when first asked for."""
    made = {}

    def get(name, **arguments):
        key = name, *arguments.items()
        if key not in made:
            made[key] = getattr(diffusion, name)(tmp_path_factory.mktemp(name), **arguments)
        return made[key]

    return get


@pytest.fixture(scope="module")
def load(checkpoints):
    def load(name="stable_diffusion", arguments=None, **overrides):
        overrides = {"steps": 2} | overrides
        return ImageGenerator.from_pretrained(checkpoints(name, **(arguments or {})), device="cpu", **overrides)

    return load


def own_pictures(generator, prompts, seeds, **settings):
    """What the pipeline draws when it is called as its documentation says, one picture at a time."""
    return torch.cat(
        [
            generator.pipeline(
                prompt, generator=torch.Generator().manual_seed(seed), output_type="pt", **settings
            ).images
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
    )


# --- pictures ----------------------------------------------------------------------------------------------------


def test_the_embedded_generator_draws_as_its_pipeline_does(embedded):
    images = embedded(PROMPTS[:4], SEEDS[:4])
    assert images.shape == (4, 3, 64, 64) and images.dtype == torch.float32
    assert 0 <= images.min() and images.max() <= 1
    own = own_pictures(embedded, PROMPTS[:4], SEEDS[:4], num_inference_steps=8, guidance_scale=3.0, height=64, width=64)
    assert (images - own).abs().max() < TOLERANCE


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_picture_does_not_depend_on_its_batch(embedded, monkeypatch, batch_size):
    whole = embedded(PROMPTS, SEEDS)
    monkeypatch.setattr(embedded, "_batch_size", batch_size)
    order = [3, 0, 4, 2, 1]
    parts = embedded([PROMPTS[i] for i in order], [SEEDS[i] for i in order])
    assert (parts - whole[order]).abs().max() < TOLERANCE


def test_prompt_and_seed_make_the_picture(embedded):
    a, other_seed, other_prompt, large, larger = embedded(
        ["a cat", "a cat", "a dog", "a cat", "a cat"], [0, 1, 0, 2**32, 2**64 + 5]
    )
    for x, y in ((a, other_seed), (a, other_prompt), (a, large), (large, larger)):
        assert (x - y).abs().mean() > 0.01


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_every_family_draws_as_its_pipeline_does(load, name):
    generator = load(name, size=32)
    prompts, seeds = ["a castle", "a dog, blue", "a castle"], [3, 4, 5]
    images = generator(prompts, seeds)
    own = own_pictures(generator, prompts, seeds, num_inference_steps=2, height=32, width=32)
    assert images.shape == (3, 3, 32, 32) and images.std() > 0.01
    assert (images - own).abs().max() < TOLERANCE


@pytest.mark.parametrize("size", [(64, 32), [64, 32], "64x32", "64X32"])
def test_a_size_is_width_by_height(load, size):
    generator = load(size=size)
    images = generator(["a castle"], [0])
    assert generator.config.size == (64, 32) and images.shape == (1, 3, 32, 64)
    own = own_pictures(generator, ["a castle"], [0], num_inference_steps=2, width=64, height=32)
    assert (images - own).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3"])
def test_the_negative_prompt_is_the_pipelines(load, name):
    generator = load(name, negative="blurry, ugly")
    images = generator(["a castle", "a dog"], [0, 1])
    own = own_pictures(generator, ["a castle", "a dog"], [0, 1], num_inference_steps=2, negative_prompt="blurry, ugly")
    assert (images - own).abs().max() < TOLERANCE
    assert (images - load(name)(["a castle", "a dog"], [0, 1])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "settings", "own"),
    [
        ("qwen_image", {}, {"true_cfg_scale": 4.0, "negative_prompt": " "}),
        ("qwen_image", {"negative": "blurry"}, {"true_cfg_scale": 4.0, "negative_prompt": "blurry"}),
        ("qwen_image", {"true_cfg": 1.0}, {"true_cfg_scale": 1.0}),
        ("flux", {}, {}),
        ("flux", {"true_cfg": 3.0}, {"true_cfg_scale": 3.0, "negative_prompt": " "}),
        ("flux", {"true_cfg": 3.0, "negative": "x"}, {"true_cfg_scale": 3.0, "negative_prompt": "x"}),
    ],
)
def test_guidance_has_another_name_in_pipelines_of_distilled_models(load, name, settings, own):
    """true_cfg_scale weighs it there, and the pipeline leaves it out where no negative prompt is given."""
    size = {"height": 32, "width": 32}
    images = load(name, **settings, size=32)(["a castle", "a dog, blue"], [0, 1])
    pipeline = load(name, size=32)
    assert (
        images - own_pictures(pipeline, ["a castle", "a dog, blue"], [0, 1], num_inference_steps=2, **size, **own)
    ).abs().max() < TOLERANCE
    plain = own_pictures(
        pipeline, ["a castle", "a dog, blue"], [0, 1], num_inference_steps=2, true_cfg_scale=1.0, **size
    )
    assert ((images - plain).abs().max() > 1e-4) == (own.get("true_cfg_scale", 1.0) > 1)


@pytest.mark.parametrize(
    ("name", "settings", "own"),
    [
        ("stable_diffusion", {}, {}),
        ("stable_diffusion_xl", {"negative": "grey"}, {}),
        ("stable_diffusion_3", {}, {}),
        ("flux", {"true_cfg": 3.0}, {"true_cfg_scale": 3.0}),
        ("qwen_image", {}, {}),
    ],
)
def test_each_prompt_has_its_own_negative_in_one_batch(load, name, settings, own):
    generator = load(name, size=32, **settings)
    blank = " " if "true_cfg_scale" in inspect.signature(generator.pipeline.__call__).parameters else None
    prompts, seeds, negatives = ["a castle", "a dog", "a castle"], [0, 0, 0], ["blurry", None, "ugly, wrong"]
    assert generator.takes_negative
    images = generator.draw(prompts, seeds, negatives).images
    for prompt, negative, image in zip(
        prompts, [negatives[0], settings.get("negative", blank), negatives[2]], images, strict=True
    ):
        asked = own | {"num_inference_steps": 2, "height": 32, "width": 32, "negative_prompt": negative}
        assert (image - own_pictures(generator, [prompt], [0], **asked)[0]).abs().max() < TOLERANCE
    assert torch.equal(generator(prompts, seeds), generator.draw(prompts, seeds, [None] * 3).images)
    assert (images[0] - images[2]).abs().max() > 1e-3


def test_a_negative_that_nothing_reads_is_left_out_and_said_once(load):
    for generator in (load(guidance=1.0), load("flux", size=32)):
        plain = generator(["a castle"], [0])
        assert not generator.takes_negative
        with pytest.warns(UserWarning, match="takes no negative prompt") as said:
            drawn = [generator.draw(["a castle"], [0], ["blurry"]).images for _ in range(2)]
        assert len(said) == 1 and all(torch.equal(plain, images) for images in drawn)


def test_schedulers_that_draw_noise_do_it_for_each_picture(load):
    generator = load(scheduler="EulerAncestralDiscreteScheduler", steps=3)
    whole = generator(PROMPTS[:3], SEEDS[:3])
    assert generator.config.scheduler == "EulerAncestralDiscreteScheduler"
    assert (torch.cat([generator([p], [s]) for p, s in zip(PROMPTS[:3], SEEDS, strict=False)]) - whole).abs().max() < (
        TOLERANCE
    )


def test_each_distinct_prompt_is_encoded_once(load):
    generator = load(batch_size=2)
    seen = []
    hook = generator.pipeline.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    prompts = ["a castle"] * 5 + ["a dog"] * 2
    images = generator(prompts, range(7))
    assert sum(seen) == 2 + 2  # two prompts; and an empty text with its negative, once for the generator's lifetime
    generator(prompts, range(7))
    assert sum(seen) == 2 + 2 + 2
    hook.remove()
    assert (images - own_pictures(generator, prompts, range(7), num_inference_steps=2)).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_a_prompts_vector_is_the_mean_of_what_its_pipeline_encodes(load, name):
    generator = load(name, batch_size=2)
    prompts = ["a castle", "a dog, blue", "a castle", ""]
    vectors = generator.encode(prompts)
    with torch.no_grad():
        accepted = inspect.signature(generator.pipeline.encode_prompt).parameters
        others = {k: None for k in ("prompt_2", "prompt_3", "negative_prompt") if k in accepted}
        if "do_classifier_free_guidance" in accepted:
            others["do_classifier_free_guidance"] = False
        own = [
            generator.pipeline.encode_prompt(prompt=p, device="cpu", num_images_per_prompt=1, **others)[0][0].mean(0)
            for p in prompts
        ]
    torch.testing.assert_close(vectors, torch.stack(own), atol=1e-5, rtol=1e-4)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_no_prompts_no_pictures(embedded):
    drawing = embedded.draw([], [])
    assert drawing.images.shape == (0, 3, 64, 64) and drawing.flagged.shape == (0,)


def test_half_precision_draws_nearly_the_same(embedded):
    half = ImageGenerator.from_pretrained("embedded", device="cpu", dtype="bfloat16")
    difference = (half(PROMPTS[:4], SEEDS[:4]) - embedded(PROMPTS[:4], SEEDS[:4])).abs()
    assert half.config.dtype == "bfloat16"
    assert 0 < difference.mean() < 0.01 and difference.max() < 0.3


@pytest.mark.parametrize("native", [True, False])
def test_cpus_draw_in_bfloat16_only_where_they_have_it_and_are_asked(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    found = [ImageGenerator.from_pretrained("embedded", device="cpu", dtype=d).config.dtype for d in (None, "auto")]
    assert found == ["float32", "bfloat16" if native else "float32"]


def test_a_variant_of_the_files(load):
    generator = load("stable_diffusion_xl", {"variant": "fp16"}, variant="fp16", dtype="bfloat16")
    assert generator.config.variant == "fp16" and generator(["a castle"], [0]).std() > 0.01
    with pytest.raises(ModelError, match="variant=ema"):
        load("stable_diffusion_xl", {"variant": "fp16"}, variant="ema")


def test_settings_that_save_memory_do_not_change_pictures(load):
    plain = load()(PROMPTS[:2], [0, 1])
    frugal = load(attention_slicing=True, vae_slicing=True, batch_size=1)
    assert (frugal(PROMPTS[:2], [0, 1]) - plain).abs().max() < TOLERANCE
    tiled = load(vae_tiling=True)
    assert tiled.pipeline.vae.use_tiling and (tiled(PROMPTS[:2], [0, 1]) - plain).abs().max() < 0.1


@pytest.mark.exhaustive
def test_a_compiled_denoiser_draws_the_same(load):
    plain = load()(PROMPTS[:2], [0, 1])
    assert (load(compile=True)(PROMPTS[:2], [0, 1]) - plain).abs().max() < 1e-4


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_batches_halve_until_they_fit_and_stay_small(load, error):
    generator = load(batch_size=16)
    expected = generator(PROMPTS * 2, range(10))
    tried = []

    def refuse(module, args, kwargs):
        tried.append(len(args[0]) // 2)  # with guidance, there are two halves
        if tried[-1] > 3:
            raise error

    hook = generator.pipeline.unet.register_forward_pre_hook(refuse, with_kwargs=True)
    assert (generator(PROMPTS * 2, range(10)) - expected).abs().max() < TOLERANCE
    assert list(dict.fromkeys(tried)) == [10, 5, 2]
    tried.clear()
    generator(PROMPTS, range(5))
    assert list(dict.fromkeys(tried)) == [2, 1]
    hook.remove()


def test_what_one_picture_is_too_much_for_and_other_errors_pass(load):
    generator = load()
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("shapes differ"), KeyError("x")):

        def fail(module, args, error=error):
            raise error

        hook = generator.pipeline.unet.register_forward_pre_hook(fail)
        with pytest.raises(type(error)) as caught:
            generator(PROMPTS, SEEDS)
        assert caught.value is error
        hook.remove()
    generator._batch_size = 16
    assert len(generator(PROMPTS, SEEDS)) == 5


# --- the safety checker ------------------------------------------------------------------------------------------


def test_flagged_pictures_are_reported(load, checkpoints, tmp_path):
    clean = load().draw(PROMPTS[:2], [0, 1])
    assert clean.flagged.tolist() == [False, False]
    generator = load(arguments={"flags": True})
    assert generator.config.safety_checker
    flagged = generator.draw(PROMPTS[:2], [0, 1])
    assert flagged.flagged.tolist() == [True, True] and flagged.images.max() == 0
    unchecked = load(arguments={"flags": True}, safety_checker=False)
    assert not unchecked.config.safety_checker
    drawing = unchecked.draw(PROMPTS[:2], [0, 1])
    assert not drawing.flagged.any() and torch.equal(drawing.images, clean.images)
    folder = checkpoints("stable_diffusion", safety_checker=False)  # named in model_index.json, and not there
    without = ImageGenerator.from_pretrained(folder, device="cpu", steps=2)
    assert not without.config.safety_checker and torch.equal(without(PROMPTS[:2], [0, 1]), clean.images)


# --- long prompts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl"])
def test_long_prompts_are_cut_without_a_word(load, name, caplog, capfd):
    generator = load(name)
    assert generator.window == Window(77)
    tail = LONG.replace("at night", "at noon")
    capfd.readouterr(), caplog.clear()  # what making the checkpoints said
    with caplog.at_level(logging.WARNING):
        a, b = generator([LONG, tail], [0, 0])
    assert (a - b).abs().max() < TOLERANCE  # the tail is beyond the window
    assert not caplog.records and not capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "tokens", "counter"),
    [
        ("stable_diffusion", {}, 77, "CLIP"),
        ("stable_diffusion_xl", {}, 77, "CLIP"),
        ("stable_diffusion_3", {}, 256, "T5"),
        ("flux", {}, 512, "T5"),
        ("flux", {"max_sequence_length": 200}, 200, "T5"),
        ("qwen_image", {}, 512, "Qwen2"),
    ],
)
def test_a_window_is_what_its_pipeline_reads(load, name, arguments, tokens, counter):
    """What it holds is read to the last word, and what stands far behind it is not."""
    generator = load(name, size=32, **arguments)
    window = generator.window
    assert (window.tokens, window.counter) == (tokens, counter)
    fits = max(n for n in range(600) if window.holds("a" + " b" * n))
    for words, read in ((fits, True), (fits + 20, False)):
        one, other = generator([f"a{' b' * (words - 1)} {last}" for last in "bc"], [0, 0])
        assert ((one - other).abs().max() > TOLERANCE) == read


def test_where_a_chat_model_reads_the_prompt_its_template_takes_of_the_window(tmp_path):
    """Z-Image's own encoding has as many tokens as are counted, up to the window."""
    folder = policies.qwen3(tmp_path, place=4096, size=4352)
    encoder, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pipeline = diffusers.ZImagePipeline(None, None, encoder, tokenizer, None)
    window = _window(pipeline, 40)
    for text, fits in (("a red fox", True), ("a red fox asleep " * 20, False)):
        (read,), _ = pipeline.encode_prompt(text, "cpu", do_classifier_free_guidance=False, max_sequence_length=40)
        assert len(read) == min(40, window.count(text)) and window.holds(text) == fits
    assert window.count("a red fox") > len(tokenizer("a red fox")["input_ids"])


def test_what_no_tokenizer_of_its_own_counts_is_estimated():
    """FLUX.2's is a processor of pictures, too."""
    window = _window(SimpleNamespace(tokenizer=object(), text_encoder=object()), 512)
    assert window == Window.estimated(512) and _window(SimpleNamespace(tokenizer=None), 512) is None


# --- settings ----------------------------------------------------------------------------------------------------


def test_the_config_says_what_the_pipeline_does(embedded, load):
    config = embedded.config
    assert (config.steps, config.guidance, config.size) == (8, 3.0, (64, 64))
    assert (config.scheduler, config.dtype, config.safety_checker) == ("DPMSolverMultistepScheduler", "float32", False)
    config = load(steps=None).config
    assert (config.steps, config.guidance, config.size) == (50, 7.5, (diffusion.SIDE,) * 2)
    assert load("stable_diffusion_3").config.max_sequence_length == 256
    qwen, flux = load("qwen_image", size=32).config, load("flux", size=32).config
    assert (qwen.guidance, qwen.true_cfg) == (None, 4.0)
    assert (flux.guidance, flux.true_cfg) == (None, 1.0)  # made as FLUX.1-schnell, without distilled guidance


def test_few_step_models_are_drawn_as_their_cards_say(checkpoints, tmp_path):
    folder = tmp_path / "FLUX.1-schnell"
    shutil.copytree(checkpoints("flux"), folder)
    config = ImageGenerator.from_pretrained(folder, device="cpu", size=32).config
    assert (config.steps, config.guidance, config.max_sequence_length) == (4, 0.0, 256)
    assert ImageGenerator.from_pretrained(folder, device="cpu", steps=2).config.steps == 2


def test_the_fingerprint_is_of_all_that_makes_a_picture(embedded, load, checkpoints, tmp_path):
    same = ImageGenerator.from_pretrained("embedded", device="cpu", batch_size=3, attention_slicing=True)
    assert same.fingerprint == embedded.fingerprint
    prints = [
        load().fingerprint,
        load(steps=3).fingerprint,
        load(negative="x").fingerprint,
        load(scheduler="DDIMScheduler").fingerprint,
        load(size=(64, 32)).fingerprint,
        load(size=(32, 64)).fingerprint,
        load(arguments={"flags": True}).fingerprint,
        load("stable_diffusion_xl").fingerprint,
    ]
    copy = tmp_path / "copy"
    shutil.copytree(checkpoints("stable_diffusion"), copy)
    arguments = {"device": "cpu", "steps": 2}
    assert ImageGenerator.from_pretrained(copy, **arguments).fingerprint == prints[0]
    settings = json.loads((copy / "scheduler" / "scheduler_config.json").read_text())
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings | {"beta_end": 0.013}))
    prints.append(ImageGenerator.from_pretrained(copy, **arguments).fingerprint)
    assert len(set(prints)) == len(prints)


def test_a_hub_id_is_known_by_its_commit(checkpoints, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(checkpoints("stable_diffusion"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    generator = ImageGenerator.from_pretrained("someone/tiny", device="cpu", steps=2)
    assert generator.name == "someone/tiny" and generator(["a castle"], [0]).shape == (1, 3, 32, 32)
    other = repository.with_name("models--someone--other")
    shutil.copytree(repository, other)
    os.rename(other / "snapshots" / commit, other / "snapshots" / commit[::-1])
    (other / "refs" / "main").write_text(commit[::-1])
    renamed = ImageGenerator.from_pretrained("someone/other", device="cpu", steps=2)
    assert renamed.fingerprint != generator.fingerprint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"steps": 0}, "^steps is 0: give a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"guidance": -1.0}, "^guidance is -1.0"),
        ({"dtype": "int8"}, "dtype is 'int8': it can be auto, float32, bfloat16, float16"),
        ({"cpu_offload": "disk"}, "it can be model, sequential"),
        ({"cpu_offload": "model"}, "the device is the CPU"),
        ({"scheduler": "Euler"}, "scheduler is 'Euler': that is none of diffusers' own, such as DDIM"),
        ({"scheduler": 3}, "scheduler is 3: give a text"),
        ({"vae_slicing": "on"}, "vae_slicing is 'on': it can be true or false"),
        ({"size": "64x60"}, "size is 64x60: StableDiffusionPipeline draws multiples of 8 pixels, such as 64x64"),
        ({"size": 0}, "size is 0: give pixels from 1 up"),
        ({"size": "big"}, "size is 'big': give pixels"),
        ({"size": (64, 64, 3)}, r"size is \(64, 64, 3\): give pixels"),
        ({"max_sequence_length": 99}, "StableDiffusionPipeline takes none"),
        ({"negative": "x", "guidance": 1.0}, r"no effect without guidance \(guidance is 1.0\)"),
    ],
)
def test_settings_that_mean_nothing(load, overrides, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(**overrides)
    assert "\n" not in str(caught.value)


def test_settings_that_a_family_has_no_use_for(load):
    with pytest.raises(ValueError, match=r"no effect without guidance \(true_cfg is 1.0\)"):
        load("flux", negative="x")
    with pytest.raises(ValueError, match=r"guidance is 3\.5, which this FluxPipeline does not read"):
        load("flux", guidance=3.5)
    with pytest.raises(ValueError, match=r"true_cfg is 4\.0, and StableDiffusionPipeline takes none"):
        load(true_cfg=4.0)
    with pytest.raises(TypeError, match="stepz"):
        load(stepz=3)
    for name, hint in {
        "stesp": "'steps'",
        "num_inference_steps": "'steps'",
        "height": "'size'",
        "x": "it has steps",
    }.items():
        with pytest.raises(ValueError, match=f"generator has no setting '{name}': {hint}"):
            GeneratorConfig.of(**{name: 3})
    assert GeneratorConfig.of(batch_size=16, dtype=None) == GeneratorConfig()


@pytest.mark.parametrize(
    ("prompts", "seeds", "kind", "message"),
    [
        ("a cat", [0], TypeError, "give a list of texts"),
        ([None], [0], TypeError, "a prompt is None"),
        (["a"], [0.5], TypeError, "whole numbers"),
        (["a", "b"], [0], ValueError, "1 seeds for 2 prompts"),
        (["a"], [-3], ValueError, "a seed is -3: give numbers from 0 up"),
    ],
)
def test_arguments_that_mean_nothing(embedded, prompts, seeds, kind, message):
    with pytest.raises(kind, match=message):
        embedded.draw(prompts, seeds)


@pytest.mark.parametrize(
    ("negatives", "kind", "message"),
    [
        ("x", TypeError, "negatives is the text 'x': give a list"),
        ([0], TypeError, "a negative prompt is 0: give texts"),
        (["x", "y"], ValueError, "2 negative prompts for 1 prompts"),
    ],
)
def test_negative_prompts_that_mean_nothing(embedded, negatives, kind, message):
    with pytest.raises(kind, match=message):
        embedded.draw(["a cat"], [0], negatives)


# --- loading -----------------------------------------------------------------------------------------------------


def refusal(name, **arguments):
    with pytest.raises(ModelError) as caught:
        ImageGenerator.from_pretrained(name, **({"device": "cpu"} | arguments))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_that_cannot_be_loaded(checkpoints, tmp_path, monkeypatch):
    assert "nobody/nothing" in refusal("nobody/nothing") and "no folder" in refusal(tmp_path / "none")
    folder = tmp_path / "policy"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.safetensors").touch()
    assert "there is no model_index.json" in refusal(folder)
    shutil.copytree(checkpoints("stable_diffusion"), folder, dirs_exist_ok=True)
    (folder / "unet" / "model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    assert "pickled weights (unet/diffusion_pytorch_model.bin), which can run any code" in refusal(folder)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDM2Pipeline"}))
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    assert "AudioLDM2Pipeline" in refusal(folder)
    if not torch.cuda.is_available():
        assert "no CUDA device" in refusal("embedded", device="cuda")


@pytest.mark.parametrize(
    ("part", "key", "message"),
    [
        ("unet", "conv_out.weight", "the unet of .* is not what its config says: its files lack 1 of"),
        ("text_encoder", "text_model.final_layer_norm.weight", "the text_encoder of .* lack 1 of"),
        ("vae", "decoder.conv_out.bias", "the vae of .* lack 1 of"),
    ],
)
def test_parts_that_are_not_what_they_say_are_refused(checkpoints, tmp_path, part, key, message):
    folder = shutil.copytree(checkpoints("stable_diffusion"), tmp_path / "copy")
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    save_file(weights | {key: weights[key] * torch.nan}, file, {"format": "pt"})
    assert f"{part} of {folder} is broken" in refusal(folder)
    del weights[key]
    save_file(weights, file, {"format": "pt"})
    assert re.search(message, refusal(folder))


def test_a_part_with_other_shapes_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints("stable_diffusion"), tmp_path / "copy")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"block_out_channels": [32, 64]}))
    assert "cannot load the unet of" in refusal(folder)


def test_a_generator_without_its_tokenizer_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints("stable_diffusion"), tmp_path / "copy")
    shutil.rmtree(folder / "tokenizer")
    assert "has no tokenizer: copy the files" in refusal(folder)


def test_a_full_disk_is_said_so(monkeypatch):
    def fail(*_, **__):
        try:
            raise OSError(28, os.strerror(28))
        except OSError as error:
            raise OSError("Consistency check failed: 3 pages of text") from error

    monkeypatch.setattr("diffusers.AutoPipelineForText2Image.from_pretrained", fail)
    assert "the disk is full: free some space, or set HF_HOME" in refusal("embedded")
