"""What every training shares, whichever trainer does it: supervised, PPO, GRPO or RLOO."""

import torch
from transformers import Trainer


def keep_weights_in_float32(trainer: Trainer) -> None:
    """Make `bf16` mean under DeepSpeed what it means elsewhere: float32 weights, computed with in bfloat16 (autocast).

    DeepSpeed's own bf16 mode keeps float32 copies in the optimizer alone: what is sampled from, compared with the
    reference and saved is rounded to bfloat16, and so does `Trainer` with every float of a batch, old log-probabilities
    among them. Its `torch_autocast` does neither. To be called before the training starts.
    """
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if plugin is None or not plugin.hf_ds_config.is_true("bf16.enabled"):
        return
    plugin.deepspeed_config["bf16"] = {"enabled": False}
    plugin.deepspeed_config["torch_autocast"] = {
        "enabled": True,
        "dtype": "bfloat16",
        "lower_precision_safe_modules": [],  # those whose gradients would be summed over processes in bfloat16
    }
    plugin.hf_ds_config._dtype = torch.float32  # which `Trainer` casts floats of a batch to; read from bf16 before
