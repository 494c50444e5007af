"""The block of diffusers' modular pipelines, before Stable Diffusion XL's own blocks."""

import numpy as np
import torch
from diffusers import ModularPipeline

from neuroprompt import Constraints
from neuroprompt.gate import Verdict
from tests.checkpoints.diffusion import stable_diffusion_xl
from tests.integrations.hosts import INTEGRATIONS, load


def drawn(pipeline, **inputs):
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(1)
    return pipeline(num_inference_steps=1, height=64, width=64, generator=seed, output_type="np", **inputs)


def test_what_is_drawn_is_the_enhanced_prompt(enhancer, tmp_path):
    name = str(stable_diffusion_xl(tmp_path))
    plain = ModularPipeline.from_pretrained(name)
    plain.load_components()
    blocks = ModularPipeline.from_pretrained(name).blocks
    module = load(INTEGRATIONS / "diffusers" / "enhance_prompt.py", "diffusers_block_under_test")
    blocks.sub_blocks.insert("enhance", module.EnhancePrompt(device="cpu"), 0)
    pipeline = blocks.init_pipeline(name)
    pipeline.load_components()

    wish = Constraints(style="baroque")
    state = drawn(pipeline, prompt="boy on a horse", constraints=wish, prompt_seed=7)
    made = enhancer("boy on a horse", wish, seed=7)
    assert (state.get("prompt"), state.get("original_prompt")) == (made.text, "boy on a horse")
    np.testing.assert_array_equal(state.get("images"), drawn(plain, prompt=made.text).get("images"))

    def gate(originals, texts):
        return [Verdict(True, texts[0], "it gains"), Verdict(False, originals[1], "it gains nothing")]

    several = drawn(pipeline, prompt=["a castle", "boy on a horse"], gate=gate)
    assert several.get("prompt") == [enhancer("a castle").text, "boy on a horse"]
