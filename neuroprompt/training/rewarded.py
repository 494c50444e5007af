"""What learning by rewards needs, whichever trainer does it: prompts to learn on, and what their rewrites are worth."""

from datasets import Dataset
from transformers import IntervalStrategy, PreTrainedTokenizerBase, TrainingArguments

from neuroprompt.formats import CONTINUE, PromptFormat
from neuroprompt.ppo.answers import OfAnswers
from neuroprompt.ppo.config import Iterations
from neuroprompt.ppo.predicted import PredictedReward
from neuroprompt.ppo.reward_functions import RewardFunc
from neuroprompt.prompts import CLIP_WINDOW, WindowLike
from neuroprompt.reward_model import RewardModel, RewardModelConfig, fitted_to
from neuroprompt.rewards.own import load_function
from neuroprompt.scoring import PromptReward, RewardArguments, build_reward
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


def check_judge(arguments: QueryArguments, reward_arguments: RewardArguments, config: Iterations) -> None:
    """Refuse to watch what is not there; a reward function of one's own may log a judge by itself.

    Raises:
        ValueError: `stop_on_overoptimization` is set, and there is no judge.
    """
    if config.stop_on_overoptimization and not (reward_arguments.judge or arguments.reward_func):
        raise ValueError("stop_on_overoptimization watches a judge, and there is none: name one, such as --judge clip")


def load_reward_func(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: Iterations,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    prompt_format: PromptFormat = CONTINUE,
) -> RewardFunc:
    """The function that `reward_func` names, or the images' reward on this process' device; of a policy whose text
    replaces the prompt, of the prompts that it wrote (`ppo.answers.OfAnswers`).

    Raises:
        ValueError: There is no such function.
    """
    window: WindowLike = _window(config)
    if arguments.reward_func:
        reward = load_function(arguments.reward_func)
    else:
        reward = build_reward(reward_arguments, str(config.device), window)
        reward.eos_token_id = tokenizer.eos_token_id
        if reward_arguments.calibration_prompts:
            reward.calibrate(prompts[: reward_arguments.calibration_prompts])
        if not hasattr(config, "window"):  # TRL's configs know of none: what the generator reads
            window = reward.generator.window or window
        if reward_arguments.predictor:
            reward = _predicted(reward, reward_arguments, config)
    if not prompt_format.replaces:
        return reward
    return OfAnswers(reward, prompt_format, tokenizer.eos_token_id, window, arguments.unparsed_reward)


def _predicted(reward: PromptReward, arguments: RewardArguments, config: Iterations) -> PredictedReward:
    """`reward`, from whose pictures a reward model of texts learns.

    Raises:
        ValueError: The generator has no encoder that is read, or a share of one rewrite is to be drawn.
        ModelError: The model is of another generator.
    """
    encoder = reward.generator.encoder
    if encoder is None:
        raise ValueError("predictor reads texts as the image generator does, and this one has no CLIP text encoder")
    if arguments.draw_fraction < 1 and config.group < 2:
        raise ValueError(
            "draw_fraction is a share of a prompt's rewrites, and there is one: set completions_per_prompt to 2 or "
            "more (GRPO, RLOO: num_generations)"
        )
    if arguments.predictor == "new":
        model = RewardModel(encoder, RewardModelConfig(seed=config.seed), fitted_to(reward.settings()))
    else:
        model = RewardModel.load(arguments.predictor, encoder)
    return PredictedReward(reward, model, arguments.draw_fraction)


def _window(config: TrainingArguments) -> int | None:
    """CLIP tokens of a rewritten prompt; TRL's configs know of none."""
    return getattr(config, "window", CLIP_WINDOW)
