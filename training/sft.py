"""Supervised fine-tuning of a prompt policy.

    accelerate launch training/sft.py --config configs/sft/gpt2_diffusiondb.yaml
    accelerate launch training/sft.py --config configs/sft/embedded.yaml --model_name_or_path embedded \
        --data_dir data/mine --output_dir runs/mine
    torchrun --nproc_per_node 2 training/sft.py --config configs/sft/embedded.yaml --use_cpu true

The command line beats the YAML file. Add `--resume_from_checkpoint true` to go on after the last checkpoint, or
`--dry_run` to see what a run takes, without weights and without a GPU.
"""

from neuroprompt.programs import wants

wants("train")
from trl import ModelConfig

from neuroprompt.data import DataConfig
from neuroprompt.runs.arguments import read_arguments, run_training
from neuroprompt.training.sft import SFTArguments, SFTConfig, train_sft


def main() -> None:
    train_sft(*read_arguments((SFTArguments, DataConfig, SFTConfig, ModelConfig), __doc__.split("\n")[0]))


if __name__ == "__main__":
    run_training(main)
