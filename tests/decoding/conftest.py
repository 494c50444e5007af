"""Small tokenizers of both kinds, trained on a few prompts, and small random models over them."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)

TEXTS = [
    "a boy on a horse, by alphonse mucha and greg rutkowski, baroque, oil painting, wide angle, highly detailed, 8k",
    "portrait of a woman in the rain, golden hour, cinematic lighting, art deco, artstation, sharp focus",
    "an old house by the sea at sunset, fog, soft light, in the style of claude monet, impressionism, 35mm photo",
    "a cat's dream, low-poly, isometric view, trending on artstation, 3d render, octane, volumetric light",
    "futuristic city, neon, cyberpunk, rule of thirds, bokeh, f/1.8, dramatic, award-winning photograph",
    "Café in Paris, naïve art, Élan, blurry background, not blurry, bad art, art, artist, arts and crafts",
    "The quick brown fox jumps over the lazy dog; THE END. (masterpiece:1.2), best quality | 4k - uhd",
]


def byte_level(lowercase: bool, size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's; with `lowercase`, as the embedded policy's."""
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special)


def sentencepiece(size: int) -> PreTrainedTokenizerFast:
    """A BPE over "▁" with byte fallback, as Llama 2's."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special + pieces, show_progress=False)
    # words apart, as SentencePiece trains: no token crosses a space
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    model = tokenizer.to_str()
    import json

    state = json.loads(model)
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        padding_side="left",
    )


def gpt2(tokenizer, seed: int = 0, scale: float = 1.0, width: int = 32, layers: int = 2) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    eos = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=2,
        n_positions=512,
        eos_token_id=eos,
        bos_token_id=eos,
    )
    model = GPT2LMHeadModel(config).eval()
    model.transformer.wte.weight.data.mul_(scale * 10)  # peaked, as trained models are
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def llama(tokenizer, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5,  # padded, as many models' are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data.mul_(40)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    return byte_level(lowercase=False, size=500)


@pytest.fixture(scope="session")
def lowercase_tokenizer():
    return byte_level(lowercase=True, size=450)


@pytest.fixture(scope="session")
def llama_tokenizer():
    return sentencepiece(size=500)


@pytest.fixture(scope="session")
def gpt2_model(gpt2_tokenizer):
    return gpt2(gpt2_tokenizer)


@pytest.fixture(scope="session")
def llama_model(llama_tokenizer):
    return llama(llama_tokenizer)
