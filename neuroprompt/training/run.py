"""The course of every training, whichever trainer does it: check, plan, load, train, evaluate, save.

What cannot work is refused before anything is loaded, and what is asked for twice (a dry run, an interrupted run taken
up again) is asked for in the same way everywhere. What is trained, on what, is each training's own: `sft`, `ppo`,
`grpo`.
"""

from collections.abc import Callable
from typing import NoReturn

from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig

from neuroprompt.formats import PromptFormat
from neuroprompt.policies import load_policy, load_tokenizer, saved_format
from neuroprompt.programs import Stopped
from neuroprompt.runs.checkpoints import checkpoint_to_resume, save_policy
from neuroprompt.runs.start import check, quiet, writing
from neuroprompt.runs.trainer import TrainingStopped
from neuroprompt.training.planning import Plan, only_planned
from neuroprompt.wire import Unavailable


def run(
    config: TrainingArguments,
    model_config: ModelConfig,
    dry_run: bool,
    plan: Callable[[], Plan],
    make_trainer: Callable[[], Trainer],
) -> Trainer | None:
    """Train, evaluate, and save the policy to `config.output_dir`; with `dry_run`, only say what that takes.

    `config.resume_from_checkpoint` takes a checkpoint folder, or "true" for the last one of `config.output_dir` (and
    starts afresh where there is none, so that one command starts and resumes a run).

    Args:
        config, model_config: As `make_trainer` reads them.
        dry_run: Stop once the plan is shown.
        plan: Says what the run takes. It refuses what cannot be.
        make_trainer: Loads data and models; called while no other run can write to `config.output_dir`.

    Raises:
        Unavailable: What draws or judges is behind URLs, and none of its servers answers any more.
        TrainingStopped: A guard stopped the run; where its policy went back to a checkpoint, that one is saved.
    """
    quiet()
    check(config, model_config)
    if only_planned(plan(), dry_run):
        return None
    with writing(config):
        trainer = make_trainer()
        say = trainer.accelerator.print
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        say(
            f"{trainer.accelerator.num_processes} process(es) on {trainer.accelerator.device.type}, "
            f"{trained / 1e6:.1f} M trainable parameters, {len(trainer.train_dataset):,} examples"
        )
        stopped = None
        try:
            trainer.train(resume_from_checkpoint=checkpoint_to_resume(config))
        except KeyboardInterrupt:
            _interrupted(config)
        except Unavailable as gone:
            raise Unavailable(f"{gone}; {_what_stays(config)}", gone.retry_after) from gone
        except TrainingStopped as reason:
            if reason.kept is None:
                raise
            stopped = reason
        if trainer.eval_dataset is not None:
            say(_summary(trainer.evaluate()))
        save_policy(trainer)
        say(f"the policy is in {config.output_dir}")
        if stopped:
            raise stopped
    return trainer


def load_model(
    config: TrainingArguments, model_config: ModelConfig, asked: PromptFormat | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PromptFormat]:
    """The policy that training begins with, as `model_config` and the trainer's `model_init_kwargs` say, and how it is
    asked: as given, or by default as it was before.

    Raises:
        ModelError: It cannot be loaded, is not what its config says, or cannot be asked so.
    """
    source = model_config.model_name_or_path or "embedded"
    settings = {
        "attn_implementation": model_config.attn_implementation,
        "dtype": model_config.dtype,
        "revision": model_config.model_revision,
        "trust_remote_code": getattr(config, "trust_remote_code", False),
        **(config.model_init_kwargs or {}),
    }
    # What is left is for the reference model, which TRL's trainers load by themselves.
    config.model_init_kwargs = (
        {"revision": revision} if (revision := settings["revision"]) not in (None, "main") else None
    )
    tokenizer = load_tokenizer(source, revision=revision)
    prompt_format = asked or saved_format(source, tokenizer, revision)
    prompt_format.check(tokenizer, source)
    return load_policy(source, **settings), tokenizer, prompt_format


# --- what is said at the end -------------------------------------------------------------------------------------


def _interrupted(config: TrainingArguments) -> NoReturn:
    """Say what stays after Ctrl-C, and how to go on; one of the processes does."""
    if config.process_index:
        raise SystemExit(130)
    raise Stopped(f"stopped: {_what_stays(config)}")


def _what_stays(config: TrainingArguments) -> str:
    if last := get_last_checkpoint(config.output_dir):
        return f"{last} stays; the same command with --resume_from_checkpoint true goes on from there"
    return f"{config.output_dir} holds no checkpoint yet; the same command begins again"


def _summary(metrics: dict[str, float]) -> str:
    """What came of held-out data, in a line."""
    if "eval_reward" not in metrics:
        return f"held-out loss {metrics['eval_loss']:.4f}"
    parts = [f"held-out reward {metrics['eval_reward']:.4g}"]
    for name, label in (("sft", "before training"), ("plain", "prompts as they are")):
        if f"eval_reward_{name}" not in metrics:
            continue
        part = f"{label} {metrics[f'eval_reward_{name}']:.4g}"
        if f"eval_gain_over_{name}_low" in metrics:
            gain, low, high = (metrics[f"eval_gain_over_{name}{end}"] for end in ("", "_low", "_high"))
            part += f" (gain {gain:+.2f} [{low:+.2f}, {high:+.2f}])"
        parts.append(part)
    return "; ".join(parts)
