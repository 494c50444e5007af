"""GPT-2 in NumPy, on the CPU: the network, and a `Writer` of it.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), as `transformers` has it: pre-norm blocks,
learnt positions, GELU by tanh, and the embedding as the head. Weights are float32, read from safetensors.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from safetensors import safe_open

from neuroprompt.decoding.arrays import NUMPY
from neuroprompt.decoding.constraints import Constraints
from neuroprompt.decoding.processors import Processor, Suppressed
from neuroprompt.decoding.search import search
from neuroprompt.language_models import Written
from neuroprompt.language_models.tokenizer import Tokenizer
from neuroprompt.models import ModelError, reporting

WANTED = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "add_cross_attention": (False, None),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "tie_word_embeddings": (True, None),
}
"""What a config must say for this to be its network; None where it need not say it."""


READ = frozenset(
    """_from_model_config bos_token_id eos_token_id pad_token_id do_sample temperature diversity usual suppress_tokens
    top_k top_p output_attentions output_hidden_states transformers_version use_cache""".split()
)
"""What a `generation_config.json` may say: it is heeded here, or says nothing of how prompts are rewritten."""


def unlike(folder: Path) -> str | None:
    """Why what is in the folder is not such a model, if so."""
    try:
        config, generation = (_read(folder, name) for name in ("config.json", "generation_config.json"))
    except ValueError as error:
        return f"its config cannot be read ({error})"
    if not config:
        return "it has no config.json"
    for name, wanted in WANTED.items():
        if config.get(name) not in wanted:
            return f"its {name} is {config.get(name)}"
    if other := sorted({name for name, value in generation.items() if value is not None} - READ):
        return f"its generation_config.json has {other[0]}"
    return None if (folder / "model.safetensors").is_file() else "it is no single model.safetensors"


def _read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text("utf-8")) if (folder / name).is_file() else {}


class Generation(SimpleNamespace):
    """How a policy is decoded, as its `generation_config.json` says; None, or what is usual, where it does not."""

    do_sample = False
    temperature = eos_token_id = suppress_tokens = None


class GPT2:
    """The network.

    Args:
        weight: Gives each, by its name in `transformers`; KeyError where there is none.
        config: Of `config.json`.
        generation: Of `generation_config.json`.
        name: The folder.

    Attributes:
        config, generation_config: The same, their values as attributes.

    Raises:
        ModelError: Weights are missing, of another shape, NaN or infinite.
    """

    def __init__(
        self,
        weight: Callable[[str], np.ndarray],
        config: Mapping[str, Any],
        generation: Mapping[str, Any] | None = None,
        name: str = "",
    ):
        self.config, self.name_or_path = SimpleNamespace(**config), name
        self.generation_config = Generation(**(generation or {}))
        width, self.heads, self.eps = config["n_embd"], config["n_head"], config.get("layer_norm_epsilon", 1e-5)
        inner = config.get("n_inner") or 4 * width

        def read(name: str, *shape: int) -> np.ndarray:
            try:
                found = weight(name)
            except KeyError:
                raise ModelError(f"{self.name_or_path} is not what its config says: its files lack {name}") from None
            if found.shape != shape:
                raise ModelError(
                    f"{self.name_or_path} is not what its config says: {name} is {found.shape}, not {shape}"
                )
            found = found.astype(np.float32, copy=False)
            if not np.isfinite(found.sum()):
                raise ModelError(f"{self.name_or_path} is broken: {name} holds numbers that are NaN or infinite")
            return found

        def linear(name: str, into: int, out: int) -> tuple[np.ndarray, np.ndarray]:
            return read(f"{name}.weight", into, out), read(f"{name}.bias", out)

        def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
            return read(f"{name}.weight", width), read(f"{name}.bias", width)

        self.tokens = read("wte.weight", config["vocab_size"], width)
        self.places = read("wpe.weight", config["n_positions"], width)
        self.blocks = [
            (
                norm(f"h.{i}.ln_1"),
                linear(f"h.{i}.attn.c_attn", width, 3 * width),
                linear(f"h.{i}.attn.c_proj", width, width),
                norm(f"h.{i}.ln_2"),
                linear(f"h.{i}.mlp.c_fc", width, inner),
                linear(f"h.{i}.mlp.c_proj", inner, width),
            )
            for i in range(config["n_layer"])
        ]
        self.last = norm("ln_f")

    @classmethod
    def load(cls, folder: Path) -> "GPT2":
        """Read a folder that holds one (see `unlike`).

        Raises:
            ModelError: The model is broken.
        """
        path = folder / "model.safetensors"
        with reporting(f"the policy {str(folder)!r}"):
            with safe_open(path, "np") as file:
                names = {name.removeprefix("transformer."): name for name in file.keys()}

            def weight(name: str) -> np.ndarray:
                with safe_open(path, "np") as file:  # anew: what was read of it stays in memory until it is closed
                    return file.get_tensor(names[name])

            return cls(weight, _read(folder, "config.json"), _read(folder, "generation_config.json"), str(folder))

    def writer(self, tokenizer: Tokenizer) -> "_Writer":
        """The `language_models.Writer` of it."""
        return _Writer(self, tokenizer)

    def __call__(self, ids: np.ndarray, places: np.ndarray, cache: "Cache", mask: np.ndarray) -> np.ndarray:
        """The last hidden states of new tokens, which are entered into the cache. (rows, new, width)

        Args:
            ids, places: The new tokens, and which of the text each is. (rows, new)
            mask: Added to the scores of attention: -inf where a new token must not look. (rows or 1, 1, new, all)
        """
        rows, new = ids.shape
        x = self.tokens[ids] + self.places[places]
        scale = np.float32((x.shape[-1] // self.heads) ** -0.5)
        for i, (norm_1, attend, project, norm_2, widen, narrow) in enumerate(self.blocks):
            made = _linear(self._norm(x, norm_1), attend).reshape(rows, new, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
            keys, values = cache.extend(i, made[1], made[2])  # (rows, heads, all, head)
            weights = (made[0] * scale) @ keys.swapaxes(-1, -2)
            weights += mask
            weights -= weights.max(-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(-1, keepdims=True)
            seen = (weights @ values).transpose(0, 2, 1, 3).reshape(rows, new, -1)
            x = x + _linear(seen, project)
            x = x + _linear(_gelu(_linear(self._norm(x, norm_2), widen)), narrow)
        cache.length += new
        return self._norm(x, self.last)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """Of the token that follows each. (…, width) to (…, vocab)"""
        return hidden @ self.tokens.T

    def _norm(self, x: np.ndarray, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        scale, shift = weights
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(self.eps))
        x *= scale
        x += shift
        return x


def _linear(x: np.ndarray, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    matrix, bias = weights
    y = x.reshape(-1, x.shape[-1]) @ matrix
    y += bias
    return y.reshape(*x.shape[:-1], -1)


def _gelu(x: np.ndarray) -> np.ndarray:
    """Hendrycks and Gimpel's approximation by tanh."""
    y = x * x
    y *= np.float32(0.044715)
    y += 1
    y *= x
    y *= np.float32(np.sqrt(2 / np.pi))
    np.tanh(y, out=y)
    y += 1
    y *= x
    y *= np.float32(0.5)
    return y


class Cache:
    """The keys and values of all blocks. (blocks, rows, heads, room, head) each, of which `length` are there."""

    def __init__(self, model: GPT2, rows: int, room: int):
        shape = (len(model.blocks), rows, model.heads, room, model.places.shape[1] // model.heads)
        self.keys, self.values, self.length = np.empty(shape, np.float32), np.empty(shape, np.float32), 0

    def extend(self, block: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Enter (rows, heads, new, head) and give all that there are of the block."""
        end = self.length + keys.shape[2]
        self.keys[block, :, :, self.length : end], self.values[block, :, :, self.length : end] = keys, values
        return self.keys[block, :, :, :end], self.values[block, :, :, :end]

    def repeat(self, beams: int) -> None:
        """Every row so often, one after the other."""
        if beams > 1:
            self.keys, self.values = self._repeated(self.keys, beams), self._repeated(self.values, beams)

    def _repeated(self, array: np.ndarray, beams: int) -> np.ndarray:
        blocks, rows, *others = array.shape
        made = np.empty((blocks, rows, beams, *others), np.float32)
        made[..., : self.length, :] = array[:, :, None, :, : self.length]
        return made.reshape(blocks, rows * beams, *others)

    def follow(self, parent: np.ndarray, start: int) -> None:
        """Rows that continue these; up to `start` they have the same behind them where none has left."""
        if len(parent) < self.keys.shape[1]:
            self.keys, self.values = self.keys[:, parent], self.values[:, parent]
        elif (parent != np.arange(len(parent))).any():
            for array in (self.keys, self.values):
                array[:, :, :, start : self.length] = array[:, parent, :, start : self.length]


class _Reader:
    """Prompts as `search.LanguageModel` wants them."""

    def __init__(self, model: GPT2, ids: np.ndarray, real: np.ndarray, room: int):
        self.model, self.ids, self.real = model, ids, real
        self.cache = Cache(model, len(ids), room)
        self.start = real.sum(1) - ids.shape[1]  # what the padding takes off a place

    def prefill(self, beams: int) -> np.ndarray:
        length = self.ids.shape[1]
        causal = np.tri(length, dtype=bool)[None, None] & self.real[:, None, None]
        causal |= np.eye(length, dtype=bool)  # padding looks at itself, and nobody at it
        places = (np.arange(length) + self.start[:, None]).clip(0)
        hidden = self.model(self.ids, places, self.cache, _mask(causal))[:, -1]
        self.cache.repeat(beams)
        self.start = self.start.repeat(beams)
        self.shut = _mask(self.real.repeat(beams, axis=0)[:, None, None])
        return self.model.logits(hidden).repeat(beams, axis=0)

    def step(self, sequences: np.ndarray, parent: np.ndarray) -> np.ndarray:
        at = sequences.shape[1] - 1
        self.cache.follow(parent, self.ids.shape[1])
        if len(parent) < len(self.start):
            self.start, self.shut = self.start[parent], self.shut[parent]
        mask = np.zeros((len(parent), 1, 1, at + 1), np.float32)
        mask[..., : self.ids.shape[1]] = self.shut
        hidden = self.model(sequences[:, -1:], (at + self.start)[:, None], self.cache, mask)
        return self.model.logits(hidden[:, 0])


def _mask(seen: np.ndarray) -> np.ndarray:
    return np.where(seen, np.float32(0), np.float32(-np.inf))


class _Writer:
    """A `language_models.Writer`."""

    def __init__(self, model: GPT2, tokenizer: Tokenizer):
        self.model, self.tokenizer, self.xp = model, tokenizer, NUMPY
        self.positions, self.vocab_size, self.entries = len(model.places), len(model.tokens), len(model.tokens)
        own = np.array(model.generation_config.eos_token_id or [], np.int64)
        self.ends = sorted({tokenizer.eos_token_id, *own.reshape(-1).tolist()})

    def write(
        self,
        tokens: Sequence[Sequence[int]],
        processors: Sequence[Processor],
        *,
        budgets: Sequence[int],
        beams: int,
        returned: int,
        length_penalty: float,
        constraints: Sequence[Constraints | None],
        counted: Sequence[Sequence[int]] | None,
    ) -> Written:
        length = max(map(len, tokens))
        ids = np.full((len(tokens), length), self.tokenizer.pad_token_id)
        real = np.zeros(ids.shape, bool)
        for own, shown, read in zip(ids, real, tokens, strict=True):
            own[length - len(read) :], shown[length - len(read) :] = read, True
        if never := self.model.generation_config.suppress_tokens:
            processors = [Suppressed(np.array(never)), *processors]
        found = search(
            _Reader(self.model, ids, real, length + max(budgets)),
            ids,
            budgets=np.array(budgets),
            eos=np.array(self.ends),
            pad=self.tokenizer.pad_token_id,
            beams=beams,
            returned=returned,
            constraints=constraints,
            counted=tokens if counted is None else counted,
            tokenizer=self.tokenizer,
            processors=processors,
            length_penalty=length_penalty,
        )
        return Written(found.sequences[:, length:].tolist(), found.closed.tolist())

    def score(self, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[float]:
        sequences = [[*h, *t][-self.positions :] for h, t in zip(heads, tails, strict=True)]
        length = max(map(len, sequences))
        ids = np.full((len(sequences), length), self.tokenizer.pad_token_id)
        scored = np.zeros(ids.shape, bool)
        for own, which, sequence, tail in zip(ids, scored, sequences, tails, strict=True):
            own[: len(sequence)] = sequence
            which[max(1, len(sequence) - len(tail)) : len(sequence)] = bool(tail)
        cache = Cache(self.model, len(ids), length)
        causal = _mask(np.tri(length, dtype=bool)[None, None])  # what pads comes last, and nobody looks at it
        hidden = self.model(ids, np.broadcast_to(np.arange(length), ids.shape), cache, causal)
        rows, at = np.nonzero(scored)
        logprobs = self.xp.log_softmax(self.model.logits(hidden[rows, at - 1]))[np.arange(len(rows)), ids[rows, at]]
        totals = np.bincount(rows, logprobs, minlength=len(ids))
        return (totals / scored.sum(1).clip(min=1)).tolist()
