"""From finished runs to what ships: half-precision safetensors, the tokenizer, and a model card.

    python training/embedded/export_policy.py weights --run runs/embedded/fitted --output neuroprompt/assets/policy
    python -m training.embedded.evaluate_policy --data data/embedded --prompts partiprompts \
        --output results/policy.json
    python training/embedded/export_policy.py card --stage configs/sft/embedded_wide.yaml=runs/embedded/wide \
        --stage configs/sft/embedded.yaml=runs/embedded/sft \
        --stage configs/sft/embedded_fitted.yaml=runs/embedded/fitted \
        --figures results/policy.json --prompts partiprompts --output neuroprompt/assets/policy
    python training/embedded/export_policy.py ppo --run runs/embedded/ppo --output neuroprompt/assets/policy-ppo \
        --temperature 0.7
    neuroprompt evaluate --input configs/ppo/queries/test.txt:300 --methods plain,policy:embedded,enhanced \
        --against policy:embedded -o results/ppo
    python training/embedded/export_policy.py ppo-card --run runs/embedded/ppo --figures results/ppo \
        --output neuroprompt/assets/policy-ppo

Every figure of a card comes from the logs of runs, the data's counts and the evaluation's JSON.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from neuroprompt import programs
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.prompt_sets import load_prompts
from neuroprompt.evaluation.summary import read_records, tables
from neuroprompt.formats import CONTROLS
from neuroprompt.models import DIFFERENCE, locate
from neuroprompt.policies import sampled_by_default
from neuroprompt.targets import REASONS

CURVE_ROWS = 8  # of a training's table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Output = Annotated[Path, typer.Option(help="The policy's folder.")]
Diversity = Annotated[float | None, typer.Option(help="How much noise a search with this policy has; by default 0.7.")]
Usual = Annotated[bool | None, typer.Option(help="Whether what is seldom written behind such prompts is left out.")]
Temperature = Annotated[float | None, typer.Option(help="Sample this policy, at this temperature; by default search.")]


@app.command()
def weights(
    run: Annotated[str, typer.Option(help="Output folder of training/sft.py, or another policy.")],
    output: Output,
    diversity: Diversity = None,
    temperature: Temperature = None,
    usual: Usual = None,
) -> None:
    """Write a policy in half precision, and how it is decoded where nobody asks otherwise."""
    enhancer = PromptEnhancer.from_pretrained(run, device="cpu")
    _decoded(enhancer.model, diversity, temperature, usual)
    enhancer.tokenizer.padding_side = "right"
    enhancer.model.config.use_cache = True  # training switches it off
    enhancer.model.to(torch.float16).save_pretrained(output)
    enhancer.tokenizer.save_pretrained(output)
    size = (output / "model.safetensors").stat().st_size
    Console().print(f"{output}: {size / 1e6:.1f} MB")


@app.command()
def ppo(
    run: Annotated[Path, typer.Option(help="Output folder of training/ppo.py, trained by LoRA.")],
    output: Annotated[Path, typer.Option(help="The policy's folder, beside that of the policy before.")],
    before: Annotated[str, typer.Option(help="The policy that the run began with; it ships.")] = "embedded",
    rank: Annotated[int, typer.Option(help="The rank of the run's adapters.")] = 16,
    diversity: Diversity = None,
    temperature: Temperature = None,
) -> None:
    """Write the run's policy as its difference to the one that it began with, and how it is decoded."""
    earlier, later = (
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32) for source in (locate(before, "policy"), run)
    )
    write_difference(later.state_dict(), earlier.state_dict(), "policy", output, rank)
    _decoded(later, diversity, temperature, usual=False)  # pictures know better
    later.generation_config.save_pretrained(output)
    size = sum(file.stat().st_size for file in output.iterdir())
    Console().print(f"{output}: {size / 1e6:.1f} MB")


def _decoded(model: PreTrainedModel, diversity: float | None, temperature: float | None, usual: bool | None) -> None:
    """Let the policy's `generation_config` say how it is decoded where nobody asks otherwise."""
    own = {name: value for name, value in {"diversity": diversity, "usual": usual}.items() if value is not None}
    if own:
        model.generation_config._from_model_config = False  # with it, the library reads no settings but its own
        model.generation_config.update(allow_custom_entries=True, **own)
    if temperature is not None:
        sampled_by_default(model, temperature)


def write_difference(after: dict[str, Tensor], before: dict[str, Tensor], base: str, folder: Path, rank: int) -> None:
    """Write `after` − `before` to `folder`, for `neuroprompt.models.whole_model` to put together.

    Training by adapters (LoRA, Hu et al. 2022) changes a weight by a matrix of low rank, which two thin factors hold.

    Args:
        after, before: Weights by name, with the same names and shapes.
        base: Name of the folder beside `folder` that holds `before`, the whole model.
        rank: Of the factors that each matrix's difference is written as.

    Raises:
        ValueError: A difference is not of that rank.
    """
    factors: dict[str, Tensor] = {}
    for name, weight in before.items():
        difference = after[name].float() - weight.float()
        if not difference.any():
            continue
        left, values, right = torch.linalg.svd(difference.reshape(len(difference), -1), full_matrices=False)
        left, right = left[:, :rank] * values[:rank].sqrt(), values[:rank, None].sqrt() * right[:rank]
        # What rounding to half precision does to the weights themselves is no part of it.
        if (left @ right - difference).norm() > 2**-11 * weight.float().norm():
            raise ValueError(f"the difference of {name} is not of rank {rank}: it cannot be kept as factors")
        factors |= {f"{name}.left": left.half().contiguous(), f"{name}.right": right.half().contiguous()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors, folder / DIFFERENCE, {"base": base})


@app.command()
def ppo_card(
    run: Annotated[Path, typer.Option(help="Output folder of training/ppo.py.")],
    figures: Annotated[
        Path, typer.Option(help="A folder of `neuroprompt evaluate`, methods policy:embedded and enhanced.")
    ],
    output: Output,
) -> None:
    """Write the card of the policy after PPO from the run's log and the evaluation."""
    own = GenerationConfig.from_pretrained(output)
    decoded = f" It is sampled at temperature {own.temperature:g} where nobody asks otherwise." * bool(own.do_sample)
    history = json.loads((run / "log_history.json").read_text())
    results = json.loads((figures / "results.json").read_text())
    wanted = ("Rewards", "Against plain", "Against policy:embedded", "Prompts")
    shown = [table for table in tables(results) if table.title in wanted]
    updates = [entry for entry in history if "kl" in entry]
    evaluations = {entry["step"]: entry for entry in history if "eval_reward" in entry}
    examples = [record for record in read_records(figures) if record["method"] == "enhanced"][:16]
    lines = [
        "# The embedded policy, tuned to the embedded generator",
        "",
        "The [embedded policy](../policy/README.md), trained on by PPO against the pictures of the embedded Stable "
        "Diffusion, scored by the embedded PickScore: `configs/ppo/embedded.yaml`. The reward is the gain over the "
        "plain prompt's own picture with the same seed. It is `embedded-ppo`, and what rewrites by default where that "
        f"generator draws; it is kept as its difference to `embedded`.{decoded} Licence: Apache-2.0.",
        "",
        "It knows what flatters *these* pictures, 64 × 64 icons, by the taste of *this* reward, which was made from "
        "rules. For another generator, train it for that one: that is what the method is about.",
        "",
        "## Training",
        "",
        f"{int(updates[-1]['episodes']):,} rewrites, of which the reward saw one picture each. On "
        "held-out prompts, sampled at temperature 1 (reward of the policy, and its gain over the policy before with "
        "the same noise and its 95 % interval):",
        "",
        "| step | reward | gain over SFT | distinct tails |",
        "|---|---|---|---|",
        *map(_evaluation_row, evaluations.values()),
        "",
        "| iterations | reward | KL to SFT | entropy | explained variance | clip fraction | s an iteration |",
        "|---|---|---|---|---|---|---|",
        *[
            _curve_row(updates, start, len(updates) // 6 or 1)
            for start in range(0, len(updates), len(updates) // 6 or 1)
        ],
        "",
        f"## Results on {results['prompts']} held-out prompts",
        "",
        f"`{results['config'].get('command', '')}`",
        "",
        *[f"### {table.title}\n\n{table.markdown()}\n" for table in shown],
        "## Samples, not chosen: the first of the same prompts",
        "",
        *[f"- {r['original']}**{r['text'][len(r['original']) :]}**" for r in examples],
        "",
    ]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")
    Console().print(f"{output / 'README.md'} written")


def _evaluation_row(entry: dict) -> str:
    gain, low, high = (entry.get(f"eval_gain_over_sft{end}") for end in ("", "_low", "_high"))
    interval = "" if low is None else f" [{low:+.2f}, {high:+.2f}]"  # a few prompts have none
    cells = [f"{entry['step']}", f"{entry['eval_reward']:.2f}", f"{gain:+.2f}{interval}"]
    return f"| {' | '.join(cells)} | {entry['eval_distinct_tails']:.2f} |"


def _curve_row(updates: list[dict], start: int, count: int) -> str:
    """Means over some iterations."""
    part = updates[start : start + count]
    mean = {key: sum(entry.get(key, 0.0) for entry in part) / len(part) for key in part[0] if key != "epoch"}
    seconds = sum(mean[f"seconds/{phase}"] for phase in ("generate", "reward", "logprobs", "update"))
    cells = [mean[key] for key in ("reward", "kl", "entropy", "explained_variance", "clip_fraction")]
    return f"| {start + 1}–{start + len(part)} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {seconds:.0f} |"


@app.command()
def card(
    stage: Annotated[
        list[str],
        typer.Option(help="CONFIG=RUN: the YAML file of a training, and its output folder. Repeatable, in order."),
    ],
    output: Output,
    figures: Annotated[Path, typer.Option(help="JSON of training/embedded/evaluate_policy.py.")],
    prompts: Annotated[str, typer.Option(help="A file or a set of plain prompts: its first ones are the samples.")],
) -> None:
    """Write the model card from the logs of the trainings, the counts of their data and the evaluation."""
    stages = [_Stage.read(given) for given in stage]
    made = stages[-1].data
    found = json.loads(figures.read_text())
    enhancer = PromptEnhancer.from_pretrained(output, device="cpu")
    texts = load_prompts(prompts)[:16]
    sizes = enhancer.model.config
    parameters = sum(p.numel() for p in enhancer.model.parameters())
    rewrites, perplexity = found["rewrites"], found["perplexity"]
    categories = {"other" if c == "null" else c: v for c, v in rewrites["categories"].items()}
    behind = perplexity["policy"]["new"]["loss"] > perplexity["4-gram, Kneser-Ney"]["new"]["loss"]
    told = [token for token in CONTROLS.values() if token in enhancer.tokenizer.get_vocab()]
    lines = [
        "# The embedded policy",
        "",
        f"`GPT2LMHeadModel` with {parameters / 1e6:.2f} M parameters ({sizes.n_layer} layers of width {sizes.n_embd}, "
        f"{sizes.n_positions} positions) and a byte-level BPE of {sizes.vocab_size:,} entries that lower-cases, in "
        "half precision. It continues a plain image prompt with the modifiers that expert users add.",
        "",
        *[f"Before the prompt stands a token for the family of its medium, or for any: `{' '.join(told)}`.", ""]
        * bool(told),
        "Made from nothing by `training/embedded/README.md`'s commands. Licence: Apache-2.0.",
        "",
        "## Data",
        "",
        "Prompts of the Stable Diffusion beta Discord, August 2022 (DiffusionDB has the same messages as CC0-1.0). "
        "What was left of them for the last training:",
        "",
        "| step | prompts left |",
        "|---|---|",
        *[f"| {name} | {count:,} |" for name, count in made["counts"].items()],
        "",
        *_mended(made),
        "98 % of the pairs are trained on; 1 % each are for validation and test, split by their first four words.",
        "",
        "## Training",
        "",
        "Loss is in nats per token. A row's training loss is the mean since the row before; held-out loss is that of "
        "the validation split of the same training's data. Training pairs are mostly told the medium that they name, "
        "held-out pairs never: that is a part of what lies between the two losses. The rest is what the policy knows "
        "of its training pairs by heart.",
        "",
        *[line for number, one in enumerate(stages, 1) for line in one.curve(number)],
        "## Held-out perplexity (test split)",
        "",
        "| model | loss per token | perplexity per token | per byte | new text: loss | per token | per byte |",
        "|---|---|---|---|---|---|---|",
        *[f"| {name} | {' | '.join(_cells(p[kind]) for kind in ('all', 'new'))} |" for name, p in perplexity.items()],
        "",
        f"All: {perplexity['policy']['all']['tokens']:,} tokens. New text: the completions of which no eight tokens in "
        f"a row stand in the train split, {perplexity['policy']['new']['tokens']:,} tokens. Users try many subjects "
        "with one long tail: to remember it helps with the former, and not with the latter.",
        "",
        "`training/embedded/evaluate_policy.py` prints this and the next table.",
        "",
        f"## Rewrites of {rewrites['prompts']:,} PartiPrompts (default decoding)",
        "",
        "| | |",
        "|---|---|",
        *[
            f"| {n.replace('_', ' ')} | {v:.1f} |" if n == "mean_modifiers" else f"| {n.replace('_', ' ')} | {v:.2%} |"
            for n, v in rewrites.items()
            if not isinstance(v, dict) and n != "prompts"
        ],
        *[f"| {fault.replace('_', ' ')} | {share:.2%} |" for fault, share in rewrites["faults"].items()],
        "",
        f"Categories: {', '.join(f'{c} {v:.0%}' for c, v in categories.items())}. Most frequent: "
        f"{', '.join(f'{m} ({v:.0%})' for m, v in rewrites['most_frequent'].items())} of the prompts.",
        "",
        f"## Samples, not chosen: the first {len(texts)} of the same file",
        "",
        *[f"- {r.original}**{r.text[len(r.original) :]}**" for r in enhancer(texts)],
        "",
        "## Limits",
        "",
        *["- Held-out text that is new is predicted better by a 4-gram model of the whole train split."] * behind,
        "- It knows the taste of August 2022: high detail, sharp focus, cinematic light, concept art. `--forbid` keeps "
        "a phrase out.",
        f"- {parameters / 1e6:.0f} million parameters: rare words are spelt by pieces and can be misspelt, and what it "
        "adds fits the subject only loosely.",
        "- English, lower case. The user's own text is kept as typed in any language.",
        "- An explicit-word filter cleaned its data; it is no safety filter for what users type.",
        "",
    ]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")
    Console().print(f"{output / 'README.md'} written")


@dataclass(frozen=True)
class _Stage:
    """A training that the policy went through.

    Args:
        config: Where its YAML file is.
        yaml: What stands there; the first line is a comment that says what the training is for.
        history: Its run's log.
        data: `config.json` of the data that the file names.
    """

    config: str
    yaml: str
    history: list[dict]
    data: dict

    @classmethod
    def read(cls, given: str) -> "_Stage":
        """What is behind `CONFIG=RUN`.

        Raises:
            ValueError: It is not of that form, or a file is not there.
        """
        config, _, run = given.partition("=")
        if not run:
            raise ValueError(f"--stage {given}: give CONFIG=RUN, a YAML file and the output folder of its training")
        try:
            text = Path(config).read_text("utf-8")
            made = Path(yaml.safe_load(text)["data_dir"], "config.json").read_text("utf-8")
            history = Path(run, "log_history.json").read_text("utf-8")
        except FileNotFoundError as error:
            raise ValueError(f"--stage {given}: there is no {error.filename}") from error
        return cls(config, text, json.loads(history), json.loads(made))

    def curve(self, number: int) -> list[str]:
        """How it went, as lines of Markdown."""
        whole = yaml.safe_load(self.yaml).get("completion_only_loss") is False
        pairs = [count for name, count in self.data["counts"].items() if name.startswith("pairs")][-1]
        last, passes = (max(entry[key] for entry in self.history) for key in ("step", "epoch"))
        return [
            f"### {number}. `{self.config}`",
            "",
            self.yaml.partition("\n")[0].removeprefix("# "),
            "",
            f"{last:,} steps, {passes:.1f} passes over the training split of its {pairs:,} pairs, with the loss on "
            f"{'prompts and completions' if whole else 'completions'}.",
            "",
            "| step | training loss | held-out loss |",
            "|---|---|---|",
            *self._rows(last),
            "",
        ]

    def _rows(self, last: int) -> Iterator[str]:
        before = 0
        for end in (round(last * row / CURVE_ROWS) for row in range(1, CURVE_ROWS + 1)):
            part = [entry for entry in self.history if before < entry["step"] <= end]
            losses, held_out = ([entry[key] for entry in part if key in entry] for key in ("loss", "eval_loss"))
            if part:
                training = f"{sum(losses) / len(losses):.3f}" if losses else ""
                yield f"| {end:,} | {training} | {f'{held_out[-1]:.3f}' if held_out else ''} |"
            before = end


def _mended(made: dict) -> list[str]:
    """What became of the targets' modifiers, where the data were mended."""
    if not any(made.get("modifiers", {}).values()):
        return []
    whose = {
        "historical": "An artist's name stays in a target where `neuroprompt/modifiers/artists.tsv` says why it may: "
        "dead before 1954, or no person (a studio, a school, a movement); nobody else's, and no celebrity's.",
        "none": "No artist's name stays in a target.",
        "all": "Every artist's name stays in the targets, those of the living too.",
    }
    return [
        whose[made["artists"]],
        "",
        "| a target's modifier | when it | modifiers |",
        "|---|---|---|",
        *[f"| {reason} | {REASONS.get(reason, '')} | {count:,} |" for reason, count in made["modifiers"].items()],
        "",
    ]


def _cells(p: dict) -> str:
    return f"{p['loss']:.3f} | {p['per_token']:,.1f} | {p['per_byte']:.3f}"


if __name__ == "__main__":
    programs.run(app)
