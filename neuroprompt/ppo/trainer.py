"""PPO for language models, with rewards that are functions of texts.

Schulman et al. 2017 (arXiv 1707.06347) as Ziegler et al. 2019 (arXiv 1909.08593) brought it to language models, with
the details that matter (Huang et al. 2024, arXiv 2403.17031). What is *not* here is `transformers.Trainer`'s: the loop,
gradient accumulation, mixed precision, schedules, checkpoints, callbacks, reports and processes.

An iteration begins when the buffer of rollouts is used up: every process lets the policy continue its share of the
prompts and has them rewarded, then all share what came out, so that each holds the same buffer. From it come
`num_ppo_epochs` passes of minibatches, of which each process takes its part. So statistics are over all processes, and
a run on two processes does the same as one on one.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerControl, set_seed

from neuroprompt.formats import CONTINUE, PromptFormat
from neuroprompt.models import synchronize
from neuroprompt.policies import load_policy, load_tokenizer, saved_format
from neuroprompt.ppo.actor import Actor, Written
from neuroprompt.ppo.advantages import (
    against_others,
    explained_variance,
    flat_groups,
    gae,
    token_rewards,
    whiten,
    win_rates,
)
from neuroprompt.ppo.callbacks import COLUMNS, SamplePictures, sample_rows
from neuroprompt.ppo.checkpoints import PPOCheckpoints
from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.critic import PredictorCritic
from neuroprompt.ppo.evaluation import Rewrite, Sample, evaluation_metrics, judged
from neuroprompt.ppo.guards import JUDGE
from neuroprompt.ppo.kl import estimate_kl, steer
from neuroprompt.ppo.losses import ppo_loss, token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, disable_dropout
from neuroprompt.ppo.predicted import learning
from neuroprompt.ppo.reward_functions import RewardFunc, as_lists, over_processes, weighted_sum
from neuroprompt.ppo.rollouts import EVALUATION, MINIBATCHES, TRAINING, QuerySampler, Rollouts, diversity, generator
from neuroprompt.ppo.state import PPOState
from neuroprompt.runs.samples import SampleTable

logger = get_logger(__name__)

_UPDATE_METRICS = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "value_clip_fraction")


class PPOTrainer(PPOCheckpoints):
    """Improves a causal language model by PPO.

    Args:
        model: A model, a `PeftModel`, or a name: ``embedded``, a folder, a hub id. The reference that the KL penalty
            holds it to is the model as it is given: a frozen copy, or with `peft_config` the model with its adapters
            switched off.
        reward_funcs: One function or several, with the signature of TRL's trainers: called as ``f(prompts=,
            completions=, completion_ids=, trainer_state=, log_metric=, **columns)`` (only with those of these arguments
            that it takes), it returns a float for each completion, or None where it does not apply. A coroutine
            function is awaited. `completions` are what the policy wrote, without special tokens: what it added, or
            where its text replaces the prompt, this text as it is (`answers.OfAnswers` reads it). In training there is
            a column ``visit``, the iteration. ``log_metric(name, value)`` puts a number into the log; one that is
            called ``judge/…`` is watched beside the reward (`guards`).
        args: See `PPOConfig`.
        train_dataset: Rows with a `prompt`, a text; further columns go to the reward functions.
        eval_dataset: Likewise, held out; or several, by name.
        processing_class: The tokenizer; by default the model's.
        reward_weights: Of the reward functions; 1 each by default.
        peft_config: Train adapters only.
        prompt_format: How the policy is asked, and how its answer is read; by default as it says itself where `model`
            is a name, and else it continues the prompt.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        ValueError: Arguments that do not go together.

    Examples:
        >>> def reward(prompts, completions, **columns):
        ...     return [float("oil painting" in c) for c in completions]
        >>> trainer = PPOTrainer("embedded", reward, PPOConfig("runs/oil"), Dataset.from_dict({"prompt": prompts}))
        >>> trainer.train()
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: RewardFunc | Sequence[RewardFunc],
        args: PPOConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_weights: Sequence[float] | None = None,
        peft_config=None,
        prompt_format: PromptFormat | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        args = args or PPOConfig("ppo")
        set_seed(args.seed)  # adapters are drawn at random
        if isinstance(model, str):
            name, model = model, load_policy(model, **{"dtype": torch.float32} | (args.model_init_kwargs or {}))
            processing_class = processing_class or load_tokenizer(name)
            prompt_format = prompt_format or saved_format(name, processing_class)
        tokenizer = processing_class or load_tokenizer(model.config._name_or_path)
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-sequence token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # what is padding is said by masks, never by this id
        self.reward_funcs, self.reward_weights = as_lists(reward_funcs, reward_weights)
        _check_columns(train_dataset, eval_dataset)
        policy, self.reference = _policy_and_reference(model, args, peft_config)
        super().__init__(
            model=policy,
            args=args,
            data_collator=list,  # rows stay as they are until the policy reads them
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
            prompt_format=prompt_format or CONTINUE,
        )
        self._refuse_what_does_not_work()
        self.model_accepts_loss_kwargs = False  # the loss is scaled here, for accumulation and processes alike
        device = self.accelerator.device
        if self.reference is not None:
            self.reference.to(device)
        self.actor = Actor(self.model, self.reference, tokenizer, args, device, self.prompt_format)
        self.critic: PredictorCritic | None = None
        if args.critic == "predictor":
            (learns,) = learning(self.reward_funcs)
            written = args.completions_per_prompt - args.plain_completions
            self.critic = PredictorCritic(learns, tokenizer, self.model.config.vocab_size, written)
        if self.prompt_format.replaces and train_dataset is not None:  # one that is too long is said now
            self.actor.ask(sorted(train_dataset["prompt"], key=len)[-16:])
        self.ppo_state = PPOState(args.kl_coef)
        self.rollouts: Rollouts | None = None
        self.micro_step = 0  # forward and backward passes so far
        self.samples: list[Sample] = []  # of the last evaluation
        self._baselines: dict[str, tuple[Dataset, list[Rewrite], list[Rewrite]]] = {}
        self._left_out = False  # whether this optimizer step is
        self._update_started = self._update_seconds = 0.0
        self._step_kl = torch.zeros((), device=device)
        self._updates = torch.zeros(len(_UPDATE_METRICS), device=device)
        self._updates_since_log = 0
        self.add_callback(_AtStepEnd(self._end_step))
        self.add_callback(SampleTable(COLUMNS, lambda: sample_rows(self.samples)))
        self.add_callback(SamplePictures(self))

    def _refuse_what_does_not_work(self) -> None:
        if self.args.critic == "predictor" and len(list(learning(self.reward_funcs))) != 1:
            raise ValueError("critic: predictor asks the rewards' reward model of texts: set predictor, such as to new")
        if self.args.critic == "predictor" and self.prompt_format.replaces:
            raise ValueError(
                "critic: predictor reads the beginnings of rewrites, and the policy's text replaces the prompt: set "
                "critic to policy or copy"
            )
        if self.args.min_modifiers and self.prompt_format.replaces:
            raise ValueError(
                f"min_modifiers is {self.args.min_modifiers}, and the policy's text replaces the prompt: leave it out"
            )
        if self.args.n_gpu > 1:
            raise ValueError(f"{self.args.n_gpu} GPUs in one process: start one process each with `accelerate launch`")
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if self.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3):
            raise ValueError(
                "FSDP and ZeRO-3 cut the policy's weights into pieces, and sampling needs them whole: use plain data "
                "parallelism or DeepSpeed ZeRO-1 or -2 (configs/accelerate), and LoRA where memory is short"
            )

    # --- the loop ------------------------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Which batch of rollouts the next update reads."""
        return self.micro_step // self.micro_steps_per_iteration

    def get_train_dataloader(self) -> DataLoader:
        """Each process' share of every batch of rollouts, once for each of the updates that are made from it."""
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset")
        batch, size = self.args.rollout_batch_size, len(self.train_dataset)
        copies = self.args.completions_per_prompt
        steps_per_epoch = size // (batch // copies) * self.args.steps_per_iteration
        sampler = QuerySampler(
            size,
            batch,
            copies,
            self.micro_steps_per_iteration,
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            # As `Trainer` counts; so a resumed run finds the permutation of the pass that it was in.
            epoch=lambda: self.state.global_step // steps_per_epoch,
        )
        share = batch // self.accelerator.num_processes
        loader = DataLoader(self.train_dataset, batch_size=share, sampler=sampler, collate_fn=list)
        return self.accelerator.prepare(loader)

    def training_step(self, model, inputs: list[dict], num_items_in_batch=None) -> Tensor:
        """One minibatch of the buffer, which is filled first where it is used up; `inputs` are the process' prompts."""
        micro = self.micro_step % self.micro_steps_per_iteration
        if micro == 0:
            self.rollouts = self._collect(inputs)
        if micro % self.args.gradient_accumulation_steps == 0:
            self._update_started = time.perf_counter()
            self._left_out = self.ppo_state.skip_rest or not len(self._step_rows(micro))
            self.ppo_state.record(steps_left_out=float(self._left_out))
        loss = torch.zeros((), device=self.accelerator.device)
        if not self._left_out:  # if it is there are no gradients: optimizers do not touch a parameter without one
            loss = super().training_step(model, self._minibatch(micro))
        self.micro_step += 1
        return loss

    def _step_rows(self, micro: int) -> Tensor:
        """The rows of an optimizer step, over all processes: those that something is learnt from, shared out equally to
        the steps of a pass."""
        args, learnt = self.args, self.rollouts.learnt()
        steps = args.rollout_batch_size // args.minibatch_size
        epoch, step = divmod(micro // args.gradient_accumulation_steps, steps)
        order = generator(args.seed, MINIBATCHES, self.iteration, epoch).permutation(len(learnt))
        rows = learnt[torch.from_numpy(np.array_split(order, steps)[step])]
        # The step's gradient is a sum: rows of like length go together, for less padding.
        return rows[self.rollouts.completion_mask[rows].sum(1).argsort(stable=True)]

    def _minibatch(self, micro: int) -> dict:
        """This process' part of an optimizer step's rows, or of the `micro`-th part of them under accumulation."""
        rows, processes = self._step_rows(micro), self.accelerator.num_processes
        place = micro % self.args.gradient_accumulation_steps * processes + self.accelerator.process_index
        shares = rows.tensor_split(self.args.gradient_accumulation_steps * processes)
        return {**self.rollouts.minibatch(shares[place]), "tokens_in_step": self.rollouts.tokens(rows)}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The clipped objective with value loss and entropy bonus, per token of the whole optimizer step."""
        args = self.args
        outputs = model(inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"])
        logprobs, entropy = token_logprobs(
            outputs.logits,
            inputs["tokens"],
            args.temperature,
            inputs["closed"] if args.min_modifiers else None,
            self.processing_class.eos_token_id,
            self.actor.suppressed,
            entropy=args.entropy_coef != 0,
        )
        parts = ppo_loss(
            logprobs,
            inputs["logprobs"],
            inputs["advantages"],
            inputs["values"] if self.critic else outputs.state_values,
            inputs["values"],
            inputs["returns"],
            args.cliprange,
            args.cliprange_value,
        )
        total = parts.policy + args.vf_coef * parts.value
        if entropy is not None:
            total = total - args.entropy_coef * entropy.sum()
        # Processes' gradients are averaged and accumulated losses are divided by their number: both are undone, so that
        # the gradient is that of the mean over all tokens of the step, wherever and whenever they are computed.
        tokens = inputs["tokens_in_step"]
        loss = total * (self.accelerator.num_processes * self.current_gradient_accumulation_steps / tokens)
        with torch.no_grad():
            sums = (parts.policy, parts.value, parts.approx_kl, parts.clip_fraction, parts.value_clip_fraction)
            self._updates += torch.stack(sums).float() / tokens
            self._step_kl += parts.approx_kl.float() / tokens
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        """As the library's; a gradient that is not finite costs its step."""
        norm = super()._get_grad_norm(model, grad_norm)
        if self._left_out:
            return norm
        if norm is not None and math.isfinite(norm):
            self.ppo_state.skipped_in_a_row = 0
        else:
            self.model.zero_grad(set_to_none=True)  # DeepSpeed has left the step out by itself
            self._skip("the gradient is not finite")
        return norm

    def _end_step(self, control) -> None:
        """After an optimizer step: whether this iteration goes on, and the run; and the clock of updates."""
        if not self._left_out:
            self._updates_since_log += 1
            if self.args.target_kl is not None:
                kl = float(self.accelerator.reduce(self._step_kl, "sum"))
                self.ppo_state.skip_rest = kl > self.args.target_kl
            self._step_kl.zero_()
        last_of_iteration = not self.micro_step % self.micro_steps_per_iteration
        if last_of_iteration:
            synchronize(self.accelerator.device)
        self._update_seconds += time.perf_counter() - self._update_started
        if last_of_iteration:
            self.ppo_state.record(**{"seconds/update": self._update_seconds})
            self._update_seconds = 0.0
        if self.stopped:
            control.should_training_stop = control.should_save = control.should_log = True

    # --- rollouts ------------------------------------------------------------------------------------------------

    def _collect(self, rows: list[dict]) -> Rollouts:
        """Let the policy continue this process' prompts, have them rewarded, and share everything.

        What belongs to the completions is of those that the policy wrote; scores are of the plain ones, too."""
        self.ppo_state.skip_rest = False
        first = self.accelerator.process_index * len(rows)
        wrote = torch.tensor(self.args.wrote(len(rows)))  # a process has whole groups where there are plain ones
        plain = [row for row, written in zip(rows, wrote, strict=True) if not written]
        rows = [row for row, written in zip(rows, wrote, strict=True) if written]
        prompts, indices = [row["prompt"] for row in rows], (first + wrote.nonzero().squeeze(1)).tolist()
        with self._phase("generate"):
            queries, written = self.actor.write(self.model.policy, prompts, TRAINING, self.iteration, indices)
        gains = {}
        if self.critic:  # before the rewards are learnt
            with self._phase("critic"):
                gains = {"gains": self.critic.gains(prompts, written)}
        with self._phase("reward"):
            scores, measured = self._reward(rows, written, self.iteration)
            self.ppo_state.record(**over_processes(measured))
            if plain:
                nothing = self.actor.nothing([row["prompt"] for row in plain])
                of_plain, _ = self._reward(plain, nothing, self.iteration)
                scores, of_written = scores.new_empty(len(wrote)), scores
                scores[wrote], scores[~wrote] = of_written, of_plain
        with self._phase("logprobs"):
            measured = self.actor.measure(queries, written) | gains
        shared = self._share(
            prompt_ids=queries.ids,
            prompt_mask=queries.mask,
            completion_ids=written.ids,
            completion_mask=written.mask,
            scores=scores,
            ended=written.ended,
            **measured,
        )
        texts = gather_object([*zip(prompts, written.texts, strict=True)])
        distinct_tails, distinct_modifiers = self._diversity(texts)
        self._watch_diversity(distinct_tails)
        self.ppo_state.record(distinct_tails=distinct_tails, distinct_modifiers=distinct_modifiers)
        return self._credit(**shared)

    def _credit(
        self,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        completion_ids: Tensor,
        completion_mask: Tensor,
        scores: Tensor,
        ended: Tensor,
        logprobs: Tensor,
        values: Tensor,
        entropy: Tensor,
        reference: Tensor,
        gains: Tensor | None = None,
    ) -> Rollouts:
        """What each token of the rollouts is to be credited with: scores into rewards, these into advantages.

        Args:
            prompt_ids, prompt_mask: (rows, prompt)
            scores: Of the plain completions of each prompt, too. (rows and plain ones,)
            ended: (rows,)
            gains: What a `PredictorCritic` reads, whose the values then are. (rows, completion)
            others: (rows, completion)
        """
        args, state, mask, group = self.args, self.ppo_state, completion_mask, self.args.completions_per_prompt
        divergence = ((logprobs - reference) * mask).sum(1).mean().item()
        coef = state.kl_coef
        wrote = torch.tensor(args.wrote(len(scores)), device=scores.device)
        flat = flat_groups(scores, group)
        left_out = flat if args.skip_flat_groups else torch.zeros_like(flat)
        if bool(scores.isfinite().all()):
            earned = against_others(win_rates(scores, group) if args.win_rates else scores, group)
            if not bool(left_out.all()):
                state.moments.update(earned[~left_out])
            earned = state.moments.normalise(earned) if args.normalize_rewards else earned
            earned = earned[wrote] - args.missing_eos_penalty * ~ended
            state.kl_coef = steer(coef, divergence, args.kl_target, args.kl_gain)
        else:
            self._skip(f"{int((~scores.isfinite()).sum())} of {len(scores)} rewards are not finite")
            state.skip_rest = True
            earned = torch.zeros_like(scores[wrote])
        if self.critic:
            unit = state.moments.std if args.normalize_rewards else 1.0
            values = self.critic.values(gains, mask, unit)
        rewards = token_rewards(earned.float(), estimate_kl(logprobs, reference, args.kl_estimator), mask, coef)
        advantages, returns = gae(rewards, values, mask, args.gamma, args.lam)
        if self.critic and bool(scores.isfinite().all()):
            self.critic.learn(gains, mask, unit, returns)
        learnt = mask * ~left_out[wrote][:, None]
        keep, finite = mask.bool(), scores[wrote & scores.isfinite()]
        if group > 1:
            state.record(flat_groups=flat.float().mean().item())
        if len(finite):
            state.record(reward=finite.mean().item(), reward_std=finite.std(unbiased=False).item())
        state.record(
            kl=divergence,
            kl_coef=coef,
            entropy=entropy[keep].mean().item(),
            completion_length=mask.sum(1).float().mean().item(),
            eos_rate=ended.float().mean().item(),
            value_mean=values[keep].mean().item(),
            return_mean=returns[keep].mean().item(),
            explained_variance=explained_variance(values, returns, mask),
        )
        return Rollouts(
            prompt_ids=prompt_ids.cpu(),
            prompt_mask=prompt_mask.cpu(),
            completion_ids=completion_ids.cpu(),
            completion_mask=learnt.cpu(),
            closed=self.actor.closed(completion_ids).cpu(),
            logprobs=logprobs.cpu(),
            values=values.cpu(),
            advantages=(whiten(advantages, learnt) if args.whiten_advantages else advantages).cpu(),
            returns=returns.cpu(),
        )

    def _reward(
        self, rows: list[dict], written: Written, visit: int | None = None
    ) -> tuple[Tensor, dict[str, list[float]]]:
        """The weighted sum of the reward functions, (rows,), not finite where none of them applies; and what they have
        measured by the way. In training `visit` is the iteration."""
        scores, measured = weighted_sum(
            self.reward_funcs,
            self.reward_weights,
            prompts=[row["prompt"] for row in rows],
            completions=written.texts,
            completion_ids=written.tokens,
            trainer_state=self.state,
            **{name: [row[name] for row in rows] for name in rows[0] if name != "prompt"},
            **({} if visit is None else {"visit": [visit] * len(rows)}),
        )
        return scores.to(self.accelerator.device), measured

    def _share(self, **tensors: Tensor) -> dict[str, Tensor]:
        """Everybody's rows, in the order of the processes; prompts are padded on the left, the rest on the right."""
        shared = {}
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                tensor = self.accelerator.pad_across_processes(tensor, dim=1, pad_first=name.startswith("prompt"))
            shared[name] = self.accelerator.gather(tensor)
        return shared

    @contextmanager
    def _phase(self, name: str):
        """Clock a part of the iteration."""
        start = time.perf_counter()
        yield
        synchronize(self.accelerator.device)  # what was only queued would be clocked as the next part
        self.ppo_state.record(**{f"seconds/{name}": time.perf_counter() - start})

    def _diversity(self, written: Sequence[tuple[str, str]]) -> tuple[float, float]:
        """How unlike texts are that were written to prompts (`rollouts.diversity`)."""
        prompts, texts = zip(*written, strict=True)
        return diversity(texts, prompts if self.prompt_format.replaces else None)

    # --- guards --------------------------------------------------------------------------------------------------

    def _skip(self, cause: str) -> None:
        state = self.ppo_state
        state.skipped += 1
        state.skipped_in_a_row += 1
        logger.warning(f"step {self.state.global_step}: {cause}: the batch is skipped ({state.skipped} so far)")
        if state.skipped_in_a_row >= self.args.max_skipped_batches:
            self.stopped = f"{state.skipped_in_a_row} batches in a row were skipped, the last because {cause}"
            state.skipped_in_a_row = 0  # for the run that goes on from here

    def _watch_diversity(self, distinct_tails: float) -> None:
        collapsed = distinct_tails < self.args.min_distinct_tails
        if collapsed and not self.ppo_state.collapsed:
            cause = (
                f"only {distinct_tails:.0%} of the completions differ (min_distinct_tails is "
                f"{self.args.min_distinct_tails:.0%}): raise kl_coef, entropy_coef or temperature"
            )
            if self.args.stop_on_collapse:
                self.stopped = cause
            else:
                logger.warning(f"step {self.state.global_step}: {cause}")
        self.ppo_state.collapsed = collapsed

    # --- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Reward on held-out prompts: of the policy, of the reference (with the same noise), and of the plain prompts.

        Differences are of pairs, prompt by prompt, with bootstrap intervals (95 %). Several data sets are reported
        under their names, as `Trainer` does it.
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if data is None:
            raise ValueError("evaluation needs an eval_dataset")
        if isinstance(data, dict):
            metrics: dict[str, float] = {}
            for name, part in data.items():
                metrics |= self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        start = time.perf_counter()
        if self._baselines.get(metric_key_prefix, (None,))[0] is not data:  # they do not change in a run
            with self.actor.starting_policy() as reference:
                self._baselines[metric_key_prefix] = (data, self._rewrite(data, None), self._rewrite(data, reference))
        _, plain, sft = self._baselines[metric_key_prefix]
        samples = list(map(Sample, plain, sft, self._rewrite(data, self.model.policy)))
        metrics = evaluation_metrics(samples) | judged(samples) | {"runtime": time.perf_counter() - start}
        distinct = self._diversity([(sample.policy.prompt, sample.policy.completion) for sample in samples])
        metrics |= zip(("distinct_tails", "distinct_modifiers"), distinct, strict=True)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.samples = samples[: self.args.num_samples]
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _rewrite(self, data: Dataset, policy: PreTrainedModel | None) -> list[Rewrite]:
        """Every prompt's continuation by `policy` (None: none at all) and its reward; each process does its share."""
        mine = range(self.accelerator.process_index, len(data), self.accelerator.num_processes)
        done = []
        for start in range(0, len(mine), self.args.per_device_eval_batch_size):
            indices = mine[start : start + self.args.per_device_eval_batch_size]
            rows = [data[i] for i in indices]
            prompts = [row["prompt"] for row in rows]
            if policy is None:
                written = self.actor.nothing(prompts)
            else:
                _, written = self.actor.write(policy, prompts, EVALUATION, 0, indices)
            (scores, measured), lengths = self._reward(rows, written), written.mask.sum(1).tolist()
            # What a judge says is of a batch: the mean over its rows.
            said = {name: sum(v) / len(v) for name, v in measured.items() if name.startswith(JUDGE)}
            columns = prompts, written.texts, scores.tolist(), lengths, written.ended.tolist(), [said] * len(rows)
            rewrites = map(Rewrite, *columns)
            done += zip(indices, rewrites, strict=True)
        return [rewrite for _, rewrite in sorted(gather_object(done))]

    # --- log -----------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`, with the means of what was measured since the last log."""
        if "loss" in logs:
            metrics = {name: total / count for name, (total, count) in self.ppo_state.metrics.items()}
            self.ppo_state.metrics = {}
            updates = self.accelerator.reduce(self._updates, "sum") / max(1, self._updates_since_log)
            if self._updates_since_log:
                metrics |= dict(zip(_UPDATE_METRICS, updates.tolist(), strict=True))
            self._updates.zero_()
            self._updates_since_log = 0
            metrics["skipped_batches"] = self.ppo_state.skipped
            metrics["episodes"] = -(-self.micro_step // self.micro_steps_per_iteration) * self.args.rollout_batch_size
            logs = logs | metrics
        super().log(logs, start_time)

    def floating_point_ops(self, inputs) -> int:
        """Not counted: most of the work is the rewards', which the library does not see."""
        return 0


class _AtStepEnd(TrainerCallback):
    def __init__(self, then: Callable[[TrainerControl], None]):
        self.then = then

    def on_step_end(self, args, state, control, **kwargs):
        self.then(control)


# --- details -----------------------------------------------------------------------------------------------------


def _policy_and_reference(
    model: PreTrainedModel, args: PPOConfig, peft_config
) -> tuple[PolicyWithValue, PreTrainedModel | None]:
    """The policy with its critic, and a frozen copy of it; None where it can be had by switching adapters off."""
    trunk = deepcopy(model.base_model).requires_grad_(True) if args.critic == "copy" else None
    reference = None if peft_config else deepcopy(model).requires_grad_(False).eval()
    if peft_config:
        from peft import get_peft_model

        model = get_peft_model(model, peft_config)
        if args.gradient_checkpointing:
            model.enable_input_require_grads()
    policy = PolicyWithValue(model, trunk, args.critic != "predictor")
    disable_dropout(policy)
    return policy, reference


def _check_columns(train: Dataset | None, held_out: Dataset | dict[str, Dataset] | None) -> None:
    named = held_out if isinstance(held_out, dict) else {"evaluation": held_out}
    for name, data in (named | {"train": train}).items():
        if data is not None and "prompt" not in data.column_names:
            raise ValueError(f"the {name} data has no column 'prompt'; it has {', '.join(data.column_names)}")
