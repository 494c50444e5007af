"""Raw prompts in, training data out.

python scripts/prepare_data.py --source prompts.txt --output data/mine --evaluation_files configs/ppo/queries/test.txt
python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only --output data/diffusiondb
"""

from dataclasses import dataclass, field
from pathlib import Path

from neuroprompt.programs import run, wants

wants("train")
from neuroprompt.data import DataConfig, check_folder, prepare
from neuroprompt.files import sole_writer
from neuroprompt.runs.arguments import read_arguments


@dataclass
class OutputArguments:
    output: str = field(metadata={"help": "The folder to write: pairs, plain prompts, a data card."})


def main() -> None:
    to, config = read_arguments((OutputArguments, DataConfig), __doc__.split("\n")[0])
    check_folder(to.output, [config.source, *config.evaluation_files])
    Path(to.output).parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(to.output):
        prepare(config).save(to.output, config)


if __name__ == "__main__":
    run(main)
