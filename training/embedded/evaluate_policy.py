"""What a policy knows and what it writes: held-out perplexity beside two baselines, and the soundness of its rewrites.

python -m training.embedded.evaluate_policy --prompts partiprompts
python -m training.embedded.evaluate_policy --data data/embedded --prompts partiprompts --output results/policy.json
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from neuroprompt.cli.options import Device, Model, load_policy
from neuroprompt.programs import quiet_libraries, run
from neuroprompt.terminal import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    model: Model = "embedded",
    data: Annotated[Path | None, typer.Option(help="Folder made by scripts/prepare_data.py: perplexities.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MODEL: another policy of its tokenizer, for perplexities. Repeatable."),
    ] = None,
    split: Annotated[str, typer.Option(help="Its split to evaluate on.")] = "test",
    prompts: Annotated[
        str | None, typer.Option(help="Plain prompts, a file or a set such as partiprompts: rewrites.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other rewrites.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Write the figures to this JSON file, or renew them there.")
    ] = None,
    device: Device = None,
) -> None:
    """Evaluate a policy on held-out pairs and on plain prompts."""
    if not data and not prompts:
        raise ValueError("give --data, --prompts, or both")
    named = dict(other.split("=", 1) for other in beside or [] if "=" in other)
    if len(named) < len(beside or []):
        raise ValueError("--beside wants NAME=MODEL, with a name for each")
    figures = _earlier(output, model)  # what is not measured now is kept
    from neuroprompt.data import PromptData
    from neuroprompt.evaluation.prompt_sets import load_prompts
    from neuroprompt.files import write_file
    from training.embedded.perplexity import compare_perplexities
    from training.embedded.rewrites import rewrite_statistics

    texts = load_prompts(prompts) if prompts else []
    pairs = PromptData.load(data).pairs if data else {}
    if data and split not in pairs:
        raise ValueError(f"{data} has no split {split!r}; it has {', '.join(pairs)}")
    quiet_libraries()
    enhancer = load_policy(model, device)
    others = {name: load_policy(of, device) for name, of in named.items()}
    for name, other in others.items():
        if other.tokenizer.get_vocab() != enhancer.tokenizer.get_vocab():
            raise ValueError(f"--beside {name}={named[name]}: it has another tokenizer than {model}")
    models = {name: other.model for name, other in others.items()}
    if data:
        figures["perplexity"] = _show_perplexities(
            compare_perplexities(enhancer.model, enhancer.tokenizer, pairs, split, models), split
        )
    if prompts:
        figures["rewrites"] = _show_rewrites(rewrite_statistics(enhancer(texts, seed=seed)), Path(prompts).name)
    if output:
        write_file(output, (json.dumps(figures, indent=1) + "\n").encode())


def _earlier(output: Path | None, model: str) -> dict:
    """The figures of this policy that the file has already."""
    if output is None or not output.exists():
        return {"model": model}
    try:
        earlier = json.loads(output.read_text("utf-8"))
        return earlier if earlier["model"] == model else {"model": model}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output} is there, and holds no figures of a policy: give another file") from error


def _show_perplexities(found: dict, split: str) -> dict:
    table = Table("model", title=f"held-out completions ({split})")
    for column in ["loss", "per token", "per byte", "loss, new text", "per token", "per byte"]:
        table.add_column(column, justify="right")
    for name, of in found.items():
        cells = [(f"{p.loss:.3f}", f"{p.per_token:,.1f}", f"{p.per_byte:.3f}") if p else ("", "", "") for p in of]
        table.add_row(name, *cells[0], *cells[1])
    console.print(table)
    for p, what in zip(
        next(iter(found.values())), ["all", "new text (no 8 tokens in a row of the train split)"], strict=True
    ):
        if p:
            console.print(f"{what}: {p.tokens:,} tokens, {p.bytes:,} bytes")
    return {
        name: {
            kind: {key: getattr(p, key) for key in ("loss", "per_token", "per_byte", "tokens", "bytes")}
            for kind, p in zip(["all", "new"], of, strict=True)
            if p
        }
        for name, of in found.items()
    }


def _show_rewrites(statistics, source: str) -> dict:
    table = Table("rewrites", "", title=Text(f"{source}: {statistics.prompts:,} prompts"))
    for name, value in statistics.to_dict().items():
        if isinstance(value, dict):
            table.add_row(name.replace("_", " "), Text(", ".join(f"{k} {v:.1%}" for k, v in value.items())))
        elif name == "mean_modifiers":
            table.add_row("mean modifiers", f"{value:.1f}")
        elif name != "prompts":
            table.add_row(name.replace("_", " "), f"{value:.2%}")
    console.print(table)
    return statistics.to_dict()


if __name__ == "__main__":
    run(app)
