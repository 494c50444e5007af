"""A script for AUTOMATIC1111's web UI and Forge: a neuroprompt server rewrites prompts before they are drawn.

What is rewritten is what would be drawn: styles are in it, comments are not. All prompts of a batch are one request,
each with its picture's seed, and hires prompts are among them. The user's words stay as they are, with tags, weights,
schedules and BREAK, or are in the prose of a model that retells; what stands between two ANDs is a prompt of its own,
and keeps its weight at its end.

The infotext has the prompt that was drawn where it always has it, and the plain one beside it, which is what pasting
brings back, with the switch on. A server that is not there costs nobody a batch: the plain prompts are drawn, and the
console, the page and the infotext say so.
"""

import os
import re
import sys

import gradio as gr
from modules import script_callbacks, scripts, shared
from modules.processing_scripts.comments import strip_comments
from neuroprompt_client import DEFAULT_URL, FAMILIES, ServerError, enhance, read_asking, read_wish

EXAMPLES = {
    "artist": "alphonse mucha|gustav klimt",
    "style": "art nouveau",
    "format": "oil painting",
    "perspective": "wide angle",
    "booster": "highly detailed",
    "vibe": "cinematic",
    "require": "golden hour|sunset, fog",
    "forbid": "blurry",
}
ASKING = ("model", "family", "keep", "free", "instruction", "if_better")
BLANK = {"seed": "-1", "negative": "False", "free": "False", "if_better": "0"}  # of controls that hold no text


class Neuroprompt(scripts.Script):
    def title(self):
        return "neuroprompt"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        with gr.Accordion("neuroprompt", open=False):
            enabled = gr.Checkbox(False, label="Enhance prompts")
            seed = gr.Number(-1, label="Seed of the rewrites (-1: each picture's own)", precision=0)
            texts = {name: gr.Textbox("", label=name.capitalize(), placeholder=EXAMPLES[name]) for name in EXAMPLES}
            negative = gr.Checkbox(False, label="Forbidden phrases go into the negative prompt, too")
            model = gr.Textbox("", label="Model", placeholder="the server's first")
            family = gr.Dropdown(choices=["", *FAMILIES], value="", label="For generators such as")
            keep = gr.Textbox("", label="Kept to the letter by a model that retells", placeholder="ohwx woman")
            free = gr.Checkbox(False, label="A model that retells may leave words out")
            instruction = gr.Textbox("", label="Instruction", placeholder="Rewrite the prompt as one paragraph.")
            better = "Only if better, by so many pictures of each that the server draws (0: as it is)"
            if_better = gr.Number(0, label=better, precision=0)
        asking = dict(zip(ASKING, (model, family, keep, free, instruction, if_better), strict=True))
        controls = {"": enabled, "seed": seed, **texts, "negative": negative, **asking}
        self.infotext_fields = [(control, _key(name)) for name, control in controls.items()]
        self.paste_field_names = [key for _, key in self.infotext_fields]
        return list(controls.values())

    def process(self, p, enabled, seed, *typed):
        """The arguments are the controls' values, as in the API's ``alwayson_scripts``."""
        if not enabled:
            return
        texts, (negative, *asked) = typed[: len(EXAMPLES)], typed[len(EXAMPLES) :]
        wish, asking = dict(zip(EXAMPLES, texts, strict=True)), dict(zip(ASKING, asked, strict=True))
        seed = -1 if seed is None else int(seed)
        clean = strip_comments if getattr(shared.opts, "enable_prompt_comments", True) else str
        plain = [clean(prompt) for prompt in p.all_prompts]
        hires = [clean(prompt) for prompt in p.all_hr_prompts] if getattr(p, "enable_hr", False) else []
        seeds = [*p.all_seeds] if seed < 0 else [seed] * len(plain)
        fault = None
        try:
            fields = read_wish(**wish) | read_asking(**asking)
            drawn, warnings = rewritten(plain + hires, seeds + seeds[: len(hires)], fields)
        except ServerError as error:
            fault = f"{error}. The plain prompt was drawn."
            drawn, warnings = plain + hires, [fault]
        for warning in warnings:
            p.comment(f"neuroprompt: {warning}")
            print(f"neuroprompt: {warning}", file=sys.stderr)

        p.all_prompts = drawn[: len(plain)]
        p.main_prompt = p.all_prompts[0]
        if hires:
            p.all_hr_prompts = drawn[len(plain) :]
        if negative:
            for name in ("all_negative_prompts", "all_hr_negative_prompts")[: 2 if hires else 1]:
                setattr(p, name, [_joined(text, wish["forbid"]) for text in getattr(p, name)])
            p.main_negative_prompt = p.all_negative_prompts[0]

        # Whose infotext is written its prompt says: the host counts pictures now within the batch, now within the job.
        of_drawn = dict(zip(p.all_prompts, plain, strict=True))
        of_hires = {text: own for text, own in zip(p.all_prompts, hires or plain, strict=True) if own != of_drawn[text]}
        settings = {"": True, "seed": str(seed), **wish, "negative": negative, **asking, "warning": fault}
        p.extra_generation_params |= {_key(name): str(value) if value else None for name, value in settings.items()}
        p.extra_generation_params[PLAIN] = lambda prompt_text, **_: of_drawn.get(prompt_text, plain[0]) or None
        p.extra_generation_params[PLAIN_HIRES] = lambda prompt_text, **_: of_hires.get(prompt_text)


def rewritten(prompts, seeds, wish):
    """The prompts as the server writes them, and what it warns of.

    Raises:
        ServerError: It is not there, or refuses.
    """
    cut = [_SEAM.split(prompt) for prompt in prompts]  # texts, with what joins them in between
    seeded = [*zip(cut, seeds, strict=True)]
    asked = dict.fromkeys(
        (text, seed) for parts, seed in seeded for text in parts[::2] if any(char.isalnum() for char in text)
    )
    url, key = getattr(shared.opts, "neuroprompt_url", "") or _default_url(), os.environ.get("NEUROPROMPT_API_KEY", "")
    made = enhance([text for text, _ in asked], url, key, [seed for _, seed in asked], **wish)
    found = {one: result for one, (result,) in zip(asked, made, strict=True)}
    texts = {one: result["text"] for one, result in found.items()}
    warnings = dict.fromkeys(result["warning"] for result in found.values() if result["warning"])
    return ["".join(texts.get((part, seed), part) for part in parts) for parts, seed in seeded], [*warnings]


def restore(_infotext, params):
    """Where parameters are pasted: the plain prompts come back, without their styles, and the controls as they were."""
    params[_key("")] = str(PLAIN in params)
    if PLAIN not in params:
        return
    for name in ("seed", *EXAMPLES, "negative", *ASKING):
        params.setdefault(_key(name), BLANK.get(name, ""))
    prompt, negative = params.pop(PLAIN), params.get("Negative prompt", "")
    hires, hires_negative = params.pop(PLAIN_HIRES, ""), params.get("Hires negative prompt", "")
    if params[_key("negative")] == "True":
        negative, hires_negative = (_parted(text, params[_key("forbid")]) for text in (negative, hires_negative))
    how = shared.opts.infotext_styles
    if how != "Ignore":  # the host looked for styles at the end of the prompt, where it found what was added
        extract = shared.prompt_styles.extract_styles_from_prompt
        _, *bare = extract(hires or prompt, hires_negative or negative)  # blank is as in the first pass
        hires, hires_negative = bare[0] if hires else "", bare[1] if hires_negative else ""
        found, prompt, negative = extract(prompt, negative)
        if found and how.startswith("Apply"):
            params["Styles array"] = params.get("Styles array", []) + found
    params |= {"Prompt": prompt, "Negative prompt": negative}
    params |= {"Hires prompt": hires, "Hires negative prompt": hires_negative}


def add_settings():
    where = shared.OptionInfo(
        _default_url(), "Address of the neuroprompt server", section=("neuroprompt", "neuroprompt"), restrict_api=True
    )
    shared.opts.add_option("neuroprompt_url", where)


script_callbacks.on_infotext_pasted(restore)
script_callbacks.on_ui_settings(add_settings)


# --- details -----------------------------------------------------------------------------------------------------

# AND, with the weight of the prompt before it, or that weight at the end of all; as the host's prompt parser reads them
_SEAM = re.compile(r"((?<!\s)\s*(?::\s*[-+]?(?:\d+\.?|\d*\.\d+)\s*)?(?:\bAND\b|\Z))")


def _key(name):
    """What a setting is called in the infotext."""
    return f"neuroprompt {name}".strip()


PLAIN, PLAIN_HIRES = _key("plain"), _key("plain hires")


def _default_url():
    return os.environ.get("NEUROPROMPT_URL") or DEFAULT_URL


def _joined(negative, forbidden):
    return ", ".join(filter(None, [negative, *read_wish(forbid=forbidden)["forbid"]]))


def _parted(negative, forbidden):
    """What `_joined` was given."""
    added = _joined("", forbidden)
    return "" if negative == added else negative.removesuffix(f", {added}")
