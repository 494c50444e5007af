"""Other people's rewriters as methods: any causal language model, and a YAML file that says how it is asked.

    # promptist.yaml
    model: microsoft/Promptist
    tokenizer: openai-community/gpt2
    template: "{prompt} Rephrase:"
    num_beams: 8

A peer is asked as its authors ask it, and what it writes is taken as it is: nothing keeps the user's words, the window
or the constraints. What it writes for a prompt depends on the prompt, the seed and the file, up to the rounding of a
batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
import yaml
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from neuroprompt.coherence import controls
from neuroprompt.decoding.processors import GumbelNoise, noise_seed, sampling_warpers
from neuroprompt.models import ModelError, pick_device
from neuroprompt.policies import control_tokens, load_policy, load_tokenizer

_OUTPUTS = ("replace", "continue")


@dataclass(frozen=True)
class Peer:
    """How a language model is asked to rewrite a prompt: the keys of a YAML file.

    Attributes:
        model: A folder or a hub id of a causal language model; ``embedded`` is this project's policy.
        tokenizer: Where its tokenizer is, if not with the model.
        revision: Branch, tag or commit of the model on the hub.
        template: What it reads; ``{prompt}`` stands for the plain prompt.
        chat: Ask through the tokenizer's chat template, `template` being the user's message.
        instruction: The system's message; only with `chat`.
        output: What its text is: ``replace``, the new prompt; or ``continue``, what follows the plain prompt.
        safetensors_only: Refuse PyTorch's own files. Where those are read, it is with `weights_only`, whose unpickler
            knows tensors and plain containers and refuses everything that could run code.
        num_beams: Width of the beam search. Of all beams the best is taken that is not empty.
        length_penalty: Exponent of the length in a beam's score.
        do_sample: Sample (without beams) instead of searching.
        temperature, top_k, top_p: Of sampling; `top_k` 0 and `top_p` 1 take all tokens.
        max_new_tokens: At most so many.
        stop: Texts that end the new prompt; they and what follows are cut off.
        batch_size: Prompts at once.
        dtype: Of the weights; float32 on a CPU and the checkpoint's own elsewhere by default.
    """

    model: str
    tokenizer: str | None = None
    revision: str | None = None
    template: str = "{prompt}"
    chat: bool = False
    instruction: str | None = None
    output: str = "replace"
    safetensors_only: bool = True
    num_beams: int = 1
    length_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    max_new_tokens: int = 75
    stop: tuple[str, ...] = ()
    batch_size: int = 16
    dtype: str | None = None

    def __post_init__(self):
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        if self.template.count("{prompt}") != 1:
            raise ValueError(f"template is {self.template!r}: it must hold {{prompt}} once")
        if self.output not in _OUTPUTS:
            raise ValueError(f"output is {self.output!r}: it can be {' or '.join(_OUTPUTS)}")
        if self.instruction is not None and not self.chat:
            raise ValueError("instruction is for chat models: set chat to true, or write it into the template")
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"do_sample and num_beams {self.num_beams} exclude each other: choose one")
        for name, fine, wanted in (
            ("temperature", self.temperature > 0, "above 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "at least 0"),
            *((name, getattr(self, name) > 0, "at least 1") for name in ("num_beams", "max_new_tokens", "batch_size")),
        ):
            if not fine:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be {wanted}")

    @classmethod
    def read(cls, path: str | Path) -> "Peer":
        """Read a YAML file.

        Raises:
            ValueError: It cannot be read, or a key or a value is not one of those above.
        """
        try:
            values = yaml.safe_load(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        known = [f.name for f in fields(cls)]
        if not isinstance(values, dict) or "model" not in values:
            raise ValueError(f"{path} names no model: it holds the keys of a peer, such as model and template")
        if unknown := [key for key in values if key not in known]:
            raise ValueError(f"{path} has the unknown key {unknown[0]!r}: choose from {', '.join(known)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


class PeerRewriter:
    """A loaded peer: plain prompts in, its prompts out.

    Args:
        peer: How it is asked.
        seed: Of sampling.
        device: By default the accelerator if there is one.

    Raises:
        ModelError: The model cannot be loaded, or is no chat model where it should be one.
    """

    def __init__(self, peer: Peer, seed: int = 0, device: str | None = None):
        self.peer, self.seed = peer, seed
        where = pick_device(device)
        self.model = load_policy(
            peer.model,
            where,
            safetensors_only=peer.safetensors_only,
            revision=peer.revision,
            dtype=peer.dtype or ("float32" if where.type == "cpu" else "auto"),
        ).eval()
        own = {"revision": peer.revision} if peer.tokenizer is None else {}
        self.tokenizer = load_tokenizer(peer.tokenizer or peer.model, **own)
        if peer.chat and not self.tokenizer.chat_template:
            raise ModelError(f"{peer.model} has no chat template: leave chat out, and write the template by hand")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "left"
        self._settings = GenerationConfig(
            max_new_tokens=peer.max_new_tokens,
            num_beams=peer.num_beams,
            num_return_sequences=peer.num_beams,
            length_penalty=peer.length_penalty,
            do_sample=False,  # samples are made by noise that belongs to the prompt: see GumbelNoise
            eos_token_id=self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """One prompt for each; where the peer writes nothing, the plain one."""
        asked = [self._ask(prompt) for prompt in prompts]
        lengths = [len(self.tokenizer(text, add_special_tokens=not self.peer.chat)["input_ids"]) for text in asked]
        order = sorted(range(len(prompts)), key=lambda i: (lengths[i], prompts[i]))  # less padding
        results = [""] * len(prompts)
        for start in range(0, len(order), self.peer.batch_size):
            batch = order[start : start + self.peer.batch_size]
            written = self._generate([asked[i] for i in batch], [prompts[i] for i in batch])
            for i, texts in zip(batch, written, strict=True):
                results[i] = next((text for t in texts if (text := self._finish(prompts[i], t))), prompts[i])
        return results

    def _ask(self, prompt: str) -> str:
        text = self.peer.template.replace("{prompt}", prompt.strip())
        if not self.peer.chat:
            return control_tokens(self.tokenizer)[controls(prompt)] + text
        system = [{"role": "system", "content": self.peer.instruction}] * bool(self.peer.instruction)
        messages = [*system, {"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _generate(self, asked: list[str], prompts: list[str]) -> list[list[str]]:
        """What the model writes after each text: `num_beams` results, the best first."""
        # A chat template writes the special tokens itself.
        inputs = self.tokenizer(asked, padding=True, return_tensors="pt", add_special_tokens=not self.peer.chat)
        inputs = {k: v.to(self.model.device) for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
        length = inputs["input_ids"].shape[1]
        processors: list[LogitsProcessor] = []
        if self.peer.do_sample:
            seeds = torch.tensor([noise_seed(self.seed, prompt) for prompt in prompts], device=self.model.device)
            processors += sampling_warpers(self.peer.temperature, self.peer.top_k, self.peer.top_p)
            processors.append(GumbelNoise(seeds, length))
        output = self.model.generate(
            **inputs, generation_config=self._settings, logits_processor=LogitsProcessorList(processors)
        )  # (prompts * beams, length + new tokens)
        texts = self.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        beams = self.peer.num_beams
        return [texts[i : i + beams] for i in range(0, len(texts), beams)]

    def _finish(self, prompt: str, written: str) -> str:
        written = written.lstrip("\n") if self.peer.output == "continue" else written.strip()
        for stop in self.peer.stop:
            written = written.partition(stop)[0]
        if self.peer.output == "continue":
            return prompt + written.rstrip() if written.strip() else ""
        written = written.strip()
        # Chat models like to quote.
        if len(written) > 1 and written[0] == written[-1] and written[0] in "\"'`":
            written = written[1:-1].strip()
        return " ".join(written.split())


def _checked(name: str, value: Any, kind: Any) -> Any:
    """The value as its type wants it: whole numbers pass for floats, and a string or a list for a tuple of strings."""
    if kind == tuple[str, ...]:
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value):
            return tuple(value)
    else:
        kinds = get_args(kind) or (kind,)
        if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
            return float(value)
        if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
            return value
    raise ValueError(f"{name} is {value!r}: that is no {getattr(kind, '__name__', None) or kind}")
