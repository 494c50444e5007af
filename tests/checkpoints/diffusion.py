"""Tiny random checkpoints in the file layouts of the hub: Stable Diffusion 1.5, XL and 3, Flux and Qwen-Image.

Files, names of tensors, tokenizer formats and the fields of ``model_index.json`` are those of
``stable-diffusion-v1-5/stable-diffusion-v1-5``, ``stabilityai/stable-diffusion-xl-base-1.0``,
``stabilityai/stable-diffusion-3-medium-diffusers``, ``black-forest-labs/FLUX.1-schnell`` and ``Qwen/Qwen-Image``; only
the widths and depths are others. So whatever loads one of these loads the real one.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PNDMScheduler,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from neuroprompt.prompts import clip_tokenizer
from tests.checkpoints.policies import byte_level_bpe

WIDTH = 16
SIDE = 32  # pixels; latents are half as large


def stable_diffusion(folder: Path, *, safety_checker: bool = True, flags: bool = False) -> Path:
    """Stable Diffusion 1.5: UNet, CLIP text encoder, AutoencoderKL, PNDM, and (unless left out) a safety checker, which
    objects to every picture where `flags` is set and to none otherwise."""
    torch.manual_seed(0)
    _clip_tokenizer(folder / "tokenizer")
    _save_transformer(CLIPTextModel(_clip_text()), folder / "text_encoder")
    _unet(cross_attention_dim=WIDTH).save_pretrained(folder / "unet")
    _vae(latent_channels=4).save_pretrained(folder / "vae")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    index: dict = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write(
        folder / "feature_extractor" / "preprocessor_config.json",
        {
            "crop_size": 224,
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": 224,
        },
    )
    if safety_checker:
        vision = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
        checker = StableDiffusionSafetyChecker(
            CLIPConfig(vision_config=vision | {"patch_size": 32}, projection_dim=WIDTH)
        )
        for concepts in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
            concepts.data.fill_(-2.0 if flags else 2.0)  # thresholds of a cosine
        _save_transformer(checker, folder / "safety_checker")
    _write(folder / "model_index.json", index)
    return folder


def stable_diffusion_2(folder: Path, *, levels: int = 2) -> Path:
    """SD Turbo, of Stable Diffusion 2's family: a text encoder with plain GELU, Euler, no safety checker."""
    torch.manual_seed(0)
    _clip_tokenizer(folder / "tokenizer", pad="!")
    _save_transformer(CLIPTextModel(_clip_text("gelu")), folder / "text_encoder")
    _unet(cross_attention_dim=WIDTH, use_linear_projection=True).save_pretrained(folder / "unet")
    _vae(latent_channels=4, levels=levels).save_pretrained(folder / "vae")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="trailing"
    ).save_pretrained(folder / "scheduler")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.24.0.dev0",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def stable_diffusion_xl(folder: Path, *, variant: str | None = None, levels: int = 2) -> Path:
    """SDXL: two CLIP text encoders, Euler; with `variant="fp16"`, also the files of half precision.

    Latents are 2^(`levels` − 1) times smaller than pictures: with more levels, large pictures cost little.
    """
    torch.manual_seed(0)
    _clip_tokenizer(folder / "tokenizer")
    _clip_tokenizer(folder / "tokenizer_2", pad="!")
    first, second = CLIPTextModel(_clip_text()), CLIPTextModelWithProjection(_clip_text("gelu"))
    unet = _unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        use_linear_projection=True,
    )
    vae = _vae(latent_channels=4, levels=levels)
    for suffix in (None, variant) if variant else (None,):
        dtype = torch.float16 if suffix == "fp16" else torch.float32
        _save_transformer(first.to(dtype), folder / "text_encoder", suffix)
        _save_transformer(second.to(dtype), folder / "text_encoder_2", suffix)
        unet.to(dtype).save_pretrained(folder / "unet", variant=suffix)
        vae.to(dtype).save_pretrained(folder / "vae", variant=suffix)
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionXLPipeline",
            "_diffusers_version": "0.19.0.dev0",
            "force_zeros_for_empty_prompt": True,
            "add_watermarker": None,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def stable_diffusion_3(folder: Path) -> Path:
    """Stable Diffusion 3: two CLIP text encoders and T5 before a transformer, flow matching."""
    torch.manual_seed(0)
    _clip_tokenizer(folder / "tokenizer")
    _clip_tokenizer(folder / "tokenizer_2", pad="!")
    _t5_tokenizer(folder / "tokenizer_3")
    for part, activation in (("text_encoder", "quick_gelu"), ("text_encoder_2", "gelu")):
        _save_transformer(CLIPTextModelWithProjection(_clip_text(activation)), folder / part)
    _save_transformer(_t5(2 * WIDTH), folder / "text_encoder_3")
    SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=SIDE,
    ).save_pretrained(folder / "transformer")
    _vae(latent_channels=4, shift_factor=0.0609, use_quant_conv=False).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusion3Pipeline",
            "_diffusers_version": "0.29.0.dev0",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "text_encoder_3": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "tokenizer_3": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "SD3Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def flux(folder: Path) -> Path:
    """FLUX.1-schnell: CLIP for the pooled embedding, T5 for the sequence, a transformer without distilled guidance."""
    torch.manual_seed(0)
    _clip_tokenizer(folder / "tokenizer")
    _t5_tokenizer(folder / "tokenizer_2")
    _save_transformer(CLIPTextModel(_clip_text()), folder / "text_encoder")
    _save_transformer(_t5(WIDTH), folder / "text_encoder_2")
    FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=False,
    ).save_pretrained(folder / "transformer")
    _vae(latent_channels=4, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False).save_pretrained(
        folder / "vae"
    )
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder / "scheduler")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "FluxPipeline",
            "_diffusers_version": "0.30.0.dev0",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def qwen_image(folder: Path) -> Path:
    """Qwen-Image: a language model that reads the text, a transformer without distilled guidance, a video's VAE."""
    torch.manual_seed(0)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    byte_level_bpe(folder / "tokenizer", 5000, special, place=4997)
    names = {"pad_token": special[0], "eos_token": special[2], "tokenizer_class": "Qwen2Tokenizer"}
    _write(folder / "tokenizer" / "tokenizer_config.json", names | {"model_max_length": 131072})
    size = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH}
    text = size | {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5000}
    text |= {"bos_token_id": 4997, "eos_token_id": 4999}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    vision = size | {"depth": 1, "num_heads": 2, "out_hidden_size": WIDTH, "fullatt_block_indexes": [0]}
    config = Qwen2_5_VLConfig(text_config=text | {"rope_parameters": rope}, vision_config=vision)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
    QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    ).save_pretrained(folder / "transformer")
    AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.02, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192
    ).save_pretrained(folder / "scheduler")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "QwenImagePipeline",
            "_diffusers_version": "0.34.0.dev0",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
            "transformer": ["diffusers", "QwenImageTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLQwenImage"],
        },
    )
    return folder


# --- parts -------------------------------------------------------------------------------------------------------


def _clip_text(activation: str = "quick_gelu") -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        hidden_act=activation,
        bos_token_id=0,
        eos_token_id=2,  # as in the hub's files: these are not the tokenizer's, and transformers knows it
        pad_token_id=1,
    )


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=128, d_model=width, d_ff=width, d_kv=8, num_heads=2, num_layers=1, feed_forward_proj="gated-gelu"
        )
    )


def _unet(**arguments) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(WIDTH, 2 * WIDTH),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=8,
        **arguments,
    )


def _vae(levels: int = 2, **arguments) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        sample_size=SIDE,
        **arguments,
    )


def _save_transformer(model: PreTrainedModel, folder: Path, variant: str | None = None) -> None:
    """As `save_pretrained` does, with the names of tensors that the hub's older files have."""
    model.save_pretrained(folder, variant=variant)
    file = folder / ("model.safetensors" if variant is None else f"model.{variant}.safetensors")
    tensors = load_file(file)
    if isinstance(model, CLIPTextModel | CLIPTextModelWithProjection):
        prefix = "" if any(name.startswith("text_model.") for name in tensors) else "text_model."
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, file, metadata={"format": "pt"})


def _clip_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> None:
    """CLIP's tokenizer as vocab.json and merges.txt."""
    model = json.loads(clip_tokenizer().backend_tokenizer.to_str())["model"]
    _write(folder / "vocab.json", model["vocab"])
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    _write(folder / "special_tokens_map.json", special | {"pad_token": pad})
    _write(
        folder / "tokenizer_config.json",
        special
        | {
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": 77,
            "pad_token": pad,
            "tokenizer_class": "CLIPTokenizer",
        },
    )


def _t5_tokenizer(folder: Path) -> None:
    """A unigram tokenizer of characters."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz,."]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in letters)]
    T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=512).save_pretrained(folder)


def _write(path: Path, content: Mapping) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), "utf-8")
