"""What a person sees of a run: a progress bar, and at each evaluation rewrites with their rewards and pictures."""

import math
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from neuroprompt.runs.samples import show_samples

SHOWN = {"reward": "reward", "kl": "KL", "distinct_tails": "distinct", "images_per_s": "images/s"}


class RichProgress(TrainerCallback):
    """A bar over the steps with the last log beside it; a line for each log where nobody watches a terminal."""

    def __init__(self):
        self.console = Console(stderr=True)
        self.progress: Progress | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        columns = (
            TextColumn("PPO"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.progress.start()
        self.task = self.progress.add_task("PPO", total=state.max_steps, completed=state.global_step, shown="")

    def on_step_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not self.progress or not logs:
            return
        shown = {name: logs[key] for key, name in SHOWN.items() if key in logs}
        shown |= {key: logs[key] for key in ("eval_reward", "eval_reward_sft", "eval_reward_plain") if key in logs}
        line = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if not line:
            return
        self.progress.update(self.task, shown=line)
        if not self.console.is_terminal:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {line}", highlight=False)

    def on_train_end(self, args, state, control, **kwargs):
        if self.progress:
            self.progress.stop()
            self.progress = None


class SampleTable(TrainerCallback):
    """At each evaluation the first prompts: as they are, rewritten by the reference, and by the policy.

    On the screen, in `samples.jsonl` and, where the reward draws pictures (`neuroprompt.scoring.PromptReward`), as
    `pictures/step-N.png` in the run's folder and in the reports (TensorBoard, trackio).
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, **kwargs):
        samples = self.trainer.samples
        if not state.is_world_process_zero or not samples:
            return
        folder = Path(args.output_dir)
        rows = [
            (
                sample["policy"].prompt,
                sample["sft"].completion,
                sample["policy"].completion,
                f"{sample['sft'].reward:.3f} → {sample['policy'].reward:.3f}",
            )
            for sample in samples
        ]
        columns = ("plain", "reference", "policy", "reward")
        show_samples(folder, state.global_step, columns, rows, [_record(sample) for sample in samples])
        reward = next((f for f in self.trainer.reward_funcs if hasattr(f, "measure") and hasattr(f, "seeds")), None)
        if reward is not None:
            self._draw(reward, samples, folder / "pictures" / f"step-{state.global_step:06d}.png", state.global_step)

    def _draw(self, reward, samples, path: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        from neuroprompt.completions import finish
        from neuroprompt.pages.grid import Cell, Grid, Picture, save_grid

        kinds = {"plain": "plain", "sft": "reference", "policy": "policy"}
        jobs = []  # text, original, seed
        for sample in samples:
            for kind in kinds:
                rewrite = sample[kind]
                text = finish(rewrite.prompt, rewrite.completion, rewrite.ended, reward.window)[0]
                jobs.append((text, rewrite.prompt, reward.seeds(rewrite.prompt)[0]))
        images = {}
        measured = reward.measure(*zip(*jobs, strict=True), on_image=lambda i, image: images.update({i: image.cpu()}))
        cells = [
            Cell(
                text,
                [
                    Picture(
                        images[i],
                        seed,
                        {name: float(scores[i]) for name, scores in measured.scores.items()},
                        bool(measured.flagged[i]),
                    )
                ],
                original,
            )
            for i, (text, original, seed) in enumerate(jobs)
        ]
        rows = [cells[i : i + len(kinds)] for i in range(0, len(cells), len(kinds))]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_grid(Grid(rows, list(kinds.values()), title=f"step {step}"), path)
        handler = self.trainer.callback_handler
        for callback in handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                picture = np.asarray(Image.open(path).convert("RGB"))
                callback.tb_writer.add_image("samples", picture, step, dataformats="HWC")
        if "trackio" in (self.trainer.args.report_to or []):
            import trackio

            trackio.log({"samples": trackio.Image(str(path)), "train/global_step": step})


def _record(sample: dict) -> dict:
    return {
        "prompt": sample["prompt"],
        **{
            kind: {"text": sample[kind].completion, "reward": r if math.isfinite(r := sample[kind].reward) else None}
            for kind in ("plain", "sft", "policy")
        },
    }
