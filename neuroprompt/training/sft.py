"""Supervised fine-tuning: the policy learns to continue plain prompts the way expert users do, or to retell them.

TRL's `SFTTrainer` does the training; what stands here is what the project adds: where the pairs come from, how the
policy is asked (`neuroprompt.formats`), and a table of sample rewrites at each evaluation. `training/sft.py` is the
entry point.
"""

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import ModelConfig, SFTTrainer, get_peft_config

from neuroprompt.data import DataConfig, PromptData, prepare
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.files import sole_writer
from neuroprompt.formats import CONTINUE, NAMED, PromptFormat, control_tokens
from neuroprompt.runs.samples import SampleTable
from neuroprompt.runs.sizes import GlobalBatch
from neuroprompt.runs.start import prepare_first
from neuroprompt.runs.trainer import RunTrainer
from neuroprompt.terminal import say
from neuroprompt.training.formats import FormatArguments
from neuroprompt.training.muon import Muon
from neuroprompt.training.planning import plan_sft
from neuroprompt.training.run import load_model, run

MOST_REPEATED = 20  # times that a pair of a rare medium is in the data


@dataclass
class SFTConfig(GlobalBatch, trl.SFTConfig):
    """TRL's, with pairs of a step that are counted over all processes."""


@dataclass
class SFTArguments(FormatArguments):
    """What `training/sft.py` takes beside `SFTConfig`, TRL's `ModelConfig` and `DataConfig`.

    Args:
        data_dir: A folder of prepared data. It is made from `source` where it does not exist yet.
        medium_share: The share of training pairs that are told the medium that they name, where the policy's tokenizer
            has tokens for media, drawn from a hash of the pair. The others are told of any, as held-out pairs are.
        medium_floor: Training pairs of a rare medium (pixel art, prints) are repeated until they are this share of all,
            at most 20 times: what a policy has hardly seen it cannot write.
        muon: Train hidden matrices with Muon, in the place of `optim`: for a policy from scratch, in few steps.
        eval_samples: At most so many validation pairs are evaluated.
        sample_prompts: Plain prompts that are rewritten at each evaluation, to be read by a person.
        dry_run: Print what the run would take (models, memory, steps), and stop before anything is loaded.
    """

    data_dir: str = ""
    medium_share: float = 0.7
    medium_floor: float = 0.0
    muon: bool = False
    eval_samples: int = 2000
    sample_prompts: list[str] = field(
        default_factory=lambda: [
            "boy on a horse",
            "a castle",
            "portrait of an old fisherman",
            "a bowl of strawberries",
        ]
    )
    dry_run: bool = False


def train_sft(
    arguments: SFTArguments, data_config: DataConfig, config: SFTConfig, model_config: ModelConfig
) -> "PolicyTrainer | None":
    """Train on the pairs of prepared data: see `neuroprompt.training.run.run`."""
    if not arguments.data_dir:
        raise ValueError("data_dir is not set: give a folder of prepared data, or where to put it")
    if not 0 <= arguments.medium_share <= 1:
        raise ValueError(f"medium_share is {arguments.medium_share}: give a number from 0 to 1")
    if not 0 <= arguments.medium_floor <= 0.1:
        raise ValueError(f"medium_floor is {arguments.medium_floor}: give a number from 0 to 0.1")
    if arguments.muon and (config.deepspeed_plugin or config.fsdp):
        raise ValueError(
            "muon needs whole matrices, and DeepSpeed and FSDP cut them: leave it out, or train without them"
        )
    return run(
        config,
        model_config,
        arguments.dry_run,
        partial(plan_sft, arguments, config, model_config),
        partial(_trainer, arguments, data_config, config, model_config),
    )


def _trainer(
    arguments: SFTArguments, data_config: DataConfig, config: SFTConfig, model_config: ModelConfig
) -> "PolicyTrainer":
    pairs = load_or_prepare(arguments.data_dir, data_config, config).pairs
    if "validation" not in pairs:
        raise ValueError(
            f"{arguments.data_dir} has no validation split: 1 % of the prompts, so some hundreds are needed"
        )
    pairs["validation"] = pairs["validation"].select(range(min(arguments.eval_samples, len(pairs["validation"]))))
    asked = arguments.asked or format_of_data(arguments.data_dir)
    policy, tokenizer, prompt_format = load_model(config, model_config, asked)
    if arguments.medium_floor:
        pairs["train"] = repeat_rare_media(pairs["train"], arguments.medium_floor)
    with config.main_process_first(desc="asking"):
        if prompt_format.replaces:
            pairs = encode_answers(pairs, tokenizer, prompt_format, config)
        else:
            pairs = tell_media(in_template(pairs, prompt_format.template), tokenizer, arguments.medium_share)
    trainer = PolicyTrainer(
        model=policy,
        processing_class=tokenizer,
        args=config,
        train_dataset=pairs["train"],
        eval_dataset=pairs["validation"],
        peft_config=get_peft_config(model_config),
        optimizer_cls_and_kwargs=_muon(config) if arguments.muon else None,
        prompt_format=prompt_format,
    )

    def samples() -> tuple[list[tuple[str, str]], dict[str, str]]:
        rewrites = dict(zip(arguments.sample_prompts, trainer.rewrite(arguments.sample_prompts), strict=True))
        return list(rewrites.items()), rewrites

    trainer.add_callback(SampleTable(("plain", "rewritten"), samples))
    return trainer


def _muon(config: SFTConfig) -> tuple[Callable[[], type[Muon]], dict[str, Any]]:
    """As the library takes an optimizer that wants the whole model."""
    return lambda: Muon, {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
        "weight_decay": config.weight_decay,
    }


def load_or_prepare(folder: str, data_config: DataConfig, config: SFTConfig) -> PromptData:
    """The prepared data of `folder`, made once (by the main process) if there is none."""
    with config.main_process_first(desc="preparing the data"):
        if not Path(folder).exists():
            if not data_config.source:
                raise ValueError(f"there is no {folder}, and no source to make it from: {prepare_first(folder)}")
            Path(folder).parent.mkdir(parents=True, exist_ok=True)
            with sole_writer(folder):
                prepare(data_config).save(folder, data_config)
    return PromptData.load(folder)


def repeat_rare_media(pairs: Dataset, floor: float) -> Dataset:
    """The pairs, and those of each rare medium again, until they are `floor` of `pairs` or there 20 times."""
    media = pairs["medium"][:]
    counts = Counter(medium for medium in media if medium)
    times = {medium: min(MOST_REPEATED, round(floor * len(pairs) / count)) for medium, count in counts.items()}
    again = [i for i, medium in enumerate(media) for _ in range(times.get(medium, 1) - 1)]
    return pairs.select([*range(len(pairs)), *again])


def format_of_data(folder: str | Path) -> PromptFormat:
    """What the pairs of prepared data are for."""
    made = json.loads(Path(folder, "config.json").read_text("utf-8"))
    return NAMED[made.get("format") or "continue"]


def in_template(pairs: DatasetDict, template: str) -> DatasetDict:
    """The pairs with their prompts as they are asked, of a policy that continues these."""
    if template == CONTINUE.template:
        return pairs
    return pairs.map(lambda prompt: {"prompt": template.replace("{prompt}", prompt)}, input_columns="prompt")


def tell_media(pairs: DatasetDict, tokenizer: PreTrainedTokenizerBase, share: float) -> DatasetDict:
    """The pairs with the token of their medium before the prompt, where the tokenizer has such tokens.

    Args:
        pairs: With the columns `prompt`, `completion` and `medium`.
        tokenizer: The policy's.
        share: Of the training pairs that are told their own; a policy must be able to do without.
    """
    told = control_tokens(tokenizer)
    if not told[""]:
        return pairs
    if "medium" not in pairs["train"].column_names:
        raise ValueError("the pairs do not say which media they name: prepare the data again")

    def tell(row: dict, share: float) -> dict:
        drawn = blake2b((row["prompt"] + row["completion"]).encode(), digest_size=1).digest()[0]
        return {"prompt": told[row["medium"] if drawn < int(256 * share) else ""] + row["prompt"]}

    return DatasetDict(
        {name: split.map(tell, fn_kwargs={"share": share if name == "train" else 0}) for name, split in pairs.items()}
    )


def encode_answers(
    pairs: DatasetDict, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat, config: SFTConfig
) -> DatasetDict:
    """The pairs as tokens: all that a policy reads of the prompt, which is no part of the loss, its answer, and the
    token that ends it. A pair that is longer than `config.max_length` is left out: half an answer would not end.

    Args:
        pairs: With the columns `prompt` and `completion`, the whole answer.
        tokenizer: The policy's.
        prompt_format: One that replaces.
        config: Of it `max_length` and `dataset_num_proc` are read.

    Returns:
        With the further columns `input_ids` and `completion_mask`, as TRL takes what needs no preparation.

    Raises:
        ValueError: No training pair is short enough.
    """
    # Chat templates end where an answer begins; behind "Rephrase:" it begins with a blank.
    gap = "" if prompt_format.ask(tokenizer, "a fox")[-1].isspace() else " "
    most, end = config.max_length or 10**9, tokenizer.eos_token_id

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        asked = prompt_format.encode(tokenizer, rows["prompt"])
        texts = [gap + answer.strip() for answer in rows["completion"]]
        answers = [[*ids, end] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        return {
            "input_ids": [a + b for a, b in zip(asked, answers, strict=True)],
            "completion_mask": [[0] * len(a) + [1] * len(b) for a, b in zip(asked, answers, strict=True)],
        }

    encoded = pairs.map(encode, batched=True, num_proc=config.dataset_num_proc)
    short = encoded.filter(lambda ids: len(ids) <= most, input_columns="input_ids", num_proc=config.dataset_num_proc)
    before, there = len(encoded["train"]), len(short["train"])
    if not there:
        least = min(map(len, encoded["train"]["input_ids"]))
        raise ValueError(f"max_length is {most}, and the shortest training pair has {least} tokens: raise it")
    if there < before and not config.process_index:
        say(f"{before - there:,} of {before:,} training pairs are longer than max_length ({most}), and left out")
    return short


class ShuffledGroups(LengthGroupedSampler):
    """Batches of texts of similar lengths, in random order.

    The library's own go from long texts to short ones, fifty batches at a time, and over those a policy unlearns the
    long ones: it is at its worst where the fifty end, which is where one logs, evaluates and saves.
    """

    def __iter__(self):
        indices = list(super().__iter__())
        whole = len(indices) - len(indices) % self.batch_size  # what is left for the last batch stays the last
        batches = torch.tensor(indices[:whole], dtype=torch.long).view(-1, self.batch_size)
        shuffled = batches[torch.randperm(len(batches), generator=self.generator)]
        return iter(shuffled.flatten().tolist() + indices[whole:])


class PolicyTrainer(RunTrainer, SFTTrainer):
    """`SFTTrainer`, with the same pairs in a step on any number of processes, and plain cross-entropy on a CPU.

    TRL computes the loss in chunks of the vocabulary, forwards and backwards, so that the logits are never held at
    once. That saves memory on a GPU; on a CPU with a small vocabulary it only costs time.
    """

    def _get_train_sampler(self, train_dataset=None):
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):  # of what one process takes of a step
            return ShuffledGroups(self.args.minibatch_size, lengths=sampler.lengths, generator=sampler.generator)
        return sampler

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.accelerator.device.type == "cpu":
            return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def rewrite(self, prompts: list[str]) -> list[str]:
        """What the policy makes of plain prompts as it is now: nothing is left out of it, and nothing forced on it."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        enhancer = PromptEnhancer(model, deepcopy(self.processing_class), self.prompt_format)
        rewrites = enhancer(prompts, coherent=False, keep_words=False, output_scores=False)
        model.train(was_training)
        return [result.text for result in rewrites]
