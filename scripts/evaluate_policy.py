"""What a policy knows and what it writes: held-out perplexity beside two baselines, and the soundness of its rewrites.

python scripts/evaluate_policy.py --prompts partiprompts.txt
python scripts/evaluate_policy.py --data data/discord --prompts partiprompts.txt --output results/policy.json
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from neuroprompt.data import PromptData
from neuroprompt.enhancer import PromptEnhancer
from neuroprompt.evaluation.perplexity import compare_perplexities
from neuroprompt.evaluation.rewrites import rewrite_statistics
from neuroprompt.prompt_files import read_lines


def main(
    model: Annotated[str, typer.Option(help="embedded, a folder, or a hub id.")] = "embedded",
    data: Annotated[Path | None, typer.Option(help="Folder made by scripts/prepare_data.py: perplexities.")] = None,
    split: Annotated[str, typer.Option(help="Its split to evaluate on.")] = "test",
    prompts: Annotated[str | None, typer.Option(help="A .txt, .csv or .jsonl file of plain prompts: rewrites.")] = None,
    seed: int = 0,
    output: Annotated[
        Path | None, typer.Option(help="Write the figures to this JSON file, or renew them there.")
    ] = None,
) -> None:
    """Evaluate a policy on held-out pairs and on plain prompts."""
    if not data and not prompts:
        raise typer.BadParameter("give --data, --prompts, or both")
    console = Console()
    enhancer = PromptEnhancer.from_pretrained(model)
    figures: dict = {"model": model}
    if output and output.exists() and (earlier := json.loads(output.read_text()))["model"] == model:
        figures = earlier  # what is not measured now is kept
    if data:
        found = compare_perplexities(enhancer.model, enhancer.tokenizer, PromptData.load(data).pairs, split)
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
        figures["perplexity"] = {
            name: {
                kind: {"loss": p.loss, "per_token": p.per_token, "per_byte": p.per_byte, "tokens": p.tokens}
                for kind, p in zip(["all", "new"], of, strict=True)
                if p
            }
            for name, of in found.items()
        }
    if prompts:
        texts = [line.prompt for line in read_lines(prompts) if line.prompt]
        statistics = rewrite_statistics(enhancer(texts, seed=seed))
        table = Table("rewrites", "", title=f"{Path(prompts).name}: {statistics.prompts:,} prompts")
        for name, value in statistics.to_dict().items():
            if isinstance(value, dict):
                table.add_row(name.replace("_", " "), ", ".join(f"{k} {v:.1%}" for k, v in value.items()))
            elif name == "mean_modifiers":
                table.add_row("mean modifiers", f"{value:.1f}")
            elif name != "prompts":
                table.add_row(name.replace("_", " "), f"{value:.2%}")
        console.print(table)
        figures["rewrites"] = statistics.to_dict()
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
