"""A policy to start from: a byte-level BPE trained on the prompts, and a GPT-2 of random weights that fits the card.

    python training/embedded/init_policy.py --data data/embedded --output runs/embedded/init

The tokenizer lower-cases (prompts are written in lower case, and CLIP's encoder does the same), so that the policy need
not learn every word twice. It has a special token for each family of media, to tell a policy before a prompt; the
model's `generation_config.json` says that these are never written. The model is `transformers`' own `GPT2LMHeadModel`:
13.8 M parameters, 27.7 MB in half precision.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from neuroprompt.data import PromptData
from neuroprompt.formats import CONTROLS

END, PAD = "<|endoftext|>", "<|pad|>"


def main(
    data: Annotated[Path, typer.Option(help="Folder made by scripts/prepare_data.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the model and its tokenizer.")],
    vocabulary: Annotated[int, typer.Option(help="Entries of the tokenizer.")] = 8192,
    width: Annotated[int, typer.Option(help="Hidden size.")] = 384,
    layers: int = 6,
    heads: int = 6,
    positions: Annotated[int, typer.Option(help="Longest text, in tokens.")] = 160,
    seed: int = 0,
) -> None:
    """Train the tokenizer and save it with a randomly initialised GPT-2."""
    prompts = PromptData.load(data)
    tokenizer = train_tokenizer(prompts, vocabulary)
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=positions,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            activation_function="gelu_pytorch_tanh",  # GPT-2's own GELU, as one fused operation
            resid_pdrop=0.0,  # few passes over a large corpus
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config.suppress_tokens = tokenizer.convert_tokens_to_ids(list(CONTROLS.values()))
    tokenizer.model_max_length = positions
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    size = sum(p.numel() for p in model.parameters())
    Console().print(f"{size / 1e6:.2f} M parameters, {len(tokenizer)} entries: {output}")


def train_tokenizer(data: PromptData, vocabulary: int) -> PreTrainedTokenizerFast:
    """GPT-2's byte-level BPE over lower-cased, composed text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # A separator is always a token of its own, so that text cut in front of one is cut between tokens.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[,;|.]"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD, *CONTROLS.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs = data.pairs["train"]
    texts = (p + c for p, c in zip(pairs["prompt"], pairs["completion"], strict=True))
    tokenizer.train_from_iterator(texts, trainer, length=len(pairs))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD)


if __name__ == "__main__":
    typer.run(main)
