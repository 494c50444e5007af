"""Train a prompt policy by TRL's GRPO or RLOO, on the same prompts and rewards as PPO.

    accelerate launch training/grpo.py --config configs/grpo/embedded.yaml
    accelerate launch training/grpo.py --algorithm rloo --config configs/grpo/embedded.yaml

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint, or
`--dry_run` to see what a run takes, without weights and without a GPU.
"""

import argparse

from neuroprompt.programs import wants

wants("train")
from trl import ModelConfig

from neuroprompt.ppo import TrainingStopped
from neuroprompt.ppo.config import GRPOConfig, RLOOConfig
from neuroprompt.runs.arguments import read_arguments, run_training
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.grpo import train_grpo
from neuroprompt.training.queries import QueryArguments


def main() -> str | None:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--algorithm", choices=("grpo", "rloo"), default="grpo")
    chosen, rest = first.parse_known_args()  # it decides which arguments there are
    config_class = {"grpo": GRPOConfig, "rloo": RLOOConfig}[chosen.algorithm]
    classes = (QueryArguments, RewardArguments, config_class, ModelConfig)
    arguments = read_arguments(classes, __doc__.split("\n")[0], rest)
    try:
        train_grpo(*arguments)
    except TrainingStopped as reason:
        return f"stopped: {reason}"


if __name__ == "__main__":
    run_training(main)
