"""Raw prompts in, training data out.

python scripts/prepare_data.py --source prompts.parquet --output data/mine --evaluation_files partiprompts.txt
python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only --output data/diffusiondb
"""

from dataclasses import dataclass, field
from pathlib import Path

from neuroprompt.programs import run
from trl import TrlParser

from neuroprompt.data import DataConfig, check_folder, prepare
from neuroprompt.files import sole_writer


@dataclass
class OutputArguments:
    output: str = field(metadata={"help": "Folder to write: pairs, plain prompts, a data card."})


def main() -> None:
    parser = TrlParser((OutputArguments, DataConfig), description=__doc__.split("\n")[0])
    output, config = parser.parse_args_and_config()
    check_folder(output.output, [config.source, *config.evaluation_files])
    Path(output.output).parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(output.output):
        prepare(config).save(output.output, config)


if __name__ == "__main__":
    run(main)
