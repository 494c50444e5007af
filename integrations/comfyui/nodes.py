"""The node *Enhance Prompt*: a plain prompt in, an expert one and its negative out, as a neuroprompt server writes.

The server answers the same to the same inputs, so ComfyUI's own cache is right: only what has changed is asked again.
That is also why a server that is not there is an error here, and no plain prompt, which would stay in the cache.
"""

import os

from comfy_api.latest import ComfyExtension, io

from .neuroprompt_client import DEFAULT_URL, FAMILIES, enhance, read_asking, read_wish

EXAMPLES = {
    "artist": "alphonse mucha|gustav klimt",
    "style": "art nouveau",
    "format": "oil painting",
    "perspective": "wide angle",
    "booster": "highly detailed",
    "vibe": "cinematic",
}
MOST_VARIANTS = 16  # of a server, by default
MOST_PICTURES = 16  # that a verdict takes
SEEDS = 2**53 - 1  # whole numbers beyond, ComfyUI's page cannot spell


class EnhancePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        server = io.String.Input(
            "server",
            default="",
            optional=True,
            placeholder=DEFAULT_URL,
            tooltip="Address of the neuroprompt server; blank is NEUROPROMPT_URL of ComfyUI's environment, or this "
            "machine's. A key (NEUROPROMPT_API_KEY) is sent to that one alone, and to none that a workflow names.",
        )
        server.extra_dict["advanced"] = True  # no argument of ComfyUI 0.3's
        return io.Schema(
            node_id="NeuropromptEnhancePrompt",
            display_name="Enhance Prompt",
            category="neuroprompt",
            description="Adds to a plain prompt what expert users would, or, by a model that retells, tells it again. "
            "Your words stay, tags and weights included.",
            inputs=[
                io.String.Input("prompt", multiline=True, dynamic_prompts=True, placeholder="boy on a horse"),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=SEEDS,
                    control_after_generate=True,
                    tooltip="The same prompt, seed and wishes give the same result.",
                ),
                *(
                    io.String.Input(
                        category,
                        default="",
                        optional=True,
                        placeholder=f"{category}: {example}",
                        tooltip=f'A phrase that the result must have, such as "{example}" (a | is either), or "auto" '
                        "for any that fits.",
                    )
                    for category, example in EXAMPLES.items()
                ),
                io.String.Input(
                    "require",
                    default="",
                    optional=True,
                    placeholder="require: golden hour|sunset, fog",
                    tooltip="Other phrases that the result must have, between commas; a | is either.",
                ),
                io.String.Input(
                    "forbid",
                    default="",
                    optional=True,
                    placeholder="forbid: blurry",
                    tooltip="Phrases that the result must not have, between commas.",
                ),
                io.Int.Input(
                    "variants",
                    default=1,
                    min=1,
                    max=MOST_VARIANTS,
                    optional=True,
                    tooltip="More than one come as lists, and what follows runs for each.",
                ),
                server,
                io.String.Input(
                    "model",
                    default="",
                    optional=True,
                    placeholder="model: the server's first",
                    tooltip="One of the models that the server was started with.",
                ),
                io.Combo.Input(
                    "family",
                    options=["any", *FAMILIES],
                    default="any",
                    optional=True,
                    tooltip="The generators that the prompt is for: how much of it they read, and tags or prose.",
                ),
                io.String.Input(
                    "keep",
                    default="",
                    optional=True,
                    placeholder="keep: ohwx woman",
                    tooltip="Phrases of the prompt that a model that retells leaves to the letter, between commas.",
                ),
                io.Boolean.Input(
                    "free",
                    default=False,
                    optional=True,
                    tooltip="A model that retells may leave out words of the prompt, and otherwise keeps them all.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    optional=True,
                    placeholder="negative: people, text",
                    tooltip="What the picture must not show; it comes out again as negative, with what is forbidden.",
                ),
                io.String.Input(
                    "instruction",
                    default="",
                    optional=True,
                    multiline=True,
                    placeholder="instruction: Rewrite the prompt as one paragraph.",
                    tooltip="What a chat model is told; or, with {prompt} in it, what any model reads.",
                ),
                io.Int.Input(
                    "if_better",
                    default=0,
                    min=0,
                    max=MOST_PICTURES,
                    optional=True,
                    tooltip="Your words come back, and the warning says why, unless the rewrite's pictures are better: "
                    "at most so many of each (4, 6, 8) are drawn and judged by the server, whose generator must be "
                    "another than this ComfyUI, which waits for it. 0 asks no pictures.",
                ),
            ],
            outputs=[
                io.String.Output("enhanced", display_name="prompt", is_output_list=True),
                io.String.Output("added", display_name="added", is_output_list=True),
                io.String.Output(
                    "warning",
                    display_name="warning",
                    is_output_list=True,
                    tooltip="Why nothing was added, or your words came back.",
                ),
                io.String.Output(
                    "unwanted",
                    display_name="negative",
                    is_output_list=True,
                    tooltip="The negative prompt: yours, and what is forbidden.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        seed: int,
        variants: int = 1,
        server: str = "",
        require: str = "",
        forbid: str = "",
        model: str = "",
        family: str = "any",
        keep: str = "",
        free: bool = False,
        negative: str = "",
        instruction: str = "",
        if_better: int = 0,
        **kinds: str,
    ) -> io.NodeOutput:
        own = os.environ.get("NEUROPROMPT_URL") or DEFAULT_URL
        key = "" if server else os.environ.get("NEUROPROMPT_API_KEY", "")
        asking = read_asking(model, family, keep, free, negative, instruction, if_better)
        wish = read_wish(require, forbid, **kinds) | asking
        seed %= 2**63  # a seed that another node gives may be longer than the server's
        (made,) = enhance([prompt], server or own, key, [seed], num_return_sequences=variants, **wish)
        added = [", ".join(modifier["text"] for modifier in one["modifiers"]) for one in made]
        texts = [one["text"] for one in made]
        warnings, negatives = ([one.get(name) or "" for one in made] for name in ("warning", "negative"))
        return io.NodeOutput(texts, added, warnings, negatives)


class Neuroprompt(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [EnhancePrompt]
