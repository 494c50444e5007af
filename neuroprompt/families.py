"""Families of image generators: how much of a prompt each reads, in what dialect it wants it, and whether it takes a
negative prompt.

    family_of("black-forest-labs/FLUX.1-dev").dialect      # "prose"
    find_family("sdxl").window.holds(text)

The table is `FAMILIES`. Windows are those of diffusers' pipelines (``max_sequence_length`` by default), of few-step
models those of their cards. A generator that is loaded knows better (`ImageGenerator.window`, `takes_negative`): it has
the tokenizer itself, and settings of its own.
"""

import re
from dataclasses import dataclass
from typing import Literal

from neuroprompt.prompts import CLIP_WINDOW, Window


@dataclass(frozen=True)
class Family:
    """Generators that read a prompt alike.

    Attributes:
        name: What users call it.
        encoder: What reads the prompt: ``CLIP``, or what reads more than CLIP does.
        tokens: That it reads of a prompt, in its own tokens.
        dialect: What it was trained on, and wants: tags with commas, or sentences.
        guidance: The setting of `GeneratorConfig` that weighs classifier-free guidance; None where that was distilled
            away.
        negative: Whether it takes a negative prompt as it is drawn by default. Others with a `guidance` do once that is
            above 1.
        pipelines: diffusers' classes.
        known_as: A pattern of hub names, folders and checkpoints, on small letters.
    """

    name: str
    encoder: str
    tokens: int
    dialect: Literal["tags", "prose"]
    guidance: Literal["guidance", "true_cfg"] | None
    negative: bool
    pipelines: tuple[str, ...]
    known_as: str

    @property
    def window(self) -> Window:
        """What is read of a prompt: exactly where CLIP reads it, estimated otherwise."""
        return Window(self.tokens) if self.encoder == "CLIP" else Window.estimated(self.tokens)


_SD, _XL = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"), ("StableDiffusionXLPipeline",)
_ROWS = (
    # name, encoder, tokens, dialect, guidance, negative, pipelines, known as
    ("sd15", "CLIP", CLIP_WINDOW, "tags", "guidance", True, _SD,
     r"^embedded|stable-diffusion-v?1|\bsd[-_.]?v?1[-_.]?[45]|\bv1-5|dreamshaper[-_]?(v?\d\b|$)"),
    ("sd21", "CLIP", CLIP_WINDOW, "tags", "guidance", True, _SD[:1],
     r"stable-diffusion-v?2|\bsd[-_.]?v?2[-_.]?[01]"),
    ("sd-turbo", "CLIP", CLIP_WINDOW, "tags", None, False, _SD[:1], r"\bsd-turbo"),
    ("sdxl", "CLIP", CLIP_WINDOW, "tags", "guidance", True, _XL,
     r"stable-diffusion-xl|sd[-_]?xl|illustrious|pony-?diffusion|animagine|playground-v2"),
    ("sdxl-turbo", "CLIP", CLIP_WINDOW, "tags", None, False, _XL, r"sd[-_]?xl[-_]?(turbo|lightning)"),
    ("sd35", "T5", 256, "prose", "guidance", True, ("StableDiffusion3Pipeline",),
     r"stable-diffusion-?v?3|\bsd[-_.]?v?3"),
    ("sd35-turbo", "T5", 256, "prose", None, False, ("StableDiffusion3Pipeline",),
     r"(stable-diffusion-?|\bsd[-_.]?)v?3\S*turbo"),
    ("flux", "T5", 512, "prose", "true_cfg", False, ("FluxPipeline",), r"flux"),
    ("flux-schnell", "T5", 256, "prose", None, False, ("FluxPipeline",), r"flux\S*schnell"),
    ("flux2", "Mistral", 512, "prose", None, False, ("Flux2Pipeline", "Flux2KleinPipeline"), r"flux[-_.]?2"),
    ("qwen-image", "Qwen2.5-VL", 512, "prose", "true_cfg", True, ("QwenImagePipeline",), r"qwen[-_.]?image"),
    ("z-image", "Qwen3", 512, "prose", "guidance", True, ("ZImagePipeline",), r"z[-_]?image"),
    ("z-image-turbo", "Qwen3", 512, "prose", None, False, ("ZImagePipeline",), r"z[-_]?image[-_]?turbo"),
)  # fmt: skip
FAMILIES: dict[str, Family] = {row[0]: Family(*row) for row in _ROWS}
"""By name; of the families that share a pipeline, the first is what it is unless its name says more."""


def find_family(name: str) -> Family:
    """The family called `name`.

    Raises:
        ValueError: There is none.
    """
    try:
        return FAMILIES[name.strip().lower()]
    except KeyError:
        raise ValueError(f"there is no family of generators {name!r}: choose from {', '.join(FAMILIES)}") from None


def family_of(generator: object) -> Family | None:
    """The family of a generator that is loaded, by its pipeline, or of a name that says it; None where nothing does.

    Args:
        generator: An `ImageGenerator`, or the name of one: a hub id, a folder, a checkpoint.
    """
    name = generator if isinstance(generator, str) else str(getattr(generator, "name", ""))
    pipeline = type(getattr(generator, "pipeline", None)).__name__
    families = FAMILIES.values()
    if loaded := [family for family in families if pipeline in family.pipelines]:
        return _named(name, loaded) or loaded[0]
    return _named(name, list(families))


def _named(name: str, families: list[Family]) -> Family | None:
    """That of which the name's last part says most: "sdxl-turbo" is more than "sdxl"."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    found = {family.name: re.search(family.known_as, last) for family in families}
    said = {name: len(match[0]) for name, match in found.items() if match}
    return FAMILIES[max(said, key=said.__getitem__)] if said else None
