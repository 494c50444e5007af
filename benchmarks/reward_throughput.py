"""Pictures drawn and scored a second: our path beside the loop of NeuroPrompts and Promptist, in one run.

    python benchmarks/reward_throughput.py
    python benchmarks/reward_throughput.py --full-size --prompts 72 --batch-size 24 --steps 20 --steps 4  # a GPU

Both sides do what a step of reinforcement learning needs: draw each rewritten prompt and its original with the same
seeds, and score the pictures against the original. The loop takes one prompt at a time through the pipeline, turns the
picture into PIL, and lets the reward's own processor and model score it by itself. Ours is `PromptReward`: batches over
prompts, tensors on the device, every distinct text encoded once. "originals known" is the same when the originals were
scored before, as in every epoch but the first.

With --full-size the models are Stable Diffusion 1.5's and PickScore's (CLIP ViT-H/14) with random weights, which cost
what the real ones do. On a GPU the share of its speed in large bf16 products is shown.
"""

import time
from dataclasses import replace
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPImageProcessor, CLIPModel

from neuroprompt.images import GeneratorConfig, ImageGenerator, PipelineGenerator
from neuroprompt.prompts import clip_tokenizer
from neuroprompt.rewards import Component, RewardSet, load_reward
from neuroprompt.rewards.encoders import TransformersEncoder
from neuroprompt.rewards.pickscore import PickScore
from neuroprompt.rewards.preprocessing import Preprocessing
from neuroprompt.scoring import PromptReward

SUBJECTS = ["a fox", "a castle", "boy on a horse", "a red apple", "an owl", "a sailboat", "a dragon", "a wizard"]
PLACES = ["", " at night", " in the forest", " with a hat", " by the sea", " in space", " on a hill", " at sunset"]
SUFFIX = ", oil painting, highly detailed, sharp focus, trending on artstation, intricate, number {}"


def main(
    prompts: Annotated[int, typer.Option(help="Rewritten prompts on our side.")] = 64,
    loop_prompts: Annotated[int, typer.Option(help="Rewritten prompts in the loop.")] = 16,
    seeds: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Pictures that we draw at once.")] = 32,
    steps: Annotated[
        list[int] | None, typer.Option(help="Denoising steps; by default the model's own. Several are tried in turn.")
    ] = None,
    full_size: Annotated[bool, typer.Option(help="SD 1.5 and CLIP-H in bf16 with random weights.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves PyTorch's default.")] = 0,
    device: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Time both sides, one after the other."""
    if threads:
        torch.set_num_threads(threads)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = GeneratorConfig(batch_size=batch_size)
    generator, score = full_size_models(where, config) if full_size else embedded_models(where, config)
    for count in steps or [generator.config.steps]:
        settings = replace(generator.config, steps=count)
        compare(
            PipelineGenerator(generator.pipeline, settings, name=generator.name), score, prompts, loop_prompts, seeds
        )


def compare(generator: ImageGenerator, score: PickScore, prompts: int, loop_prompts: int, seeds: int) -> None:
    """Time the loop and our path with this generator, and print both."""
    where, batch_size = str(generator.device), generator.config.batch_size

    def rewrites(count: int) -> tuple[list[str], list[str]]:
        plain = [f"{SUBJECTS[i % 8]}{PLACES[i // 8 % 8]}" + f" {i // 64}" * (i >= 64) for i in range(count)]
        return plain, [p + SUFFIX.format(i) for i, p in enumerate(plain)]

    def ours() -> PromptReward:
        return PromptReward(generator, RewardSet([Component(score)]), images_per_prompt=seeds)

    plain, texts = rewrites(prompts)
    few, few_texts = rewrites(loop_prompts)
    half = max(1, batch_size // (2 * seeds))
    ours().score(plain[:half], texts[:half])  # warm up with a whole batch: a GPU's memory grows to it once
    loop(generator, score, few[:1], few_texts[:1], 1)
    loop_seconds = timed(where, lambda: loop(generator, score, few, few_texts, seeds))
    reward = ours()
    new = timed(where, lambda: reward.score(plain, texts))
    phases = {name: reward.last[f"seconds/{name}"] for name in ("draw", "score")}
    known = timed(where, lambda: reward.score(plain, [t + ", 8k" for t in texts]))

    loop_rate = loop_prompts / loop_seconds
    table = Table("", "rewrites/s", "pictures/s", "ratio", title=f"{generator.name}, {describe(where)}")
    table.add_row("one at a time, PIL", f"{loop_rate:.2f}", f"{2 * seeds * loop_rate:.2f}", "1")
    for name, seconds, pictures in (("ours", new, 2), ("ours, originals known", known, 1)):
        rate = prompts / seconds
        table.add_row(name, f"{rate:.2f}", f"{pictures * seeds * rate:.2f}", f"{rate / loop_rate:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"of our time: drawing {phases['draw'] / new:.0%}, scoring {phases['score'] / new:.0%}; "
        f"{generator.config.steps} steps, {generator.config.size[1]} pixels, batches of {batch_size}"
    )
    if where.startswith("cuda"):
        with FlopCounterMode(display=False) as counter:
            reward.score(plain[:1], [texts[0] + ", again"])
        flops = counter.get_total_flops() * prompts / known
        peak = large_products(where)
        console.print(f"{flops / 1e12:.1f} TFLOP/s, {flops / peak:.0%} of the {peak / 1e12:.0f} of large bf16 products")


def loop(generator: ImageGenerator, score: PickScore, plain: list[str], texts: list[str], seeds: int) -> list[float]:
    """One prompt at a time through the pipeline, PIL, and PickScore as its card shows it."""
    pipeline, encoder, device = generator.pipeline, score.encoder, generator.device
    config = generator.config
    size = encoder.preprocessing.crop
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(encoder.preprocessing.mean),
        image_std=list(encoder.preprocessing.std),
    )
    rewards = []
    for original, text in zip(plain, texts, strict=True):
        values = {}
        for prompt in (original, text):
            for seed in range(seeds):
                picture = pipeline(
                    prompt,
                    num_inference_steps=config.steps,
                    guidance_scale=config.guidance,
                    generator=torch.Generator("cpu").manual_seed(seed),
                ).images[0]
                with torch.no_grad():
                    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].to(device, encoder.dtype)
                    image = encoder.model.get_image_features(pixel_values=pixels).pooler_output
                    tokens = encoder.tokenizer(original, truncation=True, max_length=77, return_tensors="pt").to(device)
                    words = encoder.model.get_text_features(**tokens).pooler_output
                    cosine = torch.nn.functional.cosine_similarity(image, words)
                    values[prompt, seed] = (encoder.model.logit_scale.exp() * cosine).item()
        rewards.append(sum(values[text, s] - values[original, s] for s in range(seeds)) / seeds)
    return rewards


def embedded_models(device: str, config: GeneratorConfig) -> tuple[ImageGenerator, PickScore]:
    generator = ImageGenerator.from_pretrained("embedded", device=device, config=config)
    return generator, load_reward("pickscore", "embedded", device)


def full_size_models(device: str, config: GeneratorConfig) -> tuple[ImageGenerator, PickScore]:
    """Stable Diffusion 1.5 and CLIP ViT-H/14 in bf16, with random weights."""
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    # Not among the weights: a scheduler computes its steps in NumPy, from tensors on the CPU.
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    with torch.device(device):
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                sample_size=512,
            ),
            text_encoder=CLIPTextModel(text),
            tokenizer=clip_tokenizer(),
            unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.tokenizer.model_max_length = 77
        towers = CLIPConfig(
            text_config={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                         "num_attention_heads": 16, "projection_dim": 1024, "hidden_act": "gelu"},
            vision_config={"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "patch_size": 14,
                           "num_attention_heads": 16, "projection_dim": 1024, "hidden_act": "gelu"},
            projection_dim=1024,
        )  # fmt: skip
        clip = CLIPModel(towers)
    config = GeneratorConfig(config.steps or 20, 7.5, batch_size=config.batch_size)
    generator = PipelineGenerator(pipeline.to(device, torch.bfloat16), config, name="SD 1.5 with random weights")
    preprocessing = Preprocessing(224, 224, mean=(0.481, 0.458, 0.408), std=(0.269, 0.261, 0.276))
    encoder = TransformersEncoder(clip.to(torch.bfloat16), pipeline.tokenizer, preprocessing, "random")
    return generator, PickScore("pickscore", encoder)


def timed(device: str, work) -> float:
    finish = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    finish()  # what is still queued belongs to what was before
    began = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - began


def large_products(device: str, side: int = 8192, repeats: int = 10) -> float:
    """FLOP/s of square bf16 products: what the device reaches at best."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = a @ a  # all go to one place, so that no memory is asked for between them
    return 2 * side**3 * repeats / timed(device, lambda: [torch.mm(a, a, out=product) for _ in range(repeats)])


def describe(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    typer.run(main)
