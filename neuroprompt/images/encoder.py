"""`PromptEncoder`: what an image generator reads of a text, as one vector, without the generator.

    encoder = PromptEncoder.from_pretrained("embedded")
    encoder.encode(["boy on a horse", "boy on a horse, sunset"])

Of a pipeline it takes the CLIP text encoders alone (one in Stable Diffusion 1 and 2 and in Flux, two in SDXL and SD3):
they are small, and causal. A text's vector is the state of its end token, which has read all of it, and of which CLIP's
own embedding of a text is a projection. A beginning's is that of an end token behind it: since a token sees what stands
before it and nothing behind, one pass over a text has end tokens behind many of its beginnings, each of which sees its
own and no other end token.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
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
        self.width = sum(model.config.hidden_size for _, model in parts)

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
        """The vector of each text: (n, width), float32, on the encoders' device."""
        distinct = list(dict.fromkeys(texts))
        vectors = self.encode_prefixes(distinct, [[len(text)] for text in distinct])
        row = {text: i for i, text in enumerate(distinct)}
        return vectors[[row[text] for text in texts]]

    @torch.no_grad()
    def encode_prefixes(self, texts: Sequence[str], ends: Sequence[Sequence[int]]) -> Tensor:
        """The vectors of texts' beginnings, as many of a text at once as its window holds end tokens for.

        A beginning that ends with a word has the vector that `encode` gives it as a text of its own. One that ends
        within a word has that of the tokens that are whole by then.

        Args:
            texts: n texts.
            ends: Of each the places, in characters, where beginnings end.

        Returns:
            (sum of the numbers of ends, width), float32, text by text.
        """
        return torch.cat([_read(part, texts, ends) for part in self.parts], 1)


BATCH = 128  # sequences that are read at once
_CAUSAL = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
_PARTS = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}


class _Sequence(NamedTuple):
    """A text's tokens, of which some are read, and end tokens behind them.

    Attributes:
        ids: The text's, begin token first.
        counts: How many tokens each end token sees beside the begin token, ascending.
        first: The place of the first end token's vector.
    """

    ids: list[int]
    counts: list[int]
    first: int

    @property
    def length(self) -> int:
        return 1 + self.counts[-1] + len(self.counts)


def _read(part: Part, texts: Sequence[str], ends: Sequence[Sequence[int]]) -> Tensor:
    """The vectors of the beginnings by one encoder: (sum of the numbers of ends, hidden size)."""
    tokenizer, model = part
    if not any(map(len, ends)):
        return torch.zeros(0, model.config.hidden_size, device=model.device)
    most = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    tokens = tokenizer(list(texts), truncation=True, max_length=most, return_offsets_mapping=True)
    sequences: list[_Sequence] = []
    places: list[int] = []  # of each beginning's vector, which several share that end within one token
    known = 0
    for ids, offsets, own in zip(tokens["input_ids"], tokens["offset_mapping"], ends, strict=True):
        stops = [stop for _, stop in offsets[1:-1]]  # without the begin and the end token
        counts = [bisect_right(stops, end) for end in own]
        number: dict[int, int] = {}
        for count in sorted(set(counts)):
            if not number or 1 + count + len(sequences[-1].counts) + 1 > most:
                sequences.append(_Sequence(ids, [], known))
            sequences[-1].counts.append(count)
            number[count], known = known, known + 1
        places += [number[count] for count in counts]
    vectors = torch.zeros(known, model.config.hidden_size, device=model.device)
    sequences.sort(key=lambda sequence: sequence.length)  # those of like length pad each other little
    for start in range(0, len(sequences), BATCH):
        batch = sequences[start : start + BATCH]
        into = [sequence.first + i for sequence in batch for i in range(len(sequence.counts))]
        vectors[into] = _end_states(model, tokenizer.eos_token_id, batch).to(vectors.device)
    return vectors[places]


def _end_states(model: transformers.PreTrainedModel, end_token: int, batch: list[_Sequence]) -> Tensor:
    """The states of the end tokens, sequence by sequence: (end tokens, hidden size), float32."""
    shape = len(batch), max(sequence.length for sequence in batch)
    ids, ends = np.full(shape, end_token), np.zeros(shape, bool)
    position, sees = np.zeros(shape, np.int64), np.zeros(shape, np.int64)  # sees: itself, and all up to that place
    for i, (own, counts, _) in enumerate(batch):
        text = 1 + counts[-1]
        ends[i, text : text + len(counts)] = True
        ids[i, :text] = own[:text]
        position[i, :text] = sees[i, :text] = np.arange(text)
        sees[i, ends[i]] = counts
        position[i, ends[i]] = np.array(counts) + 1
    given = [torch.from_numpy(x).to(model.device) for x in (ids, position, sees)]
    place = torch.arange(shape[1], device=model.device)
    seen = (place <= given[2][..., None]) | (place == place[:, None])  # (sequences, length, length)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
    mask = mask.masked_fill(~seen, torch.finfo(model.dtype).min)[:, None]
    states = model(given[0], attention_mask=mask, position_ids=given[1]).last_hidden_state.float()
    return states[torch.from_numpy(ends).to(states.device)]


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
