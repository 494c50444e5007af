"""A tiny GPT-2 with learnt positions and dropout, and a vocabulary of whole words."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = ["<eos>", "<pad>", ",", "red", "fox", "castle", "sea", "oil", "painting", "fog", "8k", "art", "dark", "soft"]


@pytest.fixture(scope="session")
def tokenizer():
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", padding_side="left")


@pytest.fixture
def policy():
    return tiny_policy()


def tiny_policy(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"vocab_size": len(WORDS), "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    settings |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, "initializer_range": 0.2} | changes
    return GPT2LMHeadModel(GPT2Config(**settings))  # dropout 0.1 by default
