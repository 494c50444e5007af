"""What `training/ppo.py` and `training/grpo.py` do: queries and a reward from their arguments, then a trainer's run."""

from typing import TYPE_CHECKING

from trl import ModelConfig, get_peft_config

from neuroprompt.policies import load_tokenizer
from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.trainer import PPOTrainer
from neuroprompt.runs.checkpoints import checkpoint_to_resume
from neuroprompt.runs.start import announce, check, writing
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import only_planned, plan_ppo
from neuroprompt.training.queries import QueryArguments, load_queries
from neuroprompt.training.rewarded import finish_run, leave_evaluation_out, load_reward_func, prepare_model

if TYPE_CHECKING:
    pass


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
        leave_evaluation_out(config)
    if only_planned(plan_ppo(arguments, reward_arguments, config, model_config), arguments.dry_run):
        return None
    train, held_out = load_queries(arguments, config.window)
    if held_out is None:
        leave_evaluation_out(config)
    with writing(config):
        source = prepare_model(config, model_config)
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
        return finish_run(trainer, held_out)


# --- details -----------------------------------------------------------------------------------------------------
