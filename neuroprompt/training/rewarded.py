"""What learning by rewards takes, whichever trainer does it: the reward, where the policy is, and how a run ends."""

import importlib
import os
import sys

from datasets import Dataset
from transformers import IntervalStrategy, TrainingArguments
from trl import ModelConfig

from neuroprompt.models import locate
from neuroprompt.ppo.config import GRPOConfig, PPOConfig, RLOOConfig
from neuroprompt.ppo.reward_functions import RewardFunc
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.runs.checkpoints import save_policy
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.training.queries import QueryArguments


def load_reward_func(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: TrainingArguments,
    tokenizer,
    prompts: list[str],
) -> RewardFunc:
    """The function that `reward_func` names, or the images' reward on this process' device.

    Raises:
        ValueError: There is no such function.
    """
    if not arguments.reward_func:
        reward = build_reward(reward_arguments, str(config.device), getattr(config, "window", CLIP_WINDOW))
        reward.eos_token_id = tokenizer.eos_token_id
        if reward_arguments.calibration_prompts:
            reward.calibrate(prompts[: reward_arguments.calibration_prompts])
        return reward
    module, _, name = arguments.reward_func.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as for `python -m`
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"reward_func is {arguments.reward_func!r}, not package.module:function ({error})") from error
    return function


def leave_evaluation_out(config: TrainingArguments) -> None:
    config.eval_strategy, config.load_best_model_at_end = IntervalStrategy.NO, False


def prepare_model(config: PPOConfig | GRPOConfig | RLOOConfig, model_config: ModelConfig) -> str:
    """Where the model is loaded from; how goes into `config`."""
    config.model_init_kwargs = {
        "attn_implementation": model_config.attn_implementation,
        "dtype": model_config.dtype,
        "revision": model_config.model_revision,
        **(config.model_init_kwargs or {}),
    }
    return locate(model_config.model_name_or_path or "embedded", "policy")


def finish_run(trainer, held_out: Dataset | None):
    if held_out is not None:
        metrics = trainer.evaluate()
        shown = {name: value for name, value in metrics.items() if "reward" in name or "gain" in name}
        trainer.accelerator.print("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    save_policy(trainer)
    trainer.accelerator.print(f"the policy is in {trainer.args.output_dir}")
    return trainer
