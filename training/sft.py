"""Supervised fine-tuning of a prompt policy.

    accelerate launch training/sft.py --config configs/sft/gpt2_diffusiondb.yaml
    accelerate launch training/sft.py --config configs/sft/embedded.yaml --source my_prompts.txt --data_dir data/mine
    torchrun --nproc_per_node 2 training/sft.py --config configs/sft/embedded.yaml      # two processes on a CPU

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint.
"""

from accelerate import PartialState
from trl import ModelConfig, SFTConfig, TrlParser

from neuroprompt.data import DataConfig
from neuroprompt.sft import SFTArguments, train_sft


def main() -> None:
    parser = TrlParser((SFTArguments, DataConfig, SFTConfig, ModelConfig), description=__doc__.split("\n")[0])
    train_sft(*parser.parse_args_and_config())
    PartialState().destroy_process_group()  # or its threads may abort the interpreter's exit


if __name__ == "__main__":
    main()
