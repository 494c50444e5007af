"""What learning by rewards needs, whichever trainer does it: prompts to learn on, and what their rewrites are worth."""

from datasets import Dataset
from transformers import IntervalStrategy, PreTrainedTokenizerBase, TrainingArguments

from neuroprompt.ppo.reward_functions import RewardFunc
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.rewards.own import load_function
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.training.queries import QueryArguments, load_queries


def load_data(arguments: QueryArguments, config: TrainingArguments) -> tuple[Dataset, Dataset | None]:
    """Prompts to learn on and held-out ones; where there are none of these, `config` leaves evaluation out."""
    train, held_out = load_queries(arguments, _window(config))
    if held_out is None:
        without_evaluation(config)
    return train, held_out


def without_evaluation(config: TrainingArguments) -> None:
    """Leave evaluation out, whatever else `config` says of it."""
    config.eval_strategy, config.load_best_model_at_end = IntervalStrategy.NO, False


def load_reward_func(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
) -> RewardFunc:
    """The function that `reward_func` names, or the images' reward on this process' device.

    Raises:
        ValueError: There is no such function.
    """
    if not arguments.reward_func:
        reward = build_reward(reward_arguments, str(config.device), _window(config))
        reward.eos_token_id = tokenizer.eos_token_id
        if reward_arguments.calibration_prompts:
            reward.calibrate(prompts[: reward_arguments.calibration_prompts])
        return reward
    return load_function(arguments.reward_func)


def _window(config: TrainingArguments) -> int | None:
    """CLIP tokens of a rewritten prompt; TRL's configs know of none."""
    return getattr(config, "window", CLIP_WINDOW)
