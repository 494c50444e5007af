"""Distil a search: rewrites that pictures chose, learnt by SFT, and PPO from there.

    python training/distil.py --config configs/distil/embedded.yaml
    python training/distil.py --config configs/distil/embedded.yaml --ppo configs/ppo/embedded.yaml
    accelerate launch --config_file configs/accelerate/multi_gpu.yaml training/distil.py \
        --config configs/distil/gpt2_sd15.yaml

The command line beats the YAML file. Killed at any point, it goes on when the same command is given again; `--dry_run`
says what it takes.
"""

from neuroprompt.programs import wants

wants("train")
from neuroprompt.ppo import TrainingStopped
from neuroprompt.runs.arguments import read_arguments, run_training
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.distil import DistilArguments, distil


def main() -> str | None:
    try:
        distil(*read_arguments((DistilArguments, RewardArguments), __doc__.split("\n")[0]))
    except TrainingStopped as reason:
        return f"stopped: {reason}"


if __name__ == "__main__":
    run_training(main)
