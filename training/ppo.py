"""Train a prompt policy by PPO on rewards of the images that its prompts produce.

    accelerate launch training/ppo.py --config configs/ppo/embedded.yaml
    accelerate launch --config_file configs/accelerate/multi_gpu.yaml training/ppo.py \
        --config configs/ppo/gpt2_sd15_pickscore.yaml
    python training/ppo.py --config configs/ppo/embedded.yaml --reward_func my_rewards.py:length

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint, or
`--dry_run` to see what a run takes, without weights and without a GPU.
"""

from neuroprompt.programs import wants

wants("train")
from trl import ModelConfig

from neuroprompt.ppo import PPOConfig, TrainingStopped
from neuroprompt.runs.arguments import read_arguments, run_training
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.ppo import train_ppo
from neuroprompt.training.queries import QueryArguments


def main() -> str | None:
    arguments = read_arguments((QueryArguments, RewardArguments, PPOConfig, ModelConfig), __doc__.split("\n")[0])
    try:
        train_ppo(*arguments)
    except TrainingStopped as reason:
        return f"stopped: {reason}"


if __name__ == "__main__":
    run_training(main)
