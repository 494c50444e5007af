"""`train_ppo`: PPO against the pictures that the policy's prompts produce; `training/ppo.py` is the entry point."""

from functools import partial

from trl import ModelConfig, get_peft_config

from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.trainer import PPOTrainer
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import plan_ppo
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.rewarded import check_judge, load_data, load_reward_func, without_evaluation
from neuroprompt.training.run import load_model, run


def train_ppo(
    arguments: QueryArguments, reward_arguments: RewardArguments, config: PPOConfig, model_config: ModelConfig
) -> PPOTrainer | None:
    """Train by PPO: see `neuroprompt.training.run.run`.

    Raises:
        TrainingStopped: A guard stopped the run.
    """
    check_judge(arguments, reward_arguments, config)
    if not arguments.eval_samples:
        without_evaluation(config)
    everything = arguments, reward_arguments, config, model_config
    return run(config, model_config, arguments.dry_run, partial(plan_ppo, *everything), partial(_trainer, *everything))


def _trainer(
    arguments: QueryArguments, reward_arguments: RewardArguments, config: PPOConfig, model_config: ModelConfig
) -> PPOTrainer:
    train, held_out = load_data(arguments, config)
    policy, tokenizer, prompt_format = load_model(config, model_config, arguments.asked)
    return PPOTrainer(
        model=policy,
        reward_funcs=load_reward_func(arguments, reward_arguments, config, tokenizer, train["prompt"], prompt_format),
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_config),
        prompt_format=prompt_format,
    )
