"""Fit a reward model of texts: what rewrites gain, expected before they are drawn (`neuroprompt enhance --rerank`).

    python training/reward_model.py --config configs/reward_model/embedded.yaml
    python training/reward_model.py --config configs/reward_model/embedded.yaml --results results/mine search.json
    python training/reward_model.py --config configs/reward_model/embedded.yaml --policy runs/ppo \
        --output_dir runs/ppo/reward_model

The command line beats the YAML file. Killed while it draws, it goes on when the same command is given again.
"""

from neuroprompt.programs import wants

wants("train")
from neuroprompt.reward_model import RewardModelConfig
from neuroprompt.runs.arguments import read_arguments, run_training
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.reward_model import RewardModelArguments, train_reward_model


def main() -> None:
    train_reward_model(
        *read_arguments((RewardModelArguments, RewardModelConfig, RewardArguments), __doc__.split("\n")[0])
    )


if __name__ == "__main__":
    run_training(main)
