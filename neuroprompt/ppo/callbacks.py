"""What a person sees of PPO at each evaluation: the first held-out prompts, rewritten and drawn."""

import math
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from neuroprompt.formats import PromptFormat
from neuroprompt.pages.grid import Grid, draw_cells, save_grid
from neuroprompt.ppo.answers import finished
from neuroprompt.ppo.evaluation import Rewrite, Sample
from neuroprompt.ppo.reward_functions import unwrapped

COLUMNS = ("plain", "reference", "policy", "reward")


def sample_rows(samples: list[Sample]) -> tuple[list[tuple[str, ...]], list[dict]]:
    """The samples as rows of the table with these columns, and as what is kept of them (`runs.samples.SampleTable`)."""
    rows = [
        (s.plain.prompt, s.sft.completion, s.policy.completion, f"{s.sft.reward:.3f} → {s.policy.reward:.3f}")
        for s in samples
    ]
    return rows, [
        {
            "prompt": sample.plain.prompt,
            **{
                name: {"text": rewrite.completion, "reward": r if math.isfinite(r := rewrite.reward) else None}
                for name, rewrite in sample._asdict().items()
            },
        }
        for sample in samples
    ]


class SamplePictures(TrainerCallback):
    """Draws the samples, where the reward can (`neuroprompt.scoring.PromptReward`): as `pictures/step-N.png` in the
    run's folder and in the reports (TensorBoard, trackio)."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_evaluate(self, args, state, control, **kwargs):
        functions = [inner for f in self.trainer.reward_funcs for inner in unwrapped(f)]
        reward = next((f for f in functions if hasattr(f, "measure") and hasattr(f, "seeds")), None)
        if reward is None or not state.is_world_process_zero or not self.trainer.samples:
            return
        path = Path(args.output_dir, "pictures", f"step-{state.global_step:06d}.png")
        _draw(reward, self.trainer.samples, self.trainer.prompt_format, path, f"step {state.global_step}")
        self._report(path, state.global_step)

    def _report(self, path: Path, step: int) -> None:
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                picture = np.asarray(Image.open(path).convert("RGB"))
                callback.tb_writer.add_image("samples", picture, step, dataformats="HWC")
        if "trackio" in (self.trainer.args.report_to or []):
            import trackio

            trackio.log({"samples": trackio.Image(str(path)), "train/global_step": step})


def _draw(reward, samples: list[Sample], prompt_format: PromptFormat, path: Path, title: str) -> None:
    """A grid: a row for each sample with the pictures of the prompt as it is, of the reference's rewrite, and ours."""

    def text(rewrite: Rewrite) -> str:
        answer = finished(prompt_format, rewrite.prompt, rewrite.completion, rewrite.ended, reward.window)
        return answer.text or rewrite.prompt

    texts = [[*map(text, sample)] for sample in samples]
    originals = [sample.plain.prompt for sample in samples]
    rows = draw_cells(originals, texts, reward, lambda original: reward.seeds(original)[:1])
    save_grid(Grid(rows, COLUMNS[:3], title=title), path)
