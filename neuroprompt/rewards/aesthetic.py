"""LAION's aesthetic predictors: how much people like a picture, 1 to 10, whatever the prompt.

Version 2 (Schuhmann 2022, github.com/christophschuhmann/improved-aesthetic-predictor) is a stack of five linear layers
without activations between them, version 1 (github.com/LAION-AI/aesthetic-predictor) one linear layer. Both read the
unit image embedding of OpenAI's CLIP: ViT-L/14 (768 wide), or ViT-B/32 (512 wide) for the smaller head of version 1.

The heads are published as PyTorch pickles, which are read with `weights_only=True`: that builds tensors and plain
containers and refuses anything else, so the file can run no code. `convert_laion_head` makes safetensors of one, once.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from neuroprompt.files import write_file
from neuroprompt.models import ModelError, check_weights, locate, reporting

from .encoders import EmbeddingReward, Encoder, Encoders
from .loading import fingerprint, read_weights, weights_file

MODEL = "trl-lib/ddpo-aesthetic-predictor"  # LAION's version 2, the copy of it that trl's DDPO example loads
FILE = "aesthetic-model.pth"
ENCODERS = {768: "ViT-L-14:openai", 512: "ViT-B-32:openai"}


class Aesthetic(EmbeddingReward):
    """A head over the image embedding; the prompt plays no part.

    Args:
        encoder: The CLIP that the head was trained on.
        head: From embeddings (n, size) to ratings (n, 1), in float32.
    """

    def __init__(self, encoder: Encoder, head: nn.Module):
        super().__init__("aesthetic", encoder)
        self.head = head.eval().requires_grad_(False).to(encoder.device)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.head, super().fingerprint)

    @torch.no_grad()
    def score(self, prompts: Sequence[str], embeddings: Tensor) -> Tensor:
        return self.head(embeddings).squeeze(-1)


def load(model: str | Path | None, encoders: Encoders, image_encoder: str | None = None) -> Aesthetic:
    """Load an aesthetic predictor.

    Args:
        model: ``embedded``; one of LAION's .pth files, of either version; or a folder made by `convert_laion_head`.
            LAION's version 2 by default.
        image_encoder: The CLIP to read pictures with, under any name that `Encoders.load` knows; by default what the
            folder says, or OpenAI's ViT-L/14 or ViT-B/32, by the head's width.

    Raises:
        ModelError: The head is none, or is for embeddings of another width than the encoder's.
    """
    model = MODEL if model is None else model
    head, named = read_head(model)
    width = next(head.parameters()).shape[1]
    if image_encoder is None and named is None and width not in ENCODERS:
        raise ModelError(f"the head in {model} is {width} wide, as no CLIP of LAION's: say its image_encoder")
    encoder = encoders.load(image_encoder or named or ENCODERS[width])
    if encoder.size != width:
        raise ModelError(
            f"the head in {model} reads embeddings of {width} numbers, and {encoder.source} gives {encoder.size}"
        )
    return Aesthetic(encoder, head)


def read_head(model: str | Path) -> tuple[nn.Sequential, str | None]:
    """A head by the name that `load` takes, and the encoder that its folder says it is for.

    Raises:
        ModelError: It is no head.
    """
    with reporting(f"the aesthetic predictor {str(model)!r}"):
        if str(model) == MODEL or Path(model).expanduser().is_file():
            head, named = _head(read_weights(weights_file(model, FILE))), None
        else:
            folder = Path(locate(model, "aesthetic"))
            head, named = _head(read_weights(weights_file(folder, "model.safetensors"))), _named_encoder(folder)
        check_weights(f"the aesthetic predictor {str(model)!r}", head)
    return head, named


def convert_laion_head(source: str | Path, folder: str | Path) -> Path:
    """Convert one of LAION's .pth files into a folder of config.json and model.safetensors; returns the folder.

    Raises:
        ModelError: The file holds something else than a head, or could run code.
    """
    with reporting(f"the aesthetic predictor {str(source)!r}"):
        state = read_weights(Path(source))
        head = _head(state)
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    width = linears[0].in_features
    config = {
        "input_size": width,
        "hidden_sizes": [layer.out_features for layer in linears[:-1]],
        "image_encoder": ENCODERS.get(width),
        "normalize": True,
    }
    # The config comes last: a folder without it does not load.
    folder = Path(folder)
    write_file(folder / "model.safetensors", save({k: v.contiguous() for k, v in state.items()}))
    write_file(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    return folder


def _head(state: dict[str, Tensor]) -> nn.Sequential:
    """The linear layers of a state dict: ``layers.0.weight`` … of v2, or ``weight`` and ``bias`` of v1."""
    names = sorted((k.removesuffix("weight") for k in state if k.endswith("weight")), key=_position)
    known = {name + part for name in names for part in ("weight", "bias")}
    if not names or known != set(state):
        raise ModelError(f"this is no aesthetic head: it holds {', '.join(sorted(state)[:3])} …")
    layers = []
    for name in names:
        weight, bias = state[f"{name}weight"], state[f"{name}bias"]
        if weight.ndim != 2 or (layers and layers[-1].out_features != weight.shape[1]):
            raise ModelError(f"this is no aesthetic head: {name}weight has the shape {tuple(weight.shape)}")
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
    if layers[-1].out_features != 1:
        raise ModelError(f"this is no aesthetic head: it gives {layers[-1].out_features} numbers")
    return nn.Sequential(*layers)


def _position(name: str) -> int:
    number = re.search(r"\d+", name)
    return int(number.group()) if number else 0


def _named_encoder(folder: Path) -> str | None:
    """The encoder in a head's config.json: the folder beside it of that name, or a name for `Encoders.load`."""
    config = json.loads((folder / "config.json").read_text())
    if not config.get("normalize", False):
        raise ModelError(f"{folder} is a head for embeddings that are not normalised: this is not supported")
    name = config.get("image_encoder")
    beside = folder.parent / name if name else folder
    return str(beside) if name and beside.is_dir() else name
