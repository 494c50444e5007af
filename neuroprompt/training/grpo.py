"""`train_grpo`: TRL's GRPO and RLOO, on the same prompts and rewards as PPO; `training/grpo.py` is the entry point."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn
from trl import GRPOTrainer, ModelConfig, RLOOTrainer, get_peft_config

from neuroprompt.ppo.answers import asked
from neuroprompt.ppo.config import GRPOConfig, RLOOConfig
from neuroprompt.ppo.model import position_ids
from neuroprompt.runs.trainer import RunTrainer
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import plan_grpo
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.rewarded import load_data, load_reward_func, without_evaluation
from neuroprompt.training.run import load_model, run


def train_grpo(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer | None:
    """Train by GRPO, or by RLOO where `config` is one of that: see `neuroprompt.training.run.run`."""
    if not arguments.eval_samples:
        without_evaluation(config)
    everything = arguments, reward_arguments, config, model_config
    return run(config, model_config, arguments.dry_run, partial(plan_grpo, *everything), partial(_trainer, *everything))


def _trainer(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer:
    train, held_out = load_data(arguments, config)
    policy, tokenizer, prompt_format = load_model(config, model_config, arguments.asked)
    tokenizer.padding_side = "left"
    trainer = (_GRPOTrainer if isinstance(config, GRPOConfig) else _RLOOTrainer)(
        model=policy,
        reward_funcs=[load_reward_func(arguments, reward_arguments, config, tokenizer, train["prompt"], prompt_format)],
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_config),
        prompt_format=prompt_format,
    )
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            number_positions(trainer.accelerator.unwrap_model(model))
    return trainer


class _PlainPolicies(RunTrainer):
    """A base for TRL's trainers, which leave adapters where these are trained: here a plain policy is left. And it is
    asked as everywhere (`neuroprompt.formats`)."""

    def _tokenize_prompts(self, prompts: list[str]):
        texts = asked(prompts, self.prompt_format)
        return self.prompt_format.encode(self.processing_class, texts), None, {}  # no images, and nothing else

    def save_model(self, output_dir=None, _internal_call=False):
        super().save_model(output_dir, _internal_call)
        policy = self.accelerator.unwrap_model(self.model)
        if not hasattr(policy, "peft_config") or _internal_call or not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        deepcopy(policy).merge_and_unload().save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
            (folder / name).unlink(missing_ok=True)


class _GRPOTrainer(_PlainPolicies, GRPOTrainer):
    pass


class _RLOOTrainer(_PlainPolicies, RLOOTrainer):
    pass


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
