"""`train_grpo`: TRL's GRPO and RLOO, on the same prompts and rewards as PPO; `training/grpo.py` is the entry point."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from trl import GRPOTrainer, ModelConfig, RLOOTrainer, get_peft_config
from trl.trainer.utils import nanstd

from neuroprompt.ppo.advantages import flat_groups, win_rates
from neuroprompt.ppo.answers import asked
from neuroprompt.ppo.config import GRPOConfig, RLOOConfig
from neuroprompt.ppo.guards import GuardedTrainer
from neuroprompt.ppo.model import position_ids
from neuroprompt.scoring import RewardArguments
from neuroprompt.training.planning import plan_grpo
from neuroprompt.training.queries import QueryArguments
from neuroprompt.training.rewarded import check_judge, load_data, load_reward_func, without_evaluation
from neuroprompt.training.run import load_model, run


def train_grpo(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer | None:
    """Train by GRPO, or by RLOO where `config` is one of that: see `neuroprompt.training.run.run`.

    Raises:
        TrainingStopped: A guard stopped the run.
    """
    check_judge(arguments, reward_arguments, config)
    if not arguments.eval_samples:
        without_evaluation(config)
    everything = arguments, reward_arguments, config, model_config
    return run(config, model_config, arguments.dry_run, partial(plan_grpo, *everything), partial(_trainer, *everything))


def _trainer(
    arguments: QueryArguments,
    reward_arguments: RewardArguments,
    config: GRPOConfig | RLOOConfig,
    model_config: ModelConfig,
) -> GRPOTrainer | RLOOTrainer:
    train, held_out = load_data(arguments, config)
    policy, tokenizer, prompt_format = load_model(config, model_config, arguments.asked)
    tokenizer.padding_side = "left"
    trainer = (_GRPOTrainer if isinstance(config, GRPOConfig) else _RLOOTrainer)(
        model=policy,
        reward_funcs=[load_reward_func(arguments, reward_arguments, config, tokenizer, train["prompt"], prompt_format)],
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_config),
        prompt_format=prompt_format,
    )
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            number_positions(trainer.accelerator.unwrap_model(model))
    return trainer


class _PlainPolicies(GuardedTrainer):
    """A base for TRL's trainers, which leave adapters where these are trained: here a plain policy is left. And it is
    asked as everywhere (`neuroprompt.formats`).

    The guards stand between what TRL's trainers call one after another: completions are written (and those that are to
    be plain emptied), scored (and the scores made win rates), and made a batch (in which flat groups get no weight).
    """

    _TEXTS: int  # where in what `_generate` returns
    _scores: torch.Tensor  # of the last batch, over all processes: by the reward function, (rows,)

    def _tokenize_prompts(self, prompts: list[str]):
        texts = asked(prompts, self.prompt_format)
        return self.prompt_format.encode(self.processing_class, texts), None, {}  # no images, and nothing else

    def _generate(self, prompts: list[str]):
        done = super()._generate(prompts)
        ids, texts, logprobs = done[1], done[self._TEXTS], done[4] if len(done) > 4 else None
        for i, written in enumerate(self._wrote(len(prompts))):
            if not written:  # vLLM writes whole groups, so what is to be plain was written, too
                ids[i], texts[i] = np.zeros(0, np.int64), prompts[i] if self.prompt_format.replaces else ""
                if logprobs is not None:
                    logprobs[i] = []
        return done

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """Of plain completions, too, which are not in what is logged; in an update, made win rates. (rows, 1)"""
        wrote = torch.tensor(self._wrote(len(prompts)))
        if self.model.training:
            inputs = [{**row, "visit": self.state.global_step} for row in inputs]
        ended = [list(ids) or [self.processing_class.eos_token_id] for ids in completion_ids_list]

        def rewards(rows: torch.Tensor) -> torch.Tensor:
            places = rows.nonzero().squeeze(1).tolist()
            columns = inputs, prompts, completions, ended
            return super(_PlainPolicies, self)._calculate_rewards(*([column[i] for i in places] for column in columns))

        scores = rewards(wrote)
        if not wrote.all():
            measured = {name: list(values) for name, values in self._pending_metrics.items()}
            of_written, of_plain = scores, rewards(~wrote)
            self._pending_metrics.clear()
            self._pending_metrics.update(measured)
            everyone = wrote.repeat(self.accelerator.num_processes)
            scores = of_written.new_empty((len(everyone), of_written.shape[1]))
            scores[everyone], scores[~everyone] = of_written, of_plain
        self._scores = scores[:, 0]
        if self.model.training and self.args.win_rates:
            return win_rates(self._scores, self.args.group)[:, None]
        return scores

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return batch
        args, logged = self.args, self._metrics["train"]
        flat = flat_groups(self._scores, args.group)
        logged["flat_groups"].append(flat.float().mean().item())
        if args.win_rates or args.plain_completions:  # what is logged are the scores of what the policy wrote
            scores = self._scores[torch.tensor(args.wrote(len(flat)))]
            of_function = f"rewards/{self.reward_func_names[0]}"
            for name, value in (("reward", scores.nanmean()), ("reward_std", nanstd(scores))):
                of_it = f"{of_function}/{'std' if name.endswith('std') else 'mean'}"
                logged[name][-1] = logged[of_it][-1] = value.item()
        if args.plain_completions or args.skip_flat_groups:
            here = self.accelerator.process_index * len(inputs)
            kept = torch.tensor(self._wrote(len(inputs)), device=flat.device)
            if args.skip_flat_groups:
                kept &= ~flat[here : here + len(inputs)]
            batch["completion_mask"] = batch["completion_mask"] * kept[:, None]
            for name in {"advantages", "old_logps"}.intersection(batch):
                batch[name] = batch[name] * kept
            if "num_items_in_batch" in batch:
                batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

    def _wrote(self, rows: int) -> list[bool]:
        """Which of this process' rows the policy writes: all of them where it is evaluated."""
        return self.args.wrote(rows) if self.model.training else [True] * rows

    def save_model(self, output_dir=None, _internal_call=False):
        super().save_model(output_dir, _internal_call)
        policy = self.accelerator.unwrap_model(self.model)
        if not hasattr(policy, "peft_config") or _internal_call or not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        deepcopy(policy).merge_and_unload().save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
            (folder / name).unlink(missing_ok=True)


class _GRPOTrainer(_PlainPolicies, GRPOTrainer):
    _TEXTS = 3


class _RLOOTrainer(_PlainPolicies, RLOOTrainer):
    _TEXTS = 2


def number_positions(model: nn.Module) -> None:
    """Make `model` fill in position ids from the attention mask where a caller gives none.

    TRL's trainers pad prompts on the left and pass a mask alone: a model with learnt positions (GPT-2) would then read
    its prompts at the wrong ones, and its log-probabilities would not be those that it was sampled with.
    """

    def fill(module: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        mask, ids = keywords.get("attention_mask"), arguments[0] if arguments else keywords.get("input_ids")
        if keywords.get("position_ids") is None and torch.is_tensor(mask) and mask.shape == ids.shape:
            keywords["position_ids"] = position_ids(mask)
        return arguments, keywords

    model.register_forward_pre_hook(fill, with_kwargs=True)
