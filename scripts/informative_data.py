"""Prepared data, of which only what says something about its prompt stays, by a policy that was trained on all of it.

python scripts/informative_data.py --data data/embedded --model runs/embedded/sft --output data/embedded-informative
"""

from dataclasses import dataclass, field
from pathlib import Path

from neuroprompt.programs import run, wants

wants("train")
from datasets import DatasetDict

from neuroprompt.data import DataConfig, PromptData, check_folder
from neuroprompt.models import identify, pick_device
from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.training.information import InformationConfig, keep_informative


@dataclass
class InformativeArguments:
    data: str = field(metadata={"help": "A folder that scripts/prepare_data.py wrote."})
    output: str = field(metadata={"help": "The folder to write, of the same kind."})
    model: str = field(default="embedded", metadata={"help": "The policy that says what a modifier says."})
    device: str | None = field(default=None, metadata={"help": "Where it runs; by default the accelerator, if any."})


def main() -> None:
    arguments, config = read_arguments((InformativeArguments, InformationConfig), __doc__.split("\n")[0])
    check_folder(arguments.output, [arguments.data])
    data = PromptData.load(arguments.data)
    where = pick_device(arguments.device)
    model = load_policy(arguments.model, where, dtype="float32" if where.type == "cpu" else "auto").eval()
    tokenizer, name = load_tokenizer(arguments.model), identify(arguments.model, "policy")
    data.pairs = DatasetDict(
        {split: keep_informative(pairs, model, tokenizer, config, name) for split, pairs in data.pairs.items()}
    )
    data.counts["pairs of which two modifiers say something about the prompt"] = sum(map(len, data.pairs.values()))
    data.save(arguments.output, DataConfig(source=str(Path(arguments.data))))


if __name__ == "__main__":
    run(main)
