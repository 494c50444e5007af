"""Raw prompts in, training data out.

python scripts/prepare_data.py --source prompts.parquet --output data/mine --evaluation_files partiprompts.txt
python scripts/prepare_data.py --source poloclub/diffusiondb --source_config 2m_text_only --output data/diffusiondb
"""

from dataclasses import dataclass, field

from trl import TrlParser

from neuroprompt.data import DataConfig, prepare


@dataclass
class OutputArguments:
    output: str = field(metadata={"help": "Folder to write: pairs, plain prompts, a data card."})


def main() -> None:
    output, config = TrlParser((OutputArguments, DataConfig)).parse_args_and_config()
    prepare(config).save(output.output, config)


if __name__ == "__main__":
    main()
