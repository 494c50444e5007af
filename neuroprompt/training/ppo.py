"""What `training/ppo.py` and `training/grpo.py` do: queries and a reward from their arguments, then a trainer's run."""

import importlib
import os
import sys
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from torch import nn
from transformers import IntervalStrategy, TrainingArguments
from trl import GRPOTrainer, ModelConfig, RLOOTrainer, get_peft_config

from neuroprompt.checkpoints import WholeCheckpoints, save_policy
from neuroprompt.completions import check_prompt
from neuroprompt.data import PromptData
from neuroprompt.models import locate
from neuroprompt.planning import only_planned, plan_grpo, plan_ppo
from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.ppo.config import GRPOConfig, PPOConfig, RLOOConfig
from neuroprompt.ppo.model import position_ids
from neuroprompt.ppo.reward_functions import RewardFunc
from neuroprompt.ppo.trainer import PPOTrainer
from neuroprompt.prompt_files import read_lines
from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens
from neuroprompt.runs import Float32Weights, announce, check, checkpoint_to_resume, prepare_first, writing
from neuroprompt.scoring import RewardArguments, build_reward

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass
class QueryArguments:
    """What the entry points take beside the trainer's arguments, `RewardArguments` and TRL's `ModelConfig`.

    Args:
        queries: Plain prompts to learn on: a folder of `scripts/prepare_data.py`, or a .txt, .csv or .jsonl file.
        eval_queries: Held-out prompts, likewise; by default the folder's validation split, or prompts set apart from
            the file.
        max_queries: Learn on so many of them; 0 takes all.
        eval_samples: Evaluate on so many of them; 0 does not evaluate.
        min_room: CLIP tokens that a prompt must leave in the window; longer prompts are left out.
        reward_func: ``package.module:function`` in place of the images' reward.
        dry_run: Print what the run would take (`neuroprompt.planning`), and stop before anything is loaded.
    """

    queries: str = field(default="", metadata={"help": "Prepared data, or a .txt, .csv or .jsonl file of prompts."})
    eval_queries: str | None = field(default=None, metadata={"help": "Held-out prompts, likewise."})
    max_queries: int = field(default=0, metadata={"help": "Learn on so many of them; 0 takes all."})
    eval_samples: int = field(default=64, metadata={"help": "Evaluate on so many; 0 does not evaluate."})
    min_room: int = field(default=16, metadata={"help": "CLIP tokens that a prompt must leave in the window."})
    reward_func: str | None = field(default=None, metadata={"help": "package.module:function, instead of images."})
    dry_run: bool = field(default=False, metadata={"help": "Print models, memory, pictures and steps, and stop."})


def train_ppo(
    arguments: QueryArguments, reward_arguments: RewardArguments, config: PPOConfig, model_config: ModelConfig
) -> PPOTrainer | None:
    """Train by PPO, evaluate, and save the policy to `config.output_dir`; with `dry_run`, only say what that takes.

    `config.resume_from_checkpoint` takes a checkpoint folder, or "true" for the last one of `config.output_dir` (and
    starts afresh where there is none, so that one command starts and resumes a run).

    Raises:
        TrainingStopped: A guard stopped the run.
    """
    check(config, model_config)
    if not arguments.eval_samples:
        _leave_evaluation_out(config)
    if only_planned(plan_ppo(arguments, reward_arguments, config, model_config), arguments.dry_run):
        return None
    train, held_out = load_queries(arguments, config.window)
    if held_out is None:
        _leave_evaluation_out(config)
    with writing(config):
        source = _prepare_model(config, model_config)
        tokenizer = load_tokenizer(source, revision=model_config.model_revision)
        trainer = PPOTrainer(
            model=source,
            reward_funcs=load_reward_func(arguments, reward_arguments, config, tokenizer, train["prompt"]),
            args=config,
            train_dataset=train,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=get_peft_config(model_config),
        )
        announce(trainer, f"{len(train):,} prompts")
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(config))
        return _finish(trainer, held_out)


def train_grpo(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer | None:
    """The same with TRL's `GRPOTrainer`, or its `RLOOTrainer` where `config` is one of that."""
    check(config, model_config)
    if not arguments.eval_samples:
        _leave_evaluation_out(config)
    if only_planned(plan_grpo(arguments, reward_arguments, config, model_config), arguments.dry_run):
        return None
    train, held_out = load_queries(arguments, CLIP_WINDOW)
    if held_out is None:
        _leave_evaluation_out(config)
    with writing(config):
        source = _prepare_model(config, model_config)
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
        return _finish(trainer, held_out)


def load_queries(arguments: QueryArguments, window: int | None) -> tuple[Dataset, Dataset | None]:
    """Prompts to learn on, and held-out ones (None where there are none to be).

    Raises:
        ValueError: There is nothing at the path, or no prompt that can be continued.
    """
    if not arguments.queries:
        raise ValueError("queries is not set: give a folder of prepared data, or a file of prompts")
    train, held_out = _read_queries(arguments.queries)
    if arguments.eval_queries:
        _, held_out = _read_queries(arguments.eval_queries)
        held_out = held_out or _read_queries(arguments.eval_queries)[0]
    train, held_out = (_usable(prompts, window, arguments.min_room) for prompts in (train, held_out))
    if not held_out and arguments.eval_samples:
        count = min(arguments.eval_samples, len(train) // 5)
        held_out, train = train[:count], train[count:]
    if not train:
        raise ValueError(f"{arguments.queries} has no prompt that leaves {arguments.min_room} CLIP tokens of {window}")
    if overlap := set(train) & set(held_out):
        train = [prompt for prompt in train if prompt not in overlap]
    train = train[: arguments.max_queries or None]
    held_out = held_out[: arguments.eval_samples]
    return Dataset.from_dict({"prompt": train}), Dataset.from_dict({"prompt": held_out}) if held_out else None


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


# --- details -----------------------------------------------------------------------------------------------------


def _leave_evaluation_out(config: TrainingArguments) -> None:
    config.eval_strategy, config.load_best_model_at_end = IntervalStrategy.NO, False


def _prepare_model(config: PPOConfig | GRPOConfig | RLOOConfig, model_config: ModelConfig) -> str:
    """Where the model is loaded from; how goes into `config`."""
    config.model_init_kwargs = {
        "attn_implementation": model_config.attn_implementation,
        "dtype": model_config.dtype,
        "revision": model_config.model_revision,
        **(config.model_init_kwargs or {}),
    }
    return locate(model_config.model_name_or_path or "embedded", "policy")


def _merge_adapters(model: "PeftModel", folder: Path) -> None:
    """Write a plain policy in the place of the adapters that TRL leaves, whose base may be gone later."""
    deepcopy(model).merge_and_unload().save_pretrained(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (folder / name).unlink(missing_ok=True)


def _read_queries(path: str) -> tuple[list[str], list[str]]:
    """Prompts to learn on, and those of the validation split (none in a file)."""
    if Path(path).is_dir():
        plain = PromptData.load(path).plain
        return list(plain["train"]["prompt"]), list(plain["validation"]["prompt"]) if "validation" in plain else []
    if not Path(path).exists() and not Path(path).suffix:
        raise ValueError(f"there is no folder {path}: {prepare_first(path)}")
    lines = read_lines(path)
    if broken := next((line for line in lines if line.prompt is None), None):
        raise ValueError(f"{path}, line {broken.number}: {broken.error}")
    return [line.prompt for line in lines], []


def _usable(prompts: list[str], window: int | None, min_room: int) -> list[str]:
    """The prompts that can be continued, each once, in an order that belongs to their texts and not to the file's."""
    kept = []
    for prompt in dict.fromkeys(prompts):
        try:
            check_prompt(prompt)
        except ValueError:
            continue
        if window is None or count_clip_tokens(prompt) + min_room <= window:
            kept.append(prompt)
    return kept


def _finish(trainer, held_out: Dataset | None):
    if held_out is not None:
        metrics = trainer.evaluate()
        shown = {name: value for name, value in metrics.items() if "reward" in name or "gain" in name}
        trainer.accelerator.print("  ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    save_policy(trainer)
    trainer.accelerator.print(f"the policy is in {trainer.args.output_dir}")
    return trainer
