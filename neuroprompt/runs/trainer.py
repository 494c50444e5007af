"""`RunTrainer`: what a trainer of this project is beside the library's."""

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import ProgressCallback, TrainerCallback

from neuroprompt.formats import CONTINUE, PromptFormat
from neuroprompt.runs.checkpoints import WholeCheckpoints
from neuroprompt.runs.deepspeed import Float32Weights
from neuroprompt.terminal import errors, say


class TrainingStopped(RuntimeError):
    """The run stopped itself; the message says why, and the last checkpoint is whole.

    Attributes:
        kept: The checkpoint that the trainer's model has gone back to, where it has.
    """

    def __init__(self, reason: str, kept: Path | None = None):
        super().__init__(reason)
        self.kept = kept


class RunTrainer(Float32Weights, WholeCheckpoints):
    """A base for trainers, before the library's: checkpoints that are whole, `bf16` that means the same everywhere, and
    a bar in the place of the library's dictionaries (which `disable_tqdm` leaves as they are).

    Args:
        prompt_format: How the policy is asked, and its answer read; it is saved with the policy wherever that is.
    """

    def __init__(self, *args, prompt_format: PromptFormat = CONTINUE, **kwargs):
        self.prompt_format = prompt_format
        super().__init__(*args, **kwargs)
        self._bar = StepBar()
        if not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(self._bar)

    def train(self, *args, **kwargs):
        """As `Trainer.train`."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._bar.close()  # the library does not end what an error ends

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.prompt_format.save(output_dir or self.args.output_dir)


class StepBar(TrainerCallback):
    """A bar over the steps with the last log beside it; a line for each log where nobody watches a terminal."""

    def __init__(self):
        self.progress: Progress | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        columns = (
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=errors, disable=not errors.is_terminal)
        self.progress.start()
        self.task = self.progress.add_task("", total=state.max_steps, completed=state.global_step, shown="")

    def on_step_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = _shown(logs or {})
        if not self.progress or not line:
            return
        self.progress.update(self.task, shown=line)
        if not errors.is_terminal:
            say(f"step {state.global_step}/{state.max_steps}  {line}")

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        if self.progress:
            self.progress.stop()
            self.progress = None


def _shown(logs: dict[str, float]) -> str:
    """The few numbers of a log that say how a run goes; all of them are in the reports and in log_history.json."""
    names = _OF_REWARDS if any("reward" in key for key in logs) else _OF_PAIRS  # a loss of PPO says nothing
    judges = {key: key.replace("eval_", "held-out ") for key in logs if key.startswith(("judge/", "eval_judge/"))}
    names = names | {key: name for key, name in judges.items() if not key.endswith(("_sft", "_plain"))}
    return "  ".join(f"{name} {logs[key]:.4g}" for key, name in names.items() if logs.get(key) is not None)


_OF_REWARDS = {
    "reward": "reward",
    "kl": "KL",
    "distinct_tails": "distinct",
    "unparsed": "unparsed",
    "kept": "words kept",
    "images_per_s": "images/s",
    "eval_reward": "held-out reward",
    "eval_reward_sft": "before training",
    "eval_reward_plain": "plain",
}
_OF_PAIRS = {"loss": "loss", "eval_loss": "held-out loss"}
