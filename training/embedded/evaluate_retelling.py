"""What a policy that retells keeps and adds, on plain prompts that it was not trained on; and the card of ours.

python -m training.embedded.evaluate_retelling --prompts partiprompts --output results/retelling.json
python -m training.embedded.evaluate_retelling -m retell=retell -m untrained=HuggingFaceTB/SmolLM2-135M-Instruct \\
    -m embedded=embedded --prompts partiprompts --every 8 --data data/retelling --output results/retelling.json
python -m training.embedded.evaluate_retelling --output results/retelling.json --card     # writes the card from it
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from neuroprompt.cli.options import Device, load_policy
from neuroprompt.enhancer import EnhancedPrompt, PromptEnhancer
from neuroprompt.models import RETELLER, locate
from neuroprompt.programs import quiet_libraries, run
from neuroprompt.terminal import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ROWS = {
    "prompts": "prompts",
    "kept": "content words kept",
    "all_kept": "prompts that keep all",
    "window": "within 77 CLIP tokens, where the prompt is",
    "unaided": "ended by itself, with every word",
    "own_words": "left as they are",
    "words": "words of a result",
    "repeated": "results that repeat another's text",
    "loss": "held-out nats a token",
    "perplexity": "held-out perplexity a token",
}
SAMPLES = 20


@app.command()
def main(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="NAME=POLICY: a row of the table. Repeatable."),
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="Plain prompts, a file or a set such as partiprompts.")] = None,
    every: Annotated[int, typer.Option(help="Only every so-many-th of them.", min=1)] = 1,
    data: Annotated[Path | None, typer.Option(help="Prepared retelling pairs: held-out perplexity.")] = None,
    split: Annotated[str, typer.Option(help="Its split to evaluate on.")] = "validation",
    pairs: Annotated[int, typer.Option(help="How many of its pairs.")] = 2000,
    batch_size: Annotated[int, typer.Option(help="Sequences that are decoded at once.")] = 160,
    output: Annotated[
        Path | None, typer.Option(help="A JSON file of the figures; what is there already stays.")
    ] = None,
    card: Annotated[bool, typer.Option(help="Write the adapter's card from --output.")] = False,
    device: Device = None,
) -> None:
    """Rewrite plain prompts by several policies, and say what became of the users' words."""
    figures = json.loads(output.read_text("utf-8")) if output and output.exists() else {}
    named = dict(model.split("=", 1) for model in models or [f"{RETELLER}={RETELLER}", "embedded=embedded"])
    quiet_libraries()
    for name, source in named.items() if prompts or data else ():
        enhancer = load_policy(source, device)
        found = figures.setdefault(name, {})
        if prompts:
            from neuroprompt.evaluation.prompt_sets import load_prompts

            texts = load_prompts(prompts)[::every]
            results = enhancer.rewrite(texts, batch_size=batch_size, output_scores=False)
            found |= statistics([variants[0] for variants in results])
        if data and enhancer.format.replaces:
            found |= held_out(enhancer, data, split, pairs)
        if output:
            from neuroprompt.files import write_file

            write_file(output, (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())
    console.print(_table(figures))
    if card:
        write_card(figures)


def statistics(results: Sequence[EnhancedPrompt]) -> dict[str, Any]:
    """What became of the prompts, as shares of them but for `words` and `samples`."""
    from neuroprompt.decoding import Constraints, check
    from neuroprompt.locked import lock
    from neuroprompt.prompts import CLIP_WINDOW, count_clip_tokens

    kept, fitting = [], [r.clip_tokens for r in results if count_clip_tokens(r.original) <= CLIP_WINDOW]
    for result in results:
        clauses = lock(result.original).clauses
        met = check(result.text, Constraints(require=clauses)).satisfied if clauses else 0
        kept.append((met, len(clauses)))
    count, texts = len(results), [result.text for result in results]
    chosen = random.Random(0).sample(range(count), min(SAMPLES, count))
    return {
        "prompts": count,
        "kept": sum(met for met, _ in kept) / max(1, sum(of for _, of in kept)),
        "all_kept": sum(met == of for met, of in kept) / count,
        "window": sum(tokens <= CLIP_WINDOW for tokens in fitting) / max(1, len(fitting)),
        "unaided": sum(result.unaided for result in results) / count,
        "own_words": sum(result.text == result.original for result in results) / count,
        "words": sum(len(text.split()) for text in texts) / count,
        "repeated": 1 - len(set(texts)) / count,
        "samples": [[results[i].original, results[i].text] for i in sorted(chosen)],
    }


def held_out(enhancer: PromptEnhancer, data: Path, split: str, pairs: int) -> dict[str, float]:
    """How well the policy predicts expert texts after the plain prompts that were made of them."""
    from neuroprompt.data import PromptData
    from training.embedded.perplexity import Perplexity, encode_pairs, policy_nats

    rows = PromptData.load(data).pairs[split]
    encoded = encode_pairs(rows.select(range(min(pairs, len(rows)))), enhancer.tokenizer, enhancer.format)
    found = Perplexity(policy_nats(enhancer.model, encoded), sum(len(c) for _, c in encoded), 1)
    return {"loss": found.loss, "perplexity": found.per_token, "pairs": len(encoded)}


def _table(figures: dict[str, dict]) -> Table:
    table = Table("", *figures)
    for key, label in ROWS.items():
        table.add_row(label, *(_shown(key, found.get(key)) for found in figures.values()))
    return table


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return ""
    if key in ("prompts", "pairs"):
        return f"{value:,}"
    return f"{value:.2f}" if key in ("words", "loss", "perplexity") else f"{value:.1%}"


# --- the card ----------------------------------------------------------------------------------------------------


def write_card(figures: dict[str, dict]) -> None:
    """The README.md of the adapter, from its template and the figures."""
    from neuroprompt.files import write_file

    rows = ["| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for key, label in ROWS.items():
        rows.append(f"| {label} | " + " | ".join(_shown(key, found.get(key)) for found in figures.values()) + " |")
    samples = [f"- {plain}\n  → {text}" for plain, text in figures[RETELLER]["samples"]]
    template = Path(__file__).with_name("cards").joinpath("retelling.md").read_text("utf-8")
    text = template.replace("{figures}", "\n".join(rows)).replace("{samples}", "\n".join(samples))
    write_file(Path(locate(RETELLER, "policy")) / "README.md", text.encode())


if __name__ == "__main__":
    run(app)
