"""A block for diffusers' modular pipelines: `prompt` is enhanced before any other block reads it.

blocks = ModularPipeline.from_pretrained(name := "stabilityai/stable-diffusion-xl-base-1.0").blocks
blocks.sub_blocks.insert("enhance", EnhancePrompt(), 0)
(pipeline := blocks.init_pipeline(name)).load_components()
pipeline(prompt="boy on a horse", constraints=Constraints(style="baroque"), prompt_seed=7, output="images")
"""

from functools import cache

from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam

from neuroprompt import PromptEnhancer
from neuroprompt.families import find_family


@cache  # not kept in the block, of which diffusers makes copies
def _load(model, device, family, instruction):
    policy = PromptEnhancer.from_pretrained(model, device=device)
    return policy.asked(instruction, find_family(family) if family else None)


class EnhancePrompt(ModularPipelineBlocks):
    description = "Makes of the prompt what expert users would; the plain one stays as `original_prompt`."

    def __init__(self, model="embedded", device=None, family=None, instruction=None):
        super().__init__()
        self.policy = model, device, family, instruction
        _load(*self.policy)

    inputs = (
        InputParam("prompt", required=True, description="A text, or several."),
        InputParam("constraints", description="`neuroprompt.Constraints`: one for all prompts, or one for each."),
        InputParam("keep", default=(), description="Phrases that a model that retells leaves to the letter."),
        InputParam("prompt_seed", default=0, description="Of the rewrites."),
        InputParam("gate", description="`neuroprompt.gate.Gate`: where its pictures gain nothing, the prompt stays."),
    )
    intermediate_outputs = (OutputParam("prompt"), OutputParam("original_prompt"))

    def __call__(self, components, state):
        block = self.get_block_state(state)
        block.original_prompt = block.prompt
        settings = {"seed": block.prompt_seed, "keep": block.keep}
        plain = [block.prompt] if isinstance(block.prompt, str) else block.prompt
        made = [one.text for one in _load(*self.policy)(plain, block.constraints, **settings)]
        if block.gate:
            made = [verdict.text for verdict in block.gate(plain, made)]
        block.prompt = made[0] if isinstance(block.prompt, str) else made
        self.set_block_state(state, block)
        return components, state
