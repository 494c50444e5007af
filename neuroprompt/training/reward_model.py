"""`train_reward_model`: fit a reward model of texts to pictures; `training/reward_model.py` is the entry point.

The pictures are those of experiments that there are already (`neuroprompt evaluate`'s folders, the state files of
`neuroprompt optimize`), and those that are drawn for it: samples of a policy, each drawn and scored beside the plain
prompt with seeds that no evaluation and no training uses. Drawing is an experiment (`neuroprompt.experiments`): it is
taken up where it was killed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.summary import read_records
from neuroprompt.experiments import Experiment, check_settings, prompt_settings, read_settings
from neuroprompt.files import sole_writer
from neuroprompt.images import read_generator
from neuroprompt.images.encoder import PromptEncoder
from neuroprompt.models import identify, pick_device
from neuroprompt.prompts import CLIP_WINDOW
from neuroprompt.reward_model import FOLDER, RewardModel, RewardModelConfig, Row, fitted_to
from neuroprompt.scoring import PromptReward, RewardArguments, Term, build_reward, combined, read_terms
from neuroprompt.terminal import counted, say
from neuroprompt.training.queries import QueryArguments, load_queries


@dataclass
class RewardModelArguments:
    """What it learns from, and where it goes.

    Args:
        results: Folders of `neuroprompt evaluate` and state files of `neuroprompt optimize` to learn from.
        queries: Plain prompts whose rewrites are drawn: a folder of prepared data, or a .txt, .csv or .jsonl file;
            nothing is drawn without.
        max_queries: Draw for so many of them; 0 takes all.
        policy: Whose rewrites are drawn.
        samples: Rewrites of each prompt.
        temperature: They are sampled at.
        drawing_seed: Another seed, other samples and other pictures.
        device: Of all models; by default the accelerator if there is one.
        output_dir: Where the model goes; by default the folder reward_model in the policy's, where `enhance --rerank`
            looks for it. What is drawn is kept there, too.

    Raises:
        ValueError: A number is out of range, there is nothing to learn from, or no folder to write to.
    """

    results: list[str] = field(default_factory=list)
    queries: str = ""
    max_queries: int = 0
    policy: str = "embedded"
    samples: int = 12
    temperature: float = 1.0
    drawing_seed: int = 0
    device: str | None = None
    output_dir: str = ""

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}: give 1 or more")
        if not self.results and not self.queries:
            raise ValueError("there is nothing to learn from: name results, or queries to draw for")
        if not self.output_dir and not Path(self.policy).is_dir():
            raise ValueError(f"output_dir is not set, and {self.policy} is no folder: say where the model is to go")

    @property
    def folder(self) -> Path:
        return Path(self.output_dir or Path(self.policy, FOLDER))


def train_reward_model(
    arguments: RewardModelArguments, config: RewardModelConfig, reward_arguments: RewardArguments
) -> RewardModel:
    """Draw what is to be drawn, learn from all, and save.

    Raises:
        ValueError: Results are of another generator or by other rewards than the others, or are none.
        BusyError: Another process writes there.
    """
    found = [_of_results(path) for path in arguments.results]
    device = str(pick_device(arguments.device))
    folder = arguments.folder
    with sole_writer(folder, inside=True):
        encoder = None
        if arguments.queries:
            reward = build_reward(reward_arguments, device)
            found.append(_drawn(arguments, reward))
            encoder = reward.generator.encoder
        about = _agreed(found)
        about["generator"] = {"name": read_generator(reward_arguments.generator)[0]} | about["generator"]
        encoder = encoder or PromptEncoder.from_pretrained(about["generator"]["name"], device)
        model = RewardModel(encoder, config, about)
        rows = [row for _, _, own in found for row in own]
        say(f"learning from {counted(len(rows), 'rewrite')} of {counted(len({row.plain for row in rows}), 'prompt')}")
        figures = model.fit(rows)
        model.save(folder)
    say("on prompts that it had not seen: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    say(f"the reward model is in {folder}")
    return model


Found = tuple[str, dict[str, Any], list[Row]]
"""Where rows are from, whose pictures and by which rewards (as `RewardModel` has it), and the rows."""


def _drawn(arguments: RewardModelArguments, reward: PromptReward) -> Found:
    """Samples of the policy, and what they gain."""
    queries = QueryArguments(queries=arguments.queries, max_queries=arguments.max_queries, eval_samples=0)
    prompts = list(load_queries(queries, CLIP_WINDOW)[0]["prompt"])
    window = reward.generator.window or reward.window
    reward = reward.replace(seed=_SEEDS + arguments.drawing_seed, window=window)
    settings = {
        "prompts": prompt_settings(prompts),
        "policy": arguments.policy,
        "weights": identify(arguments.policy, "policy"),
        "samples": arguments.samples,
        "temperature": arguments.temperature,
        "drawing_seed": arguments.drawing_seed,
        **reward.settings(),
    }
    folder = arguments.folder / DRAWN
    check_settings(folder, settings, "drawing")
    each = arguments.samples
    units = {at * each: each * len(prompts[at : at + _CHUNK]) for at in range(0, len(prompts), _CHUNK)}
    experiment = Experiment(folder, units)
    with experiment.shard() as shard:
        enhancer = None
        for unit in shard.todo:
            enhancer = enhancer or PromptEnhancer.from_pretrained(arguments.policy, device=str(reward.generator.device))
            chunk = prompts[unit // each : unit // each + _CHUNK]
            made = enhancer.rewrite(
                chunk,
                num_return_sequences=each,
                do_sample=True,
                temperature=arguments.temperature,
                seed=arguments.drawing_seed,
                window=window,
                output_scores=False,
            )
            texts = [sample.text for samples in made for sample in samples]
            plain = [prompt for prompt in chunk for _ in range(each)]
            gains = reward.score(plain, texts).tolist()
            lines = zip(plain, texts, gains, strict=True)
            shard.write(
                {"index": unit + i, "original": p, "text": t, "gain": gain if np.isfinite(gain) else None}
                for i, (p, t, gain) in enumerate(lines)
            )
            say(f"{unit // each + len(chunk)} of {counted(len(prompts), 'prompt')} drawn")
    # A text that was sampled twice was drawn twice with the same seeds: one row.
    gains = {(r["original"], r["text"]): r["gain"] for r in experiment.records() if r["gain"] is not None}
    rows = [Row(plain, text, gain, reward.images_per_prompt) for (plain, text), gain in gains.items()]
    return str(folder), fitted_to(settings), rows


def _of_results(path: str) -> Found:
    """The rows of an evaluation's folder, or of a search's state file.

    Raises:
        ValueError: It is neither.
    """
    return _of_search(Path(path)) if Path(path).is_file() else _of_evaluation(path)


def _of_evaluation(folder: str) -> Found:
    settings = read_settings(folder, "evaluation")
    terms, records = read_terms(settings), [r for r in read_records(folder) if not r.get("negative")]
    plain = {record["original"]: record for record in records if record["method"] == "plain"}
    if any(term.compares for term in terms.values()) and not plain:
        raise ValueError(f"{folder} has no records of the method plain, which the others' gains are over")
    rows: dict[tuple[str, str], Row] = {}  # two methods that say the same drew the same pictures
    for record in records:
        original, text = record["original"], record["text"]
        scores, against = (
            {n: np.array([s], np.float64) for n, s in r["scores"].items()}
            for r in (record, plain.get(original, record))
        )
        flagged, others = (np.array([r["flagged"]]) for r in (record, plain.get(original, record)))
        gains = combined(terms, scores, flagged, against, others, settings["flagged_reward"])[0]
        for row in _row(original, text, gains):
            rows[original, text] = row
    return folder, fitted_to(settings), list(rows.values())


def _of_search(path: Path) -> Found:
    try:
        state = json.loads(path.read_bytes())
        settings, relative = state["settings"], state["settings"]["relative"]
        terms = {
            name: Term(weight, cap, name in relative, scale) for name, _, weight, cap, scale in settings["rewards"]
        }
        rewards = {
            name: term._asdict() | {"fingerprint": own[1]}
            for own, (name, term) in zip(settings["rewards"], terms.items(), strict=True)
        }
        if settings.get("negatives") or settings.get("negative"):
            raise ValueError(
                f"{path} is of a search with negative prompts, which a reward model of texts does not read"
            )
        about = {"generator": {"fingerprint": settings["generator"]}, "rewards": rewards}
        rows = [
            row for original, drawn in state["pictures"].items() for row in _searched(original, drawn, terms, settings)
        ]
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no state of a search (neuroprompt optimize --state)") from error
    return str(path), about, rows


def _searched(original: str, drawn: list, terms: Mapping[str, Term], settings: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one prompt's search: `drawn` has [text, seed, raw scores, flagged] of each picture."""
    by_text: dict[str, dict[int, tuple[list[float], bool]]] = {}
    for text, seed, scores, flagged in drawn:
        by_text.setdefault(text, {})[seed] = scores, flagged
    plain = by_text.get(original, {})
    for text, pictures in by_text.items():
        seeds = sorted(pictures.keys() & plain.keys())  # pairs: the luck of a seed is in both
        if not seeds:
            continue

        def read(own: dict[int, tuple[list[float], bool]], seeds: list[int] = seeds) -> tuple[dict, np.ndarray]:
            columns = np.array([own[seed][0] for seed in seeds], np.float64).T
            scores = {name: column[None] for name, column in zip(terms, columns, strict=True)}
            return scores, np.array([[own[seed][1] for seed in seeds]], bool)

        gains = combined(terms, *read(pictures), *read(plain), settings["flagged_reward"])[0]
        yield from _row(original, text, gains)


def _row(original: str, text: str, gains: np.ndarray) -> Iterator[Row]:
    """One row of the pictures whose gain is known; none where it is of none."""
    known = gains[np.isfinite(gains)]
    if len(known):
        yield Row(original, text, float(known.mean()), len(known))


def _agreed(found: Iterable[Found]) -> dict[str, Any]:
    """What all rows belong to.

    Raises:
        ValueError: Two sources are of two generators, or their gains by different rewards.
    """
    (first, about, _), *others = found
    for path, other, _ in others:
        if other["generator"]["fingerprint"] != about["generator"]["fingerprint"]:
            raise ValueError(f"{first} and {path} are pictures of two generators, or two settings of one: fit one each")
        counted_by, counted_there = ({n: t for n, t in of["rewards"].items() if t["weight"]} for of in (about, other))
        if counted_by != counted_there:
            raise ValueError(f"{first} and {path} count gains by different rewards: fit one each")
        about = {**about, "generator": other["generator"] | about["generator"]}
    return {**about, "generator": dict(about["generator"])}


DRAWN = "drawn"
_CHUNK = 16  # prompts that a kill costs
_SEEDS = 0x72657761  # "rewa", beside the user's own
