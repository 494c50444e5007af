"""Other people's rewriters as methods: any causal language model, by a `PolicyConfig`'s YAML file.

A peer is asked as its authors ask it, and what it writes is taken as it is: nothing keeps the user's words, the window
or the constraints. What it writes for a prompt depends on the prompt, the seed and the file, up to the rounding of a
batch.
"""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from neuroprompt.decoding.processors import GumbelNoise, noise_seed, sampling_warpers
from neuroprompt.models import pick_device
from neuroprompt.policies import PolicyConfig


class PeerRewriter:
    """A loaded peer: plain prompts in, its prompts out.

    Args:
        peer: How it is asked.
        seed: Of sampling.
        device: By default the accelerator if there is one.

    Raises:
        ModelError: The model cannot be loaded, or is no chat model where it should be one.
    """

    def __init__(self, peer: PolicyConfig, seed: int = 0, device: str | None = None):
        self.peer, self.seed = peer, seed
        policy = peer.load(pick_device(device))
        self.model, self.tokenizer = policy.model.eval(), policy.tokenizer
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
        asked = [self.peer.ask(self.tokenizer, prompt.strip(), self.peer.model) for prompt in prompts]
        lengths = [len(self.tokenizer(text, add_special_tokens=not self.peer.chat)["input_ids"]) for text in asked]
        order = sorted(range(len(prompts)), key=lambda i: (lengths[i], prompts[i]))  # less padding
        results = [""] * len(prompts)
        for start in range(0, len(order), self.peer.batch_size):
            batch = order[start : start + self.peer.batch_size]
            written = self._generate([asked[i] for i in batch], [prompts[i] for i in batch])
            for i, texts in zip(batch, written, strict=True):
                read = (self.peer.read(prompts[i], text).text for text in texts)
                results[i] = next(filter(None, read), prompts[i])
        return results

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
