"""The policy and its critic as one module, whose forward returns logits and values.

One module, since `DistributedDataParallel` and its kin see only what `forward` returns: a value head that is called
beside it makes them fail. What is saved of it is a plain `transformers` folder, and the critic apart.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

VALUE_FILE = "value_head.safetensors"


@dataclass
class PolicyOutput(ModelOutput):
    """Of the completions' tokens in a row, padding left out.

    Attributes:
        logits: For choosing each token. (tokens, vocab)
        state_values: Of the state in which each token is chosen. (tokens,) Not `values`: an output is a dictionary, and
            DeepSpeed and `DistributedDataParallel` call its method of that name. None without a value head.
    """

    logits: Tensor | None = None
    state_values: Tensor | None = None


class PolicyWithValue(nn.Module):
    """A causal language model with a value head.

    Args:
        policy: Any causal LM of `transformers`, or a `PeftModel` of one.
        value_trunk: A model without a head (`AutoModel`) that the values are read from; None reads them from the
            policy's own last hidden states.
        critic: Whether there is a value head; without one there are no values.

    The head starts at zero: the first values are 0, and the trunk feels no value gradient before the head has learnt
    where to look.
    """

    def __init__(self, policy: PreTrainedModel, value_trunk: PreTrainedModel | None = None, critic: bool = True):
        super().__init__()
        self.policy = policy
        self.value_trunk = value_trunk
        self.value_head: nn.Linear | None = None
        if not critic:
            return
        width = (
            policy.get_output_embeddings().weight.shape[1]
            if value_trunk is None
            else value_trunk.config.get_text_config().hidden_size
        )
        self.value_head = nn.Linear(width, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> PolicyOutput:
        """Logits and values for choosing the tokens of the completions.

        Args:
            input_ids, attention_mask: Prompts, padded on the left, then completions, padded on the right.
                (rows, prompt + completion)
            completion_mask: Which of the last columns hold a token of the completion. (rows, completion)
        """
        logits, hidden = completion_logits(self.policy, input_ids, attention_mask, completion_mask)
        if self.value_head is None:
            return PolicyOutput(logits=logits)
        if self.value_trunk is not None:
            states = self.value_trunk(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids(attention_mask),
                use_cache=False,
            ).last_hidden_state
            hidden = choosing_positions(states[:, -completion_mask.shape[1] - 1 :], completion_mask)
        with torch.autocast(hidden.device.type, enabled=False):  # a regression, so in full precision
            values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float()
        return PolicyOutput(logits=logits, state_values=values)

    def __getattr__(self, name: str):
        # `Trainer` asks the model for its config, gradient checkpointing and the like: those are the policy's.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "policy":
                raise
            return getattr(self.policy, name)

    @property
    def is_peft(self) -> bool:
        return hasattr(self.policy, "peft_config") and hasattr(self.policy, "disable_adapter")

    def save(self, folder: Path) -> None:
        """Write the policy (of a `PeftModel`: the adapters) and the critic into `folder`."""
        self.policy.save_pretrained(folder)
        save_file({name: tensor.contiguous() for name, tensor in self._critic().items()}, folder / VALUE_FILE)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            ValueError: There is no critic in `folder`, or it is of another kind.
        """
        if not (folder / VALUE_FILE).is_file():
            raise ValueError(f"{folder} is no PPO checkpoint: it has no {VALUE_FILE}")
        if self.is_peft:
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(self.policy, load_peft_weights(str(folder), device="cpu"))
        else:
            load_model(self.policy, folder / "model.safetensors")
        critic = load_file(folder / VALUE_FILE)
        if set(critic) != set(self._critic()):
            raise ValueError(f"{folder} was written with another critic")
        self.load_state_dict(critic, strict=False)

    def _critic(self) -> dict[str, Tensor]:
        parts = ("value_head.", "value_trunk.")
        return {name: tensor for name, tensor in self.state_dict().items() if name.startswith(parts)}


def completion_logits(
    policy: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits for choosing the completions' tokens, (tokens, vocab), and the hidden states under them, (tokens, width).

    The output layer sees the positions that count and no others: neither prompts nor padding cost a row of the
    vocabulary. What a model does to its logits after that layer (scaling, soft capping) stays the model's own.
    """
    seen: list[Tensor] = []

    def select(module: nn.Module, arguments: tuple) -> tuple:
        seen.append(choosing_positions(arguments[0], completion_mask))
        return (seen[0], *arguments[1:])

    hook = policy.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits = policy(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids(attention_mask),
            use_cache=False,
            logits_to_keep=completion_mask.shape[1] + 1,
        ).logits
    finally:
        hook.remove()
    return logits, seen[0]


def choosing_positions(hidden: Tensor, completion_mask: Tensor) -> Tensor:
    """From the hidden states of the last prompt token and the completion, those from which a token was chosen.

    (rows, completion + 1, width) to (tokens, width): token t is chosen one position before it stands.
    """
    return hidden[:, :-1][completion_mask.bool()]


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions that count from each row's first token; models with learnt positions need them under left padding."""
    return (attention_mask.cumsum(1) - 1).clamp_min(0)


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0: the ratio of new to old probabilities must not be noise.

    Many models keep probabilities as plain numbers beside their modules (``attention_dropout``, ``layerdrop``).
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


@contextmanager
def in_eval_mode(model: nn.Module):
    """`model` in evaluation mode (gradient checkpointing would forbid the cache), and back."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
