"""Supervised fine-tuning: the policy learns to continue plain prompts the way expert users do.

TRL's `SFTTrainer` does the training; what stands here is what the project adds: where the pairs come from, and a table
of sample rewrites at each evaluation. `training/sft.py` is the entry point.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import trl
from transformers import Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import ModelConfig, SFTTrainer, get_peft_config

from neuroprompt.data import DataConfig, PromptData, prepare
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.files import sole_writer
from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.runs.checkpoints import WholeCheckpoints, checkpoint_to_resume, save_policy
from neuroprompt.runs.deepspeed import Float32Weights
from neuroprompt.runs.samples import show_samples
from neuroprompt.runs.sizes import GlobalBatch
from neuroprompt.runs.start import announce, check, prepare_first, writing
from neuroprompt.training.planning import only_planned, plan_sft


@dataclass
class SFTConfig(GlobalBatch, trl.SFTConfig):
    """TRL's, with pairs of a step that are counted over all processes."""


@dataclass
class SFTArguments:
    """What `training/sft.py` takes beside `SFTConfig`, TRL's `ModelConfig` and `DataConfig`.

    Args:
        data_dir: Folder of prepared data. Made from `source` where it does not exist yet.
        eval_samples: At most so many validation pairs are evaluated.
        sample_prompts: Plain prompts that are rewritten at each evaluation, to be read by a person.
        dry_run: Print what the run would take (`neuroprompt.training.planning`), and stop before anything is loaded.
    """

    data_dir: str = field(default="", metadata={"help": "Folder of prepared data; made from `source` if it is absent."})
    eval_samples: int = field(default=2000, metadata={"help": "At most so many validation pairs are evaluated."})
    sample_prompts: list[str] = field(
        default_factory=lambda: [
            "boy on a horse",
            "a castle",
            "portrait of an old fisherman",
            "a bowl of strawberries",
        ],
        metadata={"help": "Plain prompts that are rewritten at each evaluation."},
    )
    dry_run: bool = field(default=False, metadata={"help": "Print models, memory and steps, and stop."})


def train_sft(arguments: SFTArguments, data_config: DataConfig, config: SFTConfig, model_config: ModelConfig) -> None:
    """Train and save the policy to `config.output_dir`.

    `config.resume_from_checkpoint` takes a checkpoint folder, or "true" for the last one of `config.output_dir` (and
    starts afresh where there is none, so that one command starts and resumes a run).
    """
    check(config, model_config)
    if not arguments.data_dir:
        raise ValueError("data_dir is not set: give a folder of prepared data, or where to put it")
    if only_planned(plan_sft(arguments, config, model_config), arguments.dry_run):
        return
    with writing(config):
        data = load_or_prepare(arguments.data_dir, data_config, config)
        if "validation" not in data.pairs:
            raise ValueError(
                f"{arguments.data_dir} has no validation split: 1 % of the prompts, so some hundreds are needed"
            )
        validation = data.pairs["validation"]
        settings = {
            "attn_implementation": model_config.attn_implementation,
            "dtype": model_config.dtype,
            "revision": model_config.model_revision,
            "trust_remote_code": config.trust_remote_code,
            **(config.model_init_kwargs or {}),
        }
        config.model_init_kwargs = None  # for a model that TRL would load
        trainer = PolicyTrainer(
            model=load_policy(model_config.model_name_or_path, **settings),
            processing_class=load_tokenizer(model_config.model_name_or_path, revision=model_config.model_revision),
            args=config,
            train_dataset=data.pairs["train"],
            eval_dataset=validation.select(range(min(arguments.eval_samples, len(validation)))),
            peft_config=get_peft_config(model_config),
        )
        trainer.add_callback(SampleRewrites(trainer, arguments.sample_prompts))
        announce(trainer, f"{len(trainer.train_dataset):,} pairs")
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(config))
        metrics = trainer.evaluate()
        save_policy(trainer)
        trainer.accelerator.print(f"held-out loss {metrics['eval_loss']:.4f}; the policy is in {config.output_dir}")


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


class PolicyTrainer(Float32Weights, WholeCheckpoints, SFTTrainer):
    """`SFTTrainer`, with the same pairs in a step on any number of processes, and plain cross-entropy on a CPU.

    TRL computes the loss in chunks of the vocabulary, forwards and backwards, so that the logits are never held at
    once. That saves memory on a GPU; on a CPU with a small vocabulary it only costs time.
    """

    def _get_train_sampler(self, train_dataset=None):
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.batch_size = self.args.minibatch_size  # the library groups what one process takes of it
        return sampler

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.accelerator.device.type == "cpu":
            return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class SampleRewrites(TrainerCallback):
    """At each evaluation: rewrites of a few prompts (`samples.show_samples`)."""

    def __init__(self, trainer: SFTTrainer, prompts: list[str]):
        self.trainer = trainer
        self.prompts = prompts

    def on_evaluate(self, args, state, control, **kwargs):
        if not state.is_world_process_zero or not self.prompts:
            return
        pairs = list(zip(self.prompts, self._rewrite(), strict=True))
        show_samples(args.output_dir, state.global_step, ("plain", "rewritten"), pairs, dict(pairs))

    def _rewrite(self) -> list[str]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        was_training = model.training
        enhancer = PromptEnhancer(model, deepcopy(self.trainer.processing_class))
        rewrites = [result.text for result in enhancer(self.prompts)]
        model.train(was_training)
        return rewrites
