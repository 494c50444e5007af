"""`train_grpo`: TRL's GRPO and RLOO, on the same prompts and rewards as PPO."""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from trl import GRPOTrainer, ModelConfig, RLOOTrainer, get_peft_config

from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.ppo.config import GRPOConfig, RLOOConfig
from neuroprompt.ppo.model import position_ids
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.runs.checkpoints import WholeCheckpoints, checkpoint_to_resume
from neuroprompt.runs.deepspeed import Float32Weights
from neuroprompt.runs.start import announce, check, writing
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import only_planned, plan_grpo
from neuroprompt.training.queries import QueryArguments, load_queries
from neuroprompt.training.rewarded import finish_run, leave_evaluation_out, load_reward_func, prepare_model

if TYPE_CHECKING:
    from peft import PeftModel


def train_grpo(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer | None:
    """The same with TRL's `GRPOTrainer`, or its `RLOOTrainer` where `config` is one of that."""
    check(config, model_config)
    if not arguments.eval_samples:
        leave_evaluation_out(config)
    if only_planned(plan_grpo(arguments, reward_arguments, config, model_config), arguments.dry_run):
        return None
    train, held_out = load_queries(arguments, CLIP_WINDOW)
    if held_out is None:
        leave_evaluation_out(config)
    with writing(config):
        source = prepare_model(config, model_config)
        tokenizer = load_tokenizer(source, revision=model_config.model_revision, padding_side="left")
        trainer_class = GRPOTrainer if isinstance(config, GRPOConfig) else RLOOTrainer

        class TRLTrainer(Float32Weights, WholeCheckpoints, trainer_class):
            """TRL's, whose checkpoints are whole, and whose policy has its adapters merged."""

            def save_model(self, output_dir=None, _internal_call=False):
                super().save_model(output_dir, _internal_call)
                if model_config.use_peft and not _internal_call and self.args.should_save:
                    policy = self.accelerator.unwrap_model(self.model)
                    _merge_adapters(policy, Path(output_dir or self.args.output_dir))

        trainer = TRLTrainer(
            model=load_policy(source, trust_remote_code=config.trust_remote_code, **config.model_init_kwargs),
            reward_funcs=[load_reward_func(arguments, reward_arguments, config, tokenizer, train["prompt"])],
            args=config,
            train_dataset=train,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=get_peft_config(model_config),
        )
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                number_positions(trainer.accelerator.unwrap_model(model))
        announce(trainer, f"{len(train):,} prompts")
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(config))
        return finish_run(trainer, held_out)


def number_positions(model: nn.Module) -> None:
    """Make `model` fill in position ids from the attention mask where a caller gives none.

    TRL's trainers pad prompts on the left and pass a mask alone: a model with learnt positions (GPT-2) would then read
    its prompts at the wrong ones, and its log-probabilities would not be those that it was sampled with.
    """

    def fill(module: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        mask, ids = keywords.get("attention_mask"), arguments[0] if arguments else keywords.get("input_ids")
        if keywords.get("position_ids") is None and torch.is_tensor(mask) and mask.shape == ids.shape:
            keywords["position_ids"] = position_ids(mask)
        return arguments, keywords

    model.register_forward_pre_hook(fill, with_kwargs=True)


def _merge_adapters(model: "PeftModel", folder: Path) -> None:
    """Write a plain policy in the place of the adapters that TRL leaves, whose base may be gone later."""
    deepcopy(model).merge_and_unload().save_pretrained(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (folder / name).unlink(missing_ok=True)
