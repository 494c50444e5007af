"""The arguments of `PPOTrainer`, and of TRL's trainers where they are to count as it does."""

from dataclasses import dataclass
from typing import ClassVar

import trl
from transformers import TrainingArguments

from neuroprompt.ppo.kl import KL_ESTIMATORS
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.runs.sizes import GlobalBatch, processes

FEWEST_IN_WINDOW = 8
"""Iterations that a trend takes: with fewer, a judge that falls each time would still be chance over a long run."""


CRITICS = ("policy", "copy", "predictor")


@dataclass
class Iterations(GlobalBatch):
    """A base for a `TrainingArguments` of a trainer that learns from what the policy writes.

    An *iteration* is one batch of rollouts and the `steps_per_iteration` optimizer steps made from it: so many
    minibatches, so many times. Steps (`max_steps`, `logging_steps`, `eval_steps`, `save_steps`) are optimizer steps, as
    in every `Trainer`.

    Args:
        total_episodes: How many completions the whole run has, in whole iterations. `max_steps`, where it is set, comes
            before it; without both the length is `num_train_epochs`.
        eval_iterations: Evaluate every so many iterations; sets `eval_steps`, and `eval_strategy` to steps.
        save_iterations: Write a checkpoint every so many iterations; sets `save_steps` likewise.
        logging_steps: Log every so many optimizer steps; by default once an iteration.

        win_rates: Learn from the share of the prompt's other completions that a completion beats, and not from its
            score (Pref-GRPO, arXiv 2508.20751). What is logged, and what chooses the best checkpoint, is the score.
        skip_flat_groups: Leave prompts out of the update whose completions all have the same score.
        plain_completions: How many of a prompt's completions are the plain prompt itself (PromptRL, arXiv 2602.01382):
            the others are compared with them, too, and no token of theirs is learnt.
        judge_window: Over how many iterations a judge must fall, while the reward rises, for the reward to count as
            fooled.
        stop_on_overoptimization: Stop then, and go back to the last checkpoint from before; do not only warn.
    """

    total_episodes: int | None = None
    eval_iterations: int | None = None
    save_iterations: int | None = None
    logging_steps: float | None = None

    win_rates: bool = False
    skip_flat_groups: bool = False
    plain_completions: int = 0
    judge_window: int = 20
    stop_on_overoptimization: bool = False

    _NAMES: ClassVar[dict[str, str]]  # what a trainer calls the arguments that the properties below read

    @property
    def rollouts(self) -> int:
        """Completions of an iteration, over all processes."""
        return getattr(self, self._NAMES["rollouts"])

    @property
    def passes(self) -> int:
        """Over the rollouts of an iteration."""
        return getattr(self, self._NAMES["passes"])

    @property
    def group(self) -> int:
        """Completions of a prompt, side by side in a batch of rollouts, the plain ones last."""
        return getattr(self, self._NAMES["group"])

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps made from a batch of rollouts."""
        return self.passes * self.rollouts // self.minibatch_size

    def wrote(self, rows: int) -> list[bool]:
        """Which of so many rows of whole groups the policy writes; the others are plain prompts."""
        return [row % self.group < self.group - self.plain_completions for row in range(rows)]

    def _derive(self) -> None:
        for name in ("rollouts", "passes"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{self._NAMES[name]} is {value}: it must be at least 1")
        if self.rollouts % self.minibatch_size:
            raise ValueError(
                f"{self._NAMES['rollouts']} is {self.rollouts}: it must be a multiple of {self.minibatch_size}, the "
                "minibatch_size (if that is not set, per_device_train_batch_size · gradient_accumulation_steps · "
                "processes)"
            )
        if self.logging_steps is None:
            self.logging_steps = self.steps_per_iteration
        for event, by_default in (("eval", None), ("save", 500)):
            iterations, given = getattr(self, f"{event}_iterations"), getattr(self, f"{event}_steps")
            if iterations is None:
                continue
            steps = iterations * self.steps_per_iteration
            if iterations < 1:
                raise ValueError(f"{event}_iterations is {iterations}: it must be at least 1")
            if given not in (by_default, steps):
                raise ValueError(
                    f"{event}_steps is {given} and {event}_iterations {iterations}, which is {steps} steps: leave one "
                    f"out (--{event}_iterations none)"
                )
            setattr(self, f"{event}_strategy", "steps")
            setattr(self, f"{event}_steps", steps)
        if self.max_steps <= 0 and self.total_episodes is not None:
            self.max_steps = -(-self.total_episodes // self.rollouts) * self.steps_per_iteration
        self._check_guards()

    def _check_guards(self) -> None:
        name, group, plain = self._NAMES["group"], self.group, self.plain_completions
        if group < 1 or self.rollouts % group:
            raise ValueError(f"{name} is {group}: it must divide {self._NAMES['rollouts']}, {self.rollouts}")
        if group < 2 and (guard := next((g for g in ("win_rates", "skip_flat_groups") if getattr(self, g)), None)):
            raise ValueError(f"{guard} compares a prompt's completions, and {name} is {group}: set it to 2 at least")
        if not 0 <= plain < group:
            raise ValueError(f"plain_completions is {plain}: it must be below {name}, {group}, and not below 0")
        if plain and self.rollouts % (group * processes()):
            raise ValueError(
                f"plain_completions is {plain}: each of {processes()} processes must have whole groups of {group} of "
                f"the {self.rollouts} completions; set {self._NAMES['rollouts']} to a multiple of {group * processes()}"
            )
        if self.judge_window < FEWEST_IN_WINDOW:
            raise ValueError(
                f"judge_window is {self.judge_window}: a trend takes {FEWEST_IN_WINDOW} iterations at least"
            )
        if not self.stop_on_overoptimization:
            return
        if getattr(self.save_strategy, "value", self.save_strategy) == "no":
            raise ValueError("stop_on_overoptimization goes back to a checkpoint, and save_strategy is no: write some")
        if self.save_total_limit == 1:
            raise ValueError("stop_on_overoptimization keeps a checkpoint beside the last: set save_total_limit to 2")


@dataclass
class PPOConfig(Iterations, TrainingArguments):
    """What `PPOTrainer` takes beside `transformers.TrainingArguments`, of which it is one.

    An iteration (see `Iterations`) has ``num_ppo_epochs · rollout_batch_size / minibatch_size`` optimizer steps.

    Args:
        rollout_batch_size: How many completions an iteration has, over all processes.
        completions_per_prompt: How many of them are of one prompt. With more than one, a completion earns what its
            score is above the mean of the others' (`advantages.against_others`).
        num_ppo_epochs: How many passes are made over each batch of rollouts.
        temperature: What completions are sampled at; all log-probabilities are those at this temperature.
        max_new_tokens: A completion has so many tokens at most; by default `window` decides.
        window: How many CLIP tokens prompt and completion may have together, as in `PromptEnhancer`; None for tasks
            that are not about image prompts.
        min_modifiers: The end token is masked, in sampling and in the update, before that many separators are
            written; `PromptEnhancer`'s default is 4.

        normalize_rewards: Whether the mean of all rewards so far is subtracted, and their spread divided by.
        missing_eos_penalty: What a completion without an end token costs, of its (normalised) reward.

        kl_coef: β, what a nat of divergence from the reference costs (in units of the normalised reward).
        kl_estimator: How the divergence is estimated: k1 or k3.
        kl_target: How many nats a completion β is steered to; None keeps β.
        kl_gain: How fast β is steered.

        gamma: γ, the discount of generalised advantage estimation.
        lam: λ of generalised advantage estimation.
        whiten_advantages: Bring the advantages of an iteration, over all processes, to mean 0 and variance 1.
        cliprange: ε of the clipped policy ratio.
        cliprange_value: How far a value may move from the old one before its loss stops to fall.
        vf_coef: The weight of the value loss.
        entropy_coef: The weight of the entropy bonus.
        target_kl: Once an update's approximate KL to the policy that made the rollouts passes this (nats a token), the
            rest of the iteration is skipped; None never does.
        critic: What the values are read from: ``policy``, its last hidden states; ``copy``, those of a copy of the
            starting policy's trunk; ``predictor``, what a reward model of texts says of a rewrite's beginnings.

        min_distinct_tails: The share of different completions in a batch of rollouts below which the policy has
            collapsed.
        stop_on_collapse: Stop then, and do not only warn.
        max_skipped_batches: Stop after so many batches in a row that had to be skipped, for a reward or a gradient
            that is not finite.
        num_samples: How many evaluation prompts have their rewrites shown (and drawn, where the reward can) at each
            evaluation.
        model_init_kwargs: What `from_pretrained` gets, where the model is given by its name.

        learning_rate: AdamW's learning rate, at its highest.
        adam_epsilon: AdamW's ε (Huang et al. 2024).
        metric_for_best_model: Which metric of the evaluation chooses the best checkpoint.
        greater_is_better: Whether more of that metric is better.
        remove_unused_columns: Whether the data's further columns are dropped; rewards may read them.
        ddp_find_unused_parameters: What `DistributedDataParallel` is told; there are none.
        ddp_broadcast_buffers: What `DistributedDataParallel` is told; buffers are constants.
    """

    rollout_batch_size: int = 64
    completions_per_prompt: int = 1
    num_ppo_epochs: int = 4
    temperature: float = 1.0
    max_new_tokens: int | None = None
    window: int | None = CLIP_WINDOW
    min_modifiers: int = 0

    normalize_rewards: bool = True
    missing_eos_penalty: float = 0.0

    kl_coef: float = 0.05
    kl_estimator: str = "k1"
    kl_target: float | None = None
    kl_gain: float = 0.1

    gamma: float = 1.0
    lam: float = 0.95
    whiten_advantages: bool = True
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    entropy_coef: float = 0.0
    target_kl: float | None = None
    critic: str = "policy"

    min_distinct_tails: float = 0.3
    stop_on_collapse: bool = False
    max_skipped_batches: int = 5
    num_samples: int = 4
    model_init_kwargs: dict | str | None = None

    # Other defaults than the library's.
    learning_rate: float = 1e-5
    adam_epsilon: float = 1e-5
    metric_for_best_model: str | None = "reward"
    greater_is_better: bool | None = True
    remove_unused_columns: bool | None = False
    ddp_find_unused_parameters: bool | None = False
    ddp_broadcast_buffers: bool | None = False

    _VALID_DICT_FIELDS: ClassVar = [*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs"]

    _NAMES: ClassVar = {"rollouts": "rollout_batch_size", "passes": "num_ppo_epochs", "group": "completions_per_prompt"}

    def _derive(self) -> None:
        super()._derive()
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")
        if self.kl_estimator not in KL_ESTIMATORS:
            raise ValueError(f"kl_estimator is {self.kl_estimator!r}: choose from {', '.join(KL_ESTIMATORS)}")
        if self.critic not in CRITICS:
            raise ValueError(f"critic is {self.critic!r}: choose from {', '.join(CRITICS)}")
        if self.window is None and self.max_new_tokens is None:
            raise ValueError("without a window, max_new_tokens must say where completions end")
        if self.fp16:
            raise ValueError("fp16's gradient scaler cannot leave a step out: use bf16, or float32")


@dataclass
class _Generations(Iterations):
    """A base for the configs of TRL's trainers that generate."""

    _NAMES: ClassVar = {"rollouts": "generation_batch_size", "passes": "num_iterations", "group": "num_generations"}

    @property
    def rollouts(self) -> int:
        if self.generation_batch_size is not None:
            return self.generation_batch_size
        return (
            self.minibatch_size
            // self.gradient_accumulation_steps
            * (self.steps_per_generation or self.gradient_accumulation_steps)
        )

    def _check_guards(self) -> None:
        super()._check_guards()
        if self.plain_completions and self.mask_truncated_completions:
            raise ValueError("mask_truncated_completions reads each completion's last token, and plain ones have none")


@dataclass
class GRPOConfig(_Generations, trl.GRPOConfig):
    """TRL's, with the counts of `Iterations`.

    An iteration is a generation: `generation_batch_size` completions over all processes (by default one optimizer
    step's), `num_iterations` passes.
    """


@dataclass
class RLOOConfig(_Generations, trl.RLOOConfig):
    """TRL's, likewise."""
