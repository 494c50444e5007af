"""`distil`: search for good rewrites, learn them by SFT, go on by PPO; `training/distil.py` is the entry point.

The search pays dozens of pictures for each prompt; a policy that has learnt what it finds writes such rewrites for
nothing (expert iteration, Anthony et al. 2017). Each stage has a folder of its own under `output_dir`:

- ``search``: an experiment (`neuroprompt.experiments`) of `neuroprompt.search.optimize`, some prompts at a time, shared
  out among processes;
- ``pairs``: the finds that are better than their prompts beyond doubt, as prepared data (`search.to_pairs`);
- ``sft``: the policy that has learnt from them, and ``ppo``: the one that went on from there.

What is whole is left as it is, and what was interrupted is taken up.
"""

import gc
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
import yaml
from accelerate import PartialState
from trl import ModelConfig

from neuroprompt.data import DataConfig
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.experiments import Experiment, check_settings, prompt_settings
from neuroprompt.models import identify, locate, pick_device
from neuroprompt.ppo import PPOConfig
from neuroprompt.programs import Stopped, run
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.runs.arguments import read_arguments
from neuroprompt.runs.sizes import processes
from neuroprompt.runs.start import quiet
from neuroprompt.scoring import RewardArguments, build_reward
from neuroprompt.search import (
    AroundSuffix,
    PolicyProposals,
    SearchConfig,
    SearchResult,
    optimize,
    read_suffix,
    to_pairs,
)
from neuroprompt.terminal import counted, say
from neuroprompt.training.ppo import train_ppo
from neuroprompt.training.queries import QueryArguments, load_queries
from neuroprompt.training.sft import SFTArguments, SFTConfig, train_sft


@dataclass
class DistilArguments:
    """What is searched for, and what learns from it.

    Args:
        queries: Plain prompts: a folder of prepared data, or a .txt, .csv or .jsonl file.
        max_queries: Search for so many of them; 0 takes all.
        policy: What proposes in the search, and what learns from the finds.
        strategy: How the pictures are spent: bayes, or best-of-n.
        budget: Pictures that a prompt's search may draw.
        suffix: A fixed suffix to begin with, such as `neuroprompt suffix` finds: what is tried are parts of it, and of
            what the policy writes.
        samples: Rewrites that the policy writes for ``bayes`` to choose from, per picture of the budget.
        held_out: Pictures with fresh seeds that a find and its prompt are measured on, on top of `budget`; with 0 the
            search's own posterior says what the find gains.
        search_seed: Another seed, another search.
        together: Prompts that are searched side by side, and share the batches of the policy and the generator.
        policy_batch_size: Rewrites that the policy writes at once.
        search_processes: Processes that share the search on this machine, whose accelerators they take in turn.
        least: What a find must gain to be learnt, in the reward's unit.
        errors: It must gain `least` by so many of its standard errors, where these are known.
        validation_share: The share of the finds that SFT does not see, and is chosen by.
        sft: The settings of SFT: a YAML file as `training/sft.py` takes it, or its keys, among which ``config`` may
            name such a file.
        ppo: The settings of PPO after it, likewise; without, SFT is the end.
        device: Of the search; by default the accelerator if there is one.
        output_dir: Where each stage has its folder.
        dry_run: Say what the stages would take, and stop.

    Raises:
        ValueError: A number is out of range, or a file or folder is not named.
    """

    queries: str = ""
    max_queries: int = 0
    policy: str = "embedded"
    strategy: str = "bayes"
    budget: int = 64
    suffix: str = ""
    samples: int = 4
    held_out: int = 0
    search_seed: int = 0
    together: int = 64
    policy_batch_size: int = 160
    search_processes: int = 1
    least: float = 0.0
    errors: float = 1.0
    validation_share: float = 0.05
    sft: dict[str, Any] | str | None = None
    ppo: dict[str, Any] | str | None = None
    device: str | None = None
    output_dir: str = ""
    dry_run: bool = False

    def __post_init__(self):
        for name in ("together", "policy_batch_size", "search_processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.errors < 0:
            raise ValueError(f"errors is {self.errors}: give 0 or more")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share is {self.validation_share}: give a number between 0 and 1")
        for name in ("queries", "sft", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"{name} is not set")
        self.sft, self.ppo = (_read_settings(name, getattr(self, name)) for name in ("sft", "ppo"))
        self.search_config()
        if self.suffix:
            read_suffix(self.suffix)

    def search_config(self) -> SearchConfig:
        return SearchConfig(
            strategy=self.strategy,
            budget=self.budget,
            held_out=self.held_out,
            seed=self.search_seed,
            samples=self.samples,
        )

    def folder(self, stage: str) -> Path:
        return Path(self.output_dir, stage)


def distil(arguments: DistilArguments, reward_arguments: RewardArguments) -> None:
    """Do all stages that are not done; with `dry_run`, only say what they take.

    Raises:
        ValueError: A stage's folder is of other settings, or no find is good enough.
        TrainingStopped: A guard of PPO stopped it.
        BusyError: Another process works in `output_dir`.
    """
    quiet()
    locate(arguments.policy, "policy")  # what is wrong is said before the search
    stages = {"sft": partial(train_sft, *_sft(arguments))}
    if arguments.ppo:
        stages["ppo"] = partial(train_ppo, *_ppo(arguments))
    prompts = _prompts(arguments)
    if not _rank():
        each = arguments.budget + 2 * arguments.held_out
        say(f"search: {counted(len(prompts), 'prompt')}, {counted(len(prompts) * each, 'picture')} at most")
    if arguments.dry_run:
        for plan in stages.values():
            plan()
        return
    settings = _search(arguments, reward_arguments, prompts)
    with PartialState().main_process_first():
        if not _rank():
            _write_pairs(arguments, prompts)
    settings["pairs"] = {name: getattr(arguments, name) for name in ("least", "errors", "validation_share")}
    for stage, train in stages.items():
        settings[stage] = getattr(arguments, stage)
        if not _rank():
            check_settings(arguments.folder(stage), settings, "training")
        if not _is_trained(arguments.folder(stage)):
            train()
            _free()


# --- the search --------------------------------------------------------------------------------------------------


def _prompts(arguments: DistilArguments) -> list[str]:
    queries = QueryArguments(queries=arguments.queries, max_queries=arguments.max_queries, eval_samples=0)
    return list(load_queries(queries, CLIP_WINDOW)[0]["prompt"])


def _experiment(arguments: DistilArguments, prompts: Sequence[str]) -> Experiment:
    size = arguments.together
    units = {at: len(prompts[at : at + size]) for at in range(0, len(prompts), size)}
    return Experiment(arguments.folder("search"), units)


def _search(arguments: DistilArguments, reward_arguments: RewardArguments, prompts: list[str]) -> dict[str, Any]:
    """Search for all prompts, this process' share and its workers'; it ends when nobody's is missing.

    Returns:
        What the finds depend on.
    """
    here, ranks = arguments.search_processes, processes()
    shards = [(_rank() * here + number, ranks * here) for number in range(1, here + 1)]
    settings = {
        "prompts": prompt_settings(prompts),
        "policy": identify(arguments.policy, "policy"),
        "search": {k: v for k, v in vars(arguments.search_config()).items() if k not in ("axes", "window")},
        "together": arguments.together,
        "suffix": list(read_suffix(arguments.suffix)) if arguments.suffix else None,
        "reward": asdict(reward_arguments) | {"score_cache": None},
    }
    if not _rank():
        check_settings(arguments.folder("search"), settings, "search")
    experiment = _experiment(arguments, prompts)
    if experiment.missing():
        work = partial(_search_shard, arguments, reward_arguments, prompts)
        if len(shards) == 1:
            work(shards[0])
            _free()
        else:
            # One core each: libraries read this when they are loaded.
            os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(shards)))
            context = torch.multiprocessing.get_context("spawn")
            workers = [context.Process(target=run, args=(partial(work, shard),)) for shard in shards]
            try:
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
            except KeyboardInterrupt:  # which they have got, too
                for worker in workers:
                    worker.join(_PATIENCE)
                raise Stopped(_STOPPED) from None
            finally:
                for worker in workers:
                    worker.kill()
            if failed := sum(worker.exitcode != 0 for worker in workers):
                raise RuntimeError(f"{failed} of {len(workers)} processes of the search failed: see above")
    while experiment.missing():  # other ranks are at it; if one fails, the launcher ends all
        time.sleep(2)
    return settings


def _search_shard(
    arguments: DistilArguments, reward_arguments: RewardArguments, prompts: list[str], shard: tuple[int, int]
) -> None:
    """One process' share of the search, unit by unit; the pictures of a unit are kept as they are drawn."""
    quiet()
    experiment = _experiment(arguments, prompts)
    with experiment.shard(shard) as own:
        if not own.todo:
            return
        device = _device(arguments.device, shard[0] - 1)
        reward = build_reward(reward_arguments, device)
        enhancer = PromptEnhancer.from_pretrained(arguments.policy, device=device)
        window = reward.generator.window or reward.window
        config = arguments.search_config()
        config.window = window
        propose = PolicyProposals(enhancer, window, batch_size=arguments.policy_batch_size)
        if arguments.suffix:
            propose = AroundSuffix(propose, read_suffix(arguments.suffix))
        if reward_arguments.calibration_prompts:
            reward.calibrate(prompts[: reward_arguments.calibration_prompts])
        began, drawn = time.perf_counter(), 0
        for number, unit in enumerate(own.todo, 1):
            state = experiment.folder / f"state-{unit}.json"
            chunk = prompts[unit : unit + experiment.units[unit]]
            results = optimize(chunk, reward, propose, config, state=state)
            if not all(result.complete for result in results):
                raise Stopped(_STOPPED)
            own.write(_record(unit + i, result) for i, result in enumerate(results))
            state.unlink(missing_ok=True)
            drawn += sum(result.images + result.held_out_images for result in results)
            gain = sum(result.improvement for result in results) / len(results)
            say(
                f"share {shard[0]} of {shard[1]}: {number} of {counted(len(own.todo), 'part')}, "
                f"{counted(drawn, 'picture')}, {drawn / (time.perf_counter() - began):.1f} a second, gain {gain:+.2f}"
            )


def _record(index: int, result: SearchResult) -> dict[str, Any]:
    """A find, and what was drawn on the way to it, as a line of JSON."""
    known = result.to_dict()
    kept = ("original", "text", "modifiers", "selected", "selected_error", "held_out", "held_out_error", "images")
    drawn = [[m["text"], m["reward"], m["pictures"]] for m in known["measured"]]
    return {"index": index, **{name: known[name] for name in kept}, "drawn": drawn}


def _found(record: Mapping[str, Any]) -> SearchResult:
    kept = {name: value for name, value in record.items() if name not in ("index", "drawn")}
    kept["selected"] = math.nan if kept["selected"] is None else kept["selected"]
    return SearchResult(**kept, held_out_images=0, curve=(), front=(), axes=(), measured=())


def _device(device: str | None, number: int) -> str:
    """Of an accelerator without a number, each process has its own as far as there are so many."""
    chosen = pick_device(device)
    if chosen.type == "cpu" or chosen.index is not None:
        return str(chosen)
    return f"{chosen.type}:{number % torch.accelerator.device_count()}"


# --- what learns -------------------------------------------------------------------------------------------------


def _write_pairs(arguments: DistilArguments, prompts: list[str]) -> None:
    """The finds as prepared data; always anew, since it takes seconds and is the same."""
    experiment = _experiment(arguments, prompts)
    experiment.gather()
    results, folder = [_found(record) for record in experiment.records()], arguments.folder("pairs")
    data = to_pairs(
        results, folder, least=arguments.least, errors=arguments.errors, held_out=arguments.validation_share
    )
    gain = np.nanmean([result.improvement for result in results])
    say(
        f"{counted(sum(map(len, data.pairs.values())), 'pair')} of {counted(len(results), 'prompt')}, whose finds gain "
        f"{gain:+.2f} on average; they are in {folder}"
    )


def _sft(arguments: DistilArguments) -> tuple[Any, ...]:
    own = {"data_dir": str(arguments.folder("pairs")), "model_name_or_path": arguments.policy}
    return _stage("sft", arguments, (SFTArguments, DataConfig, SFTConfig, ModelConfig), own)


def _ppo(arguments: DistilArguments) -> tuple[Any, ...]:
    before = arguments.policy if arguments.dry_run else str(arguments.folder("sft"))  # to plan by
    own = {"model_name_or_path": before}
    return _stage("ppo", arguments, (QueryArguments, RewardArguments, PPOConfig, ModelConfig), own)


def _stage(stage: str, arguments: DistilArguments, classes: Sequence[type], own: Mapping[str, str]) -> tuple[Any, ...]:
    """A training's arguments: its settings, and what follows from the stages before it. It takes itself up."""
    settings = getattr(arguments, stage) | own | {"output_dir": str(arguments.folder(stage))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{stage}.yaml")
        file.write_text(yaml.safe_dump(settings), "utf-8")
        dry = ["--dry_run"] * arguments.dry_run
        return read_arguments(classes, stage, ["--config", str(file), "--resume_from_checkpoint", "true", *dry])


def _read_settings(name: str, given: Mapping[str, Any] | str | None) -> dict[str, Any] | None:
    """A training's settings as one mapping, whatever they are given as.

    Raises:
        ValueError: There is no such file, or it holds no settings.
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        given = yaml.safe_load(given)
    if given is None or given == "":
        return None
    if isinstance(given, str):
        given = {"config": given}
    own = dict(given)
    if not (path := own.pop("config", None)):
        return own
    if not Path(path).is_file():
        raise ValueError(f"{name}: there is no file {path}")
    settings = yaml.safe_load(Path(path).read_text("utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"{name}: {path} holds no settings")
    return settings | own


def _is_trained(folder: Path) -> bool:
    return (folder / "log_history.json").is_file()  # the last that a run writes


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


_STOPPED = "stopped: the same command goes on from there"
_PATIENCE = 30  # seconds for what a process writes at its end
