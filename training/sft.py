"""Supervised fine-tuning of a prompt policy.

    accelerate launch training/sft.py --config configs/sft/gpt2_diffusiondb.yaml
    accelerate launch training/sft.py --config configs/sft/embedded.yaml --source my_prompts.txt --data_dir data/mine
    torchrun --nproc_per_node 2 training/sft.py --config configs/sft/embedded.yaml      # two processes on a CPU

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint, or
`--dry_run` to see what a run takes, without weights and without a GPU.
"""

import sys

from accelerate import PartialState
from trl import ModelConfig, TrlParser

from neuroprompt.data import DataConfig
from neuroprompt.planning import for_any_machine
from neuroprompt.sft import SFTArguments, SFTConfig, train_sft


def main() -> None:
    parser = TrlParser((SFTArguments, DataConfig, SFTConfig, ModelConfig), description=__doc__.split("\n")[0])
    with for_any_machine(sys.argv):
        arguments = parser.parse_args_and_config()
    train_sft(*arguments)
    PartialState().destroy_process_group()  # or its threads may abort the interpreter's exit


if __name__ == "__main__":
    main()
