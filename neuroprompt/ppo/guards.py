"""What notices that a reward is being fooled: a judge beside it, and a run that goes back once the two part.

A reward that is learnt from stops to measure what it stood for once the policy has found what inflates it ("reward
overoptimization", Gao et al. 2023, arXiv 2210.10760). A *judge* measures the same completions and is not learnt from.
It is in the log as ``judge/NAME``, by `RewardArguments.judge`, or by any reward function that calls
``log_metric("judge/NAME", value)``. Where it falls while the reward rises, the reward is not to be believed any more.

All is read from the log that a run keeps in its checkpoints anyway, so a resumed run knows what it knew.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from accelerate.logging import get_logger
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import get_last_checkpoint

from neuroprompt.files import write_file
from neuroprompt.pages.page import render
from neuroprompt.pages.plots import curve_plot
from neuroprompt.ppo.predicted import learning
from neuroprompt.runs.checkpoints import checkpoints
from neuroprompt.runs.trainer import RunTrainer, TrainingStopped

logger = get_logger(__name__)

LEVEL = 0.05
JUDGE = "judge/"
PAGE = "reward_and_judge.html"


class Parting(NamedTuple):
    """A judge that falls while the reward rises.

    Attributes:
        judge: Its name.
        tau, p: Kendall's τ of the judge against time, and how likely a τ as low is without a trend.
        reward_tau: Kendall's τ of the reward.
        window: Over so many iterations.
        peak: The step at the end of that one of them whose completions the judge liked best.
    """

    judge: str
    tau: float
    p: float
    reward_tau: float
    window: int
    peak: int

    def __str__(self) -> str:
        return (
            f"the judge {self.judge} falls while the reward rises (over {self.window} iterations, Kendall's tau "
            f"{self.tau:+.2f}, p {self.p:.2g}, and {self.reward_tau:+.2f}): the reward is being fooled"
        )


def parting(log_history: Sequence[Mapping], window: int, looks: int) -> Parting | None:
    """Whether a judge falls significantly over the last `window` iterations while the reward rises.

    The test of Mann (1945) and Kendall: is the judge ordered against time? It is asked of every judge and again after
    every iteration, so its level is `LEVEL` divided by all of these questions (Bonferroni): where no judge has a trend,
    at most 5 % of whole runs have an alarm, whatever the judges' distribution. That the reward rises is its τ above 0.

    Args:
        log_history: As `TrainerState` keeps it.
        window: In iterations; earlier there is no answer.
        looks: How often a run of this length asks.
    """
    from scipy.stats import kendalltau  # a second to import

    judges = {key for entry in log_history for key in entry if key.startswith(JUDGE)}
    found = []
    for judge in sorted(judges):
        rows = [entry for entry in log_history if _known(entry, judge) and _known(entry, "reward")][-window:]
        if len(rows) < window:
            continue
        fall = kendalltau(range(window), [row[judge] for row in rows], alternative="less")
        if not fall.pvalue * looks * len(judges) <= LEVEL:  # NaN of a judge that is constant
            continue
        rise = kendalltau(range(window), [row["reward"] for row in rows])
        if rise.statistic > 0:
            peak = max(rows, key=lambda row: (row[judge], row["step"]))["step"]
            numbers = float(fall.statistic), float(fall.pvalue), float(rise.statistic)
            found.append(Parting(judge.removeprefix(JUDGE), *numbers, window, peak))
    return min(found, key=lambda parted: parted.p, default=None)


class GuardedTrainer(RunTrainer):
    """A base for trainers that learn from rewards, whose arguments are `Iterations`: it watches the judges.

    With `stop_on_overoptimization` a run ends where one parts from the reward. Its model is then that of the last
    checkpoint from before the judge's highest iteration in the window in which it fell: up to there the reward rose and
    the judge did not mind. So that there is one, the run begins with a checkpoint, and `save_total_limit` leaves those
    alone that may be gone back to. A run that is taken up after it has stopped so is at its end.

    Attributes:
        parted: The judge for which the run stops.
        stopped: Why the run stops itself, for another reason.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.parted: Parting | None = None
        self.stopped: str | None = None
        self.add_callback(_Watch(self))
        self.add_callback(JudgePage())

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As `Trainer.train`.

        Raises:
            TrainingStopped: A guard stopped the run; its last checkpoint is whole.
        """
        self.parted = self.stopped = None
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        if resume_from_checkpoint:
            for reward in learning(self.reward_funcs):
                reward.load(Path(resume_from_checkpoint))
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.parted:
            raise self._go_back(self.parted)
        if self.stopped:
            raise TrainingStopped(self.stopped)
        return output

    def _save_more(self, folder: Path) -> None:
        super()._save_more(folder)
        for reward in learning(self.reward_funcs):
            reward.save(folder, resumable=True)

    def save_beside(self, run: Path) -> None:
        super().save_beside(run)
        for reward in learning(self.reward_funcs):
            reward.save(run, resumable=False)

    def parting(self, state: TrainerState, before: int = 0) -> Parting | None:
        """Whether a judge has parted from the reward at the end of this log, or so many entries before that."""
        window = self.args.judge_window
        looks = max(1, state.max_steps // self.args.steps_per_iteration - window + 1)
        return parting(state.log_history[: len(state.log_history) - before], window, looks)

    def _go_back(self, parted: Parting) -> TrainingStopped:
        """Load the checkpoint that is kept, and say so."""
        earlier = [folder for step, folder in checkpoints(self.args.output_dir).items() if step < parted.peak]
        if not earlier:
            return TrainingStopped(f"{parted}; no checkpoint from before is left to go back to")
        self.state.best_model_checkpoint = str(earlier[-1])
        self._load_best_model()
        return TrainingStopped(
            f"{parted}. {self.args.output_dir} holds the policy of {earlier[-1].name}, from before that. Hold it "
            "closer (kl_coef; GRPO: beta), cap rewards at the plain prompt's (@plain), or reward what the judge sees. "
            "Resumed, the run stays stopped, unless with --stop_on_overoptimization false",
            earlier[-1],
        )

    def _is_over(self, resumed: TrainerState, max_steps: int) -> bool:
        if self.args.stop_on_overoptimization:
            self.parted = self.parting(resumed)
        return self.parted is not None or super()._is_over(resumed, max_steps)

    def _kept(self) -> set[Path]:
        kept = super()._kept()
        if not self.args.stop_on_overoptimization:
            return kept
        rows = [entry for entry in self.state.log_history if _known(entry, "reward")]
        since = rows[-self.args.judge_window]["step"] if len(rows) >= self.args.judge_window else 0
        there = checkpoints(self.args.output_dir)
        oldest = max((step for step in there if step < since), default=0)
        return kept | {folder for step, folder in there.items() if step >= oldest}


class _Watch(TrainerCallback):
    def __init__(self, trainer: GuardedTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if args.stop_on_overoptimization and not state.global_step:
            self.trainer._save_checkpoint(self.trainer.model, None)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not _known(logs, "reward"):
            return
        first = sum(_known(entry, "reward") for entry in state.log_history) == 1
        if args.stop_on_overoptimization and first and not any(key.startswith(JUDGE) for key in logs):
            logger.warning('no judge is logged, by log_metric("judge/NAME", value): overoptimization is not watched')
        if (parted := self.trainer.parting(state)) is None:
            return
        if args.stop_on_overoptimization:
            self.trainer.parted = parted
            control.should_training_stop = control.should_save = True
        elif self.trainer.parting(state, before=1) is None:  # said once, not at every iteration
            logger.warning(f"step {state.global_step}: {parted}; stop_on_overoptimization would stop the run")


class JudgePage(TrainerCallback):
    """`reward_and_judge.html` in the run's folder, as the run goes on: the reward and the judges, one above the other,
    of rollouts and of held-out prompts. Without a judge there is none."""

    def on_log(self, args, state, control, **kwargs):
        keys = {key for entry in state.log_history for key in entry}
        judges = sorted(key for key in keys if key.removeprefix("eval_").startswith(JUDGE))
        if not state.is_world_process_zero or not judges:
            return
        shown = ["reward", "eval_reward", *(key for key in judges if not key.endswith(("_sft", "_plain")))]
        # Of a step that was evaluated twice the first: the policy was the run's then, and not what it went back to.
        curves = {k: {e["step"]: e[k] for e in reversed(state.log_history) if _known(e, k)} for k in shown}
        plots = [curve_plot(key, sorted(points.items())) for key, points in curves.items() if len(points) > 1]
        page = render("reward_and_judge.html", title=f"{Path(args.output_dir).name}: reward and judge", plots=plots)
        write_file(Path(args.output_dir, PAGE), page.encode())


def _known(entry: Mapping, key: str) -> bool:
    return entry.get(key) is not None and math.isfinite(entry[key])
