"""The arguments of `PPOTrainer`, and of TRL's trainers where they are to count as it does."""

from dataclasses import dataclass, field
from typing import ClassVar

import trl
from transformers import TrainingArguments

from neuroprompt.ppo.kl import KL_ESTIMATORS
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.runs.sizes import GlobalBatch


@dataclass
class Iterations(GlobalBatch):
    """A base for a `TrainingArguments` of a trainer that learns from what the policy writes.

    An *iteration* is one batch of rollouts and the `steps_per_iteration` optimizer steps made from it: so many
    minibatches, so many times. Steps (`max_steps`, `logging_steps`, `eval_steps`, `save_steps`) are optimizer steps, as
    in every `Trainer`.

    Args:
        total_episodes: Completions in the whole run, in whole iterations. `max_steps`, where it is set, comes before
            it; None leaves the length to that or to `num_train_epochs`.
        eval_iterations: Evaluate every so many iterations; sets `eval_steps`, and `eval_strategy` to steps.
        save_iterations: Write a checkpoint every so many iterations, likewise.
    """

    total_episodes: int | None = field(default=None, metadata={"help": "Completions in the whole run."})
    eval_iterations: int | None = field(default=None, metadata={"help": "Evaluate every so many iterations."})
    save_iterations: int | None = field(default=None, metadata={"help": "Write a checkpoint every so many iterations."})

    # Other defaults than the libraries'.
    logging_steps: float | None = field(default=None, metadata={"help": "Optimizer steps; by default an iteration."})

    _NAMES: ClassVar[dict[str, str]]  # what a trainer calls the arguments that the two properties below read

    @property
    def rollouts(self) -> int:
        """Completions of an iteration, over all processes."""
        return getattr(self, self._NAMES["rollouts"])

    @property
    def passes(self) -> int:
        """Over the rollouts of an iteration."""
        return getattr(self, self._NAMES["passes"])

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps made from a batch of rollouts."""
        return self.passes * self.rollouts // self.minibatch_size

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


@dataclass
class PPOConfig(Iterations, TrainingArguments):
    """What `PPOTrainer` takes beside `transformers.TrainingArguments`, of which it is one.

    An iteration (see `Iterations`) has ``num_ppo_epochs · rollout_batch_size / minibatch_size`` optimizer steps.

    Args:
        rollout_batch_size: Completions per iteration, over all processes.
        completions_per_prompt: Completions of each prompt in an iteration. With more than one, a completion earns what
            its score is above the mean of the others' (`advantages.against_others`).
        num_ppo_epochs: Passes over each batch of rollouts.
        temperature: Of sampling; all log-probabilities are those at this temperature.
        max_new_tokens: Tokens of a completion at most; None leaves that to `window`.
        window: CLIP tokens that prompt and completion may have together, as in `PromptEnhancer`; None for tasks that
            are not about image prompts.
        min_modifiers: The end token is masked, in sampling and in the update, before that many separators are
            written; `PromptEnhancer`'s default is 4.

        normalize_rewards: Subtract the mean of all rewards so far and divide by their spread.
        missing_eos_penalty: Taken from the (normalised) reward of a completion without end token.

        kl_coef: β, what a nat of divergence from the reference costs (in units of the normalised reward).
        kl_estimator: k1 or k3.
        kl_target: Nats per completion that β is steered to; None keeps β.
        kl_gain: How fast β is steered.

        gamma, lam: γ and λ of generalised advantage estimation.
        whiten_advantages: Bring the advantages of an iteration, over all processes, to mean 0 and variance 1.
        cliprange: ε of the clipped policy ratio.
        cliprange_value: How far a value may move from the old one before its loss stops to fall.
        vf_coef: Weight of the value loss.
        entropy_coef: Weight of the entropy bonus.
        target_kl: Once an update's approximate KL to the policy that made the rollouts passes this (nats per token),
            the rest of the iteration is skipped; None never does.
        separate_value_model: Read the values from a copy of the starting policy's trunk and not from the policy's own.

        min_distinct_tails: Share of different completions in a batch of rollouts below which the policy has collapsed.
        stop_on_collapse: Stop then; else warn.
        max_skipped_batches: Stop after so many batches in a row that had to be skipped, for a reward or a gradient
            that is not finite.
        num_samples: Evaluation prompts whose rewrites are shown (and drawn, where the reward can) at each evaluation.
        model_init_kwargs: For `from_pretrained`, where the model is given by its name.

    Defaults that differ from `TrainingArguments`: `learning_rate` 1e-5, `adam_epsilon` 1e-5 (Huang et al. 2024),
    one log per iteration, `metric_for_best_model` reward, no columns removed.
    """

    rollout_batch_size: int = field(default=64, metadata={"help": "Completions per iteration, over all processes."})
    completions_per_prompt: int = field(default=1, metadata={"help": "More than one are judged against each other."})
    num_ppo_epochs: int = field(default=4, metadata={"help": "Passes over each batch of rollouts."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling, and of all log-probabilities."})
    max_new_tokens: int | None = field(default=None, metadata={"help": "Tokens of a completion at most."})
    window: int | None = field(default=CLIP_WINDOW, metadata={"help": "CLIP tokens of prompt and completion."})
    min_modifiers: int = field(default=0, metadata={"help": "The end is masked before that many separators."})

    normalize_rewards: bool = field(default=True, metadata={"help": "Centre and scale rewards by a running spread."})
    missing_eos_penalty: float = field(default=0.0, metadata={"help": "Cost of a completion without end token."})

    kl_coef: float = field(default=0.05, metadata={"help": "Cost of a nat of divergence from the reference."})
    kl_estimator: str = field(default="k1", metadata={"help": "k1 or k3."})
    kl_target: float | None = field(default=None, metadata={"help": "Nats per completion to steer kl_coef to."})
    kl_gain: float = field(default=0.1, metadata={"help": "How fast kl_coef is steered."})

    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "Lambda of generalised advantage estimation."})
    whiten_advantages: bool = field(default=True, metadata={"help": "Advantages to mean 0 and variance 1."})
    cliprange: float = field(default=0.2, metadata={"help": "Of the policy ratio."})
    cliprange_value: float = field(default=0.2, metadata={"help": "Of the values."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})
    target_kl: float | None = field(default=None, metadata={"help": "Nats per token after which an update ends."})
    separate_value_model: bool = field(default=False, metadata={"help": "A critic with its own trunk."})

    min_distinct_tails: float = field(default=0.3, metadata={"help": "Share of different completions to keep."})
    stop_on_collapse: bool = field(default=False, metadata={"help": "Stop below min_distinct_tails, not only warn."})
    max_skipped_batches: int = field(default=5, metadata={"help": "Stop after so many skipped batches in a row."})
    num_samples: int = field(default=4, metadata={"help": "Evaluation prompts whose rewrites are shown."})
    model_init_kwargs: dict | str | None = field(default=None, metadata={"help": "For from_pretrained."})

    # Other defaults than the library's.
    learning_rate: float = field(default=1e-5, metadata={"help": "Of AdamW."})
    adam_epsilon: float = field(default=1e-5, metadata={"help": "Of AdamW."})
    metric_for_best_model: str | None = field(default="reward", metadata={"help": "Of the evaluation."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of it is better."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Rewards may read any column."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "There are none."})
    ddp_broadcast_buffers: bool | None = field(default=False, metadata={"help": "Buffers are constants."})

    _VALID_DICT_FIELDS: ClassVar = [*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs"]

    _NAMES: ClassVar = {"rollouts": "rollout_batch_size", "passes": "num_ppo_epochs"}

    def _derive(self) -> None:
        super()._derive()
        if self.completions_per_prompt < 1 or self.rollout_batch_size % self.completions_per_prompt:
            raise ValueError(
                f"completions_per_prompt is {self.completions_per_prompt}: it must divide rollout_batch_size, "
                f"{self.rollout_batch_size}"
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")
        if self.kl_estimator not in KL_ESTIMATORS:
            raise ValueError(f"kl_estimator is {self.kl_estimator!r}: choose from {', '.join(KL_ESTIMATORS)}")
        if self.window is None and self.max_new_tokens is None:
            raise ValueError("without a window, max_new_tokens must say where completions end")
        if self.fp16:
            raise ValueError("fp16's gradient scaler cannot leave a step out: use bf16, or float32")


@dataclass
class _Generations(Iterations):
    """A base for the configs of TRL's trainers that generate."""

    _NAMES: ClassVar = {"rollouts": "generation_batch_size", "passes": "num_iterations"}

    @property
    def rollouts(self) -> int:
        if self.generation_batch_size is not None:
            return self.generation_batch_size
        return (
            self.minibatch_size
            // self.gradient_accumulation_steps
            * (self.steps_per_generation or self.gradient_accumulation_steps)
        )


@dataclass
class GRPOConfig(_Generations, trl.GRPOConfig):
    """TRL's, with the counts of `Iterations`.

    An iteration is a generation: `generation_batch_size` completions over all processes (by default one optimizer
    step's), `num_iterations` passes.
    """


@dataclass
class RLOOConfig(_Generations, trl.RLOOConfig):
    """TRL's, likewise."""
