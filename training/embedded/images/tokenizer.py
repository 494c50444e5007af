"""The embedded tokenizer: a real CLIPTokenizer (byte-level BPE with end-of-word marks, lower-cased) of few entries."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_LENGTH = 77
# How CLIP splits text before BPE (openai/CLIP, simple_tokenizer.py).
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
START, END = "<|startoftext|>", "<|endoftext|>"


def learn_bpe(texts: Iterable[str], size: int) -> tuple[Tokenizer, list[str], list[tuple[str, str]]]:
    """A tokenizer that splits text as CLIP's does; and at most `size` entries with their merges, from `texts`."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=None))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    # Every byte in both forms must be there, or some text would not be representable.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    learnt = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt["merges"]]
    tokens = dict.fromkeys([*alphabet, *(c + "</w>" for c in alphabet)])
    kept = []
    for left, right in merges:
        if len(tokens) >= size:
            break
        kept.append((left, right))
        tokens.setdefault(left + right)
    return bpe, list(tokens), kept


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096) -> CLIPTokenizer:
    """Learn merges from `texts`, and hand them to CLIPTokenizer."""
    _, tokens, kept = learn_bpe(texts, vocab_size - 2)
    vocab = {token: i for i, token in enumerate([*tokens, START, END])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=kept, model_max_length=MAX_LENGTH, pad_token=END)
    with tempfile.TemporaryDirectory() as folder:  # as users will load it
        tokenizer.save_pretrained(folder)
        return CLIPTokenizer.from_pretrained(folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)
