"""Train a prompt policy by TRL's GRPO or RLOO, on the same prompts and rewards as PPO.

    accelerate launch training/grpo.py --config configs/grpo/embedded.yaml
    accelerate launch training/grpo.py --algorithm rloo --config configs/grpo/embedded.yaml

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint.
"""

import argparse

from accelerate import PartialState
from trl import GRPOConfig, ModelConfig, RLOOConfig, TrlParser

from neuroprompt.ppo.training import QueryArguments, train_grpo
from neuroprompt.scoring import RewardArguments


def main() -> None:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--algorithm", choices=("grpo", "rloo"), default="grpo")
    chosen, rest = first.parse_known_args()  # it decides which arguments there are
    config_class = {"grpo": GRPOConfig, "rloo": RLOOConfig}[chosen.algorithm]
    parser = TrlParser((QueryArguments, RewardArguments, config_class, ModelConfig), description=__doc__.split("\n")[0])
    train_grpo(*parser.parse_args_and_config(rest))
    PartialState().destroy_process_group()  # or its threads may abort the interpreter's exit


if __name__ == "__main__":
    main()
