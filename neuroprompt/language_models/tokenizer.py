"""A tokenizer from its `tokenizer.json`, by `tokenizers` alone: what `transformers`' own is to this project."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from neuroprompt.models import ModelError

CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""The tokenizers of `transformers` that are what `tokenizer.json` says; others change it."""


def unlike(folder: Path) -> str | None:
    """Why what is in the folder is no such tokenizer, if so."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return "it has no tokenizer_config.json that can be read"
    if config.get("tokenizer_class") not in CLASSES:
        return f"its tokenizer is a {config.get('tokenizer_class')}"
    if config.get("chat_template") or any(folder.glob("*chat_template*")):
        return "it is a chat model"
    return None if (folder / "tokenizer.json").is_file() else "it has no tokenizer.json"


class Tokenizer:
    """What rewriting asks of a `transformers.PreTrainedTokenizerBase`, under the same names.

    Args:
        folder: Holds `tokenizer.json` and `tokenizer_config.json`.

    Attributes:
        backend_tokenizer: The `tokenizers.Tokenizer`.

    Raises:
        ModelError: They cannot be read.
    """

    chat_template = None

    def __init__(self, folder: Path):
        try:
            self.backend_tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        except Exception as error:  # of Rust's, a bare Exception
            raise ModelError(f"cannot load the tokenizer of {folder} (tokenizer.json): {error}") from error
        self.added_tokens_decoder = self.backend_tokenizer.get_added_tokens_decoder()
        self.added_tokens_encoder = {token.content: i for i, token in self.added_tokens_decoder.items()}
        self.all_special_ids = [i for i, token in self.added_tokens_decoder.items() if token.special]
        self.all_special_tokens = [self.added_tokens_decoder[i].content for i in self.all_special_ids]
        self.bos_token_id, self.eos_token_id, self.pad_token_id = (
            self._id(config.get(f"{name}_token")) for name in ("bos", "eos", "pad")
        )
        if self.pad_token_id is None:
            self.pad_token_id = self.eos_token_id

    def _id(self, token: str | dict | None) -> int | None:
        return self.added_tokens_encoder.get(token["content"] if isinstance(token, dict) else token)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def __call__(self, text: str | Sequence[str], add_special_tokens: bool = True, **_: bool) -> dict[str, list]:
        """`input_ids` of a text, or of each."""
        if isinstance(text, str):
            return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}
        read = self.backend_tokenizer.encode_batch_fast(text, add_special_tokens=add_special_tokens)
        return {"input_ids": [own.ids for own in read]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: bool) -> str:
        return self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def batch_decode(self, ids: Iterable[Sequence[int]], skip_special_tokens: bool = False, **_: bool) -> list[str]:
        return self.backend_tokenizer.decode_batch(list(ids), skip_special_tokens=skip_special_tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str | None]:
        return [self.backend_tokenizer.id_to_token(i) for i in ids]
