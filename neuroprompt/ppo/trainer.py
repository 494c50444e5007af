"""PPO for language models, with rewards that are functions of texts.

Schulman et al. 2017 (arXiv 1707.06347) as Ziegler et al. 2019 (arXiv 1909.08593) brought it to language models, with
the details that matter (Huang et al. 2024, arXiv 2403.17031). What is *not* here is `transformers.Trainer`'s: the loop,
gradient accumulation, mixed precision, schedules, checkpoints, callbacks, reports and processes.

An iteration begins when the buffer of rollouts is used up: every process lets the policy continue its share of the
prompts and has them rewarded, then all share what came out, so that each holds the same buffer. From it come
`num_ppo_epochs` passes of minibatches, of which each process takes its part. So statistics are over all processes, and
a run on two processes does the same as one on one.
"""

import json
import math
import time
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from neuroprompt.models import synchronize
from neuroprompt.policies import load_policy, load_tokenizer
from neuroprompt.ppo.advantages import against_others, explained_variance, gae, token_rewards, whiten
from neuroprompt.ppo.callbacks import RichProgress, SampleTable
from neuroprompt.ppo.config import PPOConfig
from neuroprompt.ppo.kl import KLController, estimate_kl
from neuroprompt.ppo.losses import ppo_loss, token_logprobs
from neuroprompt.ppo.model import PolicyWithValue, completion_logits, disable_dropout, in_eval_mode
from neuroprompt.ppo.reward_functions import RewardFunc, as_lists, over_processes, weighted_sum
from neuroprompt.ppo.rollouts import (
    EVALUATION,
    MINIBATCHES,
    TRAINING,
    Queries,
    QuerySampler,
    Rollouts,
    diversity,
    encode,
    eos_closed,
    generator,
    model_inputs,
    row_noise,
    sample,
)
from neuroprompt.ppo.state import PPOState
from neuroprompt.runs.checkpoints import WholeCheckpoints
from neuroprompt.runs.deepspeed import Float32Weights
from neuroprompt.statistics import compare

logger = get_logger(__name__)

STATE_FILE = "ppo_state.json"
ROLLOUTS_FILE = "rollouts.safetensors"
_UPDATE_METRICS = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "value_clip_fraction")


class TrainingStopped(RuntimeError):
    """The run stopped itself; the message says why, and the last checkpoint is whole."""


class Written(NamedTuple):
    """What a policy wrote.

    Attributes:
        ids, mask: (rows, length), padded on the right.
        ended: Whether it came to the end token by itself. (rows,)
        tokens: The ids of each row, without padding.
        texts: Without special tokens.
    """

    ids: Tensor
    mask: Tensor
    ended: Tensor
    tokens: list[list[int]]
    texts: list[str]


class Rewrite(NamedTuple):
    """What became of an evaluation prompt."""

    prompt: str
    completion: str
    reward: float
    length: int
    ended: bool


class PPOTrainer(Float32Weights, WholeCheckpoints):
    """Improves a causal language model by PPO.

    Args:
        model: A model, a `PeftModel`, or a name: ``embedded``, a folder, a hub id. The reference that the KL penalty
            holds it to is the model as it is given: a frozen copy, or with `peft_config` the model with its adapters
            switched off.
        reward_funcs: One function or several, with the signature of TRL's trainers: called as ``f(prompts=,
            completions=, completion_ids=, trainer_state=, log_metric=, **columns)`` (only with those of these arguments
            that it takes), it returns a float for each completion, or None where it does not apply. A coroutine
            function is awaited. `completions` are what the policy added, without special tokens; ``log_metric(name,
            value)`` puts a number into the log.
        args: See `PPOConfig`.
        train_dataset: Rows with a `prompt`, a text; further columns go to the reward functions.
        eval_dataset: Likewise, held out; or several, by name.
        processing_class: The tokenizer; by default the model's.
        reward_weights: Of the reward functions; 1 each by default.
        peft_config: Train adapters only.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        ValueError: Arguments that do not go together.

    Example:
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
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        args = args or PPOConfig("ppo")
        set_seed(args.seed)  # adapters are drawn at random
        if isinstance(model, str):
            name, model = model, _load(model, args.model_init_kwargs or {})
            processing_class = processing_class or load_tokenizer(name)
        tokenizer = processing_class or load_tokenizer(model.config._name_or_path)
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end-of-sequence token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # what is padding is said by masks, never by this id
        self.reward_funcs, self.reward_weights = as_lists(reward_funcs, reward_weights)
        for name, data in _by_name(eval_dataset, "train", train_dataset).items():
            if "prompt" not in data.column_names:
                raise ValueError(f"the {name} data has no column 'prompt'; it has {', '.join(data.column_names)}")

        trunk = deepcopy(model.base_model).requires_grad_(True) if args.separate_value_model else None
        self.reference = None if peft_config else deepcopy(model).requires_grad_(False).eval()
        if peft_config:
            from peft import get_peft_model

            model = get_peft_model(model, peft_config)
            if args.gradient_checkpointing:
                model.enable_input_require_grads()
        policy = PolicyWithValue(model, trunk)
        disable_dropout(policy)
        super().__init__(
            model=policy,
            args=args,
            data_collator=list,  # rows stay as they are until the policy reads them
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self._refuse_what_does_not_work()
        self.model_accepts_loss_kwargs = False  # the loss is scaled here, for accumulation and processes alike
        if self.reference is not None:
            self.reference.to(self.accelerator.device)
        self._positions = getattr(model.config, "max_position_embeddings", None) or 10**9
        self._separators = torch.tensor(
            [
                any(mark in (token or "") for mark in ",;|")
                for token in tokenizer.convert_ids_to_tokens(range(model.config.vocab_size))
            ],
            device=self.accelerator.device,
        )
        self.ppo_state = PPOState(args.kl_coef)
        self.rollouts: Rollouts | None = None
        self.samples: list[dict] = []  # of the last evaluation
        self.stopped: str | None = None
        self._baselines: dict[str, tuple[Dataset, list[Rewrite], list[Rewrite]]] = {}
        self._micro_step = 0
        self._gradient_norm = 0.0  # of this optimizer step, before clipping
        self._left_out = False  # whether this optimizer step is
        self._update_started = self._update_seconds = 0.0
        self._step_kl = torch.zeros((), device=self.accelerator.device)
        self._updates = torch.zeros(len(_UPDATE_METRICS), device=self.accelerator.device)
        self._updates_since_log = 0
        self.add_callback(_Guard(self))
        self.add_callback(SampleTable(self))
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(RichProgress)

    def _refuse_what_does_not_work(self) -> None:
        if self.args.n_gpu > 1:
            raise ValueError(f"{self.args.n_gpu} GPUs in one process: start one process each with `accelerate launch`")
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if self.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3):
            raise ValueError(
                "FSDP and ZeRO-3 cut the policy's weights into pieces, and sampling needs them whole: use plain data "
                "parallelism or DeepSpeed ZeRO-1 or -2 (configs/accelerate), and LoRA where memory is short"
            )

    # --- the loop ------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As `Trainer.train`.

        Raises:
            TrainingStopped: A guard stopped the run; its last checkpoint is whole.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"there is no checkpoint in {self.args.output_dir}")
        self.stopped, self.rollouts, self._micro_step = None, None, 0
        if resume_from_checkpoint:
            self._load_state(Path(resume_from_checkpoint))
        output = super().train(resume_from_checkpoint or None, *args, **kwargs)
        if self.stopped:
            raise TrainingStopped(self.stopped)
        return output

    @property
    def micro_steps_per_iteration(self) -> int:
        return self.args.steps_per_iteration * self.args.gradient_accumulation_steps

    @property
    def iteration(self) -> int:
        """Which batch of rollouts the next update reads."""
        return self._micro_step // self.micro_steps_per_iteration

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
        micro = self._micro_step % self.micro_steps_per_iteration
        accumulation = self.args.gradient_accumulation_steps
        if micro == 0:
            self.rollouts = self._collect(inputs)
        if micro % accumulation == 0:
            self._update_started = time.perf_counter()
            self._left_out = self.ppo_state.skip_rest
            self.ppo_state.record(steps_left_out=float(self._left_out))
        loss = torch.zeros((), device=self.accelerator.device)
        # A step that is left out has no gradients, and optimizers do not touch a parameter without one.
        if not self._left_out:
            loss = super().training_step(model, self._minibatch(micro))
            if (micro + 1) % accumulation == 0:
                self._end_of_step()
        self._micro_step += 1
        return loss

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
            entropy=args.entropy_coef != 0,
        )
        parts = ppo_loss(
            logprobs,
            inputs["logprobs"],
            inputs["advantages"],
            outputs.state_values,
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
        """As the library's, and kept: whether it is finite decides on the step (see `_Guard`)."""
        norm = super()._get_grad_norm(model, grad_norm)
        self._gradient_norm = math.nan if norm is None else float(norm)
        return norm

    def _minibatch(self, micro: int) -> dict:
        """This process' part of an optimizer step's rows, or of the `micro`-th part of them under accumulation."""
        args, size = self.args, self.args.minibatch_size
        epoch, micro = divmod(micro, len(self.rollouts) // size * args.gradient_accumulation_steps)
        step, part = divmod(micro, args.gradient_accumulation_steps)
        order = generator(args.seed, MINIBATCHES, self.iteration, epoch).permutation(len(self.rollouts))
        rows = torch.from_numpy(order[step * size : (step + 1) * size])
        # The step's gradient is a sum: rows of like length go together, for less padding.
        rows = rows[self.rollouts.completion_mask[rows].sum(1).argsort(stable=True)]
        share = args.per_device_train_batch_size
        first = (part * self.accelerator.num_processes + self.accelerator.process_index) * share
        return {
            **self.rollouts.minibatch(rows[first : first + share]),
            "tokens_in_step": self.rollouts.tokens(rows),
        }

    def _end_of_step(self) -> None:
        self._updates_since_log += 1
        if self.args.target_kl is not None:
            kl = float(self.accelerator.reduce(self._step_kl, "sum"))
            self.ppo_state.skip_rest = kl > self.args.target_kl
        self._step_kl.zero_()

    # --- rollouts ------------------------------------------------------------------------------------------------

    def _collect(self, rows: list[dict]) -> Rollouts:
        """Let the policy continue this process' prompts, have them rewarded, and share everything."""
        args, state = self.args, self.ppo_state
        state.skip_rest = False
        first = self.accelerator.process_index * len(rows)
        with self._phase("generate"):
            queries, written = self._write(
                self.model.policy, rows, TRAINING, self.iteration, range(first, first + len(rows))
            )
        with self._phase("reward"):
            scores = self._reward(rows, written, log=True)
        with self._phase("logprobs"):
            measured = self._measure(queries, written)
        shared = self._share(
            prompt_ids=queries.ids,
            prompt_mask=queries.mask,
            completion_ids=written.ids,
            completion_mask=written.mask,
            scores=scores,
            ended=written.ended,
            **measured,
        )
        prompt_ids, prompt_mask = shared["prompt_ids"], shared["prompt_mask"]
        ids, mask, scores, ended = (shared[k] for k in ("completion_ids", "completion_mask", "scores", "ended"))
        logprobs, values, reference = (shared[k] for k in ("logprobs", "values", "reference"))

        divergence = ((logprobs - reference) * mask).sum(1).mean().item()
        coef = state.kl_coef
        if bool(scores.isfinite().all()):
            earned = against_others(scores, args.completions_per_prompt)
            state.moments.update(earned)
            earned = state.moments.normalise(earned) if args.normalize_rewards else earned
            earned = earned - args.missing_eos_penalty * ~ended
            controller = KLController(state.kl_coef, args.kl_target, args.kl_gain)
            controller.update(divergence)
            state.kl_coef = controller.coef
        else:
            self._skip(f"{int((~scores.isfinite()).sum())} of {len(scores)} rewards are not finite")
            state.skip_rest = True
            earned = torch.zeros_like(scores)
        rewards = token_rewards(earned.float(), estimate_kl(logprobs, reference, args.kl_estimator), mask, coef)
        advantages, returns = gae(rewards, values, mask, args.gamma, args.lam)
        texts = gather_object(written.texts)
        distinct_tails, distinct_modifiers = diversity(texts)
        self._watch_diversity(distinct_tails)
        keep = mask.bool()
        finite = scores[scores.isfinite()]
        if len(finite):
            state.record(reward=finite.mean().item(), reward_std=finite.std(unbiased=False).item())
        state.record(
            kl=divergence,
            kl_coef=coef,
            entropy=shared["entropy"][keep].mean().item(),
            completion_length=mask.sum(1).float().mean().item(),
            eos_rate=ended.float().mean().item(),
            distinct_tails=distinct_tails,
            distinct_modifiers=distinct_modifiers,
            value_mean=values[keep].mean().item(),
            return_mean=returns[keep].mean().item(),
            explained_variance=explained_variance(values, returns, mask),
        )
        if args.whiten_advantages:
            advantages = whiten(advantages, mask)
        return Rollouts(
            prompt_ids=prompt_ids.cpu(),
            prompt_mask=prompt_mask.cpu(),
            completion_ids=ids.cpu(),
            completion_mask=mask.cpu(),
            closed=eos_closed(ids, self._separators, args.min_modifiers).cpu(),
            logprobs=logprobs.cpu(),
            values=values.cpu(),
            advantages=advantages.cpu(),
            returns=returns.cpu(),
        )

    def _write(
        self, policy: PreTrainedModel, rows: list[dict], stream: int, step: int, indices: Sequence[int]
    ) -> tuple[Queries, Written]:
        """Completions of the rows' prompts; the noise of each belongs to its index at this step of the stream."""
        args, tokenizer = self.args, self.processing_class
        queries = encode(
            [row["prompt"] for row in rows], tokenizer, self._positions, args.window, args.max_new_tokens
        ).to(self.accelerator.device)
        noise = row_noise(args.seed, stream, step, indices, int(queries.budgets.max()))
        with in_eval_mode(self.model), self._autocast():
            ids, lengths = sample(
                policy,
                queries,
                noise,
                tokenizer.eos_token_id,
                args.temperature,
                self._separators,
                args.min_modifiers,
            )
        tokens = [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ended = ids.gather(1, lengths[:, None] - 1).squeeze(1) == tokenizer.eos_token_id
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        return queries, Written(ids, mask, ended, tokens, texts)

    def _reward(self, rows: list[dict], written: Written, log: bool = False) -> Tensor:
        """The weighted sum of the reward functions, (rows,), not finite where none of them applies."""
        scores, measured = weighted_sum(
            self.reward_funcs,
            self.reward_weights,
            prompts=[row["prompt"] for row in rows],
            completions=written.texts,
            completion_ids=written.tokens,
            trainer_state=self.state,
            **{name: [row[name] for row in rows] for name in rows[0] if name != "prompt"},
        )
        if log:
            self.ppo_state.record(**over_processes(measured))
        return scores.to(self.accelerator.device)

    @torch.no_grad()
    def _measure(self, queries: Queries, written: Written) -> dict[str, Tensor]:
        """Log-probabilities, values and entropies by the forward pass that updates use, and those of the reference."""
        rows, length = written.ids.shape
        names = ("logprobs", "values", "entropy", "reference")
        measured = {name: torch.zeros((rows, length), device=written.ids.device) for name in names}
        by_length = (queries.mask.sum(1) + written.mask.sum(1)).argsort(stable=True)
        eos = self.processing_class.eos_token_id
        closed = eos_closed(written.ids, self._separators, self.args.min_modifiers) if self.args.min_modifiers else None
        with in_eval_mode(self.model), self._autocast():
            for part in by_length.split(self.args.rows_at_once):
                mask = written.mask[part].bool()
                inputs = model_inputs(queries.ids[part], queries.mask[part], written.ids[part], mask)
                tokens = written.ids[part][mask]
                shut = None if closed is None else closed[part][mask]
                outputs = self.model(**inputs)
                logprobs, entropy = token_logprobs(
                    outputs.logits, tokens, self.args.temperature, shut, eos, entropy=True
                )
                with self._reference() as reference:
                    logits, _ = completion_logits(reference, **inputs)
                of_reference, _ = token_logprobs(logits, tokens, self.args.temperature, shut, eos)
                for name, values in zip(names, (logprobs, outputs.state_values, entropy, of_reference), strict=True):
                    block = torch.zeros(mask.shape, device=mask.device)
                    block[mask] = values
                    measured[name][part] = block
        return measured

    def _share(self, **tensors: Tensor) -> dict[str, Tensor]:
        """Everybody's rows, in the order of the processes; prompts are padded on the left, the rest on the right."""
        shared = {}
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                tensor = self.accelerator.pad_across_processes(tensor, dim=1, pad_first=name.startswith("prompt"))
            shared[name] = self.accelerator.gather(tensor)
        return shared

    def _autocast(self):
        """The arithmetic of the update's forward pass, for the forward passes that do not go through the wrapped model.

        `Accelerator.autocast` does nothing under DeepSpeed.
        """
        bf16 = self.args.mixed_precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bf16)

    @contextmanager
    def _reference(self):
        """The model that the policy started from."""
        with nullcontext(self.reference) if self.reference is not None else self.model.policy.disable_adapter():
            yield self.reference or self.model.policy

    @contextmanager
    def _phase(self, name: str):
        """Clock a part of the iteration."""
        start = time.perf_counter()
        yield
        synchronize(self.accelerator.device)  # what was only queued would be clocked as the next part
        self.ppo_state.record(**{f"seconds/{name}": time.perf_counter() - start})

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
            with self._reference() as reference:
                self._baselines[metric_key_prefix] = (data, self._rewrite(data, None), self._rewrite(data, reference))
        _, plain, sft = self._baselines[metric_key_prefix]
        rewrites = self._rewrite(data, self.model.policy)
        distinct_tails, distinct_modifiers = diversity([r.completion for r in rewrites])
        metrics = {
            "reward": _mean(r.reward for r in rewrites),
            "reward_sft": _mean(r.reward for r in sft),
            "reward_plain": _mean(r.reward for r in plain),
            "completion_length": _mean(r.length for r in rewrites),
            "eos_rate": _mean(r.ended for r in rewrites),
            "distinct_tails": distinct_tails,
            "distinct_modifiers": distinct_modifiers,
        }
        for name, baseline in (("sft", sft), ("plain", plain)):
            pairs = [(a.reward, b.reward) for a, b in zip(rewrites, baseline, strict=True)]
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if pairs:
                compared = compare(*zip(*pairs, strict=True))
                metrics[f"gain_over_{name}"], low, high = compared.difference
                metrics |= {f"gain_over_{name}_low": low, f"gain_over_{name}_high": high}
                metrics[f"win_rate_over_{name}"] = compared.win_rate
        metrics["runtime"] = time.perf_counter() - start
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.samples = [
            {"prompt": p.prompt, "plain": p, "sft": s, "policy": r}
            for p, s, r in list(zip(plain, sft, rewrites, strict=True))[: self.args.num_samples]
        ]
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
            if policy is None:
                eos = self.processing_class.eos_token_id
                tokens = torch.full((len(rows), 1), eos)
                written = Written(tokens, tokens, tokens[:, 0] == eos, tokens.tolist(), [""] * len(rows))
            else:
                _, written = self._write(policy, rows, EVALUATION, 0, indices)
            rewards = self._reward(rows, written)
            done += [
                (i, Rewrite(row["prompt"], text, reward, length, ended))
                for i, row, text, reward, length, ended in zip(
                    indices,
                    rows,
                    written.texts,
                    rewards.tolist(),
                    written.mask.sum(1).tolist(),
                    written.ended.tolist(),
                    strict=True,
                )
            ]
        return [rewrite for _, rewrite in sorted(gather_object(done))]

    # --- log and checkpoints -------------------------------------------------------------------------------------

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
            metrics["episodes"] = -(-self._micro_step // self.micro_steps_per_iteration) * self.args.rollout_batch_size
            logs = logs | metrics
        super().log(logs, start_time)

    def floating_point_ops(self, inputs) -> int:
        """Not counted: most of the work is the rewards', which the library does not see."""
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the policy as a plain `transformers` folder; adapters are merged into it.

        Checkpoints (`_internal_call`) hold what training goes on with instead: adapters as they are, and the critic.
        """
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            if _internal_call:
                self.model.save(folder)
            else:
                policy = self.model.policy
                policy = deepcopy(policy).merge_and_unload() if self.model.is_peft else policy
                policy.save_pretrained(folder)
            self.processing_class.save_pretrained(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_more(self, folder: Path) -> None:
        self.ppo_state.save(folder / STATE_FILE)
        if self._micro_step % self.micro_steps_per_iteration:
            self.rollouts.save(folder / ROLLOUTS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        self.model.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self.model.load(Path(self.state.best_model_checkpoint))

    def _load_state(self, checkpoint: Path) -> None:
        """Take up the KL coefficient, the rewards' moments and a half-used buffer."""
        if not (checkpoint / STATE_FILE).is_file():
            raise ValueError(f"{checkpoint} is no PPO checkpoint to go on from: it has no {STATE_FILE}")
        self.ppo_state = PPOState.load(checkpoint / STATE_FILE)
        step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
        self._micro_step = step * self.args.gradient_accumulation_steps
        if (checkpoint / ROLLOUTS_FILE).is_file():
            self.rollouts = Rollouts.load(checkpoint / ROLLOUTS_FILE)
        half = self._micro_step % self.micro_steps_per_iteration
        if bool(half) != (self.rollouts is not None) or (half and len(self.rollouts) != self.args.rollout_batch_size):
            raise ValueError(
                f"{checkpoint} was written with other settings: rollout_batch_size, num_ppo_epochs, the batch size, "
                "gradient accumulation and the number of processes must give the same steps per iteration"
            )


class _Guard(TrainerCallback):
    """Leaves out updates whose gradient is not finite, clocks updates, and stops the run when the trainer says so."""

    def __init__(self, trainer: PPOTrainer):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        trainer = self.trainer
        if trainer._left_out:
            return
        if math.isfinite(trainer._gradient_norm):
            trainer.ppo_state.skipped_in_a_row = 0
        else:
            trainer.model.zero_grad(set_to_none=True)  # DeepSpeed has left the step out by itself
            trainer._skip("the gradient is not finite")

    def on_step_end(self, args, state, control, **kwargs):
        trainer = self.trainer
        last_of_iteration = not trainer._micro_step % trainer.micro_steps_per_iteration
        if last_of_iteration:
            synchronize(trainer.accelerator.device)
        trainer._update_seconds += time.perf_counter() - trainer._update_started
        if last_of_iteration:
            trainer.ppo_state.record(**{"seconds/update": trainer._update_seconds})
            trainer._update_seconds = 0.0
        if trainer.stopped:
            control.should_training_stop = control.should_save = control.should_log = True
        return control


# --- details -----------------------------------------------------------------------------------------------------


def _load(source: str, settings: dict) -> PreTrainedModel:
    """The model at `source`, in float32 unless `settings` say otherwise; adapters are merged into theirs."""
    return load_policy(source, **{"dtype": torch.float32} | settings)


def _by_name(data: Dataset | dict[str, Dataset] | None, name: str, more: Dataset | None) -> dict[str, Dataset]:
    named = data if isinstance(data, dict) else {} if data is None else {"evaluation": data}
    return named | ({} if more is None else {name: more})


def _mean(values) -> float:
    values = [float(v) for v in values]
    return sum(values) / len(values)
