"""TRL 1.12's `PPOTrainer` on the task of `benchmarks/ppo.py trl`, which runs this file in TRL's own environment.

    python benchmarks/trl_ppo_worker.py '{"model": "neuroprompt/assets/policy", "prompts": ["a fox", "a castle"],
        "minibatch": 2, "epochs": 4, "new_tokens": 24, "iterations": 3, "attention": "eager", "seed": 0}'

Prints the CPU seconds of each iteration as JSON. Nothing of this project is imported: it asks for a newer TRL.
"""

import json
import sys
import tempfile
import time
import warnings

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)
from transformers.modeling_outputs import BaseModelOutput
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Commas(nn.Module):
    """The reward of `benchmarks/ppo.py`, commas in the text, in the shape of the reward *model* that TRL asks for.

    TRL calls the backbone, and `score` on its last hidden states, of which it reads the last token's: those are the
    score already, and `score` passes them on.
    """

    base_model_prefix = "backbone"

    def __init__(self, tokenizer):
        super().__init__()
        self.backbone = self.read
        self.score = nn.Identity()
        self.tokenizer = tokenizer

    def read(self, input_ids: Tensor, attention_mask: Tensor, **_) -> BaseModelOutput:
        rows = [ids[mask] for ids, mask in zip(input_ids, attention_mask.bool(), strict=True)]
        scores = [float(text.count(",")) for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]
        shape = (*input_ids.shape, 1)
        return BaseModelOutput(hidden_states=(torch.tensor(scores)[:, None, None].expand(shape),))


class Clock(TrainerCallback):
    """The process's CPU seconds at the end of each iteration, which TRL calls a step."""

    def __init__(self):
        self.seconds = []

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.process_time())


def main(model: str, prompts: list[str], minibatch: int, epochs: int, new_tokens: int, iterations: int, attention: str,
         seed: int) -> list[float]:  # fmt: skip
    """CPU seconds of each iteration but the first, which warms up."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    settings = {"dtype": torch.float32, "attn_implementation": attention}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                folder,
                # All rollouts in one batch, cut into minibatches of which each is an optimizer step.
                per_device_train_batch_size=len(prompts),
                num_mini_batches=len(prompts) // minibatch,
                num_ppo_epochs=epochs,
                total_episodes=len(prompts) * (iterations + 1),
                response_length=new_tokens,
                temperature=1.0,
                num_sample_generations=0,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            ),
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(model, **settings),
            ref_model=AutoModelForCausalLM.from_pretrained(model, **settings),
            reward_model=Commas(tokenizer),
            value_model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, **settings),
            train_dataset=Dataset.from_dict(tokenizer(prompts)).remove_columns(["attention_mask"]),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [end - begin for begin, end in zip(clock.seconds, clock.seconds[1:], strict=False)]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    print(json.dumps(main(**json.loads(sys.argv[1]))))
