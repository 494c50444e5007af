"""Tiny random language models in the layouts that the model hub has them in: GPT-2, Llama (3 and SmolLM2), Qwen2 and 3.

Vocabularies have their published sizes, special tokens their published ids, and the files their published names and
formats. A tokenizer's merges are those that some prompts give; the rest of the vocabulary is filled up with entries
that no text comes to.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from neuroprompt.formats import CONTROLS
from neuroprompt.modifiers import CATEGORIES, suggestions

END = "<|endoftext|>"
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_UNTHINKING = "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
THINKING = CHATML.replace("{% endif %}", _UNTHINKING + "{% endif %}")


def gpt2(folder: Path, *, pickled: bool = False, tokenizer: bool = True) -> Path:
    """openai-community/gpt2; `pickled`, and without `tokenizer`, as microsoft/Promptist, which has a PyTorch file."""
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, bos_token_id=50256, eos_token_id=50256)
    model = _random(config)
    _save(model, folder, pickled)
    config_file = json.loads((folder / "config.json").read_text())
    _write(folder / "config.json", config_file | {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})
    if tokenizer:
        byte_level_bpe(folder, 50257, [END], place=50256)
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
        _write(
            folder / "tokenizer_config.json",
            special | {"model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False},
        )
    return folder


def smollm2(folder: Path) -> Path:
    """HuggingFaceTB/SmolLM2-135M: a Llama with tied embeddings, in bfloat16, with GPT-2's kind of tokenizer."""
    config = LlamaConfig(
        **TINY,
        num_key_value_heads=2,
        vocab_size=49152,
        max_position_embeddings=8192,
        rope_theta=100000.0,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    _save(_random(config).bfloat16(), folder)
    special = [END, "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"]
    special += ["<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>"]
    special += ["<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"]
    byte_level_bpe(folder, 49152, special, place=0)
    _write(
        folder / "tokenizer_config.json",
        dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
        | {
            "additional_special_tokens": special,
            "model_max_length": 8192,
            "tokenizer_class": "GPT2Tokenizer",
            "vocab_size": 49152,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    )
    return folder


def smollm2_instruct(folder: Path) -> Path:
    """HuggingFaceTB/SmolLM2-135M-Instruct: the same, with a chat template and the end of a message for its end."""
    settings = json.loads((smollm2(folder) / "tokenizer_config.json").read_text())
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    _write(folder / "tokenizer_config.json", settings | ends | {"chat_template": CHATML})
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        _write(folder / name, config | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    return folder


def llama(folder: Path) -> Path:
    """A Llama 3 of few words, whose tokenizer puts BOS before every text; its EOS is another token."""
    config = LlamaConfig(
        **TINY, num_key_value_heads=2, vocab_size=5000, max_position_embeddings=512, bos_token_id=1, eos_token_id=2
    )
    _save(_random(config), folder)
    special = ["<pad>", "<|begin_of_text|>", "<|end_of_text|>"]
    byte_level_bpe(folder, 5000, special, place=0)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[1]} $A", pair=f"{special[1]} $A {special[1]} $B", special_tokens=[(special[1], 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": special[1], "eos_token": special[2], "pad_token": special[0]}
    _write(
        folder / "tokenizer_config.json",
        names | {"model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"},
    )
    return folder


def told_media(folder: Path) -> Path:
    """The policy of a folder, with a token for each family of media, as `training/embedded/init_policy.py` has them."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(CONTROLS.values()), special_tokens=True)
    model.resize_token_embeddings(len(tokenizer))
    model.generation_config.suppress_tokens = tokenizer.convert_tokens_to_ids(list(CONTROLS.values()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen2_instruct(folder: Path) -> Path:
    """Qwen/Qwen2.5-1.5B-Instruct: a chat model with its template."""
    config = Qwen2Config(
        **TINY,
        num_key_value_heads=2,
        vocab_size=151936,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151645,
    )
    model = _random(config)
    model.generation_config.eos_token_id = [151645, 151643]
    model.generation_config.pad_token_id = 151643
    model.generation_config.do_sample, model.generation_config.temperature = True, 0.7
    _save(model.bfloat16(), folder)
    byte_level_bpe(folder, 151643 + 3, [END, "<|im_start|>", "<|im_end|>"], place=151643)
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "chat_template": CHATML,
            "eos_token": "<|im_end|>",
            "model_max_length": 131072,
            "pad_token": END,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    return folder


def qwen3(folder: Path, place: int = 151643, size: int = 151936, **changes) -> Path:
    """Qwen/Qwen3-0.6B: a chat model that thinks, or is asked not to. With other numbers one of fewer words.

    Args:
        folder: Where to.
        place: The id of the first special token.
        size: Of the vocabulary.
        changes: Of the config.
    """
    special = [END, "<|im_start|>", "<|im_end|>"]
    config = Qwen3Config(
        **TINY
        | dict(num_key_value_heads=2, head_dim=8, max_position_embeddings=40960, rope_theta=1000000.0)
        | dict(tie_word_embeddings=True, bos_token_id=place, eos_token_id=place + 2, vocab_size=size)
        | changes
    )
    model = _random(config)
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "pad_token_id": place}
    model.generation_config.update(**settings, eos_token_id=[place + 2, place])
    _save(model.bfloat16(), folder)
    byte_level_bpe(folder, place + len(special), special, place)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["<think>", "</think>"])  # which are no special tokens there
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "additional_special_tokens": special[1:],
            "bos_token": None,
            "chat_template": THINKING,
            "eos_token": "<|im_end|>",
            "model_max_length": 131072,
            "pad_token": END,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    return folder


# --- parts -------------------------------------------------------------------------------------------------------


def _random(config) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def _save(model: PreTrainedModel, folder: Path, pickled: bool = False) -> None:
    model.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


@cache
def _merges() -> tuple[dict[str, int], list]:
    """Byte-level BPE of the modifiers that ship with the package: the entries that its merges make, and the merges."""
    texts = [f"{term}, {term}" for category in CATEGORIES for term, _ in suggestions(category)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], model["merges"]


def byte_level_bpe(folder: Path, size: int, special: list[str], place: int) -> None:
    """tokenizer.json, vocab.json and merges.txt of `size` entries, `special` at the ids from `place` on."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt, merges = _merges()
    ids = iter(i for i in range(size) if not place <= i < place + len(special))
    vocab = {entry: next(ids) for entry in sorted(learnt, key=learnt.__getitem__)}
    vocab |= {f"<unused{i}>": i for i in ids}
    whole = vocab | {token: place + i for i, token in enumerate(special)}
    tokenizer = Tokenizer(models.BPE(vocab=whole, merges=[tuple(m) for m in merges], fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "vocab.json", dict(sorted(whole.items(), key=lambda entry: entry[1])))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n", "utf-8")


def _write(path: Path, content: Mapping) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), "utf-8")
