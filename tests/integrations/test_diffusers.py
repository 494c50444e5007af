"""The block of diffusers' modular pipelines, before one that draws with the embedded generator's parts."""

import pytest
import torch
from diffusers import ModularPipelineBlocks, StableDiffusionPipeline
from diffusers.modular_pipelines import ComponentSpec, InputParam, OutputParam, SequentialPipelineBlocks

from neuroprompt import Constraints
from neuroprompt.models import locate
from tests.integrations.hosts import INTEGRATIONS, load

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
FILE = INTEGRATIONS / "diffusers" / "enhance_prompt.py"


class Draw(ModularPipelineBlocks):
    inputs = (InputParam("prompt", required=True), InputParam("seed", default=0))
    intermediate_outputs = (OutputParam("images"),)
    expected_components = tuple(ComponentSpec(name) for name in PARTS)

    def __call__(self, components, state):
        block = self.get_block_state(state)
        parts = {name: getattr(components, name) for name in PARTS}
        block.images = drawn(StableDiffusionPipeline(**parts, **NONE), block.prompt, block.seed)
        self.set_block_state(state, block)
        return components, state


NONE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def drawn(pipeline, prompts, seed):
    pipeline.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(seed) for _ in ([prompts] if isinstance(prompts, str) else prompts)]
    return pipeline(prompts, num_inference_steps=2, height=64, width=64, generator=seeds, output_type="pt").images


@pytest.mark.parametrize(
    "prompt, wish", [("boy on a horse", Constraints(style="baroque")), (["boy on a horse", "a castle"], None)]
)
def test_what_is_drawn_is_the_enhanced_prompt(enhancer, prompt, wish):
    block = load(FILE, "diffusers_block_under_test").EnhancePrompt(device="cpu")
    blocks = SequentialPipelineBlocks.from_blocks_dict({"draw": Draw()})
    blocks.sub_blocks.insert("enhance", block, 0)
    pipeline, plain = (
        blocks.init_pipeline(),
        StableDiffusionPipeline.from_pretrained(locate("embedded", "stable-diffusion")),
    )
    pipeline.update_components(**{name: plain.components[name] for name in PARTS})

    state = pipeline(prompt=prompt, constraints=wish, prompt_seed=7, seed=3)
    made = enhancer(prompt, wish, seed=7)
    texts = made.text if isinstance(prompt, str) else [one.text for one in made]
    assert (state.get("prompt"), state.get("original_prompt")) == (texts, prompt)
    torch.testing.assert_close(state.get("images"), drawn(plain, texts, 3))


def test_the_block_is_short():
    assert len(FILE.read_text().splitlines()) <= 40
