"""`PromptEncoder`: what an image generator reads of a text, as one vector, without the generator.

    encoder = PromptEncoder.from_pretrained("embedded")
    encoder.encode(["boy on a horse", "boy on a horse, sunset"])

Of a pipeline it takes the CLIP text encoders alone (one in Stable Diffusion 1 and 2 and in Flux, two in SDXL and SD3):
they are small, and causal. A token's state depends on what stands before it and on nothing behind, so one pass over a
text has read all its beginnings, too, and a text's vector is made so that its beginnings' are by-products: the mean
of its tokens' states, beside the last token's. Begin, end and padding tokens are left out: the first is the same
whatever the text, and the others stand behind it.
"""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from torch import Tensor
from transformers.utils import cached_file

from neuroprompt.models import ModelError, check_tokenizer, check_weights, locate, pick_device, reporting

if TYPE_CHECKING:
    import diffusers  # which takes seconds to import, and is not needed for this part of a pipeline

Part = tuple[transformers.PreTrainedTokenizerBase, transformers.PreTrainedModel]
"""A tokenizer, and the encoder that reads its tokens."""


class PromptEncoder:
    """Reads texts with the CLIP text encoders of a generator.

    Args:
        parts: Tokenizers and encoders, on their device.
        name: What the generator is called.

    Attributes:
        width: How long a vector is.
        device: Where vectors are.

    Raises:
        ModelError: An encoder is none of CLIP's, which alone are known to be causal, or there is none.
    """

    def __init__(self, parts: Sequence[Part], name: str = "unnamed"):
        self.parts, self.name = list(parts), name
        other = next((type(model).__name__ for _, model in parts if not isinstance(model, _CAUSAL)), None)
        if other or not parts:
            raise ModelError(f"{name} reads prompts with {other or 'no CLIP encoder'}: only CLIP's are read here")
        self.device = parts[0][1].device
        self.width = sum(2 * model.config.hidden_size for _, model in parts)

    @classmethod
    def of(cls, pipeline: "diffusers.DiffusionPipeline", name: str = "unnamed") -> "PromptEncoder | None":
        """Over the encoders of a pipeline that is loaded; None where it has none of CLIP's."""
        parts = [
            (getattr(pipeline, tokenizer, None), getattr(pipeline, encoder, None))
            for tokenizer, encoder in _PARTS.items()
        ]
        known = [(tokenizer, model) for tokenizer, model in parts if tokenizer and isinstance(model, _CAUSAL)]
        return cls(known, name) if known else None

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "embedded", device: str | torch.device | None = None
    ) -> "PromptEncoder":
        """Load the encoders of a generator, and nothing else of it.

        Args:
            name: ``embedded``, a folder that a diffusers pipeline was saved to, or a hub id.
            device: Such as ``cuda``; by default the accelerator if there is one.

        Raises:
            ModelError: They cannot be loaded, or the generator has no CLIP encoder.
        """
        source, where = locate(name, "stable-diffusion"), pick_device(device)
        with reporting(f"the text encoders of {name}"):
            index = json.loads(Path(cached_file(source, "model_index.json")).read_bytes())
            parts = [
                _load(str(name), source, tokenizer, encoder, where, index[encoder][1])
                for tokenizer, encoder in _PARTS.items()
                if _is_clip(index, encoder)
            ]
            return cls(parts, str(name))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The vector of each text: (n, width), float32, on the encoders' device; zeros for one without a token."""
        distinct = list(dict.fromkeys(texts))
        vectors = self.encode_prefixes(distinct, [[len(text)] for text in distinct])
        row = {text: i for i, text in enumerate(distinct)}
        return vectors[[row[text] for text in texts]]

    @torch.no_grad()
    def encode_prefixes(self, texts: Sequence[str], ends: Sequence[Sequence[int]]) -> Tensor:
        """The vectors of texts' beginnings, each text read once.

        A beginning that ends with a word has the vector that `encode` gives it as a text of its own. One that ends
        within a word has that of the tokens that are whole by then.

        Args:
            texts: n texts.
            ends: Of each the places, in characters, where beginnings end.

        Returns:
            (sum of the numbers of ends, width), float32, text by text.
        """
        first = list(accumulate(map(len, ends), initial=0))  # where each text's vectors begin
        vectors = torch.zeros(first[-1], self.width, device=self.device)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length pad each other little
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            rows = torch.tensor([row for i in batch for row in range(first[i], first[i + 1])], dtype=torch.long)
            own = [texts[i] for i in batch], [ends[i] for i in batch]
            vectors[rows.to(vectors.device)] = torch.cat([_read(part, *own) for part in self.parts], 1)
        return vectors


BATCH = 128  # texts that are read at once
_CAUSAL = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
_PARTS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}


def _read(part: Part, texts: list[str], ends: list[Sequence[int]]) -> Tensor:
    """The vectors of the beginnings by one encoder: (sum of the numbers of ends, 2 · hidden size)."""
    tokenizer, model = part
    most = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    read = tokenizer(
        texts,
        padding=True,
        padding_side="right",
        truncation=True,
        max_length=most,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    ).to(model.device)
    states = model(read["input_ids"]).last_hidden_state.float()  # (texts, length, hidden size)
    stops = read["offset_mapping"][..., 1]
    real = (stops > 0) & ~read["special_tokens_mask"].bool()  # begin, end and padding are no letters
    sums = (states * real[..., None]).cumsum(1)
    row = torch.tensor([i for i, own in enumerate(ends) for _ in own], device=states.device, dtype=torch.long)
    end = torch.tensor([place for own in ends for place in own], device=states.device, dtype=torch.long)
    count = (real[row] & (stops[row] <= end[:, None])).sum(1)  # tokens of the beginning; the begin token is before them
    mean = sums[row, count] / count.clamp(min=1)[:, None]
    return torch.cat([mean, states[row, count]], 1) * (count > 0)[:, None]


def _is_clip(index: dict, encoder: str) -> bool:
    """Whether a pipeline's part is one of CLIP's text encoders, by its index."""
    made_of = index.get(encoder)
    return isinstance(made_of, list) and made_of[1] in [kind.__name__ for kind in _CAUSAL]


def _load(name: str, source: str, tokenizer: str, encoder: str, device: torch.device, kind: str) -> Part:
    model, loading = getattr(transformers, kind).from_pretrained(
        source, subfolder=encoder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    check_weights(f"the {encoder} of {name}", model, loading)
    reads = transformers.CLIPTokenizer.from_pretrained(source, subfolder=tokenizer)
    check_tokenizer(name, reads)
    return reads, model.to(device).eval()
