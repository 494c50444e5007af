"""Prepared data, of which only what people usually write behind such prompts stays, to train a policy on once more.

python scripts/fitting_data.py --data data/embedded --output data/embedded-fitting
"""

from dataclasses import dataclass, field
from pathlib import Path

from neuroprompt.programs import run, wants

wants("train")
from neuroprompt.data import DataConfig, PromptData, check_folder
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.training.fitting import FittingConfig, keep_fitting


@dataclass
class FittingArguments:
    data: str = field(metadata={"help": "A folder that scripts/prepare_data.py wrote."})
    output: str = field(metadata={"help": "The folder to write, of the same kind."})
    num_proc: int = field(default=2, metadata={"help": "How many processes work at it."})


def main() -> None:
    arguments, config = read_arguments((FittingArguments, FittingConfig), __doc__.split("\n")[0])
    check_folder(arguments.output, [arguments.data])
    data = PromptData.load(arguments.data)
    data.pairs = keep_fitting(data.pairs, config, arguments.num_proc)
    data.counts["pairs whose modifiers fit the prompt"] = sum(map(len, data.pairs.values()))
    data.save(arguments.output, DataConfig(source=str(Path(arguments.data))))


if __name__ == "__main__":
    run(main)
