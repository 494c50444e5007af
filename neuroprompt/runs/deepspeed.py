"""What computing in bfloat16 means under DeepSpeed."""

import torch
from transformers import Trainer


class Float32Weights(Trainer):
    """A `Trainer` for which `bf16` means under DeepSpeed what it means elsewhere: computing in bfloat16 (autocast).

    DeepSpeed's own bf16 mode keeps float32 copies in the optimizer alone: what is sampled from, compared with the
    reference and saved is rounded to bfloat16, and so does `Trainer` with every float of a batch, old log-probabilities
    among them. Its `torch_autocast` does neither.
    """

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if plugin is None or not plugin.hf_ds_config.is_true("bf16.enabled"):
            return
        plugin.deepspeed_config["bf16"] = {"enabled": False}
        plugin.deepspeed_config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # those whose gradients would be summed over processes in bfloat16
        }
        plugin.hf_ds_config._dtype = torch.float32  # which floats of a batch are cast to; it was read from bf16 before
