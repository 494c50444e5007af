"""What `make demo` shows: plain prompts, what the embedded policy makes of them, and both drawn and scored.

python scripts/demo.py "a castle by the sea" -o demo.png
"""

from typing import Annotated

import typer
from neuroprompt.programs import run
from rich.text import Text

from neuroprompt.cli.options import check_output, quiet_libraries
from neuroprompt.image_files import SUFFIXES
from neuroprompt.terminal import console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    prompts: Annotated[list[str] | None, typer.Argument()] = None,
    output: Annotated[str, typer.Option("--output", "-o")] = "demo.png",
) -> None:
    """Rewrite plain prompts, and draw and score both."""
    check_output(output, SUFFIXES)
    from neuroprompt.evaluation.comparison import compare_pictures
    from neuroprompt.evaluation.methods import parse_methods
    from neuroprompt.images import ImageGenerator
    from neuroprompt.pages.grid import save_grid
    from neuroprompt.rewards import load_rewards
    from neuroprompt.scoring import PromptReward

    quiet_libraries()
    reward = PromptReward(
        ImageGenerator.from_pretrained(), load_rewards("pickscore,aesthetic,clip", "embedded"), images_per_prompt=2
    )
    methods = parse_methods("plain,enhanced")
    grid = compare_pictures(prompts or ["boy on a horse", "a castle"], methods, reward)
    for plain, enhanced in grid.rows:
        for name, text in (("plain   ", plain.text), ("enhanced", enhanced.text)):
            console.line(Text.assemble((name, "bold"), " ", text))
    save_grid(grid, output)
    console.line(Text.assemble(("drawn   ", "bold"), " ", output))


if __name__ == "__main__":
    run(app)
