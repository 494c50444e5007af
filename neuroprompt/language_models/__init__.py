"""What a policy is made of: a causal language model that continues token ids, and its tokenizer.

Any model of `transformers` will do, on torch (`pretrained.py`). GPT-2's kind, of which the policies that ship are, runs
in NumPy, too (`gpt2.py`), with a tokenizer that needs `tokenizers` alone (`tokenizer.py`): in a second from start to
result, where importing torch takes several. Both are asked alike, and write the same texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from neuroprompt.decoding.arrays import Arrays
from neuroprompt.decoding.constraints import Constraints
from neuroprompt.decoding.processors import Processor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from neuroprompt.language_models.gpt2 import GPT2


class Written(NamedTuple):
    """What was written behind each prompt, `returned` texts of each.

    Attributes:
        tokens: Ids, with what pads them.
        closed: Whether what the constraints required had to be written one by one at the end (`search.Found`).
    """

    tokens: list[list[int]]
    closed: list[bool]


class Writer(Protocol):
    """A language model at work.

    Attributes:
        xp: The arrays that its processors get.
        positions: The tokens that it can read.
        vocab_size: The width of its logits.
        entries: The tokens that it knows.
        ends: The tokens that end a text.
    """

    xp: Arrays
    positions: int
    vocab_size: int
    entries: int
    ends: list[int]

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
        """Continue the prompts, padded on the left to the longest: the arguments of `search.search`."""
        ...

    def score(self, heads: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[float]:
        """The mean log-probability of each tail's tokens behind its head, in nats; 0 of no tokens."""
        ...


def writer_of(model: "PreTrainedModel | GPT2", tokenizer: Any) -> Writer:
    """The model with its tokenizer, which has a token that pads."""
    if hasattr(model, "writer"):
        return model.writer(tokenizer)
    from neuroprompt.language_models.pretrained import Pretrained

    return Pretrained(model, tokenizer)
