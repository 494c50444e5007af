"""Checkpoints that are whole or not there, and runs that end where they were to end, however often they are killed."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import get_last_checkpoint

from neuroprompt.files import write_file

STAGING = "unfinished"  # the folder that checkpoints are written to before they get their name


class WholeCheckpoints(Trainer):
    """A `Trainer` whose checkpoints get their names when they are whole, so that a kill never leaves half a one.

    The library writes file by file under the checkpoint's own name: a kill in between would leave half a checkpoint to
    resume from. Here it writes to another folder beside it, which is then renamed.

    And a run that is taken up from its last step is at its end: the library would do another one.
    """

    _staging: Path | None = None  # while a checkpoint is being written
    _resumed: TrainerState | None = None  # as the run was when it ended

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As `Trainer.train`."""
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        state = Path(last or "", "trainer_state.json")
        self._resumed = TrainerState.load_from_json(str(state)) if last and state.is_file() else None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def set_initial_training_values(self, *args, **kwargs):
        epochs, *others, max_steps = super().set_initial_training_values(*args, **kwargs)
        over = self._resumed is not None and self._is_over(self._resumed, max_steps)
        return (0 if over else epochs, *others, max_steps)

    def _is_over(self, resumed: TrainerState, max_steps: int) -> bool:
        """Whether a run that is taken up here is at its end."""
        return resumed.global_step >= max_steps

    def _kept(self) -> set[Path]:
        """Checkpoints of the run that `save_total_limit` leaves alone, beside the last one."""
        return {Path(best)} if (best := self.state.best_model_checkpoint) else set()

    def _save_more(self, folder: Path) -> None:
        """What a checkpoint holds beside the library's; called on the process that saves."""

    def save_beside(self, run: Path) -> None:
        """What lies beside the policy in the run's own folder; called on the main process."""

    def _save_checkpoint(self, model, trial) -> None:
        run = Path(super()._get_output_dir(trial))
        written = run / STAGING / f"checkpoint-{self.state.global_step}"
        final = run / written.name
        if self.args.should_save:
            shutil.rmtree(run / STAGING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = run / STAGING
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        if self.state.best_model_checkpoint == str(written):
            self.state.best_model_checkpoint = str(final)
        if self.args.should_save and not self.args.save_only_model:
            self._save_more(written)
        if self.args.should_save:
            self.state.save_to_json(written / "trainer_state.json")
        # One process names the folder; on machines without a common disk one on each does.
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            _put_in_place(written, final)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_local_main_process and written.is_dir():
            _put_in_place(written, final)
        if self.args.should_save:
            shutil.rmtree(run / STAGING, ignore_errors=True)
            _rotate(run, self.args.save_total_limit, self._kept())

    def _get_output_dir(self, trial) -> str:
        return str(self._staging or super()._get_output_dir(trial))


def save_policy(trainer: "WholeCheckpoints") -> None:
    """Save what was trained to the run's own folder, and its log; each file gets its name when it is whole."""
    run = Path(trainer.args.output_dir)
    trainer.save_model(str(run / STAGING))
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_local_main_process and (run / STAGING).is_dir():
        (run / STAGING / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle, which nothing needs beside the policy
        for path in (run / STAGING).iterdir():
            os.replace(path, run / path.name)
        (run / STAGING).rmdir()
    if trainer.accelerator.is_main_process:
        trainer.save_beside(run)
        write_file(run / "log_history.json", json.dumps(trainer.state.log_history, indent=1).encode())


def checkpoints(run: str | Path) -> dict[int, Path]:
    """The checkpoints in a run's folder by their steps, the oldest first."""
    there = {int(folder.name.rpartition("-")[2]): folder for folder in Path(run).glob("checkpoint-*[0-9]")}
    return dict(sorted(there.items()))


def checkpoint_to_resume(config: TrainingArguments) -> str | None:
    """What `resume_from_checkpoint` stands for: a folder, or None for a fresh start.

    Raises:
        ValueError: There is no such folder.
    """
    wanted = config.resume_from_checkpoint
    if wanted is None or str(wanted).lower() in {"false", "no"}:
        return None
    if str(wanted).lower() in {"true", "last"}:
        return get_last_checkpoint(config.output_dir) if Path(config.output_dir).is_dir() else None
    if not Path(wanted).is_dir():
        raise ValueError(f"there is no checkpoint {wanted}")
    return str(wanted)


# --- details -----------------------------------------------------------------------------------------------------


def _put_in_place(written: Path, final: Path) -> None:
    if final.exists():  # of a run that went on from before it
        os.replace(final, written.parent / "replaced")
    os.replace(written, final)


def _rotate(run: Path, limit: int | None, kept: Collection[Path]) -> None:
    """Delete the oldest checkpoints beyond `limit`, but none that is `kept`; each loses its name before its files."""
    if not limit or limit < 0:
        return
    there = list(checkpoints(run).values())
    kept = {folder.resolve() for folder in kept}
    extra = len(there) - limit
    for folder in there[:-1]:
        if extra <= 0:
            break
        if folder.resolve() not in kept:
            doomed = run / STAGING / folder.name
            doomed.parent.mkdir(exist_ok=True)
            os.replace(folder, doomed)
            extra -= 1
    shutil.rmtree(run / STAGING, ignore_errors=True)
