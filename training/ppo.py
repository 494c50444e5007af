"""Train a prompt policy by PPO on rewards of the images that its prompts produce.

    accelerate launch training/ppo.py --config configs/ppo/embedded.yaml
    accelerate launch --config_file configs/accelerate/multi_gpu.yaml training/ppo.py \
        --config configs/ppo/gpt2_sd15_pickscore.yaml
    python training/ppo.py --config configs/ppo/embedded.yaml --queries my_prompts.txt --reward_func my_rewards:length

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint, or
`--dry_run` to see what a run takes, without weights and without a GPU.
"""

import sys

from accelerate import PartialState
from trl import ModelConfig, TrlParser

from neuroprompt.planning import for_any_machine
from neuroprompt.ppo import PPOConfig, TrainingStopped
from neuroprompt.ppo.training import QueryArguments, train_ppo
from neuroprompt.scoring import RewardArguments


def main() -> None:
    parser = TrlParser((QueryArguments, RewardArguments, PPOConfig, ModelConfig), description=__doc__.split("\n")[0])
    stopped = None
    with for_any_machine(sys.argv):
        arguments = parser.parse_args_and_config()
    try:
        train_ppo(*arguments)
    except TrainingStopped as reason:
        stopped = f"stopped: {reason}"
    PartialState().destroy_process_group()  # or its threads may abort the interpreter's exit
    sys.exit(stopped)


if __name__ == "__main__":
    main()
