"""Models without weights: as many parameters and bytes as with them, and the memory of what runs on them."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, CLIPModel, GPT2Config, GPT2LMHeadModel

from neuroprompt.models import ModelError, locate
from neuroprompt.training.planning.skeletons import (
    UNALLOCATED,
    causal_lm,
    clip,
    open_clip_model,
    parameters,
    peak_bytes,
    pipeline,
    vision_language,
    weight_bytes,
)
from tests.checkpoints import diffusion, rewards

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "published"
STABLE_DIFFUSION = PUBLISHED / "stable-diffusion-v1-5" / "stable-diffusion-v1-5"
SDXL_TURBO = PUBLISHED / "stabilityai" / "sdxl-turbo"
SD35_LARGE_TURBO = PUBLISHED / "stabilityai" / "stable-diffusion-3.5-large-turbo"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("openai-community/gpt2", 124_439_808),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
        ("Qwen/Qwen3-0.6B", 596_049_920),
    ],
)
def test_published_language_models(name, count):
    assert parameters(causal_lm(str(PUBLISHED / name))) == count


@pytest.mark.parametrize(
    ("folder", "counts"),
    [
        (
            STABLE_DIFFUSION,
            {
                "unet": 859_520_964,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "safety_checker": 303_981_588,
            },
        ),
        (
            SDXL_TURBO,
            {
                "unet": 2_567_463_684,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "text_encoder_2": 694_659_840,
            },
        ),
        (
            SD35_LARGE_TURBO,
            {
                "transformer": 8_056_627_520,
                "vae": 83_819_683,
                "text_encoder": 123_650_304,
                "text_encoder_2": 694_659_840,
                "text_encoder_3": 4_762_310_656,
            },
        ),
    ],
)
def test_published_generators(folder, counts):
    made = pipeline(str(folder), torch.float16)
    assert counts == {name: parameters(m) for name, m in made.components.items() if isinstance(m, nn.Module)}


def test_published_encoders():
    assert parameters(clip(str(PUBLISHED / "yuvalkirstain" / "PickScore_v1"), torch.float16)) == 986_109_441
    assert parameters(open_clip_model("ViT-H-14", torch.float16)) == 986_109_441
    assert parameters(open_clip_model("ViT-L-14", torch.float16)) == 427_616_513
    asked = vision_language(str(PUBLISHED / "Qwen" / "Qwen3-VL-4B-Instruct"), torch.float16)
    assert parameters(asked) == 4_437_815_808
    assert asked.dtype == torch.bfloat16  # its own, in whose place float16 would overflow


def test_a_decoder_that_its_pipeline_makes_float32_counts_as_that():
    assert pipeline(str(SDXL_TURBO), torch.float16).vae.dtype == torch.float32
    assert pipeline(str(SDXL_TURBO), torch.bfloat16).vae.dtype == torch.bfloat16
    assert pipeline(str(STABLE_DIFFUSION), torch.float16).vae.dtype == torch.float16


def test_a_policy_is_as_large_as_it_is_when_loaded():
    source = locate("embedded", "policy")
    loaded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    made = causal_lm(source, torch.float32)
    assert parameters(made) == sum(p.numel() for p in loaded.parameters())
    assert weight_bytes(made) == sum(t.nbytes for t in [*loaded.parameters(), *loaded.buffers()])
    assert causal_lm(source).dtype == AutoModelForCausalLM.from_pretrained(source, dtype="auto").dtype


def test_so_are_its_adapters():
    config = LoraConfig(r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    loaded = get_peft_model(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2)), config)
    with UNALLOCATED:
        made = get_peft_model(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2)), config)
    assert parameters(made, trainable=True) == sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    assert weight_bytes(made) == sum(t.nbytes for t in [*loaded.parameters(), *loaded.buffers()])


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_a_generator_is_as_large_as_it_is_when_loaded(kind, tmp_path):
    folder = str(getattr(diffusion, kind)(tmp_path))
    loaded = DiffusionPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    made = pipeline(folder, torch.bfloat16)
    assert type(made) is type(loaded)
    for name, model in loaded.components.items():
        if isinstance(model, nn.Module):
            assert parameters(made.components[name]) == sum(p.numel() for p in model.parameters()), name
            assert made.components[name].dtype == model.dtype, name


def test_encoders_are_as_large_as_they_are_when_loaded(tmp_path):
    folder = rewards.clip_weights(tmp_path / "clip")
    loaded = CLIPModel.from_pretrained(folder)
    assert parameters(clip(str(folder), torch.float32)) == sum(p.numel() for p in loaded.parameters())
    folder = rewards.open_clip_folder(tmp_path / "open_clip")
    state = rewards.open_clip_state()
    # The mask of the text tower is a buffer that is no weight.
    assert parameters(open_clip_model(f"local-dir:{folder}", torch.float32)) == sum(t.numel() for t in state.values())


def test_a_missing_config_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="config"):
        causal_lm(str(tmp_path))
    with pytest.raises(ModelError, match="model_index"):
        pipeline(str(tmp_path), torch.float32)


def test_the_peak_is_of_what_is_alive_at_once():
    def run():
        first = torch.zeros(1000)  # 4,000 bytes
        first.add_(1)
        second = first.view(10, 100).t()  # no more
        third = first + 1  # 8,000
        del first, second, third
        torch.zeros(500)

    assert peak_bytes(run) == 8000


def test_gradients_that_are_there_count_once():
    with UNALLOCATED:
        layer = nn.Linear(1000, 1000, bias=False)

    def run():
        layer(torch.zeros(1, 1000)).sum().backward()

    alone = peak_bytes(run, layer)
    assert 4_000_000 <= alone < 4_100_000  # the gradient, and rows of 4 kB
    # Accumulation makes the new gradient beside the one that is there, and that one does not count.
    assert peak_bytes(run, layer, trained=True) == pytest.approx(alone, rel=0.01)
    assert layer.weight.grad is None
