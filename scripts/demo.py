"""What `make demo` shows: plain prompts, what the embedded policy makes of them, and both drawn and scored.

python scripts/demo.py "a castle by the sea" -o demo.png
"""

from typing import Annotated

import typer
from rich.console import Console
from transformers.utils import logging

from neuroprompt.evaluation.comparison import compare_pictures
from neuroprompt.evaluation.grid import save_grid
from neuroprompt.evaluation.methods import parse_methods
from neuroprompt.images import ImageGenerator
from neuroprompt.rewards import load_rewards
from neuroprompt.scoring import PromptReward


def main(
    prompts: Annotated[list[str] | None, typer.Argument()] = None,
    output: Annotated[str, typer.Option("--output", "-o")] = "demo.png",
) -> None:
    logging.disable_progress_bar()
    console = Console(highlight=False)
    reward = PromptReward(
        ImageGenerator.from_pretrained(), load_rewards("pickscore,aesthetic,clip", "embedded"), images_per_prompt=2
    )
    methods = parse_methods("plain,enhanced")
    grid = compare_pictures(prompts or ["boy on a horse", "a castle"], methods, reward)
    for row in grid.rows:
        console.print(f"[bold]plain   [/] {row[0].prompt}\n[bold]enhanced[/] {row[1].prompt}", soft_wrap=True)
    save_grid(grid, output)
    console.print(f"[bold]drawn   [/] {output}")


if __name__ == "__main__":
    typer.run(main)
